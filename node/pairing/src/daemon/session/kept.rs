//! A session as it is on disk: what has changed of it since it was last written, and how it is made of what was.

use std::{collections::BTreeMap, time::Duration};

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Session, Side};
use crate::{
    bytes,
    clock::Now,
    content::SessionId,
    daemon::{Way, passages::Passport},
    era::Era,
    ledger::{Entry, Ledger},
    readers::Readers,
    room::{KeptRoom, LooseRoom, Room},
    seat::{KeptSeat, LooseSeat, Seat},
    secret,
    store::{Change, Rows},
};

/// How much of a session is on disk, or on its way there.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Marks {
    /// Hash of the state.
    state: [u8; 32],
    /// The last entry.
    number: u64,
    /// The last that was said here.
    said: u64,
}

/// How this program writes a session, as the first byte of its state says: another way of it gets another number.
const VERSION: u8 = 1;

/// Why no session can be made of what is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::daemon) enum Unreadable {
    #[error("another version of mytunnel has written it")]
    Version,
    #[error("it does not fit together")]
    Damaged,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    era: Era,
    began: Duration,
    ended: Option<Duration>,
    is_dismissed: bool,
    forgets: bool,
    readers: Readers,
    side: KeptSide,
    /// Not there in what was written before there were ways.
    #[serde(default)]
    passport: Option<Passport>,
}

#[derive(Serialize, Deserialize)]
enum KeptSide {
    Host(Box<KeptRoom>),
    Guest(Box<KeptSeat>, Vec<Multiaddr>),
}

#[derive(Serialize, Deserialize)]
enum Loose {
    Host(LooseRoom),
    Guest(LooseSeat),
}

impl Session {
    pub(in crate::daemon) const fn is_kept(&self) -> bool {
        self.marks.is_some()
    }

    /// Whether it is on its host's disk, as the host says.
    pub(in crate::daemon) const fn host_keeps(&self) -> bool {
        match &self.side {
            Side::Host(_) => self.is_kept(),
            Side::Guest(seat, _) => seat.host_keeps,
        }
    }

    /// What of it is to be written; nothing where nothing has changed, or it is not kept.
    pub(in crate::daemon) fn change(&mut self, era: &Era) -> Option<Change> {
        let Marks { state: before, number, said } = *self.marks.as_ref()?;
        let state = Zeroizing::new(bytes::encode_behind(vec![VERSION], &self.kept(era)));
        let hash = hash(&state);
        if hash == before {
            return None;
        }
        let (loose, ledger) = match &self.side {
            Side::Host(room) => (Loose::Host(room.loose()), Some(&room.ledger)),
            Side::Guest(seat, _) => (Loose::Guest(seat.loose()), seat.ledger.as_ref()),
        };
        let (outbox, last, unsaid) = match &self.side {
            Side::Host(_) => (Vec::new(), 0, 0),
            Side::Guest(seat, _) => {
                let (last, unsaid) = seat.said();
                (seat.unsaid(said).collect(), last, unsaid)
            }
        };
        let change = Change {
            state,
            loose: bytes::encode(&loose),
            begins: before == [0; 32],
            over: self.is_over(),
            entries: self.after(number).map(|entry: &Entry| (entry.number, entry.to_row())).collect(),
            first: ledger.map_or(0, Ledger::first_kept),
            outbox,
            unsaid,
        };
        self.marks = Some(Marks { state: hash, number: self.last(), said: last });
        Some(change)
    }

    /// Nothing of it is on disk any more.
    pub(in crate::daemon) fn let_go(&mut self) {
        self.marks = None;
    }

    fn kept(&self, era: &Era) -> Kept {
        Kept {
            era: era.clone(),
            began: self.began,
            ended: self.ended,
            is_dismissed: self.is_dismissed,
            forgets: self.forgets,
            readers: self.readers.clone(),
            passport: self.passport.clone().filter(|_| !self.is_over()),
            side: match &self.side {
                Side::Host(room) => KeptSide::Host(Box::new(room.kept())),
                Side::Guest(seat, way) => KeptSide::Guest(Box::new(seat.kept()), way.addresses.clone()),
            },
        }
    }

    /// # Errors
    /// [`Unreadable`]
    pub(in crate::daemon) fn restored(
        id: SessionId,
        rows: &Rows,
        era: &Era,
        now: Now,
    ) -> Result<Self, Unreadable> {
        match rows.state.split_first() {
            Some((&VERSION, state)) => Self::fitted(id, state, rows, era, now).ok_or(Unreadable::Damaged),
            Some(_) => Err(Unreadable::Version),
            None => Err(Unreadable::Damaged),
        }
    }

    /// Nothing where what was read does not fit together.
    fn fitted(id: SessionId, state: &[u8], rows: &Rows, era: &Era, now: Now) -> Option<Self> {
        let kept: Kept = bytes::decode(state)?;
        let loose = bytes::decode(&rows.loose)?;
        let at = era.behind(&kept.era, now);
        let side = match (kept.side, loose) {
            (KeptSide::Host(room), Loose::Host(loose)) => Side::Host(
                Room::restored(*room, &loose, &rows.entries, &at)
                    .filter(|room| room.opening.session == id)?,
            ),
            (KeptSide::Guest(seat, addresses), Loose::Guest(loose)) => {
                let seat = Seat::restored(*seat, &loose, &rows.entries, &rows.outbox, &at);
                let way = Way { addresses, failures: 0, next: now.steady, trying: false };
                Side::Guest(seat.filter(|seat| seat.session == id)?, way)
            }
            (KeptSide::Host(_), Loose::Guest(_)) | (KeptSide::Guest(..), Loose::Host(_)) => return None,
        };
        let began = at.past(kept.began);
        let mut session = Self {
            side,
            readers: kept.readers,
            passport: kept.passport,
            tickets: BTreeMap::new(),
            began,
            since: now.wall.saturating_sub(now.steady.saturating_sub(began).as_secs()),
            ended: kept.ended.map(|ended| at.past(ended)),
            is_dismissed: kept.is_dismissed,
            forgets: kept.forgets,
            marks: None,
        };
        let said = match &session.side {
            Side::Host(_) => 0,
            Side::Guest(seat, _) => seat.said().0,
        };
        session.marks = Some(Marks { state: hash(&rows.state), number: session.last(), said });
        Some(session)
    }
}

fn hash(state: &[u8]) -> [u8; 32] {
    secret::hash_of("mytunnel pair kept 1", &[state])
}

#[cfg(test)]
mod tests;
