//! A search for a connection: which relay is tried next, over what, and when.

use std::{
    collections::BTreeMap,
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

/// Shortest pause after a handshake that came to nothing with a relay whose machine answers. The longest is four times that, and both double
/// twice where the relay says nothing: a fleet that comes back must not keep it from ever doing a handshake in time.
const OVERLOAD: Duration = Duration::from_secs(1);

/// What such a relay is tried over once it has said nothing for as long as a dial lasts, or has broken off [`OFTEN`], one after the other: what
/// answers may be something in between that lets nothing more through.
const IN_TURN: [Carrier; 3] = [Carrier::WebSocket, Carrier::Quic, Carrier::Tcp];

/// See [`IN_TURN`].
const OFTEN: u32 = 3;

/// What fails sooner of those was broken off. A dial over QUIC has five seconds.
const SOON: Duration = Duration::from_secs(4);

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
    /// What has come of those handshakes.
    troubles: BTreeMap<usize, Trouble>,
    /// After a session, so that what led to it is known to lead to the relay.
    is_again: bool,
    pub(super) aim: Aim,
    pub(super) reason: String,
}

/// A relay whose machine has answered, or that is given time to.
#[derive(Debug, Clone, Copy)]
struct Busy {
    /// What is waited for.
    over: Carrier,
    /// Since when, and until when.
    since: Instant,
    until: Instant,
    /// When the next try would be without it.
    next: Instant,
}

/// A relay whose machine has answered, and whose handshakes came to nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Trouble {
    /// How many. The first time it may have been a router that broke it off.
    times: u32,
    /// Those of them that were waited for until their time was over.
    late: u32,
    pause: Pause,
    /// One was waited for in vain, or broke off too often: how many there have been since then, if TCP was known to lead to the relay.
    silent: Option<usize>,
}

/// Whether a relay is left alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Pause {
    #[default]
    No,
    /// For how long is for the next try to say.
    Due,
    Until(Instant),
}

/// The dials of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Try {
    pub(super) relay: usize,
    pub(super) carrier: Carrier,
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
            troubles: BTreeMap::new(),
            is_again,
            aim: Aim::Any,
            reason: reason.to_owned(),
        }
    }

    /// One for a better carrier, from `next` on.
    pub(super) fn for_better(now: Instant, next: Instant) -> Self {
        Self { aim: Aim::Better, ..Self::new(0, now, next, "looking for a better way", false) }
    }

    /// One more try: which relay to dial over what, if any. `jitter` is random over its whole range.
    pub(super) fn attempt(&mut self, knows: Knows, now: Instant, jitter: u32) -> Option<Try> {
        let part = f64::from(jitter) / f64::from(u32::MAX);
        self.busy.retain(|_, busy| busy.until > now);
        for trouble in self.troubles.values_mut() {
            trouble.rest(now, part);
        }
        let relay = usize::try_from(self.attempts).unwrap_or(0) % knows.relays;
        let is_paused =
            |relay: &usize| self.troubles.get(relay).is_some_and(|trouble| trouble.pause != Pause::No);
        let is_free = |relay: &usize| !self.busy.contains_key(relay) && !is_paused(relay);
        let Some(relay) = (0..knows.relays).map(|more| (relay + more) % knows.relays).find(is_free) else {
            let busy = self.busy.values().map(|busy| busy.until);
            self.next = busy.chain(self.troubles.values().filter_map(Trouble::until)).min().unwrap_or(now);
            return None;
        };
        self.attempts = self.attempts.saturating_add(1);
        self.next = now + backoff::delay(self.attempts, now.duration_since(self.since), jitter);
        if let Some(silent) = self.troubles.get_mut(&relay).and_then(|trouble| trouble.silent.as_mut()) {
            let carrier = IN_TURN[*silent % IN_TURN.len()];
            *silent += 1;
            self.wait_for(relay, carrier, knows, now);
            return Some(Try { relay, carrier });
        }
        let is_known = self.is_known(knows) && knows.preferred == Carrier::Tcp;
        let head_start = if is_known { KNOWN_HEAD_START } else { HEAD_START };
        self.second.get_or_insert((now + head_start, relay));
        // A fleet that lost its relay at one moment does not come to the visitors' port at one.
        let last = if knows.reached_over == Carrier::WebSocket { KNOWN_RESORT } else { LAST_RESORT };
        match self.aim {
            Aim::Any => _ = self.last.get_or_insert((now + last + (last / 4).mul_f64(part), relay)),
            Aim::Better => self.next = now + GREETING,
        }
        Some(Try { relay, carrier: knows.preferred })
    }

    /// The machine of a relay has answered. Where another carrier than TCP led to it before, or none, that may be something in between
    /// that lets nothing more through. Whoever was never there dials the others as well, once.
    pub(super) fn on_reached(&mut self, relay: usize, knows: Knows, now: Instant) {
        let is_known = self.is_known(knows);
        if self.aim != Aim::Any || (self.is_again && !is_known) {
            return;
        }
        self.wait_for(relay, Carrier::Tcp, knows, now);
        if is_known {
            "the relay is busy".clone_into(&mut self.reason);
            for later in [&mut self.second, &mut self.last] {
                later.take_if(|(_, of)| *of == relay);
            }
        }
    }

    fn is_known(&self, knows: Knows) -> bool {
        self.is_again && knows.reached_over == Carrier::Tcp
    }

    /// Nothing more is asked of a relay before this has come to an end.
    fn wait_for(&mut self, relay: usize, over: Carrier, knows: Knows, now: Instant) {
        let next = self.busy.get(&relay).map_or(self.next, |busy| busy.next);
        self.busy.insert(relay, Busy { over, since: now, until: now + BUSY, next });
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

    /// A dial has failed, or there was nothing to dial. The relay of one that was waited for is then left alone for a while. Whether nothing
    /// else was dialled beside it.
    pub(super) fn on_failed(&mut self, tried: Try, was_dialled: bool, knows: Knows, now: Instant) -> bool {
        let Some(busy) = self.busy.get(&tried.relay).filter(|busy| busy.over == tried.carrier) else {
            return false;
        };
        let (since, until) = (busy.since, busy.until);
        self.busy.remove(&tried.relay);
        self.next = now;
        let is_known = self.is_known(knows);
        let trouble = self.troubles.entry(tried.relay).or_default();
        let is_early = match trouble.silent {
            Some(_) => now.saturating_duration_since(since) < SOON,
            None => until.saturating_duration_since(now) > EARLY,
        };
        if was_dialled {
            trouble.add(!is_early);
            if !is_early {
                trouble.pause = Pause::Due;
            }
        }
        if is_known && (!is_early || trouble.times >= OFTEN) {
            trouble.silent.get_or_insert(0);
        }
        is_known
    }

    /// A relay has done a handshake and then given no session; late, if it was waited for in vain.
    pub(super) fn on_lost(&mut self, relay: usize, is_late: bool) {
        self.troubles.entry(relay).or_default().add(is_late);
    }
}

impl Trouble {
    /// One more handshake came to nothing.
    fn add(&mut self, is_late: bool) {
        if self.times > 0 {
            self.pause = Pause::Due;
        }
        self.times = self.times.saturating_add(1);
        self.late = self.late.saturating_add(u32::from(is_late));
    }

    /// Begins the pause that is due, and ends the one that is over. `part` is random between 0 and 1.
    fn rest(&mut self, now: Instant, part: f64) {
        if self.pause == Pause::Due {
            let shortest = OVERLOAD * (1 << self.late.saturating_sub(1).min(2));
            self.pause = Pause::Until(now + shortest + (shortest * 3).mul_f64(part));
        }
        if self.until().is_some_and(|until| until <= now) {
            self.pause = Pause::No;
        }
    }

    fn until(&self) -> Option<Instant> {
        match self.pause {
            Pause::Until(until) => Some(until),
            Pause::No | Pause::Due => None,
        }
    }
}
