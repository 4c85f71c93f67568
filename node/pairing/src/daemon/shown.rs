//! What clients are shown of a session, as JSON. Everything that a peer wrote is marked as not to be trusted.

mod approvals;

use std::net::SocketAddr;

use mytunnel_carrier::address;
use mytunnel_keys::error::Code;
use serde_json::{Map, Value, json};

use super::{
    Daemon,
    session::{Session, Side},
    verbs::no_session,
};
use crate::{
    api::{Place, Trouble},
    clock::Now,
    content::{Content, Envelope, HOST, MemberId, Said, SessionId, System, Why},
    ledger::Entry,
    limits,
    message::Verify,
    room::{Delivery, Room, Standing},
    seat::{Seat, Words},
    text,
};

impl Daemon {
    /// The messages behind `since`, or behind what `reader` has read. The client waits and asks again where there are none.
    /// The place of `reader` moves when it says so, and not before: the answer may be lost.
    pub(super) fn listen(
        &mut self,
        session: Option<&str>,
        reader: &str,
        since: Option<u64>,
        own: bool,
        now: Now,
    ) -> Result<Value, Trouble> {
        let id = self.chosen(session)?;
        let Some(held) = self.sessions.get_mut(&id) else { return Err(no_session()) };
        let begin = match since {
            Some(number) => number,
            None => held.readers.place(reader).map_err(no_reader)?,
        };
        let me = held.me();
        let mut batch = Batch::default();
        for entry in held.after(begin) {
            if !batch.take(held, entry, me, own, now) {
                break;
            }
        }
        let closed = held.closed();
        let reason = match (batch.messages.is_empty(), closed) {
            (false, _) => "message",
            (true, Some(_)) => "closed",
            (true, None) if held.is_alone() => "peer_offline",
            (true, None) => "timeout",
        };
        let next = batch.last.unwrap_or(begin);
        Ok(json!({
            "session": id.to_string(),
            "messages": batch.messages,
            "events": batch.events,
            "next": next,
            "more": batch.more,
            "reason": reason,
            "closed": closed.map(why),
            "missed": held.missed(),
            "lost": held.lost(),
            "peers": held.peers(now),
        }))
    }

    pub(super) fn has_read(
        &mut self,
        session: Option<&str>,
        reader: &str,
        number: u64,
        end: bool,
    ) -> Result<Value, Trouble> {
        let id = self.chosen(session)?;
        let held = self.sessions.get_mut(&id).ok_or_else(no_session)?;
        let (number, end) = (number.min(held.last()), end && held.closed().is_some());
        held.readers.has_read(reader, number, end).map_err(no_reader)?;
        Ok(json!({ "session": id.to_string(), "cursor": number }))
    }

    /// The sessions, the oldest first. Who is told of one that is over, and has read it, has done with it.
    pub(super) fn status(&mut self, session: Option<&str>, reader: &str, now: Now) -> Result<Value, Trouble> {
        let mut chosen: Vec<SessionId> = match session {
            Some(_) => vec![self.chosen(session)?],
            None => self.sessions.keys().copied().collect(),
        };
        chosen.sort_by_key(|id| self.sessions.get(id).map(|held| held.began));
        let mut shown = Vec::new();
        for id in chosen {
            let Some(held) = self.sessions.get_mut(&id) else { continue };
            let mut status = held.status(id, reader, now);
            self.show_ways(id, &mut status);
            if let Some(held) = self.sessions.get(&id) {
                status["offers"] = self.newest_offers(id, held, limits::OFFERS_IN_STATUS).into();
            }
            shown.push(status);
            let Some(held) = self.sessions.get_mut(&id) else { continue };
            let place = held.readers.known(reader).unwrap_or_default();
            if held.closed().is_some() && held.unread(place) == 0 && !reader.is_empty() {
                held.readers.has_read(reader, held.last(), true).map_err(no_reader)?;
            }
        }
        let records = self.keeper.over().iter().map(ToString::to_string);
        let unreadable = self.keeper.unreadable().iter();
        let unreadable =
            unreadable.map(|(id, why)| json!({ "session": id.to_string(), "why": why.to_string() }));
        Ok(json!({
            "sessions": shown,
            "listens": self.listens(),
            "records": records.collect::<Vec<_>>(),
            "unreadable": unreadable.collect::<Vec<_>>(),
        }))
    }

    /// Where peers come, for who looks for what keeps them away.
    fn listens(&self) -> Vec<Place> {
        let here = self.swarm.listeners().filter(|address| !self.passages.is_inner(address));
        let here: Vec<_> = here.filter_map(address::socket).collect();
        let port = |at: &SocketAddr, by: address::Transport| {
            let is_there = |(socket, transport): &&(SocketAddr, address::Transport)| {
                let is_ip =
                    at.ip() == socket.ip() || at.ip().is_unspecified() && at.is_ipv4() == socket.is_ipv4();
                *transport == by && is_ip && (at.port() == 0 || at.port() == socket.port())
            };
            here.iter().find(is_there).map(|(socket, _)| socket.port())
        };
        let place = |at: &SocketAddr| {
            let (tcp, udp) = (port(at, address::Transport::Tcp), port(at, address::Transport::Udp));
            Place { at: *at, tcp, udp }
        };
        self.places.iter().map(place).collect()
    }

    pub(super) fn joined_answer(&self, id: SessionId) -> Result<Value, Trouble> {
        let held = self.sessions.get(&id).ok_or_else(no_session)?;
        let mut joined = held.status(id, "", self.now());
        self.show_ways(id, &mut joined);
        Ok(joined)
    }

    /// The record as it can be checked by anybody.
    pub(super) fn export(&self, session: Option<&str>) -> Result<Value, Trouble> {
        let id = self.chosen(session)?;
        let held = self.sessions.get(&id).ok_or_else(no_session)?;
        let record = match &held.side {
            Side::Host(room) => Some(room.ledger.export(&room.opening.seed)),
            Side::Guest(seat, _) => seat.ledger.as_ref().map(|ledger| ledger.export(seat.seed())),
        };
        let record = record
            .ok_or_else(|| Trouble::new(Code::PairUnverified, "nothing of the session is known here yet"))?;
        serde_json::to_value(record)
            .map_err(|error| Trouble::new(Code::Internal, format!("the record cannot be written: {error}")))
    }
}

/// What one answer holds.
#[derive(Default)]
struct Batch {
    messages: Vec<Value>,
    events: Vec<Value>,
    bytes: usize,
    last: Option<u64>,
    more: bool,
}

impl Batch {
    /// Adds an entry; `false` where there is no room for it.
    fn take(&mut self, held: &Session, entry: &Entry, me: MemberId, own: bool, now: Now) -> bool {
        let Some(envelope) = entry.envelope.as_ref().filter(|_| entry.is_for(me)) else {
            self.last = Some(entry.number);
            return true;
        };
        match &envelope.content {
            Content::System(event) => self.events.push(shown_event(entry.number, event)),
            Content::Said(_) if entry.author == me && !own => {}
            Content::Said(said) => {
                let message = shown_message(held, entry, envelope, said, now);
                // As it is written, not as it was said: escapes may make that far more.
                let size = message.to_string().len();
                let full = self.messages.len() >= limits::BATCH || self.bytes + size > limits::BATCH_BYTES;
                if full && !self.messages.is_empty() {
                    self.more = true;
                    return false;
                }
                self.bytes += size;
                self.messages.push(message);
            }
        }
        self.last = Some(entry.number);
        true
    }
}

fn shown_message(held: &Session, entry: &Entry, envelope: &Envelope, said: &Said, now: Now) -> Value {
    let age = now.wall.saturating_mul(1000).saturating_sub(envelope.at);
    let mut message = shown_said(said);
    message.insert("seq".to_owned(), entry.number.into());
    message.insert("from".to_owned(), held.shown_member(entry.author));
    message.insert("untrusted".to_owned(), (entry.author != held.me()).into());
    message.insert("reply_to".to_owned(), envelope.reply_to.into());
    message.insert("private".to_owned(), (!envelope.to.is_empty()).into());
    message.insert("age_ms".to_owned(), age.into());
    // A clock that is ahead says nothing of the future.
    let latest = now.wall.saturating_mul(1000).saturating_add(999);
    message.insert("at".to_owned(), envelope.at.min(latest).into());
    Value::Object(message)
}

/// Kind, text without what acts on a terminal, and the rest as `data`.
fn shown_said(said: &Said) -> Map<String, Value> {
    let mut stripped = 0;
    let mut fields = match serde_json::to_value(said) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    };
    fields.values_mut().for_each(|value| neutralise(value, &mut stripped));
    if let Said::Offer { file, .. } = said {
        fields["file"]["name"] = crate::files::safe(&file.name).into();
    }
    let mut message = Map::new();
    for name in ["kind", "text"] {
        message.insert(name.to_owned(), fields.remove(name).unwrap_or_default());
    }
    if !fields.is_empty() {
        message.insert("data".to_owned(), Value::Object(fields));
    }
    message.insert("stripped".to_owned(), stripped.into());
    message
}

fn neutralise(value: &mut Value, stripped: &mut usize) {
    match value {
        Value::String(letters) => {
            let (neutral, gone) = text::neutral(letters);
            *letters = neutral;
            *stripped += gone;
        }
        Value::Array(values) => values.iter_mut().for_each(|value| neutralise(value, stripped)),
        Value::Object(fields) => fields.values_mut().for_each(|value| neutralise(value, stripped)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn shown_event(number: u64, event: &System) -> Value {
    let (name, member) = match event {
        System::Opened => ("opened", None),
        System::Joined { member } => ("joined", Some(member.id)),
        System::Left { member } => ("left", Some(*member)),
        System::Kicked { member } => ("kicked", Some(*member)),
        System::Verified { member } => ("verified", Some(*member)),
        System::Locked => ("locked", None),
        System::Closed { why: reason } => {
            return json!({ "seq": number, "event": "closed", "why": why(*reason) });
        }
    };
    json!({ "seq": number, "event": name, "member": member })
}

fn why(why: Why) -> &'static str {
    match why {
        Why::Host => "closed by the host",
        Why::Left => "left",
        Why::Kicked => "removed by the host",
        Why::Denied => "denied by the host's person",
        Why::Idle => "idle for 30 minutes",
        Why::Old => "a day old",
        Why::Stopped => "the host's program was stopped",
        Why::Fork => "the record is broken",
    }
}

impl Session {
    pub(super) fn shown_member(&self, id: MemberId) -> Value {
        let (name, verified) = match &self.side {
            Side::Host(room) if id == HOST => (Some(room.opening.name.clone()), true),
            Side::Host(room) => {
                let member = room.members.get(&id);
                (member.map(|member| member.name.clone()), member.is_some_and(|member| member.verified_here))
            }
            Side::Guest(seat, _) => {
                let known = seat.members.get(&id).map(|known| &known.introduced);
                let verified =
                    if id == HOST { seat.verified_here } else { known.is_some_and(|one| one.verified) };
                (known.map(|known| known.name.clone()), verified)
            }
        };
        json!({ "id": id, "name": name, "verified": verified })
    }

    /// Everybody but this end.
    fn peers(&self, now: Now) -> Vec<Value> {
        match &self.side {
            Side::Host(room) => room.present().map(|(id, member)| guest(id, member, now)).collect(),
            Side::Guest(seat, _) => seat
                .members
                .iter()
                .filter(|(id, _)| **id != seat.member)
                .map(|(id, known)| {
                    let mut shown = self.shown_member(*id);
                    let away = seat.away_since.is_some();
                    shown["agent"] = known.introduced.agent.clone().into();
                    shown["online"] = (known.online && !away).into();
                    shown["untrusted"] = true.into();
                    shown
                })
                .collect(),
        }
    }

    fn status(&self, id: SessionId, reader: &str, now: Now) -> Value {
        let cursor = self.readers.known(reader).unwrap_or_default();
        let mut shown = self.status_of_side(id, now);
        shown["opened_at"] = self.since.saturating_mul(1000).into();
        shown["cursor"] = cursor.into();
        shown["unread"] = self.unread(cursor).into();
        shown["last"] = self.last().into();
        shown["lost"] = self.lost().into();
        shown["kept"] = self.is_kept().into();
        shown["host_keeps"] = self.host_keeps().into();
        shown["approvals"] = self.approvals().into();
        shown
    }

    fn status_of_side(&self, id: SessionId, now: Now) -> Value {
        match &self.side {
            Side::Host(room) => json!({
                "session": id.to_string(),
                "role": "host",
                "goal": room.opening.goal,
                "self": { "id": HOST, "name": room.opening.name },
                "state": host_state(room),
                "closed": room.closed.map(why),
                "verify": room.opening.verify,
                "locked": room.locked || !room.invites.values().any(|invite| invite.is_open(now)),
                "members": self.peers(now),
                "invites": invites(room, now),
            }),
            Side::Guest(seat, _) => json!({
                "session": id.to_string(),
                "role": "guest",
                "goal": seat.goal,
                "goal_untrusted": true,
                "self": { "id": seat.member, "name": seat.name },
                "state": guest_state(seat),
                "closed": seat.closed.map(why),
                "verify": seat.verify,
                "verification": verification(seat),
                "can_verify": can_verify(seat),
                "members": self.peers(now),
            }),
        }
    }

    /// What is known of something just said.
    pub(super) fn said_answer(&self, id: SessionId, number: u64) -> Value {
        match &self.side {
            Side::Host(room) => {
                let names = |way: Delivery| -> Vec<&str> {
                    let on_it = room.deliveries(number).filter(|(_, delivery)| *delivery == way);
                    on_it.map(|(member, _)| member.name.as_str()).collect()
                };
                json!({
                    "session": id.to_string(),
                    "number": number,
                    "seq": number,
                    "delivered": names(Delivery::There),
                    "sent": names(Delivery::Sent),
                    "queued": names(Delivery::Queued),
                })
            }
            Side::Guest(seat, _) => {
                let own = seat.after(0).find(|entry| {
                    let said = entry.envelope.as_ref().filter(|envelope| envelope.author == seat.member);
                    said.is_some_and(|envelope| envelope.number == number)
                });
                let host = seat.members.get(&HOST).map(|known| known.introduced.name.as_str());
                let delivery = match (own.is_some() || seat.is_taken(number), seat.away_since) {
                    (true, _) => Delivery::There,
                    (false, None) => Delivery::Sent,
                    (false, Some(_)) => Delivery::Queued,
                };
                let hosts = |way: Delivery| host.iter().filter(|_| delivery == way).collect::<Vec<_>>();
                json!({
                    "session": id.to_string(),
                    "number": number,
                    "seq": own.map(|entry| entry.number),
                    "delivered": hosts(Delivery::There),
                    "sent": hosts(Delivery::Sent),
                    "queued": hosts(Delivery::Queued),
                })
            }
        }
    }
}

fn no_reader(code: Code) -> Trouble {
    let most = limits::READERS;
    Trouble::new(code, format!("a reader's name has 1 to 32 bytes, and a session has {most} readers at most"))
}

fn guest(id: MemberId, member: &crate::room::Member, now: Now) -> Value {
    let offline = match member.standing {
        Standing::Away(since) => Some(now.steady.saturating_sub(since).as_secs()),
        Standing::Online | Standing::Left | Standing::Kicked => None,
    };
    json!({
        "id": id,
        "name": member.name,
        "agent": member.card.agent,
        "untrusted": true,
        "online": member.is_online(),
        "offline_s": offline,
        "verified": member.verified_here,
        "admitted": member.is_entered(),
        "can_verify": member.words.is_some() && !member.verified_here,
        "has": member.has,
    })
}

fn host_state(room: &Room) -> &'static str {
    if room.closed.is_some() {
        "closed"
    } else if room.present().any(|(_, member)| member.is_entered()) {
        "connected"
    } else if room.present().next().is_some() {
        "unverified"
    } else {
        "waiting_for_guest"
    }
}

fn guest_state(seat: &Seat) -> &'static str {
    if seat.closed.is_some() {
        "closed"
    } else if seat.away_since.is_some() {
        "reconnecting"
    } else if seat.ledger.is_none() && seat.verify == Verify::Required {
        "unverified"
    } else {
        "connected"
    }
}

fn verification(seat: &Seat) -> &'static str {
    match seat.verify {
        _ if seat.verified_here => "ok",
        Verify::Off => "not_compared",
        Verify::Required | Verify::Ask => "pending",
    }
}

const fn can_verify(seat: &Seat) -> bool {
    matches!(seat.words, Words::Known(_)) && !seat.verified_here
}

fn invites(room: &Room, now: Now) -> Vec<Value> {
    let state = |invite: &crate::invite::Invite| {
        use crate::invite::State;
        match invite.state() {
            State::Open if invite.is_open(now) => "open",
            State::Open => "expired",
            State::Reserved => "reserved",
            State::Consumed => "consumed",
            State::Revoked => "revoked",
            State::Burned => "burned",
        }
    };
    room.invites
        .iter()
        .map(|(id, invite)| {
            json!({ "id": id.to_string(), "state": state(invite), "expires_in_s": invite.left(now).as_secs() })
        })
        .collect()
}

#[cfg(test)]
mod tests;
