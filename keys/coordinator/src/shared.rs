//! What every request shares, and the verbs that need more than one part of it.

use std::hash::Hash;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use mytunnel_keys::api::RelayApplied;
use mytunnel_keys::id::TenantId;
use mytunnel_keys::token::ServerUrl;
use mytunnel_keys::usage::PriceList;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::accounts::{Attempts, Passwords, Vault};
use crate::audit::{Act, Entry, Party};
use crate::authority::Refusal;
use crate::config::{Clock, Endpoints, Limits, MetricsToken};
use crate::dns::Resolver;
use crate::events::Streams;
use crate::feed::{Ask, Followers, soon};
use crate::http::ApiError;
use crate::issuer::Issuer;
use crate::metrics::{Metrics, Reading};
use crate::refusals::Refusals;
use crate::replays::Replays;
use crate::sketch::{Limit, RetryAfter, Sketch};
use crate::store::{KeyRow, Store, StoreError};

/// Messages of a relay in a minute with use of keys that it has not reported: its reports come another way, and may be
/// late.
const STRAYS: Limit = Limit { tries: 10, window: 60 };
/// Rows that these may add to the audit log.
const STRAY_ROWS: Limit = Limit { tries: 1, window: 24 * 3600 };
/// Times that one tenant may have name servers asked in a minute: they are other people's.
const LOOKUPS: Limit = Limit { tries: 60, window: 60 };
/// Changes of gates and budgets of one tenant in a minute: each goes to every relay, and to the disk.
const CHANGES: Limit = Limit { tries: 300, window: 60 };

/// The coordinator behind its handle.
#[derive(Debug)]
pub(crate) struct Shared {
    parts: Parts,
    /// Tasks that belong to the coordinator, and their end.
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    public: RwLock<Public>,
    prices: RwLock<PriceList>,
    attempts: Mutex<Attempts>,
    resets: Mutex<Attempts>,
    replays: Mutex<Replays>,
    refusals: Mutex<Refusals>,
    changes: Mutex<Sketch>,
    lookups: Mutex<Sketch>,
    strays: Mutex<[Sketch; 2]>,
    setup_code: Mutex<Option<Zeroizing<String>>>,
    pub(crate) metrics: Metrics,
    pub(crate) streams: Streams,
}

/// Where the outside finds things.
#[derive(Debug, Clone)]
pub(crate) struct Public {
    pub(crate) url: ServerUrl,
    pub(crate) endpoints: Endpoints,
}

/// The parts of [`Shared`] that are made elsewhere and stay as they are.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) followers: Arc<Followers>,
    /// Where subscriptions are asked for.
    pub(crate) feed: mpsc::Sender<Ask>,
    pub(crate) passwords: Passwords,
    /// Of the gates before tunnels.
    pub(crate) gate_passwords: Passwords,
    pub(crate) vault: Arc<Vault>,
    /// Who else may vouch for people.
    pub(crate) sign_in: Arc<mytunnel_sign_in::Client>,
    /// Whom to ask whose a domain is.
    pub(crate) resolver: Resolver,
    /// Where addresses go that a link to a new password was asked for, if there is a command that sends it.
    pub(crate) mail: Option<mpsc::Sender<String>>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// What a scraper shows for the metrics; without it this machine needs nothing.
    pub(crate) metrics_token: Option<MetricsToken>,
    /// The tenant that operates this coordinator.
    pub(crate) home: TenantId,
}

impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Shared {
    pub(crate) fn new(parts: Parts, public: Public, prices: PriceList, setup_code: Option<String>) -> Self {
        let relays = parts.limits.relays;
        Self {
            parts,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            public: RwLock::new(public),
            prices: RwLock::new(prices),
            attempts: Mutex::new(Attempts::new()),
            resets: Mutex::new(Attempts::new()),
            replays: Mutex::default(),
            refusals: Mutex::new(Refusals::new()),
            changes: Mutex::new(Sketch::new(CHANGES)),
            lookups: Mutex::new(Sketch::new(LOOKUPS)),
            strays: Mutex::new([Sketch::new(STRAYS), Sketch::new(STRAY_ROWS)]),
            setup_code: Mutex::new(setup_code.map(Zeroizing::new)),
            metrics: Metrics::new(relays),
            streams: Streams::default(),
        }
    }

    pub(crate) fn attempts(&self) -> MutexGuard<'_, Attempts> {
        lock(&self.attempts)
    }

    /// How often links to a new password are asked for.
    pub(crate) fn resets(&self) -> MutexGuard<'_, Attempts> {
        lock(&self.resets)
    }

    pub(crate) fn replays(&self) -> MutexGuard<'_, Replays> {
        lock(&self.replays)
    }

    pub(crate) fn public(&self) -> Public {
        self.public.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_public(&self, public: Public) {
        *self.public.write().unwrap_or_else(PoisonError::into_inner) = public;
    }

    /// What use costs.
    pub(crate) fn prices(&self) -> PriceList {
        *self.prices.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_prices(&self, prices: PriceList) {
        *self.prices.write().unwrap_or_else(PoisonError::into_inner) = prices;
    }

    /// The code that makes the first owner, while there is none.
    pub(crate) fn setup_code(&self) -> Option<Zeroizing<String>> {
        lock(&self.setup_code).clone()
    }

    pub(crate) fn forget_setup_code(&self) {
        *lock(&self.setup_code) = None;
    }

    /// Waits until every relay acts by `epoch`, whichever coordinator it follows, and says who does.
    pub(crate) async fn confirm(&self, epoch: u64) -> Result<Vec<RelayApplied>, StoreError> {
        let limit = self.limits.confirm;
        let until = Instant::now() + limit;
        // Asked after the commit: a relay that began to follow another coordinator before it is there by now, and one that
        // began later has the change in its snapshot.
        match timeout(limit / 2, self.store.others()).await {
            Ok(Ok(Some(others))) => self.followers.elsewhere(others.head.feed.era, &others.relays),
            Ok(Ok(None)) => {}
            Ok(Err(_)) | Err(_) => {
                let known = self.expect_relays(limit / 8).await;
                known.map_err(|error| StoreError::Uncertain(Arc::new(error)))?;
            }
        }
        Ok(self.followers.confirm(epoch, until.saturating_duration_since(Instant::now())).await)
    }

    /// Every relay that may still be serving counts, at the least as one that cannot be heard.
    pub(crate) async fn expect_relays(&self, patience: Duration) -> Result<(), StoreError> {
        let oldest = self.clock.now().saturating_sub(self.followers.gone_after().as_secs());
        for relay in soon(patience, || self.store.relays()).await? {
            if relay.seen_at > oldest {
                self.followers.expect(relay.id);
            }
        }
        Ok(())
    }

    /// What an operator watches, as a scraper reads it.
    pub(crate) async fn metrics_text(&self) -> Result<String, StoreError> {
        let leases = self.store.leases_held().await?;
        let head = *self.store.head().borrow();
        let (relays, slowest) = self.followers.progress();
        Ok(self.metrics.text(Reading {
            relays,
            behind: slowest.map_or(0, |epoch| head.feed.epoch.saturating_sub(epoch)),
            tunnels: self.followers.live().len(),
            feed_epoch: head.feed.epoch,
            audit_entries: head.audit_seq,
            writes_waiting: self.store.writes_waiting(),
            passwords_waiting: self.passwords.waiting(),
            gate_passwords_waiting: self.gate_passwords.waiting(),
            event_streams: self.streams.open(),
            refusals_unwritten: lock(&self.refusals).unwritten(),
            leases,
            clock_offset: self.store.clock_offset(),
        }))
    }

    /// Writes a refusal into the audit log, unless its actor has filled its share of it.
    pub(crate) async fn note_refusal(&self, entry: Entry) {
        let admitted = self.admits_refusal(&entry.actor.to_string(), entry.at);
        if admitted && let Err(error) = self.store.note(entry).await {
            // The refusal stands all the same.
            tracing::error!(%error, "a refusal is missing in the audit log");
        }
    }

    /// May this actor add one more refusal to the audit log?
    pub(crate) fn admits_refusal(&self, actor: &impl Hash, now: u64) -> bool {
        lock(&self.refusals).admit(actor, now)
    }

    /// Writes down how many refusals were not.
    pub(crate) async fn note_unwritten(&self, now: u64) -> Result<(), StoreError> {
        let count = lock(&self.refusals).take_unwritten();
        if count == 0 {
            return Ok(());
        }
        self.store
            .note(Entry {
                at: now,
                tenant: Some(self.home.clone()),
                actor: Party::System,
                act: Act::RefusalsMore,
                subject: Party::System,
                project: None,
                detail: format!("{count} more refusals, not written one by one"),
            })
            .await
    }

    /// May this tenant change what relays are told at this moment?
    pub(crate) fn may_change(&self, tenant: &TenantId, now: u64) -> Result<(), ApiError> {
        lock(&self.changes).check(tenant, now).map_err(|RetryAfter(seconds)| ApiError::TooMany(seconds))
    }

    /// It has.
    pub(crate) fn note_change(&self, tenant: &TenantId, now: u64) {
        // Several at once may go one beyond the limit; the next is refused.
        let _ = lock(&self.changes).admit(tenant, now);
    }

    /// May this tenant have name servers asked once more?
    pub(crate) fn admits_lookup(&self, tenant: &TenantId, now: u64) -> Result<(), ApiError> {
        lock(&self.lookups).admit(tenant, now).map_err(|RetryAfter(seconds)| ApiError::TooMany(seconds))
    }

    /// Whether it is to be written down that a relay tells what it cannot know: it does so again and again.
    pub(crate) fn is_stray(&self, relay: &KeyRow, now: u64) -> bool {
        let [often, rows] = &mut *lock(&self.strays);
        often.admit(&relay.serial, now).is_err() && rows.admit(&relay.serial, now).is_ok()
    }

    /// A key that no longer stands was used.
    pub(crate) async fn note_refused_request(&self, key: &KeyRow, refusal: &Refusal) {
        let party = Party::Key(key.kind, key.serial);
        let entry = Entry {
            at: self.clock.now(),
            tenant: Some(key.tenant.clone()),
            actor: party.clone(),
            act: Act::RequestRefused,
            subject: party,
            project: key.project.clone(),
            detail: refusal.code.name().to_owned(),
        };
        self.note_refusal(entry).await;
    }
}

/// Each change under these locks is whole, so that a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
