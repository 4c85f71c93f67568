//! The relay's side.

use std::cmp::Ordering;

use thiserror::Error;

use super::{
    Change, Position,
    frame::{self, Body, Frame, MAX_FRAME, TYPE},
};
use crate::{
    cbor::FieldError,
    cose::{Envelope, EnvelopeError},
    id::{Kid, SignatureError},
    trust::{KeyError, KeyUse, Trust, TrustError},
};

/// How far the coordinator's clock may be from the relay's, in seconds.
const MAX_OFFSET: u64 = 60;

/// What a frame brought.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accepted {
    /// The trust bundle; whether it is newer than the one held. It is in [`FeedReader::trust`].
    Trust {
        /// Whether anything has changed.
        newer: bool,
    },
    /// The whole state: what was known before is void.
    Snapshot {
        /// Where the feed stands.
        position: Position,
        /// Changes that make the state out of nothing.
        changes: Vec<Change>,
        /// Seconds by which the coordinator's clock is ahead.
        offset: i64,
    },
    /// Something has changed.
    Delta {
        /// Where the feed stands.
        position: Position,
        /// What has changed.
        changes: Vec<Change>,
    },
    /// Nothing has changed: the relay is up to date at this moment.
    Heartbeat {
        /// Where the feed stands.
        position: Position,
        /// Seconds by which the coordinator's clock is ahead.
        offset: i64,
        /// Hash of the newest entry of the audit log, which relays witness.
        audit_head: [u8; 32],
    },
}

/// Why a frame is refused. The reader is as it was before, and the connection is not worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Not a signed frame.
    #[error("the frame is malformed")]
    Envelope(#[from] EnvelopeError),
    /// Its content is not a frame's.
    #[error("the frame is malformed")]
    Content(#[from] FieldError),
    /// Signed by a key that is not trusted with the feed.
    #[error("the feed's key is not trusted")]
    Key(#[from] KeyError),
    /// The signature is wrong.
    #[error("the frame: {0}")]
    BadSignature(#[from] SignatureError),
    /// The trust bundle in it is refused.
    #[error("the feed's trust bundle is refused")]
    Trust(#[from] TrustError),
    /// The feed of another cluster.
    #[error("the frame is for another cluster")]
    Cluster,
    /// Before the first snapshot.
    #[error("the feed does not begin with a snapshot")]
    NoSnapshot,
    /// A snapshot that answers another subscription.
    #[error("the snapshot answers another subscription")]
    WrongNonce,
    /// A frame that was here before.
    #[error("the frame was received before")]
    Replay,
    /// Frames are missing.
    #[error("epoch {found} follows {held}: frames are missing")]
    Gap {
        /// Epoch that is held.
        held: u64,
        /// Epoch of the frame.
        found: u64,
    },
    /// Another history than the one that is held.
    #[error("the feed has another history at epoch {0}")]
    Fork(u64),
    /// Behind what the relay has seen before: the coordinator was restored, and needs a new era.
    #[error("the feed is at era {}, epoch {}, behind {}, {}, which was seen", .found.0, .found.1, .held.0, .held.1)]
    Rollback {
        /// Era and epoch that were seen.
        held: (u64, u64),
        /// Era and epoch of the frame.
        found: (u64, u64),
    },
    /// The trust bundle that the snapshot stands on was not sent.
    #[error("the feed stands on trust bundle {found}, and {held} is held")]
    OldTrust {
        /// Version that is held.
        held: u64,
        /// Version that the snapshot names.
        found: u64,
    },
    /// An era that no trust bundle announces.
    #[error("the feed's era {0} is not in the trust bundle")]
    UnknownEra(u64),
    /// The clocks are too far apart.
    #[error("the coordinator's clock is {0} s ahead of this one")]
    Clock(i64),
}

/// Reads one subscription: give it every frame in the order of arrival.
#[derive(Debug)]
pub struct FeedReader {
    nonce: [u8; 16],
    trust: Trust,
    /// The furthest position seen in earlier subscriptions.
    last: Option<Position>,
    live: Option<Live>,
}

/// A subscription behind its snapshot.
#[derive(Clone, Copy, Debug)]
struct Live {
    position: Position,
    counter: u64,
    time: u64,
}

impl FeedReader {
    /// Begins a subscription. `nonce` are 16 random bytes that were sent with it, `last` is the furthest position that
    /// this relay has ever taken, also before it was started anew.
    pub const fn new(nonce: [u8; 16], trust: Trust, last: Option<Position>) -> Self {
        Self { nonce, trust, last, live: None }
    }

    /// Decides on one frame at the time `now` in Unix seconds.
    ///
    /// # Errors
    /// When it is not the next frame of this subscription; see [`FeedError`].
    pub fn accept(&mut self, frame: &[u8], now: u64) -> Result<Accepted, FeedError> {
        let envelope = match Envelope::<8>::parse(TYPE, frame, MAX_FRAME) {
            Err(EnvelopeError::Type { .. }) => {
                return Ok(Accepted::Trust { newer: self.trust.update(frame)? });
            }
            other => other?,
        };
        envelope.verify(self.trust.key(Kid::from_bytes(envelope.kid), KeyUse::Feed, now)?)?;
        let frame = Frame::read(&envelope.payload)?;
        self.check_place(&frame)?;
        let Frame { time, era, epoch, body, .. } = frame;
        match body {
            Body::Snapshot { head, changes, nonce, counter, trust } => {
                let position = Position { era, epoch, head };
                self.check_snapshot(&position, &nonce, trust)?;
                let offset = offset(time, now)?;
                self.live = Some(Live { position, counter, time });
                Ok(Accepted::Snapshot { position, changes, offset })
            }
            Body::Delta { prev, changes } => {
                let mut live = self.live.ok_or(FeedError::NoSnapshot)?;
                live.check_delta(epoch, &prev)?;
                // A delta renews the relay's trust in what it knows: one held back on the way must not.
                offset(time, now)?;
                self.take_bundles(&changes)?;
                live.position = frame::next(&live.position, &changes);
                self.live = Some(live);
                Ok(Accepted::Delta { position: live.position, changes })
            }
            Body::Heartbeat { head, counter, audit_head } => {
                let mut live = self.live.ok_or(FeedError::NoSnapshot)?;
                live.check_heartbeat(&Position { era, epoch, head }, counter, time)?;
                let offset = offset(time, now)?;
                (live.counter, live.time) = (counter, time);
                self.live = Some(live);
                Ok(Accepted::Heartbeat { position: live.position, offset, audit_head })
            }
        }
    }

    /// The bundle, with what the feed has brought.
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Where the feed stands; none before the snapshot.
    pub fn position(&self) -> Option<Position> {
        self.live.map(|live| live.position)
    }

    fn check_place(&self, frame: &Frame) -> Result<(), FeedError> {
        let bundle = self.trust.bundle();
        if frame.cluster != bundle.cluster {
            return Err(FeedError::Cluster);
        }
        if frame.era > bundle.era {
            return Err(FeedError::UnknownEra(frame.era));
        }
        if frame.era < bundle.era {
            return Err(FeedError::Rollback { held: (bundle.era, 0), found: (frame.era, frame.epoch) });
        }
        Ok(())
    }

    fn check_snapshot(&self, position: &Position, nonce: &[u8; 16], trust: u64) -> Result<(), FeedError> {
        if *nonce != self.nonce {
            return Err(FeedError::WrongNonce);
        }
        if self.live.is_some() {
            return Err(FeedError::Replay);
        }
        let held = self.trust.bundle().version;
        if trust > held {
            return Err(FeedError::OldTrust { held, found: trust });
        }
        let Some(last) = self.last else { return Ok(()) };
        match position.order().cmp(&last.order()) {
            Ordering::Less => Err(FeedError::Rollback { held: last.order(), found: position.order() }),
            Ordering::Equal if position.head != last.head => Err(FeedError::Fork(position.epoch)),
            Ordering::Equal | Ordering::Greater => Ok(()),
        }
    }

    /// Takes new trust bundles out of changes, or none of them.
    fn take_bundles(&mut self, changes: &[Change]) -> Result<(), FeedError> {
        let mut newest = None;
        for change in changes {
            if let Change::Trust { bundle } = change {
                newest.get_or_insert_with(|| self.trust.clone()).update(bundle)?;
            }
        }
        if let Some(trust) = newest {
            self.trust = trust;
        }
        Ok(())
    }
}

impl Live {
    fn check_delta(&self, epoch: u64, prev: &[u8; 32]) -> Result<(), FeedError> {
        let held = self.position.epoch;
        if epoch <= held {
            return Err(FeedError::Replay);
        }
        if epoch - held > 1 {
            return Err(FeedError::Gap { held, found: epoch });
        }
        if *prev != self.position.head {
            return Err(FeedError::Fork(epoch));
        }
        Ok(())
    }

    fn check_heartbeat(&self, position: &Position, counter: u64, time: u64) -> Result<(), FeedError> {
        let (held, found) = (self.position.epoch, position.epoch);
        if counter <= self.counter || time < self.time || found < held {
            return Err(FeedError::Replay);
        }
        if found > held {
            return Err(FeedError::Gap { held, found });
        }
        if position.head != self.position.head {
            return Err(FeedError::Fork(found));
        }
        Ok(())
    }
}

/// Seconds by which the signer's clock is ahead of `now`.
fn offset(time: u64, now: u64) -> Result<i64, FeedError> {
    let distance = i64::try_from(time.abs_diff(now)).unwrap_or(i64::MAX);
    let offset = if time < now { -distance } else { distance };
    if time.abs_diff(now) > MAX_OFFSET { Err(FeedError::Clock(offset)) } else { Ok(offset) }
}
