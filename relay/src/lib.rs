//! (mytunnel-relay)

pub mod route;
