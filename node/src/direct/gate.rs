//! Who may connect to the ports of this node: peers with which a direct path is being looked for, and nobody else.
//!
//! Others are refused once their handshake has shown who they are, and where nobody is expected, or too many are in
//! their handshakes, before it. Whoever comes from a machine that one of them has named has places of their own: an opening packet of QUIC costs
//! a stranger nothing, wherever it says that it comes from, and takes a place for seconds. Circuits pass: the relay stands before them.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};
use mytunnel_carrier::address;

/// Handshakes at once, from machines that were named and from others.
const MOST_HANDSHAKES: usize = 32;

/// Connections of one peer, as many as one round may bring and some that have not ended yet.
const MOST_OF_PEER: usize = 16;

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    /// With the machines from which they may come, as far as they have named them.
    expected: HashMap<PeerId, HashSet<IpAddr>>,
    /// Whether each comes from a machine that was named.
    handshakes: HashMap<ConnectionId, bool>,
    connected: HashMap<ConnectionId, PeerId>,
}

impl Behaviour {
    /// Whom to let in from now on.
    pub(crate) fn expect(&mut self, peer: PeerId, is_expected: bool) {
        if is_expected {
            self.expected.entry(peer).or_default();
        } else {
            self.expected.remove(&peer);
        }
    }

    /// From which machines an expected peer may come.
    pub(crate) fn name(&mut self, peer: PeerId, machines: HashSet<IpAddr>) {
        if let Some(named) = self.expected.get_mut(&peer) {
            *named = machines;
        }
    }

    fn is_named(&self, remote: &Multiaddr) -> bool {
        let ip = address::ip(remote).map(|ip| ip.to_canonical());
        ip.is_some_and(|ip| self.expected.values().any(|machines| machines.contains(&ip)))
    }
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("nobody is expected")]
    Closed,
    #[error("too many are in their handshakes")]
    Full,
    #[error("it is not one of the peers that are expected")]
    Unexpected,
    #[error("the peer has too many connections")]
    TooMany,
}

fn is_circuit(local: &Multiaddr) -> bool {
    local.iter().any(|part| part == Protocol::P2pCircuit)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if is_circuit(local) {
            return Ok(());
        }
        if self.expected.is_empty() {
            return Err(ConnectionDenied::new(Refused::Closed));
        }
        let is_named = self.is_named(remote);
        if self.handshakes.values().filter(|named| **named == is_named).count() >= MOST_HANDSHAKES {
            return Err(ConnectionDenied::new(Refused::Full));
        }
        self.handshakes.insert(connection, is_named);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handshakes.remove(&connection);
        if is_circuit(local) {
            return Ok(dummy::ConnectionHandler);
        }
        if !self.expected.contains_key(&peer) {
            return Err(ConnectionDenied::new(Refused::Unexpected));
        }
        if self.connected.values().filter(|connected| **connected == peer).count() >= MOST_OF_PEER {
            return Err(ConnectionDenied::new(Refused::TooMany));
        }
        self.connected.insert(connection, peer);
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
            FromSwarm::ConnectionClosed(closed) => {
                self.connected.remove(&closed.connection_id);
            }
            FromSwarm::ListenFailure(failure) => {
                self.handshakes.remove(&failure.connection_id);
                self.connected.remove(&failure.connection_id);
            }
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

    const HERE: &str = "/ip4/192.168.1.7/tcp/4000";

    struct Door {
        gate: Behaviour,
        number: usize,
    }

    impl Door {
        fn knock(&mut self, local: &str) -> Option<ConnectionId> {
            self.knock_from("/ip4/198.51.100.9/udp/4000/quic-v1", local)
        }

        fn knock_from(&mut self, remote: &str, local: &str) -> Option<ConnectionId> {
            self.number += 1;
            let connection = ConnectionId::new_unchecked(self.number);
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            let pending = self.gate.handle_pending_inbound_connection(connection, &local, &remote);
            pending.is_ok().then_some(connection)
        }

        fn come(&mut self, peer: PeerId, local: &str) -> bool {
            let Some(connection) = self.knock(local) else { return false };
            let (local, remote) = (local.parse().unwrap(), Multiaddr::empty());
            self.gate.handle_established_inbound_connection(connection, peer, &local, &remote).is_ok()
        }
    }

    #[test]
    fn only_expected_peers_come_in_and_circuits_pass() {
        let mut door = Door { gate: Behaviour::default(), number: 0 };
        let [friend, other] = [PeerId::random(), PeerId::random()];
        assert!(!door.come(friend, HERE), "nobody is expected");
        assert!(door.come(other, "/ip4/203.0.113.1/tcp/4001/p2p-circuit"));
        door.gate.expect(friend, true);
        assert!(door.come(friend, HERE) && !door.come(other, HERE));
        door.gate.expect(friend, false);
        assert!(!door.come(friend, HERE));
    }

    #[test]
    fn handshakes_and_connections_of_a_peer_are_bounded() {
        let mut door = Door { gate: Behaviour::default(), number: 0 };
        let friend = PeerId::random();
        door.gate.expect(friend, true);
        assert_eq!((0..100).filter(|_| door.come(friend, HERE)).count(), MOST_OF_PEER);
        let strangers = (0..100).filter_map(|_| door.knock(HERE)).count();
        assert_eq!(strangers, MOST_HANDSHAKES);
        assert!(
            door.knock("/ip4/203.0.113.1/tcp/4001/p2p-circuit").is_some(),
            "circuits have room of their own"
        );

        let from_friend =
            |door: &mut Door| door.knock_from("/ip4/203.0.113.7/udp/6000/quic-v1", HERE).is_some();
        assert!(!from_friend(&mut door), "it has named no machine yet");
        door.gate.name(friend, HashSet::from(["203.0.113.7".parse().unwrap()]));
        assert_eq!((0..100).filter(|_| from_friend(&mut door)).count(), MOST_HANDSHAKES);
        door.gate.name(PeerId::random(), HashSet::from(["203.0.113.8".parse().unwrap()]));
        assert!(door.knock_from("/ip4/203.0.113.8/udp/6000/quic-v1", HERE).is_none(), "nobody expects it");
    }
}
