//! Files of settings: `mytunnel.toml` for people and for what they share, `relay.toml` for operators.
//!
//! Every key is known or an error that names the line and the nearest known key; a file that cannot be
//! understood whole changes nothing.

mod changes;
mod limits;
#[cfg(test)]
mod page;
mod prices;
mod sign_in;
mod up;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use mytunnel_relay::ingress::ProxyNetwork;
use mytunnel_relay::{AccessFormat, NoRange, PortRange, Share};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(crate) use self::limits::{LimitsFile, RelayLife};
pub(crate) use self::prices::{Cents, PricesFile};
pub(crate) use self::sign_in::{CoordinatorFile, SignInFile, client as sign_in};
pub(crate) use self::up::{KindFile, Made, Page, TunnelFile, UpFile};

/// No file of settings is larger; a larger one is not ours.
const MAX_FILE: u64 = 1024 * 1024;

/// `CONFIG_DIR/mytunnel.toml`: defaults of one person.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PersonFile {
    /// Base URL of the coordinator (`MYTUNNEL_SERVER`).
    pub(crate) server: Option<String>,
    /// Project that new names belong to (`MYTUNNEL_PROJECT`).
    pub(crate) project: Option<String>,
    /// Directory of the ACME authority for `share --e2e`.
    pub(crate) e2e_acme: Option<String>,
    /// What vouches for that directory's HTTPS.
    pub(crate) e2e_acme_ca: Option<PathBuf>,
    /// Whom that authority writes to.
    pub(crate) e2e_email: Option<String>,
}

/// `relay.toml`: one key for each flag of `mytunnel relay`, the limits, the prices and the sign-ins.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelayFile {
    pub(crate) domain: Option<String>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) acme: Option<String>,
    pub(crate) acme_directory: Option<String>,
    pub(crate) acme_directory_ca: Option<PathBuf>,
    #[serde(default)]
    pub(crate) acme_dns_hook: Vec<String>,
    pub(crate) acme_dns: Option<SocketAddr>,
    pub(crate) redirect_http: Option<bool>,
    pub(crate) passthrough: Option<bool>,
    pub(crate) access_log: Option<PathBuf>,
    #[serde(default)]
    pub(crate) access_log_format: Written<AccessFormat>,
    pub(crate) otlp: Option<String>,
    pub(crate) trace_share: Option<TraceShare>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) p2p: Option<SocketAddr>,
    pub(crate) ports: Option<Ports>,
    pub(crate) console: Option<String>,
    pub(crate) coordinator: Option<OneOrMore>,
    pub(crate) join: Option<SecretRef>,
    #[serde(default)]
    pub(crate) trusted_proxies: Vec<ProxyNetwork>,
    #[serde(default)]
    pub(crate) mail_command: Vec<String>,
    #[serde(default)]
    pub(crate) name_servers: Vec<NameServer>,
    pub(crate) metrics_token: Option<SecretRef>,
    #[serde(default)]
    pub(crate) limits: LimitsFile,
    #[serde(default)]
    pub(crate) prices: PricesFile,
    #[serde(default)]
    pub(crate) sign_in: Vec<SignInFile>,
}

/// The share of requests that are traced: 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "f64")]
pub(crate) struct TraceShare(pub(crate) Share);

impl TryFrom<f64> for TraceShare {
    type Error = &'static str;

    fn try_from(share: f64) -> Result<Self, Self::Error> {
        Share::try_from(share).map(Self)
    }
}

/// The ports that a relay opens for TCP and UDP tunnels: `20000-29999`, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Ports(pub(crate) Option<PortRange>);

impl FromStr for Ports {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|range| Self(Some(range))) }
    }
}

impl TryFrom<String> for Ports {
    type Error = NoRange;

    fn try_from(text: String) -> Result<Self, NoRange> {
        text.parse()
    }
}

/// A name server, as an address with or without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct NameServer(pub(crate) SocketAddr);

impl TryFrom<String> for NameServer {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let usual = || text.parse().map(|address: IpAddr| SocketAddr::from((address, 53)));
        let address = text.parse().or_else(|_| usual());
        address.map(Self).map_err(|_| "write the address of a name server, like 192.0.2.53 or 127.0.0.1:5353")
    }
}

/// A value that is written as a text.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written<T>(pub(crate) T);

impl<'de, T: FromStr<Err: std::fmt::Display>> Deserialize<'de> for Written<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// One text, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "write \"TEXT\" or [\"TEXT\", \"TEXT\"]")]
pub(crate) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMore> for Vec<String> {
    fn from(written: OneOrMore) -> Self {
        match written {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts,
        }
    }
}

/// A secret is never in a file of settings, only where it is: `{ env = "NAME" }` or `{ file = "PATH" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WrittenRef")]
pub(crate) enum SecretRef {
    Env(String),
    File(PathBuf),
}

/// The same as it is written. What was written instead is not repeated: it may be the secret.
#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a secret is never in this file: write { file = \"PATH\" } or { env = \"NAME\" }"
)]
enum WrittenRef {
    Env { env: String },
    File { file: PathBuf },
}

impl From<WrittenRef> for SecretRef {
    fn from(written: WrittenRef) -> Self {
        match written {
            WrittenRef::Env { env } => Self::Env(env),
            WrittenRef::File { file } => Self::File(file),
        }
    }
}

/// Why a file of settings was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}:{line}: {message}", path.display())]
    Invalid { path: PathBuf, line: usize, message: String, suggestion: Option<String> },
}

/// Reads a file that has to be there.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = read_bounded(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Reads a file that may be absent; then everything has its default.
pub(crate) fn load_optional<T: DeserializeOwned + Default>(path: &Path) -> Result<T, ConfigError> {
    match load(path) {
        Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(T::default())
        }
        other => other,
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let length = std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if length as u64 > MAX_FILE {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the file is too large"));
    }
    Ok(text)
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1;
        let message = error.message().to_owned();
        let suggestion = suggest(&message);
        let message = match unknown_field(&message) {
            Some((field, _)) => format!("unknown key `{field}`"),
            None => message,
        };
        ConfigError::Invalid { path: path.to_owned(), line, message, suggestion }
    })
}

/// serde says ``unknown field `a`, expected one of `b`, `c` ``: the words between back-quotes.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let quoted = message.strip_prefix("unknown field ")?;
    let mut words = quoted.split('`').skip(1).step_by(2);
    let field = words.next()?;
    Some((field, words.collect()))
}

fn suggest(message: &str) -> Option<String> {
    let (field, known) = unknown_field(message)?;
    nearest(field, known).map(str::to_owned)
}

/// The known name that `wrong` was probably meant to be.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(text: &str) -> Result<RelayFile, ConfigError> {
        parse(Path::new("relay.toml"), text)
    }

    fn suggestion(error: ConfigError) -> Option<String> {
        match error {
            ConfigError::Invalid { suggestion, .. } => suggestion,
            ConfigError::Read { .. } => None,
        }
    }

    #[test]
    fn every_key_is_read() {
        let file = relay(
            "domain = 'relay.example'\ndata = '/var/lib/mytunnel'\nhttp = '0.0.0.0:80'\nhttps = '[::]:443'\n\
             p2p = '0.0.0.0:4001'\nconsole = 'console.example'\ncoordinator = 'https://c.example'\n\
             join = { file = '/run/join' }\nmail_command = ['/usr/bin/mail-it', '-q']\nname_servers = ['192.0.2.1', '[::1]:5353']\ntrusted_proxies = ['10.0.0.1', '2001:db8::/32']\n",
        )
        .unwrap();
        assert_eq!(file.domain.as_deref(), Some("relay.example"));
        assert_eq!(file.https, Some("[::]:443".parse().unwrap()));
        let proxies: Vec<_> = file.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(proxies, ["10.0.0.1/32", "2001:db8::/32"]);
        assert_eq!(file.join, Some(SecretRef::File("/run/join".into())));
        assert_eq!(file.mail_command, ["/usr/bin/mail-it", "-q"]);
        let servers: Vec<_> = file.name_servers.iter().map(|server| server.0.to_string()).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[::1]:5353"]);
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_known_one() {
        let error = relay("data = '/d'\ndomian = 'x'\n").unwrap_err();
        assert_eq!(error.to_string(), "relay.toml:2: unknown key `domian`");
        assert_eq!(suggestion(error).as_deref(), Some("domain"));
        assert_eq!(suggestion(relay("zebra = 1").unwrap_err()), None);
    }

    #[test]
    fn a_wrong_value_names_its_line() {
        let error = relay("domain = 'd'\n\nhttp = 'eighty'\n").unwrap_err();
        assert!(error.to_string().starts_with("relay.toml:3: "), "{error}");
        let everybody = relay("trusted_proxies = ['0.0.0.0/0']").unwrap_err();
        assert!(everybody.to_string().contains("name the proxies"), "{everybody}");
        let pasted = relay("join = 'mtk_relay_x'").unwrap_err().to_string();
        assert!(pasted.contains("{ file =") && !pasted.contains("mtk_relay_x"), "{pasted}");
        assert!(relay("join = { env = 'A', file = '/b' }").is_err());
        let named = relay("name_servers = ['dns.example']").unwrap_err().to_string();
        assert!(named.contains("192.0.2.53"), "{named}");
    }

    #[test]
    fn an_absent_file_is_all_defaults_where_it_may_be_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mytunnel.toml");
        assert_eq!(load_optional::<PersonFile>(&path).unwrap(), PersonFile::default());
        assert!(matches!(load::<PersonFile>(&path), Err(ConfigError::Read { .. })));
        std::fs::write(&path, "server = 'https://r.example'").unwrap();
        assert_eq!(load::<PersonFile>(&path).unwrap().server.as_deref(), Some("https://r.example"));
    }

    #[test]
    fn nearest_finds_typing_errors_and_nothing_else() {
        assert_eq!(nearest("coordnator", ["console", "coordinator"]), Some("coordinator"));
        assert_eq!(nearest("x", ["console", "coordinator"]), None);
    }
}
