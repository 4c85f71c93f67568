//! The narrow door to the database engine.
//!
//! The operations in this directory speak SQL through [`Reading`] and [`Writing`] only. Their texts use
//! `$1..$n` in order of first appearance (the order in which SQLite numbers them), so that PostgreSQL can run
//! them as they stand.

use std::cell::RefCell;
use std::ops::Deref;

use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::StoreError;

/// Access to one consistent view of the database.
pub(crate) struct Reading<'c> {
    connection: &'c Connection,
    fault: RefCell<Option<StoreError>>,
}

impl<'c> Reading<'c> {
    pub(super) fn of(connection: &'c Connection) -> Self {
        Self { connection, fault: RefCell::new(None) }
    }

    /// The first row, if there is one.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.note(self.connection.prepare_cached(sql))?;
        self.note(statement.query_row(params, read).optional())
    }

    /// The row that must be there.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut statement = self.note(self.connection.prepare_cached(sql))?;
        self.note(statement.query_row(params, read))
    }

    /// Every row.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.note(self.connection.prepare_cached(sql))?;
        let rows = self.note(statement.query_map(params, read))?;
        self.note(rows.collect())
    }

    /// Steers transactions.
    pub(super) fn control(&self, sql: &str) -> Result<(), StoreError> {
        let mut statement = self.note(self.connection.prepare_cached(sql))?;
        self.note(statement.execute([])).map(drop)
    }

    /// Is no transaction under way?
    pub(super) fn is_idle(&self) -> bool {
        self.connection.is_autocommit()
    }

    /// The error behind a transaction that the engine undid by itself.
    pub(super) fn last_fault(&self) -> StoreError {
        self.fault.take().unwrap_or(StoreError::Closed)
    }

    fn note<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| {
            let error = StoreError::from(error);
            self.fault.replace(Some(error.clone()));
            error
        })
    }
}

/// Access within a transaction that may write.
pub(crate) struct Writing<'c>(Reading<'c>);

impl<'c> Writing<'c> {
    pub(super) fn of(connection: &'c Connection) -> Self {
        Self(Reading::of(connection))
    }

    /// Changes rows; answers how many.
    pub(super) fn change(&self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        let mut statement = self.note(self.connection.prepare_cached(sql))?;
        self.note(statement.execute(params))
    }
}

impl<'c> Deref for Writing<'c> {
    type Target = Reading<'c>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
