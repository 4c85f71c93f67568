//! Tunnel names, patterns of them, and the base domain they stand under.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::text::text_serde;

/// Names that a visitor would take for the operator's own, or that software looks up by itself.
const RESERVED: &[&str] = &[
    "abuse",
    "admin",
    "administrator",
    "api",
    "auth",
    "autoconfig",
    "autodiscover",
    "console",
    "coordinator",
    "dns",
    "ftp",
    "hostmaster",
    "imap",
    "isatap",
    "localhost",
    "login",
    "mail",
    "mytunnel",
    "ns",
    "ns1",
    "ns2",
    "oauth",
    "pop",
    "postmaster",
    "relay",
    "root",
    "security",
    "smtp",
    "sso",
    "support",
    "webmaster",
    "wpad",
    "www",
];

/// Longest label of a host name (RFC 1035).
const MAX_LABEL: usize = 63;

/// Longest name of a host (RFC 1035, in text form).
const MAX_HOST: usize = 253;

/// Longest base domain: with a label and its dot in front it must stay below 253, and certificates must stay small.
const MAX_CLUSTER: usize = 128;

/// Why a text is not a name, a pattern or a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing there.
    #[error("a name cannot be empty")]
    Empty,
    /// Longer than DNS allows.
    #[error("a name has at most {max} characters")]
    TooLong {
        /// The most characters it may have.
        max: usize,
    },
    /// Something other than a-z, 0-9 and '-'.
    #[error("{0:?} cannot stand in a name: use a-z, 0-9 and '-'")]
    Character(char),
    /// A hyphen at an end.
    #[error("a name cannot begin or end with '-'")]
    Hyphen,
    /// The form of encoded Unicode names, with which a name can look like another.
    #[error("a name cannot begin with \"xn--\"")]
    Punycode,
    /// Kept for the operator.
    #[error("this name is reserved")]
    Reserved,
    /// A domain of one label, or an address.
    #[error("this is not the name of a host below a top-level domain")]
    NoDomain,
}

fn check_characters(text: &str) -> Result<(), NameError> {
    match text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_LABEL {
        return Err(NameError::TooLong { max: MAX_LABEL });
    }
    check_characters(text)?;
    if text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

/// The name of a tunnel: one lower-case label of a host name, not punycode and not reserved.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelName(String);

impl TunnelName {
    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TunnelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_label(text)?;
        if text.starts_with("xn--") {
            return Err(NameError::Punycode);
        }
        if RESERVED.binary_search(&text).is_ok() {
            return Err(NameError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Which names a credential may use: one name, or a prefix and `*`. It never reaches across a dot.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamePattern(String);

impl NamePattern {
    /// The pattern `*`, which matches every name.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is one of the pattern's.
    pub fn matches(&self, name: &TunnelName) -> bool {
        match self.prefix() {
            Some(prefix) => name.0.starts_with(prefix),
            None => self.0 == name.0,
        }
    }

    /// Whether every name of this pattern is one of the other's. A pattern is narrower than itself.
    pub fn narrower_than(&self, other: &Self) -> bool {
        match other.prefix() {
            Some(prefix) => self.prefix().unwrap_or(&self.0).starts_with(prefix),
            None => self == other,
        }
    }

    fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }
}

impl From<TunnelName> for NamePattern {
    fn from(name: TunnelName) -> Self {
        Self(name.0)
    }
}

impl FromStr for NamePattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some(prefix) = text.strip_suffix('*') else {
            return text.parse::<TunnelName>().map(Self::from);
        };
        if prefix.len() >= MAX_LABEL {
            return Err(NameError::TooLong { max: MAX_LABEL });
        }
        check_characters(prefix)?;
        if prefix.starts_with('-') {
            return Err(NameError::Hyphen);
        }
        if prefix.starts_with("xn--") {
            return Err(NameError::Punycode);
        }
        Ok(Self(text.to_owned()))
    }
}

/// A cluster, named by the base domain that its tunnels stand under: `localhost`, `tun.example`. It is the audience
/// of everything that is signed for it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cluster(String);

impl Cluster {
    /// The domain, in lower case, without a dot at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Cluster {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_CLUSTER {
            return Err(NameError::TooLong { max: MAX_CLUSTER });
        }
        text.split('.').try_for_each(check_label)?;
        Ok(Self(text.to_owned()))
    }
}

/// A domain of somebody's own at which a tunnel is reached too: `app.example.com`. In the form of the DNS: lower case,
/// Unicode encoded, without a dot at the end.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(String);

impl DomainName {
    /// The domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is this domain or one under it.
    pub fn is_within(&self, domain: &str) -> bool {
        self.0.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl FromStr for DomainName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_HOST {
            return Err(NameError::TooLong { max: MAX_HOST });
        }
        text.split('.').try_for_each(check_label)?;
        // Top-level domains have a letter in front; what ends in a number is an address to some programs.
        match text.rsplit_once('.') {
            Some((_, top)) if top.starts_with(|letter: char| letter.is_ascii_lowercase()) => {
                Ok(Self(text.to_owned()))
            }
            Some(_) | None => Err(NameError::NoDomain),
        }
    }
}

macro_rules! text {
    ($($type:ident),+) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($type), self.0)
            }
        }

        text_serde!($type);
    )+};
}

text!(TunnelName, NamePattern, Cluster, DomainName);

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TunnelName {
        text.parse().unwrap()
    }

    fn pattern(text: &str) -> NamePattern {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_one_lower_case_label() {
        for good in ["a", "web", "x1", "1x", "my-app", "a--b", &"a".repeat(63)] {
            assert_eq!(name(good).as_str(), good);
        }
        let refused = |text: &str| text.parse::<TunnelName>().unwrap_err();
        assert_eq!(refused(""), NameError::Empty);
        assert_eq!(refused(&"a".repeat(64)), NameError::TooLong { max: 63 });
        assert_eq!(refused("Web"), NameError::Character('W'));
        assert_eq!(refused("a.b"), NameError::Character('.'));
        assert_eq!(refused("a_b"), NameError::Character('_'));
        assert_eq!(refused("café"), NameError::Character('é'));
        assert_eq!(refused("-a"), NameError::Hyphen);
        assert_eq!(refused("a-"), NameError::Hyphen);
        assert_eq!(refused("xn--80ak6aa92e"), NameError::Punycode);
        for reserved in RESERVED {
            assert_eq!(refused(reserved), NameError::Reserved);
        }
    }

    #[test]
    fn the_reserved_list_is_sorted_for_its_search() {
        assert!(RESERVED.is_sorted());
    }

    #[test]
    fn patterns_match_inside_one_label() {
        assert!(pattern("pr-*").matches(&name("pr-12")));
        assert!(pattern("pr-*").matches(&name("pr-1-2")));
        assert!(!pattern("pr-*").matches(&name("pr")));
        assert!(!pattern("pr-*").matches(&name("xpr-1")));
        assert!(pattern("web").matches(&name("web")));
        assert!(!pattern("web").matches(&name("web2")));
        assert!(NamePattern::any().matches(&name("anything")));
        for bad in ["", "*a", "a*b", "**", "a.*", "-*", "A*", "www", "xn--*", &format!("{}*", "a".repeat(63))]
        {
            assert!(bad.parse::<NamePattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_narrower_pattern_matches_no_new_name() {
        let narrower = |narrow, wide| pattern(narrow).narrower_than(&pattern(wide));
        assert!(
            narrower("web", "web") && narrower("web", "w*") && narrower("web", "*") && narrower("we*", "w*")
        );
        assert!(narrower("w*", "w*") && narrower("*", "*"));
        assert!(
            !narrower("w*", "we*")
                && !narrower("*", "w*")
                && !narrower("w*", "web")
                && !narrower("web", "we")
        );
    }

    #[test]
    fn clusters_are_lower_case_domains() {
        for good in ["localhost", "tun.example", "a.b-c.example"] {
            assert_eq!(good.parse::<Cluster>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "tun.example.", "Tun.example", "a..b", "-a.b", "a b", &"a.".repeat(90)] {
            assert!(bad.parse::<Cluster>().is_err(), "{bad}");
        }
    }

    #[test]
    fn domains_are_hosts_below_a_top_level_domain() {
        for good in ["example.com", "app.example.com", "xn--caf-dma.example", "a-1.b.c.xn--p1ai", "1.example"]
        {
            assert_eq!(good.parse::<DomainName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "com",
            "localhost",
            ".",
            "example.com.",
            ".example.com",
            "a..b.example",
            "Example.com",
            "café.example",
            "*.example.com",
            "a_b.example.com",
            "-a.example",
            "a b.example",
            "192.0.2.7",
            "[::1]",
            "a.0x7f",
            "a.example:443",
            &format!("{}example", "a.".repeat(130)),
        ] {
            assert!(bad.parse::<DomainName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_domain_is_within_itself_and_those_above_it() {
        let app: DomainName = "app.example.com".parse().unwrap();
        assert!(app.is_within("app.example.com") && app.is_within("example.com") && app.is_within("com"));
        assert!(
            !app.is_within("pp.example.com")
                && !app.is_within("a.app.example.com")
                && !app.is_within("example.org")
        );
    }
}
