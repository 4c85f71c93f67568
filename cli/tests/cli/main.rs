//! The real binary, as people and scripts meet it: what it prints where, and with which status it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod delegation;
mod errors;
mod files;
mod help;
mod json;
mod kept;
mod mallory;
mod mcp;
mod mfa;
mod pair;
mod people;
mod program;
mod relay;
mod reload;
mod room;
mod share;
mod skill;
mod trust;
mod up;
mod verbs;
mod vouched;
mod wiretap;
