//! The coordinator as a relay sees it: somebody who lets it follow a signed feed, and takes its reports.
//!
//! Nothing that comes through here is believed for where it comes from: frames are signed, numbered and bound to the
//! nonce of the subscription, and are checked by the reader.

use std::{error::Error, fmt};

use bytes::Bytes;
use futures::future::BoxFuture;
use mytunnel_keys::{
    api::RelayJoined,
    error::Code,
    feed::{Report, Subscribe},
    usage::{Tell, Told},
};
use tokio::sync::mpsc;

/// A subscription that stands. Dropping it ends it; so does the other end by closing `frames`.
#[derive(Debug)]
pub struct FeedLink {
    /// Signed frames, in order.
    pub frames: mpsc::Receiver<Bytes>,
    /// Where reports go.
    pub reports: mpsc::Sender<Report>,
}

/// Somebody whose feed a relay can follow, who takes what it tells of usage, and who renews its certificate.
pub trait Authority: Send + Sync + fmt::Debug {
    /// Starts a subscription.
    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<FeedLink, AuthorityError>>;

    /// Tells what tunnels have used, and asks for leases of budgets.
    fn tell(&self, tell: Tell) -> BoxFuture<'_, Result<Told, AuthorityError>>;

    /// Asks for a new certificate of the relay's key. The relay checks what it gets.
    fn renew(&self) -> BoxFuture<'_, Result<RelayJoined, AuthorityError>>;
}

/// Why there is no subscription, or no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The coordinator does not answer.
    #[error("the coordinator cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The coordinator answers, and refuses.
    #[error("the coordinator refuses ({code}): {message}")]
    Refused {
        /// Why.
        code: Code,
        /// Why, in words.
        message: String,
    },
    /// What answers is no coordinator.
    #[error("the answer is not that of a coordinator: {0}")]
    Protocol(&'static str),
}
