//! The feed: every change of rights, pushed to every relay that follows, and who has applied it.
//!
//! One task owns all subscriptions. It sends what the store committed, in the order of the commits, and a
//! heartbeat every second; rows are the truth, so that nothing is sent that was not committed and nothing that
//! was committed is passed over. A relay that does not take its frames in time loses its subscription, begins
//! again with a snapshot, and fails closed in between.
//!
//! Several coordinators on one database each do so for their own relays. None says that nothing has changed without
//! having asked the database.

mod followers;
mod publisher;
mod siblings;

use bytes::Bytes;
use mytunnel_keys::feed::Report;
use tokio::sync::mpsc;

pub(crate) use self::followers::{Adoption, Followers};
pub(crate) use self::publisher::{Ask, Attach, Attached, Publisher, soon};
pub(crate) use self::siblings::Siblings;

/// Frames that may wait for one relay. At its end the relay is cut off, and comes back to a snapshot.
const QUEUE: usize = 1024;

/// A relay's two ends of its subscription. Dropping it ends the subscription.
#[derive(Debug)]
pub struct FeedLink {
    /// Signed frames in their order: the trust bundle, a snapshot, then deltas and heartbeats. It closes when the
    /// subscription is over.
    pub frames: mpsc::Receiver<Bytes>,
    /// What the relay did. Every snapshot and every delta wants a [`Report::Applied`], and a relay begins with
    /// a [`Report::TunnelUp`] for each tunnel that it serves.
    pub reports: mpsc::Sender<Report>,
}
