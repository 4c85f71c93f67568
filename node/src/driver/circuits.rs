//! Circuits through the relay to this node: a reservation, for as long as something is shared privately.
//!
//! libp2p renews a reservation by itself, but does not make a lost one again. A listener is never taken away by us: with
//! an answer under way, libp2p 0.22's relay client would not find it any more and panic; it ends with its connection.

mod client;

use std::time::{Duration, Instant};

use libp2p::{
    Multiaddr, Swarm,
    core::transport::ListenerId,
    multiaddr::Protocol,
    swarm::{ConnectionId, NetworkBehaviour},
};

pub(crate) use client::Client;

/// Pause before a reservation is asked for again, and the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(15);

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Circuits {
    reservation: Option<Reservation>,
    /// Refusals in a row.
    refusals: u32,
    again_at: Option<Instant>,
}

#[derive(Debug)]
struct Reservation {
    connection: ConnectionId,
    listener: ListenerId,
}

impl Circuits {
    /// Sees to it that there is a reservation on this connection, which leads to the relay at this address.
    pub(super) fn keep<B: NetworkBehaviour>(
        &mut self,
        swarm: &mut Swarm<B>,
        (connection, address): (ConnectionId, Multiaddr),
        now: Instant,
    ) {
        let has = self.reservation.as_ref().is_some_and(|held| held.connection == connection);
        if has || self.again_at.is_some_and(|at| at > now) {
            return;
        }
        self.again_at = None;
        match swarm.listen_on(address.with(Protocol::P2pCircuit)) {
            Ok(listener) => self.reservation = Some(Reservation { connection, listener }),
            Err(error) => {
                tracing::warn!(%error, "no circuits");
                self.refused(now);
            }
        }
    }

    /// When [`Self::keep`] may do something again.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.again_at
    }

    pub(super) fn on_reserved(&mut self) {
        tracing::debug!("other nodes can reach this one through the relay");
        self.refusals = 0;
    }

    /// A listener has ended: the reservation is lost, or was refused.
    pub(super) fn on_listener_closed(&mut self, listener: ListenerId, now: Instant) {
        if self.reservation.take_if(|held| held.listener == listener).is_some() {
            self.refused(now);
        }
    }

    fn refused(&mut self, now: Instant) {
        let pause = PAUSE * (1 << self.refusals.min(8));
        self.refusals = self.refusals.saturating_add(1);
        self.again_at = Some(now + pause.min(LONGEST));
    }
}
