//! What a key, a certificate and a proof are: pure types and checks.
//!
//! Nothing in here reads a clock, a socket or a random source: time comes in as seconds of the Unix epoch, randomness
//! as bytes; only a [`sketch`] has its hashes keyed by the standard library. What has been checked is a type that only the check can make.

pub mod api;
mod bytes;
mod cbor;
pub mod certificate;
mod cose;
pub mod error;
pub mod feed;
pub mod id;
pub mod network;
pub mod presence;
pub mod proof;
pub mod revocation;
pub mod secret;
pub mod sketch;
#[cfg(test)]
#[cfg(feature = "issue")]
mod testing;
#[cfg(test)]
#[cfg(feature = "issue")]
extern crate self as mytunnel_keys;
pub mod token;
pub mod trust;
pub mod usage;
mod verified;
pub mod wire;

pub use self::{
    cbor::FieldError,
    cose::EnvelopeError,
    verified::{Unverified, Verified},
};
