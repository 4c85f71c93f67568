//! Whose handshake is worked on: a few at a time, the newest first.
//!
//! A handshake costs the relay far more than what comes before it, and has a few seconds at the other end. When a fleet comes back at
//! one moment, working on all of them at once would let most of them run out of time with the work done in vain; and of those that wait,
//! the oldest are the likeliest to have been given up.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

/// Handshakes that are worked on at once.
const AT_ONCE: usize = 32;

/// How long a handshake keeps others waiting at most.
const TURN: Duration = Duration::from_millis(100);

/// How long it does so when nothing comes from its peer: waiting costs nothing, and whoever opens connections and says nothing is not
/// to have the turns of those who do.
const QUIET: Duration = Duration::from_millis(20);

/// See the [module documentation](self).
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    free: usize,
    next: u64,
    /// Those who wait, by the order in which they came.
    waiting: BTreeMap<u64, oneshot::Sender<Turn>>,
    /// When the turns of those end at the latest whose handshake is done, and who have yet to show a certificate.
    arrived: VecDeque<Instant>,
}

/// A place among those that are worked on, until it is dropped.
#[derive(Debug)]
struct Turn(Option<Turns>);

/// A place among those who wait, until it is dropped.
#[derive(Debug)]
struct Waiting(Turns, u64);

/// Whether what is worked on has something to do.
#[derive(Debug)]
struct Called {
    is_due: AtomicBool,
    waker: AtomicWaker,
}

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        self.is_due.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            free: AT_ONCE,
            next: 0,
            waiting: BTreeMap::new(),
            arrived: VecDeque::new(),
        })))
    }
}

impl Turns {
    /// Does a handshake when it has its turn, which lasts until [`Self::end_one`] where it succeeds in time: whoever has begun is to come to an
    /// end before others begin.
    pub(super) async fn take<T, E>(self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let turn = self.turn().await;
        let mut work = std::pin::pin!(work);
        let called = Arc::new(Called { is_due: AtomicBool::new(true), waker: AtomicWaker::new() });
        let mut end = std::pin::pin!(sleep(TURN));
        let mut quiet = std::pin::pin!(sleep(QUIET));
        let in_turn = poll_fn(|cx| {
            called.waker.register(cx.waker());
            if called.is_due.swap(false, Ordering::SeqCst) {
                let waker = Waker::from(Arc::clone(&called));
                if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Poll::Ready(Some(done));
                }
                quiet.as_mut().reset(Instant::now() + QUIET);
            }
            let is_over = end.as_mut().poll(cx).is_ready() || quiet.as_mut().poll(cx).is_ready();
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

    /// One whose handshake was done is admitted or gone.
    pub(super) fn end_one(&self) {
        let ended = self.lock().arrived.pop_front();
        if ended.is_some() {
            self.pass_on();
        }
    }

    /// Ends the turns of those who take too long to show a certificate, and says when to look again.
    pub(super) fn end_late(&self, now: Instant) -> Option<Instant> {
        loop {
            let mut inner = self.lock();
            let first = *inner.arrived.front()?;
            if first > now {
                return Some(first);
            }
            inner.arrived.pop_front();
            drop(inner);
            self.pass_on();
        }
    }

    /// A turn is over.
    fn pass_on(&self) {
        let next = {
            let mut inner = self.lock();
            let next = inner.waiting.pop_last();
            if next.is_none() {
                inner.free += 1;
            }
            next
        };
        if let Some((_, next)) = next {
            // Should it have left in this moment, what comes back is a turn again, which is dropped in turn.
            drop(next.send(Turn(Some(self.clone()))));
        }
    }

    async fn turn(&self) -> Option<Turn> {
        let (_place, turn) = {
            let mut inner = self.lock();
            if let Some(free) = inner.free.checked_sub(1) {
                inner.free = free;
                return Some(Turn(Some(self.clone())));
            }
            let (sender, turn) = oneshot::channel();
            let number = inner.next;
            inner.next += 1;
            inner.waiting.insert(number, sender);
            (Waiting(self.clone(), number), turn)
        };
        // Nobody drops a sender but whoever waits.
        turn.await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The handshake is done.
    fn arrive(mut self) {
        if let Some(turns) = self.0.take() {
            turns.lock().arrived.push_back(Instant::now() + TURN);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().waiting.remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::pending};

    use super::*;

    fn free(turns: &Turns) -> (usize, usize) {
        let inner = turns.lock();
        (inner.free, inner.waiting.len())
    }

    #[tokio::test]
    async fn the_newest_comes_first_and_who_leaves_is_forgotten() {
        let turns = Turns::default();
        let mut first: Vec<_> = (0..AT_ONCE).map(|_| turns.turn().now_or_never().unwrap()).collect();
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(turns.turn())).collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none(), "there is no room");
        }
        drop(waiting.pop());
        assert_eq!(free(&turns), (0, 2));
        first.pop();
        assert!(waiting[0].as_mut().now_or_never().is_none(), "it is the other's turn");
        let mut second = waiting.pop().unwrap();
        let second = second.as_mut().now_or_never().expect("the newest has it");
        assert_eq!(free(&turns), (0, 1));
        drop((first, second));
        assert!(waiting[0].as_mut().now_or_never().is_some());
        drop(waiting);
        assert_eq!(free(&turns), (AT_ONCE, 0), "nothing is left behind");
    }

    #[tokio::test]
    async fn one_who_is_given_its_turn_and_leaves_gives_it_back() {
        let turns = Turns::default();
        let first: Vec<_> = (0..AT_ONCE).map(|_| turns.turn().now_or_never().unwrap()).collect();
        let mut leaving = Box::pin(turns.turn());
        assert!(leaving.as_mut().now_or_never().is_none());
        drop(first);
        drop(leaving);
        assert_eq!(free(&turns), (AT_ONCE, 0));
    }

    /// Lets so many begin that there is no turn left; each does `work`.
    fn all<W: Future<Output = Result<(), ()>>>(turns: &Turns, work: impl Fn() -> W) -> impl Future {
        let each = (0..AT_ONCE).map(|_| {
            let mut one = Box::pin(turns.clone().take(work()));
            assert!(one.as_mut().now_or_never().is_none());
            one
        });
        futures::future::join_all(each.collect::<Vec<_>>())
    }

    /// When one more is done, beside those that have all turns.
    async fn after(turns: &Turns, others: impl Future) -> Duration {
        let begun = Instant::now();
        tokio::select! {
            biased;
            _ = others => panic!("they never end"),
            done = turns.clone().take(async { Err::<(), ()>(()) }) => {
                assert_eq!(done, Err(()));
                begun.elapsed()
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_hardly_keeps_anybody_waiting_and_who_goes_on_not_for_long() {
        let turns = Turns::default();
        let silent = all(&turns, pending);
        assert!(after(&turns, silent).await <= QUIET * 2);
        let turns = Turns::default();
        let dripping = all(&turns, || async {
            loop {
                sleep(QUIET / 2).await;
            }
        });
        let waited = after(&turns, dripping).await;
        assert!(waited > QUIET * 2 && waited <= TURN + QUIET, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_after_its_turn() {
        let (sender, receiver) = oneshot::channel();
        let turns = Turns::default();
        let mut slow = Box::pin(turns.clone().take(receiver));
        tokio::select! {
            biased;
            _ = &mut slow => panic!("it cannot be done"),
            () = sleep(TURN) => {}
        }
        assert_eq!(free(&turns), (AT_ONCE, 0));
        sender.send(7).unwrap();
        assert_eq!(slow.await, Ok(7));
        assert_eq!(free(&turns), (AT_ONCE, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_lasts_until_a_certificate_is_shown_or_should_have_been() {
        let turns = Turns::default();
        for _ in 0..AT_ONCE {
            turns.clone().take(async { Ok::<(), ()>(()) }).await.unwrap();
        }
        assert_eq!(free(&turns), (0, 0));
        let mut waiting = [Box::pin(turns.turn()), Box::pin(turns.turn())];
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        turns.end_one();
        let newest = waiting[1].as_mut().now_or_never().expect("one is admitted");
        assert!(waiting[0].as_mut().now_or_never().is_none());
        let look_again = turns.end_late(Instant::now()).expect("the others may still");
        turns.end_late(look_again);
        assert!(waiting[0].as_mut().now_or_never().is_some(), "they have had their time");
        drop((newest, waiting));
        assert_eq!(free(&turns), (AT_ONCE, 0));
        turns.end_one();
        assert_eq!(free(&turns), (AT_ONCE, 0), "nobody gives back what was taken away");
    }
}
