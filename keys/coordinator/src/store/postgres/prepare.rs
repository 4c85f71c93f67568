//! Opening a database on a server: look first, touch only what is ours.

use std::path::PathBuf;

use super::{Line, PostgresUrl, Role, Session, ddl};
use crate::backup::BackupError;
use crate::error::OpenError;
use crate::store::StoreError;
use crate::store::backup::{KEPT, NOT_KEPT};
use crate::store::migrations::{MIGRATIONS, Step, VERSION};
use crate::store::sql::{self, Reading, Writing, params};

const READERS: usize = 3;

/// The connections to a database.
pub(in crate::store) struct Lines {
    pub(in crate::store) writer: Line,
    pub(in crate::store) readers: Vec<Line>,
    pub(in crate::store) aside: Line,
}

/// Opens a database and brings it up to date, one coordinator at a time: the next may only when this one has said
/// [`Session::end_start`], or is gone. Blocks.
pub(in crate::store) fn prepare(url: &PostgresUrl, now: u64) -> Result<Lines, OpenError> {
    let open = || Session::open(url).map_err(|error| unreachable(url, error));
    let session = open()?;
    if !session.begin_start().map_err(|error| unreachable(url, error))? {
        return Err(OpenError::InUse { server: url.to_string() });
    }
    session.stay()?;
    session.control("BEGIN ISOLATION LEVEL READ COMMITTED")?;
    let found = inspect(&session, url)?;
    migrate(&session, found, now)?;
    session.control("COMMIT")?;
    let line = |role| Ok::<_, OpenError>(Line::new(url.clone(), role, open()?));
    let readers = (0..READERS).map(|_| line(Role::Read)).collect::<Result<_, _>>()?;
    Ok(Lines { writer: Line::new(url.clone(), Role::Write, session), readers, aside: line(Role::Aside)? })
}

/// Is there a database of ours at all? Blocks.
pub(crate) fn exists_on(url: &PostgresUrl) -> Result<bool, OpenError> {
    let session = Session::open(url).map_err(|error| unreachable(url, error))?;
    Ok(inspect(&session, url)? > 0)
}

/// Looks at a database of ours, and says which version it has. Nothing in it is changed. Blocks.
pub(in crate::store) fn look(url: &PostgresUrl) -> Result<(Session, u32), OpenError> {
    let session = Session::open(url).map_err(|error| unreachable(url, error))?;
    let found = inspect(&session, url)?;
    Ok((session, found))
}

/// Makes a database of this version out of an empty one, or out of one of ours that gives way, and fills it; all of it or
/// nothing, and only while no coordinator has it. Blocks.
pub(in crate::store) fn fill(
    url: &PostgresUrl,
    replace: bool,
    now: u64,
    write: impl FnOnce(&Writing<'_>) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let session = Session::open(url).map_err(|error| unreachable(url, error))?;
    let alone = session.begin_start().and_then(|turn| Ok(turn && session.begin_alone()?));
    if !alone.map_err(|error| unreachable(url, error))? {
        return Err(OpenError::InUse { server: url.to_string() }.into());
    }
    session.control("BEGIN ISOLATION LEVEL READ COMMITTED").map_err(BackupError::Write)?;
    if inspect(&session, url)? > 0 {
        if !replace {
            return Err(BackupError::NotEmpty(url.to_string()));
        }
        drop_all(&session).map_err(BackupError::Write)?;
    }
    migrate(&session, 0, now).map_err(BackupError::Write)?;
    let writing = Writing::of(sql::Session::Postgres(&session));
    write(&writing)?;
    writing.commit().map_err(|error| BackupError::Unfinished(error.into()))
}

/// Drops every table of ours with the functions of its triggers, and nothing else.
fn drop_all(session: &Session) -> Result<(), StoreError> {
    let tables: Vec<&str> = KEPT.iter().chain(NOT_KEPT).copied().chain(["mytunnel_schema"]).collect();
    let named: Vec<String> = tables.iter().map(|table| format!("'{table}'")).collect();
    let text = format!(
        "SELECT DISTINCT p.proname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE n.nspname = current_schema() AND NOT t.tgisinternal AND c.relname IN ({})",
        named.join(", ")
    );
    let functions: Vec<String> =
        Reading::of(sql::Session::Postgres(session)).all(&text, params![], |row| row.get(0))?;
    session.control(&format!("DROP TABLE IF EXISTS {} CASCADE", tables.join(", ")))?;
    functions.iter().try_for_each(|name| session.control(&format!("DROP FUNCTION {name}()")))
}

/// Says which version the database has, 0 for an empty one, without changing it.
fn inspect(session: &Session, url: &PostgresUrl) -> Result<u32, OpenError> {
    let reading = Reading::of(sql::Session::Postgres(session));
    let (tables, ours): (u64, bool) = reading.one(
        "SELECT (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm')),
                to_regclass('mytunnel_schema') IS NOT NULL",
        params![],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    if !ours {
        return if tables == 0 { Ok(0) } else { Err(OpenError::NotOurs { server: url.to_string() }) };
    }
    let found = reading.one("SELECT version FROM mytunnel_schema", params![], |row| row.get(0))?;
    if found > VERSION {
        let path = PathBuf::from(url.to_string());
        return Err(OpenError::Newer { path, found, supported: VERSION });
    }
    Ok(found)
}

fn migrate(session: &Session, found: u32, now: u64) -> Result<(), StoreError> {
    if found == VERSION {
        return Ok(());
    }
    let writing = Writing::of(sql::Session::Postgres(session));
    if found == 0 {
        session.control(
            "CREATE TABLE mytunnel_schema (one BIGINT PRIMARY KEY CHECK (one = 1), version BIGINT NOT NULL)",
        )?;
    }
    for step in &MIGRATIONS[found as usize..] {
        match step {
            Step::Sql(text) => session.control(&ddl::translated(text))?,
            Step::Rows(write) => write(&writing, now)?,
            Step::Postgres(text) => session.control(text)?,
        }
    }
    writing.change(
        "INSERT INTO head (one, era, epoch, feed_hash, audit_seq, audit_hash) VALUES (1, 1, 0, $1, 0, $1)
         ON CONFLICT (one) DO NOTHING",
        params![[0_u8; 32]],
    )?;
    writing.change(
        "INSERT INTO mytunnel_schema (one, version) VALUES (1, $1)
         ON CONFLICT (one) DO UPDATE SET version = excluded.version",
        params![VERSION],
    )?;
    Ok(())
}

fn unreachable(url: &PostgresUrl, source: StoreError) -> OpenError {
    OpenError::Unreachable { server: url.to_string(), source }
}
