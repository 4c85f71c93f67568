//! A search for a connection: which relay is tried next, over what, and when.

use std::time::{Duration, Instant};

use super::{GREETING, backoff};
use crate::carrier::Carrier;

/// Head start of the preferred carrier, as of one address family before the other (RFC 8305).
pub(super) const HEAD_START: Duration = Duration::from_millis(250);

/// The same of TCP where it led to the relay a moment ago: what is blocked all at once is UDP. The kernel knocks again after one second
/// and after three, when a relay to which a fleet comes back has missed it.
const KNOWN_HEAD_START: Duration = Duration::from_millis(3500);

/// Time that all other carriers have before the last resort: as long as a handshake may take, since a relay that is flooded is not to be
/// asked for more of them.
pub(super) const LAST_RESORT: Duration = Duration::from_secs(5);

/// The same where the last resort was what led to the relay before.
pub(super) const KNOWN_RESORT: Duration = Duration::from_millis(500);

/// How long a relay whose machine answers may take for its handshake before it is asked anew: as long as such a dial lasts.
const BUSY: Duration = Duration::from_secs(15);

/// A handshake that fails with more than this left of its time was broken off.
const EARLY: Duration = Duration::from_secs(2);

/// How old a search may be for a relay to be thought busy: from then on, what answers may as well be something in between that
/// lets nothing more through.
const FORBEARANCE: Duration = Duration::from_secs(45);

/// Shortest pause after a relay has broken a handshake off, for want of room. The longest is four times that.
const OVERLOAD: Duration = Duration::from_secs(1);

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Search {
    pub(super) attempts: u32,
    since: Instant,
    pub(super) next: Instant,
    /// The relay that was tried last.
    pub(super) relay: usize,
    /// The carrier that waits for the head start of the preferred one.
    pub(super) second: Option<(Instant, usize)>,
    /// The same for the last resort.
    pub(super) last: Option<(Instant, usize)>,
    /// A relay to which a fleet comes back at one moment is not helped by being asked for more handshakes.
    busy: Option<Busy>,
    /// The relay that was busy has broken the handshake off, and not for the first time, which may have been a router.
    is_put_off: bool,
    was_broken_off: bool,
    /// After a session, so that what led to it is known to lead to the relay; until something answers for long and says nothing.
    is_again: bool,
    pub(super) aim: Aim,
    pub(super) reason: String,
}

/// A relay whose machine has answered.
#[derive(Debug, Clone, Copy)]
struct Busy {
    relay: usize,
    /// Until when its handshake is waited for.
    until: Instant,
    /// When the next try would be without it.
    next: Instant,
}

/// What a search is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// Any connection.
    Any,
    /// One over a better carrier than the current one's, by one try.
    Better,
}

/// What is known of the relays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Knows {
    pub(super) relays: usize,
    pub(super) preferred: Carrier,
    pub(super) reached_over: Carrier,
}

impl Search {
    pub(super) fn new(attempts: u32, since: Instant, next: Instant, reason: &str, is_again: bool) -> Self {
        Self {
            attempts,
            since,
            next,
            relay: 0,
            second: None,
            last: None,
            busy: None,
            is_put_off: false,
            was_broken_off: false,
            is_again,
            aim: Aim::Any,
            reason: reason.to_owned(),
        }
    }

    /// One for a better carrier.
    pub(super) fn for_better(now: Instant) -> Self {
        Self { aim: Aim::Better, ..Self::new(0, now, now, "looking for a better way", false) }
    }

    /// One more try: which relay to dial over the preferred carrier, if any. `jitter` is random over its whole range.
    pub(super) fn attempt(&mut self, knows: Knows, now: Instant, jitter: u32) -> Option<usize> {
        let part = f64::from(jitter) / f64::from(u32::MAX);
        if std::mem::take(&mut self.is_put_off) {
            self.next = now + OVERLOAD + (OVERLOAD * 3).mul_f64(part);
            return None;
        }
        let relay = usize::try_from(self.attempts).unwrap_or(0) % knows.relays;
        self.attempts = self.attempts.saturating_add(1);
        self.next = now + backoff::delay(self.attempts, now.duration_since(self.since), jitter);
        if self.busy.take_if(|busy| busy.until <= now).is_some() {
            self.is_again = false;
        }
        if self.busy.is_some_and(|busy| busy.relay == relay) {
            return None;
        }
        self.relay = relay;
        let is_known = self.is_again && knows.preferred == Carrier::Tcp && knows.reached_over == Carrier::Tcp;
        let head_start = if is_known { KNOWN_HEAD_START } else { HEAD_START };
        self.second.get_or_insert((now + head_start, relay));
        // A fleet that lost its relay at one moment does not come to the visitors' port at one.
        let last = if knows.reached_over == Carrier::WebSocket { KNOWN_RESORT } else { LAST_RESORT };
        match self.aim {
            Aim::Any => _ = self.last.get_or_insert((now + last + (last / 4).mul_f64(part), relay)),
            Aim::Better => self.next = now + GREETING,
        }
        Some(relay)
    }

    /// The machine of a relay has answered. Where another carrier than TCP led to it before, or none, that may be something in between
    /// that lets nothing more through.
    pub(super) fn on_reached(&mut self, relay: usize, knows: Knows, now: Instant) {
        let is_known = self.is_again && knows.reached_over == Carrier::Tcp;
        if !is_known || now.duration_since(self.since) >= FORBEARANCE || self.aim != Aim::Any {
            return;
        }
        let until = now + BUSY;
        self.busy = Some(Busy { relay, until, next: self.next });
        "the relay is busy".clone_into(&mut self.reason);
        for later in [&mut self.second, &mut self.last] {
            later.take_if(|(_, of)| *of == relay);
        }
        if knows.relays == 1 {
            self.next = self.next.max(until);
        }
    }

    /// A dial succeeded. Should nothing come of it, the tries go on as they would have.
    pub(super) fn on_connected(&mut self) {
        if let Some(busy) = self.busy.take() {
            self.next = self.next.min(busy.next);
        }
    }

    /// A dial over TCP has failed: whether it was one to a relay that was busy, which is then left alone for a while.
    pub(super) fn on_broken_off(&mut self, now: Instant) -> bool {
        let Some(Busy { until, .. }) = self.busy.take() else { return false };
        self.next = now;
        let is_early = until.saturating_duration_since(now) > EARLY;
        self.is_again &= is_early;
        self.is_put_off = is_early && std::mem::replace(&mut self.was_broken_off, true);
        true
    }
}
