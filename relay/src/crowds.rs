//! How many visitors there are at this moment, for whoever watches the relay: read from the places that they hold anyway, so
//! that nobody counts twice and the way of a request pays nothing for it.

use crate::ingress::Addresses;

/// Visitors at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Visitors {
    /// Connections for web sites and the console, and those that are passed on by name.
    pub connections: usize,
    /// Requests under way on them; a WebSocket is one.
    pub requests: usize,
    /// Connections at ports of TCP tunnels.
    pub tcp: usize,
    /// Visitors of UDP tunnels.
    pub udp: usize,
}

/// Where visitors hold their places. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Crowds {
    /// Whose connections there are.
    pub(crate) web: Addresses,
    /// Whose requests proxies bring.
    pub(crate) senders: Addresses,
    pub(crate) tcp: Addresses,
    pub(crate) udp: Addresses,
}

impl Crowds {
    /// How many there are now.
    pub fn count(&self) -> Visitors {
        let ((connections, own), (brought, _)) = (self.web.count(), self.senders.count());
        let [(tcp, _), (udp, _)] = [self.tcp.count(), self.udp.count()];
        Visitors { connections, requests: own + brought, tcp, udp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_place_is_counted_for_as_long() {
        let crowds = Crowds::default();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let seats = [crowds.web.connect(one, 9).unwrap(), crowds.web.connect(other, 9).unwrap()];
        assert!(seats[0].enter(9) && seats[0].enter(9));
        let brought = crowds.senders.connect(other, 9).unwrap();
        let ports = (crowds.tcp.connect(one, 9).unwrap(), crowds.udp.connect(one, 9).unwrap());
        assert_eq!(crowds.clone().count(), Visitors { connections: 2, requests: 3, tcp: 1, udp: 1 });
        seats[0].leave();
        seats[0].leave();
        drop((seats, brought, ports));
        assert_eq!(crowds.count(), Visitors::default());
    }
}
