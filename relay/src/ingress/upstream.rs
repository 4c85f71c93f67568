//! One pipe with an HTTP client on it, driven by whoever uses it: of HTTP/1.1, or of HTTP/2 for gRPC, whose servers speak
//! nothing else.
//!
//! hyper wants a client connection to be a task of its own, which costs two wake-ups and often a change of thread for
//! each request. Here the connection is a value: the visitor's task polls it while it waits for the answer and while
//! it passes the body on, and nobody polls it while it idles in the pool. An idle pipe that died is found out at its
//! next use, before anything of the request was sent.

use std::{
    error::Error as _,
    fmt,
    future::Future,
    io, mem,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, Connection, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use mytunnel_keys::wire::{PipeStatus, UnknownStatus};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    bell::Bell,
    body::{Granted, RequestBody},
    http2::client::Http2,
    limits::Limits,
    visit::Visit,
};
use crate::route::{Life, Pipe};

/// See the [module](self).
pub(crate) struct Upstream {
    client: Client,
    ended: bool,
    lane: bool,
    bell: Bell,
    accepted: Option<Arc<Granted>>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are the large one, and each is boxed with what is around it"
)]
enum Client {
    Http1 { sender: SendRequest<RequestBody>, connection: Connection<TokioIo<Answered>, RequestBody> },
    Http2(Http2),
}

/// Which version of HTTP a server behind a pipe is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// HTTP/1.1, on pipes that are kept.
    Http1,
    /// HTTP/2 from the first byte (RFC 9113 §3.3), on a pipe for each request.
    Http2,
}

/// Hyper's own bound on fields. Set explicitly, even to the same number, it costs an allocation for each head.
pub(crate) const HYPER_HEAD_FIELDS: usize = 100;

/// Why a request got no response.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Nothing was sent; here is the request again, and what the node said about the pipe.
    Unsent(Box<Request<RequestBody>>, Option<PipeStatus>),
    /// The node answered for the pipe that there is nothing behind it.
    Refused(PipeStatus),
    /// The pipe ended or spoke no HTTP.
    Broken,
    /// The tunnel was closed.
    Cut,
    /// The deadline passed.
    Expired,
}

impl Upstream {
    /// Speaks HTTP on a pipe; `lane` tells that it is of the faster kind.
    pub(crate) async fn new(
        (pipe, lane): (Answered, bool),
        speech: Speech,
        limits: &Limits,
    ) -> hyper::Result<Box<Self>> {
        let accepted = pipe.accepted.clone();
        let client = match speech {
            Speech::Http1 => {
                let io = TokioIo::new(pipe);
                let mut builder = Builder::new();
                builder.max_buf_size(limits.buffer_bytes);
                if limits.head_fields != HYPER_HEAD_FIELDS {
                    builder.max_headers(limits.head_fields);
                }
                let (sender, connection) = builder.handshake(io).await?;
                Client::Http1 { sender, connection }
            }
            Speech::Http2 => Client::Http2(Http2::new(pipe, limits).await?),
        };
        Ok(Box::new(Self { client, ended: false, lane, bell: Bell::new(), accepted }))
    }

    /// Sends `request` and waits for the head of its response.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
        visit: &Visit,
    ) -> Result<Response<Incoming>, Lost> {
        let (bell, ended) = (&self.bell, &mut self.ended);
        let answered = match &mut self.client {
            Client::Http1 { sender, connection } => {
                let answer = pin!(sender.try_send_request(request));
                let work = |cx: &mut Context<'_>| connection.poll_without_shutdown(cx).is_ready();
                answer_of(answer, work, (bell, ended), visit).await?
            }
            Client::Http2(client) => {
                let mut answer = pin!(client.send(request));
                guard(visit, |cx| answer.as_mut().poll(cx)).await?
            }
        };
        match answered {
            Ok(response) => Ok(response),
            Err(mut error) => {
                let request = error.take_message();
                let status = match &self.client {
                    Client::Http1 { .. } => refusal(&error.into_error()),
                    Client::Http2(client) => client.refused(),
                };
                Err(match (request, status) {
                    (Some(request), status) => Lost::Unsent(Box::new(request), status),
                    (None, Some(status)) => Lost::Refused(status),
                    (None, None) => Lost::Broken,
                })
            }
        }
    }

    /// The next frame of the response's body. Moves bytes in both directions meanwhile.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Client::Http1 { connection, .. } = &mut self.client else {
            return Pin::new(body).poll_frame(cx);
        };
        let ended = &mut self.ended;
        let mut received = || Pin::new(&mut *body).poll_frame(&mut Context::from_waker(Waker::noop()));
        self.bell.poll(cx, |cx| {
            let frame = received();
            if frame.is_ready() || *ended {
                return frame;
            }
            *ended = connection.poll_without_shutdown(cx).is_ready();
            received()
        })
    }

    /// Makes the pipe ready to idle; `false` if its last exchange is not complete or it ended. Whoever used it is
    /// not woken for it any more.
    pub(crate) fn park(&mut self) -> bool {
        self.bell.rest();
        match &self.client {
            Client::Http1 { sender, .. } => !self.ended && sender.is_ready(),
            // Nothing is known of it but that it has served one request.
            Client::Http2(_) => false,
        }
    }

    /// Where it is told that the tunnel's server has taken the connection.
    pub(crate) fn accepted(&self) -> Option<&Arc<Granted>> {
        self.accepted.as_ref()
    }

    /// Whether the pipe is of the faster kind.
    pub(crate) fn is_lane(&self) -> bool {
        self.lane
    }

    /// Gives up HTTP after a 101 and returns the pipe, with what was read of the new protocol already.
    pub(crate) async fn into_pipe(self: Box<Self>) -> Option<(Answered, Bytes)> {
        let Client::Http1 { mut connection, .. } = self.client else { return None };
        if !self.ended {
            // However HTTP ended on it, the bytes are what matters from here on.
            drop(std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await);
        }
        let parts = connection.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("ended", &self.ended).finish_non_exhaustive()
    }
}

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Waits for the head of a response, and moves the connection meanwhile; `moves` says when that has ended.
async fn answer_of(
    mut answer: Pin<&mut impl Future<Output = Sent>>,
    mut moves: impl FnMut(&mut Context<'_>) -> bool,
    (bell, ended): (&Bell, &mut bool),
    visit: &Visit,
) -> Result<Sent, Lost> {
    let answered = guard(visit, |cx| {
        bell.poll(cx, |cx| {
            if !*ended {
                *ended = moves(cx);
            }
            // Only the connection just polled can complete it: no need to be woken for that.
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
    });
    answered.await
}

/// Polls `work` until it is ready, the tunnel is closed, or the visit's deadline passes.
pub(crate) async fn guard<T>(
    visit: &Visit,
    mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Result<T, Lost> {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = work(cx) {
            return Poll::Ready(Ok(done));
        }
        if visit.is_cut() {
            return Poll::Ready(Err(Lost::Cut));
        }
        if visit.is_expired() {
            return Poll::Ready(Err(Lost::Expired));
        }
        Poll::Pending
    })
    .await
}

/// A pipe whose status byte is read off before the first byte of payload. A status other than "connected" is an
/// [`io::Error`] that carries [`Refusal`].
///
/// A libp2p stream that was reset, or whose connection died, reads as an ordinary end, and a body that ends with its
/// pipe would look whole. What differs is the way back, which is closed then too: so an end of reading is an error
/// unless the pipe still takes a write. (A node that ends a pipe properly keeps it until we close our half as well.)
pub(crate) struct Answered {
    pipe: Pipe,
    answered: bool,
    shut: bool,
    /// Whether a read found nothing, so that what comes next has come since.
    waited: bool,
    /// Where a refusal is noted for those whom the error does not reach.
    refused: Option<Arc<OnceLock<PipeStatus>>>,
    accepted: Option<Arc<Granted>>,
    life: Arc<Life>,
}

impl Answered {
    /// A pipe to a node of which this is heard.
    pub(crate) fn new(pipe: Pipe, life: &Arc<Life>) -> Self {
        Self {
            pipe,
            answered: false,
            shut: false,
            waited: false,
            refused: None,
            accepted: None,
            life: Arc::clone(life),
        }
    }

    /// The same, which tells there that the tunnel's server has taken the connection.
    pub(crate) fn accepting(self, accepted: Option<Arc<Granted>>) -> Self {
        Self { accepted, ..self }
    }

    /// The same, which notes a refusal.
    pub(crate) fn telling(self, refused: Arc<OnceLock<PipeStatus>>) -> Self {
        Self { refused: Some(refused), ..self }
    }

    /// Completes when the node has said that its target takes the connection.
    pub(crate) async fn answer(&mut self) -> io::Result<()> {
        let answered = std::future::poll_fn(|cx| self.poll_answer(cx)).await?;
        if answered { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// `false` when the pipe has ended without an answer.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.answered {
            return Poll::Ready(Ok(true));
        }
        let mut byte = [0];
        let mut status = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.pipe).poll_read(cx, &mut status))?;
        let Some(&byte) = status.filled().first() else { return Poll::Ready(Ok(false)) };
        self.life.hear();
        match PipeStatus::try_from(byte).map_err(|error: UnknownStatus| io::Error::other(error))? {
            PipeStatus::Connected => {
                self.answered = true;
                if let Some(accepted) = &self.accepted {
                    accepted.grant();
                }
                Poll::Ready(Ok(true))
            }
            status @ (PipeStatus::TargetUnreachable | PipeStatus::UnknownTunnel) => {
                if let Some(refused) = &self.refused {
                    let _ = refused.set(status);
                }
                Poll::Ready(Err(io::Error::other(Refusal(status))))
            }
        }
    }

    fn written(&self, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        if let Ok(bytes) = written {
            self.life.take(bytes);
        }
        Poll::Ready(written)
    }

    fn check_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.shut {
            return Ok(());
        }
        match Pin::new(&mut self.pipe).poll_write(cx, &[]) {
            Poll::Ready(Err(error)) => Err(io::Error::new(io::ErrorKind::ConnectionReset, error)),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").field("answered", &self.answered).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the node refused the pipe: {0:?}")]
struct Refusal(PipeStatus);

fn refusal(error: &hyper::Error) -> Option<PipeStatus> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(status) = error.downcast_ref::<io::Error>().and_then(refused) {
            return Some(status);
        }
        source = error.source();
    }
    None
}

/// What the node has said instead of taking the pipe.
pub(crate) fn refused(error: &io::Error) -> Option<PipeStatus> {
    error.get_ref()?.downcast_ref::<Refusal>().map(|refusal| refusal.0)
}

impl AsyncRead for Answered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !ready!(self.poll_answer(cx))? {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.pipe).poll_read(cx, buf) else {
            self.waited = true;
            return Poll::Pending;
        };
        read?;
        // What lay here may be from before the node stood still: a visitor who reads slowly is no sign of its life.
        let is_news = mem::take(&mut self.waited);
        if buf.filled().len() == before {
            self.check_end(cx)?;
        } else if is_news {
            self.life.hear();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Answered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write(cx, buf));
        self.written(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write_vectored(cx, bufs));
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_lay_here_when_it_was_asked_for_is_no_sign_of_life() {
        let (mut node, pipe) = duplex(1024);
        let life = Arc::<Life>::default();
        let mut answered = Answered::new(Box::new(pipe), &life);
        node.write_all(&[PipeStatus::Connected as u8]).await.unwrap();
        answered.answer().await.unwrap();
        node.write_all(&[0; 100]).await.unwrap();
        let heard = life.heard();
        let mut chunk = [0; 10];
        for _ in 0..10 {
            answered.read_exact(&mut chunk).await.unwrap();
        }
        assert!(!life.is_heard_since(heard), "a visitor who reads slowly");
        let (read, written) = tokio::join!(answered.read_exact(&mut chunk), node.write_all(&[0; 10]));
        read.and(written.map(|()| 0)).unwrap();
        assert!(life.is_heard_since(heard));
    }
}
