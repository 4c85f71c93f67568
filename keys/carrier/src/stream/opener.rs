//! The asking side of a connection: [`Opener`] and the request that it sends to the connection's handler.

use std::io;

use futures::{
    SinkExt as _,
    channel::{mpsc, oneshot},
};
use libp2p::{PeerId, Stream, StreamProtocol, swarm::ConnectionId};

/// One stream asked for; answered exactly once, or dropped when the connection ends.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) protocol: StreamProtocol,
    pub(super) reply: oneshot::Sender<Result<Stream, OpenError>>,
}

/// Opens streams on one connection.
///
/// Cloning is cheap. The opener does not keep the connection alive; when the connection ends, every call answers
/// [`OpenError::Closed`].
#[derive(Debug, Clone)]
pub struct Opener {
    peer: PeerId,
    connection: ConnectionId,
    requests: mpsc::Sender<Request>,
}

impl Opener {
    pub(super) fn new(peer: PeerId, connection: ConnectionId, requests: mpsc::Sender<Request>) -> Self {
        Self { peer, connection, requests }
    }

    /// Opens a stream of `protocol`.
    ///
    /// With [`crate::transport::swarm_config`] the negotiation is lazy: the stream is there at once, its header
    /// travels with the first write, and a refusal shows up as an error of the first read.
    ///
    /// # Errors
    /// [`OpenError`] says whether the connection, the time or the other end was the obstacle.
    pub async fn open(&self, protocol: StreamProtocol) -> Result<Stream, OpenError> {
        let (reply, answer) = oneshot::channel();
        // Each caller has one place in the queue: it is bounded by who waits for an answer.
        self.requests.clone().send(Request { protocol, reply }).await.map_err(|_| OpenError::Closed)?;
        answer.await.map_err(|_| OpenError::Closed)?
    }

    /// The peer at the other end.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// The connection this opener is bound to.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }
}

/// Why a stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The connection ended before the stream stood.
    #[error("the connection is closed")]
    Closed,
    /// The other end did not answer in time.
    #[error("opening the stream timed out")]
    Timeout,
    /// The other end does not speak the protocol.
    #[error("the other end does not speak {0}")]
    Unsupported(StreamProtocol),
    /// The connection failed while the stream was negotiated.
    #[error("opening the stream failed")]
    Io(#[source] io::Error),
}
