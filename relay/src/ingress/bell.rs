//! Wakes a visitor's task for its pipe, but not for what the task does itself.
//!
//! The parts of hyper signal each other through wakers even when one task polls both ends: taking a frame of a body
//! "wakes" the connection that is polled next anyway. For tokio a task that wakes itself has yielded: it goes to the
//! back of the queue, and another worker is roused to steal it, which at low load costs more than the request. A
//! [`Bell`] stands between: rung while its task is at work on the pipe, it only asks for one more round.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::AcqRel},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Bell {
    shared: Arc<Shared>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Shared {
    state: AtomicU8,
    task: AtomicWaker,
}

/// The task is at work and will look again by itself.
const AT_WORK: u8 = 1;
/// Something happened since the task began to look.
const RUNG: u8 = 2;

/// Rounds before the task yields to others after all.
const ROUNDS: usize = 8;

impl Bell {
    pub(crate) fn new() -> Self {
        let shared = Arc::<Shared>::default();
        Self { waker: Waker::from(Arc::clone(&shared)), shared }
    }

    /// Polls `work` until it is ready or nothing has happened meanwhile.
    pub(crate) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.shared.task.register(cx.waker());
        for _ in 0..ROUNDS {
            self.shared.state.swap(AT_WORK, AcqRel);
            let done = work(&mut Context::from_waker(&self.waker));
            let rung = self.shared.state.swap(0, AcqRel) & RUNG != 0;
            if done.is_ready() || !rung {
                return done;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Wakes nobody until the next [`poll`](Self::poll).
    pub(crate) fn rest(&self) {
        drop(self.shared.task.take());
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In one step with the end of work, so that a ring is either seen there or wakes.
        if self.state.fetch_or(RUNG, AcqRel) & AT_WORK == 0 {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn task() -> (Arc<Count>, Waker) {
        let count = Arc::<Count>::default();
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn a_ring_from_inside_means_another_round_and_no_wake() {
        let (count, waker) = task();
        let (bell, mut rounds) = (Bell::new(), 0);
        let done = bell.poll(&mut Context::from_waker(&waker), |cx| {
            rounds += 1;
            if rounds < 3 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert_eq!((done, rounds), (Poll::Pending, 3));
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_ring_from_outside_wakes_the_task_that_waits() {
        let (count, waker) = task();
        let bell = Bell::new();
        let mut inner = None;
        let poll = |inner: &mut Option<Waker>| {
            bell.poll(&mut Context::from_waker(&waker), |cx| {
                *inner = Some(cx.waker().clone());
                Poll::<()>::Pending
            })
        };
        assert!(poll(&mut inner).is_pending());
        let inner_waker = inner.clone().unwrap();
        inner_waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(poll(&mut inner).is_pending());
        bell.rest();
        inner_waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn work_that_never_rests_yields() {
        let (count, waker) = task();
        let mut rounds = 0;
        let done = Bell::new().poll(&mut Context::from_waker(&waker), |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((done, rounds), (Poll::Pending, ROUNDS));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}
