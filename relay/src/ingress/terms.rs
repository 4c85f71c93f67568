//! What visitors are held to, which an operator may change while the relay serves them.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
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

/// How many there are: connections, or requests in flight of a key.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Arc<AtomicUsize>);

/// One's place among them; given back on drop.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Crowd {
    /// A place, while fewer than `most` are taken.
    pub(crate) fn enter(&self, most: usize) -> Option<Place> {
        let entered = self.0.fetch_update(Relaxed, Relaxed, |taken| (taken < most).then_some(taken + 1));
        entered.ok().map(|_| Place(Arc::clone(&self.0)))
    }
}

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
}
