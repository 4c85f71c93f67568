//! The record of a session as one end has checked it: each entry signed by its author, its place signed by the host,
//! both chained by hashes, so that nothing can be forged, changed, dropped, swapped or told differently unseen.

mod burst;
mod kept;

use std::collections::{BTreeMap, VecDeque};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use mytunnel_keys::{
    id::{PublicKey, ReadyKey},
    secret::Seed,
};

use crate::{
    bytes,
    content::{self, Content, ENVELOPE, Envelope, HOST, MemberId, SKIP, Seal, SessionId, Skip, System},
    limits,
    signed::{Hash, Signed, Vouched},
    transcript::{END, End, Line, Transcript},
};

use self::burst::Burst;
pub(crate) use self::kept::KeptLedger;

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
    key: ReadyKey,
    /// The number of the last that this end knows of. Nothing up to here is taken again, whatever was missed since.
    number: u64,
    /// Its hash; nothing where this end came later, or missed something.
    hash: Option<Hash>,
}

impl Author {
    fn is_next(&self, number: u64) -> bool {
        match self.hash {
            Some(_) => number.checked_sub(1) == Some(self.number),
            None => number > self.number,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    session: SessionId,
    host: ReadyKey,
    reader: MemberId,
    authors: BTreeMap<MemberId, Author>,
    number: u64,
    head: Hash,
    entries: VecDeque<Entry>,
    bytes: usize,
    burst: Burst,
}

impl Ledger {
    /// The record of a new session as `reader` has it.
    pub(crate) fn new(session: SessionId, host: PublicKey, reader: MemberId) -> Self {
        let host = host.ready();
        let authors = BTreeMap::from([(HOST, Author { key: host, number: 0, hash: Some(Hash::default()) })]);
        let (number, head, entries) = (0, Hash::default(), VecDeque::new());
        Self { session, host, reader, authors, number, head, entries, bytes: 0, burst: Burst::default() }
    }

    /// A record as `reader` has it who comes later: it begins behind entry `number`, of hash `head`.
    ///
    /// # Errors
    /// [`Fork`] where no record comes so far.
    pub(crate) fn behind(
        session: SessionId,
        host: PublicKey,
        reader: MemberId,
        number: u64,
        head: Hash,
    ) -> Result<Self, Fork> {
        let mut ledger = Self::new(session, host, reader);
        if number > 0 {
            (ledger.number, ledger.head) = (reached(number)?, head);
            ledger.forget_chains();
        }
        Ok(ledger)
    }

    /// Somebody of whom this end does not know what it has said before.
    ///
    /// # Errors
    /// [`Fork`] where this number has another key.
    pub(crate) fn introduce(&mut self, member: MemberId, key: PublicKey) -> Result<(), Fork> {
        let new = || Author { key: key.ready(), number: 0, hash: None };
        let author = self.authors.entry(member).or_insert_with(new);
        if *author.key.public() == key { Ok(()) } else { Err(Fork { number: self.number }) }
    }

    /// Whether anybody has, or had, this number.
    pub(crate) fn knows(&self, member: MemberId) -> bool {
        self.authors.contains_key(&member)
    }

    /// The key of whoever has this number.
    pub(crate) fn key_of(&self, member: MemberId) -> Option<&ReadyKey> {
        self.authors.get(&member).map(|author| &author.key)
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
        let last = |author: &Author| (author.number, author.hash.unwrap_or_default());
        self.authors.get(&member).map(last).unwrap_or_default()
    }

    /// The entries behind `number` that are still kept.
    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = &Entry> {
        let begin = self.entries.partition_point(|entry| entry.number <= number);
        self.entries.range(begin..)
    }

    /// The first number that is still kept.
    pub(crate) fn first_kept(&self) -> u64 {
        self.entries.front().map_or(self.number.saturating_add(1), |entry| entry.number)
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

    /// Goes on where the host says: what is between was not kept for this end.
    ///
    /// # Errors
    /// [`Fork`] where the host did not sign it, or it leads back, or to other members under the same numbers.
    pub(crate) fn skip(&mut self, skip: &Signed) -> Result<Skip, Fork> {
        let fork = Fork { number: self.number.saturating_add(1) };
        let skip: Skip = skip.opened(SKIP, &self.host).ok_or(fork)?;
        if skip.session != self.session || skip.number <= self.number || reached(skip.number).is_err() {
            return Err(fork);
        }
        for member in &skip.members {
            self.introduce(member.id, member.key)?;
        }
        self.number = skip.number;
        self.head = skip.head;
        self.forget_chains();
        Ok(skip)
    }

    /// What each said last was missed.
    fn forget_chains(&mut self) {
        for author in self.authors.values_mut() {
            author.hash = None;
        }
    }

    /// Takes the next entry. `false` for one that is known already.
    ///
    /// # Errors
    /// [`Fork`] where anything does not fit; nothing was taken then.
    pub(crate) fn accept(&mut self, seal: Signed, signed: Option<Signed>) -> Result<bool, Fork> {
        let fork = Fork { number: self.number.saturating_add(1) };
        let (seal, proof) = self.vouched(seal).ok_or(fork)?;
        let place = seal.value();
        if place.number <= self.number {
            let known = self.hash_at(place.number);
            return if known.is_none_or(|hash| hash == seal.signed().hash()) { Ok(false) } else { Err(fork) };
        }
        let said = |signed| self.authors.get(&place.author).and_then(|author| opened(signed, place, author));
        let envelope = signed.map(|signed| said(signed).ok_or(fork)).transpose()?;
        self.append(seal, envelope)?;
        self.burst.note(self.number, proof);
        Ok(true)
    }

    /// Takes the next entry, of which the seal is known to be the host's, and what it seals to be its author's.
    ///
    /// # Errors
    /// [`Fork`] where anything else does not fit; nothing was taken then.
    pub(crate) fn append(
        &mut self,
        seal: Vouched<Seal>,
        said: Option<Vouched<Envelope>>,
    ) -> Result<(), Fork> {
        let fork = Fork { number: self.number.saturating_add(1) };
        let (place, seal) = seal.into_parts();
        let is_next = reached(place.number) == Ok(fork.number);
        let fits = place.session == self.session && is_next && place.before == self.head;
        let author = self.authors.get(&place.author).filter(|_| fits).ok_or(fork)?;
        if !author.is_next(place.by_author) {
            return Err(fork);
        }
        let (envelope, signed) = match said {
            Some(said) if is_placed(&said, &place, author) => {
                let (envelope, signed) = said.into_parts();
                (Some(envelope), Some(signed))
            }
            None if !place.is_for(self.reader) => (None, None),
            Some(_) | None => return Err(fork),
        };
        let joined = match envelope.as_ref().map(|envelope| &envelope.content) {
            Some(Content::System(System::Joined { member })) => Some((member.id, member.key)),
            Some(Content::System(_) | Content::Said(_)) | None => None,
        };
        // Nobody takes the number of another.
        if joined.is_some_and(|(id, _)| self.authors.contains_key(&id)) {
            return Err(fork);
        }
        if let Some(author) = self.authors.get_mut(&place.author) {
            (author.number, author.hash) = (place.by_author, Some(place.envelope));
        }
        if let Some((id, key)) = joined {
            self.authors.insert(id, Author { key: key.ready(), number: 0, hash: Some(Hash::default()) });
        }
        self.number = place.number;
        self.head = seal.hash();
        self.keep(Entry {
            number: place.number,
            author: place.author,
            envelope,
            before: place.before,
            seal,
            signed,
        });
        Ok(())
    }

    /// What is kept, as anybody can check it; `seed` is the reader's, who vouches for where it ends.
    pub(crate) fn export(&self, seed: &Seed) -> Transcript {
        let tail = || self.tail();
        let after = tail().next().map_or(self.number, |entry| entry.number - 1);
        let joined = |id: MemberId| {
            tail().filter_map(|entry| entry.envelope.as_ref()).any(|envelope| {
                matches!(&envelope.content, Content::System(System::Joined { member }) if member.id == id)
            })
        };
        let authors = self.authors.iter().filter(|(id, _)| !joined(**id));
        let end =
            End { session: self.session, reader: self.reader, after, last: self.number, head: self.head };
        Transcript {
            session: self.session.to_string(),
            host: *self.host.public(),
            after,
            head: HEXLOWER.encode(&tail().next().map_or(self.head, |entry| entry.before).0),
            authors: authors.map(|(id, author)| (*id, *author.key.public())).collect(),
            reader: self.reader,
            last: self.number,
            end: BASE64URL_NOPAD.encode(&bytes::encode(&Signed::sign(END, &end, seed))),
            entries: tail().map(Line::of).collect(),
        }
    }

    /// What is kept without a gap up to the end: what was missed in between cannot be checked.
    fn tail(&self) -> impl Iterator<Item = &Entry> {
        let ends_at = |at: usize| self.entries.get(at).map(|entry| entry.number);
        let count = (1..=self.entries.len()).take_while(|back| {
            ends_at(self.entries.len() - back) == self.number.checked_sub(*back as u64 - 1)
        });
        let begin = self.entries.len() - count.count();
        self.entries.range(begin..)
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

/// The number, where a record comes so far. It is the host's word, and further on no disk could follow.
const fn reached(number: u64) -> Result<u64, Fork> {
    if number <= limits::NUMBER { Ok(number) } else { Err(Fork { number }) }
}

/// What the author said, if it is what the seal names: nothing else is worth a look.
fn opened(signed: Signed, place: &Seal, author: &Author) -> Option<Vouched<Envelope>> {
    let is_named = signed.size() <= limits::ENTRY && signed.hash() == place.envelope;
    is_named.then(|| signed.vouched(ENVELOPE, &author.key)).flatten()
}

/// Whether what the author said is what the seal names, and the author may say such a thing.
fn is_placed(said: &Vouched<Envelope>, place: &Seal, author: &Author) -> bool {
    let (envelope, signed) = (said.value(), said.signed());
    let is_named = signed.size() <= limits::ENTRY && signed.hash() == place.envelope;
    let placed = (envelope.session, envelope.author, envelope.number);
    let chained = author.hash.is_none_or(|hash| envelope.before == hash);
    let may = match &envelope.content {
        Content::Said(said) => content::check(said).is_ok(),
        Content::System(_) => envelope.author == HOST,
    };
    let placed = placed == (place.session, place.author, place.by_author) && envelope.to == place.to;
    is_named && placed && chained && may
}

#[cfg(test)]
mod tests;
