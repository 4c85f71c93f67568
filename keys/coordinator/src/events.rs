//! Hints for the dashboard that something has changed, so that a page reads again what it shows.
//!
//! A hint names topics and never holds data: what the reader may see is decided where it reads. Hints come from the
//! commits of the store, by the acts that the audit log has of them, and from the tunnels that relays report. Several
//! within a moment are one. A stream ends with the access token that it was opened by; how many there may be is bounded,
//! and whoever gets none asks from time to time instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mytunnel_keys::error::Code;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::authority::{Person, Refusal};
use crate::http::ApiError;
use crate::shared::Shared;
use crate::store::{Head, StoreError};

/// Streams of one account: its windows, on all its devices.
const MAX_OF_ACCOUNT: usize = 8;
/// Streams in all.
pub(crate) const MAX: usize = 256;
/// Between two hints there is at least so much time.
const PAUSE: Duration = Duration::from_millis(300);
/// After so much silence a sign of life is sent; whoever stands between closes what is idle, often after a minute.
const BEAT: Duration = Duration::from_secs(15);
/// With more rows of the log than that at once, everything may have changed.
const MAX_ROWS: u64 = 1000;

/// What a page may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Topic {
    Keys,
    Tunnels,
    Audit,
    Usage,
    Accounts,
    Gates,
}

impl Topic {
    const ALL: [Self; 6] = [Self::Keys, Self::Tunnels, Self::Audit, Self::Usage, Self::Accounts, Self::Gates];

    /// What an act of the audit log changes, beside the log itself. Of an act that is not known here, everything.
    fn of_act(act: &str) -> &'static [Self] {
        match act.split('.').next().unwrap_or(act) {
            "project" | "revoke" => &[Self::Keys, Self::Tunnels],
            "key" => &[Self::Keys, Self::Tunnels, Self::Usage],
            "mint" | "ticket" => &[Self::Keys],
            "device" => &[Self::Keys, Self::Accounts],
            "budget" => &[Self::Keys, Self::Usage],
            "tunnel" | "gate" => &[Self::Keys, Self::Tunnels, Self::Gates],
            "owner" | "login" | "account" | "invitation" | "session" | "mfa" | "password" => {
                &[Self::Accounts]
            }
            "request" | "relay" | "join" | "usage" | "refusals" => &[],
            _ => &Self::ALL,
        }
    }
}

/// The streams that are open.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<BTreeMap<String, usize>>);

impl Streams {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        // Each change under the lock is whole, so that a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn open(&self) -> usize {
        self.lock().values().sum()
    }

    fn take(&self, account: &str) -> bool {
        let mut open = self.lock();
        let full = open.values().sum::<usize>() >= MAX;
        let own = open.get(account).copied().unwrap_or(0);
        if full || own >= MAX_OF_ACCOUNT {
            return false;
        }
        open.insert(account.to_owned(), own + 1);
        true
    }

    fn give_back(&self, account: &str) {
        let mut open = self.lock();
        match open.get_mut(account) {
            Some(own) if *own > 1 => *own -= 1,
            Some(_) | None => drop(open.remove(account)),
        }
    }
}

/// The place of one stream; given back on drop.
#[derive(Debug)]
struct Seat {
    shared: Arc<Shared>,
    account: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.streams.give_back(&self.account);
    }
}

/// One reader's stream.
#[derive(Debug)]
pub(crate) struct Stream {
    seat: Seat,
    person: Person,
    /// Hash of the access token that it was opened by.
    access: [u8; 32],
    head: watch::Receiver<Head>,
    live: watch::Receiver<u64>,
    /// Rows of the log up to this one were told.
    told: u64,
    /// When the next hint may be sent.
    free: Instant,
    beat: Interval,
    begun: bool,
}

impl Stream {
    /// Opens a stream for a person, by the access token with that hash.
    pub(crate) fn open(shared: Arc<Shared>, person: Person, access: [u8; 32]) -> Result<Self, ApiError> {
        if !shared.streams.take(&person.id) {
            let message = "too many windows follow the changes already";
            return Err(Refusal::new(Code::RateLimited, message).into());
        }
        let (mut head, mut live) = (shared.store.head(), shared.followers.live().changes());
        let told = head.borrow_and_update().audit_seq;
        live.mark_unchanged();
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let seat = Seat { shared, account: person.id.clone() };
        Ok(Self { seat, person, access, head, live, told, free: Instant::now(), beat, begun: false })
    }

    /// The next piece of the stream, as Server-Sent Events have it; none at its end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(": the changes follow\n\n".to_owned());
        }
        let stop = self.seat.shared.stop.clone();
        stop.run_until_cancelled(self.piece()).await.flatten()
    }

    async fn piece(&mut self) -> Option<String> {
        loop {
            let mut topics = BTreeSet::new();
            tokio::select! {
                changed = self.head.changed() => changed.ok()?,
                changed = self.live.changed() => {
                    changed.ok()?;
                    topics.extend([Topic::Tunnels, Topic::Keys]);
                }
                _ = self.beat.tick() => {
                    return self.stands().await.then(|| ": still here\n\n".to_owned());
                }
            }
            sleep_until(self.free).await;
            if self.live.has_changed().ok()? {
                self.live.mark_unchanged();
                topics.extend([Topic::Tunnels, Topic::Keys]);
            }
            if !self.stands().await {
                return None;
            }
            topics.extend(self.committed().await.ok()?);
            if !topics.is_empty() {
                self.free = Instant::now() + PAUSE;
                self.beat.reset();
                return Some(format!("event: changed\ndata: {}\n\n", json!({"topics": topics})));
            }
        }
    }

    /// Is whoever opened it still signed in?
    async fn stands(&self) -> bool {
        let shared = &self.seat.shared;
        let found = shared.store.session(self.access, shared.clock.now()).await;
        matches!(found, Ok(Some(person)) if person.id == self.person.id)
    }

    /// What was committed since the last hint.
    async fn committed(&mut self) -> Result<BTreeSet<Topic>, StoreError> {
        let last = self.head.borrow_and_update().audit_seq;
        let first = std::mem::replace(&mut self.told, last);
        if last.saturating_sub(first) > MAX_ROWS {
            return Ok(Topic::ALL.into());
        }
        let acts = self.seat.shared.store.acts_between(first, last, self.person.tenant.clone()).await?;
        let mut topics: BTreeSet<_> = acts.iter().flat_map(|act| Topic::of_act(act)).copied().collect();
        if !acts.is_empty() {
            topics.insert(Topic::Audit);
        }
        Ok(topics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_and_all_of_them_have_a_bound() {
        let streams = Streams::default();
        for _ in 0..MAX_OF_ACCOUNT {
            assert!(streams.take("ann"));
        }
        assert!(!streams.take("ann") && streams.take("bob"));
        streams.give_back("ann");
        assert!(streams.take("ann"));
        for number in 0..MAX {
            streams.take(&number.to_string());
        }
        assert!(!streams.take("eve"));
        streams.give_back("bob");
        assert!(streams.take("eve"));
        let accounts: Vec<_> = streams.lock().keys().cloned().collect();
        for account in accounts {
            for _ in 0..MAX_OF_ACCOUNT {
                streams.give_back(&account);
            }
        }
        assert!(streams.lock().is_empty());
    }

    #[test]
    fn an_act_that_is_not_known_may_have_changed_everything() {
        assert_eq!(Topic::of_act("key.mint"), [Topic::Keys, Topic::Tunnels, Topic::Usage]);
        assert_eq!(Topic::of_act("login.refused"), [Topic::Accounts]);
        assert_eq!(Topic::of_act("something.new"), Topic::ALL);
    }
}
