//! (mytunnel-node)
