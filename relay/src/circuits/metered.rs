//! Counts what circuits carry, where it goes through: at the streams of each connection.
//!
//! libp2p's relay copies a circuit inside its connection handler and tells nobody how much of it there was. A circuit is
//! one stream of each of its two peers' connections; that a stream is one of these, this relay itself says in its part of
//! the negotiation, so that no peer is believed in this. Either stream counts to its own peer's [`Account`], pauses while
//! nothing may be spent on that, and breaks when the account is over, which breaks the circuit.

use std::{
    io::{self, IoSlice, IoSliceMut},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, Transport as _,
    core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox},
};
use mytunnel_carrier::transport::PeerTransport;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    Admitted,
    negotiation::{Negotiation, Purpose},
};
use crate::traffic::{Pause, Traffic};

/// What the circuits of one admitted peer count to.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    traffic: Arc<Traffic>,
    over: CancellationToken,
}

impl Account {
    pub(crate) fn new(traffic: Arc<Traffic>) -> Self {
        Self { traffic, over: CancellationToken::new() }
    }

    /// Whether it counts here.
    pub(super) fn is_of(&self, traffic: &Arc<Traffic>) -> bool {
        Arc::ptr_eq(&self.traffic, traffic)
    }

    /// Whether something may be spent on it at this moment.
    pub(super) fn has_means(&self) -> bool {
        !self.traffic.is_dry()
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Breaks every circuit that counts to it.
    pub(super) fn close(&self) {
        self.over.cancel();
    }
}

/// The same transport, whose connections count circuits.
pub(crate) fn metered(inner: PeerTransport, admitted: &Admitted) -> PeerTransport {
    let admitted = admitted.clone();
    inner
        .map(move |(peer, inner), _| {
            let side = Side { peer, admitted };
            (peer, StreamMuxerBox::new(Muxer { inner, side }))
        })
        .boxed()
}

/// Whose connection it is.
#[derive(Debug, Clone)]
struct Side {
    peer: PeerId,
    admitted: Admitted,
}

#[derive(Debug)]
struct Muxer {
    inner: StreamMuxerBox,
    side: Side,
}

impl Muxer {
    fn stream(&self, inner: SubstreamBox) -> Metered<SubstreamBox> {
        Metered { inner, state: State::Negotiating(Negotiation::default(), self.side.clone()) }
    }
}

impl StreamMuxer for Muxer {
    type Substream = Metered<SubstreamBox>;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let stream = ready!(Pin::new(&mut self.inner).poll_inbound(cx))?;
        Poll::Ready(Ok(self.stream(stream)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let stream = ready!(Pin::new(&mut self.inner).poll_outbound(cx))?;
        Poll::Ready(Ok(self.stream(stream)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// A stream of a connection.
struct Metered<S> {
    inner: S,
    state: State,
}

enum State {
    Negotiating(Negotiation, Side),
    /// Of a circuit, or a request for one, by a peer that is not admitted yet.
    Unpaid(Side),
    Circuit(Box<Circuit>),
    /// Whatever else: tunnels are counted elsewhere.
    Other,
}

struct Circuit {
    account: Account,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    reading: Pause,
    writing: Pause,
}

impl Circuit {
    fn new(account: Account) -> Self {
        let over = Box::pin(account.over.clone().cancelled_owned());
        Self { account, over, reading: Pause::default(), writing: Pause::default() }
    }

    /// Waits until something may go through.
    fn poll_ready(&mut self, which: Way, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let traffic = &self.account.traffic;
        if traffic.is_shut() || self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the right to have circuits is over, or its budget is spent",
            )));
        }
        let pause = match which {
            Way::FromPeer => &mut self.reading,
            Way::ToPeer => &mut self.writing,
        };
        traffic.poll_ready(pause, cx).map(Ok)
    }
}

/// Seen from the peer, as its tunnels are: what it sends is on its way out.
#[derive(Debug, Clone, Copy)]
enum Way {
    FromPeer,
    ToPeer,
}

impl State {
    /// Waits until something may go through.
    fn poll_ready(&mut self, way: Way, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Unpaid(side) = self
            && let Some(account) = side.admitted.account(&side.peer)
        {
            *self = Self::Circuit(Box::new(Circuit::new(account)));
        }
        match self {
            Self::Circuit(circuit) => circuit.poll_ready(way, cx),
            Self::Negotiating(..) | Self::Unpaid(_) | Self::Other => Poll::Ready(Ok(())),
        }
    }

    fn read(&self, bytes: usize) {
        if let Self::Circuit(circuit) = self {
            circuit.account.traffic.count_out(bytes as u64);
        }
    }

    /// This was written, which may be the word that says what the stream is for.
    fn written(&mut self, bytes: &[u8]) {
        match self {
            Self::Circuit(circuit) => circuit.account.traffic.count_in(bytes.len() as u64),
            Self::Negotiating(negotiation, side) => match negotiation.said(bytes) {
                Some(Purpose::Circuit) => *self = Self::Unpaid(side.clone()),
                Some(Purpose::Other) => *self = Self::Other,
                None => {}
            },
            Self::Unpaid(_) | Self::Other => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.state.poll_ready(Way::FromPeer, cx))?;
        let bytes = ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        this.state.read(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.state.poll_ready(Way::FromPeer, cx))?;
        let bytes = ready!(Pin::new(&mut this.inner).poll_read_vectored(cx, buffers))?;
        this.state.read(bytes);
        Poll::Ready(Ok(bytes))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.state.poll_ready(Way::ToPeer, cx))?;
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes))?;
        this.state.written(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.state, State::Other) {
            return Pin::new(&mut self.inner).poll_write_vectored(cx, buffers);
        }
        let first = buffers.iter().find(|buffer| !buffer.is_empty()).map_or(&[][..], |buffer| buffer);
        self.poll_write(cx, first)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use futures::{AsyncReadExt as _, AsyncWriteExt as _};
    use mytunnel_keys::usage::Prices;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        circuits::Pass,
        testing::{NOW, device_claims},
        traffic::{Fill, Purse},
    };

    const HOP: &[u8] = b"\x13/multistream/1.0.0\n\x20/libp2p/circuit/relay/0.2.0/hop\n";

    /// Always ready: gives bytes, takes bytes.
    #[derive(Default)]
    struct Endless(VecDeque<u8>);

    impl AsyncRead for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buffer.len()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.extend(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A stream of an admitted peer, what it counts to, and the purse of its key.
    fn stream() -> (Metered<Endless>, Arc<Traffic>, Arc<Purse>, Admitted, PeerId) {
        let (admitted, peer) = (Admitted::default(), PeerId::random());
        let purse = Arc::new(Purse::new(Arc::default()));
        let traffic = Arc::new(Traffic::paid_by([Some(Arc::clone(&purse)), None]));
        admitted.insert(peer, Pass::of(&device_claims(1, NOW)), &traffic);
        let state = State::Negotiating(Negotiation::default(), Side { peer, admitted: admitted.clone() });
        (Metered { inner: Endless::default(), state }, traffic, purse, admitted, peer)
    }

    #[tokio::test]
    async fn a_circuit_is_counted_both_ways_and_its_negotiation_is_not() {
        let (mut stream, traffic, ..) = stream();
        stream.read_exact(&mut [0; 60]).await.unwrap();
        stream.write_all(HOP).await.unwrap();
        assert_eq!((traffic.bytes_in(), traffic.bytes_out()), (0, 0));
        stream.write_all(&[0; 700]).await.unwrap();
        stream.read_exact(&mut [0; 30]).await.unwrap();
        assert_eq!((traffic.bytes_in(), traffic.bytes_out()), (700, 30));
    }

    #[tokio::test]
    async fn what_is_no_circuit_is_counted_elsewhere() {
        let (mut stream, traffic, purse, ..) = stream();
        stream.write_all(b"\x13/multistream/1.0.0\n\x12/ipfs/ping/1.0.0\n").await.unwrap();
        purse.fill(0, Fill::Shut, &Prices::default());
        stream.write_all(HOP).await.unwrap();
        stream.read_exact(&mut [0; 30]).await.unwrap();
        assert_eq!((traffic.bytes_in(), traffic.bytes_out()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn it_pauses_while_there_is_nothing_to_spend_and_ends_when_there_is_nothing_to_come() {
        let (mut stream, _, purse, ..) = stream();
        stream.write_all(HOP).await.unwrap();
        purse.fill(0, Fill::Left(0), &Prices::default());
        let short = Duration::from_secs(3);
        assert!(timeout(short, stream.read_exact(&mut [0; 1])).await.is_err());
        assert!(timeout(short, stream.write_all(&[0; 1])).await.is_err());
        purse.fill(purse.spent(), Fill::Left(1000), &Prices::default());
        timeout(short, stream.read_exact(&mut [0; 1])).await.unwrap().unwrap();
        purse.fill(purse.spent(), Fill::Shut, &Prices::default());
        assert!(stream.read_exact(&mut [0; 1]).await.is_err());
        assert!(stream.write_all(&[0; 1]).await.is_err());
    }

    #[tokio::test]
    async fn it_breaks_when_the_peer_is_dismissed_though_nothing_goes_through() {
        let (mut stream, _, purse, admitted, peer) = stream();
        stream.write_all(HOP).await.unwrap();
        purse.fill(0, Fill::Left(0), &Prices::default());
        let mut buffer = [0];
        let (ended, ()) = tokio::join!(stream.read(&mut buffer), async {
            tokio::task::yield_now().await;
            admitted.remove(&peer);
        });
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn a_peer_that_is_admitted_later_pays_from_then_on() {
        let (mut stream, traffic, _, admitted, peer) = stream();
        admitted.remove(&peer);
        stream.write_all(HOP).await.unwrap();
        stream.write_all(&[0; 5]).await.unwrap();
        assert_eq!(traffic.bytes_in(), 0);
        admitted.insert(peer, Pass::of(&device_claims(1, NOW)), &traffic);
        stream.write_all(&[0; 7]).await.unwrap();
        assert_eq!(traffic.bytes_in(), 7);
    }
}
