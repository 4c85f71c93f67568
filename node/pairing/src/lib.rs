//! Two or more agents in one room: paired by an invite that works once, end-to-end encrypted, ordered and signed.
//!
//! A host opens a session and hands out links; each lets one guest in. Nothing of a session is told to anybody who has
//! not proved an invite's secret. What must hold is decided in the modules below without clock, socket or task; the
//! [`daemon`] gives them these.

#![cfg_attr(
    test,
    allow(
        clippy::wildcard_enum_match_arm,
        reason = "a test names what it expects, and fails at anything else"
    )
)]

pub mod api;
mod bytes;
mod card;
mod clock;
mod content;
mod crowd;
pub mod daemon;
mod era;
mod files;
mod frame;
mod fuzz;
mod handshake;
mod hello;
mod invite;
mod ledger;
pub mod limits;
mod link;
mod message;
mod noise;
mod rate;
mod readers;
mod room;
mod sas;
mod seat;
mod secret;
mod signed;
mod spoken;
mod store;
mod text;
mod transcript;
pub mod ways;
mod words;

#[doc(hidden)]
pub use self::fuzz::fuzz;
pub use self::{
    content::{By, Said, Shared, Step, TaskState, Verdict},
    files::{folder, tree::Digest},
    ledger::Fork,
    link::{InviteId, InviteSecret, Link, LinkError, Ticket},
    message::Verify,
    store::StoreError,
    text::{acts, name},
    transcript::{Checked, Transcript, TranscriptError},
};
