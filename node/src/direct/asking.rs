//! The node that reaches a share looks for a direct path: when it tries, what it says, and when both dial.
//!
//! A try gathers our addresses, offers them, and goes through some rounds, each of which ends with both ends dialling at the
//! same moment. It is made as soon as there is a relayed path; again, ever less often, while there is no direct one; and at once when a
//! direct one was lost or the network has changed. Pure: time and chance are passed in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use mytunnel_keys::wire::direct::Word;

/// Time for the relay to say where it sees us. What it says later is of use in the next try.
pub(super) const GATHERING: Duration = Duration::from_millis(1200);

/// Time for an answer of the other end, which may be gathering itself.
const ANSWER: Duration = Duration::from_secs(5);

/// How long each round waits for one of its dials before the next is begun. The other end has to take part in so many.
pub(super) const ROUNDS: [Duration; 4] = [
    Duration::from_millis(800),
    Duration::from_millis(1500),
    Duration::from_millis(3000),
    Duration::from_millis(6000),
];

/// Pause after the first try that came to nothing, and the longest.
const PAUSE: Duration = Duration::from_secs(4);
const LONGEST: Duration = Duration::from_secs(300);

/// A network that has just changed goes on changing for a moment.
const SETTLING: Duration = Duration::from_millis(300);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Find out where we are seen, and answer with [`Asking::on_gathered`].
    Gather,
    /// Open a conversation and offer our addresses.
    Offer,
    Say(Word),
    /// Dial what the other end has offered.
    Dial,
    /// End the conversation, if there is one.
    HangUp,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Asking {
    phase: Phase,
    /// Tries in a row that came to nothing.
    failures: u32,
    outcome: Outcome,
    commands: VecDeque<Command>,
}

/// What the last try has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There was none.
    None,
    /// The other end does not speak of it, or says nothing.
    Silent,
    /// Its owner does not want it.
    Declined,
    /// Everything was tried.
    Tried,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Resting {
        until: Instant,
    },
    Gathering {
        until: Instant,
    },
    Offering {
        until: Instant,
    },
    Measuring {
        round: usize,
        since: Instant,
        until: Instant,
    },
    /// The other end has the word to dial at `until`.
    Going {
        round: usize,
        until: Instant,
    },
    Dialling {
        round: usize,
        until: Instant,
    },
    Direct,
    /// The other end wants none: it is not shown our addresses again.
    Declined,
}

impl Asking {
    /// Begins at once.
    pub(crate) fn new(now: Instant) -> Self {
        let phase = Phase::Resting { until: now };
        Self { phase, failures: 0, outcome: Outcome::None, commands: VecDeque::new() }
    }

    pub(crate) fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Self::tick`].
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Resting { until }
            | Phase::Gathering { until }
            | Phase::Offering { until }
            | Phase::Measuring { until, .. }
            | Phase::Going { until, .. }
            | Phase::Dialling { until, .. } => Some(until),
            Phase::Direct | Phase::Declined => None,
        }
    }

    /// What the last try has shown.
    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The time has come. `jitter` is random.
    pub(crate) fn tick(&mut self, now: Instant, jitter: u32) {
        if self.next_timeout().is_none_or(|at| at > now) {
            return;
        }
        match self.phase {
            Phase::Resting { .. } => {
                self.phase = Phase::Gathering { until: now + GATHERING };
                self.commands.push_back(Command::Gather);
            }
            Phase::Gathering { .. } => self.on_gathered(now),
            Phase::Offering { .. } | Phase::Measuring { .. } => self.fail(Outcome::Silent, now, jitter),
            Phase::Going { round, .. } => {
                self.commands.push_back(Command::Dial);
                self.phase = Phase::Dialling { round, until: now + ROUNDS[round] };
            }
            Phase::Dialling { round, .. } if round + 1 < ROUNDS.len() => self.measure(round + 1, now),
            Phase::Dialling { .. } => self.fail(Outcome::Tried, now, jitter),
            Phase::Direct | Phase::Declined => {}
        }
    }

    /// Whether it waits for where we are seen.
    pub(crate) fn is_gathering(&self) -> bool {
        matches!(self.phase, Phase::Gathering { .. })
    }

    /// Where we are seen is known, as far as it can be.
    pub(crate) fn on_gathered(&mut self, now: Instant) {
        if let Phase::Gathering { .. } = self.phase {
            self.phase = Phase::Offering { until: now + ANSWER };
            self.commands.push_back(Command::Offer);
        }
    }

    /// The other end has said something.
    pub(crate) fn on_word(&mut self, word: &Word, now: Instant, jitter: u32) {
        match (self.phase, word) {
            (Phase::Offering { .. }, Word::Offer { .. }) => self.measure(0, now),
            (Phase::Measuring { round, since, .. }, Word::Ready) => {
                self.commands.push_back(Command::Say(Word::Go));
                // It takes the word for half of what both took.
                self.phase = Phase::Going { round, until: now + now.duration_since(since) / 2 };
            }
            (Phase::Offering { .. }, Word::Declined) => {
                self.fail(Outcome::Declined, now, jitter);
                self.phase = Phase::Declined;
            }
            (Phase::Direct | Phase::Declined | Phase::Resting { .. } | Phase::Gathering { .. }, _) => {}
            _ => self.fail(Outcome::Silent, now, jitter),
        }
    }

    /// The conversation has ended without us. What is being dialled may still stand.
    pub(crate) fn on_hung_up(&mut self, now: Instant, jitter: u32) {
        match self.phase {
            Phase::Offering { .. } | Phase::Measuring { .. } => self.fail(Outcome::Silent, now, jitter),
            Phase::Going { .. } => self.fail(Outcome::Tried, now, jitter),
            Phase::Dialling { until, .. } => self.phase = Phase::Dialling { round: ROUNDS.len() - 1, until },
            Phase::Resting { .. } | Phase::Gathering { .. } | Phase::Direct | Phase::Declined => {}
        }
    }

    /// There is a direct path.
    pub(crate) fn on_direct(&mut self) {
        (self.phase, self.failures, self.outcome) = (Phase::Direct, 0, Outcome::None);
        self.commands.push_back(Command::HangUp);
    }

    /// There is none any more.
    pub(crate) fn on_lost(&mut self, now: Instant) {
        if self.phase == Phase::Direct {
            self.phase = Phase::Resting { until: now + SETTLING };
        }
    }

    /// This machine's addresses are others than before: what was in the way may be so no longer.
    pub(crate) fn on_change(&mut self, now: Instant) {
        if let Phase::Resting { until } = &mut self.phase {
            self.failures = 0;
            *until = (*until).min(now + SETTLING);
        }
    }

    fn measure(&mut self, round: usize, now: Instant) {
        self.commands.push_back(Command::Say(Word::Ready));
        self.phase = Phase::Measuring { round, since: now, until: now + ANSWER };
    }

    fn fail(&mut self, outcome: Outcome, now: Instant, jitter: u32) {
        let pause = PAUSE.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        // A fifth more at most, so that not everybody tries again at the same moment.
        let pause = pause + pause.mul_f64(f64::from(jitter) / f64::from(u32::MAX) / 5.0);
        self.failures = self.failures.saturating_add(1);
        (self.phase, self.outcome) = (Phase::Resting { until: now + pause }, outcome);
        self.commands.push_back(Command::HangUp);
    }
}

#[cfg(test)]
mod tests;
