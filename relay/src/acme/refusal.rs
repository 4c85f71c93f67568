//! What an authority says when it has had enough (`rateLimited`, RFC 8555 §6.6): until when, and of what.
//!
//! When is a header's matter (`Retry-After`). Of what stands in words alone; those of Let's Encrypt and of others that
//! run the same server (Boulder) are read here, and what is not understood concerns the one certificate that was asked for.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

/// How its problem document is called.
const TYPE: &str = "urn:ietf:params:acme:error:rateLimited";

/// For how long, where it does not say.
const UNSAID: Duration = Duration::from_secs(3600);

/// No authority's word holds for longer; the longest window that is known is a week.
const LONGEST: Duration = Duration::from_secs(8 * 24 * 3600);

/// A refusal, as it came.
#[derive(Debug, thiserror::Error)]
#[error("the authority has had enough for now: {detail}")]
pub(super) struct RateLimited {
    pub(super) detail: String,
    pub(super) until: SystemTime,
}

/// What is not to be asked for until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Concern {
    /// Anything.
    All,
    /// New names at or under this one.
    Under(Box<str>),
    /// What was asked for.
    ThisOne,
}

#[derive(Deserialize)]
struct Problem {
    r#type: String,
    #[serde(default)]
    detail: String,
}

impl RateLimited {
    /// Reads an answer; `None` for one that says something else.
    pub(super) fn read(body: &[u8], retry_after: Option<&[u8]>, now: SystemTime) -> Option<Self> {
        let problem: Problem = serde_json::from_slice(body).ok()?;
        if problem.r#type != TYPE {
            return None;
        }
        let said = retry_after.and_then(|value| moment(std::str::from_utf8(value).ok()?.trim(), now));
        let until = said.unwrap_or(now + UNSAID).clamp(now, now + LONGEST);
        Some(Self { detail: problem.detail, until })
    }

    pub(super) fn concern(&self) -> Concern {
        let detail = self.detail.to_ascii_lowercase();
        // Of one set of names, or of the failures of one.
        if detail.contains("exact set") || detail.contains("failed authorizations") {
            return Concern::ThisOne;
        }
        let named = detail.split('"').nth(1).filter(|name| is_domain(name));
        match named.filter(|_| detail.contains("too many certificates")) {
            Some(domain) => Concern::Under(domain.into()),
            None if detail.contains("new orders") || detail.contains("service busy") => Concern::All,
            None => Concern::ThisOne,
        }
    }
}

/// Seconds from now, or a date (RFC 9110 §10.2.3).
fn moment(value: &str, now: SystemTime) -> Option<SystemTime> {
    match value.parse::<u64>() {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok(),
    }
}

fn is_domain(name: &str) -> bool {
    name.contains('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn said(detail: &str, retry_after: Option<&str>) -> RateLimited {
        let body = serde_json::json!({"type": TYPE, "detail": detail, "status": 429}).to_string();
        RateLimited::read(body.as_bytes(), retry_after.map(str::as_bytes), now()).unwrap()
    }

    #[test]
    fn other_problems_are_none_of_it() {
        for body in
            [r#"{"type":"urn:ietf:params:acme:error:badNonce"}"#, "<html>", "", "[]", r#"{"detail":"x"}"#]
        {
            assert!(RateLimited::read(body.as_bytes(), Some(b"60"), now()).is_none(), "{body}");
        }
    }

    #[test]
    fn it_holds_until_the_time_that_is_told_and_not_for_ever() {
        let until = |retry_after| said("x", retry_after).until.duration_since(now()).unwrap();
        assert_eq!(until(Some("120")), Duration::from_secs(120));
        assert_eq!(until(Some(" 0 ")), Duration::ZERO);
        let date = httpdate::fmt_http_date(now() + HOUR * 5);
        assert_eq!(until(Some(&date)), HOUR * 5);
        let past = httpdate::fmt_http_date(now() - HOUR);
        assert_eq!(until(Some(&past)), Duration::ZERO);
        for unsaid in [None, Some("soon"), Some("-1"), Some("")] {
            assert_eq!(until(unsaid), HOUR, "{unsaid:?}");
        }
        assert_eq!(until(Some("99999999")), HOUR * 24 * 8);
        assert_eq!(until(Some("18446744073709551615")), HOUR, "a time that there is not");
    }

    #[test]
    fn what_it_concerns_is_read_from_the_words_of_lets_encrypt() {
        let see = "retry after 2026-11-28 10:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/";
        let concern = |detail: &str| said(&format!("{detail}, {see}"), None).concern();
        assert_eq!(
            concern(r#"too many certificates (50) already issued for "Example.com" in the last 168h0m0s"#),
            Concern::Under("example.com".into())
        );
        assert_eq!(
            concern(
                r#"too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s"#
            ),
            Concern::ThisOne
        );
        assert_eq!(
            concern(r#"too many failed authorizations (5) for "a.example.com" in the last 1h0m0s"#),
            Concern::ThisOne
        );
        assert_eq!(concern("too many new orders (300) from this account in the last 3h0m0s"), Concern::All);
        assert_eq!(concern("Service busy; retry later."), Concern::All);
        for strange in ["", "no", r#"too many certificates for "" "#, r#"too many certificates for "com""#] {
            assert_eq!(concern(strange), Concern::ThisOne, "{strange}");
        }
    }
}
