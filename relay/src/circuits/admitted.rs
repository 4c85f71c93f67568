//! Who may have circuits at this moment, and with whom.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, relay};
use mytunnel_keys::{
    certificate::Claims,
    id::{Scope, Serial, TenantId},
};

use super::metered::Account;
use crate::traffic::Traffic;

/// What a certificate says about circuits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Circuits are between peers of one tenant.
    tenant: TenantId,
    /// Whether it has a scope that needs circuits at all.
    pub(crate) circuits: bool,
    /// Who pays for them, and the key that minted it, which pays too.
    pub(crate) serial: Serial,
    pub(crate) parent: Option<Serial>,
    /// How old the news may be for this peer to be served.
    max_staleness: Duration,
}

impl Pass {
    pub(crate) fn of(claims: &Claims) -> Self {
        Self {
            tenant: claims.tenant.clone(),
            circuits: claims.scopes.contains(Scope::Private) || claims.scopes.contains(Scope::Pair),
            serial: claims.serial,
            parent: claims.parent,
            max_staleness: Duration::from_secs(claims.max_staleness.into()),
        }
    }
}

/// The peers that hold a valid certificate at this moment, and when the coordinator was heard last.
///
/// Written by the driver, read by the limiters inside the swarm that the driver polls, and once by each stream of a
/// circuit: the lock is hardly ever contended.
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
    /// What its circuits count to.
    account: Account,
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
    /// A connection of the peer is admitted. What its circuits carry counts as this traffic; those that count elsewhere
    /// end.
    pub(crate) fn insert(&self, peer: PeerId, pass: Pass, traffic: &Arc<Traffic>) {
        let mut entries = self.lock();
        let before = entries.peers.remove(&peer);
        let connections = before.as_ref().map_or(0, |entry| entry.connections) + 1;
        let account = match before {
            Some(Entry { account, .. }) if account.is_of(traffic) => account,
            Some(Entry { account, .. }) => {
                account.close();
                Account::new(Arc::clone(traffic))
            }
            None => Account::new(Arc::clone(traffic)),
        };
        entries.peers.insert(peer, Entry { connections, pass, account });
    }

    /// One admission of the peer is over; `true` if it was the last, and all its circuits end.
    pub(crate) fn remove(&self, peer: &PeerId) -> bool {
        let mut entries = self.lock();
        let Some(entry) = entries.peers.get_mut(peer) else { return false };
        entry.connections -= 1;
        if entry.connections > 0 {
            return false;
        }
        if let Some(entry) = entries.peers.remove(peer) {
            entry.account.close();
        }
        true
    }

    /// Whether a connection of the peer is admitted.
    pub(crate) fn has(&self, peer: &PeerId) -> bool {
        self.lock().peers.contains_key(peer)
    }

    /// What the peer's circuits count to.
    pub(super) fn account(&self, peer: &PeerId) -> Option<Account> {
        self.lock().peers.get(peer).map(|entry| entry.account.clone())
    }

    /// The coordinator was heard.
    pub(crate) fn set_news(&self, at: Option<Instant>) {
        self.lock().news = at;
    }

    fn serves(&self, peer: &PeerId, now: Instant) -> bool {
        let entries = self.lock();
        let (Some(Entry { pass, account, .. }), Some(news)) = (entries.peers.get(peer), entries.news) else {
            return false;
        };
        pass.circuits && account.has_means() && now.saturating_duration_since(news) <= pass.max_staleness
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
    use mytunnel_keys::usage::Prices;

    use super::*;
    use crate::{
        testing::{NOW, child_claims, device_claims},
        traffic::{Fill, Purse},
    };

    const MINUTE: Duration = Duration::from_secs(60);

    fn pass(scopes: &str, tenant: &str) -> Pass {
        let claims = child_claims(1, NOW);
        Pass::of(&Claims { scopes: scopes.parse().unwrap(), tenant: tenant.parse().unwrap(), ..claims })
    }

    #[test]
    fn only_admitted_peers_pass_and_only_while_a_connection_is_left() {
        let (admitted, peer, now) = (Admitted::default(), PeerId::random(), Instant::now());
        let traffic = Arc::default();
        admitted.set_news(Some(now));
        let mut limiter = admitted.limiter();
        let mut passes = |peer| limiter.try_next(peer, &Multiaddr::empty(), now);
        assert!(!passes(peer));

        admitted.insert(peer, Pass::of(&device_claims(1, NOW)), &traffic);
        admitted.insert(peer, Pass::of(&device_claims(1, NOW)), &traffic);
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
        let pass = Pass { max_staleness: MINUTE, ..pass("private", "ten_a") };
        admitted.insert(peer, pass, &Arc::default());
        assert!(!admitted.serves(&peer, now));
        admitted.set_news(Some(now));
        assert!(admitted.serves(&peer, now + MINUTE));
        assert!(!admitted.serves(&peer, now + MINUTE * 2));
        admitted.set_news(Some(now + MINUTE));
        assert!(admitted.serves(&peer, now + MINUTE * 2));
    }

    #[test]
    fn who_has_nothing_left_is_not_served() {
        let (admitted, peer, now) = (Admitted::default(), PeerId::random(), Instant::now());
        admitted.set_news(Some(now));
        let purse = Arc::new(Purse::new(Arc::default()));
        let traffic = Arc::new(Traffic::paid_by([None, Some(Arc::clone(&purse))]));
        admitted.insert(peer, pass("private", "ten_a"), &traffic);
        for (fill, served) in
            [(Fill::Free, true), (Fill::Left(0), false), (Fill::Left(1), true), (Fill::Shut, false)]
        {
            purse.fill(purse.spent(), fill, &Prices::default());
            assert_eq!(admitted.serves(&peer, now), served, "{fill:?}");
        }
    }

    #[test]
    fn circuits_that_count_elsewhere_end() {
        let (admitted, peer) = (Admitted::default(), PeerId::random());
        let (one, other) = (Arc::default(), Arc::default());
        admitted.insert(peer, pass("private", "ten_a"), &one);
        let first = admitted.account(&peer).unwrap();
        admitted.insert(peer, pass("private", "ten_a"), &one);
        assert!(!first.is_closed());
        admitted.insert(peer, pass("private", "ten_a"), &other);
        assert!(first.is_closed());
        let second = admitted.account(&peer).unwrap();
        assert!(!admitted.remove(&peer) && !admitted.remove(&peer) && !second.is_closed());
        assert!(admitted.remove(&peer) && second.is_closed());
    }

    #[test]
    fn circuits_need_a_scope_and_one_tenant() {
        let (admitted, now) = (Admitted::default(), Instant::now());
        admitted.set_news(Some(now));
        let with = |scopes, tenant| {
            let peer = PeerId::random();
            admitted.insert(peer, pass(scopes, tenant), &Arc::default());
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
