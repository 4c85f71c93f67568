//! The task that owns the subscriptions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mytunnel_keys::feed::Position;
use mytunnel_keys::id::PublicKey;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{Followers, QUEUE};
use crate::agreement::{self, Agreement};
use crate::config::{Clock, Limits};
use crate::issuer::Issuer;
use crate::store::{Claim, Head, State, Store, StoreError};

/// How long one line to the database may take to answer, and how many are asked in turn. Relays that follow wait as long
/// for a change, and whoever made it waits for them for two seconds.
const ANSWER: Duration = Duration::from_millis(600);
const LINES: usize = 3;
/// Frames that are kept for relays whose snapshot was read while others were sent. They fit into a relay's queue.
const RECENT: usize = QUEUE / 2;
/// After so long without its answer relays are cut off: another coordinator may be better off.
const BLIND: Duration = Duration::from_secs(5);

/// What the publisher is asked for.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A subscription. It waits for nothing that the database has to answer but what was committed.
    Attach(Attach),
    /// The end of a subscription whose relay has a later one at another coordinator.
    Release(Claim),
    /// The end of a relay that was revoked.
    Expel { relay: PublicKey, done: oneshot::Sender<()> },
}

/// A subscription that is asked for.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) claim: Claim,
    pub(crate) nonce: [u8; 16],
    /// What its snapshot tells: read after every coordinator has heard of this relay.
    pub(crate) state: State,
    pub(crate) answer: oneshot::Sender<Result<Attached, StoreError>>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Attached {
    /// It began.
    Follows(mpsc::Receiver<Bytes>),
    /// More has changed since its state was read than is kept.
    Outdated,
    /// The relay has subscribed again since.
    Superseded,
}

/// Sends the feed.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: Store,
    issuer: Arc<Issuer>,
    clock: Clock,
    followers: Arc<Followers>,
    links: HashMap<PublicKey, Link>,
    /// What every link has been sent.
    position: Position,
    /// The last deltas up to there, with their epochs.
    recent: VecDeque<(u64, Bytes)>,
    heartbeats: u64,
    /// Since when the database has been asked in vain.
    blind: Option<Instant>,
    /// How far the clock may be from the database server's, in seconds, and how it stood last.
    offset_limit: u64,
    agreement: Agreement,
}

#[derive(Debug)]
struct Link {
    frames: mpsc::Sender<Bytes>,
    subscription: u64,
}

impl Publisher {
    pub(crate) fn new(
        store: Store,
        issuer: Arc<Issuer>,
        clock: Clock,
        limits: &Limits,
        followers: Arc<Followers>,
    ) -> Self {
        let position = store.head().borrow().feed;
        let links = HashMap::new();
        let (recent, heartbeats, blind) = (VecDeque::with_capacity(RECENT), 0, None);
        let (offset_limit, agreement) = (limits.clock_offset.as_secs(), Agreement::Near);
        Self {
            store,
            issuer,
            clock,
            followers,
            links,
            position,
            recent,
            heartbeats,
            blind,
            offset_limit,
            agreement,
        }
    }

    /// Works until `stop`.
    pub(crate) async fn run(
        mut self,
        mut asked: mpsc::Receiver<Ask>,
        every: Duration,
        stop: CancellationToken,
    ) {
        let mut head = self.store.head();
        let mut beat = steady(every);
        loop {
            tokio::select! {
                // Changes of rights before new subscribers before signs of life.
                biased;
                () = stop.cancelled() => return,
                changed = head.changed() => match changed {
                    Ok(()) => self.catch_up(&mut head).await,
                    Err(_) => return,
                },
                Some(ask) = asked.recv() => self.answer(ask).await,
                _ = beat.tick() => self.beat(&mut head).await,
            }
        }
    }

    /// A sign of life: nothing was committed but what was sent, by any coordinator. Who has not asked the database does not
    /// know that.
    async fn beat(&mut self, head: &mut watch::Receiver<Head>) {
        let asked_at = self.clock.now();
        match soon(ANSWER, || self.store.look_again(&self.clock)).await {
            Ok(()) => {
                if self.blind.take().is_some() {
                    tracing::info!("the database answers again");
                }
                self.compare_clocks();
                self.catch_up(head).await;
                self.heartbeat(head, asked_at);
            }
            Err(error) => {
                if self.blind.is_none() {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        "cannot ask the database whether something has changed; relays hear nothing"
                    );
                }
                if self.blind.get_or_insert_with(Instant::now).elapsed() >= BLIND {
                    self.cut_off_all();
                }
            }
        }
    }

    /// Says what has become of the clocks, when that changes.
    fn compare_clocks(&mut self) {
        let offset = self.store.clock_offset();
        let agreement = agreement::judge(offset, self.offset_limit);
        if agreement == std::mem::replace(&mut self.agreement, agreement) {
            return;
        }
        let clock = agreement::told(offset);
        match agreement {
            Agreement::Near => tracing::info!(clock, "the clock agrees with the database server's again"),
            Agreement::Off => tracing::warn!(clock, "the clock differs from the database server's"),
            Agreement::TooFar => tracing::error!(
                clock,
                "the clock is too far from the database server's; this coordinator is not ready: set both by a time server"
            ),
        }
    }

    /// Sends all that was committed.
    async fn catch_up(&mut self, head: &mut watch::Receiver<Head>) {
        let committed = head.borrow_and_update().feed;
        if let Err(error) = self.send_up_to(committed).await {
            // Heartbeats without the frames before them would tell the relays that nothing has changed.
            tracing::error!(%error, "cannot read the feed; every relay is cut off");
            self.cut_off_all();
            // Of another era nothing is said before its bundle was read.
            if committed.era == self.position.era {
                self.position = later(self.position, committed);
            }
        }
    }

    /// Sends what follows the position up to `end`; nothing if that was sent already.
    async fn send_up_to(&mut self, end: Position) -> Result<(), StoreError> {
        if end.era > self.position.era {
            return self.begin_era(end).await;
        }
        if later(self.position, end) == self.position {
            return Ok(());
        }
        while self.position.epoch < end.epoch {
            let frames = soon(ANSWER, || self.store.frames_after(self.position.epoch)).await?;
            let due: Vec<_> = frames.into_iter().take_while(|(epoch, _)| *epoch <= end.epoch).collect();
            let Some((last, _)) = due.last() else { return Err(StoreError::Malformed("feed")) };
            self.position.epoch = *last;
            for (epoch, frame) in due {
                let frame = Bytes::from(frame);
                self.send(&frame);
                if self.recent.len() == RECENT {
                    self.recent.pop_front();
                }
                self.recent.push_back((epoch, frame));
            }
        }
        self.position = end;
        Ok(())
    }

    /// Another coordinator began the feed anew: relays subscribe again, under the bundle that says so.
    async fn begin_era(&mut self, start: Position) -> Result<(), StoreError> {
        tracing::warn!(era = start.era, "the feed begins anew");
        self.cut_off_all();
        self.followers.begin_era(start.era);
        self.recent.clear();
        let bundle = soon(ANSWER, || self.store.bundle()).await?;
        self.issuer.renew(&bundle).map_err(|_| StoreError::Malformed("trust bundle"))?;
        self.position = start;
        Ok(())
    }

    async fn answer(&mut self, ask: Ask) {
        match ask {
            // Nobody is there any more where it was asked for.
            Ask::Attach(asked) if asked.answer.is_closed() => {}
            Ask::Attach(asked) => {
                let Attach { claim, nonce, state, answer } = asked;
                let attached = self.attach(claim, nonce, state).await;
                // One who no longer waits has dropped the receiver; the link goes with the next frame.
                let _ = answer.send(attached);
            }
            Ask::Release(Claim { relay, subscription }) => {
                if self.links.get(&relay).is_some_and(|link| link.subscription == subscription) {
                    tracing::info!(%relay, "a relay follows another coordinator");
                    self.links.remove(&relay);
                    self.followers.detach(&relay, subscription);
                }
            }
            Ask::Expel { relay, done } => {
                self.links.remove(&relay);
                self.followers.remove(&relay);
                // One who no longer waits does not need to know.
                let _ = done.send(());
            }
        }
    }

    async fn attach(
        &mut self,
        Claim { relay, subscription }: Claim,
        nonce: [u8; 16],
        State { position, changes }: State,
    ) -> Result<Attached, StoreError> {
        if self.links.get(&relay).is_some_and(|link| link.subscription > subscription) {
            return Ok(Attached::Superseded);
        }
        self.send_up_to(position).await?;
        let Some(since) = self.since(position)? else { return Ok(Attached::Outdated) };
        let trust = self.issuer.trust();
        let writer = self.store.signer().writer(position, self.heartbeats);
        let snapshot = writer.snapshot(nonce, changes, trust.bundle().version, self.clock.now());
        let (frames, receiver) = mpsc::channel(QUEUE);
        for frame in [Bytes::copy_from_slice(trust.bytes()), Bytes::from(snapshot)].into_iter().chain(since) {
            frames.try_send(frame).map_err(|_| StoreError::Closed)?;
        }
        self.links.insert(relay, Link { frames, subscription });
        self.followers.attach(relay, subscription);
        tracing::info!(%relay, epoch = self.position.epoch, "a relay follows the feed");
        Ok(Attached::Follows(receiver))
    }

    /// What has been sent since the feed stood there, so that the next delta follows for all; none if not all of it is kept.
    fn since(&self, state: Position) -> Result<Option<Vec<Bytes>>, StoreError> {
        if state.era != self.position.era {
            return Ok(None);
        }
        if state.epoch == self.position.epoch {
            return if state == self.position { Ok(Some(Vec::new())) } else { Err(StoreError::WentBack) };
        }
        let since = self.recent.iter().filter(|(epoch, _)| *epoch > state.epoch);
        let since: Vec<_> = since.map(|(_, frame)| frame.clone()).collect();
        let all = since.len() as u64 == self.position.epoch.saturating_sub(state.epoch);
        Ok(all.then_some(since))
    }

    fn heartbeat(&mut self, head: &watch::Receiver<Head>, now: u64) {
        let audit_head = head.borrow().audit_hash;
        let mut writer = self.store.signer().writer(self.position, self.heartbeats);
        let frame = writer.heartbeat(audit_head, now);
        self.heartbeats += 1;
        self.send(&Bytes::from(frame));
    }

    fn send(&mut self, frame: &Bytes) {
        let followers = &self.followers;
        self.links.retain(|relay, link| match link.frames.try_send(frame.clone()) {
            Ok(()) => true,
            Err(error) => {
                let slow = matches!(error, mpsc::error::TrySendError::Full(_));
                tracing::info!(%relay, slow, "a relay no longer follows the feed");
                followers.detach(relay, link.subscription);
                false
            }
        });
    }

    fn cut_off_all(&mut self) {
        for (relay, link) in self.links.drain() {
            self.followers.detach(&relay, link.subscription);
        }
    }
}

/// What the database answers, where one line to it may take so long. The next may be free where that one is stuck.
pub(crate) async fn soon<T, A>(patience: Duration, ask: impl Fn() -> A) -> Result<T, StoreError>
where
    A: Future<Output = Result<T, StoreError>>,
{
    for _ in 0..LINES {
        if let Ok(answered) = timeout(patience, ask()).await {
            return answered;
        }
    }
    Err(StoreError::late())
}

/// The later of two places in the feed.
fn later(one: Position, other: Position) -> Position {
    if (other.era, other.epoch) > (one.era, one.epoch) { other } else { one }
}

/// A beat that skips what it missed: several at once after a pause would tell nobody anything.
fn steady(every: Duration) -> Interval {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beat
}
