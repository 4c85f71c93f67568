//! The task that owns the subscriptions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mytunnel_keys::feed::{FeedWriter, Position};
use mytunnel_keys::id::PublicKey;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{Followers, QUEUE};
use crate::config::Clock;
use crate::issuer::Issuer;
use crate::store::{Head, Store, StoreError};

/// How long the database may take to say whether something has changed.
const ANSWER: Duration = Duration::from_secs(2);
/// After so long without its answer relays are cut off: another coordinator may be better off.
const BLIND: Duration = Duration::from_secs(5);

/// What the publisher is asked for.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A subscription.
    Attach { relay: PublicKey, nonce: [u8; 16], answer: oneshot::Sender<Result<Attached, StoreError>> },
    /// The end of a relay that was revoked.
    Expel { relay: PublicKey, done: oneshot::Sender<()> },
}

/// A subscription that began.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) frames: mpsc::Receiver<Bytes>,
    /// Number of the subscription.
    pub(crate) subscription: u64,
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
    heartbeats: u64,
    subscriptions: u64,
    /// Since when the database has been asked in vain.
    blind: Option<Instant>,
}

#[derive(Debug)]
struct Link {
    frames: mpsc::Sender<Bytes>,
    subscription: u64,
}

impl Publisher {
    pub(crate) fn new(store: Store, issuer: Arc<Issuer>, clock: Clock, followers: Arc<Followers>) -> Self {
        let position = store.head().borrow().feed;
        let links = HashMap::new();
        let (heartbeats, subscriptions, blind) = (0, 0, None);
        Self { store, issuer, clock, followers, links, position, heartbeats, subscriptions, blind }
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
        let late = StoreError::Unreachable(Arc::new(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        match timeout(ANSWER, self.store.look_again()).await.unwrap_or(Err(late)) {
            Ok(()) => {
                if self.blind.take().is_some() {
                    tracing::info!("the database answers again");
                }
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
            let frames = self.store.frames_after(self.position.epoch).await?;
            let due: Vec<_> = frames.into_iter().take_while(|(epoch, _)| *epoch <= end.epoch).collect();
            let Some((last, _)) = due.last() else { return Err(StoreError::Malformed("feed")) };
            self.position.epoch = *last;
            for (_, frame) in due {
                self.send(&Bytes::from(frame));
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
        let bundle = self.store.bundle().await?;
        self.issuer.renew(&bundle).map_err(|_| StoreError::Malformed("trust bundle"))?;
        self.position = start;
        Ok(())
    }

    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Attach { relay, nonce, answer } => {
                let attached = self.subscribe(relay, nonce).await;
                // One who no longer waits has dropped the receiver; the link goes with the next frame.
                let _ = answer.send(attached);
            }
            Ask::Expel { relay, done } => {
                self.links.remove(&relay);
                self.followers.remove(&relay);
                // One who no longer waits does not need to know.
                let _ = done.send(());
            }
        }
    }

    async fn subscribe(&mut self, relay: PublicKey, nonce: [u8; 16]) -> Result<Attached, StoreError> {
        // Before the state is read: whoever commits behind it waits for this relay, at whichever coordinator.
        self.store.adopt(relay).await?;
        let attached = self.attach(relay, nonce).await;
        if attached.is_err() {
            self.followers.abandon(relay);
        }
        attached
    }

    async fn attach(&mut self, relay: PublicKey, nonce: [u8; 16]) -> Result<Attached, StoreError> {
        let now = self.clock.now();
        let state = self.store.state(now).await?;
        // The others must stand where the snapshot stands, so that the next delta follows for all.
        self.send_up_to(state.position).await?;
        if self.position != state.position {
            return Err(StoreError::WentBack);
        }
        let trust = self.issuer.trust();
        let snapshot = self.writer().snapshot(nonce, state.changes, trust.bundle().version, now);
        let (frames, receiver) = mpsc::channel(QUEUE);
        for frame in [Bytes::copy_from_slice(trust.bytes()), Bytes::from(snapshot)] {
            frames.try_send(frame).map_err(|_| StoreError::Closed)?;
        }
        self.subscriptions += 1;
        let subscription = self.subscriptions;
        self.links.insert(relay, Link { frames, subscription });
        self.followers.attach(relay, subscription);
        tracing::info!(%relay, epoch = self.position.epoch, "a relay follows the feed");
        Ok(Attached { frames: receiver, subscription })
    }

    fn heartbeat(&mut self, head: &watch::Receiver<Head>, now: u64) {
        let audit_head = head.borrow().audit_hash;
        let mut writer = self.writer();
        let frame = writer.heartbeat(audit_head, now);
        self.heartbeats += 1;
        self.send(&Bytes::from(frame));
    }

    fn writer(&self) -> FeedWriter {
        self.store.signer().writer(self.position, self.heartbeats)
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
