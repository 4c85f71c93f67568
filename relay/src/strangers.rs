//! Connections that have not shown a certificate yet: how many there may be, in all and from one address.
//!
//! A place is taken before the handshake, so that half-open connections count as well, and given back when the peer
//! is admitted, refused or gone. Without a place nothing is spent on a connection. Loopback addresses share no limit
//! among themselves: whoever is there is on this machine already. An IPv6 host counts by its /64.

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};
use mytunnel_carrier::address;

/// How many strangers there may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrangerLimits {
    /// In all. Default 2,048.
    pub total: usize,
    /// From one IPv4 address or one IPv6 /64. Default 64.
    pub per_address: usize,
}

impl Default for StrangerLimits {
    fn default() -> Self {
        Self { total: 2048, per_address: 64 }
    }
}

/// Who is waiting at the door: pure bookkeeping.
#[derive(Debug)]
struct Waiting {
    limits: StrangerLimits,
    places: HashMap<ConnectionId, Option<IpAddr>>,
    per_address: HashMap<IpAddr, usize>,
}

/// Why a connection got no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("too many connections without a certificate")]
    Total,
    #[error("too many connections without a certificate from one address")]
    Address,
}

impl Waiting {
    fn new(limits: StrangerLimits) -> Self {
        Self { limits, places: HashMap::new(), per_address: HashMap::new() }
    }

    fn enter(&mut self, connection: ConnectionId, from: Option<IpAddr>) -> Result<(), Full> {
        if self.places.len() >= self.limits.total {
            return Err(Full::Total);
        }
        let counted = from.filter(|ip| !ip.is_loopback()).map(block);
        if let Some(block) = counted {
            let count = self.per_address.entry(block).or_default();
            if *count >= self.limits.per_address {
                return Err(Full::Address);
            }
            *count += 1;
        }
        self.places.insert(connection, counted);
        Ok(())
    }

    fn leave(&mut self, connection: ConnectionId) {
        let Some(Some(block)) = self.places.remove(&connection) else { return };
        if let Entry::Occupied(mut count) = self.per_address.entry(block) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What counts as one address.
fn block(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(mapped) => mapped.into(),
            None => std::net::Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        },
    }
}

/// Enforces [`StrangerLimits`] in a swarm.
#[derive(Debug)]
pub(crate) struct Behaviour(Waiting);

impl Behaviour {
    pub(crate) fn new(limits: StrangerLimits) -> Self {
        Self(Waiting::new(limits))
    }

    /// The peer has shown a valid certificate.
    pub(crate) fn admitted(&mut self, connection: ConnectionId) {
        self.0.leave(connection);
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.0.enter(connection, address::ip(remote)).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _connection: ConnectionId,
        _peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _connection: ConnectionId,
        _peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`FromSwarm` is non-exhaustive; the rest is not ours")]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.0.leave(closed.connection_id),
            FromSwarm::ListenFailure(failure) => self.0.leave(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _peer: PeerId,
        _connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
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

    fn enter(waiting: &mut Waiting, number: usize, from: &str) -> Result<(), Full> {
        waiting.enter(connection(number), from.parse().ok())
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
        let mut waiting = waiting();
        for number in 0..3 {
            enter(&mut waiting, number, "127.0.0.1").unwrap();
        }
        waiting.enter(connection(3), None).unwrap();
        assert_eq!(enter(&mut waiting, 4, "127.0.0.1"), Err(Full::Total));
        assert_eq!(waiting.enter(connection(5), None), Err(Full::Total));
    }

    #[test]
    fn nothing_is_kept_of_those_who_left() {
        let mut waiting = waiting();
        enter(&mut waiting, 1, "192.0.2.1").unwrap();
        waiting.leave(connection(1));
        assert!(waiting.places.is_empty() && waiting.per_address.is_empty());
    }
}
