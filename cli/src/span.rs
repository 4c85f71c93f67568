//! Lengths of time as people write them: `90s`, `30m`, `1h`, `1h30m`, `2d`.

/// Shortest and longest life of a child key, in seconds.
const MIN_TTL: u64 = 60;
pub(crate) const MAX_TTL: u64 = 86_400;

/// Longest time at all, in seconds: a hundred years.
const MOST: u64 = 100 * 365 * 86_400;

/// Reads a length of time into seconds. A bare number is refused: `--ttl 3600` and `--ttl 60` look alike,
/// and one of them is a mistake.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(expected(text));
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| expected(text))?;
        let amount: u64 = rest[..digits].parse().map_err(|_| expected(text))?;
        let unit_len = rest[digits..].chars().next().map_or(0, char::len_utf8);
        let unit = match &rest[digits..digits + unit_len] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(expected(text)),
        };
        total = amount
            .checked_mul(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| expected(text))?;
        rest = &rest[digits + unit_len..];
    }
    // Beyond that no clock of this machine can be asked for.
    if total > MOST {
        return Err(format!("`{text}` is too long; a hundred years are the most"));
    }
    Ok(total)
}

/// As [`parse`], but some time.
pub(crate) fn parse_some(text: &str) -> Result<u64, String> {
    match parse(text)? {
        0 => Err("no time at all; write 90s, 30m, 1h or 1h30m".to_owned()),
        seconds => Ok(seconds),
    }
}

/// How long something may wait for a path: some time, an hour at most.
pub(crate) fn parse_patience(text: &str) -> Result<u64, String> {
    let most = mytunnel_node::Access::MOST_PATIENCE.as_secs();
    match parse_some(text)? {
        seconds if seconds > most => Err(format!("{} at most, not {}", human(most), human(seconds))),
        seconds => Ok(seconds),
    }
}

fn expected(text: &str) -> String {
    format!("`{text}` is not a length of time; write 90s, 30m, 1h or 1h30m")
}

/// The life of a child key in seconds: one minute to 24 hours.
pub(crate) fn parse_ttl(text: &str) -> Result<u64, String> {
    let seconds = parse(text)?;
    if (MIN_TTL..=MAX_TTL).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("a child key lives between 1m and 24h, not {}", human(seconds)))
    }
}

/// The time in which a ticket can be used, in seconds: one minute to 24 hours.
pub(crate) fn parse_within(text: &str) -> Result<u64, String> {
    let seconds = parse(text)?;
    if (MIN_TTL..=MAX_TTL).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("a ticket can be used for 1m to 24h, not {}", human(seconds)))
    }
}

/// A length of time in at most two units: `45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`.
pub(crate) fn human(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{big} {big_unit}")
        } else {
            format!("{big} {big_unit} {small} {small_unit}")
        }
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => two(hours, "h", minutes, "min"),
        _ => two(days, "d", hours, "h"),
    }
}

/// How long ago that was, as [`human`] writes it.
pub(crate) fn ago(seconds: u64) -> String {
    if seconds == 0 { "just now".to_owned() } else { format!("{} ago", human(seconds)) }
}

/// A second of the Unix epoch as `2026-11-24 09:30:00Z`.
pub(crate) fn utc(at: u64) -> String {
    // Days to a civil date by eras of 400 years that begin in March (Howard Hinnant, "chrono-compatible low-level
    // date algorithms").
    let (days, time) = (at / 86_400 + 719_468, at % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", time / 3600, time / 60 % 60, time % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_clock_reaches_is_none() {
        assert_eq!(parse("36500d"), Ok(MOST));
        assert!(parse("36500d1s").unwrap_err().contains("hundred years"));
        assert!(parse("999999999999999d").is_err());
    }

    #[test]
    fn units_add_up() {
        assert_eq!(parse("90s"), Ok(90));
        assert_eq!(parse("30m"), Ok(1800));
        assert_eq!(parse("1h"), Ok(3600));
        assert_eq!(parse(" 1h30m "), Ok(5400));
        assert_eq!(parse("2d"), Ok(172_800));
    }

    #[test]
    fn no_time_is_not_some_time() {
        assert_eq!(parse_some("1s"), Ok(1));
        assert!(parse_some("0s").unwrap_err().contains("30m") && parse_some("x").is_err());
    }

    #[test]
    fn nothing_waits_for_a_path_for_ever() {
        assert_eq!((parse_patience("5m"), parse_patience("1h")), (Ok(300), Ok(3600)));
        assert_eq!(parse_patience("61m").unwrap_err(), "1 h at most, not 1 h 1 min");
        assert!(parse_patience("200000000000000d").is_err() && parse_patience("0s").is_err());
    }

    #[test]
    fn a_number_without_a_unit_is_refused_with_examples() {
        for bad in
            ["", "3600", "h", "1x", "1h30", "-1h", "1µ", "99999999999999999999s", "9999999999999999999h"]
        {
            let message = parse(bad).unwrap_err();
            assert!(message.contains("90s, 30m, 1h"), "{bad}: {message}");
        }
    }

    #[test]
    fn a_ttl_has_bounds() {
        assert_eq!(parse_ttl("1m"), Ok(60));
        assert_eq!(parse_ttl("24h"), Ok(86_400));
        assert!(parse_ttl("59s").unwrap_err().contains("between 1m and 24h"));
        assert!(parse_ttl("25h").is_err());
    }

    #[test]
    fn human_form_uses_two_units_at_most() {
        assert_eq!(human(45), "45 s");
        assert_eq!(human(725), "12 min");
        assert_eq!(human(3600), "1 h");
        assert_eq!(human(12_000), "3 h 20 min");
        assert_eq!(human(187_200), "2 d 4 h");
        assert_eq!((ago(0).as_str(), ago(1).as_str()), ("just now", "1 s ago"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00Z");
    }
}
