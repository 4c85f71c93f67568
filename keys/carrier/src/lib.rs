//! What both ends of a libp2p connection share: the transport, streams on a chosen connection, frames of control
//! messages and the preface of a pipe. Relay and node stand on it and know nothing of each other.

pub mod address;
mod boxed;
pub mod frame;
mod identity;
pub mod lane;
mod mux;
pub mod pinned;
pub mod pipe;
mod security;
pub mod stream;
pub mod transport;

pub use boxed::Boxed;
pub use identity::{keypair, peer_id, public_key};
/// The version of libp2p that this crate's types belong to.
pub use libp2p;
