//! Openers of connections that a swarm only seems to have.

use std::task::{Context, Poll};

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    swarm::{ConnectionId, FromSwarm, NetworkBehaviour as _, ToSwarm, behaviour::ConnectionEstablished},
};
use mytunnel_carrier::stream::{Behaviour, Config, Event, Opener};

/// As a swarm announces it. The connection has ended: nothing is opened on it.
pub(crate) fn opener(connection: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint) -> Opener {
    let mut streams = Behaviour::new(Config::accepting([]));
    let nowhere = Multiaddr::empty();
    drop(streams.handle_established_inbound_connection(connection, peer, &nowhere, &nowhere).unwrap());
    streams.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
        peer_id: peer,
        connection_id: connection,
        endpoint,
        failed_addresses: &[],
        other_established: 0,
    }));
    match streams.poll(&mut Context::from_waker(futures::task::noop_waker_ref())) {
        Poll::Ready(ToSwarm::GenerateEvent(Event::Opened { opener, .. })) => opener,
        other => panic!("{other:?}"),
    }
}
