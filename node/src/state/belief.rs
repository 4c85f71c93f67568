//! How long a relay is believed: until the certificate ends that it showed last.
//!
//! Nodes have no feed: this is how one finds out that a relay was revoked, which gets no new certificate. It is measured
//! on two clocks, of which the first to say so counts: the one that only grows stands while the machine sleeps, and the
//! wall's may be set back.

use std::time::{Duration, Instant};

use mytunnel_keys::trust::CLOCK_SKEW;

/// See the [module documentation](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Belief {
    instant: Instant,
    unix: u64,
}

impl Belief {
    /// In a relay whose certificate ends at `not_after`. Times of the wall are in Unix seconds.
    pub(crate) fn new(not_after: u64, now: Instant, unix: u64) -> Self {
        let end = not_after.saturating_add(CLOCK_SKEW);
        Self { instant: now + Duration::from_secs(end.saturating_sub(unix)), unix: end }
    }

    /// When it is over at the latest.
    pub(crate) fn ends(&self) -> Instant {
        self.instant
    }

    pub(crate) fn is_over(&self, now: Instant, unix: u64) -> bool {
        now >= self.instant || unix >= self.unix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_sleep_nor_a_clock_set_back_prolongs_it() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let belief = Belief::new(1100, now, 1000);
        assert_eq!(belief.ends(), later(100 + CLOCK_SKEW));
        assert!(!belief.is_over(later(99 + CLOCK_SKEW), 1099 + CLOCK_SKEW));
        assert!(belief.is_over(later(1), 1100 + CLOCK_SKEW), "the machine slept");
        assert!(belief.is_over(later(100 + CLOCK_SKEW), 500), "the clock was set back");
        assert!(Belief::new(1000, now, 2000).is_over(now, 0));
    }
}
