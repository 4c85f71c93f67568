//! What kind of router stands before a node, as far as its relay can tell.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use mytunnel_keys::wire::direct::{Origin, Over};

use super::{
    Finder,
    candidates::{End, offer},
};

/// What a router makes of this machine's addresses (RFC 4787, section 4.1), as far as one relay can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Nat {
    /// Nothing: the relay sees this machine where it listens.
    None,
    /// Another machine's, at which its ports stay what they are: one mapping for everybody, most likely. Other nodes can meet
    /// it there.
    PortsKept(IpAddr),
    /// Another machine's, and other ports: most likely others for everybody who is sent something, which is called symmetric. Only
    /// nodes that are behind no such one can meet it.
    PortsChanged(SocketAddr),
    /// Nobody knows, since UDP does not get through to the relay. TCP does, from its own ports.
    NoUdp,
    /// The relay does not say where it sees this machine.
    Unknown,
}

impl Nat {
    /// By where this node listens, and where the relay sees it. Ports that the router was asked for have no part in that.
    fn of(listens: impl Iterator<Item = (Over, SocketAddr)> + Clone, seen: Vec<(Over, SocketAddr)>) -> Self {
        if seen.iter().any(|seen| listens.clone().any(|inside| inside == *seen)) {
            return Self::None;
        }
        let all = offer(listens, None, seen);
        let outside = all.iter().find(|candidate| candidate.origin == Origin::Seen);
        match (End::of(&all), outside.map(|seen| seen.address)) {
            (End::Easy, Some(seen)) => Self::PortsKept(seen.ip()),
            (End::Hard, Some(seen)) => Self::PortsChanged(seen),
            (End::NoUdp, _) => Self::NoUdp,
            (End::Unseen | End::Hard | End::Easy, _) => Self::Unknown,
        }
    }
}

impl Finder {
    /// Begins to look what kind of router there is, which is known otherwise only once a direct path is wanted.
    pub(crate) fn look(&mut self, now: Instant) {
        if self.is_wanted {
            self.gather(now);
        }
    }

    /// What kind of router there is, once that is known.
    pub(crate) fn nat(&self, now: Instant) -> Option<Nat> {
        let is_known = self.arriving.is_some() && !self.is_owed && !self.mirror.is_busy(now);
        is_known.then(|| Nat::of(self.interfaces.iter().copied(), self.mirror.seen().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(all: &[(Over, &str)]) -> Vec<(Over, SocketAddr)> {
        all.iter().map(|(over, address)| (*over, address.parse().unwrap())).collect()
    }

    #[test]
    fn a_router_is_known_by_what_it_makes_of_addresses() {
        let (quic, tcp) = (Over::Quic, Over::Tcp);
        let inside = at(&[(quic, "10.0.0.2:4000"), (tcp, "10.0.0.2:4001")]);
        let of = |seen: &[(Over, &str)]| Nat::of(inside.iter().copied(), at(seen));
        let kept = of(&[(quic, "192.0.2.9:4000"), (tcp, "192.0.2.9:4001")]);
        assert_eq!(kept, Nat::PortsKept("192.0.2.9".parse().unwrap()));
        let changed = of(&[(quic, "192.0.2.9:61000"), (tcp, "192.0.2.9:61001")]);
        assert_eq!(changed, Nat::PortsChanged("192.0.2.9:61000".parse().unwrap()));
        assert_eq!(of(&[(tcp, "192.0.2.9:4001")]), Nat::NoUdp);
        assert_eq!(of(&[]), Nat::Unknown);
        assert_eq!(of(&[(quic, "10.0.0.2:4000"), (tcp, "10.0.0.2:4001")]), Nat::None);
        assert_eq!(of(&[(tcp, "10.0.0.2:4001")]), Nat::None);
    }
}
