//! The rows that last, in a file, and from a file back into either engine.
//!
//! The file is a SQLite database with the tables of its version and two more: what it is, and the coordinator's keys. It
//! is marked as a backup, so that no coordinator starts on it by mistake, with the feed of a time that is over.

mod copy;
mod place;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::Path;

use mytunnel_keys::id::PublicKey;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub(crate) use self::place::place;
use super::sql::{Reading, Session, Writing, params};
use super::{StoreError, connect, postgres};
use crate::audit::Chain;
use crate::backup::{BackupError, RestoredAccount};
use crate::config::StoreConfig;
use crate::data_dir::Neighbour;
use crate::error::OpenError;

pub(super) use self::copy::{KEPT, NOT_KEPT};

/// `MTUB`: marks a SQLite file as a backup.
const APPLICATION: u32 = 0x4d54_5542;

pub(super) const OWN_TABLES: &str = "
CREATE TABLE backup (made_at INTEGER NOT NULL PRIMARY KEY, rows INTEGER NOT NULL, digest BLOB NOT NULL) STRICT;
CREATE TABLE backup_keys (name TEXT NOT NULL PRIMARY KEY, key BLOB NOT NULL) STRICT;";

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) made_at: u64,
    pub(crate) rows: u64,
    pub(crate) audit_entries: u64,
    pub(crate) digest: [u8; 32],
}

/// Which keys belong to a database.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub(crate) root: PublicKey,
    pub(crate) bundle: Vec<u8>,
    /// Fingerprint of the key of second factors.
    pub(crate) accounts: Option<Vec<u8>>,
}

/// The database, while a backup is made of it.
enum Source {
    Sqlite(Connection),
    Postgres(Box<postgres::Session>),
}

impl Source {
    fn open(store: &StoreConfig) -> Result<Self, BackupError> {
        let (source, found) = match store {
            StoreConfig::Sqlite(path) => {
                if !connect::exists(path) {
                    return Err(OpenError::DatabaseMissing { path: path.clone() }.into());
                }
                let (connection, found) = connect::look(path)?;
                (Self::Sqlite(connection), found)
            }
            StoreConfig::Postgres { url, .. } => {
                let (session, found) = postgres::look(url)?;
                (Self::Postgres(Box::new(session)), found)
            }
            StoreConfig::Memory => return Err(BackupError::Memory),
        };
        match found {
            super::VERSION => Ok(source),
            0 => Err(BackupError::Empty),
            found => Err(BackupError::Version { found, supported: super::VERSION }),
        }
    }

    fn session(&self) -> Session<'_> {
        match self {
            Self::Sqlite(connection) => Session::Sqlite(connection),
            Self::Postgres(session) => Session::Postgres(session),
        }
    }

    /// One state of the database, for as long as the copying takes. Nobody waits for it.
    const fn begin(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BEGIN",
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }
}

/// Writes the rows that last, and the keys, into an empty file. Blocks.
pub(crate) fn write(
    store: &StoreConfig,
    path: &Path,
    keys: &[(&'static str, Zeroizing<[u8; 32]>)],
    now: u64,
) -> Result<Contents, BackupError> {
    let source = Source::open(store)?;
    let from = Reading::of(source.session());
    let connection = connect::fresh(path, now)?;
    let to = Writing::of(Session::Sqlite(&connection));
    connection.execute_batch(OWN_TABLES).map_err(|error| BackupError::Write(error.into()))?;
    to.control("BEGIN IMMEDIATE").map_err(BackupError::Write)?;
    from.control(source.begin()).map_err(BackupError::Read)?;
    let rows = copy::all(&from, &to, &to)?;
    from.control("COMMIT").map_err(BackupError::Read)?;
    let finish = || -> Result<Contents, StoreError> {
        for (name, key) in keys {
            to.change("INSERT INTO backup_keys (name, key) VALUES ($1, $2)", params![name, **key])?;
        }
        let digest = digest(&to, now)?;
        to.change(
            "INSERT INTO backup (made_at, rows, digest) VALUES ($1, $2, $3)",
            params![now, rows, digest],
        )?;
        let audit_entries = to.head()?.audit_seq;
        to.control("COMMIT")?;
        connection.pragma_update(None, "application_id", APPLICATION)?;
        Ok(Contents { made_at: now, rows, audit_entries, digest })
    };
    let contents = finish().map_err(BackupError::Write)?;
    drop(connection);
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|source| OpenError::io("write", path, source))?;
    Ok(contents)
}

/// SHA-256 over the time of a backup and every row in it.
fn digest(of: &Reading<'_>, made_at: u64) -> Result<[u8; 32], StoreError> {
    let mut digest = Sha256::new();
    digest.update(b"mytunnel backup 1\0");
    digest.update(made_at.to_be_bytes());
    for table in copy::tables(of)? {
        table.digest(of, &mut digest)?;
    }
    Ok(digest.finalize().into())
}

/// A backup that was found whole.
pub(crate) struct Archive {
    connection: Connection,
    contents: Contents,
    trusted: Trusted,
    /// What an earlier release made, brought up to date; dropped behind its connection.
    _upgraded: Option<Neighbour>,
}

impl Archive {
    /// Reads a backup and checks all of it. What an earlier release made is brought up to date, in a copy in `scratch`.
    pub(crate) fn open(path: &Path, scratch: &Path, now: u64) -> Result<Self, BackupError> {
        let broken = |problem| BackupError::Broken { path: path.to_owned(), problem };
        // An engine would take whatever stands beside the file for its own.
        File::open(path).map_err(|source| OpenError::io("read", path, source))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection =
            Connection::open_with_flags(path, flags).map_err(|_| broken("it cannot be opened"))?;
        let found = match connect::inspect(&connection, path, APPLICATION) {
            Ok(0) | Err(OpenError::Foreign { .. }) => return Err(broken("it was not made by a backup")),
            Err(OpenError::Newer { path, found, supported }) => {
                return Err(BackupError::Newer { path, found, supported });
            }
            Err(OpenError::Damaged { .. }) => return Err(broken("it is cut short or damaged")),
            found => found?,
        };
        let (made_at, rows, kept) = label(&connection)
            .map_err(|_| broken("it is cut short or damaged"))?
            .ok_or_else(|| broken("it was not made by a backup"))?;
        let reading = Reading::of(Session::Sqlite(&connection));
        let digest = digest(&reading, made_at).map_err(|_| broken("it cannot be read to its end"))?;
        if digest != kept {
            return Err(broken("its rows are not those that were written"));
        }
        drop(reading);
        let mut upgraded = None;
        if found < super::VERSION {
            let copy = Neighbour::of(&scratch.join("restore"))?;
            fs::copy(path, copy.path()).map_err(|source| OpenError::io("write", copy.path(), source))?;
            connection = connect::upgraded(copy.path(), found, now)?;
            upgraded = Some(copy);
        }
        let reading = Reading::of(Session::Sqlite(&connection));
        let malformed = |_| broken("its rows cannot be read");
        // Names of the file go into statements that another database runs.
        let ours = connect::memory().map_err(BackupError::Read)?;
        if !copy::same_tables(&reading, &Reading::of(Session::Sqlite(&ours))).map_err(malformed)? {
            return Err(broken("its tables are not those of its version"));
        }
        let audit_entries =
            whole_log(&reading).map_err(malformed)?.ok_or_else(|| broken("its audit log is not whole"))?;
        let (root, bundle) = reading.trust().map_err(malformed)?.ok_or(BackupError::Empty)?;
        let trusted = Trusted { root, bundle, accounts: reading.accounts_key().map_err(malformed)? };
        drop(reading);
        let contents = Contents { made_at, rows, audit_entries, digest };
        Ok(Self { connection, contents, trusted, _upgraded: upgraded })
    }

    pub(crate) const fn contents(&self) -> Contents {
        self.contents
    }

    pub(crate) const fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// The key of that name, if it was there.
    pub(crate) fn key(&self, name: &str) -> Result<Option<Zeroizing<[u8; 32]>>, BackupError> {
        let read = |row: &super::sql::Row<'_>| row.get(0).map(Zeroizing::new);
        self.reading()
            .first("SELECT key FROM backup_keys WHERE name = $1", params![name], read)
            .map_err(BackupError::Read)
    }

    /// Who can sign in, and which relays stand.
    pub(crate) fn standing(&self) -> Result<(Vec<RestoredAccount>, Vec<PublicKey>), BackupError> {
        let reading = self.reading();
        let accounts = reading.all(
            "SELECT email, role FROM accounts WHERE deleted_at IS NULL ORDER BY role DESC, email",
            params![],
            |row| Ok(RestoredAccount { email: row.get(0)?, owner: row.get::<String>(1)? == "owner" }),
        );
        let relays = reading.all(
            "SELECT subject FROM keys WHERE kind = 'relay' AND revoked_at IS NULL ORDER BY issued_at, serial",
            params![],
            |row| super::column::public_key(row, 0),
        );
        Ok((accounts.map_err(BackupError::Read)?, relays.map_err(BackupError::Read)?))
    }

    fn reading(&self) -> Reading<'_> {
        Reading::of(Session::Sqlite(&self.connection))
    }
}

type Label = (u64, u64, [u8; 32]);

fn label(connection: &Connection) -> Result<Option<Label>, StoreError> {
    Reading::of(Session::Sqlite(connection)).first(
        "SELECT made_at, rows, digest FROM backup",
        params![],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

/// Follows the audit log to the head; answers its length, none if it does not hold.
fn whole_log(reading: &Reading<'_>) -> Result<Option<u64>, StoreError> {
    let (mut chain, head) = (Chain::START, reading.head()?);
    loop {
        let rows = reading.audit_rows_after(chain.seq)?;
        if rows.is_empty() {
            let whole = chain == Chain { seq: head.audit_seq, hash: head.audit_hash };
            return Ok(whole.then_some(chain.seq));
        }
        if rows.iter().any(|row| !chain.accept(row)) {
            return Ok(None);
        }
    }
}
