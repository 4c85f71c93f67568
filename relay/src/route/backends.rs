//! Several nodes that serve one name: who gets the next visitor, and who is passed over.
//!
//! A visitor goes to the node with the fewest in flight. A node whose target does not take connections rests for
//! [`REST`]; then one visitor tries it, and is passed on to another if nothing has changed. A node that is about to end gets
//! nobody new while there is another, and one whose connection is gone nobody at all. Of a name with one node none of this is asked.

use std::{
    iter,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Tunnel;

/// How long a node is passed over whose target took no connection. A visitor who tries it then loses a round trip.
const REST: Duration = Duration::from_secs(3);

/// How a node stands when a visitor is to be led to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Well,
    /// It has rested: the next visitor is to try it.
    Due,
    Resting,
    /// It is about to end.
    Leaving,
    /// Nobody can be led there.
    Lost,
}

/// The number of the node that gets the next visitor: one to be tried before those that are well, those that rest or leave
/// only where there is no other. Of several the one with the fewest in flight; `turn` decides between equals.
fn choose(nodes: impl ExactSizeIterator<Item = (Standing, usize)>, turn: usize) -> Option<usize> {
    let count = nodes.len();
    let rank = |(number, (standing, in_flight)): (usize, (Standing, usize))| {
        let rank = match standing {
            Standing::Due => 0,
            Standing::Well => 1,
            Standing::Resting => 2,
            Standing::Leaving => 3,
            Standing::Lost => return None,
        };
        // `turn` counts on from visitor to visitor: the node at its place comes first among equals.
        let distance = (number + count - turn % count) % count;
        Some(((rank, in_flight, distance), number))
    };
    nodes.enumerate().filter_map(rank).min().map(|(_, number)| number)
}

/// The nodes of a name, of whom there is one at least.
#[derive(Debug)]
pub(super) struct Backends {
    first: Arc<Tunnel>,
    others: Vec<Arc<Tunnel>>,
    turn: AtomicUsize,
}

impl Backends {
    pub(super) fn of(first: Arc<Tunnel>) -> Self {
        Self { first, others: Vec::new(), turn: AtomicUsize::new(0) }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Tunnel>> + Clone {
        Members { first: Some(&self.first), others: self.others.iter() }
    }

    /// Whether the tunnel is one of theirs.
    pub(super) fn fits(&self, tunnel: &Tunnel) -> bool {
        (self.first.id, self.first.kind) == (tunnel.id, tunnel.kind)
    }

    pub(super) fn join(&mut self, tunnel: Arc<Tunnel>) {
        self.others.push(tunnel);
        self.note_company();
    }

    /// Takes one out; `Err` when it was the only one.
    pub(super) fn remove(&mut self, tunnel: &Arc<Tunnel>) -> Result<(), LastOne> {
        if Arc::ptr_eq(&self.first, tunnel) {
            self.first = self.others.pop().ok_or(LastOne)?;
        } else {
            self.others.retain(|other| !Arc::ptr_eq(other, tunnel));
        }
        self.note_company();
        Ok(())
    }

    /// Any of them, to look at what they have in common.
    pub(super) fn any(&self) -> &Arc<Tunnel> {
        &self.first
    }

    /// Whom a visitor is led to, if it is to be none of `not`.
    pub(super) fn lead(&self, not: &[Arc<Tunnel>]) -> Option<&Arc<Tunnel>> {
        if self.others.is_empty() {
            return Some(&self.first).filter(|only| !is_among(not, only));
        }
        self.pick(not).map(|(tunnel, _)| tunnel)
    }

    /// Another one than `not` of which nothing bad is known.
    pub(super) fn another(&self, not: &[Arc<Tunnel>]) -> Option<&Arc<Tunnel>> {
        let (tunnel, standing) = self.pick(not)?;
        matches!(standing, Standing::Well | Standing::Due).then_some(tunnel)
    }

    fn pick(&self, not: &[Arc<Tunnel>]) -> Option<(&Arc<Tunnel>, Standing)> {
        let (now, turn) = (Instant::now(), self.turn.fetch_add(1, Relaxed));
        let standing = |tunnel: &Arc<Tunnel>| match is_among(not, tunnel) || tunnel.is_closed() {
            true => Standing::Lost,
            false => tunnel.health.standing(now),
        };
        // Whoever is to be tried may be taken by another visitor in between, and rests then.
        iter::repeat_with(|| {
            let nodes = self.iter().map(|tunnel| (standing(tunnel), tunnel.in_flight()));
            let tunnel = self.iter().nth(choose(nodes, turn)?)?;
            Some((tunnel, standing(tunnel)))
        })
        .take(self.others.len() + 1)
        .find(|found| {
            found.is_none_or(|(tunnel, standing)| standing != Standing::Due || tunnel.health.claim_trial(now))
        })
        .flatten()
    }

    fn note_company(&self) {
        let several = !self.others.is_empty();
        for tunnel in self.iter() {
            tunnel.health.accompanied.store(several, Relaxed);
        }
    }
}

fn is_among(tunnels: &[Arc<Tunnel>], tunnel: &Arc<Tunnel>) -> bool {
    tunnels.iter().any(|other| Arc::ptr_eq(other, tunnel))
}

/// It was the only node of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastOne;

#[derive(Clone)]
struct Members<'a> {
    first: Option<&'a Arc<Tunnel>>,
    others: std::slice::Iter<'a, Arc<Tunnel>>,
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a Arc<Tunnel>;

    fn next(&mut self) -> Option<Self::Item> {
        self.first.take().or_else(|| self.others.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.first.is_some()) + self.others.len();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Members<'_> {}

/// What visitors have found out about a node.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Others serve the name too.
    accompanied: AtomicBool,
    /// Whether there is more to read in `state`: the hot path looks no further.
    troubled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Well,
    Rests {
        until: Instant,
    },
    Leaving,
    Lost,
}

impl Health {
    pub(super) fn is_accompanied(&self) -> bool {
        self.accompanied.load(Relaxed)
    }

    /// The target took no connection, or the node knows nothing of the tunnel.
    pub(super) fn rest(&self, now: Instant) {
        self.set(|state| match state {
            State::Well | State::Rests { .. } => State::Rests { until: now + REST },
            over @ (State::Leaving | State::Lost) => over,
        });
    }

    /// The node is about to end.
    pub(super) fn leave(&self) {
        self.set(|state| match state {
            State::Well | State::Rests { .. } | State::Leaving => State::Leaving,
            State::Lost => State::Lost,
        });
    }

    /// The connection is gone, for good.
    pub(super) fn lose(&self) {
        self.set(|_| State::Lost);
    }

    /// The target has answered.
    pub(super) fn recover(&self) {
        if self.troubled.load(Relaxed) {
            self.set(|state| match state {
                State::Well | State::Rests { .. } => State::Well,
                over @ (State::Leaving | State::Lost) => over,
            });
        }
    }

    fn standing(&self, now: Instant) -> Standing {
        if !self.troubled.load(Relaxed) {
            return Standing::Well;
        }
        match *self.lock() {
            State::Well => Standing::Well,
            State::Rests { until } if until <= now => Standing::Due,
            State::Rests { .. } => Standing::Resting,
            State::Leaving => Standing::Leaving,
            State::Lost => Standing::Lost,
        }
    }

    /// Takes the trial of a node that is due; `false` if another has it.
    fn claim_trial(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let is_due = matches!(*state, State::Rests { until } if until <= now);
        if is_due {
            *state = State::Rests { until: now + REST };
        }
        is_due
    }

    fn set(&self, change: impl FnOnce(State) -> State) {
        let mut state = self.lock();
        *state = change(*state);
        self.troubled.store(!matches!(*state, State::Well), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Standing::{Due, Leaving, Lost, Resting, Well};

    fn chosen(nodes: &[(Standing, usize)], turn: usize) -> Option<usize> {
        choose(nodes.iter().copied(), turn)
    }

    #[test]
    fn the_node_with_the_fewest_in_flight_gets_the_next_visitor() {
        for turn in 0..9 {
            assert_eq!(chosen(&[(Well, 3), (Well, 1), (Well, 2)], turn), Some(1));
        }
        assert_eq!(chosen(&[], 0), None);
    }

    #[test]
    fn equals_take_turns() {
        let equal = [(Well, 2), (Well, 2), (Well, 2)];
        assert_eq!([0, 1, 2, 3, 4].map(|turn| chosen(&equal, turn)), [0, 1, 2, 0, 1].map(Some));
        let two = [(Well, 5), (Well, 2), (Well, 2)];
        assert_eq!([0, 1, 2].map(|turn| chosen(&two, turn)), [1, 1, 2].map(Some));
        assert_eq!(chosen(&equal, usize::MAX), Some(usize::MAX % 3));
    }

    #[test]
    fn who_has_rested_is_tried_first_who_rests_serves_last_and_who_is_gone_never() {
        assert_eq!(chosen(&[(Resting, 0), (Well, 9)], 0), Some(1));
        assert_eq!(chosen(&[(Due, 9), (Well, 0)], 1), Some(0));
        assert_eq!(chosen(&[(Resting, 3), (Lost, 0), (Resting, 2)], 0), Some(2));
        assert_eq!(chosen(&[(Leaving, 0), (Resting, 9)], 0), Some(1));
        assert_eq!(chosen(&[(Leaving, 9), (Lost, 0)], 1), Some(0));
        assert_eq!(chosen(&[(Lost, 0), (Lost, 0)], 0), None);
    }

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
}
