//! Request proofs that were seen, so that none counts twice.
//!
//! A proof is good for two minutes around its time; for that long its id is remembered, in a bounded set. When
//! the set is full, or one signer's part of it, new requests are put off rather than old ids forgotten.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use mytunnel_keys::id::Serial;
use mytunnel_keys::proof::{Proof, WINDOW};

use crate::store::KeyKind;

/// Ids remembered at a time: some 20 MB at the most.
const MAX_IDS: usize = 400_000;

/// Why a proof does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It was used before.
    Seen,
    /// There is no room to remember it.
    Full,
}

/// The ids of the last minutes.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    /// Makes one number of signer and id, which nobody outside can aim at.
    key: RandomState,
    seen: HashSet<u64>,
    by_signer: HashMap<Serial, u32>,
    /// In the order in which they are forgotten.
    queue: VecDeque<Kept>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    until: u64,
    id: u64,
    signer: Serial,
}

impl Replays {
    /// Counts a proof that was verified, once.
    pub(crate) fn admit(&mut self, proof: &Proof, signer: KeyKind, now: u64) -> Result<(), Repeat> {
        self.forget(now);
        let id = self.key.hash_one((proof.serial, proof.id));
        if self.seen.contains(&id) {
            return Err(Repeat::Seen);
        }
        let of_signer = self.by_signer.get(&proof.serial).copied().unwrap_or(0);
        if self.seen.len() >= MAX_IDS || of_signer >= share(signer) {
            return Err(Repeat::Full);
        }
        self.seen.insert(id);
        self.by_signer.insert(proof.serial, of_signer + 1);
        // A proof may come from up to WINDOW ahead, and stays good until WINDOW after its own time.
        self.queue.push_back(Kept { until: now + 2 * WINDOW, id, signer: proof.serial });
        Ok(())
    }

    fn forget(&mut self, now: u64) {
        while let Some(Kept { until, id, signer }) = self.queue.front().copied() {
            if until >= now {
                return;
            }
            self.queue.pop_front();
            self.seen.remove(&id);
            if let Some(count) = self.by_signer.get_mut(&signer) {
                *count -= 1;
                if *count == 0 {
                    self.by_signer.remove(&signer);
                }
            }
        }
    }
}

/// Ids of one signer: for ever some 40 requests a second of a key, and 400 of a relay, which reports all day.
const fn share(signer: KeyKind) -> u32 {
    match signer {
        KeyKind::Relay => 100_000,
        KeyKind::User | KeyKind::Master | KeyKind::Child => 10_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const ONE: u32 = share(KeyKind::Child);

    fn proof(signer: u8, id: u32) -> Proof {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&id.to_be_bytes());
        Proof { serial: Serial::from_bytes([signer; 16]), id: bytes, issued_at: NOW }
    }

    #[test]
    fn a_proof_counts_once_for_as_long_as_it_is_good() {
        let mut replays = Replays::default();
        let ahead = Proof { issued_at: NOW + WINDOW, ..proof(1, 1) };
        assert_eq!(replays.admit(&ahead, KeyKind::User, NOW), Ok(()));
        for later in [0, 1, WINDOW, 2 * WINDOW] {
            assert_eq!(replays.admit(&ahead, KeyKind::User, NOW + later), Err(Repeat::Seen), "{later}");
        }
        assert_eq!(
            replays.admit(&proof(2, 1), KeyKind::Child, NOW),
            Ok(()),
            "another signer may use the same id"
        );
    }

    #[test]
    fn one_signer_cannot_fill_the_set_and_its_room_comes_back() {
        let mut replays = Replays::default();
        for id in 0..ONE {
            replays.admit(&proof(1, id), KeyKind::Child, NOW).unwrap();
        }
        assert_eq!(replays.admit(&proof(1, ONE), KeyKind::Child, NOW), Err(Repeat::Full));
        assert_eq!(replays.admit(&proof(2, 0), KeyKind::Child, NOW), Ok(()));
        let later = NOW + 2 * WINDOW + 1;
        assert_eq!(replays.admit(&proof(1, ONE), KeyKind::Child, later), Ok(()));
        assert_eq!((replays.seen.len(), replays.by_signer.len(), replays.queue.len()), (1, 1, 1));
    }

    #[test]
    fn a_relay_may_report_all_day() {
        let mut replays = Replays::default();
        for second in 0..600 {
            for report in 0..300 {
                let report = proof(7, second * 1000 + report);
                replays.admit(&report, KeyKind::Relay, NOW + u64::from(second)).unwrap();
            }
        }
    }

    #[test]
    fn a_full_set_puts_off_and_forgets_nothing() {
        let mut replays = Replays::default();
        let signers = (MAX_IDS as u32).div_ceil(ONE) as u8;
        for signer in 0..signers {
            for id in 0..ONE {
                replays.admit(&proof(signer, id), KeyKind::Child, NOW).unwrap();
            }
        }
        assert_eq!(replays.admit(&proof(200, 0), KeyKind::Child, NOW), Err(Repeat::Full));
        assert_eq!(replays.admit(&proof(0, 0), KeyKind::Child, NOW), Err(Repeat::Seen));
    }
}
