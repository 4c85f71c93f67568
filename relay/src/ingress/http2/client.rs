//! HTTP/2 to a server behind a pipe, for one request.
//!
//! A task of its own moves the connection: both directions of a call go on though its visitor does not read, as far as the
//! windows allow. It ends with the call.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
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
use mytunnel_keys::wire::PipeStatus;
use tokio::task::JoinSet;

use crate::ingress::{body::RequestBody, limits::Limits, locked, upstream::Answered};

/// What a server may send before the visitor has taken it, in bytes.
const WINDOW: u32 = 256 * 1024;

/// See the [module](self).
pub(in crate::ingress) struct Http2 {
    sender: SendRequest<RequestBody>,
    /// What the node has said of the pipe, if that was a refusal: the errors of HTTP/2 do not carry it.
    refused: Arc<OnceLock<PipeStatus>>,
    /// Aborted when it is dropped.
    _driver: JoinSet<()>,
}

impl Http2 {
    pub(in crate::ingress) async fn new(pipe: Answered, limits: &Limits) -> hyper::Result<Self> {
        let refused = Arc::default();
        let io = TokioIo::new(pipe.telling(Arc::clone(&refused)));
        let beside = Beside::default();
        let (sender, connection) = Builder::new(beside.clone())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(limits.buffer_bytes)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .handshake(io)
            .await?;
        let mut driver = Driver { connection, beside, at_work: FuturesUnordered::new() };
        let mut task = JoinSet::new();
        task.spawn(poll_fn(move |cx| driver.poll(cx)));
        Ok(Self { sender, refused, _driver: task })
    }

    pub(in crate::ingress) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        self.sender.try_send_request(request)
    }

    /// Why the node does not serve the pipe, if it has said so.
    pub(in crate::ingress) fn refused(&self) -> Option<PipeStatus> {
        self.refused.get().copied()
    }
}

/// Moves the connection, and what it has given out to be done beside.
struct Driver {
    connection: Connection<TokioIo<Answered>, RequestBody, Beside>,
    beside: Beside,
    at_work: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Driver {
    /// Moves everything as far as it goes; ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ended = Pin::new(&mut self.connection).poll(cx).is_ready();
        loop {
            // What was given out has to be looked at once to be woken later.
            self.at_work.extend(locked(&self.beside.0).drain(..));
            match self.at_work.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) | Poll::Pending if locked(&self.beside.0).is_empty() => break,
                Poll::Ready(None) | Poll::Pending => {}
            }
        }
        if ended { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("refused", &self.refused).finish_non_exhaustive()
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
