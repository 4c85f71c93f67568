//! The file with the sessions that somebody wants kept: what was committed here is what a process that is killed at any
//! moment goes on with.
//!
//! It knows nothing of sessions but their ids and what is to be written as one: the state of a session, its entries, and
//! what was said here and has no place yet. The file is readable by its owner alone, and held by one process.

mod error;
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};
use zeroize::Zeroizing;

pub use self::error::StoreError;
use crate::{content::SessionId, limits};

/// What changes of one session at once.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// All that is known of it but what follows.
    pub(crate) state: Zeroizing<Vec<u8>>,
    /// What may be older than the rest after a crash.
    pub(crate) loose: Vec<u8>,
    /// It is the first of its session.
    pub(crate) begins: bool,
    /// It is over.
    pub(crate) over: bool,
    /// New entries by their numbers.
    pub(crate) entries: Vec<(u64, Vec<u8>)>,
    /// Entries before this one are kept no longer.
    pub(crate) first: u64,
    /// What was said here and has no place yet, what is new of it.
    pub(crate) outbox: Vec<(u64, Vec<u8>)>,
    /// What was said here before this has its place.
    pub(crate) unsaid: u64,
}

impl Change {
    /// Both, as one.
    pub(crate) fn follow(&mut self, later: Self) {
        let Self { state, loose, begins: _, over, entries, first, outbox, unsaid } = later;
        (self.state, self.loose, self.over) = (state, loose, over);
        (self.first, self.unsaid) = (first, unsaid);
        self.entries.extend(entries);
        self.entries.retain(|(number, _)| *number >= first);
        self.outbox.extend(outbox);
        self.outbox.retain(|(number, _)| *number >= unsaid);
    }
}

/// What is written, and read, in one go.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// What makes this machine the same after a restart.
    pub(crate) machine: Option<Zeroizing<Vec<u8>>>,
    pub(crate) changes: BTreeMap<SessionId, Change>,
    /// Of these nothing stays.
    pub(crate) forget: BTreeSet<SessionId>,
    /// These are read, behind the writing.
    pub(crate) fetch: BTreeSet<SessionId>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        !self.writes() && self.fetch.is_empty()
    }

    /// Whether anything is to be written.
    pub(crate) fn writes(&self) -> bool {
        self.machine.is_some() || !self.changes.is_empty() || !self.forget.is_empty()
    }
}

/// All that is kept of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) state: Zeroizing<Vec<u8>>,
    pub(crate) loose: Vec<u8>,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) outbox: Vec<Vec<u8>>,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
}

impl Store {
    /// Whether there is a file.
    pub(crate) fn exists(path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| meta.len() > 0)
    }

    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was changed then.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let io = |why: io::Error| StoreError::Io { path: path.to_owned(), why };
        // What SQLite puts beside it takes its permissions.
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        let mut connection = connect(path).map_err(|error| StoreError::of(path, &error))?;
        schema::prepare(&mut connection, path)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Everything of the batch, or nothing.
    ///
    /// # Errors
    /// [`StoreError`]; the file is as before.
    pub(crate) fn write(&mut self, batch: &Batch, now: u64) -> Result<(), StoreError> {
        self.try_write(batch, now).map_err(|error| self.failed(&error))
    }

    /// What makes this machine the same after a restart.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) fn machine(&self) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let state = self.connection.query_row("SELECT state FROM machine", [], |row| row.get(0));
        Ok(state.optional().map_err(|error| self.failed(&error))?.map(Zeroizing::new))
    }

    /// Sessions that are not over, or those that are, the last first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) fn sessions(&self, over: bool) -> Result<Vec<SessionId>, StoreError> {
        let list = || {
            let mut found = self.connection.prepare_cached(
                "SELECT id FROM session WHERE (ended_at IS NOT NULL) = ?1 ORDER BY ended_at DESC, id",
            )?;
            let found = found.query_map([over], |row| row.get(0).map(SessionId))?;
            found.collect::<rusqlite::Result<_>>()
        };
        list().map_err(|error| self.failed(&error))
    }

    /// All that is kept of a session.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) fn read(&self, session: SessionId) -> Result<Option<Rows>, StoreError> {
        self.try_read(session).map_err(|error| self.failed(&error))
    }

    /// Closes the file, which goes if nothing is in it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) fn close(self) -> Result<(), StoreError> {
        let count = || {
            // Nobody has to find this machine again where all sessions are over.
            self.connection.execute(
                "DELETE FROM machine WHERE NOT EXISTS (SELECT 1 FROM session WHERE ended_at IS NULL)",
                [],
            )?;
            self.connection.query_row("SELECT count(*) FROM session", [], |row| row.get::<_, u32>(0))
        };
        let left = count().map_err(|error| self.failed(&error))?;
        let Self { connection, path } = self;
        connection.close().map_err(|(_, error)| StoreError::of(&path, &error))?;
        if left == 0 {
            fs::remove_file(&path).map_err(|why| StoreError::Io { path, why })?;
        }
        Ok(())
    }

    fn failed(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::of(&self.path, error)
    }

    fn try_write(&mut self, batch: &Batch, now: u64) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(machine) = &batch.machine {
            transaction.execute(
                "INSERT INTO machine VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET state = excluded.state",
                [machine.as_slice()],
            )?;
        }
        for (session, change) in &batch.changes {
            write_change(&transaction, &session.0, change, now)?;
        }
        // What a session that is over knew by which to come in goes, too.
        let mut gone = batch.changes.values().filter(|change| change.over).count();
        for session in &batch.forget {
            gone += transaction.execute("DELETE FROM session WHERE id = ?1", [session.0])?;
        }
        gone += transaction.execute(
            "DELETE FROM session WHERE ended_at <= ?1 OR id IN (SELECT id FROM session WHERE ended_at IS NOT NULL
                ORDER BY ended_at DESC, id LIMIT -1 OFFSET ?2)",
            params![number(now.saturating_sub(limits::RECORD.as_secs()))?, limits::RECORDS],
        )?;
        transaction.commit()?;
        if gone > 0 {
            // Out of the log, too. Where that fails what is gone is still gone, and the log is taken in later.
            if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
                tracing::debug!(%error, "the log was not taken in");
            }
        }
        Ok(())
    }

    fn try_read(&self, session: SessionId) -> rusqlite::Result<Option<Rows>> {
        let found =
            self.connection.query_row("SELECT state, loose FROM session WHERE id = ?1", [session.0], |row| {
                Ok((Zeroizing::new(row.get(0)?), row.get(1)?))
            });
        let Some((state, loose)) = found.optional()? else { return Ok(None) };
        let bodies = |sql| {
            let mut found = self.connection.prepare_cached(sql)?;
            found.query_map([session.0], |row| row.get(0))?.collect::<rusqlite::Result<Vec<Vec<u8>>>>()
        };
        let entries = bodies("SELECT body FROM entry WHERE session = ?1 ORDER BY number")?;
        let outbox = bodies("SELECT body FROM outbox WHERE session = ?1 ORDER BY number")?;
        Ok(Some(Rows { state, loose, entries, outbox }))
    }
}

fn write_change(to: &Transaction<'_>, session: &[u8; 8], change: &Change, now: u64) -> rusqlite::Result<()> {
    let ended_at = change.over.then_some(number(now)?);
    // One that begins under the id of another fails, and nothing is mixed.
    let written = to
        .prepare_cached(if change.begins {
            "INSERT INTO session (id, ended_at, state, loose) VALUES (?1, ?2, ?3, ?4)"
        } else {
            "UPDATE session SET ended_at = coalesce(ended_at, ?2), state = ?3, loose = ?4 WHERE id = ?1"
        })?
        .execute(params![session, ended_at, change.state.as_slice(), change.loose])?;
    match written {
        1 => {}
        // Its record has gone by age, or made room for others.
        0 if change.over => return Ok(()),
        _ => return Err(rusqlite::Error::StatementChangedRows(written)),
    }
    // A number that is there already would be something doubled, and fails.
    let mut insert = to.prepare_cached("INSERT INTO entry VALUES (?1, ?2, ?3)")?;
    for (at, body) in &change.entries {
        insert.execute(params![session, number(*at)?, body])?;
    }
    to.prepare_cached("DELETE FROM entry WHERE session = ?1 AND number < ?2")?
        .execute(params![session, number(change.first)?])?;
    let mut insert = to.prepare_cached("INSERT INTO outbox VALUES (?1, ?2, ?3)")?;
    for (at, body) in &change.outbox {
        insert.execute(params![session, number(*at)?, body])?;
    }
    to.prepare_cached("DELETE FROM outbox WHERE session = ?1 AND number < ?2")?
        .execute(params![session, number(change.unsaid)?])?;
    Ok(())
}

/// As SQLite counts: one that it cannot count to is not written as another.
fn number(number: u64) -> rusqlite::Result<i64> {
    i64::try_from(number).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // It stays with one owner, hence no mutex; no URI, hence a `?` in a path is a `?`.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "busy_timeout", 2000)?;
    // Before the first look at it, so that no index of the log is shared: there is nobody to share it with.
    connection.pragma_update_and_check(None, "locking_mode", "exclusive", |_| Ok(()))?;
    Ok(connection)
}

#[cfg(test)]
impl Store {
    /// As a disk that is full.
    pub(crate) fn refuse_writes(&self, refuse: bool) {
        self.connection.pragma_update(None, "query_only", refuse).expect("a setting of this connection");
    }
}

#[cfg(test)]
mod tests;
