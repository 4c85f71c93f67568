//! A provider as the operator configured it.

use std::fmt;

use ureq::tls::{Certificate, PemItem, parse_pem};
use url::{Host, Url};
use zeroize::Zeroizing;

/// Longest id of a provider: it is part of a path.
const MAX_ID: usize = 32;
/// Longest name of a provider, in characters: it is on a button.
const MAX_NAME: usize = 60;
/// Domains that a provider can be limited to.
const MAX_DOMAINS: usize = 100;

const GOOGLE: &str = "https://accounts.google.com";
const GITHUB: &str = "https://github.com";

/// What the operator wrote.
#[derive(Clone, Default)]
pub struct Settings {
    /// What the provider is called in addresses; `google` and `github` know their issuer and name.
    pub id: String,
    /// What people read on the button.
    pub name: Option<String>,
    /// The issuer's URL.
    pub issuer: Option<String>,
    /// What the provider calls this server.
    pub client_id: String,
    /// By what the provider knows this server.
    pub client_secret: Zeroizing<String>,
    /// Only addresses of these domains; all if there is none.
    pub allowed_domains: Vec<String>,
    /// Certificates, as PEM, of the only authorities that vouch for the issuer; none for those that everybody trusts.
    pub authorities: Option<Vec<u8>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("id", &self.id).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Why settings make no provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The id is not one.
    #[error("id {0:?}: use 1 to {MAX_ID} lower-case letters, digits and dashes, such as \"company\"")]
    Id(String),
    /// Two have one id.
    #[error("id {0:?} is there twice")]
    Twice(String),
    /// The name is not one.
    #[error("name of {0:?}: it needs 1 to {MAX_NAME} characters on one line")]
    Name(String),
    /// Only presets know their issuer.
    #[error(
        "{0:?} needs an issuer, such as \"https://login.example.com\" (only google and github know theirs)"
    )]
    NoIssuer(String),
    /// The issuer is not an address to trust.
    #[error(
        "issuer {0:?}: it is an https:// URL without query or fragment (http:// only on this machine, for trying)"
    )]
    Issuer(String),
    /// The provider would not know who asks.
    #[error("{0:?} needs client_id and client_secret, as the provider gave them")]
    Client(String),
    /// A domain is not one.
    #[error("allowed_domains of {id:?}: {domain:?} is not a domain such as \"example.com\"")]
    Domain {
        /// Of which provider.
        id: String,
        /// What was written.
        domain: String,
    },
    /// There are too many.
    #[error("allowed_domains of {0:?}: {MAX_DOMAINS} at most")]
    Domains(String),
    /// It holds no certificate.
    #[error("ca of {0:?}: this file holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    Authorities(String),
}

/// What is spoken with a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OpenID Connect, by the issuer's own description.
    OpenId {
        /// Consumers can register company addresses here; `hd` tells who the company's own are.
        google: bool,
    },
    /// GitHub's OAuth 2: no ID token, no discovery.
    GitHub,
}

/// A provider that people can sign in with.
#[derive(Clone)]
pub struct Provider {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) issuer: String,
    pub(crate) dialect: Dialect,
    pub(crate) client_id: String,
    pub(crate) client_secret: Zeroizing<String>,
    pub(crate) allowed_domains: Vec<String>,
    /// The only authorities that vouch for the issuer's hosts.
    pub(crate) authorities: Option<Vec<Certificate<'static>>>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("id", &self.id).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Provider {
    /// Reads settings.
    ///
    /// # Errors
    /// See [`SettingsError`]; none of them holds the secret.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let Settings { id, name, issuer, client_id, client_secret, allowed_domains, authorities } = settings;
        let fits = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(fits) {
            return Err(SettingsError::Id(id));
        }
        let (dialect, preset) = match id.as_str() {
            "google" => (Dialect::OpenId { google: true }, Some(("Google", GOOGLE))),
            "github" => (Dialect::GitHub, Some(("GitHub", GITHUB))),
            _ => (Dialect::OpenId { google: issuer.as_deref() == Some(GOOGLE) }, None),
        };
        let name = name.or_else(|| preset.map(|(name, _)| name.to_owned())).unwrap_or_else(|| id.clone());
        let length = name.trim().chars().count();
        if length == 0 || length > MAX_NAME || name.chars().any(char::is_control) {
            return Err(SettingsError::Name(id));
        }
        let Some(issuer) = issuer.or_else(|| preset.map(|(_, issuer)| issuer.to_owned())) else {
            return Err(SettingsError::NoIssuer(id));
        };
        let sound = Url::parse(&issuer)
            .is_ok_and(|url| is_safe(&url) && url.query().is_none() && url.fragment().is_none());
        if !sound {
            return Err(SettingsError::Issuer(issuer));
        }
        if client_id.trim().is_empty() || client_secret.trim().is_empty() {
            return Err(SettingsError::Client(id));
        }
        if allowed_domains.len() > MAX_DOMAINS {
            return Err(SettingsError::Domains(id));
        }
        let domains = allowed_domains.into_iter().map(|domain| match is_domain(&domain) {
            true => Ok(domain.to_ascii_lowercase()),
            false => Err(SettingsError::Domain { id: id.clone(), domain }),
        });
        let allowed_domains = domains.collect::<Result<_, _>>()?;
        let authorities = match authorities.as_deref().map(certificates) {
            Some(None) => return Err(SettingsError::Authorities(id)),
            read => read.flatten(),
        };
        Ok(Self {
            name: name.trim().to_owned(),
            authorities,
            id,
            issuer,
            dialect,
            client_id,
            client_secret,
            allowed_domains,
        })
    }

    /// What it is called in addresses.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What people read.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who vouches; together with a subject it names one person for ever.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// Over TLS, or on this very machine; nothing that hides who is asked.
pub(crate) fn is_safe(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return false,
    };
    let named = url.username().is_empty() && url.password().is_none();
    named && (url.scheme() == "https" || (url.scheme() == "http" && here))
}

/// The certificates of a file; none if it holds none, or something else beside them that cannot be read.
fn certificates(pem: &[u8]) -> Option<Vec<Certificate<'static>>> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.ok()? {
            found.push(certificate);
        }
    }
    (!found.is_empty()).then_some(found)
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(id: &str) -> Settings {
        let secret = Zeroizing::new("s3cret".to_owned());
        Settings {
            id: id.to_owned(),
            client_id: "me".to_owned(),
            client_secret: secret,
            ..Settings::default()
        }
    }

    #[test]
    fn presets_know_their_issuer_and_name() {
        let google = Provider::new(settings("google")).unwrap();
        assert_eq!((google.name(), google.issuer()), ("Google", "https://accounts.google.com"));
        assert_eq!(google.dialect, Dialect::OpenId { google: true });
        let github = Provider::new(settings("github")).unwrap();
        assert_eq!((github.name(), &github.dialect), ("GitHub", &Dialect::GitHub));
    }

    #[test]
    fn others_need_an_issuer_that_can_be_trusted() {
        assert_eq!(Provider::new(settings("co")).unwrap_err(), SettingsError::NoIssuer("co".to_owned()));
        let with =
            |issuer: &str| Provider::new(Settings { issuer: Some(issuer.to_owned()), ..settings("co") });
        for good in ["https://id.example.com", "https://id.example.com/realms/a", "http://127.0.0.1:9/"] {
            assert_eq!(with(good).unwrap().issuer(), good);
        }
        for bad in [
            "http://id.example.com",
            "https://a@id.example.com",
            "id.example.com",
            "https://i.d/?q",
            "https://i.d/#f",
            "ftp://i.d",
        ] {
            assert_eq!(with(bad).unwrap_err(), SettingsError::Issuer(bad.to_owned()), "{bad}");
        }
    }

    #[test]
    fn what_cannot_work_is_said_at_once_and_without_the_secret() {
        for bad in ["", "Google", "a/b", "a b", &"a".repeat(33)] {
            assert!(matches!(Provider::new(settings(bad)), Err(SettingsError::Id(_))), "{bad}");
        }
        let nobody = Settings { client_id: String::new(), ..settings("google") };
        assert!(matches!(Provider::new(nobody), Err(SettingsError::Client(_))));
        for bad in ["", "com", "@example.com", "exa mple.com", "-a.com", "*.example.com", "example.com."] {
            let limited = Settings { allowed_domains: vec![bad.to_owned()], ..settings("google") };
            assert!(matches!(Provider::new(limited), Err(SettingsError::Domain { .. })), "{bad}");
        }
        for bad in ["", "not a certificate", "-----BEGIN CERTIFICATE-----\n"] {
            let settings = Settings { authorities: Some(bad.into()), ..settings("google") };
            assert!(matches!(Provider::new(settings), Err(SettingsError::Authorities(_))), "{bad}");
        }
        let provider = Provider::new(settings("google")).unwrap();
        assert!(!format!("{provider:?} {:?}", settings("google")).contains("s3cret"));
    }
}
