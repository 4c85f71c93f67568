//! Tickets that were used, in memory that does not grow: each is good for a minute, and remembered for longer.

use std::collections::HashSet;

use crate::ingress::failure::Failure;

/// For so many seconds tickets go into one set.
const AGE: u64 = 120;
/// Tickets of one age. More are not taken: forgetting one would let it be used twice.
const MOST: usize = 32 * 1024;

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(in super::super) struct Spent {
    age: u64,
    young: HashSet<String>,
    old: HashSet<String>,
}

impl Spent {
    /// Notes that a ticket is used at this second, if it was not before.
    pub(in super::super) fn spend(&mut self, ticket: &str, now: u64) -> Result<(), Failure> {
        let age = now / AGE;
        if age > self.age {
            let last = std::mem::take(&mut self.young);
            self.old = if age == self.age + 1 { last } else { HashSet::new() };
            self.age = age;
        }
        if self.young.contains(ticket) || self.old.contains(ticket) {
            return Err(Failure::SignInStale);
        }
        if self.young.len() >= MOST {
            return Err(Failure::GateBusy);
        }
        self.young.insert(ticket.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_for_longer_than_it_lives() {
        let mut spent = Spent::default();
        let start = 1_800_000_000 / AGE * AGE;
        for begun in [start, start + AGE - 1] {
            let ticket = begun.to_string();
            assert_eq!(spent.spend(&ticket, begun), Ok(()));
            for later in [0, 1, 59, 60] {
                assert_eq!(spent.spend(&ticket, begun + later), Err(Failure::SignInStale), "{later}");
            }
        }
        assert_eq!(spent.spend(&start.to_string(), start + 10 * AGE), Ok(()), "it does not grow");
        assert_eq!(spent.young.len() + spent.old.len(), 1);
        // By a clock that was set back nothing is forgotten.
        assert_eq!(spent.spend(&start.to_string(), start), Err(Failure::SignInStale));
    }

    #[test]
    fn too_many_are_not_taken() {
        let mut spent = Spent::default();
        let full = (0..=MOST).find(|number| spent.spend(&number.to_string(), 1000).is_err());
        assert_eq!(full, Some(MOST));
        assert_eq!(spent.spend("one more", 1000), Err(Failure::GateBusy));
        assert_eq!(spent.spend("one more", 1000 + AGE), Ok(()));
    }
}
