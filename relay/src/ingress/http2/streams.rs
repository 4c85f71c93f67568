//! The exchanges of one connection, as futures that the connection's own task polls: a task for each would outlive its
//! connection, and wake two where one does.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};

use super::{exchange::Broken, socket::Socket};
use crate::ingress::{visit::Visit, visitor};

/// See the [module](self).
#[derive(Default)]
pub(super) struct Streams(FuturesUnordered<Stream>);

struct Stream {
    future: BoxFuture<'static, ()>,
    visit: Arc<Visit>,
}

impl Streams {
    pub(super) fn push(
        &mut self,
        exchange: impl Future<Output = Result<Option<Socket>, Broken>> + Send + 'static,
        visit: Arc<Visit>,
    ) {
        let future = Box::pin(watched(exchange, Arc::clone(&visit)));
        self.0.push(Stream { future, visit });
    }

    /// Polls what is awake. Whether any ended, so that the connection may have something to do.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut ended = false;
        while let Poll::Ready(Some(())) = self.0.poll_next_unpin(cx) {
            ended = true;
        }
        ended
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The relay shuts down: what would go on for ever ends.
    pub(super) fn drain(&self) {
        self.0.iter().for_each(|stream| stream.visit.drain());
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.future.as_mut().poll(cx)
    }
}

/// One exchange under the watchdog. Dropping it resets the stream: nobody takes a part for the whole.
async fn watched(exchange: impl Future<Output = Result<Option<Socket>, Broken>> + Send, visit: Arc<Visit>) {
    let mut socket = None;
    {
        let mut answered = pin!(async {
            socket = exchange.await?;
            Ok::<_, Broken>(())
        });
        visitor::drive(&mut answered, &visit, |_| {}).await;
    }
    if let Some(socket) = socket {
        socket.splice(&visit).await;
    }
}
