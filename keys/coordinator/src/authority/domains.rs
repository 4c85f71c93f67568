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
/// The same without an answer of its name server, which may be down for long.
const SILENCE: u64 = 30 * 24 * 3600;
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
    /// The domain's name server did not answer, or could not.
    Unknown,
    /// Nobody could be asked: the name servers that are asked here do not answer for anything.
    Deaf,
}

/// What speaks against a domain that was shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Doubts {
    /// Since when its record is missing.
    pub(crate) missing_since: Option<u64>,
    /// Since when its name server has not answered.
    pub(crate) unknown_since: Option<u64>,
}

/// What becomes of the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It leads on.
    Keep { checked_at: u64, doubts: Doubts },
    /// It leads nowhere, for this reason.
    Lose(&'static str),
}

/// See [`After`]. One look alone takes nothing away.
pub(crate) fn after_look(look: Look, doubts: Doubts, now: u64) -> After {
    let Doubts { missing_since, unknown_since } = doubts;
    let is_over = |since: Option<u64>, time| since.is_some_and(|since| now >= since.saturating_add(time));
    let sooner = now.saturating_sub(LOOK_AGAIN - LOOK_SOONER);
    match look {
        Look::There => After::Keep { checked_at: now, doubts: Doubts::default() },
        Look::Missing if is_over(missing_since, GRACE) => After::Lose("its record is gone"),
        Look::Missing => {
            let missing_since = missing_since.or(Some(now));
            After::Keep { checked_at: now, doubts: Doubts { missing_since, unknown_since: None } }
        }
        Look::Unknown if is_over(unknown_since, SILENCE) => {
            After::Lose("its name server has not answered for 30 days")
        }
        Look::Unknown => {
            let unknown_since = unknown_since.or(Some(now));
            After::Keep { checked_at: sooner, doubts: Doubts { missing_since, unknown_since } }
        }
        Look::Deaf => After::Keep { checked_at: sooner, doubts },
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
    fn a_record_that_goes_away_takes_the_domain_along_after_some_days() {
        let now = 1_000_000;
        let missing = |missing_since| Doubts { missing_since, unknown_since: None };
        let kept = |checked_at, doubts| After::Keep { checked_at, doubts };
        let after = |look, since, now| after_look(look, missing(since), now);
        assert_eq!(after(Look::Missing, None, now), kept(now, missing(Some(now))));
        let late = now + GRACE - 1;
        assert_eq!(after(Look::Missing, Some(now), late), kept(late, missing(Some(now))));
        assert!(matches!(after(Look::Missing, Some(now), now + GRACE), After::Lose(_)));
        assert_eq!(after(Look::There, Some(now), now + GRACE), kept(now + GRACE, Doubts::default()));
    }

    #[test]
    fn a_name_server_that_is_silent_for_a_month_takes_its_domains_along_and_our_own_silence_none() {
        let now = 10_000_000;
        let (missing_since, sooner) = (Some(5), |now: u64| now - LOOK_AGAIN + LOOK_SOONER);
        let first = Doubts { missing_since, unknown_since: None };
        let silent = Doubts { missing_since, unknown_since: Some(now) };
        let kept = |checked_at, doubts| After::Keep { checked_at, doubts };
        assert_eq!(after_look(Look::Unknown, first, now), kept(sooner(now), silent), "nothing is known");
        let late = now + SILENCE - 1;
        assert_eq!(after_look(Look::Unknown, silent, late), kept(sooner(late), silent));
        assert_eq!(after_look(Look::Deaf, silent, now + SILENCE), kept(sooner(now + SILENCE), silent));
        assert!(matches!(after_look(Look::Unknown, silent, now + SILENCE), After::Lose(_)));
        let heard = Doubts { missing_since: Some(late), unknown_since: None };
        let before = Doubts { missing_since: None, unknown_since: Some(now) };
        assert_eq!(after_look(Look::Missing, before, late), kept(late, heard), "it has answered");
    }

    #[test]
    fn the_domains_of_a_tenant_have_a_bound() {
        assert!(has_room_for_domains(MAX_DOMAINS - 1).is_ok());
        assert_eq!(has_room_for_domains(MAX_DOMAINS).unwrap_err().code, Code::TunnelLimit);
    }
}
