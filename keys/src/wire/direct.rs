//! Messages by which two nodes find a path past the relay: CBOR, one message a frame, as in [`peer`](super::peer).
//!
//! A relay tells whoever it has admitted where it sees the connection that a stream of [`WHEREAMI_PROTOCOL`] belongs to
//! ([`Seen`]). The node that reaches a private share opens a stream of [`DIRECT_PROTOCOL`] on the connection through the
//! relay, once both ends have shown each other their certificates. Both offer the addresses at which they may be reached;
//! then, in each round, the first asks how long a word takes ([`Word::Ready`], which comes back), says [`Word::Go`], waits
//! for half of that, and both dial at the same moment.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The libp2p protocol by which a relay says where it sees a connection.
pub const WHEREAMI_PROTOCOL: &str = "/mytunnel/whereami/1";

/// The libp2p protocol by which two nodes find a direct path.
pub const DIRECT_PROTOCOL: &str = "/mytunnel/direct/1";

/// Addresses that a node may offer.
pub const MAX_CANDIDATES: usize = 16;

/// Where a relay sees the connection that it was asked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The other end of the connection.
    pub address: SocketAddr,
}

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// QUIC over UDP.
    Quic,
    /// TCP.
    Tcp,
}

/// How a node knows an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is one of its machine's.
    Interface,
    /// A router was asked to lead a port of its own to the node.
    Mapped,
    /// A relay sees it there.
    Seen,
}

/// An address at which a node may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Candidate {
    /// How it is known.
    pub origin: Origin,
    /// What is spoken there.
    pub over: Over,
    /// The address.
    pub address: SocketAddr,
}

/// What one node says to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Where the sender may be reached. The first word of either end.
    Offer {
        /// The addresses; [`MAX_CANDIDATES`] at most.
        candidates: Vec<Candidate>,
    },
    /// The sender shows no addresses, by its owner's wish. The last word.
    Declined,
    /// How long does a word take? Comes back as it is.
    Ready,
    /// The other end is to dial now.
    Go,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{WireError, decode, encode};

    #[test]
    fn words_come_back_as_they_were() {
        let candidate =
            |origin, over, address: &str| Candidate { origin, over, address: address.parse().unwrap() };
        let candidates = vec![
            candidate(Origin::Interface, Over::Quic, "192.0.2.1:40000"),
            candidate(Origin::Seen, Over::Tcp, "[2001:db8::1]:40001"),
            candidate(Origin::Mapped, Over::Quic, "192.0.2.2:40002"),
        ];
        for word in [Word::Offer { candidates }, Word::Declined, Word::Ready, Word::Go] {
            assert_eq!(decode(&encode(&word).unwrap()), Ok(word));
        }
        let seen = Seen { address: "192.0.2.1:1".parse().unwrap() };
        assert_eq!(decode(&encode(&seen).unwrap()), Ok(seen));
    }

    #[test]
    fn the_longest_offer_is_a_short_message() {
        let address = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        let candidate = Candidate { origin: Origin::Interface, over: Over::Quic, address };
        let offer = Word::Offer { candidates: vec![candidate; MAX_CANDIDATES] };
        assert!(encode(&offer).unwrap().len() < 2048);
    }

    #[test]
    fn what_is_no_word_is_refused() {
        assert!(matches!(decode::<Word>(&[0x9f; 64]), Err(WireError::Malformed(_))));
        assert!(matches!(decode::<Seen>(&encode(&Word::Go).unwrap()), Err(WireError::Malformed(_))));
    }
}
