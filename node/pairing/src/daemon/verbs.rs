//! What clients ask for, verb by verb.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use mytunnel_carrier::address;
use mytunnel_keys::{error::Code, secret::Seed};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{
    Daemon,
    files::{Order, Wish},
    joining::Wishes,
    random,
    session::{self, Session, Side, member_of},
};
use crate::{
    api::{GrantedTicket, InviteAnswer, RelayGrant, Request, Trouble},
    clock::Now,
    content::{MemberId, Said, SessionId},
    invite::Verifier,
    limits,
    link::{InviteId, InviteSecret, Link, Ticket},
    room::{Opening, Room},
    seat::Words,
    secret,
    spoken::Spoken,
    text,
};

impl Daemon {
    pub(super) fn on_request(&mut self, request: Request, reply: oneshot::Sender<Result<Value, Trouble>>) {
        if let Request::Join { secret, name, agent, addresses, verify, keep, relay } = request {
            match checked_name(&name) {
                Ok(name) => {
                    self.join(&secret, name, agent, Wishes { verify, keep, relay }, &addresses, reply);
                }
                // The client may have gone; so below.
                Err(trouble) => drop(reply.send(Err(trouble))),
            }
            return;
        }
        if let Request::Share { session, path, within, most, text, to } = request {
            return self.share(Wish { session, path, within, most, text, to }, reply);
        }
        let answer = self.answer(request);
        self.reply(answer, reply);
    }

    fn answer(&mut self, request: Request) -> Result<Value, Trouble> {
        let now = self.now();
        match request {
            Request::Open { goal, invites, code, ttl_s, verify, name, agent, keep, relay } => {
                let opening = Opening {
                    session: SessionId(fresh()?),
                    goal: checked_goal(&goal)?,
                    name: checked_name(&name)?,
                    agent,
                    verify,
                    seed: Seed::from_bytes(fresh()?),
                    keep,
                };
                let wanted = Wanted { count: invites, code, ttl: Duration::from_secs(ttl_s) };
                self.open(opening, &wanted, relay, now)
            }
            Request::Invite { session, count, code, ttl_s, relay } => {
                let id = self.chosen(session.as_deref())?;
                let wanted = Wanted { count, code, ttl: Duration::from_secs(ttl_s) };
                let tickets = self.take_grant(id, relay);
                let invites = self.invite(id, &wanted, tickets, now)?;
                // Of a way beside invites that do not lead there is nothing to say.
                let leads = invites.iter().any(|invite| invite.relay);
                let relay = if leads { self.shown_way(id) } else { Value::Null };
                Ok(json!({ "session": id.to_string(), "invites": invites, "relay": relay }))
            }
            Request::Revoke { session, invites } => {
                let (id, room) = self.hosted(session.as_deref())?;
                let revoked = if invites.is_empty() { room.revoke_all() } else { room.revoke(&invites) };
                let tickets = self.tickets_to_withdraw(id);
                Ok(json!({ "session": id.to_string(), "revoked": revoked, "tickets": tickets }))
            }
            Request::Lock { session } => {
                let (id, room) = self.hosted(session.as_deref())?;
                room.lock(now);
                self.flush(id);
                let tickets = self.tickets_to_withdraw(id);
                Ok(json!({ "session": id.to_string(), "locked": true, "tickets": tickets }))
            }
            Request::Words { session, peer } => self.words(session.as_deref(), peer.as_deref()),
            Request::Verify { session, peer, words } => {
                self.verify(session.as_deref(), peer.as_deref(), &words, now)
            }
            Request::Deny { session, peer } => self.put_out(session.as_deref(), &peer, Room::deny, now),
            Request::Kick { session, peer } => self.put_out(session.as_deref(), &peer, Room::kick, now),
            Request::Say { said: Said::Offer { .. }, .. } => Err(Trouble::new(
                Code::BadRequest,
                "a file is offered by sharing it: `mytunnel pair share`, or the tool `pair_share`",
            )),
            Request::Say { session, said, reply_to, to } => {
                self.say(session.as_deref(), said, reply_to, &to, now)
            }
            Request::Withdraw { session, offer } => self.withdraw(session.as_deref(), offer),
            Request::Offers { session } => self.offers(session.as_deref()),
            Request::Receive { session, offer, inbox, most, wait_ms: _, stop } => {
                self.receive(&Order { session, offer, inbox, most, stop })
            }
            Request::Received { session, offer } => self.received(session.as_deref(), offer),
            Request::Listen { session, reader, since, wait_ms: _, own } => {
                self.listen(session.as_deref(), &reader, since, own, now)
            }
            Request::Read { session, reader, number, end } => {
                self.has_read(session.as_deref(), &reader, number, end)
            }
            Request::Status { session, reader } => self.status(session.as_deref(), &reader, now),
            Request::Said { session, number } => {
                let id = self.chosen(session.as_deref())?;
                self.sessions.get(&id).map(|held| held.said_answer(id, number)).ok_or_else(no_session)
            }
            Request::Export { session } => self.export(session.as_deref()),
            Request::Close { session, forget } => self.close(session.as_deref(), forget, now),
            // Answered when the host is reached, and when the file is read.
            Request::Join { .. } | Request::Share { .. } => {
                Err(Trouble::new(Code::Internal, "this is answered elsewhere"))
            }
        }
    }

    fn close(&mut self, session: Option<&str>, forget: bool, now: Now) -> Result<Value, Trouble> {
        let id = match self.set_aside(session) {
            Some((id, _)) if forget => {
                self.keeper.forget(id);
                id
            }
            Some(_) | None => self.chosen(session)?,
        };
        if forget {
            self.forget(id)?;
        }
        if let Some(held) = self.sessions.get_mut(&id) {
            held.close(now);
        }
        self.flush(id);
        let tickets = self.tickets_to_withdraw(id);
        Ok(json!({ "session": id.to_string(), "state": "closed", "tickets": tickets }))
    }

    fn open(
        &mut self,
        opening: Opening,
        wanted: &Wanted,
        relay: Option<RelayGrant>,
        now: Now,
    ) -> Result<Value, Trouble> {
        self.room_for_one()?;
        let id = opening.session;
        let (goal, keep) = (opening.goal.clone(), opening.keep);
        self.sessions.insert(id, Session::new(Side::Host(Room::open(opening, now)), keep, now));
        let tickets = self.take_grant(id, relay);
        match self.invite(id, wanted, tickets, now) {
            Ok(invites) => Ok(json!({
                "session": id.to_string(),
                "goal": goal,
                "state": "waiting_for_guest",
                "kept": keep,
                "invites": invites,
                "addresses": self.own_sockets(),
                "relay": self.shown_way(id),
            })),
            Err(trouble) => {
                self.sessions.remove(&id);
                Err(trouble)
            }
        }
    }

    fn invite(
        &mut self,
        id: SessionId,
        wanted: &Wanted,
        mut tickets: VecDeque<GrantedTicket>,
        now: Now,
    ) -> Result<Vec<InviteAnswer>, Trouble> {
        let ttl = wanted.ttl;
        if !(1..limits::MEMBERS).contains(&wanted.count) {
            let most = limits::MEMBERS - 1;
            return Err(Trouble::new(Code::BadRequest, format!("a session has 1 to {most} invites at once")));
        }
        if !(limits::TTL_MIN..=limits::TTL_MAX).contains(&ttl) {
            return Err(Trouble::new(Code::BadRequest, "an invite lives from 30 seconds to 24 hours"));
        }
        let mut made = Vec::with_capacity(wanted.count);
        for _ in 0..wanted.count {
            let granted = if wanted.code { None } else { tickets.pop_front() };
            let ticket = granted.as_ref().and_then(|granted| Ticket::parse(granted.text.text()));
            let relay = ticket.is_some();
            let (invite, verifier, text) =
                if wanted.code { self.new_code()? } else { self.new_link(ticket, ttl, now)? };
            let (_, room) = self.hosted(Some(&id.to_string()))?;
            room.invite(invite, verifier, ttl, now)
                .map_err(|code| Trouble::new(code, "the session takes no more invites"))?;
            if let (Some(session), Some(granted)) = (self.sessions.get_mut(&id), granted) {
                session.tickets.insert(invite, granted.id);
            }
            made.push(InviteAnswer { id: invite.to_string(), text, expires_in_s: ttl.as_secs(), relay });
        }
        self.show_codes(now);
        Ok(made)
    }

    fn new_link(
        &self,
        ticket: Option<Ticket>,
        ttl: Duration,
        now: Now,
    ) -> Result<(InviteId, Verifier, Zeroizing<String>), Trouble> {
        let host = mytunnel_carrier::public_key(&self.own)
            .ok_or_else(|| Trouble::new(Code::Internal, "this daemon has no key"))?;
        let link = Link {
            invite: InviteId::from_bytes(fresh()?),
            secret: InviteSecret::from_bytes(fresh()?),
            host,
            expires: u32::try_from(now.wall + ttl.as_secs()).unwrap_or(u32::MAX),
            addresses: self.own_addresses(),
            ticket,
        };
        let psk = secret::of_link(&link.secret, link.invite);
        Ok((link.invite, Verifier::Psk(psk), link.to_text()))
    }

    /// With a number that no other session here has, nor had.
    fn new_code(&self) -> Result<(InviteId, Verifier, Zeroizing<String>), Trouble> {
        for _ in 0..limits::INVITES {
            let code = Spoken::new(u16::from_be_bytes(fresh()?), u64::from_be_bytes(fresh()?));
            let invite = InviteId::of_number(code.number());
            let is_taken = self.sessions.values().any(|session| match &session.side {
                Side::Host(room) => room.invites.contains_key(&invite),
                Side::Guest(..) => false,
            });
            if !is_taken {
                let text = code.text().clone();
                return Ok((invite, Verifier::Spoken(code), text));
            }
        }
        Err(Trouble::new(Code::PairFull, "there are too many codes at once"))
    }

    fn words(&mut self, session: Option<&str>, peer: Option<&str>) -> Result<Value, Trouble> {
        let (id, held) = self.live(session)?;
        let (shown, name) = match &held.side {
            Side::Host(room) => {
                let member = compared(room, peer)?;
                let member = room.members.get(&member);
                let words = member.and_then(|member| Some(member.words.as_ref()?.host.clone()));
                (words, member.map(|member| member.name.clone()).unwrap_or_default())
            }
            Side::Guest(seat, _) => match &seat.words {
                Words::Known(words) => (Some(words.guest.clone()), "host".to_owned()),
                Words::Waiting { .. } => (None, "host".to_owned()),
            },
        };
        let shown = shown.ok_or_else(|| Trouble::new(Code::PairUnverified, NO_WORDS))?;
        Ok(json!({ "session": id.to_string(), "peer": name, "words": shown }))
    }

    fn verify(
        &mut self,
        session: Option<&str>,
        peer: Option<&str>,
        words: &str,
        now: Now,
    ) -> Result<Value, Trouble> {
        let (id, held) = self.live(session)?;
        let (verified, name) = match &mut held.side {
            Side::Host(room) => {
                let member = compared(room, peer)?;
                let name = room.members.get(&member).map(|member| member.name.clone()).unwrap_or_default();
                (room.verify(member, words, now), name)
            }
            Side::Guest(seat, _) => (seat.verify(words), "host".to_owned()),
        };
        self.flush(id);
        #[expect(clippy::wildcard_enum_match_arm, reason = "comparing fails for few reasons")]
        verified.map_err(|code| {
            let message = match code {
                Code::PairSasMismatch => "these are not the words that the other machine shows",
                Code::PairDenied => "too many wrong words were typed",
                _ => NO_WORDS,
            };
            Trouble::new(code, message)
        })?;
        Ok(json!({ "session": id.to_string(), "peer": name, "verified": true }))
    }

    fn put_out(
        &mut self,
        session: Option<&str>,
        peer: &str,
        act: impl FnOnce(&mut Room, MemberId, Now) -> Result<(), Code>,
        now: Now,
    ) -> Result<Value, Trouble> {
        let (id, room) = self.hosted(session)?;
        let member = member_of(room, peer)?;
        let ticket = self.ticket_of(id, member).map(str::to_owned);
        let (_, room) = self.hosted(session)?;
        act(room, member, now).map_err(|code| Trouble::new(code, format!("{peer} is not in the session")))?;
        self.flush(id);
        Ok(json!({ "session": id.to_string(), "peer": peer, "state": "removed", "ticket": ticket }))
    }

    pub(super) fn say(
        &mut self,
        session: Option<&str>,
        said: Said,
        reply_to: Option<u64>,
        to: &[String],
        now: Now,
    ) -> Result<Value, Trouble> {
        let (id, held) = self.live(session)?;
        if let Said::Decision { proposal, .. } = &said {
            held.may_decide(*proposal)?;
        }
        let to = to.iter().map(|name| held.member(name)).collect::<Result<BTreeSet<_>, _>>()?;
        let to = to.into_iter().collect();
        let said = match &mut held.side {
            Side::Host(room) => room.say(said, reply_to, to, now),
            Side::Guest(seat, _) => seat.say(said, reply_to, to, now),
        };
        let number = said.map_err(|code| Trouble::new(code, why_not_said(code)))?;
        let answer = held.said_answer(id, number);
        self.flush(id);
        Ok(answer)
    }

    pub(super) fn room_for_one(&mut self) -> Result<(), Trouble> {
        if self.sessions.len() >= limits::SESSIONS {
            // What is over is kept only so that it can be looked at.
            let now = self.now();
            self.let_go(|session| session.is_over() && !session.is_unread(now));
        }
        if self.sessions.len() >= limits::SESSIONS {
            self.let_go(Session::is_over);
        }
        if self.sessions.len() < limits::SESSIONS {
            return Ok(());
        }
        Err(Trouble::new(
            Code::PairFull,
            format!("this user has {} sessions, which is the most", limits::SESSIONS),
        ))
    }

    fn let_go(&mut self, of: impl Fn(&Session) -> bool) {
        let gone = self.sessions.iter().filter(|(_, session)| of(session)).map(|(id, _)| *id);
        for id in gone.collect::<Vec<_>>() {
            self.sessions.remove(&id);
            self.files.forget(id);
        }
    }

    /// The session of that id, or the one that is meant without.
    pub(super) fn chosen(&self, session: Option<&str>) -> Result<SessionId, Trouble> {
        if let Some(wanted) = session {
            let found = self.sessions.keys().find(|id| id.to_string() == wanted);
            let aside = || self.set_aside(session).map_or_else(no_session, |(_, trouble)| trouble);
            return found.copied().ok_or_else(aside);
        }
        let now = self.now();
        session::meant(self.sessions.iter().map(|(id, held)| (*id, held.age(now))))?.ok_or_else(no_session)
    }

    /// As [`Self::chosen`], and not over.
    pub(super) fn live(&mut self, session: Option<&str>) -> Result<(SessionId, &mut Session), Trouble> {
        let id = self.chosen(session)?;
        let held = self.sessions.get_mut(&id).ok_or_else(no_session)?;
        if held.closed().is_some() {
            return Err(Trouble::new(Code::PairClosed, "the session is over"));
        }
        Ok((id, held))
    }

    fn hosted(&mut self, session: Option<&str>) -> Result<(SessionId, &mut Room), Trouble> {
        let id = self.chosen(session)?;
        match self.sessions.get_mut(&id).map(|session| &mut session.side) {
            Some(Side::Host(room)) if room.closed.is_none() => Ok((id, room)),
            Some(Side::Host(_)) => Err(Trouble::new(Code::PairClosed, "the session is over")),
            Some(Side::Guest(..)) => {
                Err(Trouble::new(Code::ScopeDenied, "only the host of a session can do that"))
            }
            None => Err(no_session()),
        }
    }

    /// What a guest with a code may give as `--addr`, where it is not found by itself.
    fn own_sockets(&self) -> Vec<String> {
        let tcp = |address: &Multiaddr| {
            let port = address
                .iter()
                .find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None });
            Some(std::net::SocketAddr::new(address::ip(address)?, port?).to_string())
        };
        self.own_addresses().iter().filter_map(tcp).collect()
    }

    /// Where guests are told to come: addresses of the network before those of this machine alone, one by TCP of each
    /// before the same by QUIC.
    pub(super) fn own_addresses(&self) -> Vec<Multiaddr> {
        let usable = |address: &&Multiaddr| match address::ip(address) {
            Some(std::net::IpAddr::V6(ip)) => !ip.is_unicast_link_local(),
            Some(std::net::IpAddr::V4(ip)) => !ip.is_link_local(),
            None => false,
        };
        let mut addresses: Vec<Multiaddr> = self
            .swarm
            .listeners()
            .filter(|address| usable(address) && !self.passages.is_inner(address))
            .cloned()
            .collect();
        let rank = |address: &Multiaddr| {
            let ip = address::ip(address);
            let tcp = address.iter().any(|part| matches!(part, Protocol::Tcp(_)));
            (ip.is_none_or(|ip| ip.is_loopback()), !tcp, ip.is_none_or(|ip| ip.is_ipv6()))
        };
        addresses.sort_by_key(rank);
        if addresses.first().and_then(address::ip).is_some_and(|ip| !ip.is_loopback()) {
            addresses.retain(|address| address::ip(address).is_some_and(|ip| !ip.is_loopback()));
        }
        addresses.truncate(limits::ADDRESSES);
        addresses
    }
}

/// Which invites somebody wants.
struct Wanted {
    count: usize,
    /// Codes to be spoken, instead of links.
    code: bool,
    ttl: Duration,
}

const NO_WORDS: &str = "there are no words to compare yet";

/// With whom words are compared.
fn compared(room: &Room, peer: Option<&str>) -> Result<MemberId, Trouble> {
    peer.map_or_else(|| only_unverified(room), |peer| member_of(room, peer))
}

fn only_unverified(room: &Room) -> Result<MemberId, Trouble> {
    let mut waiting = room.present().filter(|(_, member)| !member.verified_here);
    match (waiting.next(), waiting.next()) {
        (Some((id, _)), None) => Ok(id),
        (Some(_), Some(_)) => Err(Trouble::new(Code::BadRequest, "several members wait: say which")),
        (None, _) => Err(Trouble::new(Code::PairUnverified, "nobody waits to be verified")),
    }
}

pub(super) fn no_session() -> Trouble {
    Trouble::new(Code::PairNoSession, "there is no such session on this machine")
}

#[expect(clippy::wildcard_enum_match_arm, reason = "saying fails for few reasons")]
fn why_not_said(code: Code) -> &'static str {
    match code {
        Code::PairUnverified => "the words have not been compared on both machines yet",
        Code::PairTooLarge => "a text has 64 KiB at most, any other part 4 KiB, and a list 256 of them",
        Code::PairRate => "too much was said in too short a time; try again in 10 seconds",
        Code::PairClosed => "the session is over",
        _ => "that could not be said",
    }
}

fn checked_name(name: &str) -> Result<String, Trouble> {
    let wrong = "a name has 1 to 32 letters, digits, spaces, '.', '_' and '-', a letter among them";
    text::name(name).ok_or_else(|| Trouble::new(Code::BadRequest, wrong))
}

fn checked_goal(goal: &str) -> Result<String, Trouble> {
    if goal.chars().count() > limits::GOAL {
        return Err(Trouble::new(
            Code::PairTooLarge,
            format!("a goal has {} characters at most", limits::GOAL),
        ));
    }
    Ok(text::line(goal))
}

fn fresh<const N: usize>() -> Result<[u8; N], Trouble> {
    random()
        .map_err(|error| Trouble::new(Code::Internal, format!("the system gives no random numbers: {error}")))
}
