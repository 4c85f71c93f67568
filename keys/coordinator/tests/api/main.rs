//! The coordinator through its API, without sockets.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

mod accounts;
mod again;
mod arbitrary;
mod audit;
mod backup;
mod budgets;
mod delegation;
mod devices;
mod disk;
mod domains;
mod events;
mod faults;
mod feed;
mod gates;
mod http;
mod invited;
mod issuer;
mod people;
mod provider;
mod race;
mod relays;
mod revocation;
mod second_factor;
mod sessions;
mod siblings;
mod sign_in;
mod storm;
mod strangers;
mod support;
mod tickets;
mod tree;
