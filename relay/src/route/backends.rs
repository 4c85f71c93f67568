//! Several nodes that serve one name: who gets the next visitor, and who is passed over.
//!
//! A visitor goes to the node with the fewest in flight. A node whose target does not take connections rests for
//! [`REST`](health::REST); then one visitor tries it, and is passed on to another if nothing has changed. A node that stands still gets
//! nobody while there is another, from the moment that it is asked whether it is there. A node that is about to end gets
//! nobody new while there is another, and one whose connection is gone nobody at all. Of a name with one node none of this is asked.

pub(super) mod asking;
mod health;
mod life;

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::time::Instant;

pub(super) use health::Health;
pub(crate) use life::Life;

use super::Tunnel;

/// How a node stands when a visitor is to be led to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Well,
    /// It has rested: the next visitor is to try it.
    Due,
    /// It is being asked whether it is there.
    Asked,
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
            Standing::Asked => 2,
            Standing::Resting => 3,
            Standing::Leaving => 4,
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

    /// Whom a visitor is led to who may be let in. Nobody's trial is taken for that.
    pub(super) fn lead(&self) -> Option<&Arc<Tunnel>> {
        if self.others.is_empty() {
            return Some(&self.first);
        }
        let nodes = self.nodes(&[], Instant::now());
        self.iter().nth(choose(nodes, self.turn.fetch_add(1, Relaxed))?)
    }

    /// Whom a visitor is led to who is let in, if it is to be none of `not`.
    pub(super) fn lead_in(&self, not: &[Arc<Tunnel>]) -> Option<&Arc<Tunnel>> {
        if self.others.is_empty() {
            return Some(&self.first).filter(|only| !is_among(not, only));
        }
        self.pick(not).map(|(tunnel, _)| tunnel)
    }

    /// Another one than `not` of which nothing bad is known.
    pub(super) fn another(&self, not: &[Arc<Tunnel>]) -> Option<&Arc<Tunnel>> {
        let (tunnel, standing) = self.pick(not)?;
        matches!(standing, Standing::Well | Standing::Due | Standing::Asked).then_some(tunnel)
    }

    /// Whether [`Self::another`] would find one; nobody's trial is taken for that.
    pub(super) fn has_another(&self, not: impl Fn(&Arc<Tunnel>) -> bool) -> bool {
        let now = Instant::now();
        let is_one = |tunnel: &Arc<Tunnel>| {
            let standing = tunnel.health.standing(now);
            !tunnel.is_closed() && matches!(standing, Standing::Well | Standing::Due | Standing::Asked)
        };
        self.iter().any(|tunnel| !not(tunnel) && is_one(tunnel))
    }

    fn pick(&self, not: &[Arc<Tunnel>]) -> Option<(&Arc<Tunnel>, Standing)> {
        let (now, turn) = (Instant::now(), self.turn.fetch_add(1, Relaxed));
        // Whoever is to be tried may be taken by another visitor in between, and rests then.
        iter::repeat_with(|| {
            let number = choose(self.nodes(not, now), turn)?;
            let (standing, _) = self.nodes(not, now).nth(number)?;
            Some((self.iter().nth(number)?, standing))
        })
        .take(self.others.len() + 1)
        .find(|found| {
            found.is_none_or(|(tunnel, standing)| standing != Standing::Due || tunnel.health.claim_trial(now))
        })
        .flatten()
    }

    /// How each stands, and what it has in flight. None of `not` is to be had.
    fn nodes(&self, not: &[Arc<Tunnel>], now: Instant) -> impl ExactSizeIterator<Item = (Standing, usize)> {
        self.iter().map(move |tunnel| match is_among(not, tunnel) || tunnel.is_closed() {
            true => (Standing::Lost, 0),
            false => (tunnel.health.standing(now), tunnel.in_flight()),
        })
    }

    fn note_company(&self) {
        let several = !self.others.is_empty();
        for tunnel in self.iter() {
            tunnel.health.set_accompanied(several);
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

#[cfg(test)]
mod tests {
    use super::*;

    use Standing::{Asked, Due, Leaving, Lost, Resting, Well};

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
        assert_eq!(chosen(&[(Asked, 0), (Well, 9), (Resting, 0)], 0), Some(1));
        assert_eq!(chosen(&[(Resting, 0), (Asked, 9)], 0), Some(1));
        assert_eq!(chosen(&[(Resting, 3), (Lost, 0), (Resting, 2)], 0), Some(2));
        assert_eq!(chosen(&[(Leaving, 0), (Resting, 9)], 0), Some(1));
        assert_eq!(chosen(&[(Leaving, 9), (Lost, 0)], 1), Some(0));
        assert_eq!(chosen(&[(Lost, 0), (Lost, 0)], 0), None);
    }
}
