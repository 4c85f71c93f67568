//! The task that owns the subscriptions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mytunnel_keys::feed::{FeedWriter, Position};
use mytunnel_keys::id::PublicKey;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Followers, QUEUE};
use crate::config::Clock;
use crate::issuer::Issuer;
use crate::store::{Head, Store, StoreError};

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
    /// Does the database stand behind this coordinator?
    vouched: watch::Receiver<bool>,
    links: HashMap<PublicKey, Link>,
    /// What every link has been sent.
    position: Position,
    heartbeats: u64,
    subscriptions: u64,
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
        followers: Arc<Followers>,
        vouched: watch::Receiver<bool>,
    ) -> Self {
        let position = store.head().borrow().feed;
        let links = HashMap::new();
        Self { store, issuer, clock, followers, vouched, links, position, heartbeats: 0, subscriptions: 0 }
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
                _ = beat.tick() => {
                    self.catch_up(&mut head).await;
                    if *self.vouched.borrow() {
                        self.heartbeat(&head);
                    }
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
            self.position = committed;
        }
    }

    async fn send_up_to(&mut self, end: Position) -> Result<(), StoreError> {
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
        let now = self.clock.now();
        let state = self.store.state(now).await?;
        // The others must stand where the snapshot stands, so that the next delta follows for all.
        self.send_up_to(state.position).await?;
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

    fn heartbeat(&mut self, head: &watch::Receiver<Head>) {
        let audit_head = head.borrow().audit_hash;
        let mut writer = self.writer();
        let frame = writer.heartbeat(audit_head, self.clock.now());
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

/// A beat that skips what it missed: several at once after a pause would tell nobody anything.
fn steady(every: Duration) -> Interval {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beat
}
