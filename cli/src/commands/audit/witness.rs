//! What a relay was told that the audit log ended with: its file `audit-witness`.

use std::fs;
use std::path::Path;

use mytunnel_keys::error::Code;

use crate::failure::Failure;
use crate::span;

/// Heads that are compared in one request.
pub(super) const AT_ONCE: usize = 500;
const HELP: &str = "It is the file audit-witness in the data directory of a relay.";

/// A line of a relay's file: when it was told, and the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    at: u64,
    pub(super) head: String,
}

/// The heads of a relay's file, the oldest first. All are compared: a log that was rewritten has been told to the relay
/// too, since.
pub(super) fn read(path: &Path) -> Result<Vec<Seen>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::new(Code::BadRequest, format!("{} cannot be read: {error}", path.display())).with_help(HELP)
    })?;
    parse(&text).map_err(|line| {
        let message = format!("{}:{line}: this is not a time and a hash", path.display());
        Failure::new(Code::BadRequest, message).with_help(HELP)
    })
}

/// The lines of such a file, or the number of the first that is none.
fn parse(text: &str) -> Result<Vec<Seen>, usize> {
    let mut seen = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let parsed = line.split_once(' ').and_then(|(at, head)| {
            let whole =
                head.len() == 64 && head.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            Some(Seen { at: at.parse().ok()?, head: whole.then(|| head.to_owned())? })
        });
        seen.push(parsed.ok_or(number + 1)?);
    }
    Ok(seen)
}

/// Between which times the log stopped being the one that the relay saw.
pub(super) fn span_of(seen: &[Seen], missing: &[String]) -> String {
    let first = seen.iter().position(|seen| missing.contains(&seen.head)).unwrap_or(0);
    let lost = seen.get(first).map(|seen| span::utc(seen.at)).unwrap_or_default();
    match first.checked_sub(1).and_then(|before| seen.get(before)) {
        Some(before) => format!("what was written between {} and {lost} is another", span::utc(before.at)),
        None => format!("nothing of what was there at {lost} is in it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at: u64) -> Seen {
        Seen { at, head: format!("{at:064x}") }
    }

    #[test]
    fn every_line_is_read_and_a_line_that_is_none_is_named() {
        let line = |at: u64| format!("{at} {at:064x}\n");
        let text: String = (0..600).map(line).collect();
        let read = parse(&text).unwrap();
        assert_eq!((read.len(), &read[0], &read[599]), (600, &seen(0), &seen(599)));
        assert_eq!(parse(""), Ok(Vec::new()));
        for bad in ["x", "1 ab", &format!("-1 {:064x}", 1), &format!("1 {}", "AB".repeat(32))] {
            assert_eq!(parse(&format!("{}{bad}\n", line(1))), Err(2), "{bad}");
        }
    }

    #[test]
    fn the_time_of_the_change_is_told() {
        let all = [seen(1_800_000_000), seen(1_800_000_600), seen(1_800_001_200)];
        let missing = [all[1].head.clone(), all[2].head.clone()];
        let told = span_of(&all, &missing);
        assert!(told.contains("between 2027-01-15") && told.contains(&span::utc(1_800_000_600)), "{told}");
        assert!(span_of(&all, &all.clone().map(|seen| seen.head)).starts_with("nothing"));
    }
}
