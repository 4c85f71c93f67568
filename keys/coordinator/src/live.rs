//! Which tunnels are up at this moment, as the connected relays say.
//!
//! Kept in memory only: a relay tells all its tunnels when it begins to follow the feed, so that a restart
//! loses nothing, and what a relay told is forgotten when it goes. What relays told to other coordinators of the same
//! database is beside it, a second or two old.

use std::collections::HashMap;

use mytunnel_keys::id::{PublicKey, Serial, TunnelId};
use mytunnel_keys::wire::MAX_BACKENDS;
use tokio::sync::watch;

/// Tunnels believed of one relay.
const MAX_PER_RELAY: usize = 200_000;

/// Tunnels by relay, with counts by key.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Each tunnel with the keys that serve it, of which there is one at least.
    relays: HashMap<PublicKey, HashMap<TunnelId, Vec<Holder>>>,
    by_key: HashMap<Serial, u32>,
    by_tunnel: HashMap<TunnelId, u32>,
    /// Counts what happened, for those who wait for the next change.
    changes: watch::Sender<u64>,
}

/// Who serves a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) serial: Serial,
    /// The key that minted it.
    pub(crate) parent: Option<Serial>,
}

impl Live {
    /// A key serves a tunnel on a relay, beside those that do already. Says whether that is news.
    pub(crate) fn up(&mut self, relay: PublicKey, tunnel: TunnelId, holder: Holder) -> bool {
        let tunnels = self.relays.entry(relay).or_default();
        let room = tunnels.len() < MAX_PER_RELAY || tunnels.contains_key(&tunnel);
        if !room {
            return false;
        }
        let holders = tunnels.entry(tunnel).or_default();
        if holders.len() >= MAX_BACKENDS || holders.iter().any(|other| other.serial == holder.serial) {
            return false;
        }
        holders.push(holder);
        self.count(tunnel, holder, 1);
        true
    }

    /// A key serves a tunnel on a relay no longer: it, if it did.
    pub(crate) fn down(&mut self, relay: PublicKey, tunnel: TunnelId, serial: Serial) -> Option<Holder> {
        let tunnels = self.relays.get_mut(&relay)?;
        let holders = tunnels.get_mut(&tunnel)?;
        let at = holders.iter().position(|holder| holder.serial == serial)?;
        let gone = holders.swap_remove(at);
        if holders.is_empty() {
            tunnels.remove(&tunnel);
        }
        self.count(tunnel, gone, -1);
        Some(gone)
    }

    /// The tunnels of one relay, with each key that serves them.
    pub(crate) fn of(&self, relay: &PublicKey) -> impl Iterator<Item = (TunnelId, Holder)> {
        let tunnels = self.relays.get(relay).into_iter().flatten();
        tunnels.flat_map(|(tunnel, holders)| holders.iter().map(|holder| (*tunnel, *holder)))
    }

    /// A relay can no longer be heard.
    pub(crate) fn forget(&mut self, relay: &PublicKey) {
        for (tunnel, holders) in self.relays.remove(relay).unwrap_or_default() {
            for holder in holders {
                self.count(tunnel, holder, -1);
            }
        }
    }

    /// Tunnels that the key and its children have up.
    pub(crate) fn count_of(&self, key: &Serial) -> u32 {
        self.by_key.get(key).copied().unwrap_or(0)
    }

    /// Tunnels that are up.
    pub(crate) fn len(&self) -> usize {
        self.by_tunnel.len()
    }

    /// Tells when a tunnel comes up or goes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Is it up anywhere?
    pub(crate) fn is_up(&self, tunnel: &TunnelId) -> bool {
        self.by_tunnel.contains_key(tunnel)
    }

    /// Who serves it.
    pub(crate) fn holders(&self, tunnel: &TunnelId) -> Vec<Holder> {
        self.relays.values().filter_map(|tunnels| tunnels.get(tunnel)).flatten().copied().collect()
    }

    /// Counts a holder that has just come, or gone, at one relay. A node is at two relays with one and the same tunnel, which
    /// is one tunnel of its key.
    fn count(&mut self, tunnel: TunnelId, holder: Holder, change: i32) {
        let serves = |holders: &Vec<Holder>| holders.iter().any(|other| other.serial == holder.serial);
        let relays = self.relays.values().filter(|tunnels| tunnels.get(&tunnel).is_some_and(serves)).count();
        if relays == usize::from(change > 0) {
            for key in [Some(holder.serial), holder.parent].into_iter().flatten() {
                step(&mut self.by_key, key, change);
            }
        }
        step(&mut self.by_tunnel, tunnel, change);
        self.changes.send_modify(|count| *count += 1);
    }
}

fn step<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K, change: i32) {
    let count = counts.get(&key).copied().unwrap_or(0).saturating_add_signed(change);
    if count == 0 {
        counts.remove(&key);
    } else {
        counts.insert(key, count);
    }
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::secret::Seed;

    use super::*;

    fn relay(number: u8) -> PublicKey {
        Seed::from_bytes([number; 32]).public()
    }

    fn tunnel(number: u8) -> TunnelId {
        TunnelId::from_bytes([number; 16])
    }

    fn serial(number: u8) -> Serial {
        Serial::from_bytes([number; 16])
    }

    fn child(number: u8) -> Holder {
        Holder { serial: serial(number), parent: Some(serial(100)) }
    }

    #[test]
    fn a_parent_counts_its_childrens_tunnels() {
        let mut live = Live::default();
        live.up(relay(1), tunnel(1), child(1));
        live.up(relay(1), tunnel(2), child(2));
        live.up(relay(2), tunnel(3), child(2));
        assert_eq!(live.count_of(&serial(1)), 1);
        assert_eq!(live.count_of(&serial(2)), 2);
        assert_eq!(live.count_of(&serial(100)), 3);
        live.down(relay(1), tunnel(2), serial(2));
        assert_eq!(live.count_of(&serial(100)), 2);
        assert!(!live.is_up(&tunnel(2)));
    }

    #[test]
    fn a_tunnel_is_up_while_one_of_the_keys_that_serve_it_is() {
        let mut live = Live::default();
        assert!(live.up(relay(1), tunnel(1), child(1)));
        assert!(live.up(relay(1), tunnel(1), child(2)));
        assert!(!live.up(relay(1), tunnel(1), child(2)), "it came back, which is nothing new");
        assert_eq!((live.count_of(&serial(100)), live.len()), (2, 1));
        assert_eq!(live.down(relay(1), tunnel(1), serial(1)), Some(child(1)));
        assert_eq!(live.down(relay(1), tunnel(1), serial(1)), None);
        assert!(live.is_up(&tunnel(1)));
        assert_eq!((live.count_of(&serial(1)), live.count_of(&serial(2))), (0, 1));
        live.up(relay(2), tunnel(1), child(2));
        live.down(relay(1), tunnel(1), serial(2));
        assert!(live.is_up(&tunnel(1)), "another relay has it");
        live.down(relay(2), tunnel(1), serial(2));
        assert!(!live.is_up(&tunnel(1)) && live.by_tunnel.is_empty() && live.by_key.is_empty());
    }

    #[test]
    fn a_relay_cannot_tell_of_more_keys_than_may_serve_a_tunnel() {
        let mut live = Live::default();
        let told = (0..100).filter(|number| live.up(relay(1), tunnel(1), child(*number))).count();
        assert_eq!(told, MAX_BACKENDS);
    }

    #[test]
    fn what_a_relay_told_goes_with_it_and_nothing_else() {
        let mut live = Live::default();
        live.up(relay(1), tunnel(1), child(1));
        live.up(relay(2), tunnel(1), child(1));
        live.up(relay(1), tunnel(2), child(2));
        assert_eq!(live.count_of(&serial(1)), 1, "one tunnel at two relays");
        live.forget(&relay(1));
        assert!(live.is_up(&tunnel(1)) && !live.is_up(&tunnel(2)));
        assert_eq!(live.count_of(&serial(1)), 1);
        assert_eq!(live.count_of(&serial(100)), 1);
        live.forget(&relay(2));
        assert!(live.by_tunnel.is_empty() && live.by_key.is_empty() && live.relays.is_empty());
    }
}
