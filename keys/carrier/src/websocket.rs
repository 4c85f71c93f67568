//! Bytes of a connection in binary messages of a WebSocket (RFC 6455): the way to a relay where nothing but HTTPS leads out.
//!
//! What the messages carry is secured like any other connection, by the keys of both ends. The WebSocket, and the TLS that it is
//! spoken in, prove nothing and hide nothing: a proxy that reads both sees what any machine between the two sees of TCP.

mod connect;
mod dialer;
mod door;
mod messages;
mod place;

pub use dialer::{DialError, Dialer, Proxies, UnreadableProxy};
pub use door::{Door, Entrance, Full, Socket};
pub use messages::{Stream, accept_key};
pub use place::Place;

/// Where a relay takes WebSockets of nodes, at the host of its console.
pub const PATH: &str = "/.mytunnel/node";

#[cfg(test)]
mod tests;
