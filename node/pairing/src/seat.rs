//! A guest's side of a session: what it was told, what it has said, and what is still to be sent.
//!
//! As [`Room`](crate::room::Room): told what happened, emptied with [`Seat::poll_message`].

mod files;
mod kept;
mod saying;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;
use mytunnel_keys::{error::Code, id::PublicKey, secret::Seed};
use serde::{Deserialize, Serialize};

pub(crate) use self::kept::{KeptSeat, LooseSeat};
use crate::{
    clock::Now,
    content::{Content, Introduced, MemberId, SessionId, System, Why},
    hello::{Hello, SeatId},
    ledger::{Entry, Ledger},
    limits,
    message::{ToGuest, ToHost, Verify, Welcome},
    rate::Rate,
    sas::{self, Commitment, Nonce},
    secret::{self, Psk, ResumeSecret},
    signed::{Hash, Signed},
    text,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) session: SessionId,
    pub(crate) member: MemberId,
    pub(crate) name: String,
    pub(crate) verify: Verify,
    pub(crate) host: PeerId,
    host_key: PublicKey,
    /// The host keeps the session on its disk, as it says.
    pub(crate) host_keeps: bool,
    pub(crate) goal: String,
    pub(crate) members: BTreeMap<MemberId, Known>,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) words: Words,
    pub(crate) verified_here: bool,
    wrong_words: u8,
    /// The host told of the session too early.
    held: bool,
    pub(crate) missed: u64,
    pub(crate) closed: Option<Why>,
    /// It leaves when what it has said has its place, and then at the latest.
    leaving: Option<Duration>,
    pub(crate) away_since: Option<Duration>,
    seat: SeatId,
    resume: ResumeSecret,
    attempt: u32,
    seed: Seed,
    outbox: Outbox,
    rate: Rate,
    messages: Rate,
    heard_at: Duration,
    joined_at: Duration,
    /// When anybody has last said anything.
    active_at: Duration,
    outgoing: VecDeque<ToHost>,
    /// How much of the record came since that was last said.
    has: Option<u64>,
}

/// Somebody in the session, as the host tells it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) introduced: Introduced,
    pub(crate) online: bool,
}

/// The words to compare.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Words {
    /// The host has committed to its part.
    Waiting { handshake: [u8; 32], commitment: Commitment, nonce: Nonce },
    /// Both parts are known.
    Known(sas::Words),
}

/// What was said here and has no place in the record yet.
#[derive(Debug, Default)]
struct Outbox {
    waiting: VecDeque<(u64, Signed)>,
    /// Number and hash of the last that was said here.
    last: (u64, Hash),
    /// The last that was sent on this connection.
    sent: u64,
}

impl Outbox {
    /// What was said up to here has its place.
    fn forget(&mut self, number: u64) {
        while self.waiting.front().is_some_and(|(first, _)| *first <= number) {
            self.waiting.pop_front();
        }
    }
}

impl Seat {
    /// Behind the handshake of a new member; `nonce` is this end's random part of the words, `verify` what its person
    /// wants: who sits in between could have the host want less.
    ///
    /// # Errors
    /// The host is not who it says.
    pub(crate) fn welcomed(
        welcome: Welcome,
        host: PeerId,
        handshake: [u8; 32],
        seed: Seed,
        nonce: Nonce,
        verify: Verify,
        now: Now,
    ) -> Result<Self, Code> {
        let card = welcome.host.checked(&handshake).ok_or(Code::PairRefused)?;
        let name = text::name(&welcome.name).ok_or(Code::PairRefused)?;
        Ok(Self {
            session: welcome.session,
            member: welcome.member,
            name,
            verify: welcome.verify.stricter(verify),
            held: false,
            host,
            host_key: card.key,
            host_keeps: welcome.kept,
            goal: String::new(),
            members: BTreeMap::new(),
            ledger: None,
            words: Words::Waiting { handshake, commitment: welcome.commitment, nonce },
            verified_here: false,
            wrong_words: 0,
            missed: 0,
            closed: None,
            leaving: None,
            away_since: None,
            seat: SeatId(welcome.seat),
            resume: ResumeSecret::from_bytes(welcome.resume),
            attempt: 0,
            seed,
            outbox: Outbox::default(),
            rate: Rate::default(),
            messages: Rate::default(),
            heard_at: now.steady,
            joined_at: now.steady,
            active_at: now.steady,
            outgoing: VecDeque::from([ToHost::Nonce { nonce }]),
            has: None,
        })
    }

    /// How it comes back: another proof for each attempt.
    pub(crate) fn next_attempt(&mut self) -> (Hello, Psk) {
        self.attempt += 1;
        let hello = Hello::Resume { seat: self.seat, attempt: self.attempt };
        (hello, secret::of_seat(&self.resume, self.seat, self.attempt))
    }

    /// The key that signs what is said here.
    pub(crate) const fn seed(&self) -> &Seed {
        &self.seed
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self, now: Now) {
        self.away_since.get_or_insert(now.steady);
        self.outgoing.clear();
        self.has = None;
    }

    pub(crate) fn is_silent(&self, now: Now) -> bool {
        self.away_since.is_none() && now.steady.saturating_sub(self.heard_at) >= limits::SILENCE
    }

    /// What time alone brings: an end where it is away for as long as a session may be idle (the host has closed it by
    /// now, or is no more), and the end of waiting for the last words to have their place.
    pub(crate) fn tick(&mut self, now: Now) {
        let idle = limits::idle(self.host_keeps);
        if self.away_since.is_some_and(|since| now.steady.saturating_sub(since) >= idle) {
            self.close(Why::Idle);
        }
        // The host ends it long before, if it keeps to that.
        if now.steady.saturating_sub(self.joined_at) >= limits::LIFE {
            self.close(Why::Old);
        } else if now.steady.saturating_sub(self.active_at) >= 2 * idle {
            self.close(Why::Idle);
        }
        if self.leaving.is_some_and(|until| now.steady >= until) {
            self.part();
        }
    }

    /// It is closed, and nothing is to be sent any more.
    pub(crate) const fn is_over(&self) -> bool {
        self.closed.is_some() && self.leaving.is_none()
    }

    /// What comes together: `proved` has the host's seals in it proved by the last of them. What stands behind its end is not
    /// heard.
    pub(crate) fn on_messages(&mut self, messages: Vec<ToGuest>, proved: bool, now: Now) -> Result<(), Code> {
        if let Some(ledger) = self.ledger.as_mut().filter(|_| proved) {
            ledger.foresee(messages.iter().filter_map(ToGuest::seal));
        }
        let mut messages = messages.into_iter();
        let taken = messages
            .try_for_each(|message| if self.is_over() { Ok(()) } else { self.on_message(message, now) });
        let settled = self.ledger.as_mut().map_or(Ok(()), Ledger::settle);
        let taken = settled.map_err(|_| Code::PairFork).and(taken);
        if taken == Err(Code::PairFork) {
            self.closed = Some(Why::Fork);
            self.leaving = None;
        }
        taken
    }

    /// What the connection brought. An error ends the connection; one of the record ends the session.
    pub(crate) fn on_message(&mut self, message: ToGuest, now: Now) -> Result<(), Code> {
        self.heard_at = now.steady;
        if !self.messages.allows(limits::MESSAGES, limits::RATE_SPAN, now.steady) {
            return Err(Code::PairRate);
        }
        match message {
            // Not before this side's person has agreed, whatever the host says.
            ToGuest::Admitted { .. } | ToGuest::Entry { .. } | ToGuest::Skip { .. } if self.waits() => {
                self.held = true;
                Ok(())
            }
            ToGuest::Reveal { nonce: host } => self.revealed(host),
            ToGuest::Admitted { goal, members, number, head } => self.admitted(goal, members, number, head),
            ToGuest::Resumed { taken } => {
                self.back(taken);
                Ok(())
            }
            ToGuest::Entry { seal, envelope } => {
                self.active_at = now.steady;
                self.entry(seal, envelope)
            }
            ToGuest::Skip { skip } => self.skipped(&skip),
            ToGuest::Taken { number } => {
                self.taken(number);
                Ok(())
            }
            ToGuest::Presence { member, online } => {
                if let Some(known) = self.members.get_mut(&member) {
                    known.online = online;
                }
                Ok(())
            }
            ToGuest::Beat => Ok(()),
            ToGuest::Bye { why } => {
                self.close(why);
                Ok(())
            }
            // Each is the first of a connection, and nothing else.
            ToGuest::Welcome(_) | ToGuest::No { .. } => Err(Code::PairRefused),
        }
    }

    /// The words that the host's person has read out.
    pub(crate) fn verify(&mut self, typed: &str) -> Result<(), Code> {
        let Words::Known(words) = &self.words else { return Err(Code::PairUnverified) };
        sas::check(typed, &words.host, &mut self.wrong_words)?;
        self.verified_here = true;
        self.outgoing.push_back(ToHost::Verified);
        if std::mem::take(&mut self.held) {
            self.outgoing.push_back(ToHost::Resume { number: None });
        }
        Ok(())
    }

    /// Leaves for good, when what was said here has its place; not later than within a bound.
    pub(crate) fn leave(&mut self, now: Now) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(Why::Left);
        let wait = if self.away_since.is_some() { limits::LAST_CALL } else { limits::LAST_WORDS };
        self.leaving = Some(now.steady + wait);
        self.leave_when_told();
    }

    pub(crate) fn close(&mut self, why: Why) {
        self.closed.get_or_insert(why);
        self.leaving = None;
    }

    fn leave_when_told(&mut self) {
        if self.leaving.is_some() && self.outbox.waiting.is_empty() {
            self.part();
        }
    }

    fn part(&mut self) {
        self.leaving = None;
        if self.away_since.is_none() {
            self.outgoing.push_back(ToHost::Bye);
        }
    }

    pub(crate) fn beat(&mut self) {
        self.outgoing.push_back(ToHost::Beat);
    }

    /// The next message for the host. What it has is said once of all that came together, and before any last words.
    pub(crate) fn poll_message(&mut self) -> Option<ToHost> {
        let has = self.has.take().map(|number| ToHost::Have { number });
        has.or_else(|| self.outgoing.pop_front())
    }

    /// The entries behind `number`.
    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = &Entry> {
        self.ledger.iter().flat_map(move |ledger| ledger.after(number))
    }

    fn waits(&self) -> bool {
        self.verify == Verify::Required && !self.verified_here
    }

    fn revealed(&mut self, host: Nonce) -> Result<(), Code> {
        let Words::Waiting { handshake, commitment, nonce } = &self.words else {
            return Err(Code::PairRefused);
        };
        let words = sas::checked(handshake, *commitment, host, *nonce).ok_or(Code::PairSasMismatch)?;
        self.words = Words::Known(words);
        Ok(())
    }

    fn admitted(
        &mut self,
        goal: String,
        members: Vec<Introduced>,
        number: u64,
        head: Hash,
    ) -> Result<(), Code> {
        if self.ledger.is_some() {
            return Err(Code::PairRefused);
        }
        let mut ledger = Ledger::behind(self.session, self.host_key, self.member, number, head)
            .map_err(|_| Code::PairFork)?;
        for member in members {
            ledger.introduce(member.id, member.key).map_err(|_| Code::PairFork)?;
            self.meet(member)?;
        }
        self.goal = text::line(&goal).chars().take(limits::GOAL).collect();
        self.ledger = Some(ledger);
        Ok(())
    }

    /// Somebody new. Nobody who is known gets another name or key, and no name is two members'.
    fn meet(&mut self, member: Introduced) -> Result<(), Code> {
        let introduced = member.checked().ok_or(Code::PairFork)?;
        let id = introduced.id;
        let is_self = id == self.member;
        let is_called = |name: &str| introduced.name.eq_ignore_ascii_case(name);
        let known = self.members.values().map(|known| &known.introduced);
        let is_taken = self.members.contains_key(&id) || known.map(|known| &*known.name).any(is_called);
        let is_own = introduced.key == self.seed.public() && introduced.name == self.name;
        let fits = if is_self { is_own } else { !is_called(&self.name) };
        if is_taken || !fits || self.members.len() >= limits::MEMBERS {
            return Err(Code::PairFork);
        }
        self.members.insert(id, Known { introduced, online: true });
        Ok(())
    }

    /// What was said in between was not kept: the record goes on, with whoever was in there.
    fn skipped(&mut self, skip: &Signed) -> Result<(), Code> {
        let ledger = self.ledger.as_mut().ok_or(Code::PairRefused)?;
        let before = ledger.number();
        let known: Vec<MemberId> = (0..=MemberId::MAX).filter(|id| ledger.knows(*id)).collect();
        let skip = ledger.skip(skip).map_err(|_| Code::PairFork)?;
        self.missed = self.missed.saturating_add(skip.number - before);
        let old = std::mem::take(&mut self.members);
        for member in skip.members {
            let id = member.id;
            let is_same = match old.get(&id) {
                Some(old) => old.introduced.name == member.name,
                None => !known.contains(&id),
            };
            if !is_same {
                return Err(Code::PairFork);
            }
            self.meet(member)?;
            if let (Some(old), Some(new)) = (old.get(&id), self.members.get_mut(&id)) {
                new.online = old.online;
            }
        }
        Ok(())
    }

    fn entry(&mut self, seal: Signed, envelope: Option<Signed>) -> Result<(), Code> {
        let ledger = self.ledger.as_mut().ok_or(Code::PairRefused)?;
        let new = ledger.accept(seal, envelope).map_err(|_| Code::PairFork)?;
        let number = ledger.number();
        let event =
            ledger.after(number - 1).next().and_then(|entry| match &entry.envelope.as_ref()?.content {
                Content::System(event) => Some(event.clone()),
                Content::Said(_) => None,
            });
        self.has = Some(number);
        match event.filter(|_| new) {
            Some(System::Joined { member }) => self.meet(member),
            Some(System::Left { member } | System::Kicked { member }) => {
                self.members.remove(&member);
                Ok(())
            }
            Some(System::Verified { member }) => {
                if let Some(known) = self.members.get_mut(&member) {
                    known.introduced.verified = true;
                }
                Ok(())
            }
            Some(System::Closed { why }) => {
                self.close(why);
                Ok(())
            }
            Some(System::Opened | System::Locked) | None => Ok(()),
        }
    }

    /// On a new connection of the same seat: what is missing is asked for, what had no place is said again.
    fn back(&mut self, taken: u64) {
        self.outbox.forget(taken);
        self.outbox.sent = taken;
        let number = self.ledger.as_ref().map(Ledger::number);
        if let Words::Waiting { nonce, .. } = &self.words {
            self.outgoing.push_back(ToHost::Nonce { nonce: *nonce });
        }
        if self.verified_here {
            self.outgoing.push_back(ToHost::Verified);
        }
        self.outgoing.push_back(ToHost::Resume { number });
        self.away_since = None;
        self.pump();
        self.leave_when_told();
    }
}
