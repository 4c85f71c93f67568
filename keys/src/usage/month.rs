//! Months of the calendar, UTC.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

const DAY: u64 = 86_400;

/// A month, UTC. Text: `2026-11`; on the wire and in a database the number of months since the year 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Month(u32);

/// The text is no month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a month such as 2026-11")]
pub struct MonthError;

impl Month {
    /// The month of this Unix second.
    pub fn of(seconds: u64) -> Self {
        let (year, month) = civil(seconds / DAY);
        Self(u32::try_from(year * 12 + month - 1).unwrap_or(u32::MAX))
    }

    /// Its number: months since the year 0.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The month of a number.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The one before.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The one after.
    #[must_use]
    pub const fn after(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Its first Unix second.
    pub fn start(self) -> u64 {
        let (year, month) = (u64::from(self.0 / 12), u64::from(self.0 % 12 + 1));
        days_before(year, month).saturating_mul(DAY)
    }
}

/// Year and month of a day since 1970 (Howard Hinnant's days_from_civil, backwards).
const fn civil(day: u64) -> (u64, u64) {
    let shifted = day + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month)
}

/// Days from 1970 to the first of a month; 0 for one before.
const fn days_before(year: u64, month: u64) -> u64 {
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted_month + 2) / 5;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.saturating_sub(719_468)
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 12, self.0 % 12 + 1)
    }
}

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        let (year, month) =
            text.split_once('-').filter(|(y, m)| y.len() == 4 && m.len() == 2).ok_or(MonthError)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(year) || !digits(month) {
            return Err(MonthError);
        }
        let (year, month): (u32, u32) =
            (year.parse().map_err(|_| MonthError)?, month.parse().map_err(|_| MonthError)?);
        if (1..=12).contains(&month) { Ok(Self(year * 12 + month - 1)) } else { Err(MonthError) }
    }
}

impl Serialize for Month {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u32(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Month {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            u32::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lies_in_its_month() {
        let text = |seconds| Month::of(seconds).to_string();
        assert_eq!(text(0), "1970-01");
        assert_eq!(text(951_782_399), "2000-02");
        assert_eq!(text(951_868_799), "2000-02", "29 February 2000");
        assert_eq!(text(951_868_800), "2000-03");
        assert_eq!(text(1_796_083_199), "2026-11");
        assert_eq!(text(1_796_083_200), "2026-12");
    }

    #[test]
    fn a_month_begins_with_its_first_second() {
        for number in Month::of(0).number()..Month::of(7_000_000_000).number() {
            let month = Month::from_number(number);
            assert_eq!(Month::of(month.start()), month);
            assert_eq!(Month::of(month.after().start() - 1), month);
            assert_eq!(month.to_string().parse(), Ok(month));
            assert_eq!(month.after().before(), month);
        }
    }

    #[test]
    fn what_is_no_month_is_refused() {
        for bad in ["2026-13", "2026-00", "2026", "2026-1", "26-01", "+026-01", "2026-+1", ""] {
            assert_eq!(bad.parse::<Month>(), Err(MonthError), "{bad}");
        }
    }
}
