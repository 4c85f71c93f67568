//! The visitors of one UDP tunnel: each address has a pipe of its own, for as long as there is something to say. What
//! comes faster than a pipe takes it is dropped, as a network would.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use mytunnel_carrier::datagram;
use tokio::{
    io::{self, AsyncWriteExt as _},
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    allowance::Allowance,
    line::{Place, Room, Way},
};
use crate::{access_log::Session, ingress::locked, line::Turned, route::Tunnel};

/// Datagrams of one visitor that wait for its pipe.
const QUEUE: usize = 64;

/// Time after which a visitor who was turned away may try again.
const REST: Duration = Duration::from_secs(1);

/// How long receiving rests when the system fails.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A datagram that waits for its pipe, and its share of what may wait.
#[derive(Debug)]
struct Queued {
    bytes: Bytes,
    _room: Room,
}

impl Queued {
    /// `None` when as much waits as may.
    fn new(bytes: &[u8], visitor: SocketAddr, way: &Way) -> Option<Self> {
        // An empty one takes room as well.
        let room = way.room(visitor, bytes.len().saturating_add(1))?;
        Some(Self { bytes: Bytes::copy_from_slice(bytes), _room: room })
    }
}

/// Serves visitors until `closed`, which cuts them.
pub(super) async fn serve(socket: UdpSocket, way: Way, closed: CancellationToken) {
    let socket = Arc::new(socket);
    let mut visitors: HashMap<SocketAddr, mpsc::Sender<Queued>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; datagram::MAX];
    loop {
        tokio::select! {
            () = closed.cancelled() => break,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Some(visitor) = super::resume(ended) {
                    visitors.remove(&visitor);
                }
            }
            received = socket.recv_from(&mut buffer) => {
                let (length, visitor) = match received {
                    Ok(received) => received,
                    // A word about one visitor whom an answer did not reach.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                    Err(error) => {
                        tracing::warn!(%error, "cannot receive datagrams");
                        sleep(EXHAUSTED).await;
                        continue;
                    }
                };
                let bytes = buffer.get(..length).unwrap_or_default();
                if let Some(queue) = visitors.get(&visitor) {
                    // Full: dropped.
                    if let Ok(place) = queue.try_reserve()
                        && let Some(datagram) = Queued::new(bytes, visitor, &way)
                    {
                        place.send(datagram);
                    }
                } else if !way.house.draining.has_begun()
                    && visitors.len() < way.house.limits.visitors_per_tunnel
                    && let Some(place) = way.place(visitor, visitors.len())
                    && let Some(datagram) = Queued::new(bytes, visitor, &way)
                {
                    let (queue, queued) = mpsc::channel(QUEUE);
                    let _ = queue.try_send(datagram);
                    visitors.insert(visitor, queue);
                    let guest = Guest { socket: Arc::clone(&socket), address: visitor, way: way.clone() };
                    tasks.spawn(guest.stay(queued, place));
                }
            }
        }
    }
    tasks.shutdown().await;
}

/// One visitor.
#[derive(Debug)]
struct Guest {
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    way: Way,
}

/// Why a visitor's pipe ended.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error(transparent)]
    Turned(#[from] Turned),
    #[error("the tunnel was closed, or has other gates")]
    Cut,
    #[error("the node failed, or its target cannot be reached")]
    Node(#[from] io::Error),
    #[error("nothing was said for a while")]
    Silent,
}

impl Left {
    /// What a request would be answered; a visitor of whom nothing more is heard has ended well.
    const fn status(&self) -> u16 {
        match self {
            Self::Turned(turned) => turned.status(),
            Self::Cut => 503,
            Self::Node(_) => 502,
            Self::Silent => 200,
        }
    }
}

impl Guest {
    /// Stays until it is silent or cut, and says who it was.
    async fn stay(self, queued: mpsc::Receiver<Queued>, place: Place) -> SocketAddr {
        let mut queued = queued;
        let session = self.way.session(self.address);
        let carried = self.carry(&mut queued, session.as_ref()).await;
        if let (Some(session), Err(left)) = (session, &carried) {
            session.ended(
                left.status(),
                Some(left).filter(|left| !matches!(left, Left::Silent)).map(|left| left as _),
            );
        }
        if let Err(left) = carried {
            tracing::debug!(visitor = %self.address, error = &left as &dyn std::error::Error, "visitor left");
            if !matches!(left, Left::Silent) {
                // Not a pipe for each datagram of who sends on, and no place either.
                queued.close();
                while queued.try_recv().is_ok() {}
                drop(place);
                sleep(REST).await;
            }
        }
        self.address
    }

    async fn carry(
        &self,
        queued: &mut mpsc::Receiver<Queued>,
        session: Option<&Session>,
    ) -> Result<(), Left> {
        let mut greeting = self.way.greeting(self.address, None);
        let mut line = self.way.lead(self.address, &greeting).await?;
        if line.greeted {
            greeting.clear();
        }
        let (tunnel, cut) = (Arc::clone(&line.tunnel), line.cut.clone());
        let (heard, last) = watch::channel(Instant::now());
        let allowance = Mutex::default();
        let (from_node, to_node) = io::split(&mut line.node);
        tokio::select! {
            sent = up(queued, (to_node, greeting), (&tunnel, session), (&heard, &allowance)) => sent?,
            received = self.down(from_node, (&tunnel, session), &allowance) => received?,
            () = silence(last, self.way.house.limits.udp_idle) => return Err(Left::Silent),
            () = cut.cancelled() => return Err(Left::Cut),
        }
        Ok(())
    }

    async fn down(
        &self,
        mut from_node: impl io::AsyncRead + Unpin,
        (tunnel, session): (&Tunnel, Option<&Session>),
        allowance: &Mutex<Allowance>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        // What the server says keeps nobody here: the address may be made up, or its owner gone (RFC 4787, REQ-6).
        while datagram::read(&mut from_node, &mut bytes).await? {
            if tunnel.traffic().is_dry() || !locked(allowance).admit(bytes.len()) {
                continue;
            }
            tunnel.traffic().count_out(bytes.len() as u64);
            if let Some(session) = session {
                session.count_out(bytes.len() as u64);
            }
            if let Err(error) = self.socket.send_to(&bytes, self.address).await {
                tracing::debug!(visitor = %self.address, %error, "a datagram was lost");
            }
        }
        Ok(())
    }
}

async fn up(
    queued: &mut mpsc::Receiver<Queued>,
    (mut to_node, greeting): (impl io::AsyncWrite + Unpin, Vec<u8>),
    (tunnel, session): (&Tunnel, Option<&Session>),
    (heard, allowance): (&watch::Sender<Instant>, &Mutex<Allowance>),
) -> io::Result<()> {
    to_node.write_all(&greeting).await?;
    while let Some(Queued { bytes: datagram, .. }) = queued.recv().await {
        heard.send_replace(Instant::now());
        locked(allowance).hear(datagram.len());
        if tunnel.traffic().is_dry() {
            continue;
        }
        tunnel.traffic().count_in(datagram.len() as u64);
        if let Some(session) = session {
            session.count_in(datagram.len() as u64);
        }
        datagram::write(&mut to_node, &datagram).await?;
        if queued.is_empty() {
            to_node.flush().await?;
        }
    }
    Ok(())
}

/// Returns when nothing was said for as long as `idle`.
async fn silence(last: watch::Receiver<Instant>, idle: Duration) {
    loop {
        let until = *last.borrow() + idle;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}
