//! Keeps a session with a relay: when to dial whom, which connection counts, and when there is none to be had.
//!
//! The driver calls, in any order, the `on_*` methods with what happened and [`Link::tick`] when
//! [`Link::next_timeout`] has come, and after each call carries out what [`Link::next_command`] gives until it gives
//! nothing.
//!
//! At any time at most one connection is *current*: its session was welcomed, and tunnels are registered there. While
//! there is none, or the current one is in doubt, there is a *search*: dials in growing intervals, the earlier ones
//! going on. The first connection that stands becomes the *candidate* and is greeted; one over the carrier that is not
//! preferred first waits a moment *in reserve*, in which the other is tried again. The last resort is dialled once all others have
//! failed, or have had their time. After a session, a relay whose machine answers over TCP is waited for, and left alone for a while
//! when it breaks off the handshake: a fleet comes back to it. A candidate that is welcomed replaces
//! the current connection; a current connection that answers again in the meantime stays, and the search ends. So a false
//! alarm costs nothing that is in flight. While nothing is, a session over the last resort looks for a better carrier now and then: the
//! relay may only have been busy.

mod search;

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p::swarm::ConnectionId;
use mytunnel_keys::error::Code;

use super::{
    backoff,
    verdict::{self, Verdict},
};
use crate::carrier::Carrier;
use search::{Aim, HEAD_START, Knows, Search, Try};

/// How often a session over the last resort tries the other carriers.
const BETTER: Duration = Duration::from_secs(300);

/// When it looks again whether anything is in flight.
const RECHECK: Duration = Duration::from_secs(2);

/// Time for a connection that stands to welcome us.
const GREETING: Duration = Duration::from_secs(5);

/// A session that lasted this long was a good one: after it, the next search begins without a pause.
const STABLE: Duration = Duration::from_secs(10);

/// Silence after the first unanswered ping upon which a connection is given up, even if no other is to be had. Until
/// then a path that is merely congested keeps what is in flight.
const SILENCE: Duration = Duration::from_secs(4);

/// Time in which a relay that has said a last goodbye closes the connection itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// Dials of one carrier to one relay under way. An address that swallows packets keeps each for seconds.
const MOST_DIALS: usize = 3;

/// A refusal as the relay worded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Dial relay number `relay`, and answer [`Link::on_connected`] or [`Link::on_dial_failed`], once.
    Dial { relay: usize, carrier: Carrier },
    /// Open a session on the connection.
    Greet(ConnectionId),
    /// Close the connection.
    Close(ConnectionId),
    /// Register the tunnels on this connection.
    Online(ConnectionId),
    /// No session stands. Every try says so again.
    Offline { attempt: u32, reason: String },
    /// No session is to be had.
    GiveUp(Refusal),
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Link {
    relays: usize,
    preferred: Carrier,
    current: Option<Current>,
    candidate: Option<Candidate>,
    /// Until when the preferred carrier has another chance.
    reserve: Option<Candidate>,
    search: Option<Search>,
    /// The relay has said its last word on it, and is about to close it.
    farewell: Option<Farewell>,
    dials: HashMap<(usize, Carrier), usize>,
    /// What the last session came over.
    reached_over: Carrier,
    refused: bool,
    commands: VecDeque<Command>,
}

#[derive(Debug)]
struct Current {
    connection: ConnectionId,
    since: Instant,
    /// Tries of the search that found it.
    attempts: u32,
    silent_since: Option<Instant>,
    /// The relay has asked us to go elsewhere.
    leaving: bool,
    /// When to look for a better carrier than its own, if there is any.
    better_at: Option<Instant>,
}

#[derive(Debug)]
struct Candidate {
    connection: ConnectionId,
    relay: usize,
    carrier: Carrier,
    until: Instant,
}

#[derive(Debug)]
struct Farewell {
    connection: ConnectionId,
    until: Instant,
}

impl Link {
    /// Begins to search among `relays` relays (at least one) at once.
    pub(crate) fn new(relays: usize, preferred: Carrier, now: Instant) -> Self {
        let search = Search::new(0, now, now, "connecting", false);
        Self {
            relays: relays.max(1),
            preferred,
            current: None,
            candidate: None,
            reserve: None,
            search: Some(search),
            farewell: None,
            dials: HashMap::new(),
            reached_over: preferred,
            refused: false,
            commands: VecDeque::new(),
        }
    }

    /// What to do next.
    pub(crate) fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Self::tick`].
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        if let Some(farewell) = &self.farewell {
            return Some(farewell.until);
        }
        if let Some(waiting) = self.candidate.as_ref().or(self.reserve.as_ref()) {
            return Some(waiting.until);
        }
        let Some(search) = &self.search else {
            return self.current.as_ref().and_then(|current| current.better_at);
        };
        let later = [search.second, search.last].into_iter().flatten().map(|(at, _)| at);
        later.chain([search.next]).min()
    }

    /// The connection with a welcomed session.
    pub(crate) fn current(&self) -> Option<ConnectionId> {
        self.current.as_ref().map(|current| current.connection)
    }

    /// The time has come. `jitter` is random; a node is idle while nothing is in flight.
    pub(crate) fn tick(&mut self, now: Instant, jitter: u32, is_idle: bool) {
        if let Some(overdue) = self.farewell.take_if(|farewell| farewell.until <= now) {
            self.commands.push_back(Command::Close(overdue.connection));
        }
        if let Some(candidate) = &self.candidate {
            if candidate.until > now {
                return;
            }
            self.fail_candidate(&format!("the relay did not answer the greeting over {}", candidate.carrier));
        }
        if let Some(reserve) = self.reserve.take_if(|reserve| reserve.until <= now) {
            self.greet(reserve, now);
        }
        if self.candidate.is_some() || self.reserve.is_some() {
            return;
        }
        self.look_for_better(now, jitter, is_idle);
        let Some(search) = &mut self.search else { return };
        if let Some((_, relay)) = search.second.take_if(|(at, _)| *at <= now) {
            self.dial(relay, self.preferred.other());
        }
        let Some(search) = &mut self.search else { return };
        if let Some((_, relay)) = search.last.take_if(|(at, _)| *at <= now) {
            self.dial(relay, Carrier::WebSocket);
        }
        self.attempt(now, jitter);
    }

    /// A dial failed, or there was nothing to dial, which is no `reason`. If it was the preferred carrier, the other one
    /// need not wait.
    pub(crate) fn on_dial_failed(
        &mut self,
        relay: usize,
        carrier: Carrier,
        reason: Option<String>,
        now: Instant,
    ) {
        self.dial_ended(relay, carrier);
        if carrier == self.preferred
            && let Some(reserve) = self.reserve.take()
        {
            self.greet(reserve, now);
        }
        let (knows, was_dialled) = (self.knows(), reason.is_some());
        if let Some(search) = &mut self.search {
            if let Some(reason) = reason {
                search.reason = reason;
            }
            if search.on_failed(Try { relay, carrier }, was_dialled, knows, now) {
                return;
            }
            if let Some((at, _)) = search.second.as_mut().filter(|_| carrier == self.preferred) {
                *at = now.min(*at);
            }
            let has_none = |of: usize| self.dials.iter().all(|((to, _), dials)| *to != of || *dials == 0);
            let have_all_failed = search.second.is_none();
            if let Some((at, _)) = search.last.as_mut().filter(|(_, of)| have_all_failed && has_none(*of)) {
                *at = now.min(*at);
            }
        }
    }

    /// The machine of relay number `relay` has answered a dial over TCP; its handshake is still to come.
    pub(crate) fn on_reached(&mut self, relay: usize, now: Instant) {
        let is_dialled = self.dials.get(&(relay, Carrier::Tcp)).is_some_and(|dials| *dials > 0);
        let knows = self.knows();
        if let Some(search) = self.search.as_mut().filter(|_| is_dialled) {
            search.on_reached(relay, knows, now);
        }
    }

    /// A dial of relay number `relay` succeeded.
    pub(crate) fn on_connected(
        &mut self,
        connection: ConnectionId,
        relay: usize,
        carrier: Carrier,
        now: Instant,
    ) {
        self.dial_ended(relay, carrier);
        let is_wanted = |search: &&mut Search| search.aim == Aim::Any || carrier != Carrier::WebSocket;
        let (Some(search), None) = (self.search.as_mut().filter(is_wanted), &self.candidate) else {
            self.commands.push_back(Command::Close(connection));
            return;
        };
        // The relay is reached: what it answers, it answers over either carrier.
        (search.second, search.last) = (None, None);
        search.on_connected(relay);
        let reserve = self.reserve.take();
        let candidate = Candidate { connection, relay, carrier, until: now + HEAD_START };
        if carrier != self.preferred && reserve.is_none() {
            self.reserve = Some(candidate);
            self.dial(relay, self.preferred);
            return;
        }
        self.commands.extend(reserve.map(|reserve| Command::Close(reserve.connection)));
        self.greet(candidate, now);
    }

    fn greet(&mut self, candidate: Candidate, now: Instant) {
        self.commands.push_back(Command::Greet(candidate.connection));
        self.candidate = Some(Candidate { until: now + GREETING, ..candidate });
    }

    /// The session of a connection was welcomed. `is_idle` as in [`Self::tick`].
    pub(crate) fn on_welcomed(&mut self, connection: ConnectionId, now: Instant, is_idle: bool) {
        let is_ours = |candidate: &mut Candidate| candidate.connection == connection;
        let Some(candidate) = self.candidate.take_if(is_ours) else { return };
        if !is_idle
            && self.is_for_better()
            && let Some(current) = &mut self.current
        {
            // What has begun meanwhile is not to be cut.
            (current.better_at, self.search) = (Some(now + RECHECK), None);
            self.commands.push_back(Command::Close(connection));
            return;
        }
        let attempts = self.search.take().map_or(0, |search| search.attempts);
        self.reached_over = candidate.carrier;
        let better_at = (candidate.carrier == Carrier::WebSocket).then(|| now + BETTER);
        let current =
            Current { connection, since: now, attempts, silent_since: None, leaving: false, better_at };
        let old = self.current.replace(current);
        self.commands.push_back(Command::Online(connection));
        self.commands.extend(old.map(|old| Command::Close(old.connection)));
    }

    /// The relay refused the session of a connection, or ended it with a reason.
    pub(crate) fn on_refused(&mut self, connection: ConnectionId, refusal: Refusal, now: Instant) {
        let ours = self.current() == Some(connection) || self.is_candidate(connection);
        if !ours {
            return;
        }
        let is_better = self.is_for_better() && self.is_candidate(connection);
        match verdict::on(refusal.code) {
            // The session that stands is none the worse for what another one was refused.
            Verdict::Final if is_better => (self.candidate, self.search) = (None, None),
            Verdict::Final => self.give_up(refusal),
            Verdict::Passing => self.on_closed(connection, &refusal.message, now),
        }
        self.commands.push_back(Command::Close(connection));
    }

    /// What welcomed us is no relay of the cluster.
    pub(crate) fn on_false_relay(&mut self, connection: ConnectionId, reason: &str, now: Instant) {
        self.on_closed(connection, reason, now);
        self.commands.push_back(Command::Close(connection));
    }

    /// The relay is going to close the connection. A final reason ends everything, and the closing is left to the relay:
    /// where many nodes are told at once, their closing would compete with the telling. For any other reason we look for
    /// a new connection while this one still serves.
    pub(crate) fn on_goodbye(&mut self, connection: ConnectionId, refusal: Refusal, now: Instant) {
        if self.current() != Some(connection) {
            return;
        }
        if verdict::on(refusal.code) == Verdict::Final {
            self.current = None;
            self.farewell = Some(Farewell { connection, until: now + FAREWELL });
            self.give_up(refusal);
            return;
        }
        if let Some(current) = &mut self.current {
            current.leaving = true;
        }
        self.search_again(&refusal.message, now);
    }

    /// A ping was not answered in time.
    pub(crate) fn on_silent(&mut self, connection: ConnectionId, now: Instant) {
        let Some(current) = self.current.as_mut().filter(|current| current.connection == connection) else {
            return;
        };
        let since = *current.silent_since.get_or_insert(now);
        if now.duration_since(since) >= SILENCE {
            self.commands.push_back(Command::Close(connection));
            self.on_closed(connection, "the relay has fallen silent", now);
        } else {
            self.search_again("the relay does not answer", now);
        }
    }

    /// A ping was answered: whatever doubt there was is over.
    pub(crate) fn on_alive(&mut self, connection: ConnectionId) {
        let Some(current) = self.current.as_mut().filter(|current| current.connection == connection) else {
            return;
        };
        current.silent_since = None;
        if !current.leaving && !self.is_for_better() {
            self.search = None;
            let found = [self.candidate.take(), self.reserve.take()];
            self.commands.extend(found.into_iter().flatten().map(|found| Command::Close(found.connection)));
        }
    }

    /// The session of a connection is over, and the connection of no use.
    pub(crate) fn on_ended(&mut self, connection: ConnectionId, reason: &str, now: Instant) {
        if self.farewell.as_ref().is_some_and(|farewell| farewell.connection == connection) {
            return;
        }
        self.on_closed(connection, reason, now);
        self.commands.push_back(Command::Close(connection));
    }

    /// A connection is gone.
    pub(crate) fn on_closed(&mut self, connection: ConnectionId, reason: &str, now: Instant) {
        self.reserve.take_if(|reserve| reserve.connection == connection);
        self.farewell.take_if(|farewell| farewell.connection == connection);
        if let Some(lost) = self.candidate.take_if(|candidate| candidate.connection == connection)
            && let Some(search) = &mut self.search
        {
            reason.clone_into(&mut search.reason);
            search.on_lost(lost.relay, false);
        }
        if self.current() == Some(connection) {
            self.search_again(reason, now);
            self.current = None;
            let attempt = self.search.as_ref().map_or(0, |search| search.attempts);
            self.commands.push_back(Command::Offline { attempt, reason: reason.to_owned() });
        }
    }

    fn is_candidate(&self, connection: ConnectionId) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.connection == connection)
    }

    /// Searches, unless it does already. After a session that did not last, the pauses go on where they were.
    fn search_again(&mut self, reason: &str, now: Instant) {
        if (self.search.is_some() && !self.is_for_better()) || self.refused {
            return;
        }
        let lasted = self.current.as_ref().filter(|current| now.duration_since(current.since) < STABLE);
        let attempts = lasted.map_or(0, |current| current.attempts);
        let pause = backoff::delay(attempts, Duration::ZERO, 0);
        self.search = Some(Search::new(attempts, now, now + pause, reason, true));
    }

    fn is_for_better(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.aim == Aim::Better)
    }

    /// Begins to look for a better carrier, or ends that.
    fn look_for_better(&mut self, now: Instant, jitter: u32, is_idle: bool) {
        let is_over =
            |search: &mut Search| search.aim == Aim::Better && search.attempts > 0 && search.next <= now;
        self.search.take_if(is_over);
        let (None, Some(current)) = (&self.search, &mut self.current) else { return };
        if current.better_at.take_if(|at| *at <= now).is_some() {
            current.better_at = Some(now + if is_idle { BETTER } else { RECHECK });
            if is_idle {
                // A fleet that came so at one moment does not look at one.
                let spread = (BETTER / 2).mul_f64(f64::from(jitter) / f64::from(u32::MAX));
                self.search = Some(Search::for_better(now, now + spread));
            }
        }
    }

    fn attempt(&mut self, now: Instant, jitter: u32) {
        let knows = self.knows();
        let Some(search) = self.search.as_mut().filter(|search| search.next <= now) else { return };
        let tried = search.attempt(knows, now, jitter);
        if self.current.is_none() {
            let (attempt, reason) = (search.attempts, search.reason.clone());
            self.commands.push_back(Command::Offline { attempt, reason });
        }
        if let Some(Try { relay, carrier }) = tried {
            self.dial(relay, carrier);
        }
    }

    fn knows(&self) -> Knows {
        Knows { relays: self.relays, preferred: self.preferred, reached_over: self.reached_over }
    }

    fn dial(&mut self, relay: usize, carrier: Carrier) {
        let dials = self.dials.entry((relay, carrier)).or_default();
        if *dials < MOST_DIALS {
            *dials += 1;
            self.commands.push_back(Command::Dial { relay, carrier });
        }
    }

    fn dial_ended(&mut self, relay: usize, carrier: Carrier) {
        if let Some(dials) = self.dials.get_mut(&(relay, carrier)) {
            *dials = dials.saturating_sub(1);
        }
    }

    fn fail_candidate(&mut self, reason: &str) {
        let Some(candidate) = self.candidate.take() else { return };
        self.commands.push_back(Command::Close(candidate.connection));
        if let Some(search) = &mut self.search {
            reason.clone_into(&mut search.reason);
            search.on_lost(candidate.relay, true);
        }
    }

    fn give_up(&mut self, refusal: Refusal) {
        self.refused = true;
        self.search = None;
        let connections = [
            self.current.take().map(|current| current.connection),
            self.candidate.take().map(|candidate| candidate.connection),
            self.reserve.take().map(|reserve| reserve.connection),
        ];
        self.commands.extend(connections.into_iter().flatten().map(Command::Close));
        self.commands.push_back(Command::GiveUp(refusal));
    }
}

#[cfg(test)]
mod tests;
