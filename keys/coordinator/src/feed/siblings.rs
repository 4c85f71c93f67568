//! The other coordinators on the same database: each tells which relays follow it, and hears what the others tell.
//!
//! What is said is in the database; a notification only says that it is worth reading. One that gets lost costs a
//! second.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use mytunnel_keys::id::PublicKey;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{Ask, Followers};
use crate::store::{Claim, Others, Store, StoreError};

/// How often the others are asked, even if nothing is heard of them, and told that this one is there.
const EVERY: Duration = Duration::from_secs(1);
/// How long a coordinator that ends tries to say so.
const LEAVING: Duration = Duration::from_secs(1);

/// Tells and hears, on behalf of one coordinator.
#[derive(Debug)]
pub(crate) struct Siblings {
    store: Store,
    followers: Arc<Followers>,
    /// Where a relay's end is asked for.
    feed: mpsc::Sender<Ask>,
    /// The state of the tunnels of relays elsewhere that was read.
    read: HashMap<PublicKey, u64>,
    /// Whether something could not be told.
    missed: bool,
    /// Subscriptions here that nobody knew of a second ago, and that were told again then.
    unknown: HashSet<Claim>,
}

impl Siblings {
    pub(crate) fn new(store: Store, followers: Arc<Followers>, feed: mpsc::Sender<Ask>) -> Self {
        Self { store, followers, feed, read: HashMap::new(), missed: false, unknown: HashSet::new() }
    }

    /// Works until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (heard, store) = (Notify::new(), self.store.clone());
        let working = async { tokio::join!(store.listen(&heard), self.attend(&heard)) };
        stop.run_until_cancelled(working).await;
        // The others need not wait for relays that are cut off now.
        let left = timeout(LEAVING, self.store.leave()).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::debug!(?left, "cannot tell the other coordinators that this one ends");
        }
    }

    async fn attend(&mut self, heard: &Notify) {
        let mut due = interval(EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let followers = self.followers.clone();
        loop {
            let done = tokio::select! {
                () = heard.notified() => self.hear().await.map(drop),
                () = followers.untold() => self.tell().await,
                _ = due.tick() => self.meet().await,
            };
            if let Err(error) = done {
                self.missed = true;
                tracing::debug!(%error, "cannot hear of the other coordinators");
            }
        }
    }

    async fn tell(&self) -> Result<(), StoreError> {
        let news = self.followers.news();
        let gone = news.gone.clone();
        let told = self.store.tell(news).await;
        if told.is_err() {
            self.followers.still_gone(gone);
        }
        told
    }

    /// Takes in what the others say.
    async fn hear(&mut self) -> Result<Option<Others>, StoreError> {
        let Some(others) = self.store.others().await? else { return Ok(None) };
        self.followers.elsewhere(others.head.feed.era, &others.relays);
        self.read
            .retain(|known, _| others.relays.iter().any(|relay| relay.relay == *known && relay.connected));
        for relay in &others.revoked {
            // Nobody waits for it here: it is asked for again in a second, and the others must hear of this one until then.
            let _ = self.feed.try_send(Ask::Expel { relay: *relay, done: oneshot::channel().0 });
        }
        Ok(Some(others))
    }

    /// What is done also when nothing was heard.
    async fn meet(&mut self) -> Result<(), StoreError> {
        let known = self.store.show_up().await?;
        let unknown: HashSet<_> = self.followers.here().difference(&known).copied().collect();
        if std::mem::take(&mut self.missed) || !unknown.is_empty() {
            // A server that crashed has forgotten what it was told. What it does not know after that is over: the relay has
            // subscribed again, and this end has not noticed.
            for over in unknown.intersection(&self.unknown) {
                let _ = self.feed.try_send(Ask::Release(*over));
            }
            self.followers.tell_anew();
            self.tell().await?;
        }
        self.unknown = unknown;
        let Some(others) = self.hear().await? else { return Ok(()) };
        for relay in others.relays.into_iter().filter(|relay| relay.connected) {
            if self.read.get(&relay.relay) != Some(&relay.tunnels) {
                let tunnels = self.store.tunnels_elsewhere(relay.relay).await?;
                self.followers.tunnels_elsewhere(relay.relay, tunnels);
                self.read.insert(relay.relay, relay.tunnels);
            }
        }
        Ok(())
    }
}
