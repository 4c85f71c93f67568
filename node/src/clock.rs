//! What is passed to those who decide: the time of the wall, and randomness.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of the Unix epoch by the wall clock.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Random over its whole range.
pub(crate) fn jitter() -> u32 {
    // Without random bytes there is no jitter, which is no reason to stop.
    getrandom::u32().unwrap_or(0)
}
