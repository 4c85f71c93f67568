//! Secrets out of bodies that are JSON: the text stays as it is, also one that was cut, but for the values of fields whose
//! names say that they are secrets.

use std::ops::Range;

use super::{FIELDS, MASK, is_secret};

/// A value that is a secret, and the name of its field.
struct Found {
    name: String,
    at: Range<usize>,
}

/// The text without its secrets.
pub(crate) fn json(text: &str) -> String {
    replaced(text, secrets(text).into_iter().map(|found| (found.at, format!("\"{MASK}\""))))
}

/// An edited text, with the secrets of the original where they are still masked: of fields of one name, each its own.
pub(crate) fn restore_json(edited: &str, original: &str) -> String {
    let (shown, known) = (secrets(edited), secrets(original));
    let mut back = Vec::new();
    for (index, found) in shown.iter().enumerate() {
        let earlier = shown[..index].iter().filter(|other| other.name == found.name).count();
        let is_masked = edited[found.at.clone()].trim_matches('"') == MASK;
        let secret = known.iter().filter(|other| other.name == found.name).nth(earlier).filter(|_| is_masked);
        back.extend(secret.map(|secret| (found.at.clone(), original[secret.at.clone()].to_owned())));
    }
    replaced(edited, back.into_iter())
}

fn replaced(text: &str, values: impl Iterator<Item = (Range<usize>, String)>) -> String {
    let (mut all, mut from) = (String::new(), 0);
    for (at, value) in values {
        all.push_str(&text[from..at.start]);
        all.push_str(&value);
        from = at.end;
    }
    all + &text[from..]
}

fn secrets(text: &str) -> Vec<Found> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(start) = text[at..].find('"').map(|quote| at + quote) {
        at = end_of_string(text, start);
        let after = text[at..].trim_start();
        let Some(value) = after.strip_prefix(':').map(str::trim_start) else { continue };
        let written = &text[start..at];
        // A name may be written in ways that hide it.
        let name = serde_json::from_str(written).unwrap_or_else(|_| written.trim_matches('"').to_owned());
        let begin = text.len() - value.len();
        at = begin;
        if !is_secret(&name, &FIELDS) || value.is_empty() || value.starts_with(['{', '[']) {
            continue;
        }
        let end = match value.starts_with('"') {
            true => end_of_string(text, begin),
            false => begin + value.find([',', '}', ']', '\r', '\n', ' ', '\t']).unwrap_or(value.len()),
        };
        found.push(Found { name, at: begin..end });
        at = end;
    }
    found
}

/// Behind the string that begins with the quote at `start`, or the end of a text that was cut.
fn end_of_string(text: &str, start: usize) -> usize {
    let mut is_escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(start + 1) {
        match byte {
            b'"' if !is_escaped => return index + 1,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_everything_else_stays_as_it_was_written() {
        let body = "{ \"user\":\"ann\",\n \"password\" : \"a\\\"b\", \"inner\": [{\"apiKey\": 12, \"n\": 1}], \"p\\u0061ssword\":null}";
        assert_eq!(
            json(body),
            "{ \"user\":\"ann\",\n \"password\" : \"***\", \"inner\": [{\"apiKey\": \"***\", \"n\": 1}], \"p\\u0061ssword\":\"***\"}"
        );
        // What a secret field holds more of is looked at by its own names; a text that was cut gives nothing away.
        assert_eq!(json(r#"{"token":{"id":"a","secret":"b"}}"#), r#"{"token":{"id":"a","secret":"***"}}"#);
        assert_eq!(json(r#"{"a":1,"token":"abc"#), r#"{"a":1,"token":"***""#);
        for whole in ["", "\"", "\"a", "{\"token\":", "[1,2]", "{\"a\":\"token\"}", "\u{e4}\"\\"] {
            assert_eq!(json(whole), whole);
        }
    }

    #[test]
    fn what_was_left_masked_has_its_own_secret_back() {
        let original = r#"{"a":{"token":"one"},"b":{"token":"two","pin":1234}}"#;
        assert_eq!(restore_json(&json(original), original), original);
        let edited = json(original).replacen("\"***\"", "\"mine\"", 1);
        assert_eq!(
            restore_json(&edited, original),
            r#"{"a":{"token":"mine"},"b":{"token":"two","pin":1234}}"#
        );
    }
}
