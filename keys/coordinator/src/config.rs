//! What a coordinator is started with.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mytunnel_keys::id::Cluster;
use mytunnel_keys::token::ServerUrl;
use mytunnel_keys::usage::Prices;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::authority;
use crate::coordinator::directory;
use crate::store::PostgresUrl;

/// Settings of a [`Coordinator`](crate::Coordinator).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where everything is kept.
    pub store: StoreConfig,
    /// The base domain of the tunnels; the audience of everything that is signed.
    pub cluster: Cluster,
    /// Where clients reach this coordinator, `https://console.example`. Goes into join tokens.
    pub public_url: ServerUrl,
    /// Where visitors reach tunnels; may be set later, see
    /// [`Coordinator::set_endpoints`](crate::Coordinator::set_endpoints).
    pub endpoints: Endpoints,
    /// Begin a new era of the feed: once, after the database was restored from a backup. Relays that have seen
    /// more than it holds refuse its feed otherwise, because going back could give revoked keys their rights
    /// again: revoke anew what was revoked since the backup. Needs `root.key`.
    pub new_era: bool,
    /// Who else may vouch for people.
    pub sign_in: Arc<mytunnel_sign_in::Client>,
    /// A program with its arguments that sends mail, for links to a new password; empty: none is sent. It is run
    /// without a shell and gets one JSON object on its standard input: `to`, `subject`, `text`, `url`.
    pub mail_command: Vec<String>,
    /// Name servers that are asked whose a domain is; empty: those of this machine.
    pub name_servers: Vec<SocketAddr>,
    /// What a scraper shows, as a bearer token, to read the metrics. Without it this machine needs none; with it, everybody
    /// but an owner does.
    pub metrics_token: Option<MetricsToken>,
    /// Time-outs and sizes.
    pub limits: Limits,
    /// What use costs from here on.
    pub prices: Prices,
    /// What time it is.
    pub clock: Clock,
}

impl Config {
    /// Settings with every default.
    pub fn new(store: StoreConfig, cluster: Cluster, public_url: ServerUrl) -> Self {
        Self {
            store,
            cluster,
            public_url,
            endpoints: Endpoints::default(),
            new_era: false,
            sign_in: Arc::default(),
            mail_command: Vec::new(),
            name_servers: Vec::new(),
            metrics_token: None,
            limits: Limits::default(),
            prices: Prices::default(),
            clock: Clock::system(),
        }
    }
}

/// What a scraper shows to read the metrics.
#[derive(Clone)]
pub struct MetricsToken(Zeroizing<String>);

impl MetricsToken {
    /// Shortest token, in bytes.
    pub const MIN: usize = 16;

    /// A token of letters, digits and signs; none if it is too short to be one, or has other characters.
    pub fn new(text: Zeroizing<String>) -> Option<Self> {
        let sound = text.len() >= Self::MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
        sound.then_some(Self(text))
    }

    /// Is this the token?
    pub(crate) fn is(&self, shown: &[u8]) -> bool {
        // Of digests, so that the time it takes tells nothing of the token, not even its length.
        Sha256::digest(shown).ct_eq(&Sha256::digest(self.0.as_bytes())).into()
    }
}

impl fmt::Debug for MetricsToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsToken")
    }
}

/// The store behind a coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreConfig {
    /// A SQLite file. Keys and lock lie in its directory, which is made (mode 0700) if it is missing.
    Sqlite(PathBuf),
    /// A PostgreSQL database, which several coordinators may share. Each has a data directory of its own, with a
    /// lock and copies of the same keys.
    Postgres {
        /// Where the database is.
        url: PostgresUrl,
        /// Where keys and lock lie; made (mode 0700) if it is missing.
        data: PathBuf,
    },
    /// Nothing outlives the process: for a share without a server, and for tests.
    Memory,
}

impl StoreConfig {
    /// Where the coordinator's keys lie, if they outlive the process.
    pub fn data_dir(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(directory(path)),
            Self::Postgres { data, .. } => Some(data),
            Self::Memory => None,
        }
    }
}

/// Where visitors reach tunnels, as `host:port` or `:port`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Without TLS.
    pub http: Option<String>,
    /// With TLS.
    pub https: Option<String>,
}

/// Time-outs and sizes, each with its default.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// How long a call that changes rights waits for the relays: 2 s.
    pub confirm: Duration,
    /// Time between two heartbeats of the feed: 1 s.
    pub heartbeat: Duration,
    /// How far this coordinator's clock may be from that of the database's server, if that is one: 20 s. Relays refuse what
    /// was signed more than 60 s from their own time, which may itself be off by 30 s; the rest is its way to them.
    pub clock_offset: Duration,
    /// How long a relay that cannot be heard may still serve: 15 min. It is named in answers until then.
    pub hard_staleness: Duration,
    /// Life of an access token: 15 min.
    pub session: Duration,
    /// Life of a join token that names none: 1 h.
    pub join_token: Duration,
    /// Life of a relay's certificate: 24 h. Nodes believe a relay that was revoked until its certificate ends.
    pub relay_certificate: Duration,
    /// A name that nobody used for so long is free again: 30 days.
    pub unused_name: Duration,
    /// How long a name that went with its project is kept from other tenants: 24 h.
    pub given_up: Duration,
    /// Largest body of a request: 64 KiB.
    pub body: usize,
    /// Relays that may follow the feed at a time: 256.
    pub relays: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            confirm: Duration::from_secs(2),
            heartbeat: Duration::from_secs(1),
            clock_offset: Duration::from_secs(20),
            hard_staleness: Duration::from_secs(15 * 60),
            session: Duration::from_secs(15 * 60),
            join_token: Duration::from_secs(3600),
            relay_certificate: Duration::from_secs(authority::RELAY_TTL),
            unused_name: Duration::from_secs(30 * 24 * 3600),
            given_up: Duration::from_secs(24 * 3600),
            body: 64 * 1024,
            relays: 256,
        }
    }
}

/// Tells the time in whole Unix seconds. Tests bring their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        // A clock before 1970 is as wrong as one in 1970: certificates will say so.
        Self::from_fn(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// A clock that asks `now`.
    pub fn from_fn(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Whole Unix seconds.
    pub fn now(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
