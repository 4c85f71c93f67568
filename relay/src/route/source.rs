//! Pipes: ordered byte streams to a tunnel's local server, whatever carries them (a libp2p stream, a TLS lane, a duplex in a
//! test).

use std::{fmt, io};

use futures::future::{BoxFuture, ready};
use tokio::io::{AsyncRead, AsyncWrite};

/// What a pipe must be able to do.
pub trait PipeIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> PipeIo for T {}

/// An ordered byte stream to a tunnel's local server.
///
/// The preface (tunnel id) is already sent; the node's one status byte is still to be read, so that a fresh pipe
/// costs no round trip. May be driven from any thread.
pub type Pipe = Box<dyn PipeIo>;

/// Why no pipe could be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipeError {
    /// The node's connection is gone; the name may come back.
    #[error("the node is not connected")]
    Gone,
    /// The carrier's own bound on streams is reached.
    #[error("too many pipes are open")]
    Busy,
    /// The stream could not be opened.
    #[error("the pipe could not be opened")]
    Open(#[source] io::Error),
}

/// Opens pipes to one tunnel.
pub trait PipeSource: Send + Sync + fmt::Debug {
    /// Opens a fresh pipe with its preface sent (it may still sit in a buffer: the first flush takes it along).
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>>;

    /// A pipe of a faster kind than [`open`](Self::open) gives, if one is at hand.
    fn take_lane(&self) -> Option<Pipe> {
        None
    }

    /// Asks the node whether it is there; its target has no part in that.
    fn probe(&self) -> BoxFuture<'_, Result<(), PipeError>> {
        Box::pin(ready(Ok(())))
    }

    /// Whether [`take_lane`](Self::take_lane) would give one, so that a common pipe is not worth keeping.
    fn has_lane(&self) -> bool {
        false
    }
}
