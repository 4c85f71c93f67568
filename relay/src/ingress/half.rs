//! A visitor who has closed its sending half: it may have left, or read on.
//!
//! Both look the same (a FIN) until something is sent: who has left resets then. Who closes along with its request means to
//! read the answer, as `nc -N` does; later, it has most likely left, unless it goes on taking what it is sent.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::deadline::millis;

/// So soon after the last of its request a visitor closes along with it; and so long after something was sent, a reset
/// would have come.
const AT_ONCE: Duration = Duration::from_millis(500);

/// How long who has most likely left may get nothing: its request costs the tunnel's server work for nobody.
const LEAVER_PATIENCE: Duration = Duration::from_secs(2);

/// Times are those of its [`Visit`](super::visit::Visit); zero stands for "not".
#[derive(Debug, Default)]
pub(crate) struct Half {
    /// Since when it is closed and the visitor got nothing either, and how long that is borne.
    since: AtomicU64,
    patience: AtomicU64,
    /// When the visitor first took something after that.
    took: AtomicU64,
}

impl Half {
    pub(crate) fn is_closed(&self) -> bool {
        self.since.load(Relaxed) != 0
    }

    /// It is closed; the last of the request came at `asked`. Who reads is borne for `reader` without a byte. Whether that
    /// is new.
    pub(crate) fn close(&self, now: u64, asked: u64, reader: Duration) -> bool {
        let at_once = now.saturating_sub(asked) <= millis(AT_ONCE);
        let new = self.since.compare_exchange(0, now, Relaxed, Relaxed).is_ok();
        if new {
            self.patience.store(millis(if at_once { reader } else { LEAVER_PATIENCE }), Relaxed);
        }
        new
    }

    /// The visitor has taken something, or its system has for it.
    pub(crate) fn take(&self, now: u64, reader: Duration) {
        let took = match self.took.compare_exchange(0, now, Relaxed, Relaxed) {
            Ok(_) => now,
            Err(took) => took,
        };
        if now.saturating_sub(took) >= millis(AT_ONCE) {
            self.patience.store(millis(reader), Relaxed);
        }
        self.since.store(now, Relaxed);
    }

    /// When patience ends.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let since = self.since.load(Relaxed);
        (since != 0).then(|| since.saturating_add(self.patience.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: Duration = Duration::from_secs(120);

    #[test]
    fn who_closes_along_with_its_request_reads() {
        let half = Half::default();
        assert!(!half.is_closed() && half.deadline().is_none());
        assert!(half.close(10_500, 10_000, READER) && half.is_closed());
        assert_eq!(half.deadline(), Some(130_500));
        assert!(!half.close(20_000, 10_000, READER), "it was closed before");
        assert_eq!(half.deadline(), Some(130_500));
    }

    #[test]
    fn who_closes_later_has_left_unless_it_goes_on_taking() {
        let half = Half::default();
        half.close(11_000, 10_000, READER);
        assert_eq!(half.deadline(), Some(13_000));
        // What is sent at once says nothing: the reset is still on its way.
        half.take(12_000, READER);
        half.take(12_100, READER);
        assert_eq!(half.deadline(), Some(14_100));
        half.take(12_500, READER);
        assert_eq!(half.deadline(), Some(132_500));
    }
}
