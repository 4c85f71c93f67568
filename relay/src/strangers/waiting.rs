//! Who is waiting at the door: pure bookkeeping.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    net::IpAddr,
};

use libp2p::swarm::ConnectionId;

use super::StrangerLimits;
use crate::ingress::{network, owner};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Waiting {
    limits: StrangerLimits,
    places: HashMap<ConnectionId, Place>,
    addresses: HashMap<IpAddr, usize>,
    networks: HashMap<Option<IpAddr>, usize>,
    entered: u64,
}

#[derive(Debug)]
struct Place {
    /// What it counts for; nothing for loopback, and where there is no address.
    address: Option<IpAddr>,
    network: Option<IpAddr>,
    /// Its number in the order of arrival.
    number: u64,
}

/// Why a connection got no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("too many connections without a certificate")]
    Total,
    #[error("too many connections without a certificate from one address")]
    Address,
    #[error("its place was needed for another")]
    Evicted,
}

impl Waiting {
    pub(super) fn new(limits: StrangerLimits) -> Self {
        Self {
            limits,
            places: HashMap::new(),
            addresses: HashMap::new(),
            networks: HashMap::new(),
            entered: 0,
        }
    }

    /// Takes a place. When there is none, it is that of the one who has waited longest among those of the network that
    /// has most of them, and this one has to leave; but a network with as many as any other takes nobody's.
    pub(super) fn enter(
        &mut self,
        connection: ConnectionId,
        from: Option<IpAddr>,
    ) -> Result<Option<ConnectionId>, Full> {
        let from = from.map(|ip| ip.to_canonical());
        let address = from.filter(|ip| !ip.is_loopback()).map(owner);
        let network = from.map(network);
        if address.is_some_and(|address| count(&self.addresses, &address) >= self.limits.per_address) {
            return Err(Full::Address);
        }
        let evicted = match self.places.len() < self.limits.total {
            true => None,
            false => Some(self.make_room(network).ok_or(Full::Total)?),
        };
        if let Some(address) = address {
            *self.addresses.entry(address).or_default() += 1;
        }
        *self.networks.entry(network).or_default() += 1;
        self.entered += 1;
        self.places.insert(connection, Place { address, network, number: self.entered });
        Ok(evicted)
    }

    pub(super) fn leave(&mut self, connection: ConnectionId) {
        let Some(place) = self.places.remove(&connection) else { return };
        if let Some(address) = place.address {
            decrement(&mut self.addresses, address);
        }
        decrement(&mut self.networks, place.network);
    }

    pub(super) fn has(&self, connection: ConnectionId) -> bool {
        self.places.contains_key(&connection)
    }

    fn make_room(&mut self, network: Option<IpAddr>) -> Option<ConnectionId> {
        let most = self.networks.values().copied().max()?;
        if count(&self.networks, &network) >= most {
            return None;
        }
        let of_the_fullest =
            self.places.iter().filter(|(_, place)| count(&self.networks, &place.network) == most);
        let (&longest, _) = of_the_fullest.min_by_key(|(_, place)| place.number)?;
        self.leave(longest);
        Some(longest)
    }
}

fn count<K: Eq + Hash>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or_default()
}

fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> Waiting {
        Waiting::new(StrangerLimits { total: 4, per_address: 2 })
    }

    fn connection(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    fn enter(waiting: &mut Waiting, number: usize, from: &str) -> Result<Option<usize>, Full> {
        let evicted = waiting.enter(connection(number), from.parse().ok())?;
        Ok(evicted.map(|evicted| (0..100).find(|number| connection(*number) == evicted).unwrap()))
    }

    #[test]
    fn one_address_has_its_share_and_gets_it_back() {
        let mut waiting = waiting();
        enter(&mut waiting, 1, "192.0.2.1").unwrap();
        enter(&mut waiting, 2, "::ffff:192.0.2.1").unwrap();
        assert_eq!(enter(&mut waiting, 3, "192.0.2.1"), Err(Full::Address));
        enter(&mut waiting, 4, "192.0.2.2").unwrap();

        waiting.leave(connection(1));
        waiting.leave(connection(1));
        enter(&mut waiting, 5, "192.0.2.1").unwrap();
        assert_eq!(enter(&mut waiting, 6, "192.0.2.1"), Err(Full::Address));
    }

    #[test]
    fn an_ipv6_host_counts_by_its_network() {
        let mut waiting = waiting();
        enter(&mut waiting, 1, "2001:db8:0:1::1").unwrap();
        enter(&mut waiting, 2, "2001:db8:0:1:ffff::2").unwrap();
        assert_eq!(enter(&mut waiting, 3, "2001:db8:0:1::3"), Err(Full::Address));
        enter(&mut waiting, 4, "2001:db8:0:2::1").unwrap();
    }

    #[test]
    fn the_total_holds_for_loopback_and_unknown_addresses_too() {
        for from in ["127.0.0.1", "::1", "nobody knows"] {
            let mut waiting = waiting();
            for number in 0..4 {
                assert_eq!(enter(&mut waiting, number, from), Ok(None));
            }
            assert_eq!(enter(&mut waiting, 4, from), Err(Full::Total), "{from}");
        }
    }

    #[test]
    fn who_owns_a_network_does_not_lock_out_the_others() {
        for [attacker, honest] in [
            [
                ["2001:db8:7:1::1", "2001:db8:7:2::1", "2001:db8:7:3::1", "2001:db8:7:4::1"],
                ["2001:db8:8::1"; 4],
            ],
            [["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"], ["198.51.100.9"; 4]],
        ] {
            let mut waiting = waiting();
            for (number, from) in attacker.into_iter().enumerate() {
                assert_eq!(enter(&mut waiting, number, from), Ok(None));
            }
            // The longest waiting goes first, up to an equal share.
            assert_eq!(enter(&mut waiting, 10, honest[0]), Ok(Some(0)));
            assert_eq!(enter(&mut waiting, 11, honest[1]), Ok(Some(1)));
            assert_eq!(enter(&mut waiting, 12, "192.0.2.1"), Ok(Some(2)));
            assert_eq!(waiting.places.len(), 4);
            // Nobody takes from those who have less than they.
            assert_eq!(enter(&mut waiting, 13, "192.0.2.2"), Ok(Some(10)));
            assert_eq!(enter(&mut waiting, 14, "192.0.2.3"), Err(Full::Total));
            assert!(waiting.has(connection(13)) && !waiting.has(connection(14)));
        }
    }

    #[test]
    fn nothing_is_kept_of_those_who_left() {
        let mut waiting = waiting();
        for number in 0..4 {
            enter(&mut waiting, number, &format!("192.0.2.{number}")).unwrap();
        }
        enter(&mut waiting, 4, "2001:db8::1").unwrap();
        for number in 0..5 {
            waiting.leave(connection(number));
        }
        assert!(waiting.places.is_empty() && waiting.addresses.is_empty() && waiting.networks.is_empty());
    }
}
