//! What a relay needs before it can start: its key, its public addresses, and words for what may go wrong.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use data_encoding::HEXLOWER;
use mytunnel_carrier::address::listen_on;
use mytunnel_carrier::libp2p::Multiaddr;
use mytunnel_carrier::libp2p::multiaddr::Protocol;
use mytunnel_coordinator::{ActError, OpenError};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::Cluster;
use mytunnel_keys::secret::Seed;
use mytunnel_relay::StartError;

use crate::context::random;
use crate::failure::{Failure, chain, io_help, sentence};
use crate::files;

/// The relay's key, made at its first start.
pub(crate) fn seed(data: &Path) -> Result<Seed, Failure> {
    let path = data.join("relay.key");
    if let Some(text) = files::read_private_text(&path)? {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        return bytes.map(Seed::from_bytes).ok_or_else(|| {
            Failure::local(
                format!("the key file {} does not hold a key", path.display()),
                "Restore it from a backup; without it, move it away and the relay gets a new identity.",
            )
        });
    }
    let seed = Seed::from_bytes(random()?);
    files::write_private(&path, HEXLOWER.encode(seed.expose()).as_bytes())?;
    Ok(seed)
}

/// How nodes elsewhere find a relay of a public domain; nothing where the bound addresses say it all.
pub(super) fn public_addrs(domain: &Cluster, p2p: SocketAddr) -> Vec<Multiaddr> {
    if is_local(domain) || p2p.ip().is_loopback() || p2p.port() == 0 {
        return Vec::new();
    }
    let host = || Protocol::Dns(domain.as_str().to_owned().into());
    listen_on(p2p)
        .iter()
        .map(|address| address.iter().skip(1).fold(Multiaddr::empty().with(host()), Multiaddr::with))
        .collect()
}

/// Whether visitors of the domain are on this machine only.
pub(crate) fn is_local(domain: &Cluster) -> bool {
    domain.as_str() == "localhost" || domain.as_str().ends_with(".localhost")
}

/// Whether a relay did not start because another program listens at `http`.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other failure is told as it is")]
pub(super) fn is_taken(error: &StartError, http: SocketAddr) -> bool {
    match error {
        StartError::Bind { addr, source } => *addr == http && source.kind() == io::ErrorKind::AddrInUse,
        _ => false,
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let help = if let OpenError::KeyExposed { path, .. } = &error {
            format!("Run `chmod 600 {}`.", path.display())
        } else {
            sentence(&error.help())
        };
        Self::local(chain(&error), help)
    }
}

impl From<ActError> for Failure {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the coordinator may learn to fail in other ways")]
    fn from(error: ActError) -> Self {
        match error {
            ActError::Refused { code, message } => Self::new(code, message),
            other => Self::new(Code::Internal, chain(&other)),
        }
    }
}

impl From<StartError> for Failure {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only a few have a remedy of their own")]
    fn from(error: StartError) -> Self {
        match &error {
            StartError::Bind { addr, source } => cannot_listen(addr, Some(source)),
            StartError::Listen { addr, .. } => cannot_listen(addr, io_source(&error)),
            StartError::ListenEnded { addr, source } => cannot_listen(addr, source.as_ref()),
            StartError::AccessLog { path, source } => Self::local(
                format!("the access log {} cannot be written: {source}", path.display()),
                match io_help(source) {
                    "" => "Choose another file with --access-log.",
                    help => help,
                },
            ),
            _ => {
                Self::local(chain(&error), "Nothing was changed; the log (MYTUNNEL_LOG=debug) may say more.")
            }
        }
    }
}

/// The error of the system somewhere behind an error.
fn io_source(error: &dyn std::error::Error) -> Option<&io::Error> {
    std::iter::successors(error.source(), |error| error.source()).find_map(|error| error.downcast_ref())
}

/// What kind of error of the system it is. Some libraries wrap it in a way that leaves only its text.
fn kind(error: &io::Error) -> io::ErrorKind {
    let number = || error.to_string().rsplit_once("(os error ")?.1.strip_suffix(')')?.parse().ok();
    if error.kind() != io::ErrorKind::Other {
        return error.kind();
    }
    number().map_or(io::ErrorKind::Other, |number| io::Error::from_raw_os_error(number).kind())
}

/// `/ip4/127.0.0.1/tcp/4001` as `127.0.0.1:4001`.
fn host_and_port(multiaddr: &str) -> Option<String> {
    let mut parts = multiaddr.strip_prefix('/')?.split('/');
    let (kind, host, _, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(if kind == "ip6" { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

/// Words for an address that cannot be listened on.
pub(crate) fn cannot_listen(addr: &impl std::fmt::Display, why: Option<&io::Error>) -> Failure {
    let text = addr.to_string();
    let flag = if text.starts_with('/') { "--p2p" } else { "--http, --https or --acme-dns" };
    let text = host_and_port(&text).unwrap_or(text);
    let (why, help) = match why.map(kind) {
        Some(io::ErrorKind::AddrInUse) => (
            "another program listens there".to_owned(),
            format!("Stop it, or choose another port with {flag} (port 0 takes a free one)."),
        ),
        Some(io::ErrorKind::PermissionDenied) => (
            "this user may not use that port".to_owned(),
            format!(
                "Choose a port from 1024 on with {flag}, or allow it: sudo setcap cap_net_bind_service=+ep \"$(command -v mytunnel)\""
            ),
        ),
        Some(io::ErrorKind::AddrNotAvailable) => (
            "this machine does not have that address".to_owned(),
            format!("Choose one of this machine's addresses with {flag}; 0.0.0.0 means all of them."),
        ),
        Some(_) | None => (
            why.map_or_else(|| "it was given up at once".to_owned(), ToString::to_string),
            why.map(io_help).filter(|help| !help.is_empty()).unwrap_or("Choose another address.").to_owned(),
        ),
    };
    Failure::local(format!("cannot listen on {text}: {why}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let first = seed(dir.path()).unwrap();
        assert_eq!(seed(dir.path()).unwrap().expose(), first.expose());
        std::fs::write(dir.path().join("relay.key"), "short").unwrap();
        let failure = seed(dir.path()).unwrap_err();
        assert!(failure.message().contains("relay.key"), "{failure:?}");
    }

    #[test]
    fn only_a_public_relay_is_found_by_its_name() {
        let of = |domain: &str, p2p: &str| -> Vec<String> {
            let addrs = public_addrs(&domain.parse().unwrap(), p2p.parse().unwrap());
            addrs.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            of("t.example", "0.0.0.0:4001"),
            ["/dns/t.example/udp/4001/quic-v1", "/dns/t.example/tcp/4001"]
        );
        assert!(of("localhost", "0.0.0.0:4001").is_empty());
        assert!(of("t.example", "127.0.0.1:4001").is_empty());
        assert!(of("t.example", "0.0.0.0:0").is_empty());
    }

    #[test]
    fn the_systems_error_is_known_behind_others() {
        let wrapped = io::Error::other(io::Error::from_raw_os_error(98).to_string());
        assert_eq!(kind(&wrapped), io::Error::from_raw_os_error(98).kind());
        assert_eq!(kind(&io::ErrorKind::NotFound.into()), io::ErrorKind::NotFound);
        assert_eq!(kind(&io::Error::other("something else")), io::ErrorKind::Other);
    }

    #[test]
    fn an_address_is_told_as_people_write_it() {
        assert_eq!(host_and_port("/ip4/127.0.0.1/udp/4001/quic-v1").unwrap(), "127.0.0.1:4001");
        assert_eq!(host_and_port("/ip6/::1/tcp/4001").unwrap(), "[::1]:4001");
        assert_eq!(host_and_port("127.0.0.1:80"), None);
    }

    #[test]
    fn each_way_not_to_listen_has_its_remedy() {
        let told = |kind: io::ErrorKind| {
            let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
            Failure::from(StartError::Bind { addr, source: kind.into() })
        };
        let taken = told(io::ErrorKind::AddrInUse);
        assert!(taken.message().contains("127.0.0.1:80") && taken.help().contains("--http"), "{taken:?}");
        assert!(told(io::ErrorKind::PermissionDenied).help().contains("setcap"));
        assert!(told(io::ErrorKind::AddrNotAvailable).help().contains("0.0.0.0"));
        assert_eq!(taken.exit_code(), 1);
    }
}
