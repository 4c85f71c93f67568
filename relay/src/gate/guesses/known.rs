//! From which networks something was right at a tunnel, and how many guesses were refused there since.
//!
//! Nowhere else can an answer from memory tell a right guess from a wrong one, so that nothing is counted elsewhere: a flood
//! from whatever many networks leaves no trace here, at its own tunnel or at another.

use std::{collections::HashMap, net::IpAddr};

use mytunnel_keys::sketch::{Limit, RetryAfter};

use super::At;

/// Places in one generation. At the bound the older of two generations is forgotten; what was right there is checked again.
const GENERATION: usize = 16 * 1024;

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Known {
    limit: Limit,
    young: HashMap<Place, Refused>,
    old: HashMap<Place, Refused>,
}

/// A tunnel, and a network from which something was right there.
type Place = (At, IpAddr);

#[derive(Clone, Copy, Debug, Default)]
struct Refused {
    since: u64,
    count: u32,
}

impl Known {
    pub(super) fn new(limit: Limit) -> Self {
        Self { limit, young: HashMap::new(), old: HashMap::new() }
    }

    /// Something was right there.
    pub(super) fn note(&mut self, place: Place) {
        if self.young.contains_key(&place) {
            return;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        let refused = self.old.remove(&place).unwrap_or_default();
        self.young.insert(place, refused);
    }

    /// Counts a guess that was refused.
    pub(super) fn refuse(&mut self, place: &Place, now: u64) {
        let Some(refused) = self.young.get_mut(place).or_else(|| self.old.get_mut(place)) else { return };
        if refused.count == 0 || refused.since > now || now - refused.since >= self.limit.window {
            *refused = Refused { since: now, count: 0 };
        }
        refused.count = refused.count.saturating_add(1);
    }

    /// Whether something was right there, as far as is known.
    ///
    /// # Errors
    /// When too many guesses were refused there; says how long for.
    pub(super) fn recall(&self, place: &Place, now: u64) -> Result<bool, RetryAfter> {
        let Some(refused) = self.young.get(place).or_else(|| self.old.get(place)) else { return Ok(false) };
        let end = refused.since.saturating_add(self.limit.window);
        let is_current = refused.since <= now && now < end;
        if is_current && refused.count >= self.limit.tries { Err(RetryAfter(end - now)) } else { Ok(true) }
    }
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::id::TunnelId;

    use super::*;

    fn place(number: u32) -> Place {
        ((TunnelId::from_bytes([1; 16]), 1), IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn it_does_not_grow_and_what_is_forgotten_is_no_longer_known() {
        let mut known = Known::new(Limit { tries: 2, window: 60 });
        for number in 0..5 * GENERATION as u32 {
            known.note(place(number));
            assert_eq!(known.recall(&place(number), 0), Ok(true));
        }
        assert_eq!(known.recall(&place(0), 0), Ok(false));
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn who_is_right_again_keeps_what_was_refused() {
        let mut known = Known::new(Limit { tries: 2, window: 60 });
        known.note(place(0));
        known.refuse(&place(0), 10);
        for number in 1..=GENERATION as u32 {
            known.note(place(number));
        }
        known.note(place(0));
        known.refuse(&place(0), 20);
        assert_eq!(known.recall(&place(0), 20), Err(RetryAfter(50)));
        assert_eq!(known.recall(&place(0), 70), Ok(true));
        assert_eq!(known.recall(&place(0), 5), Ok(true), "a clock set back locks nobody out");
    }
}
