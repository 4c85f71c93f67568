//! Keeps a way through one relay to a node that serves a private name: when to ask for it, whom to dial, and when to try
//! again.
//!
//! The owner calls the `on_*` methods with what happened and [`Reach::tick`] when [`Reach::next_timeout`] has come, and
//! after each call carries out what [`Reach::next_command`] gives until it gives nothing.
//!
//! The relay names the nodes that serve the name; of those that are [to be tried](super::faith) each is dialled in turn
//! until one shows that it is one.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use libp2p::swarm::ConnectionId;
use mytunnel_keys::{error::Code, id::PublicKey};

use super::{
    backoff,
    link::Refusal,
    verdict::{self, Verdict},
};

/// Time for the relay's answer, for a dial, and for a greeting.
const ANSWER: Duration = Duration::from_secs(10);

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Ask the relay for the name.
    Find,
    /// Dial this node through the relay, and say which dial it is by [`Reach::on_dialling`].
    Dial(PublicKey),
    /// Show it our certificate, and look at its own.
    Greet(ConnectionId),
    /// Close the connection.
    Close(ConnectionId),
    /// A try has failed.
    Away { attempt: u32, reason: String },
    /// There is none through this relay, which is asked again later.
    Nowhere(Refusal),
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Reach {
    is_online: bool,
    phase: Phase,
    /// Tries that failed in a row.
    failures: u32,
    /// When the way was lost, or looked for first.
    since: Instant,
    commands: VecDeque<Command>,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: Instant },
    Asked { until: Instant },
    Dialling { dial: Option<ConnectionId>, tried: Tried, until: Instant },
    Greeting { connection: ConnectionId, tried: Tried, until: Instant },
    Standing { connection: ConnectionId },
}

/// A node that is being tried, and those that are left.
#[derive(Debug, Clone)]
struct Tried {
    now: PublicKey,
    rest: Vec<PublicKey>,
}

impl Reach {
    /// Looks for a way from now on.
    pub(crate) fn new(is_online: bool, now: Instant) -> Self {
        Self {
            is_online,
            phase: Phase::Waiting { until: now },
            failures: 0,
            since: now,
            commands: VecDeque::new(),
        }
    }

    /// What to do next.
    pub(crate) fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Self::tick`].
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => self.is_online.then_some(until),
            Phase::Asked { until } | Phase::Dialling { until, .. } | Phase::Greeting { until, .. } => {
                Some(until)
            }
            Phase::Standing { .. } => None,
        }
    }

    /// The time has come. `jitter` is random.
    pub(crate) fn tick(&mut self, now: Instant, jitter: u32) {
        if self.next_timeout().is_none_or(|at| at > now) {
            return;
        }
        match &self.phase {
            Phase::Waiting { .. } => {
                self.phase = Phase::Asked { until: now + ANSWER };
                self.commands.push_back(Command::Find);
            }
            Phase::Asked { .. } => self.fail("the relay does not answer", now, jitter),
            Phase::Dialling { tried, .. } => {
                let tried = tried.clone();
                self.try_next(tried, "the other node does not answer", now, jitter);
            }
            Phase::Greeting { connection, tried, .. } => {
                let tried = tried.clone();
                self.commands.push_back(Command::Close(*connection));
                self.try_next(tried, "the other node does not answer", now, jitter);
            }
            Phase::Standing { .. } => {}
        }
    }

    /// A relay session stands.
    pub(crate) fn on_online(&mut self, now: Instant) {
        self.is_online = true;
        self.wait_anew(now);
    }

    /// No relay session stands. A way through it breaks by itself.
    pub(crate) fn on_offline(&mut self, now: Instant) {
        self.is_online = false;
        self.wait_anew(now);
    }

    /// Leaves what is under way. A connection that stands is kept; one that was not welcomed yet is of no use any more.
    fn wait_anew(&mut self, now: Instant) {
        match self.phase {
            Phase::Standing { .. } => return,
            Phase::Greeting { connection, .. } => self.commands.push_back(Command::Close(connection)),
            Phase::Waiting { .. } | Phase::Asked { .. } | Phase::Dialling { .. } => {}
        }
        self.phase = Phase::Waiting { until: now };
    }

    /// The relay has named nodes that serve the name; these are to be tried. `Err` says why none is.
    pub(crate) fn on_found(&mut self, peers: Result<Vec<PublicKey>, &str>, now: Instant, jitter: u32) {
        if !matches!(self.phase, Phase::Asked { .. }) {
            return;
        }
        match peers {
            Ok(mut rest) => {
                rest.reverse();
                match rest.pop() {
                    Some(first) => self.dial(Tried { now: first, rest }, now),
                    None => self.fail("no node serves it", now, jitter),
                }
            }
            Err(reason) => self.fail(reason, now, jitter),
        }
    }

    /// The relay knows no such node, or does not tell us. A name that `was_there` may be back soon.
    pub(crate) fn on_not_found(&mut self, refusal: Refusal, was_there: bool, now: Instant, jitter: u32) {
        if !matches!(self.phase, Phase::Asked { .. }) {
            return;
        }
        let is_away = refusal.code == Code::NotFound && was_there;
        if is_away || verdict::on(refusal.code) == Verdict::Passing {
            self.fail(&refusal.message, now, jitter);
        } else {
            self.rest(refusal, now, jitter);
        }
    }

    /// The dial is under way that was wanted last.
    pub(crate) fn on_dialling(&mut self, connection: ConnectionId) {
        if let Phase::Dialling { dial, .. } = &mut self.phase {
            *dial = Some(connection);
        }
    }

    /// A dial came to nothing, or could not even begin.
    pub(crate) fn on_dial_failed(
        &mut self,
        failed: Option<ConnectionId>,
        reason: &str,
        now: Instant,
        jitter: u32,
    ) {
        if let Phase::Dialling { dial, tried, .. } = &self.phase
            && *dial == failed
        {
            let tried = tried.clone();
            self.try_next(tried, reason, now, jitter);
        }
    }

    /// A dial has led to a connection.
    pub(crate) fn on_connected(&mut self, connection: ConnectionId, now: Instant) {
        match &self.phase {
            Phase::Dialling { dial, tried, .. } if *dial == Some(connection) => {
                let tried = tried.clone();
                self.commands.push_back(Command::Greet(connection));
                self.phase = Phase::Greeting { connection, tried, until: now + ANSWER };
            }
            // It was given up meanwhile.
            Phase::Waiting { .. }
            | Phase::Asked { .. }
            | Phase::Dialling { .. }
            | Phase::Greeting { .. }
            | Phase::Standing { .. } => self.commands.push_back(Command::Close(connection)),
        }
    }

    /// The other end has shown that it serves the name.
    pub(crate) fn on_welcomed(&mut self, connection: ConnectionId) {
        if self.greeted(connection).is_some() {
            self.failures = 0;
            self.phase = Phase::Standing { connection };
        }
    }

    /// The other end does not let us in.
    pub(crate) fn on_refused(
        &mut self,
        connection: ConnectionId,
        refusal: Refusal,
        now: Instant,
        jitter: u32,
    ) {
        let Some(tried) = self.greeted(connection) else { return };
        self.commands.push_back(Command::Close(connection));
        let is_final = verdict::on(refusal.code) == Verdict::Final && refusal.code != Code::NotFound;
        if is_final && tried.rest.is_empty() {
            self.rest(refusal, now, jitter);
        } else {
            self.try_next(tried, &refusal.message, now, jitter);
        }
    }

    /// The other end is not the one that was looked for, or says nothing.
    pub(crate) fn on_false_host(
        &mut self,
        connection: ConnectionId,
        reason: &str,
        now: Instant,
        jitter: u32,
    ) {
        let Some(tried) = self.greeted(connection) else { return };
        self.commands.push_back(Command::Close(connection));
        self.try_next(tried, reason, now, jitter);
    }

    /// A connection is gone.
    pub(crate) fn on_closed(&mut self, connection: ConnectionId, now: Instant, jitter: u32) {
        if let Some(tried) = self.greeted(connection) {
            self.try_next(tried, "the connection to the other node broke", now, jitter);
        } else if matches!(self.phase, Phase::Standing { connection: held } if held == connection) {
            (self.since, self.failures) = (now, 0);
            self.phase = Phase::Waiting { until: now };
        }
    }

    fn greeted(&self, connection: ConnectionId) -> Option<Tried> {
        match &self.phase {
            Phase::Greeting { connection: greeted, tried, .. } if *greeted == connection => {
                Some(tried.clone())
            }
            Phase::Waiting { .. }
            | Phase::Asked { .. }
            | Phase::Dialling { .. }
            | Phase::Greeting { .. }
            | Phase::Standing { .. } => None,
        }
    }

    fn dial(&mut self, tried: Tried, now: Instant) {
        self.commands.push_back(Command::Dial(tried.now));
        self.phase = Phase::Dialling { dial: None, tried, until: now + ANSWER };
    }

    fn try_next(&mut self, mut tried: Tried, reason: &str, now: Instant, jitter: u32) {
        match tried.rest.pop() {
            Some(next) => self.dial(Tried { now: next, rest: tried.rest }, now),
            None => self.fail(reason, now, jitter),
        }
    }

    fn fail(&mut self, reason: &str, now: Instant, jitter: u32) {
        self.pause(now, jitter);
        self.commands.push_back(Command::Away { attempt: self.failures, reason: reason.to_owned() });
    }

    fn rest(&mut self, refusal: Refusal, now: Instant, jitter: u32) {
        self.pause(now, jitter);
        self.commands.push_back(Command::Nowhere(refusal));
    }

    fn pause(&mut self, now: Instant, jitter: u32) {
        self.failures = self.failures.saturating_add(1);
        let pause = backoff::delay(self.failures, now.duration_since(self.since), jitter);
        self.phase = Phase::Waiting { until: now + pause };
    }
}

#[cfg(test)]
mod tests;
