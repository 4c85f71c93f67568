//! A seat as it is on disk.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use libp2p::PeerId;
use mytunnel_keys::{id::PublicKey, secret::Seed};
use serde::{Deserialize, Serialize};

use super::{Known, Outbox, Seat, Words};
use crate::{
    bytes,
    content::{ENVELOPE, Envelope, Introduced, MemberId, SessionId, Why},
    era::Shift,
    hello::SeatId,
    ledger::{KeptLedger, Ledger},
    limits,
    message::Verify,
    rate::Rate,
    secret::ResumeSecret,
    signed::{Hash, Signed},
};

/// By how much the number of the next attempt to come back grows with a restart: more than a session has time for, so that
/// those of the process before need not be on disk.
const ATTEMPTS: u32 = 1 << 16;

/// All of a seat but its entries, what was said and has no place yet, and what may be older than those.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeptSeat {
    session: SessionId,
    member: MemberId,
    name: String,
    verify: Verify,
    #[serde(with = "bytes")]
    host: Vec<u8>,
    host_key: PublicKey,
    host_keeps: bool,
    goal: String,
    members: Vec<Introduced>,
    ledger: Option<KeptLedger>,
    words: Words,
    verified_here: bool,
    wrong_words: u8,
    held: bool,
    missed: u64,
    closed: Option<Why>,
    leaving: bool,
    #[serde(with = "bytes")]
    seat: [u8; 8],
    #[serde(with = "bytes")]
    resume: [u8; 32],
    #[serde(with = "bytes")]
    seed: [u8; 32],
    /// Number and hash of the last that was said here.
    last: (u64, Hash),
    joined_at: Duration,
}

/// What may be older than the rest.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct LooseSeat {
    active_at: Duration,
    attempt: u32,
    offline: BTreeSet<MemberId>,
}

impl Seat {
    pub(crate) fn kept(&self) -> KeptSeat {
        KeptSeat {
            session: self.session,
            member: self.member,
            name: self.name.clone(),
            verify: self.verify,
            host: self.host.to_bytes(),
            host_key: self.host_key,
            host_keeps: self.host_keeps,
            goal: self.goal.clone(),
            members: self.members.values().map(|known| known.introduced.clone()).collect(),
            ledger: self.ledger.as_ref().map(Ledger::kept),
            words: self.words.clone(),
            verified_here: self.verified_here,
            wrong_words: self.wrong_words,
            held: self.held,
            missed: self.missed,
            closed: self.closed,
            leaving: self.leaving.is_some(),
            seat: self.seat.0,
            // Nobody comes back where it is over.
            resume: if self.is_over() { [0; 32] } else { self.resume.expose() },
            seed: *self.seed.expose(),
            last: self.outbox.last,
            joined_at: self.joined_at,
        }
    }

    pub(crate) fn loose(&self) -> LooseSeat {
        let offline = self.members.iter().filter(|(_, known)| !known.online).map(|(id, _)| *id).collect();
        LooseSeat { active_at: self.active_at, attempt: self.attempt, offline }
    }

    /// The number of its last attempt to come back, which none may have again.
    pub(crate) const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// It was made anew of what is on disk, in a process that has made attempts since.
    pub(crate) const fn set_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
    }

    /// What was said here behind `number` and has no place yet.
    pub(crate) fn unsaid(&self, number: u64) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let new = self.outbox.waiting.iter().filter(move |(said, _)| *said > number);
        new.map(|(said, signed)| (*said, bytes::encode(signed)))
    }

    /// The number of the last that was said here, and the first that has no place yet.
    pub(crate) fn said(&self) -> (u64, u64) {
        let (last, _) = self.outbox.last;
        (last, self.outbox.waiting.front().map_or(last + 1, |(first, _)| *first))
    }

    /// Nothing where it does not fit together. It is away, and comes back.
    pub(crate) fn restored(
        kept: KeptSeat,
        loose: &LooseSeat,
        rows: &[Vec<u8>],
        outbox: &[Vec<u8>],
        at: &Shift,
    ) -> Option<Self> {
        let seed = Seed::from_bytes(kept.seed);
        let ledger = match kept.ledger {
            Some(ledger) => Some(Ledger::restored(kept.session, kept.host_key, kept.member, ledger, rows)?),
            None => None,
        };
        let waiting = restored_outbox(outbox, kept.last, &seed)?;
        let known = |introduced: Introduced| {
            (introduced.id, Known { online: !loose.offline.contains(&introduced.id), introduced })
        };
        let members: BTreeMap<_, _> = kept.members.into_iter().map(known).collect();
        Some(Self {
            session: kept.session,
            member: kept.member,
            name: kept.name,
            verify: kept.verify,
            host: PeerId::from_bytes(&kept.host).ok()?,
            host_key: kept.host_key,
            host_keeps: kept.host_keeps,
            goal: kept.goal,
            members,
            ledger,
            words: kept.words,
            verified_here: kept.verified_here,
            wrong_words: kept.wrong_words,
            held: kept.held,
            missed: kept.missed,
            closed: kept.closed,
            leaving: kept.leaving.then(|| at.now.steady + limits::LAST_CALL),
            away_since: Some(at.now.steady),
            seat: SeatId(kept.seat),
            resume: ResumeSecret::from_bytes(kept.resume),
            attempt: loose.attempt.saturating_add(ATTEMPTS),
            seed,
            outbox: Outbox { waiting, last: kept.last, sent: 0 },
            rate: Rate::default(),
            messages: Rate::default(),
            heard_at: at.now.steady,
            joined_at: at.past(kept.joined_at),
            active_at: at.past(loose.active_at),
            outgoing: VecDeque::new(),
            has: None,
        })
    }
}

/// Everything that was said last, without a gap.
fn restored_outbox(
    rows: &[Vec<u8>],
    (last, hash): (u64, Hash),
    seed: &Seed,
) -> Option<VecDeque<(u64, Signed)>> {
    let mut waiting = VecDeque::new();
    let key = seed.public();
    let mut number = last.checked_sub(rows.len() as u64)?;
    for row in rows {
        number += 1;
        let signed: Signed = bytes::decode(row)?;
        let envelope: Envelope = signed.open(ENVELOPE, &key)?;
        if envelope.number != number || number == last && signed.hash() != hash {
            return None;
        }
        waiting.push_back((number, signed));
    }
    Some(waiting)
}
