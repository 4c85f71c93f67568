//! Who may have circuits at this moment, and with whom.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, relay};
use mytunnel_keys::{
    certificate::Claims,
    id::{Scope, TenantId},
};

/// What a certificate says about circuits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Circuits are between peers of one tenant.
    tenant: TenantId,
    /// Whether it has a scope that needs circuits at all.
    circuits: bool,
    /// How old the news may be for this peer to be served.
    max_staleness: Duration,
}

impl Pass {
    pub(crate) fn of(claims: &Claims) -> Self {
        Self {
            tenant: claims.tenant.clone(),
            circuits: claims.scopes.contains(Scope::Private) || claims.scopes.contains(Scope::Pair),
            max_staleness: Duration::from_secs(claims.max_staleness.into()),
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
    /// Of the certificate that was shown last.
    pass: Pass,
}

/// Whether one peer may have a circuit to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    Allowed,
    /// They are of different tenants, or one of them has no scope for it.
    Forbidden,
    /// One of them is admitted no longer; its connection is about to end.
    Over,
}

impl Admitted {
    pub(crate) fn insert(&self, peer: PeerId, pass: Pass) {
        let mut entries = self.lock();
        let connections = entries.peers.get(&peer).map_or(0, |entry| entry.connections) + 1;
        entries.peers.insert(peer, Entry { connections, pass });
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
        let (Some(Entry { pass, .. }), Some(news)) = (entries.peers.get(peer), entries.news) else {
            return false;
        };
        pass.circuits && now.saturating_duration_since(news) <= pass.max_staleness
    }

    pub(super) fn meeting(&self, one: &PeerId, other: &PeerId) -> Meeting {
        let entries = self.lock();
        let (Some(one), Some(other)) = (entries.peers.get(one), entries.peers.get(other)) else {
            return Meeting::Over;
        };
        let (one, other) = (&one.pass, &other.pass);
        if one.tenant == other.tenant && one.circuits && other.circuits {
            Meeting::Allowed
        } else {
            Meeting::Forbidden
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limiter(&self) -> Box<dyn relay::RateLimiter> {
        let admitted = self.clone();
        Box::new(move |peer: PeerId, _: &Multiaddr, now: Instant| admitted.serves(&peer, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, child_claims, device_claims};

    const MINUTE: Duration = Duration::from_secs(60);

    fn pass(scopes: &str, tenant: &str) -> Pass {
        let claims = child_claims(1, NOW);
        Pass::of(&Claims { scopes: scopes.parse().unwrap(), tenant: tenant.parse().unwrap(), ..claims })
    }

    #[test]
    fn only_admitted_peers_pass_and_only_while_a_connection_is_left() {
        let (admitted, peer, now) = (Admitted::default(), PeerId::random(), Instant::now());
        admitted.set_news(Some(now));
        let mut limiter = admitted.limiter();
        let mut passes = |peer| limiter.try_next(peer, &Multiaddr::empty(), now);
        assert!(!passes(peer));

        admitted.insert(peer, Pass::of(&device_claims(1, NOW)));
        admitted.insert(peer, Pass::of(&device_claims(1, NOW)));
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
        admitted.insert(peer, Pass { max_staleness: MINUTE, ..pass("private", "ten_a") });
        assert!(!admitted.serves(&peer, now));
        admitted.set_news(Some(now));
        assert!(admitted.serves(&peer, now + MINUTE));
        assert!(!admitted.serves(&peer, now + MINUTE * 2));
        admitted.set_news(Some(now + MINUTE));
        assert!(admitted.serves(&peer, now + MINUTE * 2));
    }

    #[test]
    fn circuits_need_a_scope_and_one_tenant() {
        let (admitted, now) = (Admitted::default(), Instant::now());
        admitted.set_news(Some(now));
        let with = |scopes, tenant| {
            let peer = PeerId::random();
            admitted.insert(peer, pass(scopes, tenant));
            peer
        };
        let (private, pair) = (with("http private", "ten_a"), with("pair", "ten_a"));
        let (http, foreign) = (with("http tcp udp", "ten_a"), with("private pair", "ten_b"));
        assert_eq!(
            [private, pair, http, foreign].map(|peer| admitted.serves(&peer, now)),
            [true, true, false, true]
        );
        assert_eq!(admitted.meeting(&private, &pair), Meeting::Allowed);
        for other in [http, foreign] {
            assert_eq!(admitted.meeting(&private, &other), Meeting::Forbidden);
            assert_eq!(admitted.meeting(&other, &private), Meeting::Forbidden);
        }
        admitted.remove(&pair);
        assert_eq!(admitted.meeting(&private, &pair), Meeting::Over);
    }
}
