//! How often addresses that others have named are dialled, however often they ask. Pure: time is passed in.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// Rounds of one peer at once, however many connections it has through the relay, and how soon each is made good. A try has four,
/// and the next one begins fifteen seconds later.
const OF_PEER: Allowance = Allowance { at_once: 8, each: Duration::from_secs(3) };

/// The same for all peers together.
const OF_ALL: Allowance = Allowance { at_once: 64, each: Duration::from_millis(125) };

/// Dials under way for one peer, which is what four rounds may be, and for all.
const MOST_OF_PEER: usize = 32;
const MOST: usize = 96;

#[derive(Debug, Clone, Copy)]
struct Allowance {
    at_once: u32,
    each: Duration,
}

impl Allowance {
    /// When everything is made good if one more is taken now, of what would be good again at `good_at`; none if it is too much.
    fn take(self, good_at: Option<Instant>, now: Instant) -> Option<Instant> {
        let next = good_at.map_or(now, |at| at.max(now)) + self.each;
        (next <= now + self.each * self.at_once).then_some(next)
    }
}

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When each peer's rounds are all made good. Those of whom nothing is due are not kept.
    peers: HashMap<PeerId, Instant>,
    all: Option<Instant>,
}

impl Pace {
    /// Whether a round of a peer may be dialled now, with so many dials of it and of all under way; it counts if it may.
    pub(super) fn take(&mut self, peer: PeerId, (of_peer, all): (usize, usize), now: Instant) -> bool {
        self.peers.retain(|_, good_at| *good_at > now);
        if of_peer >= MOST_OF_PEER || all >= MOST {
            return false;
        }
        let taken = OF_PEER.take(self.peers.get(&peer).copied(), now).zip(OF_ALL.take(self.all, now));
        if let Some((of_peer, of_all)) = taken {
            self.peers.insert(peer, of_peer);
            self.all = Some(of_all);
        }
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_has_some_rounds_at_once_and_then_one_by_one() {
        let (mut pace, peer, now) = (Pace::default(), PeerId::random(), Instant::now());
        let mut rounds = |at: Instant| (0..100).filter(|_| pace.take(peer, (0, 0), at)).count();
        assert_eq!(rounds(now), 8);
        assert_eq!((rounds(now + Duration::from_secs(2)), rounds(now + Duration::from_secs(3))), (0, 1));
        assert_eq!(rounds(now + Duration::from_secs(3600)), 8);
    }

    #[test]
    fn all_peers_together_are_bounded_and_forgotten_again() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!((0..1000).filter(|_| pace.take(PeerId::random(), (0, 0), now)).count(), 64);
        assert_eq!(pace.peers.len(), 64, "who was refused is not kept");
        assert!(pace.take(PeerId::random(), (0, 0), now + Duration::from_secs(60)));
        assert_eq!(pace.peers.len(), 1);
    }

    #[test]
    fn while_many_dials_are_under_way_there_are_no_more() {
        let (mut pace, peer, now) = (Pace::default(), PeerId::random(), Instant::now());
        assert!(!pace.take(peer, (MOST_OF_PEER, MOST_OF_PEER), now) && !pace.take(peer, (0, MOST), now));
        assert!(pace.take(peer, (MOST_OF_PEER - 1, MOST - 1), now));
    }
}
