//! Followers of several coordinators on one database: what the others are told of those here, and what is heard of theirs.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mytunnel_keys::id::{PublicKey, Serial, TunnelId};
use tokio::sync::{Notify, watch};

use super::{Follower, Followers};
use crate::live::Holder;
use crate::store::{Claim, Elsewhere, Following, News};

/// Tunnels told in one go: a confirmation may be waiting behind them.
const TOLD: usize = 64;

/// What the other coordinators have not been told yet.
#[derive(Debug)]
pub(super) struct Untold {
    /// The era that the epochs of all followers belong to.
    era: AtomicU64,
    pending: Mutex<Pending>,
    changed: Notify,
}

/// Bounded by the relays that were heard of, and by the tunnels that they have up.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// With the subscription that is over.
    gone: HashMap<PublicKey, u64>,
    anew: HashSet<PublicKey>,
    /// Whether a key serves a tunnel there.
    tunnels: HashMap<(PublicKey, TunnelId, Serial), (Holder, bool)>,
}

impl Untold {
    pub(super) fn new(era: u64) -> Self {
        Self { era: AtomicU64::new(era), pending: Mutex::default(), changed: Notify::new() }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending());
        self.changed.notify_one();
    }
}

impl Pending {
    /// A relay follows, and tells anew what it has up.
    pub(super) fn came(&mut self, relay: PublicKey) {
        self.gone.remove(&relay);
        self.tunnels.retain(|(of, ..), _| *of != relay);
        self.anew.insert(relay);
    }

    /// A relay follows no more.
    pub(super) fn went(&mut self, relay: PublicKey, subscription: u64) {
        self.tunnels.retain(|(of, ..), _| *of != relay);
        self.anew.remove(&relay);
        self.still_gone(Claim { relay, subscription });
    }

    /// A subscription is over, or never began, of a relay that may have had others.
    fn still_gone(&mut self, Claim { relay, subscription }: Claim) {
        let over = self.gone.entry(relay).or_insert(subscription);
        *over = subscription.max(*over);
    }

    /// A key serves a tunnel from here on, or no longer.
    pub(super) fn tunnel(&mut self, relay: PublicKey, tunnel: TunnelId, holder: Holder, up: bool) {
        self.tunnels.insert((relay, tunnel, holder.serial), (holder, up));
    }
}

/// A relay that is taken for one of those here. If it did not become one, the others hear of that when this is dropped.
#[derive(Debug)]
pub(crate) struct Adoption<'f> {
    followers: &'f Followers,
    claim: Claim,
}

impl<'f> Adoption<'f> {
    /// From here on whoever waits for the relays hears of this one too: a change that is committed before it follows may be
    /// behind its snapshot.
    pub(crate) fn new(followers: &'f Followers, relay: PublicKey) -> Self {
        followers.expect(relay);
        let subscription = followers.subscriptions.fetch_add(1, Ordering::Relaxed) + 1;
        Self { followers, claim: Claim { relay, subscription } }
    }

    /// The subscription that it is for.
    pub(crate) const fn claim(&self) -> Claim {
        self.claim
    }
}

impl Drop for Adoption<'_> {
    fn drop(&mut self) {
        let Claim { relay, subscription } = self.claim;
        let relays = self.followers.lock();
        let follows =
            relays.get(&relay).is_some_and(|here| here.is_here() && here.subscription >= subscription);
        if !follows {
            self.followers.note(|pending| pending.still_gone(self.claim));
        }
    }
}

impl Followers {
    pub(super) fn note(&self, change: impl FnOnce(&mut Pending)) {
        if let Some(untold) = &self.untold {
            untold.note(change);
        }
    }

    /// Waits until there is something to tell the other coordinators.
    pub(in crate::feed) async fn untold(&self) {
        match &self.untold {
            Some(untold) => untold.changed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// What the other coordinators have not been told yet, or the first part of it.
    pub(in crate::feed) fn news(&self) -> News {
        let Some(untold) = &self.untold else { return News::default() };
        let mut relays = self.lock();
        let (mut following, mut claims) = (Vec::new(), HashMap::new());
        for (relay, follower) in relays.iter_mut().filter(|(_, follower)| follower.is_here()) {
            let claim = Claim { relay: *relay, subscription: follower.subscription };
            claims.insert(*relay, claim);
            let epoch = *follower.applied.borrow();
            if follower.told.replace(epoch) != Some(epoch) {
                following.push(Following { claim, epoch });
            }
        }
        let mut pending = untold.pending();
        let gone = pending.gone.drain().map(|(relay, subscription)| Claim { relay, subscription }).collect();
        let anew = pending.anew.drain().filter_map(|relay| claims.get(&relay).copied()).collect();
        let first: Vec<_> = pending.tunnels.keys().take(TOLD).copied().collect();
        let tunnels = first
            .into_iter()
            .filter_map(|key| {
                let (holder, up) = pending.tunnels.remove(&key)?;
                Some((*claims.get(&key.0)?, key.1, holder, up))
            })
            .collect();
        if !pending.tunnels.is_empty() {
            untold.changed.notify_one();
        }
        News { era: untold.era.load(Ordering::Relaxed), following, gone, anew, tunnels }
    }

    /// Something was not told, or was forgotten: all is told again.
    pub(in crate::feed) fn tell_anew(&self) {
        let mut relays = self.lock();
        let live = self.live();
        self.note(|pending| {
            for (relay, follower) in &mut *relays {
                follower.told = None;
                if follower.is_here() {
                    pending.came(*relay);
                    for (tunnel, holder) in live.of(relay) {
                        pending.tunnel(*relay, tunnel, holder, true);
                    }
                } else {
                    pending.went(*relay, follower.subscription);
                }
            }
        });
    }

    /// The tunnels of relays that follow this coordinator, with each key that serves them.
    pub(crate) fn up_here(&self) -> Vec<(TunnelId, Serial)> {
        let relays = self.lock();
        let live = self.live();
        let here = relays.iter().filter(|(_, follower)| follower.is_here());
        here.flat_map(|(relay, _)| live.of(relay)).map(|(tunnel, holder)| (tunnel, holder.serial)).collect()
    }

    /// The subscriptions to this coordinator.
    pub(in crate::feed) fn here(&self) -> HashSet<Claim> {
        let relays = self.lock();
        let here = relays.iter().filter(|(_, follower)| follower.is_here());
        here.map(|(relay, follower)| Claim { relay: *relay, subscription: follower.subscription }).collect()
    }

    /// These could not be told. They are with what is told next: a database that is away is not asked at once again.
    pub(in crate::feed) fn still_gone(&self, gone: Vec<Claim>) {
        if let Some(untold) = &self.untold {
            let mut pending = untold.pending();
            gone.into_iter().for_each(|claim| pending.still_gone(claim));
        }
    }

    /// The feed begins anew: nobody has applied anything of it, and no word about the one before counts.
    pub(crate) fn begin_era(&self, era: u64) {
        let Some(untold) = &self.untold else { return };
        let mut relays = self.lock();
        if untold.era.fetch_max(era, Ordering::Relaxed) >= era {
            return;
        }
        for (relay, follower) in &mut *relays {
            if follower.gone_since.is_none() {
                self.live().forget(relay);
                follower.go();
                untold.note(|pending| pending.went(*relay, follower.subscription));
            }
            follower.applied = watch::Sender::new(0);
        }
    }

    /// How the relays stand that follow other coordinators, by epochs of that era.
    pub(crate) fn elsewhere(&self, era: u64, rows: &[Elsewhere]) {
        self.begin_era(era);
        let mut relays = self.lock();
        if self.untold.as_ref().is_some_and(|untold| untold.era.load(Ordering::Relaxed) > era) {
            // Read before an era began that was heard of meanwhile.
            return;
        }
        for row in rows {
            match relays.get_mut(&row.relay) {
                // What a relay has applied is true whoever heard it; where it is, its own end knows first.
                Some(follower) if follower.is_here() => follower.reach(row.epoch),
                Some(follower) => {
                    follower.reach(row.epoch);
                    if row.connected {
                        (follower.elsewhere, follower.gone_since) = (true, None);
                    }
                }
                None if row.connected => {
                    let follower = Follower { elsewhere: true, ..Follower::new(0) };
                    follower.reach(row.epoch);
                    relays.insert(row.relay, follower);
                }
                None => {}
            }
        }
        let follow: HashSet<_> = rows.iter().filter(|row| row.connected).map(|row| row.relay).collect();
        for (relay, follower) in &mut *relays {
            if follower.elsewhere && !follow.contains(relay) {
                self.live().forget(relay);
                follower.go();
            }
        }
    }

    /// What a relay has up that follows another coordinator.
    pub(in crate::feed) fn tunnels_elsewhere(&self, relay: PublicKey, tunnels: Vec<(TunnelId, Holder)>) {
        let relays = self.lock();
        if relays.get(&relay).is_some_and(|follower| follower.elsewhere) {
            let mut live = self.live();
            live.forget(&relay);
            for (tunnel, holder) in tunnels {
                live.up(relay, tunnel, holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use mytunnel_keys::secret::Seed;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    fn relay(number: u8) -> PublicKey {
        Seed::from_bytes([number; 32]).public()
    }

    fn row(number: u8, epoch: u64, connected: bool) -> Elsewhere {
        Elsewhere { relay: relay(number), epoch, connected, tunnels: 0 }
    }

    fn holder() -> Holder {
        Holder { serial: Serial::from_bytes([2; 16]), parent: None }
    }

    fn tunnel(number: u16) -> TunnelId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        TunnelId::from_bytes(bytes)
    }

    fn shared() -> Followers {
        Followers::new(Duration::from_secs(900), Some(1))
    }

    async fn applied(followers: &Followers, epoch: u64) -> Vec<bool> {
        followers.confirm(epoch, LIMIT).await.into_iter().map(|answer| answer.applied).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_elsewhere_confirms_by_the_word_of_its_coordinator_and_is_named_when_that_is_gone() {
        let followers = shared();
        followers.elsewhere(1, &[row(1, 4, true)]);
        followers.tunnels_elsewhere(relay(1), vec![(tunnel(1), holder())]);
        assert!(followers.standing(&relay(1)).connected && followers.live().is_up(&tunnel(1)));
        let (answers, ()) = tokio::join!(applied(&followers, 5), async {
            followers.elsewhere(1, &[row(1, 5, true)]);
        });
        assert_eq!(answers, [true]);
        followers.elsewhere(1, &[row(1, 5, false)]);
        assert!(!followers.standing(&relay(1)).connected && !followers.live().is_up(&tunnel(1)));
        let begun = tokio::time::Instant::now();
        assert_eq!(applied(&followers, 6).await, [false]);
        assert_eq!(begun.elapsed(), Duration::ZERO, "it is not waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_applied_in_an_era_says_nothing_about_the_next() {
        let followers = shared();
        followers.attach(relay(1), 1);
        followers.applied(&relay(1), 1, 500);
        followers.elsewhere(2, &[row(2, 0, true)]);
        followers.applied(&relay(1), 1, 501);
        assert_eq!(applied(&followers, 1).await, [false, false]);
        followers.elsewhere(1, &[row(2, 500, true)]);
        assert_eq!(followers.standing(&relay(2)).epoch, 0, "a late word about the era before");
        followers.attach(relay(1), 2);
        followers.applied(&relay(1), 2, 1);
        assert_eq!(followers.standing(&relay(1)).epoch, 1);
    }

    #[tokio::test]
    async fn what_is_new_is_told_once_and_in_parts_and_all_of_it_again_if_need_be() {
        let followers = shared();
        followers.attach(relay(1), 7);
        let up: Vec<_> = (0..100).map(|number| (tunnel(number), holder())).collect();
        followers.tunnels_up(relay(1), 7, up);
        followers.applied(&relay(1), 7, 3);
        for _ in 0..2 {
            let first = followers.news();
            assert_eq!((first.era, first.anew.len(), first.tunnels.len()), (1, 1, TOLD));
            assert_eq!(
                first.following,
                [Following { claim: Claim { relay: relay(1), subscription: 7 }, epoch: 3 }]
            );
            followers.untold().await;
            let second = followers.news();
            assert_eq!((second.following.len(), second.anew.len(), second.tunnels.len()), (0, 0, 100 - TOLD));
            assert_eq!(followers.news().tunnels.len(), 0);
            followers.tell_anew();
        }
        followers.detach(&relay(1), 7);
        let last = followers.news();
        assert_eq!((last.gone, last.tunnels.len()), (vec![Claim { relay: relay(1), subscription: 7 }], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_begins_to_follow_is_named_by_whoever_waits_meanwhile() {
        for followers in [shared(), Followers::new(Duration::from_secs(900), None)] {
            let adoption = Adoption::new(&followers, relay(1));
            assert_eq!(applied(&followers, 1).await, [false], "the change may be behind its snapshot");
            followers.attach(relay(1), adoption.claim().subscription);
            drop(adoption);
            followers.applied(&relay(1), 1, 1);
            assert_eq!(applied(&followers, 1).await, [true]);
        }
    }

    #[tokio::test]
    async fn a_relay_that_was_adopted_and_does_not_follow_is_told_to_be_gone_until_that_was_heard() {
        let followers = shared();
        let adoption = Adoption::new(&followers, relay(1));
        let first = adoption.claim();
        drop(adoption);
        for _ in 0..2 {
            followers.untold().now_or_never();
            let gone = followers.news().gone;
            assert_eq!(gone, [first]);
            followers.still_gone(gone);
            assert!(followers.untold().now_or_never().is_none(), "nobody runs round in circles");
        }
        let adoption = Adoption::new(&followers, relay(1));
        let second = adoption.claim();
        assert!(second.subscription > first.subscription);
        followers.attach(relay(1), second.subscription);
        drop(adoption);
        assert_eq!((followers.news().gone, followers.here()), (vec![], HashSet::from([second])));
    }
}
