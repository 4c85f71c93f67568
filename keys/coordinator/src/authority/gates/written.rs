//! What a gate may say: names, passwords, numbers, tokens, and who or what a list may name, each in its one form.

use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::AddressGate;
use mytunnel_keys::network::Network;
use zeroize::Zeroizing;

use crate::authority::Refusal;

/// Longest name of a gate's user, in characters.
const MAX_USER: usize = 64;
/// Shortest and longest password of a gate, in characters and in bytes.
const MIN_PASSWORD: usize = 8;
const MAX_PASSWORD: usize = 1024;
/// Entries in one list.
pub(super) const MAX_ALLOWED: usize = 100;
/// Longest address and domain (RFC 5321, RFC 1035).
pub(super) const MAX_EMAIL: usize = 254;
pub(super) const MAX_DOMAIN: usize = 253;
/// Digits of a number that people type: relays let so few guesses through that six are enough (a day of guessing at one
/// tunnel has one chance in 800).
const PIN: std::ops::RangeInclusive<usize> = 6..=12;
/// Shortest and longest token of a program, in characters.
const TOKEN: std::ops::RangeInclusive<usize> = 16..=512;
/// Longest life that a tunnel may be given: ten years.
const MAX_LIFE: u64 = 10 * 366 * 86_400;
/// Who may always be named; a relay without it says how its operator mends that.
const GOOGLE: &str = "google";

/// The user's name of a password gate. Both it and the password must fit into the header that browsers send (RFC 7617).
pub(crate) fn gate_user(user: String) -> Result<String, Refusal> {
    let length = user.chars().count();
    if !(1..=MAX_USER).contains(&length) || user.contains(':') || user.chars().any(char::is_control) {
        let message = format!("user: it needs 1 to {MAX_USER} characters, and no colon among them");
        return Err(Refusal::new(Code::BadRequest, message));
    }
    Ok(user)
}

pub(crate) fn check_gate_password(password: &str) -> Result<(), Refusal> {
    let long_enough = password.chars().count() >= MIN_PASSWORD;
    if !long_enough || password.len() > MAX_PASSWORD || password.chars().any(char::is_control) {
        let message = format!(
            "password: it needs {MIN_PASSWORD} characters at least, {MAX_PASSWORD} bytes at most, on one line"
        );
        return Err(Refusal::new(Code::BadRequest, message));
    }
    Ok(())
}

/// Digits only: they are typed on telephones.
pub(crate) fn check_pin(pin: &str) -> Result<(), Refusal> {
    if PIN.contains(&pin.len()) && pin.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    let message = format!("pin: it needs {} to {} digits, and nothing else", PIN.start(), PIN.end());
    Err(Refusal::new(Code::BadRequest, message))
}

/// A number of six digits, each as likely as any other.
pub(crate) fn pin(random: &[u8; 8]) -> Zeroizing<String> {
    // The remainder prefers some by one part in 18 million million.
    Zeroizing::new(format!("{:06}", u64::from_be_bytes(*random) % 1_000_000))
}

/// What the header `Authorization: Bearer` can carry (RFC 6750), and too much of it to be guessed.
pub(crate) fn check_token(token: &str) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if TOKEN.contains(&token.len()) && token.trim_end_matches('=').bytes().all(plain) {
        return Ok(());
    }
    let message = format!(
        "token: it needs {} to {} letters, digits and - . _ ~ + /, with = at the end only",
        TOKEN.start(),
        TOKEN.end()
    );
    Err(Refusal::new(Code::BadRequest, message))
}

/// Where visitors may come from: sorted, each entry once. Two empty lists would be no gate.
pub(crate) fn addresses(allow: &[String], deny: &[String]) -> Result<AddressGate, Refusal> {
    let network = |typed: &str| typed.parse::<Network>().ok();
    let gate = AddressGate { allow: all("allow", allow, network)?, deny: all("deny", deny, network)? };
    if gate.allow.is_empty() && gate.deny.is_empty() {
        let message = "allow, deny: name an address or a network in one of them";
        return Err(Refusal::new(Code::BadRequest, message));
    }
    Ok(gate)
}

/// The second at which a tunnel ends that has so many left.
pub(crate) fn end_of_life(seconds: u64, now: u64) -> Result<u64, Refusal> {
    if (1..=MAX_LIFE).contains(&seconds) {
        return Ok(now + seconds);
    }
    Err(Refusal::new(Code::BadRequest, format!("expires_in: it needs 1 to {MAX_LIFE} seconds")))
}

/// Who may sign in, in its one form: lower case, sorted, each entry once. `known`: who vouches for people here, each with
/// its issuer; relays have the same.
pub(crate) fn sign_in_list<'a>(
    known: impl Iterator<Item = (&'a str, &'a str)>,
    provider: &str,
    domains: &[String],
    emails: &[String],
) -> Result<api::EdgeAuth, Refusal> {
    let mut ids = vec![GOOGLE];
    let mut meant = (provider == GOOGLE).then_some(GOOGLE);
    for (id, issuer) in known {
        if id == provider || issuer.trim_end_matches('/') == provider.trim_end_matches('/') {
            meant = meant.or(Some(id));
        }
        ids.extend((id != GOOGLE).then_some(id));
    }
    let Some(meant) = meant else {
        let message = format!("provider: this server knows {}", ids.join(", "));
        return Err(Refusal::new(Code::UnsupportedProvider, message));
    };
    Ok(api::EdgeAuth {
        provider: meant.to_owned(),
        allowed_domains: all("allowed_domains", domains, domain)?,
        allowed_emails: all("allowed_emails", emails, email)?,
    })
}

fn all<T: Ord>(field: &str, entries: &[String], read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Refusal> {
    let refused = |message: String| Refusal::new(Code::BadRequest, format!("{field}: {message}"));
    if entries.len() > MAX_ALLOWED {
        return Err(refused(format!("at most {MAX_ALLOWED} entries")));
    }
    let mut read_all = Vec::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        // The entry itself is not repeated: it may be long, and what a terminal should not show.
        read_all.push(read(entry).ok_or_else(|| refused(format!("entry {} is none", place + 1)))?);
    }
    read_all.sort_unstable();
    read_all.dedup();
    Ok(read_all)
}

/// One `@`, something before it and a whole domain behind it; all of it printable ASCII.
fn email(typed: &str) -> Option<String> {
    let email = typed.to_ascii_lowercase();
    let (user, host) = email.split_once('@')?;
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"(),:;<>@[\\]".contains(&byte);
    let whole = email.len() <= MAX_EMAIL && (1..=64).contains(&user.len()) && user.bytes().all(plain);
    (whole && domain(host).as_deref() == Some(host)).then_some(email)
}

/// Two labels at least: a top-level domain has no addresses of its own.
fn domain(typed: &str) -> Option<String> {
    let domain = typed.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let whole = domain.len() <= MAX_DOMAIN && domain.contains('.') && domain.split('.').all(label);
    whole.then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(provider: &str, domains: &[&str], emails: &[&str]) -> Result<api::EdgeAuth, Refusal> {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let known = [("op", "https://id.example.com/"), (GOOGLE, "https://accounts.google.com")];
        sign_in_list(known.into_iter(), provider, &owned(domains), &owned(emails))
    }

    #[test]
    fn allow_lists_have_one_form() {
        let gate = gate("google", &["Acme.Example", "b.example", "acme.example"], &["Ann@Acme.example"]);
        let gate = gate.unwrap();
        assert_eq!(gate.allowed_domains, ["acme.example", "b.example"]);
        assert_eq!(gate.allowed_emails, ["ann@acme.example"]);
    }

    #[test]
    fn what_is_no_whole_domain_or_address_is_refused() {
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            "example",
            ".example",
            "a.",
            "a..b",
            "-a.b",
            "a-.b",
            "@a.b",
            "*.a.b",
            "a b.c",
            "a.b\n",
            " a.b",
            "b\u{e4}r.example",
            "a.b:80",
            "a_b.c",
            &long,
        ] {
            assert!(gate("google", &[bad], &[]).is_err(), "{bad:?}");
        }
        for bad in [
            "",
            "ann",
            "@a.b",
            "ann@",
            "ann@b",
            "x@evil.example@acme.example",
            "ann@acme.example ",
            "\u{430}nn@acme.example",
            "a,b@acme.example",
            "\"a\"@acme.example",
            "ann@.acme.example",
            "ann@acme.example.",
            "a\0@b.example",
        ] {
            assert!(gate("google", &[], &[bad]).is_err(), "{bad:?}");
        }
        let gate_of = |domains: &[String]| sign_in_list(std::iter::empty(), "google", domains, &[]);
        let many = |count: usize| (0..count).map(|at| format!("d{at}.example")).collect::<Vec<_>>();
        assert!(gate_of(&many(100)).is_ok());
        assert!(gate_of(&many(101)).is_err());
        assert_eq!(gate("github", &[], &[]).unwrap_err().code, Code::UnsupportedProvider);
        assert_eq!(gate("Google", &[], &[]).unwrap_err().code, Code::UnsupportedProvider);
    }

    #[test]
    fn user_and_password_have_their_lengths() {
        for good in ["a", "Ann Ä", &"ä".repeat(64)] {
            assert!(gate_user(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "a:b", "a\nb", &"a".repeat(65)] {
            assert!(gate_user(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(check_gate_password("12345678").is_ok());
        for bad in ["1234567", "1234567\u{7}8", &"x".repeat(1025)] {
            assert!(check_gate_password(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn pins_are_digits_and_tokens_what_a_header_can_carry() {
        for good in ["123456", "000000000000"] {
            assert!(check_pin(good).is_ok(), "{good}");
        }
        for bad in
            ["", "12345", "1234567890123", "12345a", "123 456", "\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}"]
        {
            assert!(check_pin(bad).is_err(), "{bad}");
        }
        for good in ["abcdefghijklmnop", "A-._~+/0123456789==", &"x".repeat(512)] {
            assert!(check_token(good).is_ok(), "{good}");
        }
        for bad in [
            "abcdefghijklmno",
            "abcdefgh ijklmnop",
            "abcdefgh=ijklmnop",
            "\u{e4}bcdefghijklmnop",
            &"x".repeat(513),
        ] {
            assert!(check_token(bad).is_err(), "{bad}");
        }
        let refusal = check_token("my secret tokens").unwrap_err();
        assert!(!refusal.message.contains("secret"));
    }

    #[test]
    fn a_pin_that_is_made_is_one() {
        assert_eq!(pin(&[0; 8]).as_str(), "000000");
        assert_eq!(pin(&1_234_567_u64.to_be_bytes()).as_str(), "234567");
        assert!(check_pin(&pin(&[0xff; 8])).is_ok());
    }

    #[test]
    fn lists_of_addresses_have_one_form_and_are_never_both_empty() {
        let lists = |allow: &[&str], deny: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
            addresses(&owned(allow), &owned(deny))
        };
        let gate = lists(&["10.1.0.0/8", "192.0.2.7", "10.0.0.0/8"], &["::1"]).unwrap();
        let text = |list: &[Network]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            (text(&gate.allow), text(&gate.deny)),
            (vec!["10.0.0.0/8".to_owned(), "192.0.2.7/32".to_owned()], vec!["::1/128".to_owned()])
        );
        assert!(lists(&[], &["10.0.0.0/8"]).is_ok());
        for (allow, deny) in
            [(&[][..], &[][..]), (&["a.example"], &[]), (&[], &["10.0.0.0/33"]), (&["10.0.0.1"; 101], &[])]
        {
            assert_eq!(lists(allow, deny).unwrap_err().code, Code::BadRequest, "{allow:?} {deny:?}");
        }
    }

    #[test]
    fn a_life_has_an_end_in_sight() {
        assert_eq!(end_of_life(1, 1000), Ok(1001));
        assert_eq!(end_of_life(MAX_LIFE, 1000), Ok(1000 + MAX_LIFE));
        for bad in [0, MAX_LIFE + 1, u64::MAX] {
            assert!(end_of_life(bad, 1000).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_provider_is_named_by_its_id_or_its_issuer() {
        for (named, id) in [
            ("op", "op"),
            ("https://id.example.com", "op"),
            ("https://id.example.com/", "op"),
            ("google", "google"),
            ("https://accounts.google.com", "google"),
        ] {
            assert_eq!(gate(named, &[], &[]).unwrap().provider, id);
        }
        let refusal = gate("https://id.example", &[], &[]).unwrap_err();
        assert_eq!(refusal.code, Code::UnsupportedProvider);
        assert!(refusal.message.ends_with("google, op"), "{}", refusal.message);
        let none = sign_in_list(std::iter::empty(), "google", &[], &[]);
        assert!(none.is_ok(), "the contract's own provider may always be named");
    }
}
