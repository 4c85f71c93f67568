//! What both ends of a libp2p connection share: the transport, streams on a chosen connection, frames of control
//! messages, the preface of a pipe, and what is copied through it. Relay and node stand on it and know nothing of each
//! other.

pub mod address;
pub mod beside;
mod boxed;
pub mod chunk;
pub mod datagram;
pub mod frame;
pub mod greeting;
mod identity;
pub mod lane;
mod mux;
pub mod pinned;
pub mod pipe;
pub mod pipe_end;
pub mod pong;
mod security;
pub mod splice;
pub mod stream;
pub mod transport;
pub mod unchecked;
pub mod websocket;

pub use boxed::Boxed;
pub use identity::{keypair, peer_id, public_key};
/// The version of libp2p that this crate's types belong to.
pub use libp2p;
