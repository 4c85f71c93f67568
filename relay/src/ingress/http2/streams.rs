//! The exchanges of one connection, as futures that the connection's own task polls. hyper wants an executor for them;
//! a task for each would outlive its connection, and wake two where one does.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    future::{BoxFuture, Either, select},
    stream::FuturesUnordered,
};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::ingress::{
    locked,
    upgrade::{self, LINGER, Next, Spliced},
    visit::Visit,
    visitor,
};

/// Exchanges that hyper has begun, on their way to [`Streams`].
#[derive(Default)]
pub(super) struct Arrivals(Mutex<Arrived>);

#[derive(Default)]
struct Arrived {
    /// Whose future comes next.
    announced: Option<Arc<Visit>>,
    streams: Vec<Stream>,
    /// What writes for the exchange that is being polled, and has become a WebSocket.
    writer: Option<BoxFuture<'static, ()>>,
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
    visit: Arc<Visit>,
}

impl Arrivals {
    /// The future that comes next serves `visit`.
    pub(super) fn announce(&self, visit: &Arc<Visit>) {
        locked(&self.0).announced = Some(Arc::clone(visit));
    }

    fn push(self: &Arc<Self>, future: impl Future<Output = ()> + Send + 'static) {
        let mut arrived = locked(&self.0);
        match arrived.announced.take() {
            Some(visit) => {
                let exchange = exchange(future, Arc::clone(&visit), Arc::downgrade(self));
                arrived.streams.push(Stream { future: Box::pin(exchange), visit });
            }
            None => arrived.writer = Some(Box::pin(future)),
        }
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
        self.running.iter().for_each(|stream| stream.visit.drain());
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.future.as_mut().poll(cx)
    }
}

/// One exchange under the watchdog. Dropping hyper's future resets the stream: nobody takes a part for the whole.
async fn exchange(future: impl Future<Output = ()> + Send, visit: Arc<Visit>, arrivals: Weak<Arrivals>) {
    let mut future = Box::pin(async {
        future.await;
        Ok(())
    });
    visitor::drive(&mut future, &visit, |_| {}).await;
    drop(future);
    let writer = arrivals.upgrade().and_then(|arrivals| locked(&arrivals.0).writer.take());
    if let Some((Next::Splice(upgrade), writer)) = visit.take_next().zip(writer) {
        websocket(upgrade, writer, &visit).await;
    }
}

/// Until it ends and `writer` has written what was left, or the visitor has had its time to take that. Dropping the writer
/// before its end resets the stream.
async fn websocket(mut upgrade: upgrade::Upgrade, writer: BoxFuture<'static, ()>, visit: &Visit) {
    let Ok(upgraded) = (&mut upgrade.visitor).await else { return };
    let spliced = pin!(async move {
        let mut upgraded = TokioIo::new(upgraded);
        upgrade::splice(&mut upgraded, Bytes::new(), upgrade, visit).await
    });
    match select(spliced, writer).await {
        Either::Left((Spliced::Cut, _)) => {}
        // It is the visitor's to be quick: nothing depends on it any more.
        Either::Left((Spliced::Over, writer)) => drop(timeout(LINGER, writer).await),
        Either::Right(((), spliced)) => drop(spliced.await),
    }
}
