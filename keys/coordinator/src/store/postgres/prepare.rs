//! Opening a database on a server: look first, touch only what is ours.

use std::path::PathBuf;

use super::{Line, PostgresUrl, Role, Session, ddl};
use crate::error::OpenError;
use crate::store::StoreError;
use crate::store::migrations::{MIGRATIONS, Step, VERSION};
use crate::store::sql::{self, Reading, Writing, params};

/// Number of the coordinator that has the database, counted over all that ever had it.
const TENURE: &str = "tenure";
const READERS: usize = 3;

/// Takes a database, unless another coordinator has it, and brings it up to date: one connection to write, some to
/// read. Blocks.
pub(in crate::store) fn prepare(url: &PostgresUrl, now: u64) -> Result<(Line, Vec<Line>), OpenError> {
    let open = || Session::open(url).map_err(|error| unreachable(url, error));
    let session = open()?;
    if !session.hold().map_err(|error| unreachable(url, error))? {
        return Err(OpenError::InUse { server: url.to_string() });
    }
    session.control("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")?;
    let found = inspect(&session, url)?;
    migrate(&session, found, now)?;
    let tenure = tenure(&session)? + 1;
    Writing::of(sql::Session::Postgres(&session)).set_meta(TENURE, &tenure.to_be_bytes())?;
    session.control("COMMIT")?;
    let writer = Line::new(url.clone(), Role::Write { tenure }, session);
    let readers = (0..READERS).map(|_| Ok(Line::new(url.clone(), Role::Read, open()?)));
    Ok((writer, readers.collect::<Result<_, OpenError>>()?))
}

/// Is there a database of ours at all? Blocks.
pub(crate) fn exists_on(url: &PostgresUrl) -> Result<bool, OpenError> {
    let session = Session::open(url).map_err(|error| unreachable(url, error))?;
    Ok(inspect(&session, url)? > 0)
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

/// Whose turn it is.
pub(super) fn tenure(session: &Session) -> Result<u64, StoreError> {
    let Some(stored) = Reading::of(sql::Session::Postgres(session)).meta(TENURE)? else { return Ok(0) };
    stored.try_into().map(u64::from_be_bytes).map_err(|_| StoreError::Malformed("tenure"))
}

fn unreachable(url: &PostgresUrl, source: StoreError) -> OpenError {
    OpenError::Unreachable { server: url.to_string(), source }
}
