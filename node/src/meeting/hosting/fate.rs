//! What is decided about guests: whose messages are read, and whose streams are cut.

use std::collections::HashSet;

use libp2p::PeerId;

/// Connections at once that have not shown a good certificate.
const MOST_STRANGERS: usize = 32;

/// Peers at once, each of which has a place for its first connection.
const MOST_PEERS: usize = 64;

/// Connections of one peer: for each of sixteen names one by each of two relays, and direct ones.
const MOST_OF_PEER: usize = 34;

/// Connections at once that are not the first of their peers.
const MOST_FURTHER: usize = 192;

/// Whether one more connection of a peer may be a guest's. Of each that stands: whose it is, and whether it has shown who it
/// is. What one peer has takes no other's first place.
pub(super) fn has_place(peer: &PeerId, guests: &[(PeerId, bool)]) -> bool {
    let strangers = guests.iter().filter(|(_, is_shown)| !is_shown).count();
    let peers: HashSet<&PeerId> = guests.iter().map(|(peer, _)| peer).collect();
    let of_peer = guests.iter().filter(|(its, _)| its == peer).count();
    strangers < MOST_STRANGERS
        && match of_peer {
            0 => peers.len() < MOST_PEERS,
            _ => of_peer < MOST_OF_PEER && guests.len() - peers.len() < MOST_FURTHER,
        }
}

/// First messages that are being read at once, and answers that are being written.
pub(super) const MOST_UNDER_WAY: usize = 256;

/// First messages of one guest that are being read at once, and of one that has shown nothing.
const MOST_READ: usize = 32;
const MOST_READ_OF_STRANGER: usize = 1;

/// First messages of a guest that may be read at once. Who has shown nothing has no business with legs.
pub(super) fn most_read(is_shown: bool, is_greeting: bool) -> usize {
    match (is_shown, is_greeting) {
        (true, _) => MOST_READ,
        (false, true) => MOST_READ_OF_STRANGER,
        (false, false) => 0,
    }
}

/// What a connection says for the peer whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It shows a certificate that is good.
    Good,
    /// It shows one that is good no more.
    Over,
    /// It has shown nothing, which says nothing about what the peer has opened.
    Stranger,
}

impl Standing {
    pub(super) fn of(is_shown: bool, is_over: bool) -> Self {
        match (is_shown, is_over) {
            (true, false) => Self::Good,
            (true, true) => Self::Over,
            (false, _) => Self::Stranger,
        }
    }
}

/// Peers whose streams are to be cut: their certificate is good no more, and they have shown no other that is.
pub(super) fn to_be_cut(connections: &[(PeerId, Standing)]) -> HashSet<PeerId> {
    let with = |standing| connections.iter().filter(move |(_, its)| *its == standing).map(|(peer, _)| *peer);
    let good: HashSet<PeerId> = with(Standing::Good).collect();
    with(Standing::Over).filter(|peer| !good.contains(peer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_that_is_late_cuts_nothing_and_neither_does_an_old_certificate_beside_a_new_one() {
        let [one, two] = [PeerId::random(), PeerId::random()];
        let cut = |connections: &[(PeerId, Standing)]| to_be_cut(connections);
        assert_eq!(cut(&[(one, Standing::of(false, true))]), HashSet::new(), "it may greet on the next");
        assert_eq!(cut(&[(one, Standing::Over), (one, Standing::Good)]), HashSet::new(), "it was renewed");
        let over = [(one, Standing::Over), (one, Standing::Stranger), (two, Standing::Good)];
        assert_eq!(cut(&over), HashSet::from([one]), "its time is over, and nobody else's");
        assert_eq!(cut(&[(one, Standing::Over), (one, Standing::Over)]), HashSet::from([one]));
    }

    #[test]
    fn no_peer_takes_the_first_places_of_others() {
        let [one, two] = [PeerId::random(), PeerId::random()];
        let mut guests = vec![(one, true); MOST_OF_PEER - 1];
        assert!(has_place(&one, &guests));
        guests.push((one, true));
        assert!(!has_place(&one, &guests) && has_place(&two, &guests));
        for _ in 0..5 {
            guests.extend([(PeerId::random(), true); MOST_OF_PEER]);
        }
        let (last, _) = guests[guests.len() - 1];
        guests.pop();
        assert!(!has_place(&last, &guests), "further ones are many");
        assert!(has_place(&two, &guests), "but not the first of another");
        let many: Vec<_> = (0..MOST_PEERS).map(|_| (PeerId::random(), true)).collect();
        assert!(!has_place(&two, &many) && has_place(&many[0].0, &many));
        assert!(!has_place(&two, &[(one, false); MOST_STRANGERS]), "nobody knows who these are");
    }

    #[test]
    fn who_has_shown_nothing_opens_no_legs_and_greets_once_at_a_time() {
        assert_eq!((most_read(false, false), most_read(false, true)), (0, 1));
        assert!(most_read(true, false) > 1);
        // Strangers fill no queue.
        const { assert!(MOST_STRANGERS * MOST_READ_OF_STRANGER + MOST_READ <= MOST_UNDER_WAY) };
    }
}
