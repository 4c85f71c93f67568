//! The coordinator of this process, as the relay of this process sees it.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use mytunnel_coordinator::{ActError, Coordinator};
use mytunnel_keys::api::RelayJoined;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Subscribe;
use mytunnel_keys::id::PublicKey;
use mytunnel_keys::usage::{Tell, Told};
use mytunnel_relay::{Authority, AuthorityError, FeedLink};

/// One relay's way to the coordinator beside it.
#[derive(Debug)]
pub(super) struct InProcess {
    coordinator: Arc<Coordinator>,
    relay: PublicKey,
}

impl InProcess {
    pub(super) const fn new(coordinator: Arc<Coordinator>, relay: PublicKey) -> Self {
        Self { coordinator, relay }
    }
}

impl Authority for InProcess {
    fn subscribe(&self, request: Subscribe) -> BoxFuture<'_, Result<FeedLink, AuthorityError>> {
        async move {
            let link = self.coordinator.subscribe(self.relay, request).await.map_err(refused)?;
            Ok(FeedLink { frames: link.frames, reports: link.reports })
        }
        .boxed()
    }

    fn tell(&self, tell: Tell) -> BoxFuture<'_, Result<Told, AuthorityError>> {
        async move { self.coordinator.take_usage(self.relay, tell).await.map_err(refused) }.boxed()
    }

    fn renew(&self) -> BoxFuture<'_, Result<RelayJoined, AuthorityError>> {
        async move { self.coordinator.renew_relay(self.relay).await.map_err(refused) }.boxed()
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the coordinator may learn to fail in other ways")]
fn refused(error: ActError) -> AuthorityError {
    match error {
        ActError::Refused { code, message } => AuthorityError::Refused { code, message },
        other => AuthorityError::Refused { code: Code::Internal, message: other.to_string() },
    }
}
