use proptest::prelude::*;

use super::*;

const TRIP: Duration = Duration::from_millis(80);

fn offer() -> Word {
    Word::Offer { candidates: Vec::new() }
}

/// An asking end and the moment it is at.
struct End {
    asking: Asking,
    now: Instant,
}

impl End {
    fn new() -> Self {
        let now = Instant::now();
        Self { asking: Asking::new(now), now }
    }

    /// Goes on to its next timeout.
    fn wait(&mut self) -> Duration {
        let at = self.asking.next_timeout().expect("it waits for something");
        let waited = at.saturating_duration_since(self.now);
        self.now += waited;
        self.asking.tick(self.now, 0);
        waited
    }

    fn hear(&mut self, word: &Word) {
        self.now += TRIP;
        self.asking.on_word(word, self.now, 0);
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.asking.next_command()).collect()
    }

    /// Up to the word that comes with the offer.
    fn offered() -> Self {
        let mut end = Self::new();
        end.wait();
        end.asking.on_gathered(end.now);
        assert_eq!(end.commands(), [Command::Gather, Command::Offer]);
        end.hear(&offer());
        end
    }
}

#[test]
fn both_ends_dial_at_the_same_moment() {
    let mut end = End::offered();
    assert_eq!(end.commands(), [Command::Say(Word::Ready)]);
    end.hear(&Word::Ready);
    assert_eq!(end.commands(), [Command::Say(Word::Go)]);
    assert_eq!(end.wait(), TRIP / 2, "the word takes as long");
    assert_eq!(end.commands(), [Command::Dial]);
    end.asking.on_direct();
    assert_eq!(end.commands(), [Command::HangUp]);
    assert_eq!(end.asking.next_timeout(), None);
}

#[test]
fn a_try_has_some_rounds_and_tries_come_ever_less_often() {
    let mut end = End::offered();
    let mut dials = 0;
    for pause in [4, 8, 16, 32, 64, 128, 256, 300, 300] {
        for _ in ROUNDS {
            end.hear(&Word::Ready);
            end.wait();
            dials += end.commands().iter().filter(|command| **command == Command::Dial).count();
            end.wait();
        }
        assert_eq!(end.asking.outcome(), Outcome::Tried);
        assert!(end.commands().contains(&Command::HangUp));
        assert_eq!(end.wait(), Duration::from_secs(pause));
        end.asking.on_gathered(end.now);
        end.hear(&offer());
        end.commands();
    }
    assert_eq!(dials, 9 * ROUNDS.len());
}

#[test]
fn an_answer_that_does_not_come_or_makes_no_sense_ends_the_try() {
    let fails = |mut end: End, outcome| {
        assert_eq!(end.asking.outcome(), outcome);
        assert!(end.commands().contains(&Command::HangUp));
        assert_eq!(end.wait(), PAUSE);
    };
    let mut late = End::offered();
    assert_eq!(late.wait(), ANSWER);
    fails(late, Outcome::Silent);
    let mut nonsense = End::offered();
    nonsense.hear(&offer());
    fails(nonsense, Outcome::Silent);
    let mut gone = End::offered();
    gone.asking.on_hung_up(gone.now, 0);
    fails(gone, Outcome::Silent);
    let mut declined = End::new();
    declined.wait();
    declined.asking.on_gathered(declined.now);
    declined.hear(&Word::Declined);
    assert_eq!(declined.asking.outcome(), Outcome::Declined);
    assert!(declined.commands().contains(&Command::HangUp));
    declined.asking.on_change(declined.now);
    assert_eq!(declined.asking.next_timeout(), None, "it is shown our addresses once, not again and again");
}

#[test]
fn where_nobody_says_where_we_are_seen_the_rest_is_offered() {
    let mut end = End::new();
    end.wait();
    assert_eq!(end.wait(), GATHERING);
    assert_eq!(end.commands(), [Command::Gather, Command::Offer]);
}

#[test]
fn what_is_dialled_may_still_stand_when_the_conversation_breaks() {
    let mut end = End::offered();
    end.hear(&Word::Ready);
    end.wait();
    end.asking.on_hung_up(end.now, 0);
    end.commands();
    assert_eq!(end.wait(), ROUNDS[0]);
    assert_eq!(end.asking.outcome(), Outcome::Tried, "there is no other round without the other end");
}

#[test]
fn a_lost_path_and_a_changed_network_are_tried_at_once() {
    let mut end = End::offered();
    end.asking.on_direct();
    end.asking.on_lost(end.now);
    assert_eq!(end.wait(), SETTLING);
    let mut end = End::offered();
    end.wait();
    end.asking.on_change(end.now);
    assert_eq!(end.wait(), SETTLING);
    let before = end.asking.next_timeout();
    end.asking.on_change(end.now);
    assert_eq!(end.asking.next_timeout(), before, "what is under way goes on");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Wait,
    Gathered,
    Hear(u8),
    HungUp,
    Direct,
    Lost,
    Change,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Wait),
        2 => Just(Step::Gathered),
        4 => (0u8..4).prop_map(Step::Hear),
        1 => Just(Step::HungUp),
        1 => Just(Step::Direct),
        1 => Just(Step::Lost),
        1 => Just(Step::Change),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_goes_on_and_dials_no_more_than_it_should(steps in prop::collection::vec(step(), 1..200)) {
        let mut end = End::new();
        let (mut dials, began) = (0u32, end.now);
        let mut direct = false;
        let mut changes = 1u32;
        for step in steps {
            match step {
                Step::Wait if end.asking.next_timeout().is_some() => drop(end.wait()),
                Step::Wait => {}
                Step::Gathered => end.asking.on_gathered(end.now),
                Step::Hear(0) => end.hear(&offer()),
                Step::Hear(1) => end.hear(&Word::Ready),
                Step::Hear(2) => end.hear(&Word::Go),
                Step::Hear(_) => end.hear(&Word::Declined),
                Step::HungUp => end.asking.on_hung_up(end.now, u32::MAX),
                Step::Direct => {
                    end.asking.on_direct();
                    direct = true;
                }
                Step::Lost => {
                    end.asking.on_lost(end.now);
                    direct = false;
                    changes += 1;
                }
                Step::Change => {
                    end.asking.on_change(end.now);
                    changes += 1;
                }
            }
            dials += end.commands().iter().filter(|command| **command == Command::Dial).count() as u32;
            let is_over = direct || end.asking.phase == Phase::Declined;
            prop_assert_eq!(end.asking.next_timeout().is_none(), is_over, "it waits for something, unless there is a path");
        }
        let tries = changes + end.now.duration_since(began).as_secs() as u32 / 4;
        prop_assert!(dials <= ROUNDS.len() as u32 * (tries + 1));
    }
}
