//! What a key, a certificate and a proof are: pure types and checks.
//!
//! Nothing in here reads a clock, a socket or a random source: time comes in as seconds of the Unix epoch, randomness
//! as bytes. What has been checked is a type that only the check can make.

pub mod api;
mod bytes;
pub mod error;
pub mod id;
pub mod secret;
pub mod wire;
