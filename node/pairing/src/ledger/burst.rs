//! Seals that come together. Each names the hash of the one before, so that the host's signature over the last of them is one
//! over all: that is checked before any of them is taken. Their own, with which each can be shown to anybody by itself, are
//! checked when there is time, and before the record is handed out.

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
    /// Entries that were taken by the signature of a later one.
    unchecked: VecDeque<u64>,
}

/// By which signature of the host's a seal is known to be its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Own,
    Later,
}

impl Burst {
    /// An entry was taken; what comes before `first` is kept no more, and shown to nobody.
    pub(super) fn note(&mut self, number: u64, proof: Proof, first: u64) {
        while self.unchecked.front().is_some_and(|unchecked| *unchecked < first) {
            self.unchecked.pop_front();
        }
        if proof == Proof::Later {
            self.unchecked.push_back(number);
        }
    }
}

impl Ledger {
    /// Looks at seals that are about to be taken in this order.
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
        let is_proved =
            ahead.len() > 1 && last.is_some_and(|last| last.opened::<Seal>(SEAL, &self.host).is_some());
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

    /// Checks the signatures of at most so many seals that were taken by a later one's.
    ///
    /// # Errors
    /// The host has not signed this one. The record ends before it then.
    pub(crate) fn check(&mut self, most: usize) -> Result<(), Fork> {
        for _ in 0..most {
            let Some(number) = self.burst.unchecked.pop_front() else { break };
            let entry = self.after(number.saturating_sub(1)).next().filter(|entry| entry.number == number);
            if entry.is_some_and(|entry| entry.seal.opened::<Seal>(SEAL, &self.host).is_none()) {
                self.end_before(number);
                return Err(Fork { number });
            }
        }
        Ok(())
    }

    fn end_before(&mut self, number: u64) {
        let begin = self.entries.partition_point(|entry| entry.number < number);
        for ended in self.entries.split_off(begin) {
            self.bytes -= ended.size();
            if ended.number == number {
                (self.number, self.head) = (number.saturating_sub(1), ended.before);
            }
        }
        self.burst = Burst::default();
    }
}

#[cfg(test)]
impl Ledger {
    pub(super) fn unchecked(&self) -> usize {
        self.burst.unchecked.len()
    }
}
