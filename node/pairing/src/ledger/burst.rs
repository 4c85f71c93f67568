//! Seals that come together. Each names the hash of the one before, so that the host's signature over the last of them is one
//! over all: that is checked before any of them is taken, and theirs are not. A record that ends there proves each of them to
//! anybody, whatever signatures they have themselves.

use std::collections::VecDeque;

use super::{Fork, Ledger};
use crate::{
    content::{SEAL, Seal},
    signed::{Hash, Signed, Vouched},
};

/// What is known of seals beside the record.
#[derive(Debug, Default)]
pub(super) struct Burst {
    /// Those that the host is known to have signed, and that are not taken yet.
    ahead: VecDeque<(Hash, Seal)>,
    /// The first entry that was taken by the signature of a later one, which is not there yet.
    open: Option<u64>,
}

/// By which signature of the host's a seal is known to be its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Own,
    Later,
}

impl Burst {
    /// An entry was taken.
    pub(super) fn note(&mut self, number: u64, proof: Proof) {
        match proof {
            Proof::Own => self.open = None,
            Proof::Later => drop(self.open.get_or_insert(number)),
        }
    }
}

impl Ledger {
    /// Looks at seals that are about to be taken in this order; [`Self::settle`] is for when they were.
    pub(crate) fn foresee<'a>(&mut self, seals: impl IntoIterator<Item = &'a Signed>) {
        let (mut head, mut last) = (self.head, None);
        let mut ahead = VecDeque::new();
        for seal in seals {
            let Some(place) = seal.claimed::<Seal>().filter(|place| place.before == head) else { break };
            head = seal.hash();
            last = Some(seal);
            ahead.push_back((head, place));
        }
        // One alone is checked when it is taken.
        let is_proved = ahead.len() > 1 && last.is_some_and(|last| self.is_signed(last));
        self.burst.ahead = if is_proved { ahead } else { VecDeque::new() };
    }

    /// A seal that is the host's.
    pub(super) fn vouched(&mut self, seal: Signed) -> Option<(Vouched<Seal>, Proof)> {
        match self.burst.ahead.pop_front() {
            Some((hash, place)) if hash == seal.hash() => {
                let is_last = self.burst.ahead.is_empty();
                Some((seal.vouched_by_hash(place), if is_last { Proof::Own } else { Proof::Later }))
            }
            Some(_) | None => {
                self.burst.ahead.clear();
                Some((seal.vouched(SEAL, &self.host)?, Proof::Own))
            }
        }
    }

    /// Whether the host's own signature is there, too.
    pub(crate) fn is_signed(&self, seal: &Signed) -> bool {
        seal.opened::<Seal>(SEAL, &self.host).is_some()
    }

    /// Where a burst was not taken to its end, those that were taken need signatures of their own, if the record is to prove
    /// them. To be called before anybody hears of them.
    ///
    /// # Errors
    /// The host has not signed this one. The record ends before it, and nothing may follow there.
    pub(crate) fn settle(&mut self) -> Result<(), Fork> {
        self.burst.ahead.clear();
        let Some(open) = self.burst.open.take() else { return Ok(()) };
        let unsigned = self.after(open.saturating_sub(1)).find(|entry| !self.is_signed(&entry.seal));
        let Some((number, before)) = unsigned.map(|entry| (entry.number, entry.before)) else {
            return Ok(());
        };
        let begin = self.entries.partition_point(|entry| entry.number < number);
        self.bytes -= self.entries.split_off(begin).iter().map(super::Entry::size).sum::<usize>();
        (self.number, self.head) = (number.saturating_sub(1), before);
        Err(Fork { number })
    }
}
