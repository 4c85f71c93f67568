//! How many requests may begin in a second, of an address and at a tunnel, in memory that does not grow. Neither is bounded
//! unless an operator says so.

use std::{hash::Hash, net::IpAddr, sync::Mutex};

use mytunnel_keys::{
    id::TunnelName,
    sketch::{Limit, Sketch},
};

use super::{Limits, limits::owner, locked};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Rates {
    of_address: Rate,
    at_tunnel: Rate,
}

impl Rates {
    /// Nobody has come yet.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            of_address: Rate::new(limits.requests_per_second_per_address),
            at_tunnel: Rate::new(limits.requests_per_second_per_tunnel),
        }
    }

    /// Counts a request of `address` in the second `now`, unless it is one too many.
    pub(super) fn admit_from(&self, address: IpAddr, now: u64) -> bool {
        self.of_address.admit(&owner(address), now)
    }

    /// The same at a tunnel, whichever of its nodes gets it.
    pub(super) fn admit_at(&self, tunnel: &TunnelName, now: u64) -> bool {
        self.at_tunnel.admit(tunnel, now)
    }
}

/// One bound, if there is one.
#[derive(Debug)]
struct Rate(Option<Mutex<Sketch>>);

impl Rate {
    fn new(tries: u32) -> Self {
        Self((tries > 0).then(|| Mutex::new(Sketch::new(Limit { tries, window: 1 }))))
    }

    fn admit(&self, key: &impl Hash, now: u64) -> bool {
        self.0.as_ref().is_none_or(|sketch| locked(sketch).admit(key, now).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(of_address: u32, at_tunnel: u32) -> Rates {
        Rates::new(&Limits {
            requests_per_second_per_address: of_address,
            requests_per_second_per_tunnel: at_tunnel,
            ..Limits::default()
        })
    }

    #[test]
    fn an_address_has_so_many_in_a_second_and_as_many_in_the_next() {
        let rates = rates(2, 0);
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let let_in = |from, now| (0..5).filter(|_| rates.admit_from(from, now)).count();
        assert_eq!((let_in(one, 1000), let_in(other, 1000), let_in(one, 1001)), (2, 2, 2));
        let neighbours = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|from| from.parse().unwrap());
        assert_eq!(neighbours.map(|from| rates.admit_from(from, 1001)), [true, true, false]);
    }

    #[test]
    fn a_tunnel_has_its_own_and_without_a_bound_nobody_is_counted() {
        let (web, shop): (TunnelName, TunnelName) = ("web".parse().unwrap(), "shop".parse().unwrap());
        let bounded = rates(0, 1);
        assert_eq!([&web, &web, &shop].map(|name| bounded.admit_at(name, 7)), [true, false, true]);
        assert!((0..100).all(|_| bounded.admit_from([192, 0, 2, 1].into(), 7)));
        let free = rates(0, 0);
        assert!((0..100).all(|_| free.admit_at(&web, 7)));
    }
}
