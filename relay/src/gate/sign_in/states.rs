//! Ways back from a provider that were used, so that each asks it once. In memory that does not grow: at the bound the older are
//! forgotten. With one that was, a provider is asked once more, and refuses the code.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use super::PATIENCE;

/// For so many seconds they go into one set, which is kept for as long again.
const AGE: u64 = PATIENCE;
/// Of one age.
const MOST: usize = 32 * 1024;

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(in super::super) struct States {
    since: u64,
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
}

impl States {
    /// Notes that a state is used at this second; `false` if it was before.
    pub(super) fn spend(&mut self, state: &str, now: u64) -> bool {
        let age = now.saturating_sub(self.since);
        if age >= 2 * AGE {
            self.young.clear();
        }
        if age >= AGE || self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
        let state = digest(state);
        !self.old.contains(&state) && self.young.insert(state)
    }

    /// Nobody was asked: it may be used yet.
    pub(super) fn give_back(&mut self, state: &str) {
        let state = digest(state);
        self.young.remove(&state);
        self.old.remove(&state);
    }
}

fn digest(state: &str) -> [u8; 32] {
    Sha256::digest(state.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;

    #[test]
    fn a_state_is_used_once_for_as_long_as_it_lives() {
        let mut states = States::default();
        assert!(states.spend("first", START));
        for begun in [START + 1, START + AGE - 1] {
            let state = begun.to_string();
            assert!(states.spend(&state, begun));
            for later in [0, 1, PATIENCE - 1, PATIENCE] {
                assert!(!states.spend(&state, begun + later), "{later}");
            }
        }
        assert!(states.spend("first", START + 10 * AGE), "it does not grow");
        assert_eq!(states.young.len() + states.old.len(), 1);
        assert!(!states.spend("first", START), "by a clock that was set back nothing is forgotten");
        states.give_back("first");
        assert!(states.spend("first", START));
    }

    #[test]
    fn at_the_bound_the_older_are_forgotten_and_nobody_is_refused() {
        let mut states = States::default();
        for number in 0..5 * MOST {
            assert!(states.spend(&number.to_string(), START));
        }
        assert!(states.young.len() + states.old.len() <= 2 * MOST);
        assert!(!states.spend(&(5 * MOST - 1).to_string(), START));
    }
}
