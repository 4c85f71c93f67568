//! Guests that are reached directly, and no longer through the relay: theirs may be keys that were revoked.
//!
//! A relay cuts off a revoked key at once, but has no say on a direct path. So a guest that does not come back through the relay
//! in time loses its direct connections as well. While we are at no relay ourselves, that says nothing of the guest.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::share::Path;

/// Time to come back through the relay, which takes a moment when the guest's network or the relay was away.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Apart(HashMap<PeerId, Instant>);

impl Apart {
    /// Looks at the connections of guests, and whether we are at a relay.
    pub(super) fn look(
        &mut self,
        connections: impl Iterator<Item = (PeerId, Path)>,
        is_online: bool,
        now: Instant,
    ) {
        let (mut direct, mut relayed) = (HashSet::new(), HashSet::new());
        for (peer, path) in connections {
            match path {
                Path::Direct => direct.insert(peer),
                Path::Relayed => relayed.insert(peer),
            };
        }
        direct.retain(|peer| is_online && !relayed.contains(peer));
        self.0.retain(|peer, _| direct.contains(peer));
        for peer in direct {
            self.0.entry(peer).or_insert(now);
        }
    }

    /// Whether a peer has not come back in time.
    pub(super) fn is_over(&self, peer: &PeerId, now: Instant) -> bool {
        self.0.get(peer).is_some_and(|since| *since + PATIENCE <= now)
    }

    /// When that may become so.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.0.values().min().map(|since| *since + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_cut_off_from_the_relay_has_a_minute_to_come_back() {
        let (mut apart, peer, start) = (Apart::default(), PeerId::random(), Instant::now());
        let [direct, relayed] = [Path::Direct, Path::Relayed].map(|path| (peer, path));
        apart.look([direct, relayed].into_iter(), true, start);
        assert_eq!(apart.next_timeout(), None);
        apart.look([direct].into_iter(), true, start);
        apart.look([direct].into_iter(), true, start + PATIENCE / 2);
        assert_eq!(apart.next_timeout(), Some(start + PATIENCE));
        assert!(!apart.is_over(&peer, start + PATIENCE / 2) && apart.is_over(&peer, start + PATIENCE));
        assert!(!apart.is_over(&PeerId::random(), start + PATIENCE), "nobody else");
        apart.look([direct, relayed].into_iter(), true, start + PATIENCE);
        assert!(!apart.is_over(&peer, start + 2 * PATIENCE), "it is back");
    }

    #[test]
    fn while_we_are_at_no_relay_nobody_can_come_back_through_it() {
        let (mut apart, peer, start) = (Apart::default(), PeerId::random(), Instant::now());
        let direct = || [(peer, Path::Direct)].into_iter();
        apart.look(direct(), true, start);
        apart.look(direct(), false, start + PATIENCE / 2);
        assert_eq!(apart.next_timeout(), None);
        apart.look(direct(), true, start + PATIENCE);
        assert!(!apart.is_over(&peer, start + PATIENCE), "it has the whole time again");
        apart.look(std::iter::empty(), true, start + PATIENCE);
        assert_eq!(apart.next_timeout(), None, "it is gone");
    }
}
