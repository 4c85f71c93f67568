//! One key's budget, as a relay knows it: how the key stands, and what was leased.

use std::time::{Duration, Instant};

use super::super::{Lease, MICRO};

/// The least that is asked for, in micro-cents: about 100 MiB at the default price. What a relay that crashes had not
/// told yet is charged up to its lease, so that leases are no larger than a few seconds need.
const ASK: u64 = MICRO / 2;

/// Time after which a lease that was refused is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// Time in which a refusal holds for whoever comes anew, so that a node that comes back over and over asks nothing.
const RECENT: Duration = Duration::from_secs(5);

/// How a key stands by its budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Standing {
    /// No limit.
    #[default]
    Free,
    /// Only what was leased may be spent.
    Limited,
    /// Nothing may be spent.
    Frozen,
}

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Budget {
    standing: Standing,
    /// Known by a certificate alone: the feed says nothing of it.
    claimed: bool,
    lease: Option<Held>,
    /// Micro-cents spent since the moment for which the lease was granted, and of those what a message says that is out.
    spent: u64,
    out: u64,
    asking: bool,
    /// When it was asked for in vain.
    refused: Option<Instant>,
    /// The coordinator does not know yet that the lease is given back.
    returning: bool,
    /// Grows with each change of the standing: an answer to an older question is void.
    generation: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    amount: u64,
    since: Instant,
    until: Instant,
}

impl Budget {
    /// Of a key whose certificate has a budget.
    pub(super) fn claimed() -> Self {
        Self { standing: Standing::Limited, claimed: true, ..Self::default() }
    }

    pub(super) fn set(&mut self, standing: Standing) {
        self.returning |= self.lease.is_some();
        (self.standing, self.claimed, self.lease, self.refused) = (standing, false, None, None);
        self.generation += 1;
    }

    pub(super) fn ask(&mut self) {
        self.asking = true;
    }

    /// After each of these the coordinator knows what was given up.
    pub(super) fn answered(&mut self, lease: Option<&Lease>, generation: u64, sent: Instant) {
        if generation != self.generation {
            self.failed();
            return;
        }
        self.out = 0;
        self.asking = false;
        self.returning = false;
        self.lease = lease.filter(|lease| lease.amount > 0).map(|lease| Held {
            amount: lease.amount,
            since: sent,
            until: sent + Duration::from_secs(lease.seconds.into()),
        });
        self.refused = self.lease.is_none().then_some(sent);
    }

    pub(super) fn failed(&mut self) {
        self.spent = self.spent.saturating_add(std::mem::take(&mut self.out));
    }

    pub(super) fn spend(&mut self, cost: u64) {
        self.spent = self.spent.saturating_add(cost);
    }

    /// What is to be said of it, as what is held and what is asked for.
    pub(super) fn want(&mut self, used: bool, now: Instant) -> Option<(u64, u64)> {
        if used || self.asking {
            if self.standing != Standing::Limited || !(self.asking || self.is_low(now)) {
                return None;
            }
            let (held, ask) = (self.held(now), self.size());
            self.out = std::mem::take(&mut self.spent);
            return Some((held, ask));
        }
        self.returning |= self.lease.take().is_some();
        self.returning.then(|| {
            self.out = std::mem::take(&mut self.spent);
            (0, 0)
        })
    }

    pub(super) fn left(&self, now: Instant) -> Option<u64> {
        match self.standing {
            Standing::Free => None,
            Standing::Limited => Some(self.held(now)),
            Standing::Frozen => Some(0),
        }
    }

    pub(super) fn is_urgent(&self, used: bool, now: Instant) -> bool {
        self.standing == Standing::Limited && (self.asking || used && self.is_low(now))
    }

    pub(super) const fn standing(&self) -> Standing {
        self.standing
    }

    pub(super) const fn is_claimed(&self) -> bool {
        self.claimed
    }

    /// Whether there was nothing to lease when it was asked for last.
    pub(super) const fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Whether that is so short a time ago that nobody need ask again.
    pub(super) fn was_refused(&self, now: Instant) -> bool {
        self.refused.is_some_and(|at| now < at + RECENT)
    }

    pub(super) const fn is_asking(&self) -> bool {
        self.asking
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it could be made anew from the certificate.
    pub(super) const fn is_of_no_use(&self) -> bool {
        self.claimed && self.lease.is_none() && !self.asking && !self.returning
    }

    fn held(&self, now: Instant) -> u64 {
        let lease = self.lease.filter(|lease| now < lease.until);
        lease.map_or(0, |lease| lease.amount.saturating_sub(self.spent).saturating_sub(self.out))
    }

    /// Whether less than half is left, or than half of the time.
    fn is_low(&self, now: Instant) -> bool {
        let Some(lease) = self.lease else {
            return self.refused.is_none_or(|at| now >= at + AGAIN);
        };
        let half = lease.since + lease.until.saturating_duration_since(lease.since) / 2;
        now >= half || self.held(now) < lease.amount / 2
    }

    /// Twice the last lease if that went fast, half of it if it did not.
    fn size(&self) -> u64 {
        let Some(lease) = self.lease else { return ASK };
        let used = self.spent.saturating_add(self.out);
        let size = if used > lease.amount / 2 { lease.amount.saturating_mul(2) } else { lease.amount / 2 };
        size.max(ASK)
    }
}
