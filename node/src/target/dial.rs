//! Connects to a target's server, with a bound on the time it may take.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use mytunnel_carrier::unchecked;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{OriginTrust, Target};

/// A local server that has not accepted by then will not help a visitor; remote ones need a few round trips.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the origin.
#[derive(Debug)]
pub(crate) enum Origin {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Somebody in this process.
    Here(DuplexStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// What is about to be said to the origin, as far as its TLS has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// HTTP/2, which begins with a preface of its own (RFC 9113 §3.4).
    Http2,
    /// Anything else: HTTP/1.1, as a rule.
    Other,
}

impl Speech {
    /// What a pipe's first bytes say.
    pub(crate) fn of(first: &[u8]) -> Self {
        if first.starts_with(b"PRI * HTTP/2") { Self::Http2 } else { Self::Other }
    }
}

/// Connects to one target, any number of times.
#[derive(Clone)]
pub(crate) enum Dialer {
    Port(NonZeroU16),
    Tcp {
        host: String,
        port: NonZeroU16,
    },
    Tls(Arc<Tls>),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Dialer {
    /// # Errors
    /// [`DialError::NoServer`] for a folder or a file, [`DialError::Name`] for a host that TLS has no name for.
    pub(crate) fn new(target: &Target) -> Result<Self, DialError> {
        match target {
            Target::Port(port) => Ok(Self::Port(*port)),
            Target::Tcp { host, port } => Ok(Self::Tcp { host: host.clone(), port: *port }),
            Target::Tls { host, port, trust } => Ok(Self::Tls(Arc::new(Tls::new(host, *port, *trust)?))),
            #[cfg(unix)]
            Target::Unix(path) => Ok(Self::Unix(path.clone())),
            #[cfg(not(unix))]
            Target::Unix(_) => Err(DialError::NoServer),
            Target::Folder(_) | Target::File(_) => Err(DialError::NoServer),
        }
    }

    /// # Errors
    /// The obstacle; [`DialError::Timeout`] after ten seconds.
    pub(crate) async fn dial(&self, speech: Speech) -> Result<Origin, DialError> {
        tokio::time::timeout(TIMEOUT, self.connect(speech)).await.map_err(|_| DialError::Timeout)?
    }

    async fn connect(&self, speech: Speech) -> Result<Origin, DialError> {
        match self {
            Self::Port(port) => loopback(*port).await.map(Origin::Tcp),
            Self::Tcp { host, port } => tcp(host, *port).await.map(Origin::Tcp),
            Self::Tls(tls) => tls.connect(speech).await.map(|stream| Origin::Tls(Box::new(stream))),
            #[cfg(unix)]
            Self::Unix(path) => UnixStream::connect(path).await.map(Origin::Unix).map_err(DialError::Connect),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port(_) => "Dialer::Port",
            Self::Tcp { .. } => "Dialer::Tcp",
            Self::Tls(_) => "Dialer::Tls",
            #[cfg(unix)]
            Self::Unix(_) => "Dialer::Unix",
        })
    }
}

/// Dev servers listen on one of the two: Vite and recent Node on ::1, most others on 127.0.0.1.
async fn loopback(port: NonZeroU16) -> Result<TcpStream, DialError> {
    let refused = match TcpStream::connect((Ipv4Addr::LOCALHOST, port.get())).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => error,
        connected => return prompt(connected),
    };
    match TcpStream::connect((Ipv6Addr::LOCALHOST, port.get())).await {
        Err(_) => Err(DialError::Connect(refused)),
        connected => prompt(connected),
    }
}

async fn tcp(host: &str, port: NonZeroU16) -> Result<TcpStream, DialError> {
    prompt(TcpStream::connect((host, port.get())).await)
}

/// Small writes go out at once: what is copied was already cut by its sender.
fn prompt(connected: io::Result<TcpStream>) -> Result<TcpStream, DialError> {
    let stream = connected.map_err(DialError::Connect)?;
    stream.set_nodelay(true).map_err(DialError::Connect)?;
    Ok(stream)
}

/// An `https://` target.
pub(crate) struct Tls {
    host: String,
    port: NonZeroU16,
    name: ServerName<'static>,
    checked: Connectors,
    on_loopback: Connectors,
}

/// One for each thing that may be said.
#[derive(Clone)]
struct Connectors {
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Connectors {
    fn new(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut http2 = config.clone();
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Self { http1: TlsConnector::from(Arc::new(config)), http2: TlsConnector::from(Arc::new(http2)) }
    }

    const fn of(&self, speech: Speech) -> &TlsConnector {
        match speech {
            Speech::Http2 => &self.http2,
            Speech::Other => &self.http1,
        }
    }
}

impl Tls {
    fn new(host: &str, port: NonZeroU16, trust: OriginTrust) -> Result<Self, DialError> {
        let name = ServerName::try_from(host.to_owned())?;
        let checked = Connectors::new(web_roots()?);
        let on_loopback = match trust {
            OriginTrust::WebRoots => checked.clone(),
            OriginTrust::AnyOnLoopback => Connectors::new(unchecked::client_config()?),
        };
        Ok(Self { host: host.to_owned(), port, name, checked, on_loopback })
    }

    async fn connect(&self, speech: Speech) -> Result<TlsStream<TcpStream>, DialError> {
        let stream = tcp(&self.host, self.port).await?;
        let address = stream.peer_addr().map_err(DialError::Connect)?;
        let connector = if address.ip().is_loopback() { &self.on_loopback } else { &self.checked };
        connector.of(speech).connect(self.name.clone(), stream).await.map_err(DialError::Handshake)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn web_roots() -> Result<ClientConfig, DialError> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Why a target was not reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody listens, or the name leads nowhere.
    #[error("the target does not accept connections")]
    Connect(#[source] io::Error),
    /// No connection in ten seconds.
    #[error("the target did not answer in time")]
    Timeout,
    /// The server accepts connections, but no TLS, or not with a certificate that we may accept.
    #[error("the TLS handshake with the target failed")]
    Handshake(#[source] io::Error),
    /// The host is nothing that TLS could check.
    #[error("the target's host is neither a DNS name nor an IP address")]
    Name(#[from] InvalidDnsNameError),
    /// The TLS library refused its settings.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The folder or file cannot be read.
    #[error("the target cannot be read")]
    Read(#[source] io::Error),
    /// A folder or file has no server to connect to.
    #[error("the target is not a server")]
    NoServer,
}
