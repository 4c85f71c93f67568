//! One guest of a session, as its host sees it.

use std::{collections::VecDeque, time::Duration};

use libp2p::PeerId;
use mytunnel_keys::error::Code;

use super::{Fresh, Rate, SeatId};
use crate::{
    card::Card,
    clock::Now,
    content::Introduced,
    content::MemberId,
    limits,
    link::InviteId,
    sas::{Nonce, Words},
    secret::ResumeSecret,
    signed::Signed,
};

/// Whether somebody is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its connection stands.
    Online,
    /// It has no connection since then.
    Away(Duration),
    /// It left for good.
    Left,
    /// The host's person put it out.
    Kicked,
}

/// How far something said has come to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It has said so.
    There,
    /// It is connected, and has not said so yet.
    Sent,
    /// It is away, and gets it when it is back.
    Queued,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) peer: PeerId,
    pub(crate) card: Card,
    pub(crate) name: String,
    pub(crate) invite: InviteId,
    pub(crate) seat: SeatId,
    pub(super) resume: ResumeSecret,
    pub(super) attempt: u32,
    pub(super) handshake: [u8; 32],
    /// The host's part of the words.
    pub(super) nonce: Nonce,
    /// The guest's, once it has told it.
    pub(super) guest_nonce: Option<Nonce>,
    /// The words, once both parts are known.
    pub(crate) words: Option<Words>,
    /// How often others were typed.
    pub(super) wrong_words: u8,
    pub(crate) verified_here: bool,
    pub(crate) verified_there: bool,
    pub(crate) standing: Standing,
    /// It knows the session.
    pub(super) entered: bool,
    /// The entry behind which it came in.
    pub(super) from: u64,
    /// It is sent what is said.
    pub(super) flows: bool,
    /// The last entry that it was sent.
    pub(super) sent: u64,
    /// The last entry that it has said to have.
    pub(crate) has: u64,
    /// The entries by which it came and went.
    pub(super) joined: Option<u64>,
    pub(super) left: Option<u64>,
    /// The session is closed, and this member was told all that it will be.
    pub(super) has_parted: bool,
    /// What it has said beyond its rate, in order.
    held: VecDeque<Signed>,
    held_bytes: usize,
    /// What it has said in the span that runs: how many things, and how many bytes.
    said: [Rate; 2],
    messages: Rate,
    connected_at: Duration,
    heard_at: Duration,
}

impl Member {
    pub(super) fn new(
        peer: PeerId,
        card: Card,
        name: String,
        invite: InviteId,
        handshake: [u8; 32],
        fresh: Fresh,
        now: Now,
    ) -> Self {
        Self {
            peer,
            card,
            name,
            invite,
            seat: fresh.seat,
            resume: fresh.resume,
            attempt: 0,
            handshake,
            nonce: fresh.nonce,
            guest_nonce: None,
            words: None,
            wrong_words: 0,
            verified_here: false,
            verified_there: false,
            standing: Standing::Online,
            entered: false,
            from: 0,
            flows: false,
            sent: 0,
            has: 0,
            joined: None,
            left: None,
            has_parted: false,
            held: VecDeque::new(),
            held_bytes: 0,
            said: Default::default(),
            messages: Rate::default(),
            connected_at: now.steady,
            heard_at: now.steady,
        }
    }

    /// Has not left.
    pub(crate) const fn is_in(&self) -> bool {
        matches!(self.standing, Standing::Online | Standing::Away(_))
    }

    pub(crate) const fn is_online(&self) -> bool {
        matches!(self.standing, Standing::Online)
    }

    pub(crate) const fn is_entered(&self) -> bool {
        self.entered
    }

    pub(crate) const fn delivery(&self, number: u64) -> Delivery {
        if self.has >= number {
            Delivery::There
        } else if self.is_online() {
            Delivery::Sent
        } else {
            Delivery::Queued
        }
    }

    /// Whether it was in behind this entry.
    pub(super) fn was_in(&self, number: u64) -> bool {
        self.joined.is_some_and(|joined| joined <= number) && self.left.is_none_or(|left| left > number)
    }

    pub(super) fn connected(&mut self, now: Now) {
        self.standing = Standing::Online;
        (self.connected_at, self.heard_at) = (now.steady, now.steady);
        // Nothing flows before it has said what it has.
        self.flows = false;
        self.drop_held();
    }

    pub(super) fn disconnected(&mut self, now: Now) {
        self.standing = Standing::Away(now.steady);
        self.flows = false;
        self.drop_held();
    }

    /// It says that again when it is back, as whatever has no place yet.
    fn drop_held(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
    }

    /// Something that it said waits for its turn.
    ///
    /// # Errors
    /// [`Code::PairRate`] where it says more than may be on the way.
    pub(super) fn hold(&mut self, signed: Signed) -> Result<(), Code> {
        self.held_bytes += signed.size();
        self.held.push_back(signed);
        let fits = self.held.len() as u64 <= limits::WINDOW && self.held_bytes <= limits::HELD_BYTES;
        if fits { Ok(()) } else { Err(Code::PairRate) }
    }

    /// The next that its rate allows.
    pub(super) fn next_said(&mut self, now: Now) -> Option<Signed> {
        let size = self.held.front()?.size();
        let amounts = [(1, limits::RATE), (u32::try_from(size).unwrap_or(u32::MAX), limits::RATE_BYTES)];
        let mut rates = self.said.iter_mut().zip(amounts);
        if !rates.all(|(rate, (amount, limit))| rate.fits(amount, limit, limits::RATE_SPAN, now.steady)) {
            return None;
        }
        self.said.iter_mut().zip(amounts).for_each(|(rate, (amount, _))| rate.add(amount));
        self.held_bytes -= size;
        self.held.pop_front()
    }

    /// It is sent what comes behind this entry.
    pub(super) fn flow_from(&mut self, number: u64) {
        if !self.entered {
            self.entered = true;
            self.from = number;
        }
        self.flows = true;
        self.sent = number;
        self.has = number;
    }

    /// Whether it says no more than it may; also [`ToHost::Beat`](crate::message::ToHost::Beat) is work.
    pub(super) fn heard(&mut self, now: Now) -> bool {
        self.heard_at = now.steady;
        self.messages.allows(limits::MESSAGES, limits::RATE_SPAN, now.steady)
    }

    pub(super) fn is_silent(&self, now: Now) -> bool {
        self.is_online() && now.steady.saturating_sub(self.heard_at) >= limits::SILENCE
    }

    /// Until when it is waited for in a session that was closed then, where it lacks last words. Who comes back has the
    /// time of who was there, and who has missed two beats may be away. However often it comes back, there is an end.
    pub(super) fn last_words_until(&self, closed_at: Duration, now: Now) -> Duration {
        let last_call = closed_at + limits::LAST_CALL;
        let is_heard = now.steady.saturating_sub(self.heard_at) < 2 * limits::BEAT;
        if self.is_online() && is_heard {
            let there = self.connected_at.max(closed_at) + limits::LAST_WORDS;
            there.min(last_call + limits::LAST_WORDS)
        } else {
            last_call
        }
    }

    pub(super) fn introduced(&self, id: MemberId) -> Introduced {
        Introduced {
            id,
            name: self.name.clone(),
            agent: self.card.agent.clone(),
            key: self.card.key,
            verified: self.verified_here,
        }
    }
}
