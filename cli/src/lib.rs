//! (mytunnel)
