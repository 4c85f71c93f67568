//! Whether a visitor sends a body that its tunnel waits for, and fast enough.
//!
//! A visitor begins with the whole grace. Only time in which the tunnel would have taken more is spent from it, so that
//! a slow server costs a visitor nothing; every byte earns the time that it may take at the least rate, up to the
//! grace again, so that a fast beginning does not pay for an endless end. Who has nothing left is answered with 408.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::{deadline::millis, limits::Limits};

/// The upload of one connection, if there is one. Times are those of its [`Visit`](super::visit::Visit).
#[derive(Debug, Default)]
pub(crate) struct Pace {
    uploading: AtomicBool,
    broken: AtomicBool,
    too_large: AtomicBool,
    /// Since when the tunnel waits; zero stands for "not".
    awaited: AtomicU64,
    credit: AtomicU64,
}

impl Pace {
    pub(crate) fn begin(&self, limits: &Limits) {
        self.uploading.store(true, Relaxed);
        self.too_large.store(false, Relaxed);
        self.awaited.store(0, Relaxed);
        self.credit.store(millis(limits.upload_grace), Relaxed);
    }

    pub(crate) fn end(&self) {
        self.uploading.store(false, Relaxed);
        self.awaited.store(0, Relaxed);
    }

    /// Whether the visitor still owes a part of its request.
    pub(crate) fn is_uploading(&self) -> bool {
        self.uploading.load(Relaxed)
    }

    /// The request's body is not what its framing says.
    pub(crate) fn set_broken(&self) {
        self.broken.store(true, Relaxed);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// The request's body has more bytes than it may have.
    pub(crate) fn set_too_large(&self) {
        self.too_large.store(true, Relaxed);
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large.load(Relaxed)
    }

    /// The tunnel would take more, and there is nothing. Whether that is new.
    pub(crate) fn wait(&self, now: u64) -> bool {
        self.awaited.compare_exchange(0, now, Relaxed, Relaxed).is_ok()
    }

    /// Some of it has come, or its end.
    pub(crate) fn receive(&self, bytes: u64, now: u64, limits: &Limits) {
        let waited = match self.awaited.swap(0, Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        };
        self.credit.store(credit(self.credit.load(Relaxed), waited, bytes, limits), Relaxed);
    }

    /// When patience ends with a visitor that is waited for.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<u64> {
        let awaited = self.awaited.load(Relaxed);
        let bounded = awaited != 0 && limits.upload_rate != 0;
        bounded.then(|| awaited.saturating_add(self.credit.load(Relaxed)))
    }
}

/// What is left of `credit` milliseconds after `waited` of them, when `bytes` came.
fn credit(credit: u64, waited: u64, bytes: u64, limits: &Limits) -> u64 {
    let earned = bytes.saturating_mul(1000).div_ceil(u64::from(limits.upload_rate).max(1));
    credit.saturating_sub(waited).saturating_add(earned).min(millis(limits.upload_grace))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    /// For how many seconds an upload is borne that sends `bytes` every `pause` seconds, up to a day.
    fn lasts(bytes: u64, pause: u64, limits: &Limits) -> u64 {
        let (pace, mut now) = (Pace::default(), 1);
        pace.begin(limits);
        while now < DAY * 1000 {
            assert!(pace.wait(now) && !pace.wait(now + 1));
            let next = now + pause * 1000;
            if let Some(end) = pace.deadline(limits).filter(|end| *end <= next) {
                return end / 1000;
            }
            pace.receive(bytes, next, limits);
            now = next;
        }
        DAY
    }

    #[test]
    fn a_trickle_ends_and_an_honest_upload_does_not() {
        let limits = Limits::default();
        assert!(lasts(1, 119, &limits) <= 240);
        assert!(lasts(1, 1, &limits) <= 121);
        assert!(lasts(200, 1, &limits) <= 600);
        assert_eq!(lasts(256, 1, &limits), DAY);
        // A phone that loses its network for a minute and a half, time and again.
        assert_eq!(lasts(64 * 1024, 90, &limits), DAY);
        // What was sent fast before is no licence to hold on for ever.
        assert_eq!(lasts(1 << 30, 121, &limits), 120);
    }

    #[test]
    fn a_slow_server_costs_its_visitor_nothing() {
        let limits = Limits { upload_grace: Duration::from_secs(1), ..Limits::default() };
        let pace = Pace::default();
        pace.begin(&limits);
        pace.receive(10, 3_600_000, &limits);
        assert_eq!(pace.deadline(&limits), None);
        pace.wait(3_700_000);
        assert_eq!(pace.deadline(&limits), Some(3_701_000));
        pace.end();
        assert_eq!(pace.deadline(&limits), None);
    }

    #[test]
    fn there_may_be_no_such_bound() {
        let limits = Limits { upload_rate: 0, ..Limits::default() };
        assert_eq!(lasts(1, 10_000, &limits), DAY);
    }
}
