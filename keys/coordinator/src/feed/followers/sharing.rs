//! Followers of several coordinators on one database: what the others are told of those here, and what is heard of theirs.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mytunnel_keys::id::{PublicKey, TunnelId};
use tokio::sync::{Notify, watch};

use super::{Follower, Followers};
use crate::live::Holder;
use crate::store::{Elsewhere, Following, News};

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
    gone: HashSet<PublicKey>,
    anew: HashSet<PublicKey>,
    tunnels: HashMap<(PublicKey, TunnelId), Option<Holder>>,
}

impl Untold {
    pub(super) fn new(era: u64) -> Self {
        Self { era: AtomicU64::new(era), pending: Mutex::default(), changed: Notify::new() }
    }

    fn note(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }
}

impl Pending {
    /// A relay follows, and tells anew what it has up.
    pub(super) fn came(&mut self, relay: PublicKey) {
        self.gone.remove(&relay);
        self.tunnels.retain(|(of, _), _| *of != relay);
        self.anew.insert(relay);
    }

    /// A relay follows no more.
    pub(super) fn went(&mut self, relay: PublicKey) {
        self.tunnels.retain(|(of, _), _| *of != relay);
        self.anew.remove(&relay);
        self.gone.insert(relay);
    }

    /// A tunnel came up, with who serves it, or went down.
    pub(super) fn tunnel(&mut self, relay: PublicKey, tunnel: TunnelId, holder: Option<Holder>) {
        self.tunnels.insert((relay, tunnel), holder);
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
        let mut following = Vec::new();
        for (relay, follower) in relays.iter_mut().filter(|(_, follower)| follower.is_here()) {
            let epoch = *follower.applied.borrow();
            if follower.told.replace(epoch) != Some(epoch) {
                following.push(Following { relay: *relay, epoch });
            }
        }
        let mut pending = untold.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let (gone, anew) = (pending.gone.drain().collect(), pending.anew.drain().collect());
        let first: Vec<_> = pending.tunnels.keys().take(TOLD).copied().collect();
        let tunnels = first
            .into_iter()
            .filter_map(|key| pending.tunnels.remove(&key).map(|holder| (key.0, key.1, holder)))
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
                        pending.tunnel(*relay, tunnel, Some(holder));
                    }
                } else {
                    pending.went(*relay);
                }
            }
        });
    }

    /// A relay was taken for one of those here, and is not.
    pub(in crate::feed) fn abandon(&self, relay: PublicKey) {
        let relays = self.lock();
        if !relays.get(&relay).is_some_and(Follower::is_here) {
            self.note(|pending| pending.went(relay));
        }
    }

    /// The tunnels of relays that follow this coordinator.
    pub(crate) fn up_here(&self) -> Vec<TunnelId> {
        let relays = self.lock();
        let live = self.live();
        let here = relays.iter().filter(|(_, follower)| follower.is_here());
        here.flat_map(|(relay, _)| live.of(relay)).map(|(tunnel, _)| tunnel).collect()
    }

    /// Relays that follow this coordinator, and none after it.
    pub(in crate::feed) fn here(&self) -> usize {
        self.lock().values().filter(|follower| follower.is_here() && !follower.claimed).count()
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
                untold.note(|pending| pending.went(*relay));
            }
            follower.applied = watch::Sender::new(0);
        }
    }

    /// How the relays stand that follow other coordinators, by epochs of that era.
    pub(crate) fn elsewhere(&self, era: u64, rows: &[Elsewhere]) {
        self.begin_era(era);
        let mut relays = self.lock();
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
            follower.claimed = follower.is_here() && follow.contains(relay);
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
