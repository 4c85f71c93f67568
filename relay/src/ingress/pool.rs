//! Idle pipes of one tunnel, kept for the next request. Last in, first out: the warmest pipe serves, the coldest ones
//! age at the bottom until they are swept.

use std::{mem, sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::{locked, upstream::Upstream};

/// The idle pipes of one tunnel.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    closed: bool,
    idle: Vec<Idle>,
}

#[derive(Debug)]
struct Idle {
    upstream: Box<Upstream>,
    since: Instant,
}

impl Pool {
    /// The pipe that was used last, if there is one.
    pub(crate) fn take(&self) -> Option<Box<Upstream>> {
        locked(&self.0).idle.pop().map(|idle| idle.upstream)
    }

    /// Keeps a pipe for later; with `limit` pipes kept, it is closed instead.
    pub(crate) fn put(&self, upstream: Box<Upstream>, now: Instant, limit: usize) {
        let mut state = locked(&self.0);
        if !state.closed && state.idle.len() < limit {
            state.idle.push(Idle { upstream, since: now });
        }
    }

    /// Closes every pipe that has been idle for `timeout`.
    pub(crate) fn sweep(&self, now: Instant, timeout: Duration) {
        let old: Vec<Idle> = {
            let mut state = locked(&self.0);
            // Ordered by age, since only the newest is ever taken.
            let old = state.idle.partition_point(|idle| now.saturating_duration_since(idle.since) >= timeout);
            state.idle.drain(..old).collect()
        };
        drop(old);
    }

    /// Closes every idle pipe: the newest was found dead, so the others are too.
    pub(crate) fn clear(&self) {
        let old = mem::take(&mut locked(&self.0).idle);
        drop(old);
    }

    /// Closes every idle pipe and keeps no other.
    pub(crate) fn close(&self) {
        let old = {
            let mut state = locked(&self.0);
            state.closed = true;
            mem::take(&mut state.idle)
        };
        drop(old);
    }

    pub(crate) fn idle(&self) -> usize {
        locked(&self.0).idle.len()
    }
}
