//! The bytes of a WebSocket on a stream of HTTP/2 (RFC 8441 §5): its data frames, both ways.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::{RecvStream, SendStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};

use super::exchange::{Broken, poll_room};
use crate::ingress::{
    upgrade::{self, LINGER, Next, Spliced},
    visit::Visit,
};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Socket {
    to: SendStream<Bytes>,
    from: RecvStream,
    /// What has come and was not read yet.
    piece: Bytes,
    /// Whether something was handed over of which it is not known that the visitor has taken it.
    owed: bool,
    ended: bool,
}

impl Socket {
    pub(super) fn new(to: SendStream<Bytes>, from: RecvStream) -> Self {
        Self { to, from, piece: Bytes::new(), owed: false, ended: false }
    }

    /// Carries bytes between it and the node that `visit` has led to, until that ends and the visitor has taken what was left,
    /// or has had its time for that. Dropped before its end it resets the stream.
    pub(super) async fn splice(mut self, visit: &Visit) {
        let Some(Next::Splice(upgrade)) = visit.take_next() else { return };
        match upgrade::splice(&mut self, Bytes::new(), upgrade, visit).await {
            Spliced::Cut => {}
            // It is the visitor's to be quick: nothing depends on it any more.
            Spliced::Over => drop(timeout(LINGER, poll_fn(|cx| self.poll_end(cx))).await),
        }
    }

    /// Ends its own half, once the visitor has taken what was handed over.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if !self.ended {
            if self.owed {
                ready!(poll_room(&mut self.to, cx))?;
                self.to.reserve_capacity(0);
            }
            self.to.send_data(Bytes::new(), true)?;
            self.ended = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        Self::new(io::ErrorKind::ConnectionReset, broken)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(self.from.poll_data(cx)) {
                Some(piece) => self.piece = piece.map_err(Broken::from)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.piece.len().min(buffer.remaining());
        buffer.put_slice(&self.piece[..count]);
        self.piece.advance(count);
        self.from.flow_control().release_capacity(count).map_err(Broken::from)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !bytes.is_empty() {
            ready!(poll_room(&mut self.to, cx))?;
            self.to.send_data(Bytes::copy_from_slice(bytes), false).map_err(Broken::from)?;
            self.owed = true;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx).map_err(io::Error::from)
    }
}
