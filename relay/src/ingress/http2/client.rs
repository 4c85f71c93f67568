//! HTTP/2 to a server behind a pipe, for one request.
//!
//! A task of its own moves the connection: both directions of a call go on though its visitor does not read, as far as the
//! windows allow. It ends with the call.

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
};

use futures::FutureExt as _;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http2::{Builder, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use mytunnel_carrier::beside::Beside;
use mytunnel_keys::wire::PipeStatus;
use tokio::task::JoinSet;

use crate::ingress::{body::RequestBody, limits::Limits, upstream::Answered};

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
        let mut task = JoinSet::new();
        // Its errors reach the call through the sender.
        task.spawn(beside.drive(connection).map(drop));
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

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("refused", &self.refused).finish_non_exhaustive()
    }
}
