//! (mytunnel-coordinator)
