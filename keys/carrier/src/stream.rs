//! Streams on a chosen connection: a [`NetworkBehaviour`] that accepts a fixed set of protocols and hands out one
//! [`Opener`] per connection.
//!
//! What it promises:
//! - a stream is opened on the connection whose [`Opener`] was asked, never on another one of the same peer (libp2p's
//!   own stream behaviour picks one at random, so that after an upgrade some streams still cross the relay);
//! - a request to open goes through a queue, bounded by the callers that wait, straight to the connection's task; the swarm's loop is not on the
//!   path;
//! - nothing that the other end sends makes a queue here grow without limit: while the swarm is behind, the connection
//!   is not read.
//!
//! The order of events of one connection is `Opened`, any number of `Inbound`, `Closed`.

mod handler;
mod opener;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::channel::mpsc;
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

use handler::{Accepted, Handler};
pub use opener::{OpenError, Opener};

/// What a [`Behaviour`] accepts, and its limits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Protocols that the other end may open; any other is refused in the negotiation.
    pub accepts: Vec<StreamProtocol>,
    /// Whether a connection without any stream stays open. Without it the swarm's idle time-out ends such a
    /// connection.
    pub keep_alive: bool,
    /// Streams being opened at once on one connection; further requests wait in the queue. Default 64.
    pub max_opening: usize,
    /// Time in which a stream must be negotiated, either way. Default 10 s.
    pub timeout: Duration,
}

impl Config {
    /// Accepts `protocols` and leaves the limits at their defaults.
    pub fn accepting(protocols: impl IntoIterator<Item = StreamProtocol>) -> Self {
        Self {
            accepts: protocols.into_iter().collect(),
            keep_alive: false,
            max_opening: 64,
            timeout: Duration::from_secs(10),
        }
    }
}

/// What happened to a connection or on it.
#[derive(Debug)]
pub enum Event {
    /// A connection stands; streams can be opened on it.
    Opened {
        /// The other end.
        peer: PeerId,
        /// The connection.
        connection: ConnectionId,
        /// Its addresses and which end dialled.
        endpoint: ConnectedPoint,
        /// Opens streams on this connection.
        opener: Opener,
    },
    /// A connection is gone; its opener answers [`OpenError::Closed`].
    Closed {
        /// The other end.
        peer: PeerId,
        /// The connection.
        connection: ConnectionId,
        /// Its addresses and which end dialled.
        endpoint: ConnectedPoint,
        /// Connections to the same peer that are left.
        remaining: usize,
    },
    /// The other end opened a stream of an accepted protocol.
    Inbound {
        /// The other end.
        peer: PeerId,
        /// The connection the stream belongs to.
        connection: ConnectionId,
        /// The protocol that was agreed upon.
        protocol: StreamProtocol,
        /// The stream.
        stream: Stream,
    },
}

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Behaviour {
    config: Arc<Config>,
    /// Openers of connections whose handler exists, but which the swarm has not yet announced.
    announced: HashMap<ConnectionId, Opener>,
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

impl Behaviour {
    /// A behaviour without connections.
    pub fn new(config: Config) -> Self {
        Self { config: Arc::new(config), announced: HashMap::new(), events: VecDeque::new(), waker: None }
    }

    fn handler(&mut self, connection: ConnectionId, peer: PeerId) -> Handler {
        let (sender, receiver) = mpsc::channel(0);
        self.announced.insert(connection, Opener::new(peer, connection, sender));
        Handler::new(self.config.clone(), receiver)
    }

    fn emit(&mut self, event: Event) {
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn closed(&mut self, closed: &ConnectionClosed<'_>) {
        self.emit(Event::Closed {
            peer: closed.peer_id,
            connection: closed.connection_id,
            endpoint: closed.endpoint.clone(),
            remaining: closed.remaining_established,
        });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`FromSwarm` is non-exhaustive; the rest is not ours")]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                if let Some(opener) = self.announced.remove(&established.connection_id) {
                    self.emit(Event::Opened {
                        peer: established.peer_id,
                        connection: established.connection_id,
                        endpoint: established.endpoint.clone(),
                        opener,
                    });
                }
            }
            FromSwarm::ConnectionClosed(closed) => self.closed(&closed),
            // Another behaviour denied the connection after our handler was made.
            FromSwarm::DialFailure(failure) => drop(self.announced.remove(&failure.connection_id)),
            FromSwarm::ListenFailure(failure) => drop(self.announced.remove(&failure.connection_id)),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        Accepted { protocol, stream }: THandlerOutEvent<Self>,
    ) {
        self.emit(Event::Inbound { peer, connection, protocol, stream });
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
