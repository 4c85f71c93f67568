//! Friendly names that stay: the same user sharing the same thing at the same place gets the same URL.
//!
//! A name is two words and four characters, chosen by a SHA-256 over a secret of the user, the place and the
//! target. Without the secret it says nothing about the target; with it, nothing needs to be stored per share.

use mytunnel_keys::error::Code;
use mytunnel_keys::id::{NamePattern, TunnelName};
use sha2::{Digest, Sha256};

use crate::failure::Failure;

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

/// What every token and ticket begins with, which no name holds.
const SECRET: &str = "mtk_";

/// Longest label of a host name.
const MAX_LABEL: usize = 63;

/// Reads a name that somebody asked for.
pub(crate) fn asked(text: &str) -> Result<TunnelName, Failure> {
    if text.contains(SECRET) {
        // Never to be repeated: it may be good.
        return Err(Failure::new(Code::NameInvalid, "there is a token or a ticket where a name is wanted")
            .with_help(
                "Give a ticket alone, without anything before or behind it: `mytunnel access mtk_ticket_…`.",
            ));
    }
    text.parse().map_err(|error| {
        let failure = Failure::new(Code::NameInvalid, format!("`{text}` cannot be a name: {error}"));
        match likely(text) {
            Some(name) => failure.with_help(format!("Did you mean `{name}`?")),
            None => failure,
        }
    })
}

/// The nearest valid name, if there is one.
fn likely(text: &str) -> Option<TunnelName> {
    let letters = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(letters).collect();
    name.trim_matches('-').parse().ok()
}

/// The `attempt`-th name of a subject that a key with these patterns may use.
pub(crate) fn choose(
    hosts: &[NamePattern],
    secret: &[u8; 32],
    subject: Subject<'_>,
    attempt: u8,
) -> Option<TunnelName> {
    let derived = derive(secret, subject, attempt);
    let free: TunnelName = derived.parse().ok()?;
    let Some(first) = hosts.first() else { return Some(free) };
    if hosts.iter().any(|pattern| pattern.matches(&free)) {
        return Some(free);
    }
    match first.as_str().strip_suffix('*') {
        Some(prefix) => {
            let name = format!("{prefix}{derived}");
            name[..name.len().min(MAX_LABEL)].trim_end_matches('-').parse().ok()
        }
        None => first.as_str().parse().ok(),
    }
}

/// What a derived name depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The relay and project, or nothing for the relay on this machine.
    pub(crate) place: &'a str,
    /// What is shared, in its canonical form.
    pub(crate) target: &'a str,
}

/// The `attempt`-th name of a subject (0 first; the next ones are for a name somebody else holds).
fn derive(secret: &[u8; 32], subject: Subject<'_>, attempt: u8) -> String {
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

    #[test]
    fn a_key_that_may_use_few_names_gets_one_of_them() {
        let chosen = |patterns: &[&str]| {
            let hosts: Vec<NamePattern> = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
            choose(&hosts, &[0; 32], SITE, 0).unwrap().as_str().to_owned()
        };
        assert_eq!(chosen(&["*"]), "ideal-island-hdaw");
        assert_eq!(chosen(&["preview"]), "preview");
        assert_eq!(chosen(&["pr-*"]), "pr-ideal-island-hdaw");
        assert_eq!(chosen(&["shop", "*"]), "ideal-island-hdaw");
        let long = chosen(&[&format!("{}*", "a".repeat(60))]);
        assert_eq!(long.len(), 63);
    }

    #[test]
    fn a_name_that_is_none_gets_a_suggestion_where_there_is_one() {
        let refused = |text: &str| asked(text).unwrap_err();
        assert_eq!(refused("My_App").help(), "Did you mean `my-app`?");
        assert_eq!(refused("a.b").help(), "Did you mean `a-b`?");
        assert_eq!((refused("www").code(), refused("www").exit_code()), (Code::NameInvalid, 2));
        assert!(asked("demo").is_ok());
        let pasted = refused("mytunnel access mtk_ticket_secret");
        assert!(!pasted.message().contains("secret") && !pasted.help().contains("secret"));
    }
}
