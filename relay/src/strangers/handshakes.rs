//! Handshakes that can be broken off: libp2p has no way to end a connection that is not established yet.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt as _, TryFutureExt as _,
    future::{AbortHandle, Abortable, BoxFuture},
};
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{DialOpts, ListenerId, TransportEvent},
    },
};
use mytunnel_carrier::{address, transport::PeerTransport};
use tokio::time::{Instant, timeout};

use super::turns::Turns;

/// Hands the handle of each handshake from the transport, which begins it, to the behaviour, which may end it.
///
/// The swarm asks its behaviour about an incoming connection before it polls the transport again, so that there is
/// never more than one to hand over.
#[derive(Debug, Clone)]
pub(crate) struct Handshakes {
    /// How long each may take once it has its turn.
    patience: Duration,
    newest: Arc<Mutex<Option<AbortHandle>>>,
    turns: Turns,
}

impl Handshakes {
    /// How long one may wait for its turn. Whoever waits for longer has been given up at the other end.
    pub(crate) const QUEUE: Duration = Duration::from_secs(15);

    /// Each may take so long once it has its turn.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, newest: Arc::default(), turns: Turns::default() }
    }

    /// The same transport, with handshakes that can be broken off.
    pub(crate) fn of(&self, inner: PeerTransport) -> PeerTransport {
        Breakable { inner, handshakes: self.clone() }.boxed()
    }

    /// The handshake that the swarm is asking about.
    pub(super) fn newest(&self) -> Option<AbortHandle> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// See [`Turns::prove`].
    pub(super) fn prove(&self) {
        self.turns.prove();
    }

    /// See [`Turns::end_one`].
    pub(super) fn end_one(&self, from: Option<IpAddr>) {
        self.turns.end_one(from);
    }

    /// See [`Turns::end_late`].
    pub(super) fn end_late(&self, now: Instant) -> Option<Instant> {
        self.turns.end_late(now)
    }

    fn begin(&self, from: Option<IpAddr>, upgrade: Upgrade) -> Upgrade {
        let (handle, registration) = AbortHandle::new_pair();
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
        let broken_off = |_| io::Error::from(io::ErrorKind::ConnectionAborted);
        let patience = self.patience;
        let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
        let upgrade = async move { timeout(patience, upgrade).await.unwrap_or_else(late) };
        let in_turn = self.turns.clone().take(from, upgrade);
        let in_time = async move { timeout(patience + Self::QUEUE, in_turn).await.unwrap_or_else(late) };
        Abortable::new(in_time, registration).map_err(broken_off).map(Result::flatten).boxed()
    }
}

type Output = (PeerId, StreamMuxerBox);
type Upgrade = BoxFuture<'static, io::Result<Output>>;

struct Breakable {
    inner: PeerTransport,
    handshakes: Handshakes,
}

impl Transport for Breakable {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, options: DialOpts) -> Result<Upgrade, TransportError<io::Error>> {
        Ok(self.inner.dial(addr, options)?.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let handshakes = self.handshakes.clone();
        Pin::new(&mut self.inner).poll(cx).map(|event| {
            let from = if let TransportEvent::Incoming { send_back_addr, .. } = &event {
                address::ip(send_back_addr)
            } else {
                None
            };
            event.map_upgrade(|upgrade| handshakes.begin(from, upgrade.boxed()))
        })
    }
}
