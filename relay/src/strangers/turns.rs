//! Whose handshake is worked on: a few at a time, of the network that has fewest of them, and there the newest first.
//!
//! A handshake costs the relay far more than what comes before it, and has a few seconds at the other end. When a fleet comes back at
//! one moment, working on all of them at once would let most of them run out of time with the work done in vain; and of those that wait,
//! the oldest are the likeliest to have been given up.
//!
//! Those over QUIC are none of these ([`super::handshakes`]).
//!
//! How many a few are is told by the relay itself: more, while whatever comes is looked at soon, since then it is the peers that are waited
//! for; and fewer once it takes long.

mod inner;

use std::{
    future::poll_fn,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::ingress::network;
use inner::{Inner, MOST};

/// How long a handshake keeps others waiting at most, and then its certificate. Less where few come to an end.
const TURN: Duration = Duration::from_secs(4);

/// The same of one that had to wait, until it says more than it had said by then.
const QUIET: Duration = Duration::from_secs(1);

/// The same of a peer that has not said anything yet. Whoever opens connections and is silent is not to have the turns of those who speak.
const SILENT: Duration = Duration::from_millis(20);

/// See the [module documentation](self).
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<Inner<oneshot::Sender<Turn>>>>);

/// A place among those that are worked on, until it is dropped.
#[derive(Debug)]
struct Turn(Option<(Turns, Network, Instant)>);

/// Whose turns are counted together. Nothing where there is no address.
type Network = Option<IpAddr>;

/// A place among those who wait, until it is dropped.
#[derive(Debug)]
struct Waiting(Turns, Network, u64);

/// Whether what is worked on has something to do, and ever had.
#[derive(Debug)]
struct Called {
    state: AtomicU8,
    waker: AtomicWaker,
    /// When it was called first since it was last looked at.
    since: Mutex<Option<Instant>>,
}

/// Nothing to do.
const IDLE: u8 = 0;
/// Something has come.
const DUE: u8 = 1;
/// As at the beginning, when nothing has come yet.
const FRESH: u8 = 2;

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        self.state.store(DUE, Ordering::SeqCst);
        self.waker.wake();
    }
}

impl Called {
    fn take(&self) -> Option<Instant> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner::new(MOST))))
    }
}

impl Turns {
    /// Does a handshake with whoever is at this address when it has its turn, which lasts until [`Self::end_one`] where it succeeds in time: whoever
    /// has begun is to come to an end before others begin.
    pub(super) async fn take<T, E>(
        self,
        from: Option<IpAddr>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let network = from.map(|ip| network(ip.to_canonical()));
        // Of one that had to wait, what its peer has said first is there already, and says nothing about what it will say.
        let (turn, first) = match self.turn_now(network) {
            Some(turn) => (Some(turn), SILENT),
            None => (self.turn(network).await, QUIET),
        };
        let longest = self.lock().longest();
        let mut work = std::pin::pin!(work);
        let called = Arc::new(Called {
            state: AtomicU8::new(FRESH),
            waker: AtomicWaker::new(),
            since: Mutex::default(),
        });
        let mut end = std::pin::pin!(sleep(longest));
        let mut silent = std::pin::pin!(sleep(first.min(longest)));
        let mut has_grown = false;
        let in_turn = poll_fn(|cx| {
            called.waker.register(cx.waker());
            let state = called.state.swap(IDLE, Ordering::SeqCst);
            if state != IDLE {
                has_grown |= self.look(called.take(), !has_grown);
                let waker = Waker::from(Arc::clone(&called));
                if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Poll::Ready(Some(done));
                }
                silent
                    .as_mut()
                    .reset(Instant::now() + if state == FRESH { first.min(longest) } else { longest });
            }
            let is_over = end.as_mut().poll(cx).is_ready() || silent.as_mut().poll(cx).is_ready();
            if is_over { Poll::Ready(None) } else { Poll::Pending }
        });
        if let Some(done) = in_turn.await {
            if let (Ok(_), Some(turn)) = (&done, turn) {
                turn.arrive();
            }
            return done;
        }
        drop(turn);
        work.await
    }

    /// Somebody has shown a certificate.
    pub(super) fn prove(&self) {
        self.lock().prove();
    }

    /// One at this address whose handshake was done is admitted or gone.
    pub(super) fn end_one(&self, from: Option<IpAddr>) {
        let next = self.lock().end_arrived(from.map(|ip| network(ip.to_canonical())));
        self.hand(next);
    }

    /// Ends the turns of those who take too long to show a certificate, and says when to look again.
    pub(super) fn end_late(&self, now: Instant) -> Option<Instant> {
        loop {
            let next = self.lock().end_late(now);
            match next {
                Some(next) => self.hand(next),
                None => return self.lock().look_again(),
            }
        }
    }

    /// How many there are at this time.
    #[cfg(test)]
    pub(super) fn given(&self) -> usize {
        self.lock().count().0
    }

    /// What is worked on is looked at, after something had come for it at this time. Whether anything had.
    fn look(&self, since: Option<Instant>, is_first: bool) -> bool {
        let Some(since) = since else { return false };
        let now = Instant::now();
        let mut next = self.lock().look(now.saturating_duration_since(since), is_first, now);
        while next.is_some() {
            self.hand(next);
            next = self.lock().next();
        }
        true
    }

    fn turn_now(&self, network: Network) -> Option<Turn> {
        self.lock().begin(network).then(|| Turn::new(self, network))
    }

    async fn turn(&self, network: Network) -> Option<Turn> {
        let (_place, turn) = {
            let mut inner = self.lock();
            if inner.begin(network) {
                return Some(Turn::new(self, network));
            }
            let (sender, turn) = oneshot::channel();
            let number = inner.wait(network, sender);
            (Waiting(self.clone(), network, number), turn)
        };
        // Nobody drops a sender but whoever waits.
        turn.await.ok()
    }

    /// Hands a turn to whoever is next.
    fn hand(&self, next: Option<(Network, oneshot::Sender<Turn>)>) {
        if let Some((network, next)) = next {
            // Should it have left in this moment, what comes back is a turn again, which is dropped in turn.
            drop(next.send(Turn::new(self, network)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<oneshot::Sender<Turn>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    fn new(turns: &Turns, network: Network) -> Self {
        Self(Some((turns.clone(), network, Instant::now())))
    }

    /// The handshake is done.
    fn arrive(mut self) {
        if let Some((turns, network, since)) = self.0.take() {
            let mut inner = turns.lock();
            let until = (since + inner.longest()).max(Instant::now() + SILENT);
            inner.arrive(network, until);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((turns, network, since)) = self.0.take() {
            let mut inner = turns.lock();
            // Also where whoever had it left before its end.
            if since.elapsed() >= SILENT {
                inner.waste();
            }
            let next = inner.end(network);
            drop(inner);
            turns.hand(next);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().forget(self.1, self.2);
    }
}

#[cfg(test)]
mod tests;
