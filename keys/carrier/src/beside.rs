//! What an HTTP/2 connection of hyper wants done beside itself (the exchanges it has accepted, the bodies it sends), by the task
//! that moves the connection: a task for each would outlive it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use hyper::rt::Executor;

/// The executor to build a connection with. Nothing that it is given moves but through [`Beside::drive`].
#[derive(Clone, Default)]
pub struct Beside(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Beside {
    fn given(&self) -> MutexGuard<'_, Vec<BoxFuture<'static, ()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a connection that was built with this executor, and what it gives out, until the connection has ended;
    /// whatever it has given out is dropped with it.
    pub const fn drive<C: Future + Unpin>(self, connection: C) -> Driven<C> {
        Driven { connection, beside: self, at_work: None }
    }
}

impl<F> Executor<F> for Beside
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        self.given().push(Box::pin(work));
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").finish_non_exhaustive()
    }
}

/// A connection and what it has given out; see [`Beside::drive`].
#[must_use = "futures do nothing unless they are polled"]
pub struct Driven<C> {
    connection: C,
    beside: Beside,
    at_work: Option<FuturesUnordered<BoxFuture<'static, ()>>>,
}

impl<C: Future + Unpin> Future for Driven<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { connection, beside, at_work } = &mut *self;
        let at_work = at_work.get_or_insert_with(FuturesUnordered::new);
        loop {
            let ended = Pin::new(&mut *connection).poll(cx);
            if ended.is_ready() {
                return ended;
            }
            // What was given out has to be looked at once to be woken later.
            let mut has_moved = false;
            loop {
                at_work.extend(beside.given().drain(..));
                match at_work.poll_next_unpin(cx) {
                    Poll::Ready(Some(())) => has_moved = true,
                    Poll::Ready(None) | Poll::Pending if beside.given().is_empty() => break,
                    Poll::Ready(None) | Poll::Pending => {}
                }
            }
            // One that has ended may have left something to the connection.
            if !has_moved {
                return Poll::Pending;
            }
        }
    }
}

impl<C> fmt::Debug for Driven<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driven").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize, sync::atomic::Ordering::SeqCst, task::Waker};

    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    fn poll<F: Future + Unpin>(driven: &mut F) -> Poll<F::Output> {
        driven.poll_unpin(&mut Context::from_waker(Waker::noop()))
    }

    /// Counts itself while it is there.
    struct Counted(Arc<AtomicUsize>);

    impl Counted {
        fn new(count: &Arc<AtomicUsize>) -> Self {
            count.fetch_add(1, SeqCst);
            Self(Arc::clone(count))
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }

    #[test]
    fn what_work_gives_out_is_moved_in_the_same_turn_also_if_nothing_else_moves() {
        let (beside, moved) = (Beside::default(), Arc::new(AtomicUsize::new(0)));
        let (inner, counted) = (beside.clone(), Arc::clone(&moved));
        beside.execute(async move {
            let (innermost, once_more) = (inner.clone(), Arc::clone(&counted));
            inner.execute(async move {
                counted.fetch_add(1, SeqCst);
                innermost.execute(async move {
                    once_more.fetch_add(1, SeqCst);
                });
                std::future::pending::<()>().await;
            });
            std::future::pending::<()>().await;
        });
        let mut driven = beside.drive(std::future::pending::<()>());
        assert!(poll(&mut driven).is_pending());
        assert_eq!(moved.load(SeqCst), 2);
    }

    #[tokio::test]
    async fn whatever_is_given_out_is_woken_by_what_it_waits_for() {
        let beside = Beside::default();
        let (first, heard) = oneshot::channel::<()>();
        let (second, end) = oneshot::channel::<()>();
        let inner = beside.clone();
        beside.execute(async move {
            inner.execute(async move {
                heard.await.unwrap();
                second.send(()).unwrap();
            });
        });
        let waking = async {
            tokio::task::yield_now().await;
            first.send(()).unwrap();
        };
        let driven = beside.drive(end);
        let both = async { tokio::join!(driven, waking).0 };
        tokio::time::timeout(std::time::Duration::from_secs(10), both).await.unwrap().unwrap();
    }

    #[test]
    fn the_connection_has_a_turn_after_work_that_ended() {
        let (beside, left) = (Beside::default(), Arc::new(AtomicUsize::new(0)));
        let leaves = Arc::clone(&left);
        beside.execute(async move {
            leaves.fetch_add(1, SeqCst);
        });
        let connection = poll_fn(|_| match left.load(SeqCst) {
            0 => Poll::Pending,
            found => Poll::Ready(found),
        });
        assert_eq!(poll(&mut beside.drive(connection)), Poll::Ready(1));
    }

    #[test]
    fn all_work_is_dropped_with_the_connection_and_none_outlives_it() {
        let (beside, there) = (Beside::default(), Arc::new(AtomicUsize::new(0)));
        let give = |beside: &Beside| {
            let (held, inside, inner) = (Counted::new(&there), Arc::clone(&there), beside.clone());
            beside.execute(async move {
                let held_inside = Counted::new(&inside);
                inner.execute(async move {
                    let _held = held_inside;
                    std::future::pending::<()>().await;
                });
                let _held = held;
                std::future::pending::<()>().await;
            });
        };
        give(&beside);
        give(&beside);
        let mut driven = beside.drive(std::future::pending::<()>());
        assert!(poll(&mut driven).is_pending());
        assert_eq!(there.load(SeqCst), 4);
        drop(driven);
        assert_eq!(there.load(SeqCst), 0);
    }
}
