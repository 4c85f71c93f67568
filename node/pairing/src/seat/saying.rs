//! What is said at this end: it waits here until the host has told that it has its place.

use mytunnel_keys::error::Code;

use super::Seat;
use crate::{
    clock::Now,
    content::{self, Content, ENVELOPE, Envelope, MemberId, Said},
    limits,
    message::ToHost,
    signed::Signed,
};

impl Seat {
    /// Something that this side says; its number among what it has said.
    pub(crate) fn say(
        &mut self,
        said: Said,
        reply_to: Option<u64>,
        to: Vec<MemberId>,
        now: Now,
    ) -> Result<u64, Code> {
        content::check(&said)?;
        if self.ledger.is_none() || self.waits() {
            return Err(Code::PairUnverified);
        }
        if self.outbox.waiting.len() >= limits::OUTBOX
            || !self.rate.allows(limits::RATE, limits::RATE_SPAN, now.steady)
        {
            return Err(Code::PairRate);
        }
        let (last, before) = self.outbox.last;
        let envelope = Envelope {
            session: self.session,
            author: self.member,
            number: last + 1,
            before,
            at: now.wall * 1000,
            reply_to,
            to,
            content: Content::Said(said),
        };
        let signed = Signed::sign(ENVELOPE, &envelope, &self.seed);
        self.outbox.last = (envelope.number, signed.hash());
        self.outbox.waiting.push_back((envelope.number, signed));
        self.pump();
        Ok(envelope.number)
    }

    /// Whether what was said under this number has its place in the record.
    pub(crate) fn is_taken(&self, number: u64) -> bool {
        self.outbox.waiting.front().is_none_or(|(first, _)| *first > number)
    }

    /// How much of what was said here is lost with the session's end: the host has not said that it has its place.
    pub(crate) fn lost(&self) -> usize {
        if self.is_over() { self.outbox.waiting.len() } else { 0 }
    }

    pub(super) fn taken(&mut self, number: u64) {
        self.outbox.forget(number);
        self.pump();
        self.leave_when_told();
    }

    pub(super) fn pump(&mut self) {
        if self.away_since.is_some() {
            return;
        }
        let Some((first, _)) = self.outbox.waiting.front() else { return };
        let (first, end, mut bytes) = (*first, first + limits::WINDOW, 0);
        for (number, signed) in &self.outbox.waiting {
            bytes += signed.size();
            if *number >= end || bytes > limits::WINDOW_BYTES && *number > first {
                break;
            }
            if *number <= self.outbox.sent {
                continue;
            }
            self.outbox.sent = *number;
            self.outgoing.push_back(ToHost::Say { envelope: signed.clone() });
        }
    }
}
