//! Whether the database still stands behind this coordinator.
//!
//! A coordinator that a server has dropped, or that stood still, may not be the one that writes: a heartbeat of it would
//! tell relays that nothing has changed, while another revokes.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How often the database is asked.
const ASKED: Duration = Duration::from_secs(5);
/// How long its last word counts: the restart of a server must not be felt, and relays bear a minute of silence.
const COUNTS: Duration = Duration::from_secs(30);

/// Says in `vouched` whether heartbeats may be sent, until `stop`.
pub(crate) async fn vouch(store: Store, vouched: watch::Sender<bool>, stop: CancellationToken) {
    let mut due = interval(ASKED);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    while stop.run_until_cancelled(due.tick()).await.is_some() {
        if store.holds().await.is_ok() {
            last = Instant::now();
        }
        let stands = last.elapsed() < COUNTS;
        if vouched.send_if_modified(|old| std::mem::replace(old, stands) != stands) {
            tracing::warn!(
                stands,
                "whether the database stands behind this coordinator; without it, relays hear nothing"
            );
        }
    }
}
