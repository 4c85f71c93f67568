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
