//! cli
#![allow(dead_code, reason = "wip")]
mod api;
mod bootstrap;
mod clock;
mod config;
mod context;
mod control;
mod credentials;
mod environment;
mod failure;
mod files;
mod logging;
mod mint;
mod names;
mod places;
mod report;
mod runtime;
mod secrets;
mod server;
mod session;
mod span;
mod commands {
    pub(crate) mod eval;
    pub(crate) mod keys;
    pub(crate) mod login;
    pub(crate) mod projects;
    pub(crate) mod status;
}
