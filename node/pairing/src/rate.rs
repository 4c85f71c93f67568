//! How much of something in how short a time.

use std::time::Duration;

/// Counts in spans of a fixed length.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    begun: Duration,
    count: u32,
}

impl Rate {
    /// Whether one more is within `limit` in each `span`.
    pub(crate) fn allows(&mut self, limit: u32, span: Duration, now: Duration) -> bool {
        if now.saturating_sub(self.begun) >= span {
            *self = Self { begun: now, count: 0 };
        }
        self.count += 1;
        self.count <= limit
    }

    /// Whether `amount` more is within `limit` in each `span`; the first of a span always is. See [`Self::add`].
    pub(crate) fn fits(&mut self, amount: u32, limit: u32, span: Duration, now: Duration) -> bool {
        if now.saturating_sub(self.begun) >= span {
            *self = Self { begun: now, count: 0 };
        }
        self.count == 0 || self.count.saturating_add(amount) <= limit
    }

    /// Counts what was found to fit.
    pub(crate) const fn add(&mut self, amount: u32) {
        self.count = self.count.saturating_add(amount);
    }

    /// How often it was asked in this span.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Whether its span is over, so that it says nothing any more.
    pub(crate) fn is_over(&self, span: Duration, now: Duration) -> bool {
        now.saturating_sub(self.begun) >= span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_span_has_its_limit() {
        let span = Duration::from_secs(10);
        let mut rate = Rate::default();
        assert!(rate.allows(2, span, Duration::from_secs(1)));
        assert!(rate.allows(2, span, Duration::from_secs(2)));
        assert!(!rate.allows(2, span, Duration::from_secs(9)));
        assert!(rate.allows(2, span, Duration::from_secs(12)));
        assert!(rate.fits(1000, 3, span, Duration::from_secs(30)));
        rate.add(2);
        assert!(
            rate.fits(1, 3, span, Duration::from_secs(31)) && !rate.fits(2, 3, span, Duration::from_secs(31))
        );
        assert!(rate.fits(2, 3, span, Duration::from_secs(40)));
        let mut rate = Rate::default();
        assert!(rate.allows(2, span, Duration::from_secs(12)));
        assert!(rate.is_over(span, Duration::from_secs(22)));
    }
}
