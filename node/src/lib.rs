//! The private side: shares something local through a relay.

mod serve;
pub mod target;
