//! For who ends the TLS of a tunnel in this process: the connections of its visitors, and the way to its target.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    task::JoinSet,
};

use crate::{
    serve::{self, Patience, pulse::Pulse, table::Service},
    share::TunnelSpec,
    target::DialError,
};

/// Bytes under way in each direction.
const BUFFER: usize = 64 * 1024;

/// Takes the connections of a TLS tunnel's visitors, in the place of a server.
pub trait Terminal: fmt::Debug + Send + Sync {
    /// The near end of a connection with this visitor; none where it has as many as it may have.
    fn connect(&self, visitor: SocketAddr) -> Option<DuplexStream>;
}

/// What answers requests for a target, without a relay.
#[derive(Debug)]
pub struct Local(Arc<Service>);

impl Local {
    /// The target of this share, as visitors of a web site reach it.
    ///
    /// # Errors
    /// When the target cannot be dialled at all.
    pub fn new(spec: &TunnelSpec) -> Result<Self, DialError> {
        Service::new(spec).map(Arc::new).map(Self)
    }

    /// A pipe to it, as a relay has one: the status of the target comes before its first byte.
    pub fn open(&self) -> LocalPipe {
        let (near, far) = duplex(BUFFER);
        let service = Arc::clone(&self.0);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let pulse = Arc::new(Pulse::default());
            let served = serve::serve_lane(far, &service, Patience::default(), pulse, || ()).await;
            if let Err(error) = served {
                tracing::debug!(error = &error as &dyn std::error::Error, "pipe ended early");
            }
        });
        LocalPipe { near, _serving: serving }
    }
}

/// Dropping it breaks off what is under way, as a reset does.
#[derive(Debug)]
pub struct LocalPipe {
    near: DuplexStream,
    _serving: JoinSet<()>,
}

impl AsyncRead for LocalPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_read(cx, buf)
    }
}

impl AsyncWrite for LocalPipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.near).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_shutdown(cx)
    }
}
