//! The file of `mytunnel up`: several tunnels, each with a key for every flag of `mytunnel share`.

use std::num::NonZeroU16;
use std::path::PathBuf;

use mytunnel_keys::network::Network;
use serde::Deserialize;

use super::{SecretRef, Written};
use crate::span;

/// The file of `mytunnel up`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpFile {
    /// Relay to use, of those that are signed in to.
    pub(crate) server: Option<String>,
    /// Project that the names belong to.
    pub(crate) project: Option<String>,
    /// Where the key to share with is.
    pub(crate) token_file: Option<PathBuf>,
    /// Whether private shares go through the relay only.
    #[serde(default)]
    pub(crate) no_direct: bool,
    #[serde(default)]
    pub(crate) tunnel: Vec<TunnelFile>,
}

/// `[[tunnel]]`: one of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TunnelFile {
    pub(crate) target: TargetText,
    #[serde(default)]
    pub(crate) kind: KindFile,
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) private: bool,
    #[serde(default)]
    pub(crate) alone: bool,
    pub(crate) expires: Option<Life>,
    pub(crate) host_header: Option<String>,
    pub(crate) remote_port: Option<NonZeroU16>,
    #[serde(default)]
    pub(crate) proxy_protocol: bool,
    pub(crate) basic: Option<BasicFile>,
    pub(crate) pin: Option<Made>,
    pub(crate) bearer: Option<Made>,
    #[serde(default)]
    pub(crate) allow_ip: Vec<Written<Network>>,
    #[serde(default)]
    pub(crate) deny_ip: Vec<Written<Network>>,
    #[serde(default)]
    pub(crate) google: bool,
    pub(crate) oidc: Option<String>,
    #[serde(default)]
    pub(crate) allow: Vec<String>,
    #[serde(default)]
    pub(crate) e2e: bool,
    pub(crate) e2e_cert: Option<PathBuf>,
    pub(crate) e2e_key: Option<PathBuf>,
    pub(crate) e2e_acme: Option<String>,
    pub(crate) e2e_acme_ca: Option<PathBuf>,
    pub(crate) e2e_email: Option<String>,
    pub(crate) inspect: Option<Page>,
    #[serde(default)]
    pub(crate) requests: bool,
}

/// What takes the visitors.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KindFile {
    #[default]
    Http,
    Tcp,
    Udp,
    Tls,
}

/// A target as it is typed; a port may be a number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "write target = 3000 or target = \"./dist\"")]
pub(crate) enum TargetText {
    Port(u16),
    Text(String),
}

impl std::fmt::Display for TargetText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(port) => port.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// A length of time that is not none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Life(pub(crate) u64);

impl TryFrom<String> for Life {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        span::parse_some(&text).map(Self)
    }
}

/// A user and where the password is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BasicFile {
    pub(crate) user: String,
    pub(crate) password: SecretRef,
}

/// Where a secret is, or that it is to be made. What was written instead is not repeated: it may be the secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "a secret is never in this file: write true to have one made and shown, { file = \"PATH\" } or { env = \"NAME\" }"
)]
pub(crate) enum Made {
    Here(bool),
    Given(SecretRef),
}

/// Whether there is a page of requests, and where.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "write true, or an address of this machine like \"127.0.0.1:4040\"")]
pub(crate) enum Page {
    Wanted(bool),
    At(String),
}

impl TunnelFile {
    /// What it is called where its file is spoken of.
    pub(crate) fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| match self.kind {
            KindFile::Http => self.target.to_string(),
            KindFile::Tcp => format!("tcp {}", self.target),
            KindFile::Udp => format!("udp {}", self.target),
            KindFile::Tls => format!("tls {}", self.target),
        })
    }

    /// The same without what can be changed while visitors come and go.
    pub(crate) fn without_gates(&self) -> Self {
        Self {
            basic: None,
            pin: None,
            bearer: None,
            allow_ip: Vec::new(),
            deny_ip: Vec::new(),
            google: false,
            oidc: None,
            allow: Vec::new(),
            ..self.clone()
        }
    }

    /// What stands in the way of meaning all of it at once, with the remedy.
    pub(crate) fn contradiction(&self) -> Option<(String, String)> {
        let kind = match self.kind {
            KindFile::Http => "http",
            KindFile::Tcp => "tcp",
            KindFile::Udp => "udp",
            KindFile::Tls => "tls",
        };
        let found = |message: &str, help: &str| Some((message.to_owned(), help.to_owned()));
        if self.private && self.kind == KindFile::Tls {
            let message = "`private` means nothing for kind = \"tls\"";
            return found(
                message,
                "Leave the kind away: what is private is encrypted from end to end anyway.",
            );
        }
        if let Some(key) = self.misplaced() {
            let place = if self.private { "private = true".to_owned() } else { format!("kind = \"{kind}\"") };
            let message = format!("`{key}` means nothing for {place}");
            return Some((message, "Leave one of them away.".to_owned()));
        }
        if self.google && self.oidc.is_some() {
            return found("`google` and `oidc` are two sign-ins", "Leave one of them away.");
        }
        if !self.allow.is_empty() && !self.google && self.oidc.is_none() {
            return found("`allow` needs a sign-in", "Add google = true or oidc = \"ID\", or leave it away.");
        }
        if self.e2e_cert.is_some() != self.e2e_key.is_some() {
            return found("`e2e_cert` and `e2e_key` belong together", "Write both, or neither.");
        }
        let acme = self.e2e_acme.is_some() || self.e2e_acme_ca.is_some() || self.e2e_email.is_some();
        if !self.e2e && (acme || self.e2e_cert.is_some()) {
            return found("the keys that begin with `e2e_` need `e2e`", "Add e2e = true.");
        }
        if acme && self.e2e_cert.is_some() {
            let message = "`e2e_cert` brings a certificate, and `e2e_acme` or `e2e_email` get another";
            return found(message, "Leave one of them away.");
        }
        if self.e2e_acme_ca.is_some() && self.e2e_acme.is_none() {
            return found("`e2e_acme_ca` needs `e2e_acme`", "Add the directory that it vouches for.");
        }
        None
    }

    /// A key that this kind has nothing for.
    fn misplaced(&self) -> Option<&'static str> {
        let public = !self.private;
        let web = public && self.kind == KindFile::Http;
        let has_port = public && matches!(self.kind, KindFile::Tcp | KindFile::Udp);
        let has_connections = public && matches!(self.kind, KindFile::Tcp | KindFile::Tls);
        let keys = [
            ("remote_port", self.remote_port.is_some(), has_port),
            ("proxy_protocol", self.proxy_protocol, has_connections),
            ("alone", self.alone, self.kind == KindFile::Http),
            ("allow_ip", !self.allow_ip.is_empty(), public),
            ("deny_ip", !self.deny_ip.is_empty(), public),
            ("host_header", self.host_header.is_some(), web),
            ("basic", self.basic.is_some(), web),
            ("pin", self.pin.is_some(), web),
            ("bearer", self.bearer.is_some(), web),
            ("google", self.google, web),
            ("oidc", self.oidc.is_some(), web),
            ("allow", !self.allow.is_empty(), web),
            ("e2e", self.e2e, web),
            ("inspect", self.inspect.is_some(), web),
            ("requests", self.requests, web),
        ];
        keys.iter().find(|(_, is_set, fits)| *is_set && !fits).map(|(key, ..)| *key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use clap::CommandFactory;

    use super::super::page::keys;
    use super::super::{ConfigError, parse};
    use super::*;
    use crate::args::Cli;

    fn read(text: &str) -> Result<UpFile, ConfigError> {
        parse(Path::new("mytunnel.toml"), text)
    }

    fn tunnel(text: &str) -> TunnelFile {
        read(&format!("[[tunnel]]\n{text}")).unwrap().tunnel.remove(0)
    }

    #[test]
    fn every_flag_of_share_has_its_key() {
        let cli = Cli::command();
        let flags = |name: &str| -> BTreeSet<String> {
            let command = cli.find_subcommand(name).unwrap();
            command
                .get_arguments()
                .filter_map(|flag| flag.get_long())
                .map(|flag| flag.replace('-', "_"))
                .collect()
        };
        let mut flags: BTreeSet<String> =
            ["share", "http", "tcp", "udp", "tls"].into_iter().flat_map(flags).collect();
        // Of the whole file; said of every command; and `inspect = false`.
        for elsewhere in
            ["server", "project", "token", "token_file", "no_direct", "json", "help", "no_inspect"]
        {
            flags.remove(elsewhere);
        }
        let keys: BTreeSet<String> = keys::<TunnelFile>().into_iter().collect();
        flags.extend(["target".to_owned(), "kind".to_owned()]);
        assert_eq!(keys, flags);
    }

    #[test]
    fn a_port_may_be_a_number_and_a_secret_is_not_in_the_file() {
        let web = tunnel("target = 3000\nname = 'web'\nexpires = '2h'\npin = true\ninspect = false");
        assert_eq!((web.target.to_string(), web.label()), ("3000".to_owned(), "web".to_owned()));
        assert_eq!(
            (web.expires, web.pin, web.inspect),
            (Some(Life(7200)), Some(Made::Here(true)), Some(Page::Wanted(false)))
        );
        assert_eq!(tunnel("target = 'db:5432'\nkind = 'tcp'").label(), "tcp db:5432");
        for secret in ["pin = '424242'", "bearer = '424242'", "basic = { user = 'ann', password = '424242' }"]
        {
            let error = read(&format!("[[tunnel]]\ntarget = 1\n{secret}")).unwrap_err().to_string();
            assert!(error.contains("mytunnel.toml:3: ") && error.contains("{ file ="), "{error}");
            assert!(!error.contains("424242"), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_of_a_tunnel_names_its_line_and_the_nearest() {
        let error = read("server = 'x'\n[[tunnel]]\ntarget = 1\nalow_ip = []\n").unwrap_err();
        assert_eq!(error.to_string(), "mytunnel.toml:4: unknown key `alow_ip`");
        let ConfigError::Invalid { suggestion, .. } = error else { panic!("{error}") };
        assert_eq!(suggestion.as_deref(), Some("allow_ip"));
        assert!(read("[[tunnel]]\nname = 'web'").unwrap_err().to_string().contains("target"));
        assert!(
            read("[[tunnel]]\ntarget = 1\nexpires = 30")
                .unwrap_err()
                .to_string()
                .starts_with("mytunnel.toml:3: ")
        );
    }

    #[test]
    fn what_cannot_be_meant_at_once_is_named() {
        let says =
            |text: &str| tunnel(&format!("target = 1\n{text}")).contradiction().map(|(message, _)| message);
        assert_eq!(says("name = 'a'\ngoogle = true\nallow = ['@a.example']"), None);
        for (text, word) in [
            ("kind = 'tcp'\npin = true", "`pin` means nothing for kind = \"tcp\""),
            ("kind = 'udp'\nproxy_protocol = true", "`proxy_protocol`"),
            ("remote_port = 5", "`remote_port`"),
            ("private = true\npin = true", "`pin` means nothing for private = true"),
            ("private = true\nkind = 'tcp'\nremote_port = 5", "`remote_port`"),
            ("private = true\nallow_ip = ['10.0.0.0/8']", "`allow_ip`"),
            ("private = true\nkind = 'tls'", "`private`"),
            ("google = true\noidc = 'x'", "two sign-ins"),
            ("allow = ['@x']", "needs a sign-in"),
            ("e2e = true\ne2e_cert = 'c'", "belong together"),
            ("e2e_email = 'a@b'", "need `e2e`"),
            ("e2e = true\ne2e_cert = 'c'\ne2e_key = 'k'\ne2e_email = 'a@b'", "another"),
            ("e2e = true\ne2e_acme_ca = 'c'", "`e2e_acme_ca`"),
        ] {
            assert!(says(text).is_some_and(|message| message.contains(word)), "{text}: {:?}", says(text));
        }
    }

    #[test]
    fn gates_apart_two_tunnels_may_be_the_same() {
        let (open, shut) =
            (tunnel("target = 1"), tunnel("target = 1\npin = true\nallow_ip = ['10.0.0.0/8']"));
        assert_ne!(open, shut);
        assert_eq!(open.without_gates(), shut.without_gates());
        assert_ne!(open.without_gates(), tunnel("target = 1\nexpires = '1h'").without_gates());
    }
}
