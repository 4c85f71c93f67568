//! Words that people read to each other: the short list of the EFF (1,296 words, CC BY 3.0 US), each worth 10.3 bits.

use std::sync::LazyLock;

static WORDS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("words/eff_short_1.txt").lines().collect());

/// Three words of 64 random bits; 2 to the power of 31 of them, all but equally likely.
pub(crate) fn three(bits: u64) -> String {
    let size = WORDS.len() as u64;
    let word = |at: u64| WORDS[usize::try_from(at % size).unwrap_or_default()];
    format!("{}-{}-{}", word(bits), word(bits / size), word(bits / size / size))
}

/// What somebody typed, as it is compared: lower case, one hyphen between words.
pub(crate) fn normal(typed: &str) -> String {
    let words: Vec<_> =
        typed.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("-").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_its_length_no_doubles_and_plain_words() {
        assert_eq!(WORDS.len(), 1296);
        assert_eq!(WORDS.iter().collect::<std::collections::BTreeSet<_>>().len(), 1296);
        assert!(WORDS.iter().all(|word| normal(word) == *word));
    }

    #[test]
    fn what_is_typed_may_differ_in_case_and_spaces() {
        let words = three(0x1234_5678_9abc_def0);
        assert_eq!(normal(&format!("  {} ", words.to_uppercase().replace('-', " - "))), words);
        assert_ne!(three(1), three(2));
        assert_ne!(three(1), three(1297));
    }
}
