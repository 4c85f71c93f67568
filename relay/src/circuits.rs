//! Circuits (libp2p circuit relay v2) for admitted peers of one tenant only.
//!
//! libp2p asks its rate limiters before it grants a reservation or starts a circuit; the first one here is a closure
//! over the set of admitted peers, so that nobody is served who has not shown a valid certificate with the scope
//! `private` or `pair`, and nobody whose right has ended. The limiters are not told where a circuit is to lead: that is
//! seen when libp2p passes the request to the other peer's connection, and [`Behaviour`] lets nothing through between
//! two tenants. Limits are set on purpose: libp2p's defaults cut a circuit after 128 KiB or two minutes.
//!
//! What a circuit carries counts to the keys of both its peers, each for what goes through its own connection, and its
//! streams pause and break with their budgets.

mod admitted;
mod metered;
mod negotiation;

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
    task::{Context, Poll, ready},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    relay,
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
        THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

use admitted::Meeting;
pub(crate) use admitted::{Admitted, Pass};
pub(crate) use metered::metered;

/// Limits of reservations and circuits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitLimits {
    /// Reservations in all. Default 16,384.
    pub reservations: usize,
    /// Reservations of one peer, one per connection. Default 4.
    pub reservations_per_peer: usize,
    /// Life of a reservation; clients renew it before. Default 1 h.
    pub reservation_life: Duration,
    /// Circuits in all. Default 4,096.
    pub circuits: usize,
    /// Circuits of one peer, either as source or as destination. Default 64.
    pub circuits_per_peer: usize,
    /// Life of a circuit. Default 24 h, the longest life of a child certificate.
    pub circuit_life: Duration,
    /// Bytes of a circuit, both directions together; 0 for no limit. Default 0: usage is metered and capped by budgets.
    pub circuit_bytes: u64,
    /// Reservations and circuits that one peer may ask for in a minute, each. Default 60.
    pub requests_per_minute: NonZeroU32,
}

impl Default for CircuitLimits {
    fn default() -> Self {
        Self {
            reservations: 16_384,
            reservations_per_peer: 4,
            reservation_life: Duration::from_secs(60 * 60),
            circuits: 4096,
            circuits_per_peer: 64,
            circuit_life: Duration::from_secs(24 * 60 * 60),
            circuit_bytes: 0,
            requests_per_minute: const { NonZeroU32::new(60).expect("60 is not zero") },
        }
    }
}

/// libp2p's relay, for peers of one tenant.
pub(crate) struct Behaviour {
    inner: relay::Behaviour,
    admitted: Admitted,
    connections: HashMap<ConnectionId, PeerId>,
    /// Who asked for a circuit to another tenant's peer.
    offenders: VecDeque<PeerId>,
}

impl Behaviour {
    /// The relay behaviour for the peers in `admitted`.
    pub(crate) fn new(local: PeerId, limits: &CircuitLimits, admitted: &Admitted) -> Self {
        Self {
            inner: inner(local, limits, admitted),
            admitted: admitted.clone(),
            connections: HashMap::new(),
            offenders: VecDeque::new(),
        }
    }

    /// Whether a circuit between these two may go on. An offender loses its connections, and with them what libp2p
    /// keeps of the circuit.
    fn lets(&mut self, source: PeerId, destination: PeerId) -> bool {
        match self.admitted.meeting(&source, &destination) {
            Meeting::Allowed => return true,
            Meeting::Forbidden => {
                tracing::debug!(%source, "asked for a circuit that its certificate does not cover; dropped");
                self.offenders.push_back(source);
            }
            Meeting::Over => {}
        }
        false
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <relay::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = relay::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`FromSwarm` is non-exhaustive; the rest is not ours")]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(open) => {
                self.connections.insert(open.connection_id, open.peer_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.connections.remove(&closed.connection_id);
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`ToSwarm` is non-exhaustive; the rest passes")]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(peer_id) = self.offenders.pop_front() {
                return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All });
            }
            let next = ready!(self.inner.poll(cx));
            match &next {
                // In the name of one peer to a connection of another: a request for a circuit between them, or its
                // answer. Without it the circuit comes to nothing.
                ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), .. } => {
                    match self.connections.get(connection).copied() {
                        Some(owner) if owner != *peer_id && !self.lets(*peer_id, owner) => {}
                        _ => return Poll::Ready(next),
                    }
                }
                // Should a circuit have come about in another way.
                ToSwarm::GenerateEvent(relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id }) => {
                    self.lets(*src_peer_id, *dst_peer_id);
                    return Poll::Ready(next);
                }
                _ => return Poll::Ready(next),
            }
        }
    }
}

fn inner(local: PeerId, limits: &CircuitLimits, admitted: &Admitted) -> relay::Behaviour {
    let per_request = Duration::from_secs(60) / limits.requests_per_minute.get();
    let config = relay::Config {
        max_reservations: limits.reservations,
        max_reservations_per_peer: limits.reservations_per_peer,
        reservation_duration: limits.reservation_life,
        reservation_rate_limiters: vec![admitted.limiter()],
        max_circuits: limits.circuits,
        max_circuits_per_peer: limits.circuits_per_peer,
        max_circuit_duration: limits.circuit_life,
        max_circuit_bytes: limits.circuit_bytes,
        circuit_src_rate_limiters: vec![admitted.limiter()],
    };
    let config = config
        .reservation_rate_per_peer(limits.requests_per_minute, per_request)
        .circuit_src_per_peer(limits.requests_per_minute, per_request);
    relay::Behaviour::new(local, config)
}
