//! Visitors who speak HTTP/2 (RFC 9113): many exchanges at once on one connection.
//!
//! Everything of a connection runs in its one task, as with HTTP/1.1: [`h2`] hands over each request with the stream that it
//! came by, and the task polls their [`Streams`] beside the connection. An exchange has a [`Visit`] of its own, with its stages
//! and deadlines; the connection's only knows whether there is any exchange, and whether the socket takes bytes.
//!
//! What is opened and taken back before it was answered is counted: who does little else (CVE-2023-44487) is cut off.

mod alive;
pub(super) mod client;
mod exchange;
mod io;
pub(super) mod received;
pub(super) mod request;
pub(super) mod response;
mod socket;
mod streams;

use std::{
    future::Future as _,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    RecvStream,
    server::{Builder, Connection, Handshake, SendResponse},
};
use http::Request;
use tokio::{io as tokio_io, net::TcpStream, time::Instant};

use self::{
    alive::{Alive, Heard},
    io::Http2Io,
    streams::Streams,
};
use super::{
    Shared,
    deadline::{Cut, Stage, Verdict},
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
    let heard = Heard::default();
    let io = Http2Io::new(stream, Arc::clone(&visit), Arc::clone(&heard));
    let opening = State::Opening(builder(&shared.limits).handshake(io), heard);
    let multiplexed = Multiplexed {
        state: opening,
        streams: Streams::default(),
        shared,
        visit,
        counts: Arc::default(),
        owed: Arc::default(),
        closing: false,
    };
    multiplexed.run().await;
}

/// Of a head that is too large so many times as much is read as one may have: enough to say what is wrong with it.
const READ: u32 = 4;

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX).saturating_mul(READ))
        .max_send_buffer_size(limits.buffer_bytes)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
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
    /// A request was answered. The relay's own pages cost nobody anything, so that they speak neither for nor against anybody.
    fn answered(&self, by_tunnel: bool) {
        match by_tunnel {
            true => self.answered.fetch_add(1, Relaxed),
            false => self.begun.fetch_sub(1, Relaxed),
        };
    }

    /// Whether the visitor takes most of its requests back, `open` of them being under way.
    fn is_flood(&self, open: usize) -> bool {
        let (begun, answered) = (self.begun.load(Relaxed), self.answered.load(Relaxed));
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        let taken_back = begun.saturating_sub(answered).saturating_sub(open);
        taken_back > TAKEN_BACK && taken_back > answered
    }
}

/// A connection and the exchanges on it.
struct Multiplexed<S> {
    state: State<S>,
    streams: Streams,
    shared: Arc<Shared>,
    visit: Arc<Visit>,
    counts: Arc<Counts>,
    owed: Arc<Owed>,
    closing: bool,
}

enum State<S> {
    /// Until the visitor has sent its preface.
    Opening(Handshake<Http2Io<S>>, Heard),
    Open(Connection<Http2Io<S>, Bytes>, Option<Alive>),
}

impl<S: VisitorStream> Multiplexed<S> {
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
            let began = match self.poll_connection(cx) {
                Ok(Some(began)) => began,
                Ok(None) => return Poll::Ready(()),
                Err(error) => {
                    tracing::debug!(%error, "visitor connection failed");
                    return Poll::Ready(());
                }
            };
            // It has written what there was to write, but for what the visitor's windows do not let through.
            if !self.visit.is_stalled() {
                self.owed.give_back();
            }
            let moved = self.streams.poll(cx) || began;
            self.watch();
            if self.counts.is_flood(self.streams.len()) {
                tracing::debug!("visitor takes back what it asks for");
                return Poll::Ready(());
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// Moves the connection as far as it goes, and tells whether exchanges began; `None` once it is over.
    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Result<Option<bool>, h2::Error> {
        if let State::Opening(handshake, heard) = &mut self.state {
            let Poll::Ready(opened) = Pin::new(handshake).poll(cx) else { return Ok(Some(false)) };
            let mut connection = opened?;
            let limits = Arc::clone(&self.shared.limits);
            let alive = connection.ping_pong().map(|pings| Alive::new(pings, Arc::clone(heard), limits));
            if self.closing {
                connection.graceful_shutdown();
            }
            self.state = State::Open(connection, alive);
        }
        let State::Open(connection, alive) = &mut self.state else { return Ok(Some(false)) };
        let mut began = false;
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(request)) => {
                    let (request, respond) = request?;
                    begin(
                        request,
                        respond,
                        (&mut self.streams, &self.counts),
                        (&self.shared, &self.visit, &self.owed),
                    );
                    began = true;
                }
                Poll::Ready(None) => return Ok(None),
                Poll::Pending => break,
            }
        }
        // After all that has come was read, which is a sign of life.
        if alive.as_mut().is_some_and(|alive| alive.poll_silent(cx).is_ready()) {
            tracing::debug!("visitor answers no ping");
            self.visit.note_cut(Cut::Silent);
            return Ok(None);
        }
        Ok(Some(began))
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
        if let State::Open(connection, _) = &mut self.state {
            connection.graceful_shutdown();
        }
        if self.visit.is_draining() {
            self.streams.drain();
        }
    }
}

/// Begins one exchange.
fn begin(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    (streams, counts): (&mut Streams, &Arc<Counts>),
    (shared, connection, owed): (&Arc<Shared>, &Visit, &Arc<Owed>),
) {
    let visit = Arc::new(connection.exchange(owed, Instant::now()));
    if connection.is_draining() {
        visit.drain();
    }
    counts.begun.fetch_add(1, Relaxed);
    let proxy = Proxy::new(Arc::clone(shared), Arc::clone(&visit));
    let exchange = exchange::serve(request, respond, proxy, Arc::clone(&visit), Arc::clone(counts));
    streams.push(exchange, visit);
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
