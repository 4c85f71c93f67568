//! The coordinator's side: what a total has grown by, and how much of a budget a relay may have.

use super::Usage;

/// The least that is worth a lease, in micro-cents: about 50 KiB at the default price. A budget of which less than this
/// can be leased is spent.
const LEAST: u64 = 250;

/// What bears on a lease, in micro-cents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The budget of the month.
    pub budget: u64,
    /// What was spent of it, by what was told and with what is told now.
    pub spent: u64,
    /// What other relays may yet spend, or may have spent without telling.
    pub others: u64,
    /// Relays that there are, at least 1.
    pub relays: u64,
}

/// What to lease to a relay that asks for `ask`: at most a quarter of its fair share of what is left, so that no relay
/// ever starves another and the last of a budget is leased in small pieces. What the relay holds is in its own lease,
/// so that it stands in nobody's way.
///
/// Until the relay is known to have taken the answer it may act by what it held or by the answer, so that the larger of
/// both counts as given away.
pub fn grant(facts: &Facts, ask: u64) -> u64 {
    let left = facts.budget.saturating_sub(facts.spent).saturating_sub(facts.others);
    let share = left / facts.relays.max(1).saturating_mul(4);
    let amount = share.min(ask);
    if amount < LEAST { 0 } else { amount }
}

/// What a total has grown by since the last that was taken.
pub fn grown(taken: Option<&Usage>, told: &Usage) -> Usage {
    told.since(taken.copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts { budget: 1_000_000, spent: 200_000, others: 400_000, relays: 2 };

    #[test]
    fn a_lease_is_a_quarter_of_the_fair_share_and_no_more_than_asked_for() {
        assert_eq!(grant(&FACTS, u64::MAX), 50_000);
        assert_eq!(grant(&FACTS, 7000), 7000);
        assert_eq!(grant(&FACTS, 0), 0);
        assert_eq!(grant(&Facts { relays: 0, ..FACTS }, u64::MAX), 100_000);
    }

    #[test]
    fn nothing_is_left_of_a_budget_that_was_spent_lowered_or_leased_to_others() {
        for facts in [
            Facts { spent: 1_000_000, ..FACTS },
            Facts { budget: 0, ..FACTS },
            Facts { budget: 5, ..FACTS },
            Facts { others: 800_000, ..FACTS },
            Facts { spent: u64::MAX, others: u64::MAX, ..FACTS },
        ] {
            assert_eq!(grant(&facts, u64::MAX), 0, "{facts:?}");
        }
    }

    #[test]
    fn a_total_that_shrinks_or_comes_again_adds_nothing() {
        let total = Usage { bytes_in: 9, requests: 2, ..Usage::default() };
        assert_eq!(grown(None, &total), total);
        assert!(grown(Some(&total), &total).is_nothing());
        let more = Usage { bytes_in: 10, requests: 1, ..Usage::default() };
        assert_eq!(grown(Some(&total), &more), Usage { bytes_in: 1, ..Usage::default() });
    }
}
