//! Which of several coordinators of one cluster is asked.
//!
//! They are equals: what they say is believed for the signatures that the relay has pinned, so that any of them will do.
//! Whatever is asked for goes to the one whose feed is followed, and to the others where that one does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use mytunnel_keys::token::ServerUrl;

use super::line::{ConnectError, Connector};

/// The coordinators of a cluster.
#[derive(Debug)]
pub(super) struct Servers {
    /// At least one.
    connectors: Vec<Connector>,
    /// The one whose feed is followed, or was last.
    current: AtomicUsize,
    /// With whom the next subscription begins.
    next: AtomicUsize,
}

impl Servers {
    pub(super) fn new(urls: &[ServerUrl]) -> Result<Self, ConnectError> {
        let connectors = urls.iter().map(Connector::new).collect::<Result<Vec<_>, _>>()?;
        if connectors.is_empty() {
            return Err(ConnectError::Nobody);
        }
        Ok(Self { connectors, current: AtomicUsize::new(0), next: AtomicUsize::new(0) })
    }

    /// Everyone, beginning with whom the relay follows.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = &Connector> {
        self.from(self.current.load(Ordering::Relaxed)).map(|(_, connector)| connector)
    }

    /// Everyone, for a new subscription. One that has begun and ended, or that was not answered, is followed by one with
    /// the next coordinator: the same may be out of order in a way that it does not know of.
    pub(super) fn to_follow(&self) -> impl Iterator<Item = (usize, &Connector)> {
        let tried = |(at, _): &(usize, &Connector)| self.next.store(at + 1, Ordering::Relaxed);
        self.from(self.next.load(Ordering::Relaxed)).inspect(tried)
    }

    /// The relay follows that one.
    pub(super) fn follows(&self, at: usize) {
        self.current.store(at, Ordering::Relaxed);
    }

    /// That one.
    pub(super) fn get(&self, at: usize) -> &Connector {
        &self.connectors[at % self.connectors.len()]
    }

    fn from(&self, first: usize) -> impl Iterator<Item = (usize, &Connector)> {
        let count = self.connectors.len();
        (first..first + count).map(move |at| (at % count, &self.connectors[at % count]))
    }
}
