//! A bound on how often: a token bucket without a clock of its own.

use std::time::{Duration, Instant};

/// Holds up to `burst` tokens, and gains one each `interval`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    burst: u32,
    interval: Duration,
    tokens: u32,
    /// Since when the next token has been growing.
    since: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(burst: u32, interval: Duration, now: Instant) -> Self {
        Self { burst, interval, tokens: burst, since: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let grown = now.saturating_duration_since(self.since).as_nanos() / self.interval.as_nanos().max(1);
        if grown > 0 {
            self.tokens =
                u32::try_from(grown).unwrap_or(u32::MAX).saturating_add(self.tokens).min(self.burst);
            self.since = now;
        }
        let taken = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_each_interval() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut bucket = Bucket::full(2, Duration::from_secs(10), start);
        assert!(bucket.take(at(0)) && bucket.take(at(0)));
        assert!(!bucket.take(at(9)));
        assert!(bucket.take(at(10)));
        assert!(!bucket.take(at(11)));
        assert!(bucket.take(at(1000)) && bucket.take(at(1000)));
        assert!(!bucket.take(at(1000)));
    }
}
