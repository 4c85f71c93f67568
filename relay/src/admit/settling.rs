//! When a relay knows every name that there is.
//!
//! The first snapshot has them all, but for those whose report was not with the coordinator when the relay was killed.
//! Their nodes come back within seconds, so a relay that ran before waits for them.

use std::time::{Duration, Instant};

use super::Now;

/// What may still be missing.
#[derive(Debug)]
pub(super) enum Settling {
    /// Everything: there was no snapshot. Afterwards there is this long to wait.
    Unheard(Duration),
    /// Names that only their nodes know.
    Until(Instant),
    /// Nothing.
    Over,
}

impl Settling {
    pub(super) fn new(time: Duration) -> Self {
        Self::Unheard(time)
    }

    /// There is a snapshot. Only the first counts.
    pub(super) fn begin(&mut self, now: Now) {
        if let Self::Unheard(time) = *self {
            *self = Self::Until(now.instant + time);
        }
    }

    /// `true` once, when the time is over.
    pub(super) fn is_due(&mut self, now: Now) -> bool {
        let due = self.next().is_some_and(|until| until <= now.instant);
        if due {
            *self = Self::Over;
        }
        due
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Instant> {
        match self {
            Self::Until(until) => Some(*until),
            Self::Unheard(_) | Self::Over => None,
        }
    }
}
