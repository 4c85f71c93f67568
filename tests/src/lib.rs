//! What the end-to-end tests and the benchmarks share: real `mytunnel` processes on free ports,
//! an origin server with known answers, a load generator, and what `/proc` says of a process.
//!
//! Nothing here knows the product's crates: it drives the binary as a user's script does, through the contract of
//! its command line.

pub mod compare;
pub mod lab;
pub mod load;
pub mod origin;
pub mod ports;
pub mod process;
pub mod stalls;
pub mod usage;
pub mod wire;
