//! How far one may fall behind a least rate.
//!
//! One begins with the whole grace. Only time in which bytes are waited for is spent from it; every byte earns the time
//! that it may take at the least rate, up to the grace again, so that a fast beginning does not pay for an endless end.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::deadline::millis;

/// A rate that must be kept on average.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Least {
    /// Bytes a second; 0 for no such bound.
    pub(crate) rate: u32,
    /// How far one may fall behind it.
    pub(crate) grace: Duration,
}

/// What one has left. Times are those of its [`Visit`](super::visit::Visit).
#[derive(Debug, Default)]
pub(crate) struct Credit {
    /// Since when bytes are waited for; zero stands for "not".
    since: AtomicU64,
    left: AtomicU64,
}

impl Credit {
    /// The whole grace.
    pub(crate) fn full(least: Least) -> Self {
        Self { since: AtomicU64::new(0), left: AtomicU64::new(millis(least.grace)) }
    }

    /// The whole grace again, whether bytes are waited for or not.
    pub(crate) fn fill(&self, least: Least) {
        self.left.store(millis(least.grace), Relaxed);
    }

    /// Nothing is waited for any more.
    pub(crate) fn end(&self) {
        self.since.store(0, Relaxed);
    }

    /// Bytes are waited for. Whether that is new.
    pub(crate) fn wait(&self, now: u64) -> bool {
        self.since.compare_exchange(0, now, Relaxed, Relaxed).is_ok()
    }

    /// Since when bytes are waited for; zero stands for "not".
    pub(crate) fn since(&self) -> u64 {
        self.since.load(Relaxed)
    }

    /// Some have come. `now` matters only while they are waited for.
    pub(crate) fn earn(&self, bytes: u64, now: u64, least: Least) {
        let waited = match self.since.swap(0, Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        };
        self.left.store(left(self.left.load(Relaxed), waited, bytes, least), Relaxed);
    }

    /// When patience ends with whom bytes are waited for.
    pub(crate) fn deadline(&self, least: Least) -> Option<u64> {
        let since = self.since();
        let bounded = since != 0 && least.rate != 0;
        bounded.then(|| since.saturating_add(self.left.load(Relaxed)))
    }
}

/// What is left of `credit` milliseconds after `waited` of them, when `bytes` came.
fn left(credit: u64, waited: u64, bytes: u64, least: Least) -> u64 {
    let earned = bytes.saturating_mul(1000).div_ceil(u64::from(least.rate).max(1));
    credit.saturating_sub(waited).saturating_add(earned).min(millis(least.grace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::limits::Limits;

    const DAY: u64 = 24 * 60 * 60;

    /// For how many seconds one is borne from whom `bytes` come every `pause` seconds, up to a day.
    fn lasts(bytes: u64, pause: u64, least: Least) -> u64 {
        let (credit, mut now) = (Credit::full(least), 1);
        while now < DAY * 1000 {
            assert!(credit.wait(now) && !credit.wait(now + 1));
            let next = now + pause * 1000;
            if let Some(end) = credit.deadline(least).filter(|end| *end <= next) {
                return end / 1000;
            }
            credit.earn(bytes, next, least);
            now = next;
        }
        DAY
    }

    #[test]
    fn a_trickle_ends_and_an_honest_upload_does_not() {
        let least = Limits::default().upload();
        assert!(lasts(1, 119, least) <= 240);
        assert!(lasts(1, 1, least) <= 121);
        assert!(lasts(200, 1, least) <= 600);
        assert_eq!(lasts(256, 1, least), DAY);
        // A phone that loses its network for a minute and a half, time and again.
        assert_eq!(lasts(64 * 1024, 90, least), DAY);
        // What was sent fast before is no licence to hold on for ever.
        assert_eq!(lasts(1 << 30, 121, least), 120);
    }

    #[test]
    fn who_takes_a_byte_now_and_then_is_borne_no_longer_than_who_takes_none() {
        let least = Limits::default().download();
        assert!(lasts(1, 240, least) <= 301);
        assert!(lasts(100, 1, least) <= 600);
        // A system takes what it is given in lumps: a few hundred KiB every four minutes are a phone far from its mast.
        assert_eq!(lasts(256, 1, least), DAY);
        assert_eq!(lasts(256 * 1024, 240, least), DAY);
    }

    #[test]
    fn time_in_which_nothing_is_waited_for_costs_nothing() {
        let least = Least { grace: Duration::from_secs(1), ..Limits::default().upload() };
        let credit = Credit::full(least);
        credit.earn(10, 3_600_000, least);
        assert_eq!(credit.deadline(least), None);
        credit.wait(3_700_000);
        assert_eq!(credit.deadline(least), Some(3_701_000));
        credit.end();
        assert_eq!(credit.deadline(least), None);
    }

    #[test]
    fn there_may_be_no_such_bound() {
        assert_eq!(lasts(1, 10_000, Limits { upload_rate: 0, ..Limits::default() }.upload()), DAY);
    }
}
