//! What visitors are held to, which an operator may change while the relay serves them.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use super::{Limits, Shared, TrustedProxies, rates::Rates, visitor};

/// What visitors are held to.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Bounds.
    pub limits: Limits,
    /// Proxies in front, which are believed about visitors.
    pub proxies: TrustedProxies,
    /// Nothing is served in the clear: who comes without TLS is led to it.
    pub only_https: bool,
}

/// The terms that hold for a connection which comes now. One that is there keeps those that it came under.
#[derive(Debug)]
pub(super) struct Current(RwLock<Arc<Shared>>);

impl Current {
    pub(super) fn new(shared: Shared) -> Self {
        Self(RwLock::new(Arc::new(shared)))
    }

    pub(super) fn get(&self) -> Arc<Shared> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, terms: Terms) {
        let Terms { limits, proxies, only_https } = terms;
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let (http1, rates) = (visitor::http1(&limits), Arc::new(Rates::new(&limits)));
        let limits = Arc::new(limits);
        *current = Arc::new(Shared { limits, proxies, only_https, http1, rates, ..Shared::clone(&current) });
    }
}

/// How many there are: connections, or requests of a key: those in flight, and those that have begun in this second.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    inside: Arc<AtomicUsize>,
    /// The second, and how many have begun in it.
    begun: AtomicU64,
}

/// One's place among them; given back on drop.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Crowd {
    /// A place, while fewer than `most` are taken.
    pub(crate) fn enter(&self, most: usize) -> Option<Place> {
        let entered = self.inside.fetch_update(Relaxed, Relaxed, |taken| (taken < most).then_some(taken + 1));
        entered.ok().map(|_| Place(Arc::clone(&self.inside)))
    }

    /// Whether one more may begin in the second `now`, in which `most` may; 0 for no bound.
    pub(crate) fn begin(&self, most: u32, now: u64) -> bool {
        if most == 0 {
            return true;
        }
        let second = now << 32;
        let begin = |before: u64| {
            let begun = if before & SECOND == second { before & !SECOND } else { 0 };
            (begun < u64::from(most)).then_some(second | (begun + 1))
        };
        self.begun.fetch_update(Relaxed, Relaxed, begin).is_ok()
    }
}

/// The half of a count that says which second it is of.
const SECOND: u64 = !0 << 32;

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_bound_holds_for_those_who_come_later() {
        let crowd = Crowd::default();
        let (first, second) = (crowd.enter(2).unwrap(), crowd.enter(2).unwrap());
        assert!(crowd.enter(2).is_none());
        let third = crowd.enter(3).unwrap();
        drop((first, second));
        assert!(crowd.enter(1).is_none(), "the third is still there");
        drop(third);
        assert!(crowd.enter(1).is_some() && crowd.enter(0).is_none());
    }

    #[test]
    fn so_many_begin_in_a_second_and_as_many_in_the_next() {
        let crowd = Crowd::default();
        let begin = |most, now| (0..5).filter(|_| crowd.begin(most, now)).count();
        assert_eq!([begin(2, 1000), begin(2, 1001), begin(3, 1001), begin(0, 1001)], [2, 2, 1, 5]);
        assert_eq!(begin(u32::MAX, 1002), 5);
        assert_eq!(begin(2, u64::MAX), 2, "any clock will do");
    }
}
