//! Whether this coordinator's clock agrees with that of the database's server, by which the clocks of all its coordinators
//! are compared: what one of them commits is believed, or not, by relays that follow another.

/// Seconds from which an operator is told.
const WARNED: u64 = 5;

/// How two clocks stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// Nobody would notice.
    Near,
    /// Something is wrong with one of them, and nobody suffers yet.
    Off,
    /// Relays may refuse what is signed by this one.
    TooFar,
}

/// By how many seconds a clock that showed `before` and `after` is ahead of one that showed `theirs` in between.
pub(crate) fn offset(before: u64, theirs: u64, after: u64) -> i64 {
    if theirs < before {
        before.saturating_sub(theirs).try_into().unwrap_or(i64::MAX)
    } else {
        theirs.saturating_sub(after).try_into().map_or(i64::MIN, |behind: i64| -behind)
    }
}

/// What follows from an offset, where `limit` seconds are borne.
pub(crate) fn judge(offset: i64, limit: u64) -> Agreement {
    match offset.unsigned_abs() {
        apart if apart > limit => Agreement::TooFar,
        apart if apart > WARNED => Agreement::Off,
        _ => Agreement::Near,
    }
}

/// An offset in words.
pub(crate) fn told(offset: i64) -> String {
    let side = if offset < 0 { "behind" } else { "ahead of" };
    format!("{} s {side}", offset.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_between_two_looks_is_no_difference() {
        for (before, theirs, after, expected) in [
            (100, 100, 100, 0),
            (100, 103, 105, 0),
            (100, 99, 105, 1),
            (100, 106, 105, -1),
            (200, 100, 300, 100),
            (0, u64::MAX, 0, i64::MIN),
            (u64::MAX, 0, u64::MAX, i64::MAX),
        ] {
            assert_eq!(offset(before, theirs, after), expected, "{before} {theirs} {after}");
        }
    }

    #[test]
    fn a_difference_is_told_before_it_matters() {
        use Agreement::{Near, Off, TooFar};
        for (offset, expected) in [
            (0, Near),
            (5, Near),
            (-6, Off),
            (20, Off),
            (-20, Off),
            (21, TooFar),
            (-61, TooFar),
            (i64::MIN, TooFar),
        ] {
            assert_eq!(judge(offset, 20), expected, "{offset}");
            assert_eq!(judge(-offset.max(-i64::MAX), 20), expected, "{offset}");
        }
        assert_eq!(told(-61), "61 s behind");
    }
}
