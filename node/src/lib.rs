//! The private side: shares something local through a relay.

mod serve;
mod state;
pub mod target;
