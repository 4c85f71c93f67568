//! Domains of tenants' own: which may be asked for, by whom, and whose one is.
//!
//! Whose a domain is, is what the DNS says: who can put a TXT record with their own value under it holds it. A tenant
//! keeps it while that record is there, and for some days without it unless another shows theirs.

use mytunnel_keys::error::Code;
use mytunnel_keys::id::{DomainName, TenantId};

use super::{Caller, Reach, Refusal, may_administer, reach_of_tunnels};

/// Domains of one tenant, shown or not.
const MAX_DOMAINS: u64 = 50;
/// How often a domain's record is looked for again, in seconds.
pub(crate) const LOOK_AGAIN: u64 = 24 * 3600;
/// The same after a look that told nothing.
const LOOK_SOONER: u64 = 3600;
/// How long a domain leads to its tunnel without its record: a zone that is moved by mistake is mended in that time.
const GRACE: u64 = 3 * 24 * 3600;
/// What stands in front of a token, so that whoever finds the record knows what it is for.
const PREFIX: &str = "mytunnel-domain=";
/// Longest domain for which the record's name still fits into the DNS.
const MAX_DOMAIN: usize = 253 - "_mytunnel.".len();

/// The tenant whose domains the caller may add and take away.
pub(crate) fn may_change_domains(caller: &Caller) -> Result<TenantId, Refusal> {
    may_administer(caller, "change domains")
}

/// Which domains the caller may list. An agent's key has nothing to do with them.
pub(crate) fn may_see_domains(caller: &Caller) -> Result<Reach, Refusal> {
    let reach = reach_of_tunnels(caller)?;
    match reach.family {
        Some(_) => Err(Refusal::new(Code::ScopeDenied, "a child key cannot list domains")),
        None => Ok(reach),
    }
}

/// The domain that somebody has written, if tenants may have it here.
pub(crate) fn domain(written: &str, cluster: &str, console: &str) -> Result<DomainName, Refusal> {
    let refused = |message: String| Refusal::new(Code::BadRequest, message);
    let written = written.trim().trim_end_matches('.');
    let ascii = idna::domain_to_ascii_strict(written)
        .map_err(|_| refused("domain: this is not the name of a host, such as app.example.com".to_owned()))?;
    let domain: DomainName = ascii.parse().map_err(|error| refused(format!("domain: {error}")))?;
    if domain.as_str().len() > MAX_DOMAIN {
        return Err(refused(format!("domain: it has more than {MAX_DOMAIN} characters")));
    }
    if [cluster, console, "localhost"].into_iter().any(|own| domain.is_within(own)) {
        return Err(refused("domain: this one is the server's own; use one that is yours".to_owned()));
    }
    Ok(domain)
}

/// May a tenant with so many domains have one more?
pub(crate) fn has_room_for_domains(count: u64) -> Result<(), Refusal> {
    if count < MAX_DOMAINS {
        return Ok(());
    }
    let message = format!("there are {MAX_DOMAINS} domains already; remove one that nobody needs");
    Err(Refusal::new(Code::TunnelLimit, message))
}

/// Name of the record by which a domain is shown.
pub(crate) fn record_name(domain: &DomainName) -> String {
    format!("_mytunnel.{domain}")
}

/// Its value.
pub(crate) fn record_value(token: &str) -> String {
    format!("{PREFIX}{token}")
}

/// Who else has shown a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder<'a> {
    Nobody,
    /// The one who asks.
    Same,
    /// Another tenant, with this token.
    Other(&'a str),
}

/// Whose a domain is, given the values that stand under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// That of the one who asks, as before.
    Still,
    /// That of the one who asks, from now on, and of nobody else.
    Now,
    /// Nothing there is the asker's.
    Not { others: bool },
    /// It is the asker's, and just as much that of the one who has it.
    Both,
}

/// See [`Shown`].
pub(crate) fn shown(found: &[String], token: &str, holder: Holder<'_>) -> Shown {
    let stands = |token: &str| found.contains(&record_value(token));
    match (stands(token), holder) {
        (false, _) => Shown::Not { others: !found.is_empty() },
        (true, Holder::Same) => Shown::Still,
        (true, Holder::Nobody) => Shown::Now,
        (true, Holder::Other(theirs)) if stands(theirs) => Shown::Both,
        (true, Holder::Other(_)) => Shown::Now,
    }
}

/// What a look at the record of a domain that was shown has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    There,
    Missing,
    /// The name server did not answer, or could not.
    Unknown,
}

/// What becomes of the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It leads on.
    Keep { checked_at: u64, missing_since: Option<u64> },
    /// It leads nowhere.
    Lose,
}

/// See [`After`]. One look alone takes nothing away.
pub(crate) fn after_look(look: Look, missing_since: Option<u64>, now: u64) -> After {
    match (look, missing_since) {
        (Look::There, _) => After::Keep { checked_at: now, missing_since: None },
        (Look::Missing, Some(since)) if now >= since.saturating_add(GRACE) => After::Lose,
        (Look::Missing, since) => After::Keep { checked_at: now, missing_since: since.or(Some(now)) },
        (Look::Unknown, since) => {
            After::Keep { checked_at: now.saturating_sub(LOOK_AGAIN - LOOK_SOONER), missing_since: since }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(written: &str) -> Result<String, Code> {
        let read = domain(written, "tun.example.net", "console.example.org");
        read.map(|domain| domain.to_string()).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_domain_is_put_into_the_form_of_the_dns() {
        for (written, read) in [
            ("app.example.com", "app.example.com"),
            (" App.Example.COM. ", "app.example.com"),
            ("Café.example", "xn--caf-dma.example"),
            ("xn--caf-dma.example", "xn--caf-dma.example"),
            ("bücher。example", "xn--bcher-kva.example"),
            ("example.com", "example.com"),
        ] {
            assert_eq!(asked(written).as_deref(), Ok(read), "{written}");
        }
    }

    #[test]
    fn what_is_no_host_of_somebody_elses_is_refused() {
        for written in [
            "",
            "com",
            "localhost",
            "a.localhost",
            "*.example.com",
            "a b.example",
            "https://a.example",
            "a.example:443",
            "a_b.example",
            "192.0.2.1",
            "[::1]",
            "a..example",
            "xn--a.example",
            "a\u{0}.example",
            "a.example/x",
            "tun.example.net",
            "x.tun.example.net",
            "a.b.tun.example.net",
            "TUN.example.net.",
            "console.example.org",
            "x.console.example.org",
            &format!("{}.example", "a.".repeat(118)),
        ] {
            assert_eq!(asked(written), Err(Code::BadRequest), "{written}");
        }
        for other in ["example.net", "xtun.example.net", "other.example.net", "consol.example.org"] {
            assert!(asked(other).is_ok(), "{other}");
        }
        assert!(domain("a.example", "localhost", "localhost").is_ok());
    }

    #[test]
    fn who_has_the_record_has_the_domain_and_two_records_change_nothing() {
        let of = |values: &[&str], holder| {
            let found: Vec<_> = values.iter().map(|token| record_value(token)).collect();
            shown(&found, "mine", holder)
        };
        assert_eq!(of(&["mine"], Holder::Nobody), Shown::Now);
        assert_eq!(of(&["x", "mine"], Holder::Same), Shown::Still);
        assert_eq!(of(&["mine"], Holder::Other("theirs")), Shown::Now);
        assert_eq!(of(&["mine", "theirs"], Holder::Other("theirs")), Shown::Both);
        assert_eq!(of(&["theirs"], Holder::Other("theirs")), Shown::Not { others: true });
        assert_eq!(of(&[], Holder::Nobody), Shown::Not { others: false });
        let bare = shown(&["mine".to_owned(), " mytunnel-domain=mine".to_owned()], "mine", Holder::Nobody);
        assert_eq!(bare, Shown::Not { others: true }, "the value is the whole of it");
    }

    #[test]
    fn a_record_that_goes_away_takes_the_domain_along_after_some_days_and_a_dead_name_server_does_not() {
        let now = 1_000_000;
        let kept = |checked_at, missing_since| After::Keep { checked_at, missing_since };
        assert_eq!(after_look(Look::Missing, None, now), kept(now, Some(now)));
        assert_eq!(after_look(Look::Missing, Some(now), now + GRACE - 1), kept(now + GRACE - 1, Some(now)));
        assert_eq!(after_look(Look::Missing, Some(now), now + GRACE), After::Lose);
        assert_eq!(after_look(Look::There, Some(now), now + GRACE), kept(now + GRACE, None));
        let sooner = now - LOOK_AGAIN + LOOK_SOONER;
        assert_eq!(after_look(Look::Unknown, Some(5), now), kept(sooner, Some(5)), "nothing is known");
    }

    #[test]
    fn the_domains_of_a_tenant_have_a_bound() {
        assert!(has_room_for_domains(MAX_DOMAINS - 1).is_ok());
        assert_eq!(has_room_for_domains(MAX_DOMAINS).unwrap_err().code, Code::TunnelLimit);
    }
}
