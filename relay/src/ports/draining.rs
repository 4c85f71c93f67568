//! How connections at ports end when the relay stops: nobody new comes in, and what still moves may come to its end.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// A connection on which nothing has moved for so long, and whose visitor awaits nothing, has no end that could be waited for.
const QUIET: Duration = Duration::from_secs(2);

/// See the [module documentation](self). A cheap handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draining {
    begun: CancellationToken,
    lines: TaskTracker,
}

impl Draining {
    /// One that begins with `begun`.
    pub(crate) fn with(begun: CancellationToken) -> Self {
        Self { begun, lines: TaskTracker::new() }
    }

    /// Completes when it has begun.
    pub(super) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Whether it has.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Of one connection that is waited for.
    pub(super) fn line(&self) -> TaskTrackerToken {
        self.lines.token()
    }

    /// Completes when it has begun and nothing has moved for a while, unless what moved last came from the visitor, who awaits
    /// an answer then. `moved` is that of a [`Line`](crate::line::Line).
    pub(super) async fn is_quiet(&self, moved: &AtomicU64) {
        self.begun().await;
        loop {
            let before = moved.load(Relaxed);
            sleep(QUIET).await;
            let now = moved.load(Relaxed);
            if now == before && now & 1 == 0 {
                return;
            }
        }
    }

    /// Completes when all have ended, or `until` has come.
    pub(crate) async fn done(&self, until: Instant) {
        self.lines.close();
        if timeout_at(until, self.lines.wait()).await.is_err() {
            tracing::debug!(left = self.lines.len(), "some connections at ports did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_awaits_an_answer_is_not_quiet() {
        let (begun, moved) = (CancellationToken::new(), AtomicU64::new(1 << 1));
        let draining = Draining::with(begun.clone());
        assert!(draining.is_quiet(&moved).now_or_never().is_none(), "the relay is not being stopped");
        begun.cancel();
        tokio::time::timeout(2 * QUIET, draining.is_quiet(&moved)).await.expect("the node has spoken last");
        moved.store(2 << 1 | 1, Relaxed);
        let quiet = tokio::time::timeout(5 * QUIET, draining.is_quiet(&moved)).await;
        assert!(quiet.is_err(), "the visitor has");
    }
}
