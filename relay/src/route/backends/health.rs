//! What visitors have found out about a node.
//!
//! A node that stands still keeps its connection, whose other end is in its kernel. So where others stand beside it, who waits
//! for an answer while nothing at all is heard of the node has it asked whether it is there ([`asking`](super::asking)), once for all
//! who wait. While it is asked others are preferred, and when it says nothing it rests until something is heard of it again.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use super::{
    Standing,
    life::{Life, Look},
};

/// How long a node is passed over whose target took no connection. A visitor who tries it then loses a round trip.
pub(super) const REST: Duration = Duration::from_secs(3);

/// The same of one that has not said whether it is there. Who tries it then asks it first.
const SILENT_REST: Duration = Duration::from_secs(10);

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::route) struct Health {
    /// Others serve the name too.
    accompanied: AtomicBool,
    /// Whether there is more to read in `state`: the hot path looks no further.
    troubled: AtomicBool,
    state: Mutex<State>,
    /// It is being asked whether it is there.
    asked: AtomicBool,
    /// That has ended.
    told: Notify,
    life: Arc<Life>,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Well,
    Rests {
        until: Instant,
    },
    /// It does not say whether it is there, for as long as nothing was heard of it since.
    Silent {
        until: Instant,
        heard: Look,
    },
    Leaving,
    Lost,
}

impl Health {
    pub(in crate::route) fn of(life: Arc<Life>) -> Self {
        Self { life, ..Self::default() }
    }

    pub(in crate::route) fn life(&self) -> &Arc<Life> {
        &self.life
    }

    pub(in crate::route) fn is_accompanied(&self) -> bool {
        self.accompanied.load(Relaxed)
    }

    pub(super) fn set_accompanied(&self, several: bool) {
        self.accompanied.store(several, Relaxed);
    }

    /// Takes the right to ask whether it is there.
    pub(in crate::route) fn ask(self: &Arc<Self>) -> Option<Probe> {
        let is_free = !self.asked.swap(true, Relaxed);
        is_free.then(|| Probe(Arc::clone(self)))
    }

    /// Completes when who asks it next, or asks it already, knows more.
    pub(in crate::route) fn told(&self) -> Notified<'_> {
        self.told.notified()
    }

    pub(in crate::route) fn is_well(&self, now: Instant) -> bool {
        self.standing(now) == Standing::Well
    }

    /// Whether it has not said that it is there, when it was asked last.
    pub(in crate::route) fn is_silent(&self) -> bool {
        self.troubled.load(Relaxed) && matches!(self.now(&self.lock()), State::Silent { .. })
    }

    /// It does not say that it is there.
    pub(in crate::route) fn fall_silent(&self, now: Instant) {
        let heard = self.life.heard();
        self.set(|state| match state {
            State::Well | State::Rests { .. } | State::Silent { .. } => {
                State::Silent { until: now + SILENT_REST, heard }
            }
            over @ (State::Leaving | State::Lost) => over,
        });
    }

    /// The target took no connection, or the node knows nothing of the tunnel.
    pub(in crate::route) fn rest(&self, now: Instant) {
        self.set(|state| match state {
            State::Well | State::Rests { .. } => State::Rests { until: now + REST },
            over @ (State::Silent { .. } | State::Leaving | State::Lost) => over,
        });
    }

    /// The node is about to end.
    pub(in crate::route) fn leave(&self) {
        self.set(|state| match state {
            State::Well | State::Rests { .. } | State::Silent { .. } | State::Leaving => State::Leaving,
            State::Lost => State::Lost,
        });
    }

    /// The connection is gone, for good.
    pub(in crate::route) fn lose(&self) {
        self.set(|_| State::Lost);
    }

    /// The target has answered.
    pub(in crate::route) fn recover(&self) {
        if self.troubled.load(Relaxed) {
            self.set(|state| match state {
                State::Well | State::Rests { .. } | State::Silent { .. } => State::Well,
                over @ (State::Leaving | State::Lost) => over,
            });
        }
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        let well = if self.asked.load(Relaxed) { Standing::Asked } else { Standing::Well };
        if !self.troubled.load(Relaxed) {
            return well;
        }
        match self.now(&self.lock()) {
            State::Well => well,
            State::Rests { until } | State::Silent { until, .. } if until <= now => Standing::Due,
            State::Rests { .. } | State::Silent { .. } => Standing::Resting,
            State::Leaving => Standing::Leaving,
            State::Lost => Standing::Lost,
        }
    }

    /// Takes the trial of a node that is due; `false` if another has it.
    pub(super) fn claim_trial(&self, now: Instant) -> bool {
        let mut state = self.lock();
        *state = match self.now(&state) {
            State::Rests { until } if until <= now => State::Rests { until: now + REST },
            State::Silent { until, heard } if until <= now => {
                State::Silent { until: now + SILENT_REST, heard }
            }
            State::Well | State::Rests { .. } | State::Silent { .. } | State::Leaving | State::Lost => {
                return false;
            }
        };
        true
    }

    /// How it is, with what was heard meanwhile.
    fn now(&self, state: &State) -> State {
        match *state {
            State::Silent { heard, .. } if self.life.is_heard_since(heard) => State::Well,
            other @ (State::Well
            | State::Rests { .. }
            | State::Silent { .. }
            | State::Leaving
            | State::Lost) => other,
        }
    }

    fn set(&self, change: impl FnOnce(State) -> State) {
        let mut state = self.lock();
        *state = change(self.now(&state));
        self.troubled.store(!matches!(*state, State::Well), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to ask a node whether it is there, which one has at a time. Its end wakes who waits for what came of it.
#[derive(Debug)]
#[must_use = "it is asked for as long as this is held"]
pub(in crate::route) struct Probe(Arc<Health>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.asked.store(false, Relaxed);
        self.0.told.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Standing::{Asked, Due, Leaving, Lost, Resting, Well};

    #[tokio::test(start_paused = true)]
    async fn after_a_rest_one_visitor_tries_and_its_success_is_the_end_of_it() {
        let health = Health::default();
        assert_eq!(health.standing(Instant::now()), Well);
        health.rest(Instant::now());
        assert_eq!(health.standing(Instant::now()), Resting);
        tokio::time::advance(REST).await;
        let now = Instant::now();
        assert_eq!(health.standing(now), Due);
        assert!(health.claim_trial(now) && !health.claim_trial(now));
        assert_eq!(health.standing(now), Resting, "nobody else tries meanwhile");
        tokio::time::advance(REST).await;
        assert!(health.claim_trial(Instant::now()), "the trial that came to nothing is not the last");
        health.recover();
        assert_eq!(health.standing(Instant::now()), Well);
        health.leave();
        health.recover();
        health.rest(Instant::now());
        assert_eq!(health.standing(Instant::now()), Leaving);
        health.lose();
        health.recover();
        health.leave();
        health.rest(Instant::now());
        assert_eq!(health.standing(Instant::now()), Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_says_nothing_rests_until_it_is_heard() {
        let health = Arc::new(Health::default());
        let now = Instant::now();
        let probe = health.ask().unwrap();
        assert!(health.ask().is_none(), "one at a time");
        assert_eq!(health.standing(now), Asked);
        health.fall_silent(now);
        drop(probe);
        assert!(health.is_silent() && health.ask().is_some());
        assert_eq!(health.standing(now), Resting);
        tokio::time::advance(SILENT_REST).await;
        let now = Instant::now();
        assert_eq!(health.standing(now), Due);
        assert!(health.claim_trial(now) && !health.claim_trial(now));
        assert!(health.is_silent(), "who tries it asks it first");
        health.rest(now);
        assert!(health.is_silent(), "that it takes no pipe is nothing new");
        health.life().hear();
        assert!(!health.is_silent() && !health.claim_trial(now));
        assert_eq!(health.standing(now), Well);
        health.rest(now);
        health.life().hear();
        assert_eq!(health.standing(now), Resting, "a node that lives may have a server that does not");
    }
}
