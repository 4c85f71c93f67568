//! What has happened since the relay started, counted for its metrics where nobody else counts it. Clones share it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    admit::Used,
    gate::Gatekeeper,
    ingress::{deadline::Cut, failure::Failure},
};

/// See the [module documentation](self).
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Counts>);

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

/// Every count.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Requests that were given to nodes, and what went through tunnels and private shares; as of the last reading.
    pub(crate) requests: Count,
    pub(crate) bytes_in: Count,
    pub(crate) bytes_out: Count,
    /// Connections that were not taken, because there were too many.
    pub(crate) turned_away: Count,
    /// Pages of the relay's own, by the failure.
    refused: Refused,
    /// Connections and exchanges that were cut short, by the reason.
    cut: [Count; Cut::ALL.len()],
    gates: OnceLock<Arc<Gatekeeper>>,
}

#[derive(Debug)]
struct Refused([Count; Failure::ALL.len()]);

impl Default for Refused {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Tally {
    /// A visitor got a page about this.
    pub(crate) fn refused(&self, failure: Failure) {
        if let Some(count) = self.0.refused.0.get(failure as usize) {
            count.add(1);
        }
    }

    /// What pages there were, by what `x-mytunnel-error` said: each name once.
    pub(crate) fn refusals(&self) -> Vec<(&'static str, u64)> {
        let mut named: Vec<(&'static str, u64)> = Vec::new();
        for failure in Failure::ALL {
            let count = self.0.refused.0.get(failure as usize).map_or(0, Count::get);
            match named.iter_mut().find(|(name, _)| *name == failure.name()) {
                Some((_, sum)) => *sum += count,
                None => named.push((failure.name(), count)),
            }
        }
        named
    }

    /// A visitor's connection, or an exchange on it, was cut short.
    pub(crate) fn cut(&self, cut: Cut) {
        if let Some(count) = self.0.cut.get(cut as usize) {
            count.add(1);
        }
    }

    /// How many were cut short, for each reason.
    pub(crate) fn cuts(&self) -> Vec<(&'static str, u64)> {
        Cut::ALL.into_iter().zip(&self.0.cut).map(|(cut, count)| (cut.name(), count.get())).collect()
    }

    /// This went through.
    pub(crate) fn used(&self, used: &[Used]) {
        for Used { usage, .. } in used {
            self.requests.add(usage.requests);
            self.bytes_in.add(usage.bytes_in);
            self.bytes_out.add(usage.bytes_out);
        }
    }

    /// These check what visitors show; whoever says so first.
    pub(crate) fn watch_gates(&self, gates: &Arc<Gatekeeper>) {
        let _ = self.0.gates.set(Arc::clone(gates));
    }

    /// Passwords that are hashed, or wait for it.
    pub(crate) fn guesses_waiting(&self) -> usize {
        self.0.gates.get().map_or(0, |gates| gates.guesses_waiting())
    }
}

impl std::ops::Deref for Tally {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_counted_under_the_name_that_visitors_see() {
        let tally = Tally::default();
        for failure in Failure::ALL {
            assert_eq!(Failure::ALL.get(failure as usize), Some(&failure), "each at its own place");
            tally.refused(failure);
        }
        let refusals = tally.refusals();
        let all: u64 = refusals.iter().map(|(_, count)| count).sum();
        assert_eq!(all, Failure::ALL.len() as u64);
        let mut names: Vec<_> = refusals.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), refusals.len());
        assert!(refusals.contains(&("PIN_REQUIRED", 2)), "{refusals:?}");
        for (number, cut) in Cut::ALL.into_iter().enumerate() {
            (0..=number).for_each(|_| tally.cut(cut));
        }
        let cuts = [("head", 1), ("stalled", 2), ("slow", 3), ("half_closed", 4), ("silent", 5)];
        assert_eq!(tally.cuts(), cuts);
    }
}
