//! How a pipe ends, which its bytes alone do not tell.
//!
//! A libp2p stream that was reset reads as an ordinary end: yamux answers `Ok(0)` after a reset, and over QUIC a
//! dropped stream sends a proper end together with `STOP_SENDING`. What differs is the way back: after a reset it is
//! closed for writing. So at an end of reading, an empty write tells the two apart. For the same reason whoever
//! finished properly must read on until the other end has closed as well, before dropping the pipe.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::chunk::Chunk;

/// Called at an end of reading while our own half is open: was it a reset?
///
/// # Errors
/// `ConnectionReset` if it was.
pub fn check<P: AsyncWrite + Unpin>(cx: &mut Context<'_>, pipe: &mut P) -> io::Result<()> {
    match Pin::new(pipe).poll_write(cx, &[]) {
        Poll::Ready(Err(error)) => Err(io::Error::new(io::ErrorKind::ConnectionReset, error)),
        Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
    }
}

/// Throws away what the pipe sends, until it ends.
///
/// # Errors
/// Those of the pipe.
pub fn poll_discard<P: AsyncRead + Unpin>(cx: &mut Context<'_>, pipe: &mut P) -> Poll<io::Result<()>> {
    loop {
        // Dropped at once when there is nothing to read: a pipe that waits for its end holds no buffer.
        if ready!(Chunk::take().poll_fill(cx, pipe))? == 0 {
            return Poll::Ready(Ok(()));
        }
    }
}

/// Closes our half, then reads until the other end has closed as well.
///
/// # Errors
/// Those of the pipe.
pub async fn close<P: AsyncRead + AsyncWrite + Unpin>(pipe: &mut P) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut *pipe).poll_shutdown(cx)).await?;
    poll_fn(|cx| poll_discard(cx, pipe)).await
}
