//! The public side of mytunnel: nodes and visitors meet here.
//!
//! Nodes come in over libp2p, show a certificate that is checked offline, and register names; visitors come in over
//! HTTP(S) and are carried to the node whose name they asked for. The coordinator is never on the way of a request: a
//! relay follows its signed feed, ends at once what that revokes, and admits nobody when it has heard nothing for too
//! long.

mod access_log;
mod acme;
mod admit;
mod authority;
mod behaviour;
mod circuits;
mod crowds;
mod driver;
mod feed;
mod feed_client;
mod files;
#[doc(hidden)]
pub mod fuzz;
mod gate;
pub mod ingress;
mod lanes;
mod line;
pub mod local_ca;
mod memory;
mod metrics;
mod pipes;
mod ports;
mod registry;
mod renewal;
pub mod route;
mod server;
mod strangers;
mod tally;
#[cfg(test)]
mod testing;
mod traces;
mod traffic;

pub use access_log::{AccessFormat, AccessLogConfig};
pub use acme::{AcmeConfig, AcmeError};
pub use admit::Status;
pub use authority::{Authority, AuthorityError, FeedLink};
pub use circuits::CircuitLimits;
pub use crowds::{Crowds, Visitors};
pub use feed_client::{ConnectError, RemoteCoordinator};
pub use memory::MemoryError;
pub use metrics::{MEDIA_TYPE, Metrics};
pub use ports::{NoRange, PortLimits, PortRange, PublicPorts};
pub use server::{Addrs, Config, Limits, Relay, StartError};
pub use strangers::StrangerLimits;
pub use traces::{Share, TracesConfig, TracesError};
