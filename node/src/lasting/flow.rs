//! One stream that outlives its paths: what of it is sent, received and acknowledged, over legs that come and go. Pure
//! state.
//!
//! A *leg* is an ordered byte stream on one connection. The end that opened the stream ([`Flow::begin`]) makes a leg
//! anew whenever it likes, with a number that grows; both ends then tell each other how far they have received, and send
//! again from there. What is sent stays here until it was acknowledged, so that a lost leg
//! loses nothing; what comes on another leg than the newest is thrown away, so that nothing comes twice.
//!
//! Positions count the bytes of one direction from 0; its end counts as one more.
//!
//! Nobody sends more than a window beyond what the other end's owner has read. So everything that comes on a leg has a
//! place, and is read at once: were a leg left unread while an owner is slow, the word that makes room in the other
//! direction would wait behind it, and with it both.
//!
//! Order of calls: [`Flow::write`] and [`Flow::finish`] for what is to go out, [`Flow::readable`] and [`Flow::consume`]
//! for what came in, as much as there is room for; [`Flow::transmit`] for what to write to the newest leg,
//! [`Flow::on_bytes`] for what was read from one, [`Flow::detach`] when it is lost; [`Flow::is_lost`] when
//! [`Flow::poll_timeout`] has come. The [`Standing`] says when it is over.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

pub(crate) use super::frames::Violation;
use super::frames::{self, Decoder, Frame};

/// Bytes that the owner has read after which the other end is told. Together with what goes the other way it is told sooner.
const TELL_EVERY: u64 = 32 * 1024;

/// A buffer that was emptied is kept up to this size.
const KEPT: usize = 16 * 1024;

/// What a stream may hold, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of either direction that were written at one end and not read at the other; who writes more waits. The same at
    /// both ends, and more than [`TELL_EVERY`]. At a round trip of 80 ms, 512 KiB are 6.5 MB/s.
    pub(crate) window: usize,
    /// Time without a leg after which it is lost, [`MOST_PATIENCE`] at most.
    pub(crate) patience: Duration,
}

/// The longest that a stream waits for a leg, whatever its opener asks for.
pub(crate) const MOST_PATIENCE: Duration = Duration::from_secs(3600);

impl Default for Limits {
    fn default() -> Self {
        Self { window: 512 << 10, patience: Duration::from_secs(60) }
    }
}

/// Numbers the legs of a stream, from 0.
pub(crate) type Attempt = u32;

/// What the opener says at the beginning of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) attempt: Attempt,
    /// How far it has received.
    pub(crate) received: u64,
    /// It has never heard from the other end, which may not know the stream.
    pub(crate) fresh: bool,
}

/// Whether a stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Open,
    /// Both directions have come to their end, and both ends know it.
    Done,
    /// One end has broken it off.
    Broken,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Flow {
    limits: Limits,
    outgoing: Outgoing,
    incoming: Incoming,
    /// The newest leg that was begun.
    attempt: Option<Attempt>,
    leg: Option<Leg>,
    /// The other end has answered, or begun it.
    known: bool,
    legless_since: Instant,
    broken: bool,
    /// We broke it off, and the other end is to be told.
    tell_break: bool,
}

/// The leg that is used.
#[derive(Debug)]
struct Leg {
    attempt: Attempt,
    decoder: Decoder,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The other end has not said how far it has received.
    Awaited,
    /// The same, but of a stream that is new it has nothing.
    Presumed,
    /// The other end is to be told how far we had received when it began.
    Asked(u64),
    Agreed,
}

#[derive(Debug, Default)]
struct Outgoing {
    /// From `acknowledged` on.
    bytes: VecDeque<u8>,
    acknowledged: u64,
    /// What goes on the leg next.
    next: u64,
    /// How far the other end's owner has read, as far as is known.
    read: u64,
    /// Nothing is added any more.
    finished: bool,
    /// Its end is acknowledged too.
    over: bool,
}

#[derive(Debug, Default)]
struct Incoming {
    unread: VecDeque<u8>,
    received: u64,
    ended: bool,
    /// The position up to which the other end was told that the owner has read.
    told: u64,
    /// The other end is to be told again: it may not have heard.
    tell: bool,
    /// The other end needs to be told no more.
    is_known: bool,
}

impl Flow {
    /// A stream of which nothing was sent yet.
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            attempt: None,
            leg: None,
            known: false,
            legless_since: now,
            broken: false,
            tell_break: false,
        }
    }

    /// Leaves the leg there is for another one, and answers with what to say at its beginning. The opener's.
    ///
    /// Of a stream that is new the other end has nothing: it is sent without waiting for the answer.
    pub(crate) fn begin(&mut self, now: Instant) -> Beginning {
        self.detach(now);
        let attempt = self.attempt.map_or(0, |attempt| attempt.saturating_add(1));
        let phase = if attempt == 0 { Phase::Presumed } else { Phase::Awaited };
        self.attempt = Some(attempt);
        self.leg = Some(Leg { attempt, decoder: Decoder::default(), phase });
        Beginning { attempt, received: self.incoming.position(), fresh: !self.known }
    }

    /// The opener has begun a leg: goes on there. `false` for one that is older than the newest.
    ///
    /// # Errors
    /// When it can never have received so much, or has forgotten what it had.
    pub(crate) fn attach(&mut self, attempt: Attempt, received: u64) -> Result<bool, Violation> {
        if self.attempt.is_some_and(|newest| attempt <= newest) {
            return Ok(false);
        }
        self.outgoing.go_back(received)?;
        (self.attempt, self.known) = (Some(attempt), true);
        let phase = Phase::Asked(self.incoming.position());
        self.leg = Some(Leg { attempt, decoder: Decoder::default(), phase });
        Ok(true)
    }

    /// The leg is lost.
    pub(crate) fn detach(&mut self, now: Instant) {
        if self.leg.take().is_some_and(|leg| leg.is_heard()) {
            self.legless_since = now;
        }
    }

    /// Takes as many of these bytes as there is room for, and says how many.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.outgoing.bytes.extend(&bytes[..taken]);
        taken
    }

    /// Bytes that [`Self::write`] would take.
    pub(crate) fn room(&self) -> usize {
        let Outgoing { bytes, finished, .. } = &self.outgoing;
        if *finished { 0 } else { self.limits.window.saturating_sub(bytes.len()) }
    }

    /// Nothing follows what was written.
    pub(crate) fn finish(&mut self) {
        self.outgoing.finished = true;
    }

    /// What has come and was not read. Empty with [`Self::has_ended`] means that nothing follows.
    pub(crate) fn readable(&self) -> &[u8] {
        self.incoming.unread.as_slices().0
    }

    /// The first `count` bytes of [`Self::readable`] were read.
    pub(crate) fn consume(&mut self, count: usize) {
        self.incoming.unread.drain(..count);
        shrink(&mut self.incoming.unread);
    }

    /// The other end's direction is over; what is [readable](Self::readable) is all.
    pub(crate) fn has_ended(&self) -> bool {
        self.incoming.ended
    }

    /// Breaks it off. The other end learns it on the leg, if there is one.
    pub(crate) fn break_off(&mut self) {
        if self.standing() == Standing::Open {
            (self.broken, self.tell_break) = (true, true);
        }
    }

    /// Appends what is to be written to the leg now, one frame after the other up to about `most` bytes.
    pub(crate) fn transmit(&mut self, out: &mut Vec<u8>, most: usize) {
        let Some(leg) = &mut self.leg else { return };
        match leg.phase {
            Phase::Awaited => return,
            Phase::Asked(position) => {
                leg.phase = Phase::Agreed;
                self.incoming.tell = true;
                frames::put_have(out, position);
            }
            Phase::Presumed | Phase::Agreed => {}
        }
        if self.broken {
            if std::mem::take(&mut self.tell_break) {
                frames::put_break(out);
            }
            return;
        }
        let mut has_said = false;
        while out.len() < most {
            if !self.outgoing.transmit(out, self.limits.window) {
                break;
            }
            has_said = true;
        }
        let Incoming { told, ended, tell, .. } = self.incoming;
        let read = self.incoming.read();
        let news = read - told;
        if tell || (news > 0 && (has_said || ended || news >= TELL_EVERY)) {
            (self.incoming.told, self.incoming.tell) = (read, false);
            frames::put_ack(out, read);
        }
    }

    /// Takes in what was read from a leg, and says how much of it. What is left is to be given again, with more behind it.
    ///
    /// # Errors
    /// When the other end does not keep to the protocol.
    pub(crate) fn on_bytes(&mut self, attempt: Attempt, bytes: &[u8]) -> Result<usize, Violation> {
        let mut taken = 0;
        while let Some(leg) = self.leg.as_mut().filter(|leg| leg.attempt == attempt) {
            let Some((frame, length)) = leg.decoder.next(&bytes[taken..])? else { return Ok(taken) };
            taken += length;
            if !leg.is_heard() && !matches!(frame, Frame::Have(_) | Frame::Gone | Frame::Done) {
                return Err(Violation);
            }
            match frame {
                Frame::Data(_) | Frame::End if self.incoming.ended => return Err(Violation),
                Frame::Data(bytes) if self.incoming.unread.len() + bytes.len() > self.limits.window => {
                    return Err(Violation);
                }
                Frame::Data(bytes) => {
                    self.incoming.unread.extend(bytes);
                    self.incoming.received += bytes.len() as u64;
                }
                Frame::End => self.incoming.ended = true,
                Frame::Ack(position) => self.outgoing.on_read(position)?,
                Frame::Break => self.broken = true,
                Frame::Have(position) => self.on_answer(position)?,
                Frame::Gone => self.on_over(false)?,
                Frame::Done => self.on_over(true)?,
            }
        }
        // An older leg: nothing of it counts.
        Ok(bytes.len())
    }

    pub(crate) fn standing(&self) -> Standing {
        if self.broken {
            Standing::Broken
        } else if self.outgoing.over && self.incoming.is_over() {
            Standing::Done
        } else {
            Standing::Open
        }
    }

    /// When it is lost, unless a leg comes.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let is_heard = self.leg.as_ref().is_some_and(Leg::is_heard);
        (!is_heard).then(|| self.legless_since + self.limits.patience)
    }

    /// Whether it has been without a leg for too long.
    pub(crate) fn is_lost(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|at| at <= now)
    }

    /// The end that answers has received this far.
    fn on_answer(&mut self, position: u64) -> Result<(), Violation> {
        let Some(leg) = &mut self.leg else { return Ok(()) };
        match leg.phase {
            Phase::Awaited => self.outgoing.go_back(position)?,
            Phase::Presumed if position == 0 => {}
            Phase::Presumed | Phase::Asked(_) | Phase::Agreed => return Err(Violation),
        }
        (leg.phase, self.known) = (Phase::Agreed, true);
        self.incoming.tell = true;
        Ok(())
    }

    /// The end that answers has the stream no more: it is done there, or was lost. That all was sent does not say that it
    /// has come: that is the other end's to say.
    fn on_over(&mut self, is_done: bool) -> Result<(), Violation> {
        let phase = self.leg.take().map(|leg| leg.phase);
        if !matches!(phase, Some(Phase::Awaited | Phase::Presumed)) {
            return Err(Violation);
        }
        if is_done && self.incoming.ended && self.outgoing.finished && self.outgoing.has_sent_all() {
            self.outgoing.over = true;
            (self.incoming.is_known, self.incoming.tell) = (true, false);
        } else {
            self.broken = true;
        }
        Ok(())
    }
}

impl Leg {
    /// Whether the other end has said anything on it.
    fn is_heard(&self) -> bool {
        matches!(self.phase, Phase::Asked(_) | Phase::Agreed)
    }
}

impl Outgoing {
    /// The position behind everything that was written, its end not counted.
    fn end(&self) -> u64 {
        self.acknowledged + self.bytes.len() as u64
    }

    fn last(&self) -> u64 {
        self.end() + u64::from(self.finished)
    }

    fn has_sent_all(&self) -> bool {
        self.next == self.last()
    }

    /// Goes on from what the other end has received.
    fn go_back(&mut self, received: u64) -> Result<(), Violation> {
        // Whoever has the end has it for good, and has everything before it.
        let known = self.acknowledged + u64::from(self.over);
        // It may have got more than we knew when the last leg was lost, never more than was on its way.
        let most = self.next.max(known);
        if received < known || received > most {
            return Err(Violation);
        }
        self.acknowledge(received)?;
        self.next = received;
        Ok(())
    }

    fn acknowledge(&mut self, position: u64) -> Result<(), Violation> {
        if position > self.next {
            return Err(Violation);
        }
        let bytes = position.min(self.end());
        // An older word than the last is no news.
        if let Some(more) = bytes.checked_sub(self.acknowledged) {
            self.bytes.drain(..usize::try_from(more).map_err(|_| Violation)?);
            self.acknowledged = bytes;
            shrink(&mut self.bytes);
        }
        Ok(())
    }

    /// The other end's owner has read this far.
    fn on_read(&mut self, position: u64) -> Result<(), Violation> {
        self.acknowledge(position)?;
        self.read = self.read.max(position);
        self.over |= self.finished && position == self.last();
        Ok(())
    }

    /// Appends one frame; `false` when there is none.
    fn transmit(&mut self, out: &mut Vec<u8>, window: usize) -> bool {
        let end = self.end();
        let allowed = self.read + window as u64;
        if self.next < end && self.next >= allowed {
            return false;
        }
        if self.next < end {
            let at = usize::try_from(self.next - self.acknowledged).expect("a position within the buffer");
            let (front, back) = self.bytes.as_slices();
            let run = front.get(at..).filter(|run| !run.is_empty());
            let run = run.unwrap_or_else(|| &back[at - front.len()..]);
            let most = usize::try_from(allowed - self.next).unwrap_or(usize::MAX).min(frames::MOST);
            let run = &run[..run.len().min(most)];
            frames::put_data(out, run);
            self.next += run.len() as u64;
            return true;
        }
        if self.finished && self.next == end {
            frames::put_end(out);
            self.next += 1;
            return true;
        }
        false
    }
}

impl Incoming {
    fn position(&self) -> u64 {
        self.received + u64::from(self.ended)
    }

    /// How far the owner has read; the end is read with the last byte.
    fn read(&self) -> u64 {
        self.received - self.unread.len() as u64 + u64::from(self.ended && self.unread.is_empty())
    }

    /// All is read, and the other end knows it.
    fn is_over(&self) -> bool {
        self.ended && self.unread.is_empty() && !self.tell && (self.is_known || self.told == self.position())
    }
}

fn shrink(bytes: &mut VecDeque<u8>) {
    if bytes.is_empty() && bytes.capacity() > KEPT {
        bytes.shrink_to(0);
    }
}

#[cfg(test)]
mod tests;
