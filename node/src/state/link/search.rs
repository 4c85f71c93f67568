//! A search for a connection: which relay is tried next, over what, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

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

/// A handshake that fails with more than this left of its time was broken off. The dial's time began when it was dialled, up to five seconds
/// before its machine answered.
const EARLY: Duration = Duration::from_secs(6);

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
    /// The carrier that waits for the head start of the preferred one.
    pub(super) second: Option<(Instant, usize)>,
    /// The same for the last resort.
    pub(super) last: Option<(Instant, usize)>,
    /// A relay to which a fleet comes back at one moment is not helped by being asked for more handshakes.
    busy: BTreeMap<usize, Busy>,
    /// Relays that were busy and have broken a handshake off: the first time it may have been a router.
    broken_off: BTreeSet<usize>,
    /// Those of them that did so again, and until when they are left alone, which is for the next try to say.
    put_off: BTreeMap<usize, Option<Instant>>,
    /// After a session, so that what led to it is known to lead to the relay; until something answers for long and says nothing.
    is_again: bool,
    pub(super) aim: Aim,
    pub(super) reason: String,
}

/// A relay whose machine has answered.
#[derive(Debug, Clone, Copy)]
struct Busy {
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
            second: None,
            last: None,
            busy: BTreeMap::new(),
            broken_off: BTreeSet::new(),
            put_off: BTreeMap::new(),
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
        let (known, busy) = (self.busy.len(), &mut self.busy);
        busy.retain(|_, busy| busy.until > now);
        self.is_again &= busy.len() == known;
        for until in self.put_off.values_mut() {
            until.get_or_insert(now + OVERLOAD + (OVERLOAD * 3).mul_f64(part));
        }
        self.put_off.retain(|_, until| until.is_some_and(|until| until > now));
        let relay = usize::try_from(self.attempts).unwrap_or(0) % knows.relays;
        let free = |relay: &usize| !self.busy.contains_key(relay) && !self.put_off.contains_key(relay);
        let Some(relay) = (0..knows.relays).map(|more| (relay + more) % knows.relays).find(free) else {
            let busy = self.busy.values().map(|busy| busy.until);
            self.next = busy.chain(self.put_off.values().copied().flatten()).min().unwrap_or(now);
            return None;
        };
        self.attempts = self.attempts.saturating_add(1);
        self.next = now + backoff::delay(self.attempts, now.duration_since(self.since), jitter);
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
        self.busy.insert(relay, Busy { until: now + BUSY, next: self.next });
        "the relay is busy".clone_into(&mut self.reason);
        for later in [&mut self.second, &mut self.last] {
            later.take_if(|(_, of)| *of == relay);
        }
        if self.busy.len() == knows.relays {
            let until = self.busy.values().map(|busy| busy.until).min();
            self.next = until.map_or(self.next, |until| self.next.max(until));
        }
    }

    /// A dial succeeded. Should nothing come of it, the tries go on as they would have.
    pub(super) fn on_connected(&mut self, relay: usize) {
        if let Some(busy) = self.busy.remove(&relay) {
            self.next = self.next.min(busy.next);
        }
    }

    /// A dial over TCP has failed: whether it was one to a relay that was busy, which is then left alone for a while.
    pub(super) fn on_broken_off(&mut self, relay: usize, now: Instant) -> bool {
        let Some(Busy { until, .. }) = self.busy.remove(&relay) else { return false };
        self.next = now;
        let is_early = until.saturating_duration_since(now) > EARLY;
        self.is_again &= is_early;
        if is_early && !self.broken_off.insert(relay) {
            self.put_off.insert(relay, None);
        }
        true
    }
}
