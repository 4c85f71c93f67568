//! (mytunnel-keys)
