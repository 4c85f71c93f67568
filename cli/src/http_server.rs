//! A coordinator's API on a socket of its own, where no relay's ingress stands in front of it.
//!
//! What a stranger can make last is bounded: connections by [`Places`], the head of a request and the rest between two
//! by [`HEAD`], the body by the coordinator, an answer that nobody takes by [`UNREAD`].

mod places;
mod unread;

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mytunnel_coordinator::{ClientAddress, Coordinator, FeedAnswer};
use mytunnel_keys::api::ErrorBody;
use mytunnel_keys::error::Code;
use mytunnel_relay::ingress::{BodyError, TrustedProxies};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::places::{Place, Places, Shares};
use self::unread::Unread;

/// Time to send the head of a request, and the longest rest between two.
const HEAD: Duration = Duration::from_secs(10);
/// Time for which a client may take no byte of its answer.
const UNREAD: Duration = Duration::from_secs(60);
/// Bytes that a connection buffers; a longer head is refused.
const BUFFER: usize = 64 * 1024;
/// Rest after an accept that failed, which it does when the process is out of file descriptors.
const REST: Duration = Duration::from_millis(100);
/// What one connection too many is told.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

type Answer = Response<UnsyncBoxBody<Bytes, BodyError>>;

/// What every connection needs.
#[derive(Debug)]
pub(crate) struct Api {
    coordinator: Arc<Coordinator>,
    places: Places,
    proxies: TrustedProxies,
}

/// One connection, as its requests see it.
#[derive(Debug)]
struct Line {
    api: Arc<Api>,
    from: IpAddr,
    /// Given back as soon as a feed runs on the connection.
    place: Mutex<Option<Place>>,
}

impl Api {
    /// The API of this coordinator; these proxies are believed about who asks.
    pub(crate) fn new(coordinator: Arc<Coordinator>, proxies: TrustedProxies) -> Self {
        Self { coordinator, places: Places::new(Shares::default()), proxies }
    }

    /// Serves until cancelled, then lets requests under way end.
    pub(crate) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let api = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed");
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        if let Some(line) = api.admit(&stream, from.ip()) {
                            connections.spawn(converse(stream, line, stop.clone()));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept");
                        tokio::time::sleep(REST).await;
                    }
                },
            }
        }
        while connections.join_next().await.is_some() {}
    }

    fn admit(self: &Arc<Self>, stream: &TcpStream, from: IpAddr) -> Option<Line> {
        let place =
            if self.proxies.trust(from) { self.places.connect_proxy() } else { self.places.connect(from) };
        if place.is_none() {
            // One try: whoever does not take it at once has lost nothing but the reason.
            let _ = stream.try_write(FULL);
        }
        Some(Line { api: Arc::clone(self), from, place: Mutex::new(Some(place?)) })
    }
}

impl Line {
    async fn answer(&self, mut request: Request<Incoming>) -> Answer {
        let Api { coordinator, places, proxies } = &*self.api;
        let client = proxies.client(self.from, request.headers());
        // A connection of a proxy has no share of its own: its senders have.
        let by_proxy = proxies.trust(self.from);
        let share = if by_proxy { places.share(client) } else { None };
        if by_proxy && share.is_none() {
            return too_many();
        }
        request.extensions_mut().insert(ClientAddress(client));
        let mut response = coordinator.handle(request).await;
        if response.extensions().get::<FeedAnswer>().is_some() {
            // Nothing follows on this connection, so that it cannot be kept without a place.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            places.remember_relay(self.from);
            drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        drop(share);
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

fn too_many() -> Answer {
    let body = ErrorBody::new(Code::RateLimited, "this address has too many requests under way");
    let body = Full::from(serde_json::to_vec(&body).unwrap_or_default());
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

async fn converse(stream: TcpStream, line: Line, stop: CancellationToken) {
    let line = Arc::new(line);
    let answer = service_fn(|request| {
        let line = Arc::clone(&line);
        async move { Ok::<_, Infallible>(line.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Unread::new(stream, UNREAD)), answer);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

#[cfg(test)]
mod tests;
