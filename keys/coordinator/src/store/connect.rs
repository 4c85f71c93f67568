//! Opening a database: look first, touch only what is sound and ours.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::StoreError;
use super::migrations::{MIGRATIONS, Step, VERSION};
use super::sql::{Session, Writing};
use crate::data_dir;
use crate::error::OpenError;

/// `MTUN`: marks a SQLite file as ours (<https://www.sqlite.org/fileformat2.html#application_id>).
const APPLICATION: u32 = 0x4d54_554e;
/// Reading a larger file from end to end would delay the start by seconds.
const CHECKED_UP_TO: u64 = 256 * 1024 * 1024;
const READERS: usize = 2;

/// Is there a database at all? An empty file counts as none.
pub(crate) fn exists(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() > 0)
}

/// Opens (or makes) the database at `path`: one connection to write, some to read.
pub(super) fn file(path: &Path, now: u64) -> Result<(Connection, Vec<Connection>), OpenError> {
    data_dir::create_private(path)?;
    let classify = |error| sort(path, error);
    let mut writer = connect(path).map_err(classify)?;
    if writer.is_readonly("main").map_err(classify)? {
        return Err(OpenError::ReadOnly { path: path.to_owned(), source: None });
    }
    let found = inspect(&writer, path, APPLICATION)?;
    prepare(&writer).map_err(classify)?;
    migrate(&mut writer, found, now)
        .map_err(|error| OpenError::from(error).in_file(Some(path.to_owned())))?;
    let readers = (0..READERS)
        .map(|_| {
            let reader = connect(path)?;
            reader.pragma_update(None, "query_only", true)?;
            Ok(reader)
        })
        .collect::<rusqlite::Result<_>>()
        .map_err(classify)?;
    Ok((writer, readers))
}

/// Looks at the database at `path`, if it is one that [`file()`] would take, and says which version it has. Nothing in it
/// is changed.
pub(crate) fn look(path: &Path) -> Result<(Connection, u32), OpenError> {
    let connection = connect(path).map_err(|error| sort(path, error))?;
    if connection.is_readonly("main").map_err(|error| sort(path, error))? {
        return Err(OpenError::ReadOnly { path: path.to_owned(), source: None });
    }
    let found = inspect(&connection, path, APPLICATION)?;
    Ok((connection, found))
}

/// A new file of this version, for whoever fills it in one go and throws it away if that fails.
pub(super) fn fresh(path: &Path, now: u64) -> Result<Connection, OpenError> {
    let classify = |error| sort(path, error);
    let mut connection = connect(path).map_err(classify)?;
    connection.pragma_update_and_check(None, "journal_mode", "memory", |_| Ok(())).map_err(classify)?;
    connection.pragma_update(None, "synchronous", "off").map_err(classify)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(classify)?;
    migrate(&mut connection, 0, now)
        .map_err(|error| OpenError::from(error).in_file(Some(path.to_owned())))?;
    Ok(connection)
}

/// Brings a copy of an older file up to date.
pub(super) fn upgraded(path: &Path, found: u32, now: u64) -> Result<Connection, OpenError> {
    let mut connection = connect(path).map_err(|error| sort(path, error))?;
    migrate(&mut connection, found, now)
        .map_err(|error| OpenError::from(error).in_file(Some(path.to_owned())))?;
    Ok(connection)
}

/// Lets a database that nobody has open take in its log, which goes with that.
pub(super) fn settle(path: &Path) -> rusqlite::Result<()> {
    let connection = connect(path)?;
    connection.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))
}

/// A database that lives as long as its connection.
pub(super) fn memory() -> Result<Connection, StoreError> {
    let mut connection = Connection::open_in_memory()?;
    prepare(&connection)?;
    migrate(&mut connection, 0, 0)?;
    Ok(connection)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Each connection stays on its thread, hence no mutex; no URI, hence a `?` in a path is a `?`.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "busy_timeout", 5000)?;
    connection.set_prepared_statement_cache_capacity(128);
    // Otherwise SQLite plans a kept statement anew for each value that it is given.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// Says which version the database has, 0 for an empty one, without changing it.
pub(super) fn inspect(connection: &Connection, path: &Path, application: u32) -> Result<u32, OpenError> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let classify = |error| sort(path, error);
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(classify)?;
    let found = number("user_version").map_err(classify)?;
    if tables == 0 && found == 0 {
        return Ok(0);
    }
    if number("application_id").map_err(classify)? != application {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    if found > VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found, supported: VERSION });
    }
    if fs::metadata(path).is_ok_and(|meta| meta.len() <= CHECKED_UP_TO) {
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(classify)?;
        if verdict != "ok" {
            return Err(OpenError::Damaged { path: path.to_owned(), detail: verdict });
        }
    }
    Ok(found)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // An acknowledged act must survive a power cut: the log is synced at every commit.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)
}

fn migrate(connection: &mut Connection, found: u32, now: u64) -> Result<(), StoreError> {
    if found == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for step in &MIGRATIONS[found as usize..] {
        match step {
            Step::Sql(text) => transaction.execute_batch(text)?,
            Step::Rows(write) => write(&Writing::of(Session::Sqlite(&transaction)), now)?,
            Step::Postgres(_) => {}
        }
    }
    transaction.execute(
        "INSERT INTO head (one, era, epoch, feed_hash, audit_seq, audit_hash) VALUES (1, 1, 0, $1, 0, $1)
         ON CONFLICT (one) DO NOTHING",
        [[0_u8; 32]],
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

fn sort(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path, detail: error.to_string() }
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            OpenError::ReadOnly { path, source: None }
        }
        Some(ErrorCode::DiskFull) => OpenError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path, holder: None },
        Some(_) | None => OpenError::Store(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("mytunnel.db");
        (place, path)
    }

    fn filled(path: &Path) {
        let (writer, _readers) = file(path, NOW).unwrap();
        let blob = vec![7_u8; 300];
        for number in 0..400_u32 {
            writer
                .execute("INSERT INTO meta VALUES ($1, $2)", rusqlite::params![number.to_string(), blob])
                .unwrap();
        }
    }

    #[test]
    fn a_new_database_is_ours_private_durable_and_of_this_version() {
        use std::os::unix::fs::PermissionsExt;
        let (_place, path) = place();
        let (writer, _readers) = file(&path, NOW).unwrap();
        let text = |name| writer.pragma_query_value(None, name, |row| row.get::<_, String>(0)).unwrap();
        let number = |name| writer.pragma_query_value(None, name, |row| row.get::<_, u32>(0)).unwrap();
        assert_eq!(text("journal_mode"), "wal");
        assert_eq!(number("synchronous"), 2);
        assert_eq!(number("foreign_keys"), 1);
        assert_eq!(number("user_version"), VERSION);
        assert_eq!(number("application_id"), APPLICATION);
        for suffix in ["", "-wal", "-shm"] {
            let file = PathBuf::from(format!("{}{suffix}", path.display()));
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
    }

    #[test]
    fn an_existing_database_opens_again() {
        let (_place, path) = place();
        filled(&path);
        let (writer, _readers) = file(&path, NOW).unwrap();
        let rows: u32 = writer.query_row("SELECT count(*) FROM meta", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 400);
    }

    #[test]
    fn a_damaged_page_is_found_and_left_as_it_is() {
        let (_place, path) = place();
        filled(&path);
        let mut bytes = fs::read(&path).unwrap();
        let pages = bytes.len() / 4096;
        bytes[(pages - 3) * 4096..(pages - 2) * 4096].fill(0xff);
        fs::write(&path, &bytes).unwrap();
        let error = file(&path, NOW).unwrap_err();
        assert!(matches!(&error, OpenError::Damaged { path: named, .. } if *named == path), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_damaged_header_is_found_and_left_as_it_is() {
        let (_place, path) = place();
        filled(&path);
        let mut bytes = fs::read(&path).unwrap();
        bytes[..100].fill(b'x');
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(file(&path, NOW), Err(OpenError::Damaged { .. })));
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_file_cut_short_is_found() {
        let (_place, path) = place();
        filled(&path);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(file(&path, NOW), Err(OpenError::Damaged { .. })));
    }

    #[test]
    fn a_later_version_is_refused() {
        let (_place, path) = place();
        filled(&path);
        Connection::open(&path).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
        let error = file(&path, NOW).unwrap_err();
        assert!(matches!(error, OpenError::Newer { found, supported: VERSION, .. } if found == VERSION + 1));
    }

    #[test]
    fn another_programs_database_is_refused() {
        let (_place, path) = place();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
        assert!(matches!(file(&path, NOW), Err(OpenError::Foreign { .. })));
    }

    #[test]
    fn what_the_engine_says_is_sorted_by_the_remedy() {
        let sorted = |code| {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            sort(Path::new("/d/x.db"), error)
        };
        assert!(matches!(sorted(rusqlite::ffi::SQLITE_FULL), OpenError::Full { .. }));
        assert!(matches!(sorted(rusqlite::ffi::SQLITE_READONLY), OpenError::ReadOnly { .. }));
        assert!(matches!(sorted(rusqlite::ffi::SQLITE_CORRUPT), OpenError::Damaged { .. }));
        assert!(matches!(sorted(rusqlite::ffi::SQLITE_BUSY), OpenError::Locked { .. }));
        assert!(matches!(sorted(rusqlite::ffi::SQLITE_INTERNAL), OpenError::Store(_)));
        for code in
            [rusqlite::ffi::SQLITE_FULL, rusqlite::ffi::SQLITE_READONLY, rusqlite::ffi::SQLITE_CORRUPT]
        {
            let error = sorted(code);
            assert!(error.to_string().contains("/d/x.db") && !error.help().is_empty(), "{error}");
        }
    }
}
