//! The host's side of a session: who may come in, who is in, and the order of what is said.
//!
//! A [`Room`] is told what happened (`admit`, `on_message`, `disconnected`, `tick` and the verbs of the host's person)
//! and leaves what is to be sent in a queue, which its caller empties with [`Room::poll_message`] behind each call.

mod files;
mod kept;
mod member;
mod people;
mod saying;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;
use mytunnel_keys::{error::Code, secret::Seed};

use crate::{
    card::Card,
    clock::Now,
    content::{
        self, Content, ENVELOPE, Envelope, HOST, MemberId, SEAL, SKIP, Said, Seal, SessionId, Skip, System,
        Why,
    },
    hello::{Hello, SeatId},
    invite::{Invite, State, Verifier},
    ledger::Ledger,
    limits,
    link::InviteId,
    message::{ToGuest, ToHost, Verify, Welcome},
    rate::Rate,
    sas::{self, Commitment, Nonce},
    secret::{self, ResumeSecret},
    signed::{Signed, Vouched},
    text,
};

pub(crate) use kept::{KeptRoom, LooseRoom};
pub(crate) use member::{Delivery, Member, Standing};

/// What a session is opened with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) session: SessionId,
    pub(crate) goal: String,
    pub(crate) name: String,
    pub(crate) agent: String,
    pub(crate) verify: Verify,
    pub(crate) seed: Seed,
    /// It is on disk, and outlives this process.
    pub(crate) keep: bool,
}

/// Fresh random values of one admission.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) seat: SeatId,
    pub(crate) resume: ResumeSecret,
    pub(crate) nonce: Nonce,
}

/// A message for one member's connection.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) member: MemberId,
    pub(crate) message: ToGuest,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) opening: Opening,
    pub(crate) ledger: Ledger,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) invites: BTreeMap<InviteId, Invite>,
    pub(crate) locked: bool,
    pub(crate) closed: Option<Why>,
    closed_at: Duration,
    opened_at: Duration,
    active_at: Duration,
    outgoing: VecDeque<Outgoing>,
    /// What each has said has its place up to here, of which it is to be told.
    taken: BTreeMap<MemberId, u64>,
}

impl Room {
    pub(crate) fn open(opening: Opening, now: Now) -> Self {
        let ledger = Ledger::new(opening.session, opening.seed.public(), HOST);
        let mut room = Self {
            opening,
            ledger,
            members: BTreeMap::new(),
            invites: BTreeMap::new(),
            locked: false,
            closed: None,
            closed_at: Duration::ZERO,
            opened_at: now.steady,
            active_at: now.steady,
            outgoing: VecDeque::new(),
            taken: BTreeMap::new(),
        };
        room.note(System::Opened, now);
        room
    }

    /// Adds an invite, whose link is the caller's to hand out.
    pub(crate) fn invite(
        &mut self,
        id: InviteId,
        verifier: Verifier,
        ttl: Duration,
        now: Now,
    ) -> Result<(), Code> {
        if self.locked {
            return Err(Code::PairLocked);
        }
        if self.invites.len() >= limits::INVITES {
            return Err(Code::PairFull);
        }
        self.invites.insert(id, Invite::new(verifier, ttl, now));
        Ok(())
    }

    /// What who says this hello has to prove; nothing where nobody can.
    pub(crate) fn verifier(&self, hello: Hello) -> Option<Verifier> {
        match hello {
            Hello::Link(invite) => self.invites.get(&invite)?.verifier().cloned(),
            Hello::Code { number, .. } => self.invites.get(&InviteId::of_number(number))?.verifier().cloned(),
            Hello::Resume { seat, attempt } => {
                let member = self.members.values().find(|member| member.seat == seat)?;
                (attempt > member.attempt)
                    .then(|| Verifier::Psk(secret::of_seat(&member.resume, seat, attempt)))
            }
            Hello::Files { seat } => {
                let member = self.members.values().find(|member| member.seat == seat && member.is_in())?;
                Some(Verifier::Psk(member.for_files().1))
            }
        }
    }

    /// Grants a guess at the code with this number.
    pub(crate) fn guess(&mut self, number: u16) -> bool {
        self.invites.get_mut(&InviteId::of_number(number)).is_some_and(Invite::guess)
    }

    /// Numbers of codes that could let somebody in.
    pub(crate) fn open_codes(&self, now: Now) -> impl Iterator<Item = u16> {
        let open = self.invites.values().filter(move |invite| invite.is_open(now) && !self.locked);
        open.filter_map(|invite| match invite.verifier() {
            Some(Verifier::Spoken(code)) => Some(code.number()),
            Some(Verifier::Psk(_)) | None => None,
        })
    }

    /// The one place where a new guest comes in: it has proved this invite's secret.
    pub(crate) fn admit(
        &mut self,
        invite: InviteId,
        card: Card,
        peer: PeerId,
        handshake: [u8; 32],
        fresh: Fresh,
        now: Now,
    ) -> Result<MemberId, Code> {
        let full = self.present().count() + 1 >= limits::MEMBERS;
        let was_here = |standing: fn(&Member) -> bool| {
            self.members.values().any(|member| member.peer == peer && standing(member))
        };
        let is_banned = was_here(|member| member.standing == Standing::Kicked);
        let is_in = was_here(Member::is_in);
        let id = self.members.keys().next_back().map_or(Some(HOST + 1), |last| last.checked_add(1));
        let invite_id = invite;
        let invite = self.invites.get_mut(&invite).ok_or(Code::PairRefused)?;
        // None of these costs the invite.
        if is_banned {
            return Err(Code::PairDenied);
        }
        if is_in && invite.is_open(now) {
            return Err(Code::PairUsed);
        }
        if self.locked && matches!(invite.state(), State::Open | State::Revoked) {
            return Err(Code::PairLocked);
        }
        if full && invite.is_open(now) {
            return Err(Code::PairFull);
        }
        let id = id.ok_or(Code::PairFull)?;
        invite.redeem(self.opening.verify == Verify::Required, now)?;
        let taken = self.members.values().filter(|member| member.is_in()).map(|member| member.name.as_str());
        let name = text::unique(&card.name, taken.chain([self.opening.name.as_str()]));
        let commitment = Commitment::to(fresh.nonce);
        let host = Card::sign(&self.opening.name, &self.opening.agent, &self.opening.seed, &handshake);
        let welcome = Welcome {
            session: self.opening.session,
            member: id,
            name: name.clone(),
            verify: self.opening.verify,
            commitment,
            seat: fresh.seat.0,
            resume: fresh.resume.expose(),
            kept: self.opening.keep,
            host,
        };
        self.members.insert(id, Member::new(peer, card, name, invite_id, handshake, fresh, now));
        self.active_at = now.steady;
        self.send(id, ToGuest::Welcome(Box::new(welcome)));
        if self.opening.verify != Verify::Required {
            self.enter(id, now);
        }
        Ok(id)
    }

    /// A member has proved that it is back.
    pub(crate) fn resume(
        &mut self,
        seat: SeatId,
        attempt: u32,
        peer: PeerId,
        now: Now,
    ) -> Result<MemberId, Code> {
        let (&id, member) =
            self.members.iter_mut().find(|(_, member)| member.seat == seat).ok_or(Code::PairRefused)?;
        if member.standing == Standing::Kicked {
            return Err(Code::PairDenied);
        }
        if !member.is_in() || member.peer != peer || attempt <= member.attempt {
            return Err(Code::PairRefused);
        }
        member.attempt = attempt;
        member.has_parted = false;
        member.connected(now);
        self.active_at = now.steady;
        let taken = self.ledger.last_of(id).0;
        self.send(id, ToGuest::Resumed { taken });
        self.tell_presence(id, true);
        Ok(id)
    }

    /// A member's connection is gone.
    pub(crate) fn disconnected(&mut self, id: MemberId, now: Now) {
        let Some(member) = self.members.get_mut(&id).filter(|member| member.is_online()) else { return };
        member.disconnected(now);
        self.tell_presence(id, false);
    }

    /// What a member's connection brought. An error ends that connection.
    pub(crate) fn on_message(&mut self, id: MemberId, message: ToHost, now: Now) -> Result<(), Code> {
        // Who has left or was put out is heard no more, also where its link has not ended yet.
        let member = self.members.get_mut(&id).filter(|member| member.is_online());
        let member = member.ok_or(Code::PairNoSession)?;
        if !member.heard(now) {
            return Err(Code::PairRate);
        }
        match message {
            // It learns of the end by what is on its way.
            ToHost::Verified | ToHost::Say { .. } if self.closed.is_some() => Ok(()),
            ToHost::Nonce { nonce } => {
                // One try: who could offer another nonce behind the host's could search for words.
                if *member.guest_nonce.get_or_insert(nonce) != nonce {
                    return Err(Code::PairRefused);
                }
                let host = member.nonce;
                member.words = Some(sas::words(&member.handshake, host, nonce));
                self.send(id, ToGuest::Reveal { nonce: host });
                Ok(())
            }
            ToHost::Resume { number } => {
                match number.filter(|_| member.is_entered()) {
                    // Once on a connection: each answer is up to a window of entries.
                    Some(_) if member.flows => return Err(Code::PairRefused),
                    Some(number) => {
                        // What was said before it came in was not said to it.
                        member.flow_from(number.min(self.ledger.number()).max(member.from));
                        self.pump(id);
                    }
                    None if member.is_entered() => self.tell_session(id),
                    None => {}
                }
                Ok(())
            }
            ToHost::Verified => {
                member.verified_there = true;
                self.enter_when_verified(id, now);
                Ok(())
            }
            ToHost::Say { envelope } => self.take(id, envelope, now),
            ToHost::Have { number } => {
                member.has = number.clamp(member.has, member.sent.max(member.has));
                self.pump(id);
                self.part(now);
                Ok(())
            }
            ToHost::Beat => Ok(()),
            ToHost::Bye => {
                self.leave(id, Standing::Left, Why::Left, now);
                Ok(())
            }
        }
    }

    /// Something that the host's own side says.
    pub(crate) fn say(
        &mut self,
        said: Said,
        reply_to: Option<u64>,
        to: Vec<MemberId>,
        now: Now,
    ) -> Result<u64, Code> {
        content::check(&said)?;
        if self.opening.verify == Verify::Required && !self.present().any(|(_, member)| member.is_entered()) {
            return Err(Code::PairUnverified);
        }
        self.active_at = now.steady;
        Ok(self.write(Content::Said(said), reply_to, to, now))
    }

    /// The next message for somebody. That its words have their place is told to each once, behind those of all.
    pub(crate) fn poll_message(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front().or_else(|| {
            let (member, number) = self.taken.pop_first()?;
            Some(Outgoing { member, message: ToGuest::Taken { number } })
        })
    }

    /// What time alone brings: silence, and the end of sessions that are idle or old.
    pub(crate) fn tick(&mut self, now: Now) {
        let silent: Vec<MemberId> =
            self.members.iter().filter(|(_, member)| member.is_silent(now)).map(|(id, _)| *id).collect();
        for id in silent {
            self.disconnected(id, now);
        }
        self.take_what_waits(now);
        self.part(now);
        if self.closed.is_some() {
            return;
        }
        if now.steady.saturating_sub(self.opened_at) >= limits::LIFE {
            self.close(Why::Old, now);
        } else if now.steady.saturating_sub(self.active_at) >= limits::idle(self.opening.keep) {
            self.close(Why::Idle, now);
        }
    }

    /// Says to everybody that the host is there.
    pub(crate) fn beat(&mut self) {
        let online: Vec<MemberId> =
            self.members.iter().filter(|(_, member)| member.is_online()).map(|(id, _)| *id).collect();
        for id in online {
            self.send(id, ToGuest::Beat);
        }
    }

    /// It is closed, and nobody is waited for any more.
    pub(crate) fn is_over(&self) -> bool {
        self.closed.is_some() && self.members.values().all(|member| !member.is_in() || member.has_parted)
    }

    /// How far an entry has come to each of those whom it is for.
    pub(crate) fn deliveries(&self, number: u64) -> impl Iterator<Item = (&Member, Delivery)> {
        let entry = number.checked_sub(1).and_then(|before| self.ledger.after(before).next());
        let entry = entry.filter(|entry| entry.number == number);
        let hearers = self.present().filter(move |(id, member)| {
            member.is_entered() && entry.is_none_or(|entry| entry.is_for(*id) && entry.author != *id)
        });
        hearers.map(move |(_, member)| (member, member.delivery(number)))
    }

    /// Members that have not left.
    pub(crate) fn present(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.members.iter().filter(|(_, member)| member.is_in()).map(|(id, member)| (*id, member))
    }

    pub(crate) fn note(&mut self, event: System, now: Now) {
        self.write(Content::System(event), None, Vec::new(), now);
    }

    fn write(&mut self, content: Content, reply_to: Option<u64>, to: Vec<MemberId>, now: Now) -> u64 {
        let (number, before) = self.ledger.last_of(HOST);
        let session = self.opening.session;
        let number = number + 1;
        let at = now.wall * 1000;
        let envelope = Envelope { session, author: HOST, number, before, at, reply_to, to, content };
        let said = Vouched::sign(ENVELOPE, envelope, &self.opening.seed);
        self.append(said).expect("what the host writes fits its own record")
    }

    fn append(&mut self, said: Vouched<Envelope>) -> Result<u64, Code> {
        let seal = Seal {
            session: self.opening.session,
            number: self.ledger.number() + 1,
            before: self.ledger.head(),
            author: said.value().author,
            by_author: said.value().number,
            to: said.value().to.clone(),
            envelope: said.signed().hash(),
        };
        let number = seal.number;
        let seal = Vouched::sign(SEAL, seal, &self.opening.seed);
        self.ledger.append(seal, Some(said)).map_err(|_| Code::PairFork)?;
        let flowing: Vec<MemberId> =
            self.members.iter().filter(|(_, member)| member.flows).map(|(id, _)| *id).collect();
        for member in flowing {
            self.pump(member);
        }
        Ok(number)
    }

    /// Sends a member what it does not have, as far as it keeps up.
    fn pump(&mut self, id: MemberId) {
        let first = self.ledger.first_kept();
        let is_behind = |member: &&Member| member.flows && member.sent + 1 < first;
        let skip = self.members.get(&id).filter(is_behind).map(|_| self.skip_to(first - 1));
        let Some(member) = self.members.get_mut(&id).filter(|member| member.flows) else { return };
        let mut messages = Vec::new();
        if let Some(skip) = skip {
            member.sent = first - 1;
            member.has = member.sent;
            messages.push(ToGuest::Skip { skip });
        }
        let room = limits::WINDOW.saturating_sub(member.sent - member.has);
        for entry in self.ledger.after(member.sent).take(usize::try_from(room).unwrap_or_default()) {
            member.sent = entry.number;
            let envelope = entry.signed.clone().filter(|_| entry.is_for(id));
            messages.push(ToGuest::Entry { seal: entry.seal.clone(), envelope });
        }
        for message in messages {
            self.send(id, message);
        }
    }

    /// That the record goes on behind this entry, with who was in there.
    fn skip_to(&self, number: u64) -> Signed {
        let head = self.ledger.after(number).next().map_or(self.ledger.head(), |entry| entry.before);
        let was_in = self.members.iter().filter(|(_, member)| member.was_in(number));
        let members = was_in.map(|(id, member)| member.introduced(*id));
        let members = std::iter::once(self.introduced()).chain(members).collect();
        Signed::sign(SKIP, &Skip { session: self.opening.session, number, head, members }, &self.opening.seed)
    }

    fn tell_presence(&mut self, member: MemberId, online: bool) {
        let others: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(id, other)| **id != member && other.flows)
            .map(|(id, _)| *id)
            .collect();
        for other in others {
            self.send(other, ToGuest::Presence { member, online });
        }
    }

    fn send(&mut self, member: MemberId, message: ToGuest) {
        // Nothing comes behind last words.
        if matches!(message, ToGuest::Bye { .. })
            && let Some(number) = self.taken.remove(&member)
        {
            self.outgoing.push_back(Outgoing { member, message: ToGuest::Taken { number } });
        }
        self.outgoing.push_back(Outgoing { member, message });
    }
}

#[cfg(test)]
mod tests;
