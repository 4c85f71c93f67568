//! What is shared: a port, an address, a socket, a folder or a file, parsed once from what a person typed.
//!
//! A [`Target`] names a thing that can exist: port 0, an unknown scheme or a missing folder is an error here, with
//! the fix in its message. Whether a server answers there is found out when a visitor comes ([`dial`]), or before by
//! [`Target::probe`].

pub(crate) mod dial;

use std::{
    fmt,
    fs::File,
    io,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use http::Uri;
use mytunnel_keys::error::Code;

pub use dial::DialError;

/// Something on this machine, or reachable from it, that visitors are led to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// A port of this machine: 127.0.0.1, or ::1 when nothing listens there.
    Port(NonZeroU16),
    /// A server in the clear.
    Tcp {
        /// DNS name or IP address (IPv6 without brackets).
        host: String,
        /// Its port.
        port: NonZeroU16,
    },
    /// A server behind TLS.
    Tls {
        /// DNS name or IP address (IPv6 without brackets).
        host: String,
        /// Its port.
        port: NonZeroU16,
        /// Whose certificate is accepted.
        trust: OriginTrust,
    },
    /// A unix domain socket, by its absolute path.
    Unix(PathBuf),
    /// A folder, by its canonical path.
    Folder(PathBuf),
    /// A file, by its canonical path.
    File(PathBuf),
}

/// Which certificates of an `https://` target are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OriginTrust {
    /// Those that a browser would accept.
    #[default]
    WebRoots,
    /// Any, as long as the server is on this machine (a loopback address); elsewhere as [`Self::WebRoots`].
    AnyOnLoopback,
}

impl Target {
    /// Reads `3000`, `host:port`, `http://host[:port]`, `https://host[:port]`, `unix:/path`, or the path of a folder
    /// or file. Looks at the file system, and nowhere else.
    ///
    /// # Errors
    /// [`TargetError`], each with what to do in its message.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return url(scheme, text);
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return port(text).map(Self::Port);
        }
        match address(text) {
            Some((host, number)) => Ok(Self::Tcp { host: host.to_owned(), port: port(number)? }),
            None => path(text),
        }
    }

    /// The same target with another choice of accepted certificates; only an `https://` target has one.
    #[must_use]
    pub fn with_trust(mut self, accept: OriginTrust) -> Self {
        if let Self::Tls { trust, .. } = &mut self {
            *trust = accept;
        }
        self
    }

    /// Whether the target can be reached now: a server accepts a connection, a folder can be listed, a file read.
    ///
    /// # Errors
    /// [`DialError`] with the obstacle.
    pub async fn probe(&self) -> Result<(), DialError> {
        match self {
            Self::Folder(path) => drop(tokio::fs::read_dir(path).await.map_err(DialError::Read)?),
            Self::File(path) => drop(tokio::fs::File::open(path).await.map_err(DialError::Read)?),
            Self::Port(_) | Self::Tcp { .. } | Self::Tls { .. } | Self::Unix(_) => {
                drop(dial::Dialer::new(self)?.dial(dial::Speech::Other).await?);
            }
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "http://localhost:{port}"),
            Self::Tcp { host, port } => write!(f, "http://{}:{port}", Bracketed(host)),
            Self::Tls { host, port, .. } => write!(f, "https://{}:{port}", Bracketed(host)),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Folder(path) | Self::File(path) => path.display().fmt(f),
        }
    }
}

/// An IPv6 address in brackets, anything else as it is.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

fn port(text: &str) -> Result<NonZeroU16, TargetError> {
    text.parse().map_err(|_| TargetError::Port(text.to_owned()))
}

/// `host:port`, `[ipv6]:port` or `:port`, taken apart; `None` when it looks like a path.
fn address(text: &str) -> Option<(&str, &str)> {
    let (host, number) = text.rsplit_once(':')?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) || host.contains(['/', '\\']) {
        return None;
    }
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']')?,
        None if host.is_empty() => "localhost",
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, number))
}

fn url(scheme: &str, text: &str) -> Result<Target, TargetError> {
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" => "80",
        "https" => "443",
        _ => return Err(TargetError::Scheme(scheme.to_owned())),
    };
    let malformed = || TargetError::Url(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| malformed())?;
    let authority = uri.authority().ok_or_else(malformed)?;
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(malformed());
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(TargetError::UrlPath(text.to_owned()));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port(authority.port().as_ref().map_or(default, |port| port.as_str()))?;
    Ok(match default {
        "80" => Target::Tcp { host, port },
        _ => Target::Tls { host, port, trust: OriginTrust::default() },
    })
}

fn unix(path: &str) -> Result<Target, TargetError> {
    if path.is_empty() {
        return Err(TargetError::Empty);
    }
    if cfg!(not(unix)) {
        return Err(TargetError::Scheme("unix".to_owned()));
    }
    // `unix:///path` is how some tools write it.
    let path = Path::new(path.strip_prefix("//").unwrap_or(path));
    std::path::absolute(path)
        .map(Target::Unix)
        .map_err(|source| TargetError::Unreadable { path: path.to_owned(), source })
}

fn path(text: &str) -> Result<Target, TargetError> {
    if text.is_empty() {
        return Err(TargetError::Empty);
    }
    let unreadable = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            TargetError::NotFound(text.to_owned())
        } else {
            TargetError::Unreadable { path: PathBuf::from(text), source }
        }
    };
    let path = Path::new(text).canonicalize().map_err(unreadable)?;
    let metadata = path.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        drop(path.read_dir().map_err(unreadable)?);
        Ok(Target::Folder(path))
    } else if metadata.is_file() {
        drop(File::open(&path).map_err(unreadable)?);
        Ok(Target::File(path))
    } else {
        Err(TargetError::Special(path))
    }
}

/// Why a text names no target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Nothing was given.
    #[error(
        "no target given: write a port (3000), an address (host:port), a URL, unix:/path, a folder or a file"
    )]
    Empty,
    /// A number that is no port.
    #[error("{0} is not a port: write a number from 1 to 65535")]
    Port(String),
    /// A URL of another scheme.
    #[error("targets of the scheme {0:?} are not supported: write http://, https:// or unix:")]
    Scheme(String),
    /// A URL that cannot be read, or carries a user name.
    #[error("{0:?} is not a usable URL: write http://host:port")]
    Url(String),
    /// A URL with a path.
    #[error("{0:?} has a path: a tunnel leads to the whole server, leave the path away")]
    UrlPath(String),
    /// Neither an address nor anything in the file system.
    #[error("no such file or folder: {0:?}")]
    NotFound(String),
    /// The file system refuses.
    #[error("{path:?} cannot be read")]
    Unreadable {
        /// As it was given.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A device, a pipe or the like.
    #[error("{0:?} is neither a file nor a folder; write unix:PATH for a socket")]
    Special(PathBuf),
}

impl TargetError {
    /// The contract's code for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Empty | Self::Port(_) | Self::Scheme(_) | Self::Url(_) | Self::UrlPath(_) => {
                Code::BadRequest
            }
            Self::NotFound(_) => Code::NotFound,
            Self::Unreadable { .. } | Self::Special(_) => Code::TargetUnreachable,
        }
    }
}

#[cfg(test)]
mod tests;
