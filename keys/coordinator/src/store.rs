//! What the coordinator remembers: a set of domain operations over one database.
//!
//! Callers see operations ("mint", "revoke", "enrol"), never SQL. Each one is atomic: the act, its row in the
//! audit log and its change in the feed are committed together or not at all, and an operation that answered
//! has reached the disk. SQLite is behind it, in a file or in memory, or PostgreSQL: the texts are the same.

mod accounts;
mod audit;
pub(crate) mod backup;
mod budgets;
mod column;
mod connect;
mod devices;
mod domains;
mod engine;
mod feed;
mod filter;
mod gates;
mod invitations;
mod kept_names;
mod keys;
mod makers;
mod meta;
mod migrations;
mod minting;
mod people;
mod postgres;
mod projects;
mod relays;
mod revoke;
mod second_factor;
mod sessions;
mod siblings;
mod sign_in;
mod sql;
mod tenants;
mod tickets;
mod tunnels;
mod usage;

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use mytunnel_keys::feed::Position;
use rusqlite::ErrorCode;
use tokio::sync::watch;

use self::engine::{Engine, Line, Sharing};
use self::migrations::VERSION;
pub use self::postgres::{PostgresUrl, UrlError};
use self::siblings::CoordinatorId;
use self::sql::Writing;
pub(crate) use self::{
    accounts::{Account, NewOwner, SetupError},
    audit::{AuditFilter, Followed},
    connect::{exists, look},
    devices::{DeviceAdded, NewDevice},
    domains::{DomainRow, NewDomainRow},
    feed::{FeedSigner, State},
    gates::{GateChange, NewGate},
    invitations::NewInvitation,
    keys::{KeyFilter, KeyKind, KeyRow, Kin, Listed},
    makers::{Maker, MasterLeft},
    people::AccountRow,
    postgres::exists_on,
    projects::{NewProject, Project},
    relays::{NewRelay, RelayRow},
    revoke::{Along, Revoked},
    second_factor::{CodeError, EnableError, NewFactor},
    sessions::{ChallengeError, Entrance, NewSession, Tokens, Visit},
    siblings::{Claim, Elsewhere, Following, News, Others},
    sign_in::{NewLink, NewSignIn, OpenSignIn, Purpose},
    tickets::{Guest, LetIn, Looked, NewTicket, TicketRow},
    tunnels::{TunnelRow, Up},
    usage::{Totals, UsageFilter},
};
use crate::agreement::{self, Agreement};
use crate::config::Clock;
use crate::data_dir::DataDir;
use crate::error::OpenError;

/// Where the feed and the audit log end after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) feed: Position,
    /// Number of the last row of the audit log.
    pub(crate) audit_seq: u64,
    /// Its hash.
    pub(crate) audit_hash: [u8; 32],
}

/// The database could not do what was asked. Nothing of the operation was kept, but for
/// [`Uncertain`](Self::Uncertain).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full.
    #[error("the disk of the database is full")]
    Full,
    /// The file or the disk became read-only.
    #[error("the database can only be read")]
    ReadOnly,
    /// The file is damaged.
    #[error("the database is damaged")]
    Damaged(#[source] Arc<dyn Error + Send + Sync>),
    /// The coordinator is shutting down.
    #[error("the store is closed")]
    Closed,
    /// The database knows less than it did before: it was restored, or another server with less took its place.
    #[error("the database knows less than before, as after a restore: begin a new era")]
    WentBack,
    /// The database server cannot be reached.
    #[error("the database server cannot be reached")]
    Unreachable(#[source] Arc<dyn Error + Send + Sync>),
    /// The database server was lost while it committed. This alone may have been kept.
    #[error("the database server was lost while it committed; whether it did is not known")]
    Uncertain(#[source] Arc<dyn Error + Send + Sync>),
    /// A thread for the database could not be started.
    #[error("cannot start a thread for the database")]
    Thread(#[source] Arc<io::Error>),
    /// Anything else that the engine reports.
    #[error("the database failed")]
    Engine(#[source] Arc<dyn Error + Send + Sync>),
    /// A stored value is not what it should be.
    #[error("a stored {0} cannot be read")]
    Malformed(&'static str),
    /// A column of a row is not what it should be.
    #[error("column {index} of a stored row cannot be read")]
    Column {
        /// Its place in the row, from 0.
        index: usize,
        /// Why it does not parse, if its kind is right.
        #[source]
        source: Option<Arc<dyn Error + Send + Sync>>,
    },
}

impl StoreError {
    /// It did not answer in time.
    pub(crate) fn late() -> Self {
        Self::Unreachable(Arc::new(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

impl Head {
    /// Heads follow each other: whoever commits has the row of the head to itself.
    pub(crate) fn is_after(&self, other: &Self) -> bool {
        self.place() > other.place()
    }

    /// Whether a database that ends there, and has ended here before, has lost what was committed.
    pub(crate) fn was_lost(&self, now: &Self) -> bool {
        self.is_after(now) || (self.place() == now.place() && self != now)
    }

    const fn place(&self) -> (u64, u64, u64) {
        (self.feed.era, self.feed.epoch, self.audit_seq)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(Arc::new(error)),
            Some(_) | None => Self::Engine(Arc::new(error)),
        }
    }
}

/// A database that was opened, before it is known who signs for it.
#[derive(Debug)]
pub(crate) struct Opened {
    engine: Engine,
    dir: Option<DataDir>,
    server: Option<Server>,
}

/// A server that other coordinators may use too.
#[derive(Debug, Clone)]
struct Server {
    url: PostgresUrl,
    me: CoordinatorId,
    /// Seconds by which this machine's clock is ahead of the server's.
    offset: Arc<AtomicI64>,
}

impl Opened {
    /// Opens or makes the database file in a locked directory; an older one is brought up to date. Blocks.
    pub(crate) fn file(path: &Path, dir: DataDir, now: u64) -> Result<Self, OpenError> {
        let (writer, readers) = connect::file(path, now)?;
        let readers = readers.into_iter().map(Line::Sqlite).collect();
        Ok(Self { engine: Engine::start(Line::Sqlite(writer), readers, None)?, dir: Some(dir), server: None })
    }

    /// Opens a database on a server, whose keys lie in a locked directory; an older one is brought up to date.
    /// Blocks.
    pub(crate) fn server(url: &PostgresUrl, dir: DataDir, now: u64) -> Result<Self, OpenError> {
        let me = CoordinatorId::fresh().map_err(|_| OpenError::Random)?;
        let postgres::Lines { writer, readers, aside } = postgres::prepare(url, now)?;
        let line = |line| Line::Postgres(Box::new(line));
        let sharing = Sharing { me, aside: line(aside) };
        let engine = Engine::start(line(writer), readers.into_iter().map(line).collect(), Some(sharing))?;
        Ok(Self {
            engine,
            dir: Some(dir),
            server: Some(Server { url: url.clone(), me, offset: Arc::default() }),
        })
    }

    /// A database that is gone when it is dropped.
    pub(crate) fn memory() -> Result<Self, OpenError> {
        let writer = connect::memory()?;
        Ok(Self { engine: Engine::start(Line::Sqlite(writer), Vec::new(), None)?, dir: None, server: None })
    }

    /// The locked directory, if the database is a file.
    pub(crate) const fn dir(&self) -> Option<&DataDir> {
        self.dir.as_ref()
    }

    /// Compares the clock with that of the server, if there is one, and bears so many seconds.
    pub(crate) async fn compare_clocks(&self, clock: &Clock, most: u64) -> Result<(), OpenError> {
        let Some(server) = &self.server else { return Ok(()) };
        let before = clock.now();
        let theirs = self.engine.read(|reading| reading.time()).await?;
        let offset = agreement::offset(before, theirs, clock.now());
        if agreement::judge(offset, most) == Agreement::TooFar {
            return Err(OpenError::Clock { server: server.url.to_string(), offset });
        }
        server.offset.store(offset, Ordering::Relaxed);
        Ok(())
    }

    /// The era of the feed.
    pub(crate) fn era(&self) -> u64 {
        self.engine.head().borrow().feed.era
    }

    /// The store, whose feed `signer` signs.
    pub(crate) fn into_store(self, signer: FeedSigner) -> Store {
        if let Some(dir) = self.dir {
            self.engine.hold(dir);
        }
        Store { engine: Arc::new(self.engine), signer: Arc::new(signer), server: self.server }
    }
}

/// The store. Cloning it makes another handle; the last one to go closes the database.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    engine: Arc<Engine>,
    signer: Arc<FeedSigner>,
    server: Option<Server>,
}

impl Store {
    /// The head after each commit, as it happens.
    pub(crate) fn head(&self) -> watch::Receiver<Head> {
        self.engine.head()
    }

    /// Everything that a first start makes is there: other coordinators may start.
    pub(crate) async fn end_start(&self) -> Result<(), StoreError> {
        self.engine.write(|writing| writing.end_start()).await
    }

    /// Places of operations that wait for the writer.
    pub(crate) const WRITES: usize = engine::QUEUE;

    /// Operations that wait for the writer.
    pub(crate) fn writes_waiting(&self) -> usize {
        self.engine.writes_waiting()
    }

    /// Does what was asked for, then closes the database. Later operations fail.
    pub(crate) async fn close(&self) {
        let engine = self.engine.clone();
        if tokio::task::spawn_blocking(move || engine.close()).await.is_err() {
            tracing::error!("the store did not close well");
        }
    }

    /// Runs an operation that changes what relays must know, with what signs it.
    async fn publishing<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Writing<'_>, &FeedSigner) -> Result<T, StoreError> + Send + 'static,
    {
        let signer = self.signer.clone();
        self.engine.write(move |writing| operation(writing, &signer)).await
    }
}

#[cfg(test)]
#[path = "../tests/support/database.rs"]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
