//! What is signed: the three kinds of frame, and the hash that chains them.

use ciborium::Value;
use sha2::{Digest as _, Sha256};

use super::{
    Change, Position,
    change::{CHANGES, read_all, write_all},
};
use crate::{
    cbor::{self, FieldError, Reader, Writer},
    id::Cluster,
    trust::PRIVATE,
};

/// Largest frame, in bytes: a snapshot of several hundred thousand entries.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

pub(super) const TYPE: &str = "mtk-feed+cwt";

/// A frame with what all kinds have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) cluster: Cluster,
    /// When it was signed.
    pub(super) time: u64,
    pub(super) era: u64,
    pub(super) epoch: u64,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Snapshot {
        head: [u8; 32],
        /// Changes that make the whole state out of nothing.
        changes: Vec<Change>,
        nonce: [u8; 16],
        /// Counter of the last heartbeat before it.
        counter: u64,
        /// Version of the trust bundle, so that nobody can withhold a newer one.
        trust: u64,
    },
    Delta {
        /// Head before it.
        prev: [u8; 32],
        changes: Vec<Change>,
    },
    Heartbeat {
        head: [u8; 32],
        counter: u64,
        audit_head: [u8; 32],
    },
}

impl Frame {
    pub(super) fn read(payload: &[u8]) -> Result<Self, FieldError> {
        let mut claims = Reader::new(cbor::decode(payload)?)?;
        let mut private = claims.map(PRIVATE)?;
        private.exactly(1, 1)?;
        let frame = Self {
            cluster: claims.text(3)?,
            time: claims.uint(6)?,
            era: private.uint(3)?,
            epoch: private.uint(4)?,
            body: read_body(&mut private)?,
        };
        private.finish()?;
        claims.finish()?;
        cbor::same(payload, &frame.write())?;
        Ok(frame)
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let private = Writer::new().put(1, 1);
        let position = |private: Writer, kind: u64| private.put(2, kind).put(3, self.era).put(4, self.epoch);
        let private = match &self.body {
            Body::Snapshot { head, changes, nonce, counter, trust } => position(private, 1)
                .put(5, head.as_slice())
                .put(CHANGES, write_all(changes))
                .put(7, nonce.as_slice())
                .put(8, *counter)
                .put(9, *trust),
            Body::Delta { prev, changes } => {
                position(private, 2).put(5, prev.as_slice()).put(CHANGES, write_all(changes))
            }
            Body::Heartbeat { head, counter, audit_head } => {
                position(private, 3).put(5, head.as_slice()).put(8, *counter).put(10, audit_head.as_slice())
            }
        };
        let claims =
            Writer::new().put(3, self.cluster.as_str()).put(6, self.time).put(PRIVATE, private.finish());
        cbor::encode(&claims.finish())
    }
}

fn read_body(private: &mut Reader) -> Result<Body, FieldError> {
    let kind: u64 = private.uint(2)?;
    let head = private.bytes(5)?;
    Ok(match kind {
        1 => Body::Snapshot {
            head,
            changes: read_all(&private.array(CHANGES)?)?,
            nonce: private.bytes(7)?,
            counter: private.uint(8)?,
            trust: private.uint(9)?,
        },
        2 => Body::Delta { prev: head, changes: read_all(&private.array(CHANGES)?)? },
        3 => Body::Heartbeat { head, counter: private.uint(8)?, audit_head: private.bytes(10)? },
        _ => return Err(FieldError::Value(2)),
    })
}

/// Where a delta leads.
pub(super) fn next(before: &Position, changes: &[Change]) -> Position {
    let epoch = before.epoch + 1;
    let link = Value::Array(vec![
        "mytunnel feed 1".into(),
        before.head.as_slice().into(),
        before.era.into(),
        epoch.into(),
        write_all(changes),
    ]);
    Position { era: before.era, epoch, head: Sha256::digest(cbor::encode(&link)).into() }
}
