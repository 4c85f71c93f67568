//! Which relays follow the feed, how far each has come, and waiting for them.

mod sharing;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use mytunnel_keys::api::RelayApplied;
use mytunnel_keys::id::{PublicKey, Serial, TunnelId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

pub(crate) use self::sharing::Adoption;
use self::sharing::Untold;
use crate::authority::DEVICE_STALENESS;
use crate::live::{Holder, Live};

/// The relays that were heard of lately.
#[derive(Debug)]
pub(crate) struct Followers {
    relays: Mutex<HashMap<PublicKey, Follower>>,
    /// Subscriptions that were begun, or tried.
    subscriptions: AtomicU64,
    /// What they told; taken after `relays` where both are needed.
    live: Mutex<Live>,
    /// How long a relay that is gone may still serve somebody.
    hard_staleness: Duration,
    /// What the other coordinators of the database are to be told, where there can be any. Taken last.
    untold: Option<Untold>,
}

#[derive(Debug)]
struct Follower {
    applied: watch::Sender<u64>,
    /// The subscription that counts; an older one of the same relay says nothing any more.
    subscription: u64,
    gone_since: Option<Instant>,
    /// It follows another coordinator of the same database.
    elsewhere: bool,
    /// What the other coordinators know of how far it has come.
    told: Option<u64>,
}

/// How one relay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) connected: bool,
    pub(crate) epoch: u64,
}

impl Followers {
    /// Where other coordinators may work on the same database, the feed is in the era `shared`.
    pub(crate) fn new(hard_staleness: Duration, shared: Option<u64>) -> Self {
        let untold = shared.map(Untold::new);
        let (relays, live) = (Mutex::default(), Mutex::default());
        Self { relays, subscriptions: AtomicU64::new(0), live, hard_staleness, untold }
    }

    /// The longest that a relay without news serves anything: what devices share outlives the hard bound.
    pub(crate) fn gone_after(&self) -> Duration {
        self.hard_staleness.max(Duration::from_secs(DEVICE_STALENESS.into()))
    }

    /// A relay that followed before this process began may still be serving.
    pub(crate) fn expect(&self, relay: PublicKey) {
        let gone = Follower { gone_since: Some(Instant::now()), ..Follower::new(0) };
        self.lock().entry(relay).or_insert(gone);
    }

    /// A relay follows, by this subscription.
    pub(super) fn attach(&self, relay: PublicKey, subscription: u64) {
        let mut relays = self.lock();
        relays.retain(|_, follower| !follower.is_over(self.gone_after()));
        // A new watch: whoever waits for the old subscription is told that it is over.
        relays.insert(relay, Follower::new(subscription));
        // The relay tells anew what it serves.
        self.live().forget(&relay);
        self.note(|news| news.came(relay));
    }

    /// A subscription is over.
    pub(super) fn detach(&self, relay: &PublicKey, subscription: u64) {
        let mut relays = self.lock();
        if let Some(follower) = relays.get_mut(relay)
            && follower.counts(subscription)
        {
            self.live().forget(relay);
            follower.go();
            self.note(|news| news.went(*relay, subscription));
        }
    }

    /// The subscription by which a relay follows at this moment.
    pub(crate) fn subscription(&self, relay: &PublicKey) -> Option<u64> {
        self.lock().get(relay).filter(|follower| follower.is_here()).map(|follower| follower.subscription)
    }

    /// A relay told by that subscription that tunnels are up; late words of an older one are void.
    pub(crate) fn tunnels_up(&self, relay: PublicKey, subscription: u64, up: Vec<(TunnelId, Holder)>) {
        let relays = self.lock();
        if relays.get(&relay).is_some_and(|follower| follower.counts(subscription)) {
            let mut live = self.live();
            for (tunnel, holder) in up {
                live.up(relay, tunnel, holder);
                self.note(|news| news.tunnel(relay, tunnel, holder, true));
            }
        }
    }

    /// A relay told that a tunnel of that key is down.
    pub(crate) fn tunnel_down(&self, relay: PublicKey, tunnel: TunnelId, serial: Serial) {
        let relays = self.lock();
        let here = relays.get(&relay).is_some_and(Follower::is_here);
        if here && let Some(gone) = self.live().down(relay, tunnel, serial) {
            self.note(|news| news.tunnel(relay, tunnel, gone, false));
        }
    }

    /// The tunnels that are up.
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A relay told by that subscription that it acts by this epoch.
    pub(crate) fn applied(&self, relay: &PublicKey, subscription: u64, epoch: u64) {
        if let Some(follower) = self.lock().get(relay).filter(|follower| follower.counts(subscription)) {
            follower.reach(epoch);
            self.note(|_| {});
        }
    }

    /// Forgets a relay for good.
    pub(super) fn remove(&self, relay: &PublicKey) {
        let mut relays = self.lock();
        self.live().forget(relay);
        if let Some(follower) = relays.remove(relay) {
            self.note(|news| news.went(*relay, follower.subscription));
        }
    }

    /// How a relay stands.
    pub(crate) fn standing(&self, relay: &PublicKey) -> Standing {
        let relays = self.lock();
        relays.get(relay).map_or(Standing { connected: false, epoch: 0 }, |follower| Standing {
            connected: follower.gone_since.is_none(),
            epoch: *follower.applied.borrow(),
        })
    }

    /// Relays that follow at this moment.
    pub(crate) fn connected(&self) -> usize {
        self.lock().values().filter(|follower| follower.gone_since.is_none()).count()
    }

    /// How many relays follow at this moment, and the epoch by which the slowest of them acts.
    pub(crate) fn progress(&self) -> (usize, Option<u64>) {
        let relays = self.lock();
        let following = relays.values().filter(|follower| follower.gone_since.is_none());
        let epochs: Vec<u64> = following.map(|follower| *follower.applied.borrow()).collect();
        (epochs.len(), epochs.into_iter().min())
    }

    /// Waits until every connected relay acts by `epoch`, but not for longer than `limit`, and says who does.
    /// A relay that cannot be heard but may still be serving is named too.
    pub(crate) async fn confirm(&self, epoch: u64, limit: Duration) -> Vec<RelayApplied> {
        let begun = Instant::now();
        let waits: Vec<_> = {
            let relays = self.lock();
            let current = relays.iter().filter(|(_, follower)| !follower.is_over(self.gone_after()));
            current.map(|(id, follower)| (*id, follower.gone_since, follower.applied.subscribe())).collect()
        };
        let answers = waits.into_iter().map(|(id, gone, mut applied)| async move {
            let reached = match gone {
                None => {
                    let reached =
                        timeout_at(begun + limit, applied.wait_for(|reached| *reached >= epoch)).await;
                    matches!(reached, Ok(Ok(_)))
                }
                Some(_) => *applied.borrow() >= epoch,
            };
            let ms = reached.then(|| u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
            RelayApplied { id, applied: reached, ms }
        });
        let mut answers = join_all(answers).await;
        answers.sort_by_key(|answer| answer.id);
        answers
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PublicKey, Follower>> {
        // Each change under the lock is whole, so that a panic elsewhere leaves nothing half done.
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    fn new(subscription: u64) -> Self {
        let applied = watch::Sender::new(0);
        Self { applied, subscription, gone_since: None, elsewhere: false, told: None }
    }

    fn is_here(&self) -> bool {
        self.gone_since.is_none() && !self.elsewhere
    }

    fn counts(&self, subscription: u64) -> bool {
        self.subscription == subscription && self.is_here()
    }

    fn reach(&self, epoch: u64) {
        self.applied.send_if_modified(|reached| {
            let news = epoch > *reached;
            *reached = epoch.max(*reached);
            news
        });
    }

    fn go(&mut self) {
        let reached = *self.applied.borrow();
        // Dropping the old sender wakes those who wait for it.
        self.applied = watch::Sender::new(reached);
        self.gone_since = Some(Instant::now());
        self.elsewhere = false;
    }

    fn is_over(&self, gone_after: Duration) -> bool {
        self.gone_since.is_some_and(|since| since.elapsed() >= gone_after)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mytunnel_keys::id::Serial;
    use mytunnel_keys::secret::Seed;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);
    const HARD: Duration = Duration::from_secs(900);

    fn relay(number: u8) -> PublicKey {
        Seed::from_bytes([number; 32]).public()
    }

    fn following(relays: &[u8]) -> Arc<Followers> {
        let followers = Followers::new(HARD, None);
        for number in relays {
            followers.attach(relay(*number), u64::from(*number));
        }
        Arc::new(followers)
    }

    fn applied(answers: &[RelayApplied], number: u8) -> Option<bool> {
        answers.iter().find(|answer| answer.id == relay(number)).map(|answer| answer.applied)
    }

    #[tokio::test(start_paused = true)]
    async fn it_answers_as_soon_as_the_last_has_applied() {
        let followers = following(&[1, 2]);
        let waiting = tokio::task::JoinSet::from_iter([{
            let followers = followers.clone();
            async move {
                let begun = Instant::now();
                (followers.confirm(5, LIMIT).await, begun.elapsed())
            }
        }]);
        followers.applied(&relay(1), 1, 7);
        tokio::time::advance(Duration::from_millis(30)).await;
        followers.applied(&relay(2), 2, 4);
        tokio::time::advance(Duration::from_millis(10)).await;
        followers.applied(&relay(2), 2, 5);
        let (answers, took) = waiting.join_all().await.remove(0);
        assert_eq!((applied(&answers, 1), applied(&answers, 2)), (Some(true), Some(true)));
        assert!(took < Duration::from_millis(100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_is_named_after_two_seconds() {
        let followers = following(&[1, 2]);
        followers.applied(&relay(1), 1, 5);
        let begun = Instant::now();
        let answers = followers.confirm(5, LIMIT).await;
        assert_eq!((applied(&answers, 1), applied(&answers, 2)), (Some(true), Some(false)));
        assert_eq!(begun.elapsed(), LIMIT);
        assert_eq!(answers.iter().find(|answer| !answer.applied).unwrap().ms, None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_goes_while_waited_for_is_named_at_once() {
        let followers = following(&[1]);
        let (answers, ()) = tokio::join!(followers.confirm(5, LIMIT), async {
            tokio::time::advance(Duration::from_millis(50)).await;
            followers.detach(&relay(1), 1);
        });
        assert_eq!(applied(&answers, 1), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_gone_is_named_until_it_can_serve_nobody_and_not_waited_for() {
        let followers = following(&[1]);
        followers.expect(relay(2));
        followers.detach(&relay(1), 1);
        let begun = Instant::now();
        let answers = followers.confirm(1, LIMIT).await;
        assert_eq!((applied(&answers, 1), applied(&answers, 2)), (Some(false), Some(false)));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        tokio::time::advance(HARD).await;
        assert_eq!(followers.confirm(1, LIMIT).await.len(), 2, "what devices share may still be served");
        tokio::time::advance(Duration::from_secs(DEVICE_STALENESS.into()) - HARD).await;
        assert_eq!(followers.confirm(1, LIMIT).await, vec![]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_relay_told_counts_for_its_own_subscription_only() {
        let followers = following(&[1]);
        let tunnel = TunnelId::from_bytes([1; 16]);
        let holder = Holder { serial: Serial::from_bytes([2; 16]), parent: None };
        followers.tunnels_up(relay(1), 1, vec![(tunnel, holder)]);
        assert_eq!(followers.live().count_of(&holder.serial), 1);
        followers.attach(relay(1), 2);
        assert!(!followers.live().is_up(&tunnel), "a new subscription tells anew");
        followers.tunnels_up(relay(1), 1, vec![(tunnel, holder)]);
        assert!(!followers.live().is_up(&tunnel), "the old one is void");
        followers.tunnels_up(relay(1), 2, vec![(tunnel, holder)]);
        followers.detach(&relay(1), 1);
        assert!(followers.live().is_up(&tunnel));
        followers.detach(&relay(1), 2);
        assert!(!followers.live().is_up(&tunnel));
        followers.tunnels_up(relay(1), 2, vec![(tunnel, holder)]);
        assert!(!followers.live().is_up(&tunnel), "it is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_old_subscription_does_not_end_the_new_one() {
        let followers = following(&[1]);
        followers.attach(relay(1), 9);
        followers.detach(&relay(1), 1);
        assert!(followers.standing(&relay(1)).connected);
        assert_eq!(followers.subscription(&relay(1)), Some(9));
        followers.applied(&relay(1), 9, 3);
        followers.applied(&relay(1), 9, 2);
        followers.applied(&relay(1), 1, 4);
        assert_eq!(followers.standing(&relay(1)).epoch, 3);
    }
}
