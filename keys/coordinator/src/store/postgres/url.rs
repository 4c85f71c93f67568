//! Where a database is and how to reach it, as `postgres://user@host:port/name?sslmode=…`.
//!
//! Whether the connection is encrypted is decided here and never left to the server: without `sslmode`, it is
//! encrypted unless it stays on this machine. Encrypted means verified.

use std::fmt;
use std::fs;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use futures::{Stream, StreamExt as _};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls};

use super::tls::{self, Tls};

/// A server that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// What drives a connection; it yields what the server says unasked.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<AsyncMessage, Error>> + Send>>;

/// The address of a PostgreSQL database. Printing it never shows the password.
#[derive(Clone)]
pub struct PostgresUrl {
    config: Arc<Config>,
    tls: Option<Tls>,
}

/// Why a URL names no database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is not of the form that PostgreSQL's programs take.
    #[error("this is not the URL of a PostgreSQL database; write postgres://USER@HOST/DATABASE")]
    Form(#[source] Option<Error>),
    /// It leaves open whether the connection is encrypted, or names a way that is not known.
    #[error("sslmode={0}: write disable, or verify-full (require and verify-ca mean the same here)")]
    Mode(String),
    /// The file of certificates cannot be used.
    #[error("sslrootcert={0}: cannot read certificates there")]
    Roots(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

impl PostgresUrl {
    /// The same, with this password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        Arc::make_mut(&mut self.config).password(password);
        self
    }

    /// Was a password written into the URL?
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    pub(super) async fn connect(&self) -> Result<(Client, Messages), Error> {
        match &self.tls {
            None => {
                let (client, mut connection) = self.config.connect(NoTls).await?;
                Ok((client, stream::poll_fn(move |context| connection.poll_message(context)).boxed()))
            }
            Some(tls) => {
                let (client, mut connection) = self.config.connect(tls.clone()).await?;
                Ok((client, stream::poll_fn(move |context| connection.poll_message(context)).boxed()))
            }
        }
    }
}

impl FromStr for PostgresUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (address, options) = text.split_once('?').unwrap_or((text, ""));
        if !["postgres://", "postgresql://"].iter().any(|scheme| address.starts_with(scheme)) {
            return Err(UrlError::Form(None));
        }
        let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(value),
                _ => rest.push(option),
            }
        }
        let mut config: Config =
            format!("{address}?{}", rest.join("&")).parse().map_err(|error| UrlError::Form(Some(error)))?;
        if config.get_hosts().is_empty() || config.get_dbname().is_none() {
            return Err(UrlError::Form(None));
        }
        let encrypted = match mode {
            None => !config.get_hosts().iter().all(stays_here),
            Some("disable") => false,
            Some("require" | "verify-ca" | "verify-full") => true,
            Some(other) => return Err(UrlError::Mode(other.to_owned())),
        };
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        // Of several servers, the one that takes writes: what another knows may be old.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(super::CONNECT).tcp_user_timeout(SILENCE).keepalives_idle(SILENCE);
        if config.get_application_name().is_none() {
            config.application_name("mytunnel");
        }
        let roots = match roots.filter(|_| encrypted) {
            None => tls::public_roots(),
            Some(path) => certificates(path).ok_or_else(|| UrlError::Roots(path.to_owned()))?,
        };
        let tls = if encrypted { Some(Tls(tls::trusting(roots)?)) } else { None };
        Ok(Self { config: Arc::new(config), tls })
    }
}

fn certificates(path: &str) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let text = fs::read(path).ok()?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then_some(roots)
}

fn stays_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            match host {
                Host::Unix(path) => write!(f, "{}", path.display())?,
                Host::Tcp(name) => f.write_str(name)?,
            }
            if let Some(port) = self.config.get_ports().get(index).or(self.config.get_ports().first()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config && self.tls.is_some() == other.tls.is_some()
    }
}

impl Eq for PostgresUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> PostgresUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_unless_it_is_said_otherwise() {
        assert!(parsed("postgres://a@db.example/mytunnel").tls.is_some());
        assert!(parsed("postgres://a@db.example/mytunnel?sslmode=disable").tls.is_none());
        assert!(parsed("postgres://a@db.example/mytunnel?sslmode=require").tls.is_some());
        assert!(parsed("postgres://a@localhost/mytunnel").tls.is_none());
        assert!(parsed("postgres://a@[::1]:5433/mytunnel").tls.is_none());
        assert!(parsed("postgresql:///mytunnel?host=/run/postgresql").tls.is_none());
        for open in ["prefer", "allow", "yes"] {
            let told =
                format!("postgres://a@db.example/x?sslmode={open}").parse::<PostgresUrl>().unwrap_err();
            assert!(told.to_string().contains("verify-full"), "{told}");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        let url = parsed("postgres://anna:hunter2@db.example:5433/mytunnel?connect_timeout=3");
        assert_eq!(url.to_string(), "postgres://db.example:5433/mytunnel");
        assert!(!format!("{url:?}").contains("hunter2"));
        assert!(url.has_password() && !parsed("postgres://anna@db/x").has_password());
    }

    #[test]
    fn a_url_names_a_host_and_a_database() {
        for bad in ["sqlite:x", "postgres://", "postgres://a@host", "postgres://host/x?nonsense=1", "/a/b"] {
            assert!(bad.parse::<PostgresUrl>().is_err(), "{bad}");
        }
        let missing = "postgres://a@db/x?sslrootcert=/nowhere.pem".parse::<PostgresUrl>();
        assert!(matches!(missing, Err(UrlError::Roots(path)) if path == "/nowhere.pem"));
    }
}
