//! How moments outlive the process whose clock they were read from: the clock that only goes forward begins anew with each.

use std::{fs, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{clock::Now, limits};

/// Where the steady clock of a process begins: far enough from zero that a moment of an earlier process has a place before it.
pub(crate) const BEGIN: Duration = limits::LIFE.saturating_mul(2);

/// What a process knew of the time when its steady clock stood at [`BEGIN`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Era {
    /// Which process, so that no two are taken for one.
    run: u64,
    wall: u64,
    boot: Option<Boot>,
}

/// Which start of the machine, and how long ago that was, by a clock that nobody can set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Boot {
    id: String,
    age: Duration,
}

impl Era {
    /// As the machine says; `run` is random.
    pub(crate) fn of_machine(run: u64, wall: u64) -> Self {
        let read = |path| fs::read_to_string(path).ok();
        Self::new(run, wall, read("/proc/sys/kernel/random/boot_id"), read("/proc/uptime"))
    }

    fn new(run: u64, wall: u64, id: Option<String>, uptime: Option<String>) -> Self {
        let age = uptime.and_then(|text| text.split(' ').next()?.parse().ok());
        let age = age.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let boot = id.zip(age).map(|(id, age)| Boot { id: id.trim().to_owned(), age });
        Self { run, wall, boot }
    }

    /// In that start of the machine, and so many seconds behind it.
    #[cfg(test)]
    pub(crate) fn of_boot(run: u64, wall: u64, boot: &str, uptime: u64) -> Self {
        Self::new(run, wall, Some(boot.to_owned()), Some(format!("{uptime} 0")))
    }

    /// How the moments of `earlier` are to be read at `now` of this one. Of the clocks that both know the one that says more
    /// counts: a session grows old rather too early than too late.
    pub(crate) fn behind(&self, earlier: &Self, now: Now) -> Shift {
        let by_wall = Duration::from_secs(self.wall.saturating_sub(earlier.wall));
        let same = self.boot.as_ref().zip(earlier.boot.as_ref()).filter(|(one, other)| one.id == other.id);
        let by_boot = same.map(|(one, other)| one.age.saturating_sub(other.age));
        Shift { by: by_boot.unwrap_or_default().max(by_wall), now, is_same_boot: same.is_some() }
    }
}

/// From the steady clock of a process that has ended to this one's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shift {
    by: Duration,
    pub(crate) now: Now,
    /// The machine was not started anew in between, as far as it can tell.
    pub(crate) is_same_boot: bool,
}

impl Shift {
    /// Of something that was.
    pub(crate) fn past(&self, then: Duration) -> Duration {
        then.saturating_sub(self.by).min(self.now.steady)
    }

    /// Of something that is to come, within a bound.
    pub(crate) fn future(&self, then: Duration, most: Duration) -> Duration {
        then.saturating_sub(self.by).min(self.now.steady + most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn era(wall: u64, id: &str, uptime: &str) -> Era {
        Era::new(0, wall, Some(id.to_owned()), Some(uptime.to_owned()))
    }

    fn at(seconds: u64) -> Now {
        Now { wall: 0, steady: BEGIN + Duration::from_secs(seconds) }
    }

    #[test]
    fn a_moment_is_as_old_as_the_clock_says_that_says_more() {
        let first = era(1_000_000, "one\n", "500.25 900.00\n");
        // It was read 100 s after its process had begun.
        let then = BEGIN + Duration::from_secs(100);
        let age = |later: &Era| at(5).steady - later.behind(&first, at(5)).past(then);
        assert_eq!(age(&era(1_000_300, "one", "800.25 0")), Duration::from_secs(205));
        // The wall's clock was set back, or forward.
        assert_eq!(age(&era(0, "one", "800.25 0")), Duration::from_secs(205));
        assert_eq!(age(&era(1_001_000, "one", "800.25 0")), Duration::from_secs(905));
        let other = era(1_000_300, "two", "3.5 0");
        assert_eq!(age(&other), Duration::from_secs(205));
        assert!(!other.behind(&first, at(5)).is_same_boot);
        // Never later than now.
        assert_eq!(age(&era(1_000_000, "two", "3.5 0")), Duration::ZERO);
    }

    #[test]
    fn what_is_to_come_stays_within_its_bound() {
        let first = era(1_000_000, "one", "500 0");
        let shift = era(1_000_300, "one", "800 0").behind(&first, at(5));
        let end = BEGIN + Duration::from_secs(600);
        assert_eq!(shift.future(end, limits::TTL_MAX), BEGIN + Duration::from_secs(300));
        assert_eq!(shift.future(end, Duration::from_secs(10)), at(15).steady);
    }

    #[test]
    fn a_machine_that_does_not_tell_is_never_known_to_be_the_same() {
        let silent = Era::new(0, 1_000_000, None, Some("1 1".to_owned()));
        assert!(!silent.behind(&silent, at(0)).is_same_boot);
        assert_eq!(Era::new(0, 0, Some("one".to_owned()), Some("soon".to_owned())).boot, None);
    }
}
