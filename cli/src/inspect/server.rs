//! The page of requests on a port of this machine, and what it asks.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::api::{Answer, Api, Asked};
use super::guard::{Guard, Refused};
use super::page;
use crate::context::random;
use crate::failure::Failure;

/// The usual port, and those of further shares at the same time.
const PORTS: std::ops::Range<u16> = 4040..4050;
/// Connections at a time: a browser has six.
const CONNECTIONS: usize = 64;
/// An edited request with its body.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// Time for the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Rest after an accept that failed.
const REST: Duration = Duration::from_millis(100);

/// What a page may do, as the dashboard's.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      form-action 'none'; frame-ancestors 'none'; base-uri 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Where the page is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the usual port, or the next one that is free.
    Usual,
    /// There, or nowhere.
    At(SocketAddr),
}

/// The page, listening.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    guard: Guard,
    address: SocketAddr,
}

impl Server {
    pub(crate) async fn bind(place: Place) -> Result<Self, Failure> {
        let addresses: Vec<SocketAddr> = match place {
            Place::Usual => {
                PORTS.chain([0]).map(|port| (IpAddr::from(Ipv4Addr::LOCALHOST), port).into()).collect()
            }
            Place::At(address) => vec![address],
        };
        let listener = TcpListener::bind(&*addresses).await.map_err(|error| {
            let wanted = addresses.first().map(ToString::to_string).unwrap_or_default();
            Failure::local(
                format!("cannot show requests at {wanted}: {error}"),
                "Choose another port with --inspect 127.0.0.1:PORT, or none with --no-inspect.",
            )
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::local(format!("cannot show requests: {error}"), "Try again."))?;
        let token = data_encoding::HEXLOWER.encode(&random::<16>()?);
        Ok(Self { listener, guard: Guard { token, port: address.port() }, address })
    }

    /// With the secret in it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.guard.token)
    }

    /// Serves until cancelled.
    pub(crate) async fn serve(self, api: Api, stop: CancellationToken) {
        let shared = Arc::new((self.guard, api));
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed");
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        // One too many is closed: whoever made them is a program of this machine.
                        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                            let shared = Arc::clone(&shared);
                            connections.spawn(async move {
                                converse(stream, shared).await;
                                drop(place);
                            });
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept");
                        tokio::time::sleep(REST).await;
                    }
                },
            }
        }
    }
}

async fn converse(stream: TcpStream, shared: Arc<(Guard, Api)>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move {
            let (guard, api) = &*shared;
            Ok::<_, Infallible>(answer(guard, api, request).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended badly");
    }
}

async fn answer(guard: &Guard, api: &Api, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let rest = match guard.admit(&head.method, head.uri.path(), &head.headers) {
        Ok(rest) => rest,
        Err(refused) => {
            let status = match refused {
                Refused::Host => StatusCode::MISDIRECTED_REQUEST,
                Refused::Token => StatusCode::NOT_FOUND,
                Refused::Foreign => StatusCode::FORBIDDEN,
            };
            return error(status, &refused.to_string());
        }
    };
    if let Some(route) = rest.strip_prefix("api/") {
        let sent = match Limited::new(body, MAX_BODY).collect().await {
            Ok(sent) => sent.to_bytes(),
            Err(_) => {
                return error(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 4 MiB, or was cut");
            }
        };
        let asked = Asked {
            post: head.method == Method::POST,
            route,
            query: head.uri.query().unwrap_or(""),
            sent: &sent,
        };
        return match api.answer(asked).await {
            Answer::Found(value) => object(StatusCode::OK, &value),
            Answer::Missing => {
                error(StatusCode::NOT_FOUND, "there is no such request, or it was forgotten by now")
            }
            Answer::Bad(reason) => error(StatusCode::BAD_REQUEST, &reason),
            Answer::Failed(reason) => error(StatusCode::BAD_GATEWAY, &reason),
        };
    }
    match page::part(rest) {
        Some((kind, content)) => respond(StatusCode::OK, kind, Bytes::from_static(content)),
        None => error(StatusCode::NOT_FOUND, "there is nothing here"),
    }
}

fn error(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    object(status, &json!({"error": message}))
}

fn object(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    respond(status, "application/json", value.to_string().into())
}

fn respond(status: StatusCode, kind: &'static str, content: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (http::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (http::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
