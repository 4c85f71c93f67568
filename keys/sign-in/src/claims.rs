//! What a provider says of a person, and how much of it counts.

use serde::Deserialize;

use crate::error::{SignInError, TokenError};
use crate::provider::{Dialect, Provider};

/// Difference of clocks that is borne, in seconds.
const SKEW: u64 = 60;
/// An ID token older than this was not made for a sign-in that has just been.
const MAX_AGE: u64 = 10 * 60;
/// Longest address of an account (RFC 5321).
const MAX_EMAIL: usize = 254;
/// Longest subject (OpenID Connect Core, section 2).
const MAX_SUBJECT: usize = 255;

/// Somebody, as a provider vouches for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who vouches.
    pub issuer: String,
    /// The person, for ever: unlike an address it never goes to somebody else.
    pub subject: String,
    /// Their address as it is shown, if the provider told one.
    pub shown_email: Option<String>,
    /// Their address, only where the provider knows that it is theirs.
    pub verified_email: Option<String>,
    /// When they last proved to the provider who they are, if it says so; never later than now.
    pub authenticated_at: Option<u64>,
}

/// What an ID token says, as far as it matters. Its signature was checked.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    sub: String,
    aud: OneOrMany,
    azp: Option<String>,
    exp: u64,
    iat: u64,
    nbf: Option<u64>,
    auth_time: Option<u64>,
    nonce: Option<String>,
    #[serde(flatten)]
    pub(crate) person: Person,
}

/// What is said of the person; also the answer of the userinfo endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Person {
    pub(crate) email: Option<String>,
    #[serde(default)]
    email_verified: Flag,
    hd: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Some issuers write booleans as text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Flag {
    Plain(bool),
    Text(String),
}

impl Default for Flag {
    fn default() -> Self {
        Self::Plain(false)
    }
}

impl Flag {
    fn is_set(&self) -> bool {
        match self {
            Self::Plain(set) => *set,
            Self::Text(text) => text == "true",
        }
    }
}

impl Claims {
    /// Is it for us, of this issuer, of this sign-in, and of this time? (OpenID Connect Core, section 3.1.3.7.)
    pub(crate) fn check(&self, provider: &Provider, nonce: &str, now: u64) -> Result<(), TokenError> {
        if self.iss != provider.issuer {
            return Err(TokenError::Issuer);
        }
        let (for_us, only) = match &self.aud {
            OneOrMany::One(one) => (*one == provider.client_id, true),
            OneOrMany::Many(many) => (many.contains(&provider.client_id), many.len() == 1),
        };
        let by_us = self.azp.as_ref().map_or(only, |party| *party == provider.client_id);
        if !for_us || !by_us {
            return Err(TokenError::Audience);
        }
        if self.nonce.as_deref() != Some(nonce) {
            return Err(TokenError::Nonce);
        }
        if self.exp.saturating_add(SKEW) <= now || self.iat.saturating_add(MAX_AGE + SKEW) <= now {
            return Err(TokenError::Expired);
        }
        if [Some(self.iat), self.nbf, self.auth_time].into_iter().flatten().any(|at| at > now + SKEW) {
            return Err(TokenError::Future);
        }
        if self.sub.is_empty() || self.sub.len() > MAX_SUBJECT {
            return Err(TokenError::Subject);
        }
        Ok(())
    }

    /// Whom it names.
    pub(crate) fn identity(
        &self,
        provider: &Provider,
        person: &Person,
        now: u64,
    ) -> Result<Identity, SignInError> {
        let identity = person.identity(provider, self.sub.clone())?;
        Ok(Identity { authenticated_at: self.auth_time.map(|at| at.min(now)), ..identity })
    }

    pub(crate) fn subject(&self) -> &str {
        &self.sub
    }
}

impl Person {
    pub(crate) fn verified(address: String) -> Self {
        Self { email: Some(address), email_verified: Flag::Plain(true), hd: None }
    }

    /// Applies the provider's rules of domains, and says which address is the person's beyond doubt.
    pub(crate) fn identity(&self, provider: &Provider, subject: String) -> Result<Identity, SignInError> {
        let shown_email = self.email.as_deref().and_then(email);
        let google = provider.dialect == Dialect::OpenId { google: true };
        let hd = self.hd.as_deref().map(str::to_ascii_lowercase);
        let is_own = |address: &str| {
            let domain = domain(address);
            // Anybody can open a consumer account at Google with the address of a company that once was theirs.
            !google || domain == "gmail.com" || hd.as_deref() == Some(domain)
        };
        let verified_email =
            shown_email.clone().filter(|address| self.email_verified.is_set() && is_own(address));
        let allowed = &provider.allowed_domains;
        let welcome = verified_email.as_deref().is_some_and(|address| {
            let domain = domain(address);
            allowed.iter().any(|allowed| allowed == domain)
        });
        if !allowed.is_empty() && !welcome {
            return Err(SignInError::Domain);
        }
        let issuer = provider.issuer.clone();
        Ok(Identity { issuer, subject, shown_email, verified_email, authenticated_at: None })
    }
}

/// An address in the one form in which accounts are kept: ASCII, one `@`, lower case. Anything else is none.
pub fn email(text: &str) -> Option<String> {
    let (user, domain) = text.split_once('@')?;
    let whole = text.len() <= MAX_EMAIL
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && !user.is_empty()
        && !domain.is_empty()
        && !domain.contains('@');
    whole.then(|| text.to_ascii_lowercase())
}

fn domain(address: &str) -> &str {
    address.split_once('@').map_or("", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{CLIENT, ISSUER, NONCE, NOW, claims as sound, provider};

    fn check(change: impl FnOnce(&mut Value)) -> Result<(), TokenError> {
        let mut value = sound();
        change(&mut value);
        let claims: Claims = serde_json::from_value(value).map_err(|_| TokenError::Malformed)?;
        claims.check(&provider("co", &[]), NONCE, NOW)
    }

    #[test]
    fn a_sound_token_is_believed() {
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(|claims| claims["aud"] = json!([CLIENT])), Ok(()));
        assert_eq!(
            check(|claims| {
                claims["aud"] = json!([CLIENT, "other"]);
                claims["azp"] = json!(CLIENT);
            }),
            Ok(())
        );
        assert_eq!(check(|claims| claims["exp"] = json!(NOW - SKEW + 1)), Ok(()));
    }

    #[test]
    fn each_defect_is_found() {
        let mut found = Vec::new();
        for (name, value, expected) in [
            ("iss", json!("https://evil.example"), TokenError::Issuer),
            ("iss", json!(format!("{ISSUER}/")), TokenError::Issuer),
            ("aud", json!("other"), TokenError::Audience),
            ("aud", json!([]), TokenError::Audience),
            ("aud", json!([CLIENT, "other"]), TokenError::Audience),
            ("azp", json!("other"), TokenError::Audience),
            ("nonce", json!("another"), TokenError::Nonce),
            ("nonce", Value::Null, TokenError::Nonce),
            ("exp", json!(NOW - SKEW), TokenError::Expired),
            ("iat", json!(NOW - MAX_AGE - SKEW), TokenError::Expired),
            ("iat", json!(NOW + SKEW + 1), TokenError::Future),
            ("nbf", json!(NOW + SKEW + 1), TokenError::Future),
            ("auth_time", json!(NOW + SKEW + 1), TokenError::Future),
            ("auth_time", json!("now"), TokenError::Malformed),
            ("exp", json!("tomorrow"), TokenError::Malformed),
            ("sub", json!(""), TokenError::Subject),
            ("sub", json!("s".repeat(256)), TokenError::Subject),
        ] {
            assert_eq!(check(|claims| claims[name] = value.clone()), Err(expected.clone()), "{name} {value}");
            found.push(expected);
        }
        assert_eq!(found.len(), 17);
    }

    fn identity(id: &str, domains: &[&str], person: Value) -> Result<Identity, SignInError> {
        let Ok(person) = serde_json::from_value::<Person>(person) else { panic!("not a person") };
        person.identity(&provider(id, domains), "s".to_owned())
    }

    #[test]
    fn only_an_address_that_the_provider_verified_counts() {
        let verified = |flag: Value| {
            let found =
                identity("co", &[], json!({"email": "Ann@B.example", "email_verified": flag})).unwrap();
            assert_eq!(found.shown_email.as_deref(), Some("ann@b.example"));
            found.verified_email.is_some()
        };
        assert!(verified(json!(true)) && verified(json!("true")));
        for unverified in [json!(false), json!("false"), json!("yes"), json!("")] {
            assert!(!verified(unverified.clone()), "{unverified}");
        }
        assert_eq!(identity("co", &[], json!({"email": "a@b.c"})).unwrap().verified_email, None);
    }

    #[test]
    fn google_speaks_for_its_own_mail_and_for_its_customers_domains() {
        let of = |email: &str, hd: Value| {
            identity("google", &[], json!({"email": email, "email_verified": true, "hd": hd}))
                .unwrap()
                .verified_email
        };
        assert!(of("ann@gmail.com", Value::Null).is_some());
        assert!(of("ann@acme.com", json!("acme.com")).is_some());
        assert!(of("ann@acme.com", Value::Null).is_none(), "a consumer account with a company's address");
        assert!(of("ann@acme.com", json!("evil.com")).is_none());
        assert!(of("ann@evil.gmail.com", Value::Null).is_none());
    }

    #[test]
    fn a_provider_can_be_kept_to_domains_as_a_whole() {
        let enter = |email: &str, verified: bool| {
            identity("co", &["acme.com"], json!({"email": email, "email_verified": verified})).is_ok()
        };
        assert!(enter("ann@ACME.com", true));
        for (email, verified) in [
            ("ann@acme.com", false),
            ("ann@evilacme.com", true),
            ("ann@acme.com.evil.com", true),
            ("ann@sub.acme.com", true),
            ("x@evil.com@acme.com", true),
            ("acme.com", true),
        ] {
            assert!(!enter(email, verified), "{email}");
        }
        let other = json!({"email": "ann@acme.com", "email_verified": true});
        assert!(identity("google", &["acme.com"], other).is_err(), "without hd nobody is of the company");
    }

    #[test]
    fn addresses_have_one_form_or_are_none() {
        assert_eq!(email("Ann@B.Example").as_deref(), Some("ann@b.example"));
        for bad in [
            "",
            "ann",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "ä@b",
            "a@b\n",
            "a@b\u{2000}",
            &format!("a@{}", "b".repeat(300)),
        ] {
            assert_eq!(email(bad), None, "{bad:?}");
        }
    }
}
