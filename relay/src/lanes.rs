//! The fast lane's end at the relay: TLS connections that nodes opened ahead, each good for one pipe after another.
//!
//! A lane is admitted by the key that its handshake proved: that very key must hold the live registration which the
//! lane names, so that a lane can do nothing that the registration could not, and ends with it. Waiting lanes are
//! bounded per tunnel; a tunnel without one uses streams of the node's connection, which are always there.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::future::BoxFuture;
use libp2p::swarm::ConnectionId;
use mytunnel_carrier::lane;
use mytunnel_keys::{
    id::{PublicKey, TunnelId},
    secret::Seed,
};
use rustls::ServerConfig;
use tokio::{
    io::{self, AsyncRead, AsyncReadExt as _, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{StartHandshake, server::TlsStream};

use crate::route::{Pipe, PipeError, PipeSource};

/// Time for the handshake and the name of the tunnel together.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lanes that may wait for one tunnel. A node keeps far fewer ahead.
const WAITING: usize = 64;

type Lane = TlsStream<TcpStream>;

/// The lanes that wait for one tunnel.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<VecDeque<Box<Lane>>>);

impl Waiting {
    /// Keeps a lane; `false` when enough are kept.
    fn offer(&self, lane: Box<Lane>) -> bool {
        let mut lanes = locked(&self.0);
        // A node gives up lanes that were long unused; nobody else would notice.
        lanes.retain_mut(|lane| is_silent(lane));
        let room = lanes.len() < WAITING;
        if room {
            lanes.push_back(lane);
        }
        room
    }

    /// The lane that waited longest and still lives.
    fn take(&self) -> Option<Box<Lane>> {
        loop {
            let mut lane = locked(&self.0).pop_front()?;
            if is_silent(&mut lane) {
                return Some(lane);
            }
        }
    }

    fn is_empty(&self) -> bool {
        locked(&self.0).is_empty()
    }
}

/// A waiting lane has nothing to say: bytes or an end mean that it is of no use.
fn is_silent(lane: &mut Lane) -> bool {
    let mut byte = [0];
    let polled = std::pin::Pin::new(lane)
        .poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte));
    matches!(polled, Poll::Pending)
}

/// Waiting lanes, and otherwise what `streams` opens.
#[derive(Debug)]
pub(crate) struct LanesFirst<S> {
    membership: Membership,
    streams: S,
}

impl<S: PipeSource> LanesFirst<S> {
    pub(crate) fn new(membership: Membership, streams: S) -> Self {
        Self { membership, streams }
    }
}

impl<S: PipeSource> PipeSource for LanesFirst<S> {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        self.streams.open()
    }

    fn take_lane(&self) -> Option<Pipe> {
        self.membership.waiting.take().map(|lane| lane as Pipe)
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), PipeError>> {
        self.streams.probe()
    }

    fn has_lane(&self) -> bool {
        !self.membership.waiting.is_empty()
    }
}

type Entries = HashMap<TunnelId, Vec<Entry>>;

/// A registration that lanes may join.
#[derive(Debug)]
struct Entry {
    key: PublicKey,
    connection: ConnectionId,
    waiting: Arc<Waiting>,
}

/// Which registrations lanes may join.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory(Arc<Mutex<Entries>>);

impl Directory {
    /// Lanes that wait for a pipe.
    pub(crate) fn waiting(&self) -> usize {
        let entries = locked(&self.0);
        entries.values().flatten().map(|entry| locked(&entry.waiting.0).len()).sum()
    }

    /// Admits lanes of `key` to a tunnel that it serves on this connection, until that is [dismissed](Self::dismiss) or
    /// the returned value is dropped.
    pub(crate) fn admit(&self, tunnel: TunnelId, key: PublicKey, connection: ConnectionId) -> Membership {
        self.dismiss(&tunnel, connection);
        let waiting = Arc::new(Waiting::default());
        let entry = Entry { key, connection, waiting: Arc::clone(&waiting) };
        locked(&self.0).entry(tunnel).or_default().push(entry);
        Membership { directory: self.clone(), tunnel, waiting }
    }

    /// Admits no lanes any more to what a connection serves.
    pub(crate) fn dismiss(&self, tunnel: &TunnelId, connection: ConnectionId) {
        self.strike(tunnel, |entry| entry.connection == connection);
    }

    fn strike(&self, tunnel: &TunnelId, is_gone: impl Fn(&Entry) -> bool) {
        let mut tunnels = locked(&self.0);
        if let Some(entries) = tunnels.get_mut(tunnel) {
            entries.retain(|entry| !is_gone(entry));
            if entries.is_empty() {
                tunnels.remove(tunnel);
            }
        }
    }

    /// A lane tells key and tunnel: where the key serves the tunnel from two processes, it could be of either.
    fn find(&self, tunnel: &TunnelId, key: &PublicKey) -> Option<Arc<Waiting>> {
        let tunnels = locked(&self.0);
        let mut of_key = tunnels.get(tunnel)?.iter().filter(|entry| entry.key == *key);
        let entry = of_key.next()?;
        of_key.next().is_none().then(|| Arc::clone(&entry.waiting))
    }
}

/// One registration's place in the [`Directory`].
#[derive(Debug)]
pub(crate) struct Membership {
    directory: Directory,
    tunnel: TunnelId,
    waiting: Arc<Waiting>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.directory.strike(&self.tunnel, |entry| Arc::ptr_eq(&entry.waiting, &self.waiting));
        locked(&self.waiting.0).clear();
    }
}

/// Where lanes come in: beside HTTPS, told apart by their application protocol.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    config: Arc<ServerConfig>,
    directory: Directory,
}

/// Why a connection became no lane.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneError {
    #[error("the lane was not set up in time")]
    Late,
    #[error("the lane's handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the lane's key holds no such registration")]
    Stranger,
    #[error("enough lanes wait for this tunnel")]
    Full,
}

impl Door {
    /// A door for the relay of this identity.
    ///
    /// # Errors
    /// When the TLS library cannot use the key.
    pub(crate) fn new(identity: &Seed, directory: Directory) -> Result<Self, rustls::Error> {
        Ok(Self { config: Arc::new(lane::server_config(identity)?), directory })
    }

    /// Finishes a handshake whose first message asked for a lane, and puts the lane where its tunnel finds it.
    pub(crate) async fn enter(&self, start: StartHandshake<TcpStream>) -> Result<(), LaneError> {
        let (lane, tunnel) =
            timeout(PATIENCE, self.shake_hands(start)).await.map_err(|_| LaneError::Late)??;
        let key = lane::peer_key(lane.get_ref().1.peer_certificates()).ok_or(LaneError::Stranger)?;
        let waiting = self.directory.find(&tunnel, &key).ok_or(LaneError::Stranger)?;
        if waiting.offer(Box::new(lane)) { Ok(()) } else { Err(LaneError::Full) }
    }

    async fn shake_hands(&self, start: StartHandshake<TcpStream>) -> Result<(Lane, TunnelId), LaneError> {
        let mut lane = start.into_stream(Arc::clone(&self.config)).await.map_err(LaneError::Handshake)?;
        let mut tunnel = [0; 16];
        lane.read_exact(&mut tunnel).await.map_err(LaneError::Handshake)?;
        Ok((lane, TunnelId::from_bytes(tunnel)))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
