//! The node that shares takes part in looking for a direct path: it answers, and dials when it is told to. Pure, like its
//! [other end](super::asking).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use mytunnel_keys::wire::direct::Word;

use super::asking::{Command, GATHERING, Outcome, ROUNDS};

/// How soon after a conversation was begun the other end may begin another.
const PACE: Duration = Duration::from_secs(2);

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Answering {
    stage: Stage,
    /// When the last conversation was begun.
    since: Option<Instant>,
    has_dialled: bool,
    commands: VecDeque<Command>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Begun,
    Gathering {
        until: Instant,
    },
    Offered {
        rounds: usize,
        /// When we dialled last.
        since: Option<Instant>,
    },
}

impl Answering {
    pub(crate) fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Self::tick`].
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Gathering { until } => Some(until),
            Stage::Idle | Stage::Begun | Stage::Offered { .. } => None,
        }
    }

    /// What the last conversation has shown.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.stage == Stage::Idle && self.has_dialled { Outcome::Tried } else { Outcome::None }
    }

    /// The time has come.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.next_timeout().is_some_and(|at| at <= now) {
            self.on_gathered();
        }
    }

    /// The other end begins a conversation; whether it may.
    pub(crate) fn on_begun(&mut self, now: Instant) -> bool {
        let may = self.since.is_none_or(|since| now.duration_since(since) >= PACE);
        if may {
            (self.stage, self.since) = (Stage::Begun, Some(now));
        }
        may
    }

    /// The other end has said something.
    pub(crate) fn on_word(&mut self, word: &Word, now: Instant) {
        match (self.stage, word) {
            (Stage::Begun, Word::Offer { .. }) => {
                self.stage = Stage::Gathering { until: now + GATHERING };
                self.commands.push_back(Command::Gather);
            }
            (Stage::Offered { .. }, Word::Ready) => self.commands.push_back(Command::Say(Word::Ready)),
            (Stage::Offered { rounds, since }, Word::Go) if rounds < ROUNDS.len() => {
                self.has_dialled = true;
                if is_due(rounds, since, now) {
                    self.commands.push_back(Command::Dial);
                    self.stage = Stage::Offered { rounds: rounds + 1, since: Some(now) };
                } else {
                    self.stage = Stage::Offered { rounds: rounds + 1, since };
                }
            }
            _ => {
                self.stage = Stage::Idle;
                self.commands.push_back(Command::HangUp);
            }
        }
    }

    /// Whether it waits for where we are seen.
    pub(crate) fn is_gathering(&self) -> bool {
        matches!(self.stage, Stage::Gathering { .. })
    }

    /// Where we are seen is known, as far as it can be.
    pub(crate) fn on_gathered(&mut self) {
        if let Stage::Gathering { .. } = self.stage {
            self.stage = Stage::Offered { rounds: 0, since: None };
            self.commands.push_back(Command::Offer);
        }
    }

    /// The conversation has ended.
    pub(crate) fn on_hung_up(&mut self) {
        self.stage = Stage::Idle;
    }
}

/// Whether the round before has had its time, or half of it: words come late on a bad line, and then close behind each other.
fn is_due(round: usize, since: Option<Instant>, now: Instant) -> bool {
    let before = round.checked_sub(1).and_then(|before| ROUNDS.get(before));
    since.zip(before).is_none_or(|(since, before)| now.duration_since(since) >= *before / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Word {
        Word::Offer { candidates: Vec::new() }
    }

    fn commands(answering: &mut Answering) -> Vec<Command> {
        std::iter::from_fn(|| answering.next_command()).collect()
    }

    fn after(answering: &mut Answering, word: &Word) -> Vec<Command> {
        answering.on_word(word, Instant::now());
        commands(answering)
    }

    /// Has answered an offer by its own.
    fn offered(now: Instant) -> Answering {
        let mut answering = Answering::default();
        assert!(answering.on_begun(now));
        answering.on_word(&offer(), now);
        answering.on_gathered();
        assert_eq!(commands(&mut answering), [Command::Gather, Command::Offer]);
        answering
    }

    #[test]
    fn it_dials_when_it_is_told_to_and_not_for_ever() {
        let mut now = Instant::now();
        let mut answering = offered(now);
        assert_eq!(answering.outcome(), Outcome::None);
        for round in ROUNDS {
            assert_eq!(after(&mut answering, &Word::Ready), [Command::Say(Word::Ready)]);
            answering.on_word(&Word::Go, now);
            assert_eq!(commands(&mut answering), [Command::Dial]);
            now += round;
        }
        assert_eq!(after(&mut answering, &Word::Go), [Command::HangUp]);
        assert_eq!(answering.outcome(), Outcome::Tried);
        assert_eq!(after(&mut answering, &Word::Go), [Command::HangUp], "the conversation is over");
    }

    #[test]
    fn who_says_go_four_times_at_once_is_dialled_once() {
        let now = Instant::now();
        let mut answering = offered(now);
        for _ in ROUNDS {
            answering.on_word(&Word::Go, now);
        }
        assert_eq!(commands(&mut answering), [Command::Dial]);
        answering.on_word(&Word::Go, now);
        assert_eq!(commands(&mut answering), [Command::HangUp], "those rounds are gone");
    }

    #[test]
    fn words_out_of_order_end_it() {
        let now = Instant::now();
        for word in [Word::Go, Word::Ready, Word::Declined] {
            let mut answering = Answering::default();
            answering.on_begun(now);
            assert_eq!(after(&mut answering, &word), [Command::HangUp], "{word:?} before an offer");
        }
        assert_eq!(after(&mut offered(now), &offer()), [Command::HangUp]);
    }

    #[test]
    fn where_nobody_says_where_we_are_seen_the_rest_is_offered() {
        let (mut answering, now) = (Answering::default(), Instant::now());
        answering.on_begun(now);
        answering.on_word(&offer(), now);
        answering.tick(now);
        assert_eq!(commands(&mut answering), [Command::Gather]);
        assert_eq!(answering.next_timeout(), Some(now + GATHERING));
        answering.tick(now + GATHERING);
        assert_eq!(commands(&mut answering), [Command::Offer]);
        assert_eq!(answering.next_timeout(), None);
    }

    #[test]
    fn conversations_have_a_pace() {
        let (mut answering, now) = (Answering::default(), Instant::now());
        assert!(answering.on_begun(now) && !answering.on_begun(now) && answering.on_begun(now + PACE));
    }
}
