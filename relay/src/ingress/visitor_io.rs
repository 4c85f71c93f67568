//! A visitor's socket as hyper sees it: every byte read passes the [`Scanner`], a visitor that closes its half in the
//! middle of an exchange is not taken for gone, and one that stops reading is noticed.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{
    deadline::Stage,
    failure::Failure,
    framing::{Position, Scanner},
    own_answer::OwnAnswer,
    visit::Visit,
};

/// What a visitor's connection runs on.
pub(crate) trait VisitorStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Makes its end one that does not look proper.
    fn reset(&self) -> io::Result<()>;
}

impl VisitorStream for TcpStream {
    fn reset(&self) -> io::Result<()> {
        self.set_zero_linger()
    }
}

impl<S: VisitorStream> VisitorStream for TlsStream<S> {
    fn reset(&self) -> io::Result<()> {
        self.get_ref().0.reset()
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct VisitorIo<S> {
    stream: S,
    scanner: Scanner,
    visit: Arc<Visit>,
    own: OwnAnswer,
}

impl<S> VisitorIo<S> {
    pub(crate) fn new(stream: S, visit: Arc<Visit>, max_head: usize) -> Self {
        Self { stream, scanner: Scanner::new(max_head), visit, own: OwnAnswer::default() }
    }

    /// Whether the visitor is in the middle of a message.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.scanner.position() != Position::Between
    }

    /// What the visitor is to be told, whose request hyper has refused.
    pub(crate) fn refused(&self) -> Option<Failure> {
        self.own.failure()
    }

    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    fn received(&mut self, bytes: &[u8]) {
        if let Err(objection) = self.scanner.scan(bytes) {
            tracing::debug!(%objection, "request refused");
            self.visit.object(self.scanner.message());
        }
        if self.scanner.position() == Position::Head
            && matches!(self.visit.stage(), Stage::Opened | Stage::Idle)
        {
            self.visit.enter(Stage::Head);
        }
    }
}

impl<S: VisitorStream> AsyncRead for VisitorIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let received = &buf.filled()[before..];
        if received.is_empty() {
            // The request is complete and the visitor has said that it sends no other. It may still be reading:
            // hyper would take the end of the stream for a visitor who left.
            if self.scanner.position() == Position::Between && self.visit.in_exchange() {
                self.visit.half_close();
                return Poll::Pending;
            }
            return Poll::Ready(Ok(()));
        }
        self.received(received);
        Poll::Ready(Ok(()))
    }
}

impl<S: VisitorStream> AsyncWrite for VisitorIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.own.is(buf, &this.visit, &this.scanner) {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.visit.wrote(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        ready!(this.visit.flushed(result))?;
        this.own.flushed(&this.visit);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.own.failure() {
            // The page is still to come.
            Some(_) => Poll::Ready(Ok(())),
            None => Pin::new(&mut self.stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let first = bufs.first().map_or(&[][..], |buf| &**buf);
        if this.own.is(first, &this.visit, &this.scanner) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.visit.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
