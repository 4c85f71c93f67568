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

/// A connection on which nothing has moved for so long has no end that could be waited for.
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

    /// Completes when it has begun and nothing has moved for a while.
    pub(super) async fn is_quiet(&self, moved: &AtomicU64) {
        self.begun().await;
        loop {
            let before = moved.load(Relaxed);
            sleep(QUIET).await;
            if moved.load(Relaxed) == before {
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
