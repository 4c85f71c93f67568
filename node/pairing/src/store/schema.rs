//! The tables, and the way to them from every version before.

use std::{fs, path::Path};

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// `MTPR`: marks a SQLite file as ours (<https://www.sqlite.org/fileformat2.html#application_id>).
const APPLICATION: u32 = 0x4d54_5052;
/// Reading a larger file from end to end would delay the start by seconds.
const CHECKED_UP_TO: u64 = 256 * 1024 * 1024;

/// From version to version; a file of version N lacks those from the Nth on. What is released is never changed.
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE machine (one INTEGER PRIMARY KEY CHECK (one = 1), state BLOB NOT NULL) STRICT;
    CREATE TABLE session (
        id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 8),
        ended_at INTEGER,
        state BLOB NOT NULL,
        loose BLOB NOT NULL
    ) STRICT;
    CREATE TABLE entry (
        session BLOB NOT NULL REFERENCES session (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (session, number)
    ) STRICT;
    CREATE TABLE outbox (
        session BLOB NOT NULL REFERENCES session (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (session, number)
    ) STRICT;
"];

/// Looks first, and touches only what is sound and ours.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| StoreError::of(path, &error);
    let found = inspect(connection, path)?;
    let set = |connection: &Connection| {
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        // What was committed survives a power cut: the log is synced at every commit.
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
        connection.pragma_update(None, "foreign_keys", true)
    };
    set(connection).map_err(failed)?;
    migrate(connection, found).map_err(failed)
}

fn inspect(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::of(path, &error);
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0)).map_err(failed);
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    let found = number("user_version")? as usize;
    if tables == 0 && found == 0 {
        return Ok(0);
    }
    if number("application_id")? != APPLICATION {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if found > MIGRATIONS.len() {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: MIGRATIONS.len() });
    }
    if fs::metadata(path).is_ok_and(|meta| meta.len() <= CHECKED_UP_TO) {
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(StoreError::Damaged { path: path.to_owned(), detail: verdict });
        }
    }
    Ok(found)
}

fn migrate(connection: &mut Connection, found: usize) -> rusqlite::Result<()> {
    let missing = MIGRATIONS.get(found..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX))?;
    transaction.commit()
}
