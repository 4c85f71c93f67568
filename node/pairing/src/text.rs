//! What people read of peers: names that are only letters, and texts that cannot act on a terminal.

use crate::limits;

/// A name that another member may be shown: 1 to 32 letters, digits, spaces, `.`, `_` and `-`, of ASCII only, so that
/// no two names look alike without being alike, and at least one letter, so that none looks like a number.
///
/// `None` for any other text. Spaces around it do not count, and several in a row are one.
pub fn name(text: &str) -> Option<String> {
    let name = text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let fits = (1..=limits::NAME).contains(&name.len());
    let plain =
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'.' | b'_' | b'-'));
    (fits && plain && name.bytes().any(|byte| byte.is_ascii_alphabetic())).then_some(name)
}

/// A short text on one line, such as what runs somewhere; `None` where it is too long for one.
pub(crate) fn field(text: &str) -> Option<String> {
    (text.len() <= limits::FIELD).then(|| line(text))
}

/// `text` on one line, so that it cannot look like several of ours, and without what acts.
pub(crate) fn line(text: &str) -> String {
    neutral(text).0.replace(['\n', '\t'], " ")
}

/// As much of `text` as fits into a [`field`].
pub(crate) fn cut(text: &str) -> String {
    begin(text, limits::FIELD).to_owned()
}

/// The whole letters of `text` that fit into so many bytes.
pub(crate) fn begin(text: &str, most: usize) -> &str {
    let fits = |(at, letter): &(usize, char)| at + letter.len_utf8() <= most;
    let end = text.char_indices().take_while(fits).last().map_or(0, |(at, letter)| at + letter.len_utf8());
    text.get(..end).unwrap_or_default()
}

/// `wished`, or with a number behind it, so that it differs from each of `taken` also in other case.
pub(crate) fn unique<'a>(wished: &str, taken: impl Iterator<Item = &'a str> + Clone) -> String {
    let free = |name: &str| !taken.clone().any(|other| other.eq_ignore_ascii_case(name));
    let numbered = |number: usize| {
        let end = format!("-{number}");
        let begin = wished.get(..limits::NAME - end.len()).unwrap_or(wished);
        format!("{}{end}", begin.trim_end())
    };
    // One of as many candidates as there can be members, and one more, is free.
    let candidates = std::iter::once(wished.to_owned()).chain((2..=limits::MEMBERS + 2).map(numbered));
    candidates.into_iter().find(|name| free(name)).unwrap_or_else(|| wished.to_owned())
}

/// `text` without what acts instead of being read, and how many characters that were: control characters but line
/// breaks and tabs, marks that turn the direction of writing, and characters without width.
pub(crate) fn neutral(text: &str) -> (String, usize) {
    let kept: String = text.chars().filter(|&letter| !acts(letter)).collect();
    let stripped = text.chars().count() - kept.chars().count();
    (kept, stripped)
}

/// Whether a letter acts on a terminal or a reader instead of being read.
pub fn acts(letter: char) -> bool {
    if letter.is_control() {
        return !matches!(letter, '\n' | '\t');
    }
    // All of Unicode's Default_Ignorable_Code_Point, line and paragraph separators, and what is drawn as nothing.
    matches!(letter,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_never_look_like_another() {
        assert_eq!(name(" ada  lovelace "), Some("ada lovelace".to_owned()));
        assert_eq!(name("build-box_2.local"), Some("build-box_2.local".to_owned()));
        for bad in [
            "",
            " ",
            "--",
            "1",
            "4 2",
            "a\nb",
            "a\u{1b}[31m",
            "аda",
            "a\u{202e}b",
            "a\u{200b}",
            "a/b",
            &"x".repeat(33),
        ] {
            assert_eq!(name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let taken = ["Ada", "ada-2"];
        assert_eq!(unique("ada", taken.into_iter()), "ada-3");
        assert_eq!(unique("bob", taken.into_iter()), "bob");
        let long = "x".repeat(32);
        let second = unique(&long, [long.as_str()].into_iter());
        assert_eq!(second.len(), 32);
        assert_eq!(name(&second), Some(second.clone()));
    }

    #[test]
    fn a_text_begins_with_whole_letters() {
        let begun = [(0, ""), (1, "a"), (2, "a"), (3, "aß"), (4, "aßb"), (9, "aßb")];
        for (most, shown) in begun {
            assert_eq!(begin("aßb", most), shown);
        }
    }

    #[test]
    fn texts_keep_their_letters_and_lose_what_acts() {
        assert_eq!(neutral("Grüße\n\tan alle 👋"), ("Grüße\n\tan alle 👋".to_owned(), 0));
        assert_eq!(neutral("a\u{fe0f}b\u{180d}c\u{2800}\u{1d173}\u{ffa0}\u{e0100}"), ("abc".to_owned(), 6));
        assert_eq!(line("goal\nVerified: \u{202e}nobody\tsits"), "goal Verified: nobody sits");
        assert_eq!(neutral("a\u{1b}[2Jb\u{202e}c\u{200b}\r\u{0}"), ("a[2Jbc".to_owned(), 5));
    }
}
