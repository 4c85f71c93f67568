//! The public HTTP side: visitors in, tunnels out.
//!
//! A visitor's connection is one task. It holds hyper's server connection, and through it the request in flight, the
//! pipe that carries it to the node and the bodies of both directions; nothing on the way to the first byte of the
//! response is handed to another task. What is read passes a strict framing check first ([`framing`]), the host
//! decides where the request goes ([`host`]), the heads are made fit for the other side ([`head`]), and what goes
//! wrong becomes a page ([`failure`]).
//!
//! Promises: bodies stream with back-pressure in both directions and are never buffered beyond
//! [`Limits::buffer_bytes`]; a body that was cut off is never ended as if it were whole; closing a tunnel ends
//! everything in flight on it; [`serve`] returns only when all visitors are gone.

pub mod cookies;
pub mod failure;
pub mod framing;
pub mod head;
pub mod host;

mod bell;
mod body;
mod connections;
mod credit;
pub(crate) mod deadline;
mod exchange;
mod forward;
mod half;
mod hello;
mod http2;
mod inside;
mod limits;
mod listener;
mod loops;
mod nodes;
mod owed;
mod own_answer;
mod pace;
mod passthrough;
mod pool;
mod proxies;
mod proxy;
mod rates;
mod seats;
mod terms;
mod tls;
mod upgrade;
mod upstream;
mod visit;
mod visitor;
mod visitor_io;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::server::conn::http1;
use mytunnel_carrier::websocket::Entrance;

#[doc(hidden)]
pub use self::http2::request::fuzz;
pub use self::{
    body::{BodyError, VisitorBody},
    inside::{Certificates, Inside, InsideError, Upkeep},
    limits::{AddressSeat, Addresses, Limits},
    listener::{Https, IngressConfig, IngressError, serve},
    proxies::{ProxyNetwork, ProxyNetworkError, TrustedProxies},
    terms::Terms,
};
pub(crate) use self::{
    connections::{Connected, Connections},
    limits::{network, owner},
    pool::Pool,
    seats::{Bounds, NoSeat, Seat, Seats},
    terms::Crowd,
    upstream::{Answered, Upstream},
};
pub(crate) use self::{listener::serve_with, tls::Beside};
use crate::{access_log::AccessLog, gate::Gatekeeper, route::Routes, tally::Tally};

/// The body of an answer of the console.
pub type ConsoleBody = http_body_util::combinators::BoxBody<bytes::Bytes, BodyError>;

/// Where a visitor's connection comes from. An IPv4 address is one, whatever socket took the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitorAddress(pub IpAddr);

/// Serves the dashboard, the API and sign-in: everything for the console's own host. Each request has a
/// [`VisitorAddress`] among its extensions.
pub type ConsoleService =
    Arc<dyn Fn(Request<VisitorBody>) -> BoxFuture<'static, Response<ConsoleBody>> + Send + Sync>;

/// What every visitor's connection needs.
#[derive(Clone)]
struct Shared {
    routes: Routes,
    gates: Arc<Gatekeeper>,
    domain: Arc<str>,
    console: Arc<str>,
    console_service: Option<ConsoleService>,
    /// The port of HTTPS that visitors know.
    https_port: Option<u16>,
    /// Nothing is served in the clear.
    only_https: bool,
    limits: Arc<Limits>,
    /// Hyper's settings by these limits.
    http1: http1::Builder,
    proxies: TrustedProxies,
    access_log: AccessLog,
    /// Whose requests proxies bring.
    senders: Addresses,
    /// How many requests have begun in this second.
    rates: Arc<rates::Rates>,
    tally: Tally,
    /// Where WebSockets of nodes go.
    nodes: Option<Entrance>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("domain", &self.domain)
            .field("console", &self.console)
            .finish_non_exhaustive()
    }
}

/// A lock of a leaf: what it guards stays consistent at every point where a holder could panic.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
