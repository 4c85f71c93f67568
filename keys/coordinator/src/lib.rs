//! The coordinator: accounts, projects, keys, revocation, audit, and the feed that tells the relays.
//!
//! It issues and revokes; it is never on a visitor's path. Relays and nodes check what it signed without asking
//! it, so that it may be down for minutes without a visitor noticing. What it acknowledged has reached the disk,
//! and a change of rights is acknowledged with the list of the relays that act by it.
//!
//! A program embeds it by [`Coordinator`]: [`Coordinator::open`], then [`Coordinator::handle`] for each HTTP
//! request for the console, [`Coordinator::enroll_relay`] and [`Coordinator::subscribe`] for a relay in the same
//! process, [`Coordinator::shutdown`] at the end.

mod accounts;
mod agreement;
mod audit;
mod authority;
mod backup;
mod config;
mod coordinator;
mod dashboard;
mod data_dir;
mod delegation;
mod dns;
mod domains;
mod error;
mod events;
mod feed;
mod gates;
mod http;
mod issuer;
mod live;
mod metrics;
mod own_gates;
mod random;
mod refusals;
mod relays;
mod replays;
mod shared;
mod store;
mod tickets;
mod usage;

use mytunnel_keys::sketch;

pub use self::{
    backup::{BackupError, BackupReport, Restore, Restored, RestoredAccount, RestoredKeys},
    config::{Clock, Config, Endpoints, Limits, MetricsToken, StoreConfig},
    coordinator::{ActError, Coordinator},
    error::OpenError,
    feed::FeedLink,
    http::{ClientAddress, FeedAnswer},
    own_gates::OwnGates,
    store::{PostgresUrl, StoreError, UrlError},
};
