//! Connections that have not shown a certificate yet: how many there may be, in all and from one address.
//!
//! A place is taken before the handshake, so that half-open connections count as well, and given back when the peer
//! is admitted, refused or gone. Without a place nothing is spent on a connection. Loopback addresses share no limit
//! among themselves: whoever is there is on this machine already. An IPv6 host counts by its /64.
//!
//! When all places are taken, whoever comes from a network (an IPv4 /24, an IPv6 /48) with fewer of them than another
//! gets the place of the one from there who has waited longest, so that nobody shuts out the rest by being many.

mod handshakes;
mod turns;
mod waiting;

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures::future::AbortHandle;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
    },
};
use mytunnel_carrier::address;
use tokio::time::{Instant, Sleep, sleep_until};

pub(crate) use handshakes::Handshakes;
use waiting::{Full, Waiting};

/// How many strangers there may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrangerLimits {
    /// In all. Default 8,192: a fleet that comes back at one moment has to wait somewhere.
    pub total: usize,
    /// From one IPv4 address or one IPv6 /64. Default 64.
    pub per_address: usize,
}

impl Default for StrangerLimits {
    fn default() -> Self {
        Self { total: 8192, per_address: 64 }
    }
}

/// Enforces [`StrangerLimits`] in a swarm.
#[derive(Debug)]
pub(crate) struct Behaviour {
    waiting: Waiting,
    handshakes: Handshakes,
    strangers: HashMap<ConnectionId, Stranger>,
    evicted: VecDeque<(PeerId, ConnectionId)>,
    waker: Option<Waker>,
    /// When turns of handshakes end that nobody has ended.
    turns_end: Option<Pin<Box<Sleep>>>,
}

/// How far a stranger is, and so how its connection is ended.
#[derive(Debug)]
enum Stranger {
    Handshake(Option<AbortHandle>),
    /// Who it is, and where.
    Connected(PeerId, Multiaddr),
}

impl Behaviour {
    /// For a swarm whose transport is of `handshakes`.
    pub(crate) fn new(limits: StrangerLimits, handshakes: Handshakes) -> Self {
        Self {
            waiting: Waiting::new(limits),
            handshakes,
            strangers: HashMap::new(),
            evicted: VecDeque::new(),
            waker: None,
            turns_end: None,
        }
    }

    /// The peer has shown a valid certificate.
    pub(crate) fn admitted(&mut self, connection: ConnectionId) {
        if let Some(Stranger::Connected(_, from)) = self.strangers.get(&connection) {
            self.handshakes.prove(from);
        }
        self.leave(connection);
        self.evicted.retain(|(_, evicted)| *evicted != connection);
    }

    fn leave(&mut self, connection: ConnectionId) {
        self.waiting.leave(connection);
        if let Some(Stranger::Connected(_, from)) = self.strangers.remove(&connection) {
            self.handshakes.end_one(&from);
        }
    }

    /// Ends turns that are over, and sees to it that this is called again in time.
    fn end_turns(&mut self, cx: &mut Context<'_>) {
        while let Some(next) = self.handshakes.end_late(Instant::now()) {
            let sleep = self.turns_end.get_or_insert_with(|| Box::pin(sleep_until(next)));
            sleep.as_mut().reset(next);
            if sleep.as_mut().poll(cx).is_pending() {
                return;
            }
        }
        self.turns_end = None;
    }

    fn evict(&mut self, connection: ConnectionId) {
        match self.strangers.remove(&connection) {
            Some(Stranger::Handshake(Some(handshake))) => handshake.abort(),
            Some(Stranger::Connected(peer, from)) => {
                self.handshakes.end_one(&from);
                self.evicted.push_back((peer, connection));
                if let Some(waker) = self.waker.take() {
                    waker.wake();
                }
            }
            Some(Stranger::Handshake(None)) | None => {}
        }
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
        let handshake = self.handshakes.newest();
        let evicted = self.waiting.enter(connection, address::ip(remote)).map_err(ConnectionDenied::new)?;
        self.strangers.insert(connection, Stranger::Handshake(handshake));
        if let Some(evicted) = evicted {
            tracing::debug!(connection = %evicted, "a stranger made room for another");
            self.evict(evicted);
        }
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // Its handshake may have ended in the moment in which it was broken off.
        if !self.waiting.has(connection) {
            return Err(ConnectionDenied::new(Full::Evicted));
        }
        self.strangers.insert(connection, Stranger::Connected(peer, remote.clone()));
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
            FromSwarm::ConnectionClosed(closed) => self.leave(closed.connection_id),
            FromSwarm::ListenFailure(failure) => self.leave(failure.connection_id),
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.end_turns(cx);
        if let Some((peer_id, connection)) = self.evicted.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::One(connection),
            });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quic_and_tcp_share_the_places_of_an_address() {
        let limits = StrangerLimits { total: 10, per_address: 2 };
        let mut strangers = Behaviour::new(limits, Handshakes::new(std::time::Duration::from_secs(5)));
        let mut come = |number, from: &str| {
            let connection = ConnectionId::new_unchecked(number);
            let (local, remote) = (Multiaddr::empty(), from.parse().unwrap());
            strangers.handle_pending_inbound_connection(connection, &local, &remote).is_ok()
        };
        assert!(come(1, "/ip4/192.0.2.1/tcp/4000"));
        assert!(come(2, "/ip4/192.0.2.1/udp/4000/quic-v1"));
        assert!(!come(3, "/ip4/192.0.2.1/udp/4001/quic-v1"));
        assert!(!come(4, "/ip6/::ffff:192.0.2.1/tcp/4001"));
        assert!(come(5, "/ip4/192.0.2.2/udp/4000/quic-v1"));
    }
}
