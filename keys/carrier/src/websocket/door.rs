//! The relay's side: a libp2p transport whose connections somebody else accepts, over HTTP, and hands in.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{Pending, Ready, ready};
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::timeout,
};

use super::{
    messages::{self, Stream},
    place::Place,
};

/// Connections that wait for the relay to look at them.
const WAITING: usize = 64;

/// How long one more waits for a place.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a connection is made of.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// One that was handed in, and where it comes from.
type Handed = (Stream<Box<dyn Socket>>, SocketAddr);

/// Where connections come out that were [handed in](Entrance). It listens at [places](Place), each of which is only told to others.
pub struct Door {
    handed: mpsc::Receiver<Handed>,
    listening: Vec<(ListenerId, Multiaddr)>,
    /// What is listened at since it was told last.
    news: Vec<(ListenerId, Multiaddr)>,
    /// One has come out, and it is the turn of those who come by other ways.
    gave_one: bool,
}

/// Where connections are handed in. Clones lead to the same door.
#[derive(Clone)]
pub struct Entrance(mpsc::Sender<Handed>);

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many connections of nodes wait")]
pub struct Full;

impl Door {
    /// A door and its entrance.
    pub fn new() -> (Self, Entrance) {
        let (entrance, handed) = mpsc::channel(WAITING);
        (Self { handed, listening: Vec::new(), news: Vec::new(), gave_one: false }, Entrance(entrance))
    }
}

impl Entrance {
    /// Whether one more would be taken at this moment: to be asked before HTTP agrees to a WebSocket.
    pub fn has_room(&self) -> bool {
        !self.0.is_closed() && self.0.capacity() > 0
    }

    /// Hands in a connection that HTTP has given up after it agreed to a WebSocket; `first` has come already. It waits a moment for a
    /// place, should others have been faster.
    ///
    /// # Errors
    /// [`Full`] when too many wait, or the relay is gone.
    pub async fn enter(&self, socket: Box<dyn Socket>, first: Vec<u8>, from: SocketAddr) -> Result<(), Full> {
        let place = timeout(PATIENCE, self.0.reserve()).await;
        let place = place.map_err(|_| Full)?.map_err(|_| Full)?;
        place.send((messages::of_server(socket, first).await, from));
        Ok(())
    }
}

impl Transport for Door {
    type Output = Stream<Box<dyn Socket>>;
    type Error = io::Error;
    type ListenerUpgrade = Ready<Result<Self::Output, io::Error>>;
    type Dial = Pending<Result<Self::Output, io::Error>>;

    fn listen_on(&mut self, id: ListenerId, at: Multiaddr) -> Result<(), TransportError<io::Error>> {
        if Place::of(&at).is_none() {
            return Err(TransportError::MultiaddrNotSupported(at));
        }
        self.listening.push((id, at.clone()));
        self.news.push((id, at));
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let before = self.listening.len();
        self.listening.retain(|(listener, _)| *listener != id);
        let is_removed = self.listening.len() < before;
        if is_removed && self.listening.is_empty() {
            // Who comes from here on is told so, instead of being dropped.
            self.handed.close();
        }
        is_removed
    }

    fn dial(&mut self, to: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(to))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        if let Some((listener_id, listen_addr)) = self.news.pop() {
            return Poll::Ready(TransportEvent::NewAddress { listener_id, listen_addr });
        }
        // Whoever polls takes one event at a time, from here first: without turns a crowd here would keep all others waiting.
        if std::mem::take(&mut self.gave_one) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            match self.handed.poll_recv(cx) {
                Poll::Ready(Some((stream, from))) => {
                    // Nobody listens any more: it is dropped.
                    let Some((listener_id, local_addr)) = self.listening.first().cloned() else { continue };
                    self.gave_one = true;
                    let from = Multiaddr::from(from.ip()).with(Protocol::Tcp(from.port()));
                    return Poll::Ready(TransportEvent::Incoming {
                        listener_id,
                        upgrade: ready(Ok(stream)),
                        local_addr,
                        send_back_addr: from.with(Protocol::Ws("/".into())),
                    });
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("listening", &self.listening).finish_non_exhaustive()
    }
}

impl fmt::Debug for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entrance").finish_non_exhaustive()
    }
}
