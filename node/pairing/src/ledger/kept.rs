//! The record as it is on disk: what every entry adds up to, and the entries by themselves, which are checked again when
//! they are read.

use std::collections::{BTreeMap, VecDeque};

use mytunnel_keys::id::PublicKey;
use serde::{Deserialize, Serialize};

use super::{Author, Burst, Entry, Ledger, is_placed, opened};
use crate::{
    bytes,
    content::{MemberId, SEAL, Seal, SessionId},
    signed::{Hash, Signed},
};

/// All but the entries.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeptLedger {
    number: u64,
    head: Hash,
    authors: BTreeMap<MemberId, (PublicKey, u64, Option<Hash>)>,
    /// How many entries there are.
    entries: u64,
}

impl Entry {
    /// As a row.
    pub(crate) fn to_row(&self) -> Vec<u8> {
        bytes::encode(&(&self.seal, &self.signed))
    }
}

impl Ledger {
    pub(crate) fn kept(&self) -> KeptLedger {
        let author =
            |(id, author): (&MemberId, &Author)| (*id, (*author.key.public(), author.number, author.hash));
        KeptLedger {
            number: self.number,
            head: self.head,
            authors: self.authors.iter().map(author).collect(),
            entries: self.entries.len() as u64,
        }
    }

    /// Nothing where it does not fit together.
    pub(crate) fn restored(
        session: SessionId,
        host: PublicKey,
        reader: MemberId,
        kept: KeptLedger,
        rows: &[Vec<u8>],
    ) -> Option<Self> {
        let author = |(id, (key, number, hash)): (MemberId, (PublicKey, u64, Option<Hash>))| {
            (id, Author { key: key.ready(), number, hash })
        };
        let mut ledger = Self {
            session,
            host: host.ready(),
            reader,
            authors: kept.authors.into_iter().map(author).collect(),
            number: kept.number,
            head: kept.head,
            entries: VecDeque::new(),
            bytes: 0,
            burst: Burst::default(),
        };
        for row in rows {
            let entry = ledger.checked(row)?;
            ledger.bytes += entry.size();
            ledger.entries.push_back(entry);
        }
        let ends = ledger.entries.back().is_none_or(|last| {
            last.number < ledger.number || last.number == ledger.number && last.seal.hash() == ledger.head
        });
        (ends && ledger.entries.len() as u64 == kept.entries).then_some(ledger)
    }

    /// The next entry that is kept. Between two there may be what was kept for nobody.
    fn checked(&self, row: &[u8]) -> Option<Entry> {
        let (seal, signed): (Signed, Option<Signed>) = bytes::decode(row)?;
        let place: Seal = seal.opened(SEAL, &self.host)?;
        let follows = self.entries.back().is_none_or(|last| {
            let is_next = place.number == last.number.saturating_add(1);
            place.number > last.number && (!is_next || place.before == last.seal.hash())
        });
        if place.session != self.session || !follows {
            return None;
        }
        let key = self.authors.get(&place.author)?.key;
        let author = Author { key, number: 0, hash: None };
        let (envelope, signed) = match signed {
            Some(signed) => {
                let said = opened(signed, &place, &author).filter(|said| is_placed(said, &place, &author))?;
                let (envelope, signed) = said.into_parts();
                (Some(envelope), Some(signed))
            }
            None if place.is_for(self.reader) => return None,
            None => (None, None),
        };
        let Seal { number, author, before, .. } = place;
        Some(Entry { number, author, envelope, before, seal, signed })
    }
}
