//! What passes through a share, for its owner to look at: requests and answers, put together from a copy.
//!
//! A tap stands between a pipe and whoever answers it, and gives a copy of what passes to one
//! [`Recorder`]. It never waits for it: where the recorder is behind, the pipe is no longer recorded, and the record says
//! so. What the recorder keeps is bounded for each exchange and in all; the oldest goes first. A share without an
//! [`Inspector`] has no tap, and pays nothing.

mod conversation;
mod exchange;
mod message;
mod recorder;
mod replay;
mod store;
pub(crate) mod tap;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::SystemTime,
};

use tokio::sync::{broadcast, mpsc, watch};

pub use self::{
    exchange::{Body, Exchange, Header, RequestHead, ResponseHead, Trouble},
    message::fuzz,
    recorder::Recorder,
    replay::{Again, ReplayError, Replayer},
    store::Query,
};
use self::{
    store::Store,
    tap::{Clock, Inlet, Kind},
};

/// Pieces of at most one copy buffer (32 KiB) that wait for the recorder.
const QUEUE: usize = 512;
/// Exchanges that ended and that their listeners have not read yet.
const ENDED: usize = 1024;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Exchanges.
    pub exchanges: usize,
    /// Bytes of all of them.
    pub total: usize,
    /// Bytes of one body; what is longer is counted only.
    pub body: usize,
}

impl Keep {
    /// What a page shows: heads and bodies of the latest exchanges.
    pub const WHOLE: Self = Self { exchanges: 500, total: 64 * 1024 * 1024, body: 1024 * 1024 };
    /// Enough for one line for each request.
    pub const LINES: Self = Self { exchanges: 500, total: 8 * 1024 * 1024, body: 0 };
}

/// A view of what was recorded. Clones share it.
#[derive(Debug, Clone)]
pub struct Inspector(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inlet: Arc<Inlet>,
    store: Mutex<Store>,
    /// Of the last change.
    version: watch::Sender<u64>,
    ended: broadcast::Sender<Arc<Exchange>>,
}

impl Inspector {
    /// An inspector, and what does its work: to be run for as long as the share lasts.
    pub fn new(keep: Keep) -> (Self, Recorder) {
        let (pieces, queue) = mpsc::channel(QUEUE);
        let inlet = Arc::new(Inlet::new(pieces, Clock::starting(SystemTime::now())));
        let shared = Arc::new(Shared {
            inlet,
            store: Mutex::new(Store::new(keep)),
            version: watch::Sender::new(0),
            ended: broadcast::Sender::new(ENDED),
        });
        (Self(Arc::clone(&shared)), Recorder::new(shared, queue))
    }

    /// The exchanges that match, the latest first.
    pub fn find(&self, query: &Query) -> Vec<Exchange> {
        self.store().find(query)
    }

    /// The number of the oldest exchange that is kept; of the next one, where none is.
    pub fn oldest(&self) -> u64 {
        self.store().oldest()
    }

    /// One exchange, with its bodies.
    pub fn exchange(&self, id: u64) -> Option<Exchange> {
        self.store().get(id).cloned()
    }

    /// The number of the last change, and a way to wait for the next one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// Each exchange once, when it has ended. A listener that is behind loses the oldest, and is told how many.
    pub fn ended(&self) -> broadcast::Receiver<Arc<Exchange>> {
        self.0.ended.subscribe()
    }

    /// Connections that were not recorded, or not to their end, because the recorder was behind.
    pub fn missed(&self) -> u64 {
        self.0.inlet.missed.load(Ordering::Relaxed)
    }

    /// Forgets what has ended.
    pub fn clear(&self) {
        self.store().clear();
        self.0.version.send_modify(|version| *version += 1);
    }

    /// A pipe's tap.
    pub(crate) fn tap<P>(&self, pipe: P, first: &[u8], kind: Kind) -> tap::Tap<P> {
        tap::Tap::new(pipe, first, Arc::clone(&self.0.inlet), kind)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
