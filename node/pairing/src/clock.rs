//! The time, as decisions are given it.

use std::time::Duration;

/// One moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// Seconds of the Unix epoch, by a clock that people can set.
    pub wall: u64,
    /// Since some moment before, by a clock that only goes forward.
    pub steady: Duration,
}
