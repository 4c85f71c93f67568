//! This machine's clock against another's: certificates and proofs live by the clock, so a wrong one makes good keys
//! look expired and fresh requests look old.

use std::time::UNIX_EPOCH;

use http::HeaderValue;
use mytunnel_keys::error::Code;

use crate::failure::Failure;
use crate::span;

/// Up to here the checks forgive a difference (certificates 30 s, proofs 120 s), or it is only the network's delay.
const TOLERATED: i64 = 60;

/// Seconds that this machine is ahead of the other, if that could be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skew(Option<i64>);

impl Skew {
    /// The other end has not told its time.
    pub(crate) const UNKNOWN: Self = Self(None);

    /// By how far the other end said to be ahead.
    pub(crate) const fn of_offset(seconds: i64) -> Self {
        Self(Some(-seconds))
    }

    /// By the time at which the other end answered.
    pub(crate) fn new(other: u64, now: u64) -> Self {
        Self(i64::try_from(now).ok().zip(i64::try_from(other).ok()).map(|(now, other)| now - other))
    }

    /// By the `Date` of an HTTP answer (RFC 9110 §6.6.1).
    pub(crate) fn of_date_header(date: Option<&HeaderValue>, now: u64) -> Self {
        let date =
            date.and_then(|value| value.to_str().ok()).and_then(|text| httpdate::parse_http_date(text).ok());
        match date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) {
            Some(since) => Self::new(since.as_secs(), now),
            None => Self(None),
        }
    }

    /// What is wrong with the clock, in words, if something is.
    pub(crate) fn complaint(self) -> Option<String> {
        let ahead = self.0.filter(|ahead| ahead.abs() > TOLERATED)?;
        let direction = if ahead > 0 { "ahead of" } else { "behind" };
        // The way of an answer takes its time, and what is told in whole seconds lost some: an hour that is told as
        // 59 minutes helps nobody.
        let minutes = (ahead.unsigned_abs() + 30) / 60;
        Some(format!("this machine's clock is {} {direction} the server's", span::human(minutes * 60)))
    }

    /// Adds the clock to a refusal that it may well have caused, once.
    pub(crate) fn explain(self, failure: Failure) -> Failure {
        // A relay whose certificate is not good at this machine's time counts as one that is not reached.
        let by_clock = matches!(
            failure.code(),
            Code::KeyExpired | Code::InvalidKey | Code::BadRequest | Code::RelayUnreachable
        );
        match self.complaint() {
            Some(complaint) if by_clock && !failure.message().contains(&complaint) => {
                let message = format!("{}; {complaint}", failure.message());
                failure
                    .with_message(message)
                    .with_help("Set the clock (`timedatectl set-ntp true`), then try again.")
            }
            Some(_) | None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AT: u64 = 784_111_777;

    fn skew(now: u64) -> Skew {
        Skew::of_date_header(Some(&HeaderValue::from_static(DATE)), now)
    }

    #[test]
    fn an_hour_off_is_named_with_its_direction() {
        assert_eq!(skew(AT + 3600).complaint().unwrap(), "this machine's clock is 1 h ahead of the server's");
        for seconds in [3571, 3599, 3600, 3629] {
            let told = skew(AT - seconds).complaint().unwrap();
            assert_eq!(told, "this machine's clock is 1 h behind the server's");
        }
    }

    #[test]
    fn a_small_or_unknown_difference_is_no_complaint() {
        assert_eq!(skew(AT + 60).complaint(), None);
        assert_eq!(Skew::of_date_header(None, AT).complaint(), None);
        assert_eq!(Skew::of_date_header(Some(&HeaderValue::from_static("now")), AT).complaint(), None);
    }

    #[test]
    fn only_refusals_that_a_clock_can_cause_mention_it() {
        let expired = skew(AT + 3600).explain(Failure::new(Code::KeyExpired, "the key has expired"));
        assert!(expired.message().contains("1 h ahead"), "{}", expired.message());
        assert!(expired.help().contains("Set the clock"));
        let again = skew(AT + 3600).explain(expired);
        assert_eq!(again.message().matches("1 h ahead").count(), 1, "{again:?}");
        let taken = skew(AT + 3600).explain(Failure::new(Code::NameTaken, "taken"));
        assert_eq!(taken.message(), "taken");
    }
}
