//! HTTP/1.1 spoken on a pipe by this node itself.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use mytunnel_carrier::{chunk::Chunk, pipe_end};
use mytunnel_keys::wire::PipeStatus;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::{Pipe, PipeError, files::Files, pulse::Pulse};

/// Answers the requests of a pipe with files, one after the other, until either end closes it. An answer whose body
/// fails resets the pipe.
pub(super) async fn serve(
    mut pipe: impl Pipe,
    first: Chunk,
    files: &Files,
    pulse: Arc<Pulse>,
) -> Result<(), PipeError> {
    pipe.write_all(&[PipeStatus::Connected as u8]).await?;
    let files = files.clone();
    let service = service_fn(move |request| {
        let files = files.clone();
        async move { Ok::<_, Infallible>(files.answer(request).await) }
    });
    let io = TokioIo::new(HttpPipe::new(pipe, first, pulse));
    http1::Builder::new().serve_connection(io, service).await.map_err(PipeError::Http)
}

/// A pipe whose first bytes were read already, and whose shutdown waits for the other end to close as well.
#[derive(Debug)]
pub(super) struct HttpPipe<P> {
    pipe: P,
    first: Option<Chunk>,
    closed: bool,
    pulse: Arc<Pulse>,
}

impl<P> HttpPipe<P> {
    pub(super) fn new(pipe: P, first: Chunk, pulse: Arc<Pulse>) -> Self {
        Self { pipe, first: Some(first).filter(|first| !first.is_empty()), closed: false, pulse }
    }
}

impl<P: Pipe> AsyncRead for HttpPipe<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(first) = &mut self.first {
            let count = first.filled().len().min(buffer.remaining());
            buffer.put_slice(&first.filled()[..count]);
            first.consume(count);
            if first.is_empty() {
                self.first = None;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.pulse.up();
        } else if !self.closed {
            pipe_end::check(cx, &mut self.pipe)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<P: Pipe> AsyncWrite for HttpPipe<P> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.pulse.down();
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pulse.down();
        Pin::new(&mut self.pipe).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            ready!(Pin::new(&mut self.pipe).poll_shutdown(cx))?;
            self.closed = true;
        }
        pipe_end::poll_discard(cx, &mut self.pipe)
    }
}
