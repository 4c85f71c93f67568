//! Circuits (libp2p circuit relay v2) for admitted peers only.
//!
//! libp2p asks its rate limiters before it grants a reservation or starts a circuit; the first one here is a closure
//! over the set of admitted peers, so that nobody is served who has not shown a valid certificate, and nobody whose
//! right has ended. Limits are set on purpose: libp2p's defaults cut a circuit after 128 KiB or two minutes.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, relay};

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

/// The peers that hold a valid certificate at this moment, and when the coordinator was heard last.
///
/// Written by the driver, read by the limiters inside the swarm that the driver polls: one task, so that the lock is
/// never contended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admitted(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    peers: HashMap<PeerId, Entry>,
    news: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    /// Admitted connections.
    connections: usize,
    /// How old the news may be for this peer to be served, by the certificate that was shown last.
    max_staleness: Duration,
}

impl Admitted {
    pub(crate) fn insert(&self, peer: PeerId, max_staleness: Duration) {
        let mut entries = self.lock();
        let entry = entries.peers.entry(peer).or_insert(Entry { connections: 0, max_staleness });
        *entry = Entry { connections: entry.connections + 1, max_staleness };
    }

    pub(crate) fn remove(&self, peer: &PeerId) {
        let mut entries = self.lock();
        if let Some(entry) = entries.peers.get_mut(peer) {
            entry.connections -= 1;
            if entry.connections == 0 {
                entries.peers.remove(peer);
            }
        }
    }

    /// The coordinator was heard.
    pub(crate) fn set_news(&self, at: Option<Instant>) {
        self.lock().news = at;
    }

    fn serves(&self, peer: &PeerId, now: Instant) -> bool {
        let entries = self.lock();
        let (Some(entry), Some(news)) = (entries.peers.get(peer), entries.news) else { return false };
        now.saturating_duration_since(news) <= entry.max_staleness
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limiter(&self) -> Box<dyn relay::RateLimiter> {
        let admitted = self.clone();
        Box::new(move |peer: PeerId, _: &Multiaddr, now: Instant| admitted.serves(&peer, now))
    }
}

/// The relay behaviour for the peers in `admitted`.
pub(crate) fn behaviour(local: PeerId, limits: &CircuitLimits, admitted: &Admitted) -> relay::Behaviour {
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

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn only_admitted_peers_pass_and_only_while_a_connection_is_left() {
        let (admitted, peer, now) = (Admitted::default(), PeerId::random(), Instant::now());
        admitted.set_news(Some(now));
        let mut limiter = admitted.limiter();
        let mut passes = |peer| limiter.try_next(peer, &Multiaddr::empty(), now);
        assert!(!passes(peer));

        admitted.insert(peer, MINUTE);
        admitted.insert(peer, MINUTE);
        assert!(passes(peer));
        assert!(!passes(PeerId::random()));

        admitted.remove(&peer);
        assert!(passes(peer));
        admitted.remove(&peer);
        assert!(!passes(peer));
    }

    #[test]
    fn without_fresh_news_nobody_passes() {
        let (admitted, peer, now) = (Admitted::default(), PeerId::random(), Instant::now());
        admitted.insert(peer, MINUTE);
        assert!(!admitted.serves(&peer, now));
        admitted.set_news(Some(now));
        assert!(admitted.serves(&peer, now + MINUTE));
        assert!(!admitted.serves(&peer, now + MINUTE * 2));
        admitted.set_news(Some(now + MINUTE));
        assert!(admitted.serves(&peer, now + MINUTE * 2));
    }
}
