//! (mytunnel-relay)
