//! After a 101: bytes both ways between visitor and node, until either ends, the tunnel is closed, or the relay stops.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    deadline::{Cut, millis},
    exchange::{Exchange, Turn},
    nodes::NodeSocket,
    upstream::Answered,
    visit::Visit,
};
use crate::traffic::{Pause, Traffic};

/// What becomes of a connection after a 101.
#[derive(Debug)]
pub(crate) enum Next {
    /// It leads to a tunnel.
    Splice(Upgrade),
    /// It is a node's.
    Node(NodeSocket),
}

/// Where an upgraded exchange goes on at the visitor's end.
#[derive(Debug)]
pub(crate) enum Way {
    /// On the whole connection, once hyper lets go of it.
    Connection(OnUpgrade),
    /// On the stream that it came by.
    Stream,
}

/// Both ends of an upgraded exchange, waiting for hyper to let go of the visitor's.
#[derive(Debug)]
pub(crate) struct Upgrade {
    pub(crate) visitor: Way,
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
    /// In the middle of something: with bytes that the visitor does not take, or not fast enough, or with one half closed and nothing for
    /// too long on the other. It is not to look like an end.
    Cut,
}

/// How long one direction may outlive the other's failure, and the last of it may take to the visitor.
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
    let moved = Moved::new();
    let (count_in, count_out) = (
        |bytes| {
            moved.now();
            traffic.count_in(bytes);
        },
        |bytes| {
            moved.now();
            traffic.count_out(bytes);
        },
    );
    let up = pin!(one_way(early, from_visitor, to_node, traffic, count_in));
    let to_visitor = Taker { half: to_visitor, visit };
    let down = pin!(one_way(first, from_node, to_visitor, traffic, count_out));
    let mut both = pin!(both(up, down, &moved, visit.half_patience()));
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
        if let Poll::Ready(spliced) = both.as_mut().poll(cx) {
            if spliced == Spliced::Cut {
                visit.note_cut(Cut::HalfClosed);
            }
            return Poll::Ready(spliced);
        }
        visit.poll_overdue(watchdog.as_mut(), cx).map(|_| Spliced::Cut)
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

/// When bytes were last passed on.
struct Moved {
    since: Instant,
    at: AtomicU64,
}

impl Moved {
    fn new() -> Self {
        Self { since: Instant::now(), at: AtomicU64::new(0) }
    }

    fn now(&self) {
        self.at.store(millis(self.since.elapsed()), Relaxed);
    }

    fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.at.load(Relaxed))
    }
}

/// Until both directions are over.
async fn both(
    up: impl Future<Output = io::Result<()>> + Unpin,
    down: impl Future<Output = io::Result<()>> + Unpin,
    moved: &Moved,
    patience: Duration,
) -> Spliced {
    match futures::future::select(up, down).await {
        futures::future::Either::Left((over, rest)) => outlive(&over, rest, moved, patience).await,
        futures::future::Either::Right((over, rest)) => {
            // The visitor has seen the node's end already.
            let _ = outlive(&over, rest, moved, patience).await;
            Spliced::Over
        }
    }
}

/// One direction is over. If its end was passed on, the other goes on for as long as anything moves on it.
async fn outlive(
    over: &io::Result<()>,
    mut rest: impl Future<Output = io::Result<()>> + Unpin,
    moved: &Moved,
    patience: Duration,
) -> Spliced {
    if over.is_err() {
        drop(timeout(LINGER, rest).await);
        return Spliced::Over;
    }
    moved.now();
    loop {
        let until = moved.last() + patience;
        if timeout_at(until, &mut rest).await.is_ok() {
            return Spliced::Over;
        }
        if moved.last() + patience <= until {
            return Spliced::Cut;
        }
    }
}

async fn one_way<R, W>(
    first: Bytes,
    mut from: ReadHalf<R>,
    mut to: W,
    traffic: &Traffic,
    count: impl Fn(u64),
) -> io::Result<()>
where
    R: AsyncRead,
    W: AsyncWrite + Unpin,
{
    to.write_all(&first).await?;
    count(first.len() as u64);
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
        count(read as u64);
    }
}
