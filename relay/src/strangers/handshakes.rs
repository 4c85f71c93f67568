//! Handshakes that can be broken off: libp2p has no way to end a connection that is not established yet.
//!
//! Those over QUIC take no turn: quinn does them whether they are looked at or not, and the peer counts the time of what it says next from
//! their end.

use std::{
    io,
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

    /// One at this address has shown a certificate. See [`Turns::prove`].
    pub(super) fn prove(&self, from: &Multiaddr) {
        if takes_turns(from) {
            self.turns.prove();
        }
    }

    /// One at this address whose handshake was done is admitted or gone. See [`Turns::end_one`].
    pub(super) fn end_one(&self, from: &Multiaddr) {
        if takes_turns(from) {
            self.turns.end_one(address::ip(from));
        }
    }

    /// See [`Turns::end_late`].
    pub(super) fn end_late(&self, now: Instant) -> Option<Instant> {
        self.turns.end_late(now)
    }

    fn begin(&self, from: &Multiaddr, upgrade: Upgrade) -> Upgrade {
        let (handle, registration) = AbortHandle::new_pair();
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
        let broken_off = |_| io::Error::from(io::ErrorKind::ConnectionAborted);
        let patience = self.patience;
        let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
        let upgrade = async move { timeout(patience, upgrade).await.unwrap_or_else(late) };
        let upgrade = if takes_turns(from) {
            let in_turn = self.turns.clone().take(address::ip(from), upgrade);
            async move { timeout(patience + Self::QUEUE, in_turn).await.unwrap_or_else(late) }.boxed()
        } else {
            upgrade.boxed()
        };
        Abortable::new(upgrade, registration).map_err(broken_off).map(Result::flatten).boxed()
    }
}

/// Whether a handshake with a peer at this address is done by whoever looks at it.
fn takes_turns(from: &Multiaddr) -> bool {
    !address::socket(from).is_some_and(|(_, transport)| transport == address::Transport::Udp)
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
                send_back_addr.clone()
            } else {
                Multiaddr::empty()
            };
            event.map_upgrade(|upgrade| handshakes.begin(&from, upgrade.boxed()))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{join_all, pending};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_comes_over_quic_waits_for_nobodys_turn_and_ends_none() {
        let handshakes = Handshakes::new(Duration::from_secs(5));
        let done = handshakes.turns.clone().take(None, futures::future::ready(Ok::<_, ()>(())));
        done.now_or_never().unwrap().unwrap();
        handshakes.end_one(&"/ip4/192.0.2.1/udp/4000/quic-v1".parse().unwrap());
        assert_eq!(handshakes.turns.given(), 1, "it is another's");
        handshakes.end_one(&Multiaddr::empty());
        assert_eq!(handshakes.turns.given(), 0);

        let begin = |from: &str, upgrade| handshakes.begin(&from.parse().unwrap(), upgrade);
        let silent = (0..1000).map(|_| begin("/ip4/192.0.2.1/tcp/4000", pending().boxed()));
        let mut silent = Box::pin(join_all(silent));
        assert!((&mut silent).now_or_never().is_none());
        let refused = || futures::future::ready(Err(io::ErrorKind::ConnectionRefused.into())).boxed();
        assert!(begin("/ip4/192.0.2.2/tcp/4000", refused()).now_or_never().is_none(), "there is no turn");
        assert!(begin("/ip4/192.0.2.2/udp/4000/quic-v1", refused()).now_or_never().is_some());
    }
}
