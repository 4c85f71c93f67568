//! Yamux over a secured TCP connection, with windows and limits set on purpose.
//!
//! A stream may hold 256 KiB (the protocol's fixed start) for a reader who stalls. Streams that are read grow their
//! window with the path's bandwidth and round trip, but all streams of a connection together by no more than
//! [`Windows::growth`], so that one connection holds at most `streams × 256 KiB + growth`.
//! Closing gives up after [`CLOSE_GRACE`]: an unresponsive end must not keep the connection's task alive.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    iter,
    pin::Pin,
    task::{Context, Poll, Waker, ready as try_ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
};
use tokio::time::{Sleep, sleep};

/// Time in which a closing connection may still send what it holds.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// How much one connection may have in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Streams open at once on a connection, both directions together. Default 1,024.
    pub streams: usize,
    /// Bytes by which the receive windows of all streams of a connection may grow together beyond 256 KiB each.
    /// Default 16 MiB: 100 ms at 1.3 Gbit/s.
    pub growth: usize,
    /// Streams of the other end that wait to be looked at; further ones are reset. Each may bring 256 KiB along.
    /// Default 256, which is how many the other end may open before it must hear of one.
    pub waiting: usize,
}

impl Default for Windows {
    fn default() -> Self {
        Self { streams: 1024, growth: 16 << 20, waiting: 256 }
    }
}

/// Upgrades a secured connection to yamux.
#[derive(Debug, Clone)]
pub(crate) struct Upgrade {
    yamux: yamux::Config,
    waiting: usize,
}

impl Upgrade {
    pub(crate) fn new(windows: Windows) -> Self {
        let total = windows.streams * yamux::DEFAULT_CREDIT as usize + windows.growth;
        let mut config = yamux::Config::default();
        // Each setter checks against the other value: lift the one before lowering or raising the other.
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(windows.streams);
        config.set_max_connection_receive_window(Some(total));
        Self { yamux: config, waiting: windows.waiting }
    }
}

impl UpgradeInfo for Upgrade {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Upgrade {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Muxer<C>, Infallible>>;

    fn upgrade_inbound(self, io: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(yamux::Connection::new(io, self.yamux, yamux::Mode::Server), self.waiting)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Upgrade {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Muxer<C>, Infallible>>;

    fn upgrade_outbound(self, io: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(yamux::Connection::new(io, self.yamux, yamux::Mode::Client), self.waiting)))
    }
}

/// A yamux connection as libp2p wants it.
#[derive(Debug)]
pub(crate) struct Muxer<C> {
    connection: yamux::Connection<C>,
    /// Inbound streams that yamux produced while the connection was polled for progress only.
    waiting: VecDeque<yamux::Stream>,
    max_waiting: usize,
    fetcher: Option<Waker>,
    closing: Option<Pin<Box<Sleep>>>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(connection: yamux::Connection<C>, max_waiting: usize) -> Self {
        Self { connection, waiting: VecDeque::new(), max_waiting, fetcher: None, closing: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, yamux::ConnectionError>> {
        let next = try_ready!(self.connection.poll_next_inbound(cx));
        Poll::Ready(next.unwrap_or(Err(yamux::ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = yamux::Stream;
    type Error = yamux::ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<yamux::Stream, Self::Error>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.poll_next(cx);
        if next.is_pending() {
            self.fetcher = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<yamux::Stream, Self::Error>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if let Poll::Ready(result) = self.connection.poll_close(cx) {
            return Poll::Ready(result);
        }
        let grace = self.closing.get_or_insert_with(|| Box::pin(sleep(CLOSE_GRACE)));
        grace.as_mut().poll(cx).map(Ok)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        let stream = try_ready!(self.poll_next(cx))?;
        if self.waiting.len() < self.max_waiting {
            self.waiting.push_back(stream);
            if let Some(fetcher) = self.fetcher.take() {
                fetcher.wake();
            }
        }
        // Yamux stopped at this stream: come again for the rest, after others had their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::AsyncWriteExt as _;
    use tokio::time::Instant;

    use super::*;

    /// A connection on which nothing comes and nothing goes.
    struct Stuck;

    impl AsyncRead for Stuck {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Stuck {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn muxer(windows: Windows) -> Muxer<Stuck> {
        let Ok(muxer) = Upgrade::new(windows).upgrade_outbound(Stuck, "/yamux/1.0.0").into_inner();
        muxer
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_takes_nothing_does_not_hold_a_closing_connection() {
        let mut muxer = muxer(Windows::default());
        let mut stream =
            std::future::poll_fn(|cx| Pin::new(&mut muxer).poll_outbound(cx)).await.expect("a stream");
        stream.write_all(b"never read").await.expect("room in the stream's own queue");

        let began = Instant::now();
        std::future::poll_fn(|cx| Pin::new(&mut muxer).poll_close(cx)).await.expect("closed");
        assert_eq!(began.elapsed(), CLOSE_GRACE);
    }

    #[test]
    fn any_windows_make_a_configuration() {
        for streams in [1, 512, 1024, 100_000] {
            for growth in [0, 16 << 20] {
                muxer(Windows { streams, growth, ..Windows::default() });
            }
        }
    }
}
