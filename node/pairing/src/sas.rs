//! Three words that both persons read to each other: the same at both ends unless somebody sits between them.
//!
//! The host commits to its nonce before it sees the guest's, so that whoever is in the middle has one guess in 2^31 and
//! cannot search for nonces that make two pairs of words alike.

use serde::{Deserialize, Serialize};

use crate::{secret, words};

/// One end's random part.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Nonce(#[serde(with = "crate::bytes")] [u8; 16]);

impl Nonce {
    /// Sixteen random bytes.
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for Nonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonce(…)")
    }
}

/// What the host says of its nonce before it shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commitment(#[serde(with = "crate::bytes")] [u8; 32]);

impl Commitment {
    /// To this nonce.
    pub(crate) fn to(nonce: Nonce) -> Self {
        Self(secret::hash_of("mytunnel pair sas commitment 1", &[&nonce.0]))
    }
}

/// The words of a handshake.
pub(crate) fn words(handshake: &[u8; 32], host: Nonce, guest: Nonce) -> String {
    let digest = secret::hash_of("mytunnel pair sas 1", &[handshake, &host.0, &guest.0]);
    words::three(u64::from_be_bytes(*digest.first_chunk().expect("a hash has 32 bytes")))
}

/// As [`words()`], if the host's nonce is the one that it had committed to.
pub(crate) fn checked(
    handshake: &[u8; 32],
    commitment: Commitment,
    host: Nonce,
    guest: Nonce,
) -> Option<String> {
    (Commitment::to(host) == commitment).then(|| words(handshake, host, guest))
}

/// Whether somebody typed these words; spaces and case do not count.
pub(crate) fn matches(typed: &str, words: &str) -> bool {
    words::normal(typed) == words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_hang_on_everything_and_the_commitment_binds() {
        let [one, two, three] = [1, 2, 3].map(|byte| Nonce([byte; 16]));
        let shown = words(&[9; 32], one, two);
        assert_eq!(checked(&[9; 32], Commitment::to(one), one, two), Some(shown.clone()));
        assert_eq!(checked(&[9; 32], Commitment::to(one), three, two), None);
        for other in [words(&[8; 32], one, two), words(&[9; 32], three, two), words(&[9; 32], one, three)] {
            assert_ne!(other, shown);
        }
        assert!(matches(&shown.to_uppercase().replace('-', " "), &shown));
        assert!(!matches("acid-acid-acid", &shown));
    }
}
