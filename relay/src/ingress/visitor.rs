//! Drives one visitor connection from its first byte to its end: hyper's server on it, the watchdog over its stages,
//! and the three ways it ends otherwise (the tunnel was closed, the relay drains, an upgrade took it over).

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Shared,
    body::VisitorBody,
    deadline::{Stage, Verdict},
    failure::Failure,
    limits::Limits,
    own_answer,
    proxy::Proxy,
    upgrade::{self, Next, Spliced, Way},
    upstream::HYPER_HEAD_FIELDS,
    visit::Visit,
    visitor_io::{VisitorIo, VisitorStream},
};

/// How a connection's time under HTTP ended.
#[derive(Debug)]
pub(super) enum End {
    /// As HTTP wants it; the connection may have been upgraded.
    Done,
    /// With hyper's own answer to what is no request.
    Refused,
    /// In the middle of something: the visitor must not take what it has for the whole.
    Aborted,
    /// With bytes that the visitor does not take, or not fast enough.
    Stalled,
    /// Nobody waits for anything on it.
    Closed,
}

impl From<hyper::Error> for End {
    fn from(error: hyper::Error) -> Self {
        tracing::debug!(%error, "visitor connection failed");
        if error.is_parse() { Self::Refused } else { Self::Aborted }
    }
}

/// Hyper's settings, the same for every connection.
pub(crate) fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(limits.buffer_bytes.max(limits.head_bytes))
        .max_header_size(limits.head_bytes)
        // The watchdog has one timer for a connection; hyper would make one for each request.
        .header_read_timeout(None);
    if limits.head_fields != HYPER_HEAD_FIELDS {
        builder.max_headers(limits.head_fields);
    }
    builder
}

/// Serves one visitor until its connection ends.
pub(crate) async fn serve<S: VisitorStream>(stream: S, shared: Arc<Shared>, visit: Arc<Visit>) {
    let proxy = Arc::new(Proxy::new(Arc::clone(&shared), Arc::clone(&visit)));
    let service = service_fn(move |request: Request<Incoming>| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.serve(request.map(VisitorBody::Http1)).await) }
    });
    let io = TokioIo::new(VisitorIo::new(stream, Arc::clone(&visit), shared.limits.head_bytes));
    let mut connection = shared.http1.serve_connection(io, service).with_upgrades();

    let end = drive(&mut connection, &visit, |connection| connection.graceful_shutdown()).await;
    let next = visit.take_next();
    let io = connection.into_parts().map(|parts| parts.io.into_inner());
    match (end, next, io) {
        (End::Done, Some(Next::Splice(upgrade)), _) => take_over::<S>(upgrade, &visit).await,
        (End::Done, Some(Next::Node(socket)), _) => socket.hand_in::<S>(&shared.tally).await,
        (End::Done | End::Refused, None, Some(io)) => match io.refused() {
            Some(failure) => {
                shared.tally.refused(failure);
                refuse(io.into_stream(), failure).await;
            }
            None if io.is_unfinished() => linger(io.into_stream()).await,
            None => {}
        },
        (End::Aborted, _, Some(io)) if visit.is_close_delimited() => reset(&io.into_stream()),
        (End::Stalled, _, Some(io)) => reset(&io.into_stream()),
        (End::Done | End::Refused | End::Aborted | End::Stalled | End::Closed, _, _) => {}
    }
}

/// Polls `connection` and the watchdog over it until either ends it. `close` tells it to take no further request.
pub(super) async fn drive<C, E>(connection: &mut C, visit: &Visit, close: impl Fn(Pin<&mut C>)) -> End
where
    C: Future<Output = Result<(), E>> + Unpin,
    E: Into<End>,
{
    let mut watchdog = pin!(tokio::time::sleep_until(visit.armed()));
    let mut closing = false;
    std::future::poll_fn(|cx| {
        visit.register(cx.waker());
        loop {
            if let Poll::Ready(done) = Pin::new(&mut *connection).poll(cx) {
                return Poll::Ready(done.map_or_else(Into::into, |()| End::Done));
            }
            if visit.is_last_request() && !closing {
                closing = true;
                close(Pin::new(&mut *connection));
                continue;
            }
            if visit.is_aborted() || (visit.is_cut() && visit.stage() == Stage::Responding) {
                return Poll::Ready(End::Aborted);
            }
            match ready!(visit.poll_overdue(watchdog.as_mut(), cx)) {
                Verdict::Close => return Poll::Ready(End::Closed),
                Verdict::Abort if visit.is_stalled() => return Poll::Ready(End::Stalled),
                Verdict::Abort => return Poll::Ready(End::Aborted),
                Verdict::Answer => {}
            }
        }
    })
    .await
}

async fn take_over<S: VisitorStream>(mut upgrade: upgrade::Upgrade, visit: &Visit) {
    let Way::Connection(visitor) = &mut upgrade.visitor else { return };
    let Ok(upgraded) = visitor.await else { return };
    if let Ok(parts) = upgraded.downcast::<TokioIo<VisitorIo<S>>>() {
        let mut stream = parts.io.into_inner().into_stream();
        if upgrade::splice(&mut stream, parts.read_buf, upgrade, visit).await == Spliced::Cut {
            reset(&stream);
        }
    }
}

/// Without an end of its own, a body cut off by a plain close would look complete; and what waits for a visitor who does not
/// take it would wait on in the system.
fn reset<S: VisitorStream>(stream: &S) {
    if let Err(error) = stream.reset() {
        tracing::debug!(%error, "a truncated response may look complete to its visitor");
    }
}

/// Says why what came is no request. How it wants to be told is not known: its head was not understood.
async fn refuse<S: VisitorStream>(mut stream: S, failure: Failure) {
    let written = async {
        stream.write_all(&own_answer::encode(&failure.response(&HeaderMap::new()))?).await?;
        stream.flush().await
    };
    if let Ok(Ok(())) = tokio::time::timeout(LINGER, written).await {
        linger(stream).await;
    }
}

/// How long a visitor has to take the last that it is told.
const LINGER: Duration = Duration::from_secs(2);

/// Reads on for a moment after an answer that came before the end of its request: closing a socket with unread bytes
/// resets it, and the visitor would lose the answer.
async fn linger<S: VisitorStream>(mut stream: S) {
    const BYTES: usize = 4 << 20;
    let reading = async {
        stream.shutdown().await?;
        let (mut chunk, mut left) = (vec![0; 8 * 1024], BYTES);
        while left > 0 {
            match stream.read(&mut chunk).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // Nothing depends on how it went: the visitor has had its chance.
    drop(tokio::time::timeout(LINGER, reading).await);
}
