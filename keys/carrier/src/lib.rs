//! (mytunnel-carrier)
