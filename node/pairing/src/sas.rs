//! Words that both persons read to each other: each machine shows three and knows the three that the other shows, unless
//! somebody sits between them. The two differ, so that nobody can answer with what his own machine shows.
//!
//! The host commits to its nonce before it sees the guest's, so that whoever is in the middle has one guess in 2^31 and
//! cannot search for nonces that make two pairs of words alike.

use mytunnel_keys::error::Code;
use serde::{Deserialize, Serialize};

use crate::{limits, secret, words};

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Words {
    /// What the host's machine shows, and the guest's person types.
    pub(crate) host: String,
    /// What the guest's machine shows, and the host's person types.
    pub(crate) guest: String,
}

/// See [`Words`].
pub(crate) fn words(handshake: &[u8; 32], host: Nonce, guest: Nonce) -> Words {
    let of = |shown_by: &[u8]| {
        let digest = secret::hash_of("mytunnel pair sas 2", &[shown_by, handshake, &host.0, &guest.0]);
        words::three(u64::from_be_bytes(*digest.first_chunk().expect("a hash has 32 bytes")))
    };
    Words { host: of(b"host"), guest: of(b"guest") }
}

/// As [`words()`], if the host's nonce is the one that it had committed to.
pub(crate) fn checked(
    handshake: &[u8; 32],
    commitment: Commitment,
    host: Nonce,
    guest: Nonce,
) -> Option<Words> {
    (Commitment::to(host) == commitment).then(|| words(handshake, host, guest))
}

/// Whether these are the words that the other machine shows; `wrong` counts those that were not.
///
/// # Errors
/// [`Code::PairSasMismatch`] where they are not, [`Code::PairDenied`] where too many were not: whoever goes on guesses.
pub(crate) fn check(typed: &str, words: &str, wrong: &mut u8) -> Result<(), Code> {
    if *wrong >= limits::WRONG_WORDS {
        return Err(Code::PairDenied);
    }
    if !matches(typed, words) {
        *wrong += 1;
        return Err(Code::PairSasMismatch);
    }
    Ok(())
}

/// Whether somebody typed these words; spaces and case do not count.
fn matches(typed: &str, words: &str) -> bool {
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
            assert!(other.host != shown.host && other.guest != shown.guest);
        }
        assert_ne!(shown.host, shown.guest);
        assert!(matches(&shown.host.to_uppercase().replace('-', " "), &shown.host));
        let mut wrong = 0;
        for _ in 0..limits::WRONG_WORDS {
            assert_eq!(check("acid-acid-acid", &shown.host, &mut wrong), Err(Code::PairSasMismatch));
        }
        assert_eq!(check(&shown.host, &shown.host, &mut wrong), Err(Code::PairDenied));
    }
}
