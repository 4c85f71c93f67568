//! One file per command: what can be typed, and what it does.

pub(crate) mod accounts;
pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod coordinator;
pub(crate) mod dashboard;
pub(crate) mod devices;
pub(crate) mod doctor;
pub(crate) mod domains;
pub(crate) mod eval;
pub(crate) mod http;
pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod man;
pub(crate) mod mfa;
pub(crate) mod projects;
pub(crate) mod relay;
pub(crate) mod requests;
pub(crate) mod service;
pub(crate) mod share;
pub(crate) mod status;
pub(crate) mod tcp;
pub(crate) mod tenant;
pub(crate) mod tls;
pub(crate) mod tunnels;
pub(crate) mod udp;
pub(crate) mod usage;
