//! Visitors who speak HTTP/2 (RFC 9113): many exchanges at once on one connection.
//!
//! Everything of a connection runs in its one task, as with HTTP/1.1: hyper hands the future of each exchange to
//! [`Streams`], which the task polls beside the connection. An exchange has a [`Visit`] of its own, with its stages and
//! deadlines; the connection's only knows whether there is any exchange, and whether the socket takes bytes.
//!
//! What is opened and taken back before it was answered is counted: who does little else (CVE-2023-44487) is cut off.

pub(super) mod client;
pub(super) mod request;
pub(super) mod response;

mod io;
mod streams;

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use hyper::{
    body::Incoming,
    server::conn::http2::{Builder, Connection},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{io as tokio_io, net::TcpStream, time::Instant};

use self::{
    io::Http2Io,
    streams::{Arrivals, Executor, Streams},
};
use super::{
    Shared,
    body::{BodyError, ResponseBody},
    deadline::{Cut, Stage, Verdict},
    failure::ERROR_HEADER,
    limits::Limits,
    owed::Owed,
    proxy::Proxy,
    visit::Visit,
    visitor_io::VisitorStream,
};

/// How a connection begins that speaks HTTP/2 without having been asked; no method begins so.
const PREFACE: &[u8] = b"PRI";

/// Bytes that a visitor may send on one stream, and on a connection, before somebody takes them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// So many exchanges may be taken back before it matters how many were not.
const TAKEN_BACK: u32 = 200;

/// Whether what comes on `stream` is HTTP/2. A preface that comes in several pieces is taken for something else.
pub(super) async fn is_preface(stream: &TcpStream) -> tokio_io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    stream.peek(&mut start).await?;
    Ok(start == PREFACE)
}

/// Serves one visitor until the connection ends.
pub(super) async fn serve<S: VisitorStream>(stream: S, shared: Arc<Shared>, visit: Arc<Visit>) {
    let arrivals = Arc::new(Arrivals::default());
    let (counts, owed) = (Arc::new(Counts::default()), Arc::new(Owed::default()));
    let service = {
        let (arrivals, counts) = (Arc::clone(&arrivals), Arc::clone(&counts));
        let (shared, visit, owed) = (Arc::clone(&shared), Arc::clone(&visit), Arc::clone(&owed));
        service_fn(move |request| {
            let exchange = Arc::new(visit.exchange(&owed, Instant::now()));
            arrivals.announce(&exchange);
            counts.begun.fetch_add(1, Relaxed);
            let proxy = Proxy::new(Arc::clone(&shared), exchange);
            let counts = Arc::clone(&counts);
            async move {
                let response = proxy.serve(request).await;
                // The relay's own pages cost nobody anything, so that they speak neither for nor against anybody.
                match response.headers().contains_key(ERROR_HEADER) {
                    true => counts.begun.fetch_sub(1, Relaxed),
                    false => counts.answered.fetch_add(1, Relaxed),
                };
                Ok::<_, Infallible>(response)
            }
        })
    };
    let io = TokioIo::new(Http2Io::new(stream, Arc::clone(&visit)));
    let connection = builder(&arrivals, &shared.limits).serve_connection(io, service);
    let multiplexed =
        Multiplexed { connection, streams: Streams::new(arrivals), visit, counts, owed, closing: false };
    multiplexed.run().await;
}

/// Of a head that is too large so many times as much is read as one may have: enough to say what is wrong with it.
const READ: u32 = 4;

fn builder(arrivals: &Arc<Arrivals>, limits: &Limits) -> Builder<Executor> {
    let mut builder = Builder::new(Executor::new(arrivals));
    builder
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX).saturating_mul(READ))
        .max_send_buf_size(limits.buffer_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout)
        .enable_connect_protocol();
    builder
}

/// How many exchanges one connection has had.
#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU32,
    answered: AtomicU32,
}

impl Counts {
    /// Whether the visitor takes most of its requests back, `open` of them being under way.
    fn is_flood(&self, open: usize) -> bool {
        let (begun, answered) = (self.begun.load(Relaxed), self.answered.load(Relaxed));
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        let taken_back = begun.saturating_sub(answered).saturating_sub(open);
        taken_back > TAKEN_BACK && taken_back > answered
    }
}

/// A connection and the exchanges on it.
struct Multiplexed<S: VisitorStream, V: HttpService<Incoming>> {
    connection: Connection<TokioIo<Http2Io<S>>, V, Executor>,
    streams: Streams,
    visit: Arc<Visit>,
    counts: Arc<Counts>,
    owed: Arc<Owed>,
    closing: bool,
}

impl<S, V> Multiplexed<S, V>
where
    S: VisitorStream,
    V: HttpService<Incoming, ResBody = ResponseBody> + Unpin,
    V::Error: Into<BodyError>,
    V::Future: Send + 'static,
{
    /// Until the visitor leaves, is told to by a last word (a GOAWAY), or is cut off.
    async fn run(mut self) {
        let mut watchdog = pin!(tokio::time::sleep_until(self.visit.armed()));
        std::future::poll_fn(|cx| {
            self.visit.register(cx.waker());
            loop {
                if self.poll_http(cx).is_ready() || self.visit.is_aborted() {
                    return Poll::Ready(());
                }
                if self.visit.is_draining() && !self.closing {
                    self.close();
                    continue;
                }
                match ready!(self.visit.poll_overdue(watchdog.as_mut(), cx)) {
                    Verdict::Close if !self.closing => self.close(),
                    Verdict::Close | Verdict::Abort => return Poll::Ready(()),
                    Verdict::Answer => {}
                }
            }
        })
        .await;
    }

    /// The connection, and its exchanges until none has anything to do.
    fn poll_http(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(cx) {
                if let Err(error) = ended {
                    tracing::debug!(%error, "visitor connection failed");
                    if error.is_timeout() {
                        self.visit.note_cut(Cut::Silent);
                    }
                }
                return Poll::Ready(());
            }
            // It has written what there was to write, but for what the visitor's windows do not let through.
            if !self.visit.is_stalled() {
                self.owed.give_back();
            }
            let came = self.streams.poll(cx);
            self.watch();
            if self.counts.is_flood(self.streams.len()) {
                tracing::debug!("visitor takes back what it asks for");
                return Poll::Ready(());
            }
            if !came {
                return Poll::Pending;
            }
        }
    }

    /// Keeps the connection's stage: it is idle while there is no exchange.
    fn watch(&self) {
        match (self.visit.stage(), self.streams.is_empty()) {
            (Stage::Responding, true) => self.visit.enter(Stage::Idle),
            (Stage::Opened | Stage::Idle, false) => self.visit.enter(Stage::Responding),
            (Stage::Opened | Stage::Idle | Stage::Head | Stage::Waiting, true)
            | (Stage::Head | Stage::Waiting | Stage::Responding, false) => {}
        }
    }

    /// Takes no further request; those under way may end.
    fn close(&mut self) {
        self.closing = true;
        Pin::new(&mut self.connection).graceful_shutdown();
        if self.visit.is_draining() {
            self.streams.drain();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(begun: u32, answered: u32) -> Counts {
        Counts { begun: AtomicU32::new(begun), answered: AtomicU32::new(answered) }
    }

    #[test]
    fn only_who_takes_most_back_is_a_flood() {
        assert!(!counts(200, 0).is_flood(0));
        assert!(counts(201, 0).is_flood(0));
        assert!(!counts(300, 0).is_flood(100));
        assert!(!counts(10_000, 5_000).is_flood(0));
        assert!(counts(10_001, 5_000).is_flood(0));
    }
}
