//! The coordinator's side.

use super::{
    Change, Position,
    frame::{self, Body, Frame, TYPE},
};
use crate::{
    cose,
    id::{Cluster, Kid, PublicKey},
    secret::Seed,
};

/// The key that signs the feed.
#[derive(Clone, Debug)]
pub struct FeedKey(Seed);

impl FeedKey {
    /// Makes a seed the feed key.
    pub const fn new(seed: Seed) -> Self {
        Self(seed)
    }

    /// The key's public half, for a trust bundle.
    pub fn public(&self) -> PublicKey {
        self.0.public()
    }
}

/// Signs the frames of one feed. The caller keeps [`FeedWriter::position`] where it keeps the changes, in the same
/// transaction, and begins with it after a restart.
#[derive(Clone, Debug)]
pub struct FeedWriter {
    key: FeedKey,
    cluster: Cluster,
    position: Position,
    counter: u64,
}

impl FeedWriter {
    /// Goes on from a position. `counter` is the number of the last heartbeat; after a restart any number is good,
    /// because heartbeats count from that of a subscription's snapshot.
    pub const fn new(key: FeedKey, cluster: Cluster, position: Position, counter: u64) -> Self {
        Self { key, cluster, position, counter }
    }

    /// Where the feed stands.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// The first frame of a subscription. `changes` make the whole state out of nothing, `trust` is the version of the
    /// bundle that was sent before, `time` is Unix seconds.
    pub fn snapshot(&self, nonce: [u8; 16], changes: Vec<Change>, trust: u64, time: u64) -> Vec<u8> {
        let Position { head, .. } = self.position;
        self.sign(time, Body::Snapshot { head, changes, nonce, counter: self.counter, trust })
    }

    /// The next change, for every subscriber. The position moves on by one epoch.
    pub fn delta(&mut self, changes: Vec<Change>, time: u64) -> Vec<u8> {
        let prev = self.position.head;
        self.position = frame::next(&self.position, &changes);
        self.sign(time, Body::Delta { prev, changes })
    }

    /// A sign of life, for every subscriber. `audit_head` is the hash of the audit log's newest entry.
    pub fn heartbeat(&mut self, audit_head: [u8; 32], time: u64) -> Vec<u8> {
        self.counter += 1;
        let Position { head, .. } = self.position;
        self.sign(time, Body::Heartbeat { head, counter: self.counter, audit_head })
    }

    fn sign(&self, time: u64, body: Body) -> Vec<u8> {
        let Position { era, epoch, .. } = self.position;
        let frame = Frame { cluster: self.cluster.clone(), time, era, epoch, body };
        cose::sign(TYPE, Kid::of(&self.key.public()).as_bytes(), frame.write(), &self.key.0)
    }
}
