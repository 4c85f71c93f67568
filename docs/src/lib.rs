//! (mytunnel-docs)
