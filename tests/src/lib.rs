//! (mytunnel-tests)
