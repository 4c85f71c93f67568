//! One stream that outlives its paths: what of it is sent, received and acknowledged, over legs that come and go. Pure
//! state.
//!
//! A *leg* is an ordered byte stream on one connection. The end that opened the stream ([`Flow::begin`]) makes a leg
//! anew whenever it likes, with a number that grows; both ends then tell each other how far they have received, and send
//! again from there. What is sent stays here until it was acknowledged, so that a lost leg loses nothing.
//!
//! The end that answers goes on, on the leg that was begun last, as soon as it hears of it. The one that has opened goes on
//! where it was until the answer has come: a leg that leads nowhere costs nothing. What it has received meanwhile comes again
//! on the new leg, whose answer says where it begins, and is passed over; what comes on a leg that was left is thrown away.
//! So nothing comes twice.
//!
//! Positions count the bytes of one direction from 0; its end counts as one more.
//!
//! Nobody sends more than a window beyond what the other end's owner has read. So everything that comes on a leg has a
//! place, and is read at once: were a leg left unread while an owner is slow, the word that makes room in the other
//! direction would wait behind it, and with it both.
//!
//! Order of calls: [`Flow::write`] and [`Flow::finish`] for what is to go out, [`Flow::readable`] and [`Flow::consume`]
//! for what came in, as much as there is room for; [`Flow::transmit`] for what to write to a leg,
//! [`Flow::on_bytes`] for what was read from one, [`Flow::detach`] when it is lost; [`Flow::is_lost`] and [`Flow::late`] when
//! [`Flow::poll_timeout`] has come. The [`Standing`] says when it is over.

mod incoming;
mod outgoing;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

pub(crate) use super::frames::Violation;
use super::frames::{self, Decoder, Frame};
use incoming::Incoming;
use outgoing::Outgoing;

/// Bytes that the owner has read after which the other end is told. Together with what goes the other way it is told sooner.
const TELL_EVERY: u64 = 32 * 1024;

/// Time in which the other end must answer on a leg, and when nothing but that is awaited.
const ANSWER: Duration = Duration::from_secs(10);
const LAST_ANSWER: Duration = Duration::from_secs(1);

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
    /// What carries the stream.
    leg: Option<Leg>,
    /// What is to carry it as soon as the other end answers.
    next: Option<Leg>,
    /// The other end has answered, or begun it.
    known: bool,
    legless_since: Instant,
    broken: bool,
    /// It was we who broke it off, and the other end is to be told on each leg: which one it is on it knows better.
    tell_break: bool,
}

#[derive(Debug)]
struct Leg {
    attempt: Attempt,
    since: Instant,
    decoder: Decoder,
    phase: Phase,
    /// Positions that come on it and have come before.
    known: u64,
    /// The other end was told on it that we broke it off.
    is_told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The other end has not said how far it has received.
    Awaited,
    /// The same, but of a stream that is new it has nothing.
    Presumed,
    /// The other end is to be told how far we had received when it began, and where we go on.
    Asked {
        received: u64,
        from: u64,
    },
    Agreed,
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
            next: None,
            known: false,
            legless_since: now,
            broken: false,
            tell_break: false,
        }
    }

    /// Begins another leg, and answers with what to say at its beginning. The opener's.
    ///
    /// Of a stream that is new the other end has nothing: it is sent without waiting for the answer.
    pub(crate) fn begin(&mut self, now: Instant) -> Beginning {
        let attempt = self.attempt.map_or(0, |attempt| attempt.saturating_add(1));
        let phase = if attempt == 0 { Phase::Presumed } else { Phase::Awaited };
        self.attempt = Some(attempt);
        let leg = Leg::new(attempt, phase, now);
        if self.leg.as_ref().is_some_and(Leg::is_heard) {
            self.next = Some(leg);
        } else {
            (self.leg, self.next) = (Some(leg), None);
        }
        Beginning { attempt, received: self.incoming.position(), fresh: !self.known }
    }

    /// The opener has begun a leg: goes on there. `false` for one that is older than the newest.
    ///
    /// # Errors
    /// When it can never have received so much.
    pub(crate) fn attach(
        &mut self,
        attempt: Attempt,
        received: u64,
        now: Instant,
    ) -> Result<bool, Violation> {
        if self.attempt.is_some_and(|newest| attempt <= newest) {
            return Ok(false);
        }
        // What it has acknowledged on another leg meanwhile it need not have again.
        let from = received.max(self.outgoing.known);
        self.outgoing.go_back(from)?;
        (self.attempt, self.known) = (Some(attempt), true);
        let phase = Phase::Asked { received: self.incoming.position(), from };
        self.leg = Some(Leg::new(attempt, phase, now));
        Ok(true)
    }

    /// A leg is lost.
    pub(crate) fn detach(&mut self, attempt: Attempt, now: Instant) {
        if self.next.take_if(|leg| leg.attempt == attempt).is_some() {
            return;
        }
        if let Some(lost) = self.leg.take_if(|leg| leg.attempt == attempt) {
            if lost.is_heard() {
                self.legless_since = now;
            }
            self.leg = self.next.take();
        }
    }

    /// Whether the stream is on this leg now.
    pub(crate) fn is_on(&self, attempt: Attempt) -> bool {
        self.leg.as_ref().is_some_and(|leg| leg.attempt == attempt)
    }

    /// Whether this leg is the one that was begun last.
    pub(crate) fn is_newest(&self, attempt: Attempt) -> bool {
        self.attempt == Some(attempt)
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

    /// Breaks it off. The other end learns it on the legs, if there are any.
    pub(crate) fn break_off(&mut self) {
        if self.standing() == Standing::Open {
            (self.broken, self.tell_break) = (true, true);
        }
    }

    /// Appends what is to be written to a leg now, one frame after the other up to about `most` bytes.
    pub(crate) fn transmit(&mut self, attempt: Attempt, out: &mut Vec<u8>, most: usize) {
        let Some(leg) = numbered(attempt, &mut self.leg, &mut self.next) else { return };
        if let Phase::Asked { received, from } = leg.phase {
            leg.phase = Phase::Agreed;
            self.incoming.tell = true;
            frames::put_have(out, received, from);
        }
        if self.broken {
            // It has no position, so that it need not wait for an answer.
            if self.tell_break && !std::mem::replace(&mut leg.is_told, true) {
                frames::put_break(out);
            }
            return;
        }
        if leg.phase == Phase::Awaited {
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
        while let Some(leg) = numbered(attempt, &mut self.leg, &mut self.next) {
            let Some((frame, length)) = leg.decoder.next(&bytes[taken..])? else { return Ok(taken) };
            taken += length;
            let is_answer = matches!(frame, Frame::Have { .. } | Frame::Gone | Frame::Done);
            if leg.is_heard() == is_answer {
                return Err(Violation);
            }
            match frame {
                Frame::Data(bytes) => {
                    let bytes = &bytes[leg.pass_over(bytes.len())..];
                    self.incoming.take(bytes, self.limits.window)?;
                }
                Frame::End if leg.known > 0 => leg.known -= 1,
                Frame::End if self.incoming.ended => return Err(Violation),
                Frame::End => self.incoming.ended = true,
                Frame::Ack(position) => self.outgoing.on_read(position)?,
                Frame::Break => self.broken = true,
                Frame::Have { received, from } => self.on_answer(attempt, received, from)?,
                Frame::Gone => self.on_over(false),
                Frame::Done => self.on_over(true),
            }
        }
        // A leg that was left: nothing of it counts.
        Ok(bytes.len())
    }

    pub(crate) fn standing(&self) -> Standing {
        if self.broken {
            Standing::Broken
        } else if self.is_said() && self.awaited().is_none() {
            Standing::Done
        } else {
            Standing::Open
        }
    }

    /// Whether both directions have come to their end, and the other end was told. It may have left the leg on which it was
    /// told for one that was begun since, on which it is told again.
    pub(crate) fn is_said(&self) -> bool {
        self.outgoing.over && self.incoming.is_over()
    }

    /// When it is lost, or a leg is late.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let lost = (!self.is_carried()).then(|| self.legless_since + self.limits.patience);
        let late = self.awaited().map(|leg| leg.since + self.answer());
        lost.into_iter().chain(late).min()
    }

    /// Whether it has been without a leg for too long.
    pub(crate) fn is_lost(&self, now: Instant) -> bool {
        !self.is_carried() && self.legless_since + self.limits.patience <= now
    }

    /// A leg on which the other end has not answered in time.
    pub(crate) fn late(&self, now: Instant) -> Option<Attempt> {
        self.awaited().filter(|leg| leg.since + self.answer() <= now).map(|leg| leg.attempt)
    }

    fn answer(&self) -> Duration {
        if self.is_said() { LAST_ANSWER } else { ANSWER }
    }

    fn is_carried(&self) -> bool {
        self.leg.as_ref().is_some_and(Leg::is_heard)
    }

    fn awaited(&self) -> Option<&Leg> {
        self.next.as_ref().or(self.leg.as_ref()).filter(|leg| !leg.is_heard())
    }

    /// The end that answers has received this far, and goes on from there: the stream is on that leg from now on.
    fn on_answer(&mut self, attempt: Attempt, received: u64, from: u64) -> Result<(), Violation> {
        if let Some(next) = self.next.take_if(|leg| leg.attempt == attempt) {
            self.leg = Some(next);
        }
        let Some(leg) = &mut self.leg else { return Ok(()) };
        match leg.phase {
            Phase::Awaited if received >= self.outgoing.known => self.outgoing.go_back(received)?,
            Phase::Presumed if received == 0 => {}
            Phase::Awaited | Phase::Presumed | Phase::Asked { .. } | Phase::Agreed => return Err(Violation),
        }
        leg.known = self.incoming.position().checked_sub(from).ok_or(Violation)?;
        (leg.phase, self.known) = (Phase::Agreed, true);
        self.incoming.tell = true;
        Ok(())
    }

    /// The end that answers has the stream no more: it is done there, or was lost. That all was sent does not say that it
    /// has come: that is the other end's to say.
    fn on_over(&mut self, is_done: bool) {
        (self.leg, self.next) = (None, None);
        let has_all =
            self.outgoing.over || (is_done && self.outgoing.finished && self.outgoing.has_sent_all());
        if has_all && self.incoming.ended {
            self.outgoing.over = true;
            (self.incoming.is_known, self.incoming.tell) = (true, false);
        } else {
            self.broken = true;
        }
    }
}

/// The leg with this number, if it is neither lost nor left.
fn numbered<'a>(
    attempt: Attempt,
    leg: &'a mut Option<Leg>,
    next: &'a mut Option<Leg>,
) -> Option<&'a mut Leg> {
    let is_it = |leg: &&'a mut Leg| leg.attempt == attempt;
    leg.as_mut().filter(is_it).or(next.as_mut().filter(is_it))
}

impl Leg {
    fn new(attempt: Attempt, phase: Phase, since: Instant) -> Self {
        Self { attempt, since, decoder: Decoder::default(), phase, known: 0, is_told: false }
    }

    /// How many of these positions have come before.
    fn pass_over(&mut self, count: usize) -> usize {
        let known = usize::try_from(self.known).unwrap_or(usize::MAX).min(count);
        self.known -= known as u64;
        known
    }

    /// Whether the other end has said anything on it.
    fn is_heard(&self) -> bool {
        matches!(self.phase, Phase::Asked { .. } | Phase::Agreed)
    }
}

/// A buffer that was emptied is kept up to this size.
const KEPT: usize = 16 * 1024;

fn shrink(bytes: &mut VecDeque<u8>) {
    if bytes.is_empty() && bytes.capacity() > KEPT {
        bytes.shrink_to(0);
    }
}

#[cfg(test)]
mod tests;
