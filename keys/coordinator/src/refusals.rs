//! How many refusals the audit log takes: whoever knocks more often is still refused, but fills nothing.
//!
//! What is not written is counted, and the count is written from time to time, so that nobody hides among many.

use std::hash::Hash;

use crate::sketch::{Limit, Sketch};

/// Rows that the refusals of one actor may add in a minute.
const OF_ACTOR: Limit = Limit { tries: 20, window: 60 };
/// The same for all actors together.
const OF_ALL: Limit = Limit { tries: 600, window: 60 };
/// The same in a day: some megabytes.
const IN_A_DAY: Limit = Limit { tries: 20_000, window: 24 * 3600 };

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Refusals {
    of_actor: Sketch,
    of_all: Sketch,
    in_a_day: Sketch,
    unwritten: u64,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self {
            of_actor: Sketch::new(OF_ACTOR),
            of_all: Sketch::new(OF_ALL),
            in_a_day: Sketch::new(IN_A_DAY),
            unwritten: 0,
        }
    }

    /// May this actor add one more?
    pub(crate) fn admit(&mut self, actor: &impl Hash, now: u64) -> bool {
        let admitted = self.of_actor.admit(actor, now).is_ok()
            && self.of_all.admit(&(), now).is_ok()
            && self.in_a_day.admit(&(), now).is_ok();
        if !admitted {
            self.unwritten = self.unwritten.saturating_add(1);
        }
        admitted
    }

    /// How many were not written since this was asked for last.
    pub(crate) fn take_unwritten(&mut self) -> u64 {
        std::mem::take(&mut self.unwritten)
    }

    pub(crate) const fn unwritten(&self) -> u64 {
        self.unwritten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_actor_many_and_all_of_a_day_have_their_bounds_and_the_rest_is_counted() {
        let mut refusals = Refusals::new();
        let written = |refusals: &mut Refusals, actor: u64, now: u64| refusals.admit(&actor, now);
        assert_eq!((0..50).filter(|_| written(&mut refusals, 1, 1000)).count(), 20);
        assert_eq!((refusals.unwritten(), refusals.take_unwritten(), refusals.take_unwritten()), (30, 30, 0));
        assert!(written(&mut refusals, 1, 1060), "in the next minute again");

        // As many as there are addresses, for two days.
        let mut refusals = Refusals::new();
        let mut count = 0;
        for minute in 0..2 * 24 * 60 {
            count += (0..1000).filter(|actor| written(&mut refusals, *actor, 864_000 + minute * 60)).count();
        }
        assert!(count <= 2 * 20_000, "{count}");
        assert_eq!(refusals.unwritten(), 2 * 24 * 60 * 1000 - count as u64);
    }
}
