//! Which of the paths to a node is taken, and why.
//!
//! One that answers before one that does not, a direct one before one through a relay, then the shorter round trip. A path
//! that is taken is left for a shorter one only if that is shorter by much and it was taken for a while, and for its
//! silence ever less readily: pings are late where much is under way, and what moves sends again what was on its way.
//!
//! The owner calls [`Chooser::choose`] whenever a path comes, goes, answers or falls silent.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use libp2p::swarm::ConnectionId;

use crate::share::Path;

/// Time for which a path is taken at least before a shorter one takes its place.
const STAY: Duration = Duration::from_secs(10);

/// The least by which a round trip must be shorter, and the part of the longer one.
const SHORTER: Duration = Duration::from_millis(5);
const PART: u32 = 4;

/// Time for which a path is taken at least before its silence counts, which doubles each time up to the longest.
const DOUBT: Duration = Duration::from_secs(2);
const LONGEST_DOUBT: Duration = Duration::from_secs(60);

/// A path that was taken for so long puts earlier doubts to rest.
const RESTED: Duration = Duration::from_secs(300);

/// A path that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) connection: ConnectionId,
    pub(crate) path: Path,
    /// Once it is known.
    pub(crate) rtt: Option<Duration>,
    /// Whether a ping was not answered in time.
    pub(crate) is_silent: bool,
}

/// Why a path is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// There is no other.
    Only,
    /// It does not lead through a relay.
    Direct,
    /// Of several relays.
    Shorter,
    /// The others do not answer.
    Answers,
}

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Chooser {
    taken: Option<Taken>,
    /// Paths left for their silence, without long rest between.
    doubts: u32,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    connection: ConnectionId,
    since: Instant,
}

impl Chooser {
    /// The path to take of those that stand.
    pub(crate) fn choose(&mut self, paths: &[Candidate], now: Instant) -> Option<ConnectionId> {
        let best = paths.iter().max_by_key(|path| path.rank())?;
        let held = self.taken.and_then(|taken| Some((taken, taken.among(paths)?)));
        let connection = match held {
            Some((taken, held)) if !self.is_better(best, held, now.duration_since(taken.since)) => {
                return Some(held.connection);
            }
            Some(_) | None => best.connection,
        };
        self.taken = Some(Taken { connection, since: now });
        Some(connection)
    }

    /// Why the path that was chosen last is taken.
    pub(crate) fn reason(&self, paths: &[Candidate]) -> Reason {
        let Some(held) = self.taken.and_then(|taken| taken.among(paths)) else { return Reason::Only };
        let others = || paths.iter().filter(|path| path.connection != held.connection);
        if held.path == Path::Direct {
            Reason::Direct
        } else if others().next().is_none() {
            Reason::Only
        } else if !held.is_silent && others().all(|other| other.is_silent) {
            Reason::Answers
        } else {
            Reason::Shorter
        }
    }

    /// Whether `best` takes the place of `held`, which was taken for this long.
    fn is_better(&mut self, best: &Candidate, held: &Candidate, stayed: Duration) -> bool {
        if stayed >= RESTED {
            self.doubts = 0;
        }
        if best.connection == held.connection {
            return false;
        }
        if held.is_silent && !best.is_silent {
            let is_due = stayed >= (DOUBT * (1 << self.doubts.min(5))).min(LONGEST_DOUBT);
            self.doubts += u32::from(is_due);
            return is_due;
        }
        match (best.path, held.path) {
            // While neither answers, nothing says that the direct one lives.
            (Path::Direct, Path::Relayed) => !best.is_silent,
            (Path::Relayed, Path::Direct) => false,
            (Path::Direct, Path::Direct) | (Path::Relayed, Path::Relayed) => {
                let (Some(shorter), Some(longer)) = (best.rtt, held.rtt) else { return false };
                stayed >= STAY && shorter + SHORTER.max(longer / PART) <= longer
            }
        }
    }
}

impl Taken {
    fn among(self, paths: &[Candidate]) -> Option<&Candidate> {
        paths.iter().find(|path| path.connection == self.connection)
    }
}

impl Candidate {
    /// The larger, the better.
    fn rank(&self) -> (bool, bool, Reverse<Duration>) {
        let rtt = self.rtt.unwrap_or(Duration::MAX);
        (!self.is_silent, self.path == Path::Direct, Reverse(rtt))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn path(number: usize, path: Path, rtt: u64) -> Candidate {
        let connection = ConnectionId::new_unchecked(number);
        Candidate { connection, path, rtt: Some(ms(rtt)), is_silent: false }
    }

    fn silent(path: Candidate) -> Candidate {
        Candidate { is_silent: true, ..path }
    }

    /// The number of the path that is taken.
    fn taken(chooser: &mut Chooser, paths: &[Candidate], now: Instant) -> Option<usize> {
        let chosen = chooser.choose(paths, now)?;
        (0..9).find(|number| ConnectionId::new_unchecked(*number) == chosen)
    }

    #[test]
    fn direct_comes_before_relayed_however_far_and_is_left_when_it_is_silent_or_gone() {
        let (mut chooser, now) = (Chooser::default(), Instant::now());
        let (relayed, direct) = (path(1, Path::Relayed, 5), path(2, Path::Direct, 90));
        assert_eq!(taken(&mut chooser, &[relayed], now), Some(1));
        assert_eq!(chooser.reason(&[relayed]), Reason::Only);
        assert_eq!(taken(&mut chooser, &[relayed, direct], now), Some(2), "at once");
        assert_eq!(chooser.reason(&[relayed, direct]), Reason::Direct);
        assert_eq!(taken(&mut chooser, &[relayed, silent(direct)], now + ms(1000)), Some(2), "it is new");
        assert_eq!(taken(&mut chooser, &[relayed, silent(direct)], now + DOUBT), Some(1));
        assert_eq!(chooser.reason(&[relayed, silent(direct)]), Reason::Answers);
        let both = [silent(relayed), silent(direct)];
        assert_eq!(taken(&mut chooser, &both, now + DOUBT), Some(1), "nothing says that it is back");
        assert_eq!(taken(&mut chooser, &[relayed, direct], now + DOUBT), Some(2), "it is back");
        assert_eq!(taken(&mut chooser, &[relayed], now + DOUBT), Some(1));
        assert_eq!(taken(&mut chooser, &[], now + DOUBT), None);
    }

    #[test]
    fn of_two_relays_the_nearer_is_taken_and_the_farther_left_once_it_is_farther_by_much() {
        let (mut chooser, now) = (Chooser::default(), Instant::now());
        let (near, far) = (path(1, Path::Relayed, 20), path(2, Path::Relayed, 40));
        assert_eq!(taken(&mut chooser, &[far], now), Some(2));
        assert_eq!(taken(&mut chooser, &[near, far], now + STAY - ms(1)), Some(2));
        assert_eq!(taken(&mut chooser, &[path(1, Path::Relayed, 31), far], now + STAY), Some(2));
        assert_eq!(taken(&mut chooser, &[near, far], now + STAY), Some(1));
        assert_eq!(chooser.reason(&[near, far]), Reason::Shorter);
        let unknown = Candidate { rtt: None, ..near };
        let mut fresh = Chooser::default();
        assert_eq!(taken(&mut fresh, &[unknown, far], now), Some(2), "what is known first");
    }

    proptest! {
        #[test]
        fn it_never_flaps(steps in prop::collection::vec((90u64..110, 90u64..110, any::<bool>(), any::<bool>()), 600)) {
            let (mut chooser, start) = (Chooser::default(), Instant::now());
            let (mut moves, mut last) = (0, None);
            for (second, (one, two, first, second_too)) in steps.into_iter().enumerate() {
                let mut paths = [path(1, Path::Relayed, one), path(2, Path::Relayed, two)];
                (paths[0].is_silent, paths[1].is_silent) = (first, second_too);
                let now = taken(&mut chooser, &paths, start + Duration::from_secs(second as u64));
                moves += usize::from(now != last);
                last = now;
            }
            // Ten minutes: the first, then after 2, 4, 8, 16, 32 and each 60 seconds at the soonest.
            prop_assert!(moves <= 17, "{moves}");
        }
    }
}
