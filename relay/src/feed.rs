//! Follows the coordinator's feed: subscribes, checks each frame, passes on what it brought, and begins anew whenever
//! anything is wrong.
//!
//! Every subscription has a nonce of its own, so that no old answer can be played back. What is passed on has been
//! verified; the newest bundle of trust and the furthest position are kept across subscriptions and restarts.

mod outage;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use mytunnel_keys::{
    error::Code,
    feed::{Accepted, FeedError, FeedReader, Position, Report, Subscribe},
    trust::Trust,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, error::Elapsed, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    authority::{Authority, AuthorityError, FeedLink},
    memory::{Remembered, Witnessed},
    renewal::OwnCertificate,
};
use outage::{Outage, Staleness, Trouble};

/// Time for a subscription to be answered.
const SUBSCRIBE_PATIENCE: Duration = Duration::from_secs(10);

/// Silence after which a subscription is given up; heartbeats come far more often.
const SILENCE: Duration = Duration::from_secs(20);

/// Waits between attempts double from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What the driver learns of a subscription: `Linked`, then any number of `Accepted`, then `Lost`; the others at any time.
#[derive(Debug)]
pub(crate) enum News {
    /// A subscription stands.
    Linked(Link),
    /// There is a newer bundle.
    Trust(Trust),
    /// A frame was accepted.
    Accepted(Accepted),
    /// The coordinator's clock is too many seconds ahead of this one for anything to be believed.
    ClockOffset(i64),
    /// The subscription is over.
    Lost,
    /// The relay has a new certificate of its own.
    Certificate(OwnCertificate),
    /// The coordinator does not count the relay among its own any more.
    Expelled,
}

impl News {
    /// What a coordinator's refusal says about the relay itself, if it does.
    pub(crate) fn expelled(error: &AuthorityError) -> Option<Self> {
        let AuthorityError::Refused { code: Code::KeyRevoked | Code::InvalidKey, .. } = error else {
            return None;
        };
        Some(Self::Expelled)
    }
}

/// The driver's end of a subscription.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where reports go.
    pub(crate) reports: mpsc::Sender<Report>,
    /// Dropped to have the subscription begin anew.
    pub(crate) _held: DropGuard,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) authority: Arc<dyn Authority>,
    /// Where nodes reach this relay.
    pub(crate) addrs: Vec<String>,
    pub(crate) trust: Trust,
    pub(crate) last: Option<Position>,
    pub(crate) news: mpsc::Sender<News>,
    /// What was last kept of the audit log's end.
    pub(crate) witnessed: Option<Witnessed>,
    pub(crate) remember: watch::Sender<Remembered>,
    /// Time without news after which what is served is ended.
    pub(crate) hard_staleness: Duration,
}

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("a frame was refused")]
    Frame(#[from] FeedError),
    #[error("the coordinator was silent for too long")]
    Silent(#[from] Elapsed),
    #[error("the coordinator closed the feed")]
    Closed,
    #[error("the coordinator does not take reports")]
    Unheard,
    #[error("nobody listens to the news")]
    NoListener,
    #[error("no randomness for a nonce")]
    Random(#[from] getrandom::Error),
}

impl Follower {
    /// Follows until cancelled, or until nobody listens.
    pub(crate) async fn run(mut self, cancelled: CancellationToken) {
        let mut failures = 0;
        let mut outage = Outage::new(self.hard_staleness, now());
        loop {
            let mut stood = false;
            let following = self.follow(&mut stood, &mut outage);
            let Some(Err(broken)) = cancelled.run_until_cancelled(following).await else {
                return;
            };
            // What breaks while everything ends is no news.
            if matches!(broken, Broken::NoListener) || cancelled.is_cancelled() {
                return;
            }
            explain(&broken, &mut outage);
            let expelled = if let Broken::Authority(error) = &broken { News::expelled(error) } else { None };
            for news in expelled.into_iter().chain([News::Lost]) {
                if self.news.send(news).await.is_err() {
                    return;
                }
            }
            failures = if stood { 0 } else { failures + 1 };
            let wait = wait_after(failures, SystemTime::now());
            if cancelled.run_until_cancelled(sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// One subscription; returns when it is over. `stood` says whether it began at all.
    async fn follow(
        &mut self,
        stood: &mut bool,
        outage: &mut Outage,
    ) -> Result<std::convert::Infallible, Broken> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        let request = Subscribe { nonce, addrs: self.addrs.clone(), since: self.last };
        let FeedLink { mut frames, reports } =
            timeout(SUBSCRIBE_PATIENCE, self.authority.subscribe(request)).await??;
        let mut reader = FeedReader::new(nonce, self.trust.clone(), self.last);
        let held = CancellationToken::new();
        let mut link = Some(Link { reports, _held: held.clone().drop_guard() });
        loop {
            let frame = held.run_until_cancelled(timeout(SILENCE, frames.recv())).await;
            let frame = frame.ok_or(Broken::Unheard)??.ok_or(Broken::Closed)?;
            let accepted = match reader.accept(&frame, unix_seconds()) {
                Ok(accepted) => accepted,
                Err(error) => return Err(self.refused(error).await),
            };
            if reader.trust().bundle().version != self.trust.bundle().version {
                self.trust = reader.trust().clone();
                self.keep();
                self.tell(News::Trust(self.trust.clone())).await?;
            }
            if matches!(accepted, Accepted::Trust { .. }) {
                continue;
            }
            if let Accepted::Heartbeat { audit_head, .. } = accepted {
                self.witnessed = Some(Witnessed::next(self.witnessed, audit_head, unix_seconds()));
            }
            let away = outage.heard(now());
            if let Some(link) = link.take() {
                *stood = true;
                let epoch = reader.position().map(|at| at.epoch);
                match away.map(|away| away.as_secs()) {
                    Some(away_seconds) => tracing::info!(epoch, away_seconds, "the coordinator is back"),
                    None => tracing::debug!(epoch, "following the coordinator's feed"),
                }
                self.tell(News::Linked(link)).await?;
            }
            self.tell(News::Accepted(accepted)).await?;
            self.last = reader.position();
            self.keep();
        }
    }

    async fn tell(&self, news: News) -> Result<(), Broken> {
        self.news.send(news).await.map_err(|_| Broken::NoListener)
    }

    async fn refused(&self, error: FeedError) -> Broken {
        if let FeedError::Clock(offset) = error
            && let Err(gone) = self.tell(News::ClockOffset(offset)).await
        {
            return gone;
        }
        error.into()
    }

    fn keep(&self) {
        let (position, trust, witnessed) = (self.last, self.trust.bytes(), self.witnessed);
        self.remember.send_if_modified(|kept| {
            let changed = kept.position != position || kept.trust != trust || kept.witnessed != witnessed;
            if changed {
                *kept = Remembered { position, trust: trust.to_vec(), witnessed };
            }
            changed
        });
    }
}

/// Says what is new; an attempt that fails as the one before did is only for who looks closely.
fn explain(broken: &Broken, outage: &mut Outage) {
    let error = broken as &dyn std::error::Error;
    let change = outage.failed(Trouble::of(broken), now());
    match change.trouble {
        Some(Trouble::Behind) => tracing::error!(
            error,
            "the coordinator knows less than this relay has seen, as after a restore from a backup; \
             until it begins a new era, nothing is admitted here"
        ),
        Some(Trouble::Clock) => tracing::error!(
            error,
            "this machine's clock or the coordinator's is wrong; nothing is admitted until they agree"
        ),
        Some(Trouble::Internal) => tracing::error!(error, "feed ended"),
        Some(Trouble::Away | Trouble::Refused(_) | Trouble::NotACoordinator | Trouble::Frame) => {
            tracing::warn!(error, "feed interrupted; subscribing again until it stands");
        }
        None => tracing::debug!(error, "no feed yet"),
    }
    match change.staleness {
        Some(Staleness::Soft) => tracing::warn!(
            "no word from the coordinator for a minute; no new registration is taken until there is"
        ),
        Some(Staleness::Hard) => tracing::error!(
            "no word from the coordinator for too long; what this relay serves is ended until there is"
        ),
        Some(Staleness::Fresh) | None => {}
    }
}

/// How long to wait after so many failures in a row: doubling, with up to a quarter more so that relays which lost
/// their coordinator together do not come back together.
fn wait_after(failures: u32, now: SystemTime) -> Duration {
    let wait = FIRST_WAIT.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LAST_WAIT);
    let spread = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.subsec_nanos() % 1024);
    wait + wait * spread / 4096
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::feed::Change;
    use tokio::task::JoinSet;
    use tracing::Level;

    use super::*;
    use crate::testing::{coordinator::TestCoordinator, logged::Logged, serial, trust_now};

    /// Follows `coordinator` on a task.
    fn follow(coordinator: &TestCoordinator) -> (mpsc::Receiver<News>, JoinSet<()>) {
        let (news, heard) = mpsc::channel(64);
        let trust = trust_now();
        let remembered = Remembered { position: None, trust: trust.bytes().to_vec(), witnessed: None };
        let follower = Follower {
            authority: Arc::new(coordinator.clone()),
            addrs: Vec::new(),
            trust,
            last: None,
            news,
            witnessed: None,
            remember: watch::channel(remembered).0,
            hard_staleness: Duration::from_secs(900),
        };
        let mut task = JoinSet::new();
        task.spawn(follower.run(CancellationToken::new()));
        (heard, task)
    }

    /// Returns with the next news of this kind.
    async fn until(heard: &mut mpsc::Receiver<News>, pick: impl Fn(&News) -> bool) -> News {
        let found = async {
            loop {
                let news = heard.recv().await.expect("it follows");
                if pick(&news) {
                    return news;
                }
            }
        };
        timeout(Duration::from_secs(7200), found).await.expect("in time")
    }

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_is_away_is_told_once_for_each_condition() {
        let logged = Logged::start();
        let (coordinator, _reports) = TestCoordinator::new();
        let (mut heard, _task) = follow(&coordinator);
        let _link = until(&mut heard, |news| matches!(news, News::Linked(_))).await;
        assert_eq!(logged.take(Level::INFO).len(), 0);

        coordinator.set_reachable(false);
        let start = Instant::now();
        let mut attempts = 0;
        while start.elapsed() < Duration::from_secs(3600) {
            until(&mut heard, |news| matches!(news, News::Lost)).await;
            attempts += 1;
        }
        assert!(attempts > 500, "{attempts}");
        // Interrupted, stale, ended.
        assert_eq!(logged.alarms(), 3, "{:?}", logged.take(Level::WARN));

        logged.take(Level::INFO);
        coordinator.set_reachable(true);
        let _link = until(&mut heard, |news| matches!(news, News::Linked(_))).await;
        let back = logged.take(Level::INFO);
        assert!(back.len() == 1 && back[0].contains("away_seconds=36"), "{back:?}");
        coordinator.change(Change::Revoke { serial: serial(1), until: 5 });
        until(&mut heard, |news| matches!(news, News::Accepted(Accepted::Delta { .. }))).await;
        let alarms = logged.alarms();
        assert_eq!(alarms, 0, "{:?}", logged.take(Level::WARN));
    }

    #[test]
    fn waits_grow_to_a_bound() {
        let waits: Vec<_> = (0..40).map(|failures| wait_after(failures, SystemTime::UNIX_EPOCH)).collect();
        assert_eq!(waits[0], FIRST_WAIT);
        assert_eq!(waits[3], FIRST_WAIT * 8);
        assert!(waits.is_sorted());
        assert_eq!(waits[39], LAST_WAIT);
        let spread = SystemTime::UNIX_EPOCH + Duration::from_nanos(1023);
        assert!(wait_after(0, spread) > FIRST_WAIT && wait_after(0, spread) < FIRST_WAIT * 5 / 4);
    }
}
