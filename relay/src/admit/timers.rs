//! When something's present right ends, a connection's or a tunnel's: on the clock that only grows, and by the wall's.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    time::{Duration, Instant},
};

use super::Now;

/// One deadline for each of what it times, on both clocks.
///
/// The growing clock cannot be set back, but stands while the machine sleeps; the wall clock goes on. Whichever says
/// first that it is time counts.
#[derive(Debug)]
pub(super) struct Timers<K> {
    deadlines: HashMap<K, (Instant, Duration)>,
    by_instant: BTreeSet<(Instant, K)>,
    by_wall: BTreeSet<(Duration, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { deadlines: HashMap::new(), by_instant: BTreeSet::new(), by_wall: BTreeSet::new() }
    }
}

impl<K: Copy + Ord + Hash> Timers<K> {
    /// Sets a deadline in place of the one before.
    pub(super) fn set(&mut self, of: K, after: Duration, now: Now) {
        self.cancel(of);
        let (instant, wall) = (now.instant + after, now.unix.saturating_add(after));
        self.deadlines.insert(of, (instant, wall));
        self.by_instant.insert((instant, of));
        self.by_wall.insert((wall, of));
    }

    pub(super) fn cancel(&mut self, of: K) {
        if let Some((instant, wall)) = self.deadlines.remove(&of) {
            self.by_instant.remove(&(instant, of));
            self.by_wall.remove(&(wall, of));
        }
    }

    /// Whether there is a deadline that has not been taken out.
    pub(super) fn is_set(&self, of: &K) -> bool {
        self.deadlines.contains_key(of)
    }

    /// Takes out what has come to its time.
    pub(super) fn pop_due(&mut self, now: Now) -> Option<K> {
        let by_instant = self.by_instant.first().filter(|(at, _)| *at <= now.instant).map(|(_, of)| *of);
        let by_wall = self.by_wall.first().filter(|(at, _)| *at <= now.unix).map(|(_, of)| *of);
        let due = by_instant.or(by_wall)?;
        self.cancel(due);
        Some(due)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.by_instant.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::ConnectionId;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn connection(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn due_in_order_once_and_not_after_a_cancel() {
        let now = Now { instant: Instant::now(), unix: MINUTE };
        let later = |after| Now { instant: now.instant + after, unix: now.unix + after };
        let mut timers = Timers::default();
        timers.set(connection(1), MINUTE * 2, now);
        timers.set(connection(2), MINUTE, now);
        timers.set(connection(3), MINUTE, now);
        timers.set(connection(3), MINUTE * 3, now);
        timers.set(connection(4), MINUTE, now);
        timers.cancel(connection(4));

        assert_eq!(timers.next(), Some(now.instant + MINUTE));
        assert_eq!(timers.pop_due(now), None);
        assert_eq!(timers.pop_due(later(MINUTE)), Some(connection(2)));
        assert_eq!(timers.pop_due(later(MINUTE)), None);
        assert_eq!(timers.pop_due(later(MINUTE * 5)), Some(connection(1)));
        assert_eq!(timers.pop_due(later(MINUTE * 5)), Some(connection(3)));
        assert_eq!(timers.pop_due(later(MINUTE * 5)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn neither_sleep_nor_a_clock_set_back_prolongs_anything() {
        let now = Now { instant: Instant::now(), unix: MINUTE * 100 };
        let mut timers = Timers::default();
        timers.set(connection(1), MINUTE, now);
        let slept = Now { instant: now.instant, unix: now.unix + MINUTE };
        assert_eq!(timers.pop_due(slept), Some(connection(1)));

        timers.set(connection(2), MINUTE, now);
        let set_back = Now { instant: now.instant + MINUTE, unix: Duration::ZERO };
        assert_eq!(timers.pop_due(set_back), Some(connection(2)));
    }
}
