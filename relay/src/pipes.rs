//! Pipes over libp2p: each a stream on the very connection that registered the tunnel.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{Stream, StreamProtocol};
use mytunnel_carrier::{
    pipe,
    stream::{OpenError, Opener},
};
use mytunnel_keys::{id::TunnelId, wire::PIPE_PROTOCOL};
use tokio::{
    io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use crate::route::{Pipe, PipeError, PipeSource};

const PROTOCOL: StreamProtocol = StreamProtocol::new(PIPE_PROTOCOL);

/// Opens pipes on one connection.
///
/// The places are shared by all tunnels of the connection: yamux ends a whole connection that exceeds its streams, so
/// that the bound is kept here.
#[derive(Debug)]
pub(crate) struct StreamPipes {
    opener: Opener,
    tunnel: TunnelId,
    places: Arc<Semaphore>,
}

impl StreamPipes {
    pub(crate) fn new(opener: Opener, tunnel: TunnelId, places: Arc<Semaphore>) -> Self {
        Self { opener, tunnel, places }
    }

    async fn open(&self) -> Result<Pipe, PipeError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| PipeError::Busy)?;
        let mut stream = self.opener.open(PROTOCOL).await.map_err(pipe_error)?;
        pipe::write_preface(&mut stream, self.tunnel.as_bytes()).await.map_err(PipeError::Open)?;
        Ok(Box::new(StreamPipe { stream: stream.compat(), _place: place }))
    }

    /// A pipe that is closed unused, which a node answers by closing it, too.
    async fn probe(&self) -> Result<(), PipeError> {
        let mut pipe = self.open().await?;
        pipe.shutdown().await.map_err(PipeError::Open)?;
        // Closed or reset: somebody did it.
        drop(pipe.read(&mut [0]).await);
        Ok(())
    }
}

impl PipeSource for StreamPipes {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        self.open().boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), PipeError>> {
        self.probe().boxed()
    }
}

fn pipe_error(error: OpenError) -> PipeError {
    match error {
        OpenError::Closed => PipeError::Gone,
        OpenError::Io(error) => PipeError::Open(error),
        OpenError::Timeout | OpenError::Unsupported(_) => PipeError::Open(io::Error::other(error)),
    }
}

/// A stream that gives its place back when it is dropped.
#[derive(Debug)]
struct StreamPipe {
    stream: Compat<Stream>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for StreamPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for StreamPipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
