//! After a 101: bytes both ways between visitor and node, until either ends, the tunnel is closed, or the relay stops.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    time::{Instant, sleep_until},
};

use super::{
    exchange::{Exchange, Turn},
    upstream::Answered,
    visit::Visit,
};
use crate::traffic::{Pause, Traffic};

/// Both ends of an upgraded exchange, waiting for hyper to let go of the visitor's.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(crate) visitor: OnUpgrade,
    pub(crate) node: Answered,
    /// What the node has sent of the new protocol already.
    pub(crate) first: Bytes,
    pub(crate) exchange: Exchange,
    /// When the visitor's session ends, and this with it.
    pub(crate) ends: Option<Instant>,
    pub(crate) _turn: Turn,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spliced {
    Over,
    /// With bytes that the visitor does not take, or not fast enough.
    Stalled,
}

/// How long one direction may outlive the other. Nothing that is upgraded to today uses half a connection for long.
pub(crate) const LINGER: Duration = Duration::from_secs(10);

/// Large enough for bulk, small enough for thousands of idle WebSockets.
const CHUNK: usize = 16 * 1024;

/// Carries the bytes of an upgraded exchange, for as long as the visitor takes those that wait for it. `early` is what it
/// has sent of the new protocol already.
pub(crate) async fn splice<V>(visitor: &mut V, early: Bytes, upgrade: Upgrade, visit: &Visit) -> Spliced
where
    V: AsyncRead + AsyncWrite + Unpin,
{
    let Upgrade { node, first, exchange, ends, .. } = upgrade;
    let (from_visitor, to_visitor) = tokio::io::split(visitor);
    let (from_node, to_node) = tokio::io::split(node);
    let traffic = exchange.tunnel().traffic();
    let up = pin!(one_way(early, from_visitor, to_node, traffic, Traffic::count_in));
    let to_visitor = Taker { half: to_visitor, visit };
    let down = pin!(one_way(first, from_node, to_visitor, traffic, Traffic::count_out));
    let mut both = pin!(first_then_linger(up, down));
    let mut over = pin!(async {
        match ends {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    });
    let mut watchdog = pin!(sleep_until(visit.armed()));
    std::future::poll_fn(|cx| {
        visit.register(cx.waker());
        if visit.is_cut() || visit.is_draining() || over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Spliced::Over);
        }
        if both.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Spliced::Over);
        }
        visit.poll_overdue(watchdog.as_mut(), cx).map(|_| Spliced::Stalled)
    })
    .await
}

/// The way to the visitor, who is to take what waits for it.
struct Taker<'a, W> {
    half: WriteHalf<W>,
    visit: &'a Visit,
}

impl<W: AsyncWrite> AsyncWrite for Taker<'_, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.half).poll_write(cx, buf);
        self.visit.wrote(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.half).poll_flush(cx);
        self.visit.flushed(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.half).poll_shutdown(cx);
        self.visit.flushed(result)
    }
}

async fn first_then_linger<F>(up: impl Future<Output = F> + Unpin, down: impl Future<Output = F> + Unpin) {
    match futures::future::select(up, down).await {
        futures::future::Either::Left((_, rest)) => drop(tokio::time::timeout(LINGER, rest).await),
        futures::future::Either::Right((_, rest)) => drop(tokio::time::timeout(LINGER, rest).await),
    }
}

async fn one_way<R, W>(
    first: Bytes,
    mut from: ReadHalf<R>,
    mut to: W,
    traffic: &Traffic,
    count: impl Fn(&Traffic, u64),
) -> io::Result<()>
where
    R: AsyncRead,
    W: AsyncWrite + Unpin,
{
    to.write_all(&first).await?;
    count(traffic, first.len() as u64);
    let mut chunk = vec![0; CHUNK];
    let mut pause = Pause::default();
    loop {
        std::future::poll_fn(|cx| traffic.poll_ready(&mut pause, cx)).await;
        to.flush().await?;
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..read]).await?;
        count(traffic, read as u64);
    }
}
