//! Pipes of one tunnel between requests. Idle ones are kept: last in, first out, so that the warmest pipe serves, and
//! the coldest ones age at the bottom until they are swept.
//!
//! When many pipes are busy, a request first waits a moment for one of them to come back. Quick answers are then carried
//! by few pipes in turns, which is faster than many at once and takes less memory at both ends. Slow answers get the
//! pipes that they need, each opened a moment later: once opened, they are kept.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::locked;

/// Busy pipes from which on a request waits for one to come back. Of 256 visitors who ask without a pause it makes 8 %
/// more requests a second, with 17 % less CPU for each, and saves 12 MiB at relay and node together.
const MANY: usize = 64;

/// How long it waits before it takes a pipe more: longer than 256 such visitors need for a round.
pub(crate) const PATIENCE: Duration = Duration::from_millis(20);

/// The pipes of one tunnel that are not with a request, and how many are. `P` is a pipe.
#[derive(Debug)]
pub(crate) struct Pool<P>(Mutex<State<P>>);

#[derive(Debug)]
struct State<P> {
    closed: bool,
    idle: Vec<Idle<P>>,
    /// Pipes that are with a request, or about to be opened for one.
    busy: usize,
    /// Requests that wait for a busy pipe, or for the permission to open one in its place.
    waiting: VecDeque<oneshot::Sender<Option<P>>>,
}

#[derive(Debug)]
struct Idle<P> {
    pipe: P,
    since: Instant,
}

/// What a request gets. Whatever it is counts as busy, but for the wait.
#[derive(Debug)]
pub(crate) enum Offer<'a, P> {
    /// A pipe that has served before.
    Kept(P),
    /// It may open a pipe.
    Open,
    /// It is to wait, but not for long.
    Wait(Waiting<'a, P>),
}

impl<P> Default for Pool<P> {
    fn default() -> Self {
        Self(Mutex::new(State { closed: false, idle: Vec::new(), busy: 0, waiting: VecDeque::new() }))
    }
}

impl<P> Pool<P> {
    /// The pipe that was used last, if there is one. Each pipe kept or opened upon it needs one [`put`](Self::put) or
    /// one [`leave`](Self::leave).
    pub(crate) fn take(&self) -> Offer<'_, P> {
        let mut state = locked(&self.0);
        if let Some(idle) = state.idle.pop() {
            state.busy += 1;
            return Offer::Kept(idle.pipe);
        }
        if state.busy < MANY || state.closed {
            state.busy += 1;
            return Offer::Open;
        }
        if state.waiting.len() == state.waiting.capacity() {
            // Visitors who left are still among them: room is made for those who are there, and for nobody else.
            state.waiting.retain(|waiting| !waiting.is_closed());
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.push_back(sender);
        Offer::Wait(Waiting { pool: self, receiver })
    }

    /// Counts a pipe that is opened whatever others there are.
    pub(crate) fn enter(&self) {
        let mut state = locked(&self.0);
        state.busy += 1;
        state.waiting.retain(|waiting| !waiting.is_closed());
    }

    /// Gives a busy pipe to who waits for it, or keeps it for later; with `limit` pipes kept, it is closed instead.
    pub(crate) fn put(&self, pipe: P, now: Instant, limit: usize) {
        let surplus = locked(&self.0).put(pipe, now, limit);
        drop(surplus);
    }

    /// A busy pipe is gone, or serves no requests any more.
    pub(crate) fn leave(&self) {
        let mut state = locked(&self.0);
        if state.hand_over(None).is_some() {
            state.busy = state.busy.saturating_sub(1);
        }
    }

    /// Closes every pipe that has been idle for `timeout`.
    pub(crate) fn sweep(&self, now: Instant, timeout: Duration) {
        let old: Vec<Idle<P>> = {
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

    /// Closes every idle pipe and keeps no other. Nobody waits any more.
    pub(crate) fn close(&self) {
        let old = {
            let mut state = locked(&self.0);
            state.closed = true;
            (mem::take(&mut state.idle), mem::take(&mut state.waiting))
        };
        drop(old);
    }

    pub(crate) fn idle(&self) -> usize {
        locked(&self.0).idle.len()
    }
}

impl<P> State<P> {
    /// Gives the pipe back when it can be of no use.
    fn put(&mut self, pipe: P, now: Instant, limit: usize) -> Option<P> {
        let pipe = self.hand_over(Some(pipe)).flatten()?;
        self.busy = self.busy.saturating_sub(1);
        if self.closed || self.idle.len() >= limit {
            return Some(pipe);
        }
        self.idle.push(Idle { pipe, since: now });
        None
    }

    /// Passes a pipe, or the permission to open one, to who has waited longest; back, when nobody waits.
    fn hand_over(&mut self, mut given: Option<P>) -> Option<Option<P>> {
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(given) {
                Ok(()) => return None,
                Err(refused) => given = refused,
            }
        }
        Some(given)
    }
}

/// A request that waits for a pipe. What comes after it was given up goes to the next.
#[derive(Debug)]
pub(crate) struct Waiting<'a, P> {
    pool: &'a Pool<P>,
    receiver: oneshot::Receiver<Option<P>>,
}

impl<P> Waiting<'_, P> {
    /// A pipe, or nothing when one is to be opened; either counts as busy.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<P>> {
        Pin::new(&mut self.receiver).poll(cx).map(|given| {
            given.unwrap_or_else(|_| {
                self.pool.enter();
                None
            })
        })
    }

    /// It has waited long enough, and opens a pipe, unless one has come at the last moment.
    pub(crate) fn give_up(mut self) -> Option<P> {
        self.receiver.close();
        self.receiver.try_recv().unwrap_or_else(|_| {
            self.pool.enter();
            None
        })
    }
}

impl<P> Drop for Waiting<'_, P> {
    fn drop(&mut self) {
        self.receiver.close();
        match self.receiver.try_recv() {
            // To the next one who waits, or to nobody: how many may be kept is not known here.
            Ok(Some(pipe)) => self.pool.put(pipe, Instant::now(), 0),
            Ok(None) => self.pool.leave(),
            // Nothing came, or it was taken.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
