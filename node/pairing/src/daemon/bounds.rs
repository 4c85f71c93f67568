//! Who may connect, in the swarm: [`Doors`] with libp2p's events.

use std::{
    collections::{HashMap, HashSet},
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

use crate::crowd::{Doors, Origin};

/// See the module.
#[derive(Debug)]
pub(crate) struct Behaviour {
    doors: Doors<ConnectionId>,
    own: Vec<IpAddr>,
    known: HashSet<PeerId>,
    /// Doors for who comes by a way, with their ports.
    ways: HashMap<Multiaddr, u16>,
}

impl Behaviour {
    pub(super) fn new() -> Self {
        Self { doors: Doors::new(), own: Vec::new(), known: HashSet::new(), ways: HashMap::new() }
    }

    /// Who is a member, and so is no stranger.
    pub(super) fn know(&mut self, members: HashSet<PeerId>) {
        self.known = members;
    }

    pub(super) fn knows(&self, peer: &PeerId) -> bool {
        self.known.contains(peer)
    }

    /// Who comes in here comes by a way, and is none of this machine.
    pub(super) fn lead(&mut self, door: Multiaddr) {
        if let Some((socket, _)) = address::socket(&door) {
            self.ways.insert(door, socket.port());
        }
    }

    pub(super) fn lead_no_more(&mut self, door: &Multiaddr) {
        self.ways.remove(door);
    }

    pub(super) fn came_by_way(&self, connection: ConnectionId) -> bool {
        matches!(self.doors.origin(&connection), Some(Origin::Way(_)))
    }

    /// From where who is connected so came; a connection of our own making is nobody else's doing.
    pub(super) fn origin(&self, connection: ConnectionId) -> Origin {
        self.doors.origin(&connection).unwrap_or(Origin::Here)
    }

    fn origin_of(&self, local: &Multiaddr, remote: &Multiaddr) -> Origin {
        if let Some(door) = self.ways.get(local) {
            return Origin::Way(*door);
        }
        address::ip(remote).map_or(Origin::Here, |ip| Origin::of(ip, &self.own))
    }
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
        self.doors.knock(connection, self.origin_of(local, remote)).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let (origin, is_known) = (self.origin_of(local, remote), self.knows(&peer));
        self.doors.enter(connection, origin, is_known).map_err(ConnectionDenied::new)?;
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
            FromSwarm::ConnectionClosed(closed) => self.doors.leave(&closed.connection_id),
            FromSwarm::ListenFailure(failure) => self.doors.leave(&failure.connection_id),
            FromSwarm::NewListenAddr(new) => self.own.extend(address::ip(new.addr)),
            FromSwarm::ExpiredListenAddr(old) => {
                let gone = address::ip(old.addr);
                if let Some(at) = self.own.iter().position(|ip| Some(*ip) == gone) {
                    self.own.swap_remove(at);
                }
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

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
