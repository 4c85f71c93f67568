//! The narrow door to the database engine.
//!
//! The operations in this directory speak SQL through [`Reading`] and [`Writing`] only, bind parameters with
//! [`params!`] and read columns from a [`Row`]. Their texts use `$1..$n` in order of first appearance (the order in
//! which SQLite numbers them), so that PostgreSQL can run them as they stand.

mod value;

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection};

pub(super) use self::value::{FromCell, Kind, Row, ToValue, Value};
use super::StoreError;
use super::postgres;
use super::siblings::{CHANNEL, CoordinatorId};

/// Parameters of a SQL text, in their order.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::store::sql::ToValue::to_value(&$value)),*]
    };
}
pub(super) use params;

/// An open connection of either engine.
#[derive(Clone, Copy)]
pub(super) enum Session<'c> {
    Sqlite(&'c Connection),
    Postgres(&'c postgres::Session),
}

/// Access to one consistent view of the database.
pub(crate) struct Reading<'c> {
    session: Session<'c>,
    fault: RefCell<Option<StoreError>>,
}

impl<'c> Reading<'c> {
    pub(super) fn of(session: Session<'c>) -> Self {
        Self { session, fault: RefCell::new(None) }
    }

    /// The first row, if there is one.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: &[Value],
        read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match self.session {
            Session::Sqlite(connection) => {
                let mut statement = self.bound(connection, sql, params)?;
                let mut rows = statement.raw_query();
                let row = self.note(rows.next().map_err(StoreError::from))?;
                row.map(|row| read(&Row::Sqlite(row))).transpose()
            }
            Session::Postgres(session) => {
                let rows = self.note(session.query(sql, params))?;
                rows.first().map(|row| read(&Row::Postgres(row))).transpose()
            }
        }
    }

    /// The row that must be there.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: &[Value],
        read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.first(sql, params, read)?.ok_or(StoreError::Malformed("row, which should be there,"))
    }

    /// Every row.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: &[Value],
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        match self.session {
            Session::Sqlite(connection) => {
                let mut statement = self.bound(connection, sql, params)?;
                let mut rows = statement.raw_query();
                let mut found = Vec::new();
                while let Some(row) = self.note(rows.next().map_err(StoreError::from))? {
                    found.push(read(&Row::Sqlite(row))?);
                }
                Ok(found)
            }
            Session::Postgres(session) => {
                let rows = self.note(session.query(sql, params))?;
                rows.iter().map(|row| read(&Row::Postgres(row))).collect()
            }
        }
    }

    /// Steers transactions.
    pub(super) fn control(&self, sql: &str) -> Result<(), StoreError> {
        match self.session {
            Session::Sqlite(connection) => {
                let executed = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
                self.note(executed.map(drop).map_err(StoreError::from))
            }
            Session::Postgres(session) => self.note(session.control(sql)),
        }
    }

    /// Has the engine given the transaction up by itself?
    pub(super) fn is_undone(&self) -> bool {
        match self.session {
            Session::Sqlite(connection) => connection.is_autocommit(),
            Session::Postgres(session) => session.is_lost(),
        }
    }

    /// The error behind a transaction that the engine undid by itself.
    pub(super) fn last_fault(&self) -> StoreError {
        self.fault.take().unwrap_or(StoreError::Closed)
    }

    fn bound(
        &self,
        connection: &'c Connection,
        sql: &str,
        params: &[Value],
    ) -> Result<CachedStatement<'c>, StoreError> {
        let bind = || {
            let mut statement = connection.prepare_cached(sql)?;
            let expected = statement.parameter_count();
            if expected != params.len() {
                return Err(rusqlite::Error::InvalidParameterCount(params.len(), expected));
            }
            for (index, value) in params.iter().enumerate() {
                statement.raw_bind_parameter(index + 1, value)?;
            }
            Ok(statement)
        };
        self.note(bind().map_err(StoreError::from))
    }

    fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|error| {
            self.fault.replace(Some(error.clone()));
        })
    }
}

/// Access within a transaction that may write.
pub(crate) struct Writing<'c>(Reading<'c>);

impl<'c> Writing<'c> {
    pub(super) fn of(session: Session<'c>) -> Self {
        Self(Reading::of(session))
    }

    /// Ends the transaction. When a server fails at this moment, whatever it says, nobody knows whether it has: the
    /// commit may stand in its log. A file's says so.
    pub(super) fn commit(&self) -> Result<(), StoreError> {
        self.end("COMMIT")
    }

    /// The same, and wakes the other coordinators of the database with it.
    pub(super) fn commit_and_tell(&self, me: CoordinatorId) -> Result<(), StoreError> {
        self.end(&format!("NOTIFY {CHANNEL}, '{me}'; COMMIT"))
    }

    /// Wakes the other coordinators of the database once this transaction has ended well.
    pub(super) fn announce(&self, me: CoordinatorId) -> Result<(), StoreError> {
        self.control(&format!("NOTIFY {CHANNEL}, '{me}'"))
    }

    /// Lets other coordinators start on the database.
    pub(super) fn end_start(&self) -> Result<(), StoreError> {
        match self.session {
            Session::Sqlite(_) => Ok(()),
            Session::Postgres(session) => self.note(session.end_start()),
        }
    }

    fn end(&self, commit: &str) -> Result<(), StoreError> {
        let on_server = matches!(self.session, Session::Postgres(_));
        self.control(commit).map_err(|error| {
            let known = matches!(error, StoreError::Closed | StoreError::Uncertain(_));
            if let StoreError::Unreachable(why) = error {
                StoreError::Uncertain(why)
            } else if on_server && !known {
                StoreError::Uncertain(Arc::new(error))
            } else {
                error
            }
        })
    }

    /// Changes rows; answers how many.
    pub(super) fn change(&self, sql: &str, params: &[Value]) -> Result<usize, StoreError> {
        match self.session {
            Session::Sqlite(connection) => {
                let mut statement = self.bound(connection, sql, params)?;
                self.note(statement.raw_execute().map_err(StoreError::from))
            }
            Session::Postgres(session) => self.note(session.change(sql, params)),
        }
    }
}

impl<'c> Deref for Writing<'c> {
    type Target = Reading<'c>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
