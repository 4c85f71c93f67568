//! The record of a session in a file: checked again by anybody, without any of the machines that it was made on.

use std::collections::BTreeMap;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use mytunnel_keys::id::PublicKey;
use serde::{Deserialize, Serialize};

use crate::{
    bytes,
    content::{HOST, MemberId, SessionId},
    ledger::{Entry, Fork, Ledger},
    signed::{Hash, Signed},
};

/// What `mytunnel pair export` writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    pub(crate) session: String,
    pub(crate) host: PublicKey,
    /// The entries begin behind this one, of this hash.
    pub(crate) after: u64,
    pub(crate) head: String,
    pub(crate) authors: BTreeMap<MemberId, PublicKey>,
    pub(crate) last: u64,
    pub(crate) entries: Vec<Line>,
}

/// One entry, as it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    seal: String,
    /// Nothing where it was for others only.
    envelope: Option<String>,
}

/// Why a record does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// It is none.
    #[error("this is no record of a session")]
    Unreadable,
    /// See [`Fork`].
    #[error(transparent)]
    Fork(#[from] Fork),
}

impl Line {
    pub(crate) fn of(entry: &Entry) -> Self {
        let text = |signed: &Signed| BASE64URL_NOPAD.encode(&bytes::encode(signed));
        Self { seal: text(&entry.seal), envelope: entry.signed.as_ref().map(text) }
    }
}

impl Transcript {
    /// Checks every signature, every hash and that nothing is missing; says how many entries that are.
    ///
    /// # Errors
    /// The first entry that does not fit.
    pub fn verify(&self) -> Result<u64, TranscriptError> {
        let unreadable = TranscriptError::Unreadable;
        let session = hex(&self.session).ok_or(unreadable)?;
        let head = hex(&self.head).ok_or(unreadable)?;
        let mut ledger = Ledger::new(SessionId(session), self.host, self.after, Hash(head));
        if self.after != 0 {
            for (id, key) in self.authors.iter().filter(|(id, _)| **id != HOST) {
                ledger.introduce(*id, *key);
            }
        }
        for line in &self.entries {
            let fork = Fork { number: ledger.number() + 1 };
            let seal = signed(&line.seal).ok_or(fork)?;
            let envelope = match &line.envelope {
                Some(text) => Some(signed(text).ok_or(fork)?),
                None => None,
            };
            if !ledger.accept(seal, envelope)? {
                return Err(fork.into());
            }
        }
        if ledger.number() == self.last {
            Ok(self.last - self.after)
        } else {
            Err(Fork { number: ledger.number() + 1 }.into())
        }
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn signed(text: &str) -> Option<Signed> {
    bytes::decode(&BASE64URL_NOPAD.decode(text.as_bytes()).ok()?)
}
