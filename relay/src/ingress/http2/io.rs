//! A visitor's socket under HTTP/2: whether the connection has begun to speak it, and whether it takes bytes. What else
//! moves on it keeps nobody: a connection without requests is idle whatever is said on it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::alive::Heard;
use crate::ingress::{deadline::Stage, visit::Visit, visitor_io::VisitorStream};

/// What every client sends first (RFC 9113 §3.4): the preface, and the head of its settings.
const OPENING: usize = 24 + 9;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Http2Io<S> {
    stream: S,
    visit: Arc<Visit>,
    heard: Heard,
    /// What is missing of the opening.
    opening: usize,
}

impl<S> Http2Io<S> {
    pub(super) fn new(stream: S, visit: Arc<Visit>, heard: Heard) -> Self {
        Self { stream, visit, heard, opening: OPENING }
    }

    fn received(&mut self, bytes: usize) {
        self.heard.store(true, Relaxed);
        if self.opening > 0 {
            self.opening = self.opening.saturating_sub(bytes);
            if self.opening == 0 && self.visit.stage() == Stage::Opened {
                self.visit.enter(Stage::Idle);
            }
        }
    }
}

impl<S: VisitorStream> AsyncRead for Http2Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.received(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: VisitorStream> AsyncWrite for Http2Io<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.visit.wrote(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.visit.flushed(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.visit.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
