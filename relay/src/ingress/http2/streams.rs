//! The exchanges of one connection, as futures that the connection's own task polls. hyper wants an executor for them;
//! a task for each would outlive its connection, and wake two where one does.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use hyper_util::rt::TokioIo;

use crate::ingress::{locked, upgrade, visit::Visit, visitor};

/// Exchanges that hyper has begun, on their way to [`Streams`].
#[derive(Default)]
pub(super) struct Arrivals(Mutex<Arrived>);

#[derive(Default)]
struct Arrived {
    /// Whose future comes next.
    announced: Option<Arc<Visit>>,
    streams: Vec<Stream>,
}

/// Takes hyper's futures; knows nothing of them once their connection is gone.
#[derive(Clone)]
pub(super) struct Executor(Weak<Arrivals>);

/// See the [module](self).
pub(super) struct Streams {
    arrivals: Arc<Arrivals>,
    running: FuturesUnordered<Stream>,
}

struct Stream {
    future: BoxFuture<'static, ()>,
    visit: Option<Arc<Visit>>,
}

impl Arrivals {
    /// The future that comes next serves `visit`.
    pub(super) fn announce(&self, visit: &Arc<Visit>) {
        locked(&self.0).announced = Some(Arc::clone(visit));
    }

    fn push(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut arrived = locked(&self.0);
        let visit = arrived.announced.take();
        let future: BoxFuture<'static, ()> = match &visit {
            Some(visit) => Box::pin(exchange(future, Arc::clone(visit))),
            // What writes for a stream that has become a WebSocket.
            None => Box::pin(future),
        };
        arrived.streams.push(Stream { future, visit });
    }
}

impl Executor {
    pub(super) fn new(arrivals: &Arc<Arrivals>) -> Self {
        Self(Arc::downgrade(arrivals))
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        if let Some(arrivals) = self.0.upgrade() {
            arrivals.push(future);
        }
    }
}

impl Streams {
    pub(super) fn new(arrivals: Arc<Arrivals>) -> Self {
        Self { arrivals, running: FuturesUnordered::new() }
    }

    /// Polls what is awake. Whether anything began or ended, so that the connection may have something to do.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        loop {
            let arrived = std::mem::take(&mut locked(&self.arrivals.0).streams);
            moved |= !arrived.is_empty();
            self.running.extend(arrived);
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => moved = true,
                Poll::Ready(None) => return moved,
                Poll::Pending if locked(&self.arrivals.0).streams.is_empty() => return moved,
                Poll::Pending => {}
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The relay shuts down: what would go on for ever ends.
    pub(super) fn drain(&self) {
        self.running.iter().filter_map(|stream| stream.visit.as_ref()).for_each(|visit| visit.drain());
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.future.as_mut().poll(cx)
    }
}

/// One exchange under the watchdog. Dropping hyper's future resets the stream: nobody takes a part for the whole.
async fn exchange(future: impl Future<Output = ()> + Send, visit: Arc<Visit>) {
    let mut future = Box::pin(async {
        future.await;
        Ok(())
    });
    visitor::drive(&mut future, &visit, |_| {}).await;
    drop(future);
    if let Some(mut upgrade) = visit.take_upgrade()
        && let Ok(upgraded) = (&mut upgrade.visitor).await
    {
        upgrade::splice(TokioIo::new(upgraded), bytes::Bytes::new(), upgrade, &visit).await;
    }
}
