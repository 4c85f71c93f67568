//! PostgreSQL as the engine: sessions for the threads that own them.
//!
//! A thread drives its connection itself, on a small runtime of its own, so that operations stay plain functions.
//! Every wait has an end; a session whose server did not answer in time is given up, because nobody knows in which
//! state it is.

mod ddl;
mod line;
mod listen;
mod prepare;
mod tls;
mod url;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

pub(crate) use self::line::{Line, Role};
pub(super) use self::listen::listen;
pub(crate) use self::prepare::exists_on;
pub(super) use self::prepare::{Lines, fill, look, prepare};
pub use self::url::{PostgresUrl, UrlError};
use super::StoreError;
use super::sql::Value;

/// How long the server may take for one statement.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Statements that a session keeps prepared: more than there are texts.
const PREPARED: usize = 512;
/// What each session is set to. A coordinator that stands still in the middle of a transaction must not hold the
/// others up for long, one whose machine is gone must not keep the database for hours, and an acknowledged act must survive
/// a power cut, whatever the server's default is.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '10s';
SET statement_timeout = '25s'; SET client_min_messages = 'warning';
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// Waits for its turn to bring the database up to date and to make what a first start makes, and has it until
/// [`DONE`] or the end of the session. `MTUN`.
const MY_TURN: &str =
    "SET lock_timeout = '20s'; SELECT pg_advisory_lock(1297372494); SET lock_timeout = '10s'";
/// Every coordinator's writer has this for as long as its session lasts, so that a restore finds nobody at work.
const STAY: &str = "SELECT pg_advisory_lock_shared(1297372495)";
const ALONE: &str = "SET lock_timeout = '2s'; SELECT pg_advisory_lock(1297372495); SET lock_timeout = '10s'";
const DONE: &str = "SELECT pg_advisory_unlock(1297372494)";

/// An open connection.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    statements: RefCell<HashMap<String, (Vec<Type>, Statement)>>,
    /// The server did not answer in time, or takes no writes any more: another may have its place.
    given_up: Cell<bool>,
    driver: JoinHandle<()>,
    /// Dropped last: it drives the connection.
    runtime: Runtime,
}

impl Session {
    /// Connects. Blocks.
    pub(super) fn open(url: &PostgresUrl) -> Result<Self, StoreError> {
        let thread = |source| StoreError::Thread(Arc::new(source));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(thread)?;
        // Within the runtime: the thread that connects again has no other clock.
        let connecting = async { timeout(CONNECT, url.connect()).await };
        let (client, mut messages) = runtime.block_on(connecting).map_err(|_| late())??;
        // It ends with the connection, or with the runtime.
        let driver = runtime.spawn(async move { while let Some(Ok(_)) = messages.next().await {} });
        let statements = RefCell::default();
        let session = Self { client, statements, given_up: Cell::new(false), driver, runtime };
        session.control(SETTINGS)?;
        Ok(session)
    }

    /// Rows of a query.
    pub(super) fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepared(sql, params)?;
        self.wait(self.client.query(&statement, &references(params)))
    }

    /// Changes rows; answers how many.
    pub(super) fn change(&self, sql: &str, params: &[Value]) -> Result<usize, StoreError> {
        let statement = self.prepared(sql, params)?;
        let changed = self.wait(self.client.execute(&statement, &references(params)))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    /// Statements without parameters or answers.
    pub(super) fn control(&self, sql: &str) -> Result<(), StoreError> {
        self.wait(self.client.batch_execute(sql))
    }

    /// Keeps other coordinators from starting; false if one starts for too long.
    fn begin_start(&self) -> Result<bool, StoreError> {
        self.locked(MY_TURN)
    }

    /// Keeps other coordinators from working; false if one does.
    fn begin_alone(&self) -> Result<bool, StoreError> {
        self.locked(ALONE)
    }

    /// Says that a coordinator is at work, for as long as the session lasts.
    fn stay(&self) -> Result<(), StoreError> {
        self.control(STAY)
    }

    fn locked(&self, by: &str) -> Result<bool, StoreError> {
        match self.control(by) {
            Ok(()) => Ok(true),
            Err(StoreError::Engine(why)) if why.downcast_ref().is_some_and(Said::is_held) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets other coordinators start.
    pub(super) fn end_start(&self) -> Result<(), StoreError> {
        self.control(DONE)
    }

    /// Is the server gone, and whatever was not committed with it?
    pub(super) fn is_lost(&self) -> bool {
        self.given_up.get() || self.client.is_closed() || self.driver.is_finished()
    }

    fn prepared(&self, sql: &str, params: &[Value]) -> Result<Statement, StoreError> {
        let types: Vec<Type> = params.iter().map(|value| value.kind().into()).collect();
        if let Some((of, statement)) = self.statements.borrow().get(sql)
            && *of == types
        {
            return Ok(statement.clone());
        }
        let statement = self.wait(self.client.prepare_typed(sql, &types))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= PREPARED {
            statements.clear();
        }
        statements.insert(sql.to_owned(), (types, statement.clone()));
        Ok(statement)
    }

    fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        match self.runtime.block_on(async { timeout(PATIENCE, answer).await }) {
            Ok(answered) => answered.map_err(|error| {
                let error = StoreError::from(error);
                if matches!(error, StoreError::ReadOnly) {
                    self.given_up.set(true);
                }
                error
            }),
            Err(_) => {
                self.given_up.set(true);
                Err(late())
            }
        }
    }
}

fn references(params: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn late() -> StoreError {
    StoreError::Unreachable(Arc::new(std::io::Error::from(std::io::ErrorKind::TimedOut)))
}

/// What the server said, without the values that it quotes.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({code})")]
struct Said {
    code: String,
    message: String,
}

impl Said {
    fn is_held(&self) -> bool {
        self.code == SqlState::LOCK_NOT_AVAILABLE.code()
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let lost = error.is_closed()
                || std::error::Error::source(&error).is_some_and(|why| why.is::<std::io::Error>());
            let error = Arc::new(error);
            return if lost { Self::Unreachable(error) } else { Self::Engine(error) };
        };
        let why = Arc::new(Said { code: said.code().code().to_owned(), message: said.message().to_owned() });
        match said.code() {
            &SqlState::DISK_FULL => Self::Full,
            &SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly,
            &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => Self::Damaged(why),
            code if ["08", "57P"].iter().any(|class| code.code().starts_with(class)) => {
                Self::Unreachable(why)
            }
            &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT | &SqlState::TOO_MANY_CONNECTIONS => {
                Self::Unreachable(why)
            }
            _ => Self::Engine(why),
        }
    }
}
