//! The feed by which a coordinator tells its relays what has changed, and they tell it what they did.
//!
//! A relay subscribes with a random nonce. The coordinator sends the trust bundle as it is, signed by the root; then a
//! snapshot that repeats the nonce, so that an old one cannot be played back; then every change is a delta that names the hash of all before it, so that none can be left
//! out, repeated or exchanged; and a heartbeat says how far the feed has come, so that silence is not mistaken for
//! peace. Every frame but the bundle is signed by one of the bundle's feed keys (COSE_Sign1, `typ` mtk-feed+cwt), whatever carries it.
//!
//! [`FeedReader`] is the relay's side and decides on each frame without clock or socket; after an error the caller drops
//! the connection and subscribes again with a new nonce. `FeedWriter` is the coordinator's. An *era* begins when a
//! coordinator was restored from a backup: within an era, an epoch that a relay has seen never counts backwards.

mod change;
mod frame;
mod gate;
mod reader;
mod report;
#[cfg(feature = "issue")]
mod writer;

use serde::{Deserialize, Serialize};

#[cfg(feature = "issue")]
pub use self::writer::{FeedKey, FeedWriter};
pub use self::{
    change::Change,
    frame::MAX_FRAME,
    gate::{AddressGate, BasicGate, BearerGate, Gates, PinGate, SessionKey, SignInGate},
    reader::{Accepted, FeedError, FeedReader},
    report::{Report, Subscribe},
};

/// How far a feed has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The era, as in the trust bundle.
    pub era: u64,
    /// Number of the last delta in the era.
    pub epoch: u64,
    /// Hash over all deltas of the era.
    #[serde(with = "crate::bytes")]
    pub head: [u8; 32],
}

impl Position {
    /// Before the first delta of an era.
    pub const fn start(era: u64) -> Self {
        Self { era, epoch: 0, head: [0; 32] }
    }

    const fn order(self) -> (u64, u64) {
        (self.era, self.epoch)
    }
}

#[cfg(test)]
#[cfg(feature = "issue")]
mod tests;
