//! How many visitors' connections there may be, or how much of what they send may wait, and what one network may have of that.
//!
//! A network (an IPv4 /24, an IPv6 /48) takes one more place only while it has fewer than are free. Alone it has half of them
//! at most, with another one a third, and whoever comes from elsewhere still finds a place. Nobody loses one.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex},
};

use super::{limits::network, locked};

/// Those that there are. A cheap handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<Taken>>);

#[derive(Debug, Default, PartialEq)]
struct Taken {
    all: usize,
    /// Of networks that have any.
    networks: HashMap<IpAddr, usize>,
}

/// One's place among them; given back on drop.
#[derive(Debug)]
pub(crate) struct Connected {
    connections: Connections,
    network: Option<IpAddr>,
    places: usize,
}

impl Connections {
    /// A place among `most`, for a visitor from there; for nobody's network in particular without an address. Nor does this
    /// machine count as one: who is here has come in already.
    pub(crate) fn enter(&self, most: usize, from: Option<IpAddr>) -> Option<Connected> {
        self.enter_with(1, most, from)
    }

    /// So many places at once.
    pub(crate) fn enter_with(&self, places: usize, most: usize, from: Option<IpAddr>) -> Option<Connected> {
        let network = from.filter(|from| !from.to_canonical().is_loopback()).map(network);
        let mut taken = locked(&self.0);
        let free = most.saturating_sub(taken.all);
        let of_network =
            network.and_then(|network| taken.networks.get(&network)).copied().unwrap_or_default();
        if of_network.saturating_add(places) > free {
            return None;
        }
        taken.all += places;
        if let Some(network) = network {
            *taken.networks.entry(network).or_default() += places;
        }
        Some(Connected { connections: self.clone(), network, places })
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        locked(&self.0).all
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut taken = locked(&self.connections.0);
        taken.all -= self.places;
        if let Some(network) = self.network
            && let Entry::Occupied(mut count) = taken.networks.entry(network)
        {
            *count.get_mut() -= self.places;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what it gets from these addresses, in turns.
    fn fill(connections: &Connections, most: usize, from: &[&str]) -> Vec<Connected> {
        let from: Vec<IpAddr> = from.iter().map(|from| from.parse().unwrap()).collect();
        let turns = (0..most).flat_map(|_| &from);
        turns.filter_map(|from| connections.enter(most, Some(*from))).collect()
    }

    #[test]
    fn however_many_addresses_a_network_has_others_find_a_place() {
        let connections = Connections::default();
        let held = fill(&connections, 16, &["192.0.2.1", "::ffff:192.0.2.2", "192.0.2.3", "192.0.2.4"]);
        assert_eq!(held.len(), 8);
        assert_eq!(fill(&connections, 16, &["2001:db8::1", "2001:db8:0:5::1"]).len(), 4);
        drop(held);
        assert_eq!(*locked(&connections.0), Taken::default());
    }

    #[test]
    fn who_takes_many_places_at_once_leaves_as_many_free() {
        let bytes = Connections::default();
        let from = |text: &str| Some(text.parse().unwrap());
        let held: Vec<_> = (0..9).filter_map(|_| bytes.enter_with(30, 100, from("192.0.2.1"))).collect();
        assert_eq!((held.len(), bytes.taken()), (2, 60), "three would leave less than they take");
        assert!(bytes.enter_with(30, 100, from("198.51.100.1")).is_some());
        drop(held);
        assert_eq!(*locked(&bytes.0), Taken::default());
    }

    #[test]
    fn four_addresses_anywhere_leave_places_for_others() {
        let connections = Connections::default();
        let _held = fill(
            &connections,
            100,
            &["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "2001:db9::1"],
        );
        let other = fill(&connections, 100, &["233.252.0.1"]);
        assert!(other.len() >= 8, "{}", other.len());
    }

    #[test]
    fn this_machine_and_who_stands_for_many_may_have_all() {
        let connections = Connections::default();
        let of_this_machine = fill(&connections, 4, &["127.0.0.1", "::1", "::ffff:127.0.0.2"]);
        assert_eq!(of_this_machine.len(), 4);
        drop(of_this_machine);
        let all: Vec<_> = (0..9).filter_map(|_| connections.enter(4, None)).collect();
        assert_eq!(all.len(), 4);
        assert!(connections.enter(4, Some("192.0.2.1".parse().unwrap())).is_none());
        assert!(connections.enter(5, None).is_some(), "a larger bound holds for those who come later");
        assert!(connections.enter(3, None).is_none());
    }
}
