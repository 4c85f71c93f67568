//! Friendly names that stay: the same user sharing the same thing at the same place gets the same URL.
//!
//! A name is two words and four characters, chosen by a SHA-256 over a secret of the user, the place and the
//! target. Without the secret it says nothing about the target; with it, nothing needs to be stored per share.

use sha2::{Digest, Sha256};

/// Separates this use of SHA-256 from every other in the project.
const DOMAIN: &[u8] = b"mytunnel share name v1\0";

/// Alphabet of the four characters; no look-alikes (0/o, 1/l/i, u/v).
const ALPHABET: &[u8; 29] = b"23456789abcdefghjkmnpqrstwxyz";

const FIRST: [&str; 64] = [
    "amber", "ample", "azure", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "cosy",
    "crisp", "daring", "dawn", "deft", "eager", "early", "easy", "fair", "fleet", "fond", "fresh", "gentle",
    "glad", "golden", "grand", "green", "happy", "hardy", "ideal", "jolly", "keen", "kind", "lively",
    "loyal", "lucid", "lucky", "mellow", "merry", "mild", "neat", "nimble", "noble", "open", "polite",
    "proud", "quick", "quiet", "rapid", "ready", "royal", "sharp", "silver", "smart", "snug", "solid",
    "spry", "steady", "sunny", "sure", "swift", "tidy", "warm", "wise",
];

const SECOND: [&str; 64] = [
    "acorn", "alder", "aspen", "badger", "basil", "beacon", "birch", "bison", "brook", "canyon", "cedar",
    "cherry", "cliff", "clover", "comet", "coral", "crane", "delta", "dune", "elm", "ember", "falcon",
    "fern", "finch", "fjord", "forest", "fox", "garden", "glade", "grove", "harbor", "hazel", "heron",
    "hill", "iris", "island", "ivy", "lake", "lark", "lily", "lotus", "lynx", "maple", "meadow", "moss",
    "oak", "olive", "otter", "owl", "pine", "plum", "pond", "raven", "reed", "river", "robin", "sage",
    "shore", "sparrow", "spruce", "stone", "swan", "tulip", "willow",
];

/// What a derived name depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The relay and project, or nothing for the relay on this machine.
    pub(crate) place: &'a str,
    /// What is shared, in its canonical form.
    pub(crate) target: &'a str,
}

/// The `attempt`-th name of a subject (0 first; the next ones are for a name somebody else holds).
pub(crate) fn derive(secret: &[u8; 32], subject: Subject<'_>, attempt: u8) -> String {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(secret);
    for part in [subject.place, subject.target] {
        // Lengths first, so that no two subjects feed the same bytes.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.update([attempt]);
    let digest = hash.finalize();
    let word = |list: &[&'static str; 64], byte: u8| list[usize::from(byte & 63)];
    let tail: String = digest[2..10]
        .chunks_exact(2)
        .map(|pair| {
            char::from(ALPHABET[usize::from(u16::from_be_bytes([pair[0], pair[1]])) % ALPHABET.len()])
        })
        .collect();
    format!("{}-{}-{tail}", word(&FIRST, digest[0]), word(&SECOND, digest[1]))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SITE: Subject<'_> = Subject { place: "", target: "/home/u/site" };

    #[test]
    fn the_same_subject_gets_the_same_name() {
        assert_eq!(derive(&[7; 32], SITE, 0), derive(&[7; 32], SITE, 0));
    }

    #[test]
    fn user_place_target_and_attempt_each_change_it() {
        let base = derive(&[7; 32], SITE, 0);
        assert_ne!(base, derive(&[8; 32], SITE, 0));
        assert_ne!(base, derive(&[7; 32], Subject { place: "relay", ..SITE }, 0));
        assert_ne!(base, derive(&[7; 32], Subject { target: "/home/u/other", ..SITE }, 0));
        assert_ne!(base, derive(&[7; 32], SITE, 1));
        let (ab_c, a_bc) = (Subject { place: "ab", target: "c" }, Subject { place: "a", target: "bc" });
        assert_ne!(derive(&[7; 32], ab_c, 0), derive(&[7; 32], a_bc, 0));
    }

    #[test]
    fn every_name_is_a_valid_label() {
        for seed in 0..=255 {
            let name = derive(&[seed; 32], SITE, seed);
            assert!(name.len() <= 20, "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
            assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
        }
    }

    #[test]
    fn names_spread() {
        let names: HashSet<_> = (0..=255).map(|seed| derive(&[seed; 32], SITE, 0)).collect();
        assert_eq!(names.len(), 256);
    }

    #[test]
    fn a_known_vector_keeps_names_stable_over_releases() {
        assert_eq!(derive(&[0; 32], SITE, 0), "ideal-island-hdaw");
    }
}
