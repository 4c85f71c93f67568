//! HTTP/2 to a server behind a pipe, for one request: driven by whoever waits for its answer, as everything on a pipe is.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http2::{Builder, Connection, SendRequest},
    },
    rt::Executor,
};
use hyper_util::rt::TokioIo;

use crate::ingress::{body::RequestBody, limits::Limits, locked, upstream::Answered};

/// What a server may send before the visitor has taken it, in bytes.
const WINDOW: u32 = 256 * 1024;

/// See the [module](self).
pub(in crate::ingress) struct Http2 {
    sender: SendRequest<RequestBody>,
    driver: Driver,
}

/// Moves the connection, and what it has given out to be done beside.
pub(in crate::ingress) struct Driver {
    connection: Connection<TokioIo<Answered>, RequestBody, Beside>,
    ended: bool,
    beside: Beside,
    at_work: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Http2 {
    pub(in crate::ingress) async fn new(io: TokioIo<Answered>, limits: &Limits) -> hyper::Result<Self> {
        let beside = Beside::default();
        let (sender, connection) = Builder::new(beside.clone())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(limits.buffer_bytes)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .handshake(io)
            .await?;
        let driver = Driver { connection, ended: false, beside, at_work: FuturesUnordered::new() };
        Ok(Self { sender, driver })
    }

    /// Sends the request, and says what is to be moved until the answer is there.
    pub(in crate::ingress) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> (
        impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<>,
        &mut Driver,
    ) {
        (self.sender.try_send_request(request), &mut self.driver)
    }

    /// See [`Driver::poll`].
    pub(in crate::ingress) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        self.driver.poll(cx)
    }
}

impl Driver {
    /// Moves everything as far as it goes, and says whether the connection has ended.
    pub(in crate::ingress) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        self.at_work.extend(locked(&self.beside.0).drain(..));
        while let Poll::Ready(Some(())) = self.at_work.poll_next_unpin(cx) {}
        if !self.ended {
            self.ended = Pin::new(&mut self.connection).poll(cx).is_ready();
        }
        // Given out meanwhile: it has to be looked at once to be woken later.
        self.at_work.extend(locked(&self.beside.0).drain(..));
        while let Poll::Ready(Some(())) = self.at_work.poll_next_unpin(cx) {}
        self.ended
    }
}

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("ended", &self.driver.ended).finish_non_exhaustive()
    }
}

/// What the connection wants done beside itself: passing on the request's body.
#[derive(Clone, Default)]
struct Beside(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl<F> Executor<F> for Beside
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        locked(&self.0).push(Box::pin(work));
    }
}
