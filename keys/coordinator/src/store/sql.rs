//! The narrow door to the database engine.
//!
//! The operations in this directory speak SQL through [`Reading`] and [`Writing`] only, bind parameters with
//! [`params!`] and read columns from a [`Row`]. Their texts use `$1..$n` in order of first appearance (the order in
//! which SQLite numbers them), so that PostgreSQL can run them as they stand.

mod value;

use std::cell::RefCell;
use std::ops::Deref;

use rusqlite::{CachedStatement, Connection};

pub(super) use self::value::{FromCell, Row, ToValue, Value};
use super::StoreError;

/// Parameters of a SQL text, in their order.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::store::sql::ToValue::to_value(&$value)),*]
    };
}
pub(super) use params;

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
        params: &[Value],
        read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.bound(sql, params)?;
        let mut rows = statement.raw_query();
        match self.note(rows.next())? {
            Some(row) => read(&Row::of(row)).map(Some),
            None => Ok(None),
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
        let mut statement = self.bound(sql, params)?;
        let mut rows = statement.raw_query();
        let mut found = Vec::new();
        while let Some(row) = self.note(rows.next())? {
            found.push(read(&Row::of(row))?);
        }
        Ok(found)
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

    fn bound(&self, sql: &str, params: &[Value]) -> Result<CachedStatement<'c>, StoreError> {
        let mut statement = self.note(self.connection.prepare_cached(sql))?;
        let expected = statement.parameter_count();
        if expected != params.len() {
            let found = params.len();
            return self.note(Err(rusqlite::Error::InvalidParameterCount(found, expected)));
        }
        for (index, value) in params.iter().enumerate() {
            self.note(statement.raw_bind_parameter(index + 1, value))?;
        }
        Ok(statement)
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
    pub(super) fn change(&self, sql: &str, params: &[Value]) -> Result<usize, StoreError> {
        let mut statement = self.bound(sql, params)?;
        self.note(statement.raw_execute())
    }
}

impl<'c> Deref for Writing<'c> {
    type Target = Reading<'c>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
