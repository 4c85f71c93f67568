//! The record of a session as one end has checked it: each entry signed by its author, its place signed by the host,
//! both chained by hashes, so that nothing can be forged, changed, dropped, swapped or told differently unseen.

use std::collections::{BTreeMap, VecDeque};

use data_encoding::HEXLOWER;
use mytunnel_keys::id::PublicKey;

use crate::{
    content::{Content, ENVELOPE, Envelope, HOST, MemberId, SEAL, Seal, SessionId, System},
    limits,
    signed::{Hash, Signed},
    transcript::{Line, Transcript},
};

/// One entry that was checked.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its number in the session.
    pub number: u64,
    /// Its author.
    pub author: MemberId,
    /// What it says; nothing where it was for others only.
    pub envelope: Option<Envelope>,
    pub(crate) before: Hash,
    pub(crate) seal: Signed,
    pub(crate) signed: Option<Signed>,
}

impl Entry {
    /// Whether this member may read it.
    pub(crate) fn is_for(&self, member: MemberId) -> bool {
        self.envelope.as_ref().is_some_and(|envelope| {
            envelope.to.is_empty() || envelope.author == member || envelope.to.contains(&member)
        })
    }

    fn size(&self) -> usize {
        self.seal.size() + self.signed.as_ref().map_or(0, Signed::size)
    }
}

/// The record does not fit together at this entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record of the session is broken at entry {number}")]
pub struct Fork {
    /// The entry.
    pub number: u64,
}

/// What an author has said so far.
#[derive(Debug)]
struct Author {
    key: PublicKey,
    /// The number and the hash of the last; nothing where this end came later.
    last: Option<(u64, Hash)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    session: SessionId,
    host: PublicKey,
    authors: BTreeMap<MemberId, Author>,
    number: u64,
    head: Hash,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Ledger {
    /// A record that begins behind entry `number`, of hash `head`; 0 and zeros for a new session.
    pub(crate) fn new(session: SessionId, host: PublicKey, number: u64, head: Hash) -> Self {
        let begin = (number == 0).then_some((0, Hash::default()));
        let authors = BTreeMap::from([(HOST, Author { key: host, last: begin })]);
        Self { session, host, authors, number, head, entries: VecDeque::new(), bytes: 0 }
    }

    /// Somebody of whom this end does not know what it has said before.
    pub(crate) fn introduce(&mut self, member: MemberId, key: PublicKey) {
        self.authors.entry(member).or_insert(Author { key, last: None });
    }

    /// The number of the last entry.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Its hash.
    pub(crate) const fn head(&self) -> Hash {
        self.head
    }

    /// The last that an author said: its number and its hash.
    pub(crate) fn last_of(&self, member: MemberId) -> (u64, Hash) {
        self.authors.get(&member).and_then(|author| author.last).unwrap_or_default()
    }

    /// The entries behind `number` that are still kept.
    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = &Entry> {
        let begin = self.entries.partition_point(|entry| entry.number <= number);
        self.entries.range(begin..)
    }

    /// The first number that is still kept.
    pub(crate) fn first_kept(&self) -> u64 {
        self.entries.front().map_or(self.number + 1, |entry| entry.number)
    }

    /// The hash of the entry, where it is known.
    pub(crate) fn hash_at(&self, number: u64) -> Option<Hash> {
        if number == self.number {
            return Some(self.head);
        }
        self.after(number.checked_sub(1)?)
            .next()
            .filter(|entry| entry.number == number)
            .map(|entry| entry.seal.hash())
    }

    /// Goes on behind `number`: what is between was not kept for this end. Says how many entries that are.
    pub(crate) fn skip(&mut self, number: u64, head: Hash) -> Result<u64, Fork> {
        let missed = number.checked_sub(self.number).ok_or(Fork { number })?;
        self.number = number;
        self.head = head;
        for author in self.authors.values_mut() {
            author.last = None;
        }
        Ok(missed)
    }

    /// Takes the next entry. `false` for one that is known already.
    ///
    /// # Errors
    /// [`Fork`] where anything does not fit; nothing was taken then.
    pub(crate) fn accept(&mut self, seal: Signed, signed: Option<Signed>) -> Result<bool, Fork> {
        let fork = Fork { number: self.number + 1 };
        let place: Seal = seal.open(SEAL, &self.host).ok_or(fork)?;
        if place.number <= self.number {
            let known = self.hash_at(place.number);
            return if known.is_none_or(|hash| hash == seal.hash()) { Ok(false) } else { Err(fork) };
        }
        let fits =
            place.session == self.session && place.number == self.number + 1 && place.before == self.head;
        let author = self.authors.get_mut(&place.author).filter(|_| fits).ok_or(fork)?;
        if author.last.is_some_and(|(number, _)| place.by_author != number + 1) {
            return Err(fork);
        }
        let envelope = match &signed {
            None => None,
            Some(signed) => Some(opened(signed, &place, author).ok_or(fork)?),
        };
        author.last = Some((place.by_author, place.envelope));
        self.number = place.number;
        self.head = seal.hash();
        if let Some(Content::System(System::Joined { member })) =
            envelope.as_ref().map(|envelope| &envelope.content)
        {
            // Nobody takes the number of another.
            let new = Author { key: member.key, last: Some((0, Hash::default())) };
            self.authors.entry(member.id).or_insert(new);
        }
        self.keep(Entry {
            number: place.number,
            author: place.author,
            envelope,
            before: place.before,
            seal,
            signed,
        });
        Ok(true)
    }

    /// What is kept, as anybody can check it.
    pub(crate) fn export(&self) -> Transcript {
        Transcript {
            session: self.session.to_string(),
            host: self.host,
            after: self.first_kept() - 1,
            head: HEXLOWER.encode(&self.entries.front().map_or(self.head, |entry| entry.before).0),
            authors: self.authors.iter().map(|(id, author)| (*id, author.key)).collect(),
            last: self.number,
            entries: self.entries.iter().map(Line::of).collect(),
        }
    }

    fn keep(&mut self, entry: Entry) {
        self.bytes += entry.size();
        self.entries.push_back(entry);
        while self.entries.len() > limits::KEPT || self.bytes > limits::KEPT_BYTES {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.size();
        }
    }
}

/// What the author said, if it is what the seal names, and the author may say such a thing.
fn opened(signed: &Signed, place: &Seal, author: &Author) -> Option<Envelope> {
    if signed.size() > limits::ENTRY || signed.hash() != place.envelope {
        return None;
    }
    let envelope: Envelope = signed.open(ENVELOPE, &author.key)?;
    let placed = (envelope.session, envelope.author, envelope.number);
    let chained = author.last.is_none_or(|(_, hash)| envelope.before == hash);
    let may = envelope.author == HOST || matches!(envelope.content, Content::Said(_));
    (placed == (place.session, place.author, place.by_author) && chained && may).then_some(envelope)
}

#[cfg(test)]
mod tests;
