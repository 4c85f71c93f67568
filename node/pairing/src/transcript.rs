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
    /// Who was there before the first of the entries.
    pub(crate) authors: BTreeMap<MemberId, PublicKey>,
    /// Whose record it is: what was for others only is not in it.
    pub(crate) reader: MemberId,
    pub(crate) last: u64,
    /// That it ends there, signed by the reader.
    pub(crate) end: String,
    pub(crate) entries: Vec<Line>,
}

/// Where a record ends, as its reader signs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    pub(crate) session: SessionId,
    pub(crate) reader: MemberId,
    pub(crate) after: u64,
    pub(crate) last: u64,
    pub(crate) head: Hash,
}

/// What a reader signs.
pub(crate) const END: &str = "mytunnel pair end 1";

/// A record that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// How many entries.
    pub entries: u64,
    /// How many of them say nothing, as they were for others than the record's reader.
    pub withheld: u64,
    /// The key that signed the order: anybody can make a record, so that it proves as much as this is the host's.
    pub host: PublicKey,
    /// The key of whose record it is.
    pub reader: PublicKey,
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
    /// All of it holds and is proved by what the host signed last, but its own signature of this entry is none: the host left it
    /// out, or somebody has changed the file.
    #[error(
        "the host's own signature of entry {number} is missing or was changed; what it says and its place are proved by those behind it"
    )]
    Unsigned {
        /// The first such entry.
        number: u64,
    },
}

impl Line {
    pub(crate) fn of(entry: &Entry) -> Self {
        let text = |signed: &Signed| BASE64URL_NOPAD.encode(&bytes::encode(signed));
        Self { seal: text(&entry.seal), envelope: entry.signed.as_ref().map(text) }
    }
}

impl Transcript {
    /// Checks every hash, that nothing is missing, every author's signature, and the host's: over the last entry, which names the
    /// one before by its hash, and over each other one.
    ///
    /// # Errors
    /// The first entry that does not fit.
    pub fn verify(&self) -> Result<Checked, TranscriptError> {
        let unreadable = TranscriptError::Unreadable;
        let session = hex(&self.session).ok_or(unreadable)?;
        let head = hex(&self.head).ok_or(unreadable)?;
        let mut ledger = Ledger::behind(SessionId(session), self.host, self.reader, self.after, Hash(head))?;
        if self.after != 0 {
            for (id, key) in self.authors.iter().filter(|(id, _)| **id != HOST) {
                ledger.introduce(*id, *key)?;
            }
        }
        let seals: Vec<Option<Signed>> = self.entries.iter().map(|line| signed(&line.seal)).collect();
        ledger.foresee(seals.iter().map_while(Option::as_ref));
        let mut unsigned = None;
        for (line, seal) in self.entries.iter().zip(seals) {
            let fork = Fork { number: ledger.number().saturating_add(1) };
            let seal = seal.ok_or(fork)?;
            if !ledger.is_signed(&seal) {
                unsigned.get_or_insert(fork.number);
            }
            let envelope = match &line.envelope {
                Some(text) => Some(signed(text).ok_or(fork)?),
                None => None,
            };
            if !ledger.accept(seal, envelope)? {
                return Err(fork.into());
            }
        }
        let cut = Fork { number: ledger.number().saturating_add(1) };
        let reader = *ledger.key_of(self.reader).ok_or(cut)?.public();
        let end: End = signed(&self.end).and_then(|end| end.open(END, &reader)).ok_or(cut)?;
        let found = End {
            session: SessionId(session),
            reader: self.reader,
            after: self.after,
            last: ledger.number(),
            head: ledger.head(),
        };
        if end != found || self.last != found.last {
            return Err(cut.into());
        }
        if let Some(number) = unsigned {
            return Err(TranscriptError::Unsigned { number });
        }
        let withheld = self.entries.iter().filter(|line| line.envelope.is_none()).count() as u64;
        let entries = self.last - self.after;
        Ok(Checked { entries, withheld, host: self.host, reader })
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn signed(text: &str) -> Option<Signed> {
    bytes::decode(&BASE64URL_NOPAD.decode(text.as_bytes()).ok()?)
}
