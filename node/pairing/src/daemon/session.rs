//! One session of this user, as host or as guest: what is asked of both alike.

mod kept;

use std::{collections::BTreeMap, time::Duration};

use mytunnel_keys::error::Code;

use self::kept::Marks;
pub(super) use self::kept::Unreadable;
use super::{Way, passages::Passport};
use crate::{
    api::Trouble,
    clock::Now,
    content::{Content, HOST, MemberId, SessionId, Why},
    invite::{Invite, State},
    ledger::{Entry, Ledger},
    limits,
    link::InviteId,
    message::{ToGuest, ToHost},
    readers::Readers,
    room::{Member, Room},
    seat::Seat,
    ways::Pass,
};

#[expect(clippy::large_enum_variant, reason = "there are eight of them at most")]
pub(super) enum Side {
    Host(Room),
    Guest(Seat, Way),
}

pub(super) struct Session {
    pub(super) side: Side,
    pub(super) readers: Readers,
    /// For its way past the network, if it has one.
    pub(super) passport: Option<Passport>,
    /// Ids of the tickets that are in links.
    pub(super) tickets: BTreeMap<InviteId, String>,
    /// When it was opened or joined here.
    pub(super) began: Duration,
    /// The same in seconds of the Unix epoch, to be told.
    pub(super) since: u64,
    /// Since when it is over.
    ended: Option<Duration>,
    /// Its end was this user's own doing.
    is_dismissed: bool,
    /// What is on disk of it, if it is kept.
    marks: Option<Marks>,
    /// Nothing of it stays on disk when it is over.
    pub(super) forgets: bool,
}

impl Session {
    /// `keep` has it on disk, of which nothing is yet.
    pub(super) fn new(side: Side, keep: bool, now: Now) -> Self {
        let (readers, began) = (Readers::default(), now.steady);
        Self {
            side,
            readers,
            passport: None,
            tickets: BTreeMap::new(),
            began,
            since: now.wall,
            ended: None,
            is_dismissed: false,
            marks: keep.then(Marks::default),
            forgets: false,
        }
    }

    /// With what its way is opened.
    pub(super) fn pass(&self) -> Option<&Pass> {
        self.passport.as_ref().filter(|_| !self.is_over()).map(|passport| &passport.pass)
    }

    /// Tickets of links that nobody has used, which are somebody else's to take back. They are told once.
    pub(super) fn tickets_to_withdraw(&mut self) -> Vec<String> {
        let Side::Host(room) = &self.side else { return Vec::new() };
        // Open ones lead somebody in yet, and of those that were used the host wants to know whose they are.
        let is_used = |invite: &InviteId| {
            let state = room.invites.get(invite).map(Invite::state);
            matches!(state, Some(State::Open | State::Reserved | State::Consumed))
        };
        let unused: Vec<InviteId> = self.tickets.keys().filter(|invite| !is_used(invite)).copied().collect();
        unused.iter().filter_map(|invite| self.tickets.remove(invite)).collect()
    }

    pub(super) fn closed(&self) -> Option<Why> {
        match &self.side {
            Side::Host(room) => room.closed,
            Side::Guest(seat, _) => seat.closed,
        }
    }

    /// This user has ended it or is done with it, and nothing of it is to be said or kept any more.
    pub(super) fn is_left(&self) -> bool {
        self.is_dismissed && self.is_over() && !self.is_kept()
    }

    /// This user ends it, or has done with one that is over.
    pub(super) fn close(&mut self, now: Now) {
        self.is_dismissed = true;
        match &mut self.side {
            Side::Host(room) => room.close(Why::Host, now),
            Side::Guest(seat, _) => seat.leave(now),
        }
    }

    /// What a member's link brought, or the host's. An error ends that link.
    pub(super) fn on_messages(&mut self, member: MemberId, batch: &[Vec<u8>], now: Now) -> Result<(), Code> {
        // What is on disk is checked there again, each by itself.
        let is_kept = self.is_kept();
        match &mut self.side {
            Side::Host(room) => batch.iter().try_for_each(|bytes| {
                room.on_message(member, ToHost::parse(bytes).ok_or(Code::PairVersion)?, now)
            }),
            Side::Guest(seat, _) => {
                let messages: Vec<ToGuest> = batch.iter().map_while(|bytes| ToGuest::parse(bytes)).collect();
                let is_whole = messages.len() == batch.len();
                let taken = seat.on_messages(messages, !is_kept, now);
                taken.and(if is_whole { Ok(()) } else { Err(Code::PairVersion) })
            }
        }
    }

    /// Remembers since when it is over.
    pub(super) fn note_end(&mut self, now: Now) {
        if self.closed().is_some() {
            self.ended.get_or_insert(now.steady);
        }
    }

    /// It is over, and nobody waits for its last words any more.
    pub(super) fn is_over(&self) -> bool {
        match &self.side {
            Side::Host(room) => room.is_over(),
            Side::Guest(seat, _) => seat.is_over(),
        }
    }

    /// It is over, and somebody here has not read it to its end yet.
    pub(super) fn is_unread(&self, now: Now) -> bool {
        let Some(ended) = self.ended else { return false };
        let waits = now.steady.saturating_sub(ended) < limits::UNREAD;
        waits && !self.is_dismissed && !self.readers.are_done(self.last())
    }

    pub(super) fn age(&self, now: Now) -> Age {
        Age { began: self.began, ended: self.ended, is_unread: self.is_unread(now) }
    }

    pub(super) fn me(&self) -> MemberId {
        match &self.side {
            Side::Host(_) => HOST,
            Side::Guest(seat, _) => seat.member,
        }
    }

    pub(super) fn after(&self, number: u64) -> Box<dyn Iterator<Item = &Entry> + '_> {
        match &self.side {
            Side::Host(room) => Box::new(room.ledger.after(number)),
            Side::Guest(seat, _) => Box::new(seat.after(number)),
        }
    }

    /// Number of the last entry.
    pub(super) fn last(&self) -> u64 {
        match &self.side {
            Side::Host(room) => room.ledger.number(),
            Side::Guest(seat, _) => seat.ledger.as_ref().map_or(0, Ledger::number),
        }
    }

    /// How many things the others have said to this end behind `number`.
    pub(super) fn unread(&self, number: u64) -> usize {
        let me = self.me();
        let is_theirs = |entry: &&Entry| {
            let said = entry.envelope.as_ref().filter(|_| entry.author != me && entry.is_for(me));
            said.is_some_and(|envelope| matches!(envelope.content, Content::Said(_)))
        };
        self.after(number).filter(is_theirs).count()
    }

    pub(super) const fn missed(&self) -> u64 {
        match &self.side {
            Side::Host(_) => 0,
            Side::Guest(seat, _) => seat.missed,
        }
    }

    /// How many things that were said here nobody has heard, nor will.
    pub(super) fn lost(&self) -> usize {
        match &self.side {
            Side::Host(_) => 0,
            Side::Guest(seat, _) => seat.lost(),
        }
    }

    /// Nobody of the others is there.
    pub(super) fn is_alone(&self) -> bool {
        match &self.side {
            Side::Host(room) => {
                room.present().next().is_some() && !room.present().any(|(_, member)| member.is_online())
            }
            Side::Guest(seat, _) => seat.away_since.is_some(),
        }
    }

    /// The number of the member that is called so.
    pub(super) fn member(&self, name: &str) -> Result<MemberId, Trouble> {
        match &self.side {
            Side::Host(room) => member_of(room, name),
            Side::Guest(seat, _) => {
                let names = seat.members.iter().map(|(id, known)| (*id, known.introduced.name.as_str()));
                called(name, names)
            }
        }
    }
}

pub(super) fn member_of(room: &Room, name: &str) -> Result<MemberId, Trouble> {
    let present = room.present().map(|(id, member): (_, &Member)| (id, member.name.as_str()));
    called(name, std::iter::once((HOST, room.opening.name.as_str())).chain(present))
}

/// Who has this name or this number; a name has a letter, so that it is no number.
fn called<'a>(
    name: &str,
    mut members: impl Iterator<Item = (MemberId, &'a str)>,
) -> Result<MemberId, Trouble> {
    let found = members.find(|(id, known)| known.eq_ignore_ascii_case(name) || id.to_string() == name);
    let nobody = || Trouble::new(Code::NotFound, format!("nobody in the session is called {name:?}"));
    found.map(|(id, _)| id).ok_or_else(nobody)
}

/// What decides whether a session may be meant by who names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Age {
    began: Duration,
    ended: Option<Duration>,
    is_unread: bool,
}

/// Which session is meant where none is named: the only one that is open, unless another ended since that was begun and
/// nobody here knows of it yet, so that nobody speaks to others than he thinks. Where none is open, the last one, which says why.
///
/// # Errors
/// Several may be meant.
pub(super) fn meant(
    sessions: impl Iterator<Item = (SessionId, Age)> + Clone,
) -> Result<Option<SessionId>, Trouble> {
    let mut open = sessions.clone().filter(|(_, age)| age.ended.is_none());
    let Some((id, only)) = open.next() else {
        return Ok(sessions.max_by_key(|(_, age)| age.began).map(|(id, _)| id));
    };
    let ended_since = |(_, age): (_, Age)| age.is_unread && age.ended >= Some(only.began);
    if open.next().is_some() || sessions.clone().any(ended_since) {
        let several = "there are several sessions, or one has ended of which nobody here has read: say which with `--session`";
        return Err(Trouble::new(Code::BadRequest, several));
    }
    Ok(Some(id))
}

#[cfg(test)]
pub(super) mod tests {
    use mytunnel_keys::secret::Seed;

    use super::*;
    use crate::{message::Verify, room::Opening};

    fn id(byte: u8) -> SessionId {
        SessionId([byte; 8])
    }

    fn of(ages: &[(u64, Option<u64>, bool)]) -> Option<Option<SessionId>> {
        let ages = ages.iter().enumerate().map(|(at, (began, ended, is_unread))| {
            let age = Age {
                began: Duration::from_secs(*began),
                ended: ended.map(Duration::from_secs),
                is_unread: *is_unread,
            };
            (id(u8::try_from(at).unwrap()), age)
        });
        meant(ages).ok()
    }

    /// One that was opened a moment ago.
    pub(in crate::daemon) fn room(now: Now) -> Room {
        let opening = Opening {
            session: id(1),
            goal: String::new(),
            name: "ada".to_owned(),
            agent: String::new(),
            verify: Verify::Ask,
            seed: Seed::from_bytes([1; 32]),
            keep: false,
        };
        Room::open(opening, now)
    }

    #[test]
    fn a_session_that_others_ended_waits_to_be_read_to_its_end_and_one_that_was_ended_here_does_not() {
        let at = |seconds| Now { wall: 1_800_000_000, steady: Duration::from_secs(seconds) };
        let session = || Session::new(Side::Host(room(at(1))), false, at(1));
        let end = |session: &mut Session, why| {
            let Side::Host(room) = &mut session.side else { panic!("it is the host's") };
            room.close(why, at(10));
            session.note_end(at(10));
        };
        let mut held = session();
        assert!(!held.is_unread(at(9)));
        end(&mut held, Why::Idle);
        assert!(held.is_unread(at(10)) && held.is_unread(at(9 + limits::UNREAD.as_secs())));
        assert!(!held.is_unread(at(10 + limits::UNREAD.as_secs())));
        held.readers.has_read("agent", held.last(), false).unwrap();
        assert!(held.is_unread(at(11)));
        held.readers.has_read("agent", held.last(), true).unwrap();
        assert!(!held.is_unread(at(11)));
        let mut held = session();
        held.close(at(10));
        held.note_end(at(10));
        assert!(!held.is_unread(at(10)));
    }

    #[test]
    fn without_a_name_the_only_open_session_is_meant_and_never_another_than_a_moment_ago() {
        assert_eq!(of(&[]), Some(None));
        assert_eq!(of(&[(1, None, false)]), Some(Some(id(0))));
        assert_eq!(of(&[(1, None, false), (2, None, false)]), None);
        // The first has ended while the second was there.
        assert_eq!(of(&[(1, Some(3), true), (2, None, false)]), None);
        assert_eq!(of(&[(1, Some(3), false), (2, None, false)]), Some(Some(id(1))));
        // It had ended before the second was begun.
        assert_eq!(of(&[(1, Some(2), true), (3, None, false)]), Some(Some(id(1))));
        // The last, whatever its id is.
        assert_eq!(of(&[(7, Some(9), false), (2, Some(3), true)]), Some(Some(id(0))));
    }
}
