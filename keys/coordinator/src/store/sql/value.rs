//! Values on their way into the database and out of it: whole numbers, texts and bytes, whatever the engine.

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use rusqlite::types::{ToSqlOutput, ValueRef};
use tokio_postgres::types::{FromSql, IsNull, Type, to_sql_checked};

use crate::store::StoreError;

/// What a parameter is, also where it is null: PostgreSQL wants to know beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Int,
    Text,
    Blob,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null(Kind),
    /// Also a truth: 0 or 1.
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null(_) => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl Value {
    pub(in crate::store) const fn kind(&self) -> Kind {
        match self {
            Self::Null(kind) => *kind,
            Self::Int(_) => Kind::Int,
            Self::Text(_) => Kind::Text,
            Self::Blob(_) => Kind::Blob,
        }
    }
}

impl From<Kind> for Type {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Int => Self::INT8,
            Kind::Text => Self::TEXT,
            Kind::Blob => Self::BYTEA,
        }
    }
}

impl tokio_postgres::types::ToSql for Value {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null(_) => return Ok(IsNull::Yes),
            Self::Int(number) => out.put_i64(*number),
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Blob(bytes) => out.put_slice(bytes),
        }
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::TEXT | Type::BYTEA)
    }

    to_sql_checked!();
}

/// What can be a parameter.
pub(crate) trait ToValue {
    const KIND: Kind;

    fn to_value(&self) -> Value;
}

impl<T: ToValue + ?Sized> ToValue for &T {
    const KIND: Kind = T::KIND;

    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    const KIND: Kind = T::KIND;

    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null(T::KIND), T::to_value)
    }
}

impl ToValue for str {
    const KIND: Kind = Kind::Text;

    fn to_value(&self) -> Value {
        Value::Text(self.to_owned())
    }
}

impl ToValue for String {
    const KIND: Kind = Kind::Text;

    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl ToValue for [u8] {
    const KIND: Kind = Kind::Blob;

    fn to_value(&self) -> Value {
        Value::Blob(self.to_vec())
    }
}

impl ToValue for Vec<u8> {
    const KIND: Kind = Kind::Blob;

    fn to_value(&self) -> Value {
        Value::Blob(self.clone())
    }
}

impl<const N: usize> ToValue for [u8; N] {
    const KIND: Kind = Kind::Blob;

    fn to_value(&self) -> Value {
        Value::Blob(self.to_vec())
    }
}

impl ToValue for bool {
    const KIND: Kind = Kind::Int;

    fn to_value(&self) -> Value {
        Value::Int(i64::from(*self))
    }
}

impl ToValue for i64 {
    const KIND: Kind = Kind::Int;

    fn to_value(&self) -> Value {
        Value::Int(*self)
    }
}

impl ToValue for u64 {
    const KIND: Kind = Kind::Int;

    /// Engines count to 2^63: a time or number beyond that is compared as the largest that there is.
    fn to_value(&self) -> Value {
        Value::Int(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl ToValue for u32 {
    const KIND: Kind = Kind::Int;

    fn to_value(&self) -> Value {
        Value::Int(i64::from(*self))
    }
}

impl ToValue for u16 {
    const KIND: Kind = Kind::Int;

    fn to_value(&self) -> Value {
        Value::Int(i64::from(*self))
    }
}

/// A row that was found.
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r tokio_postgres::Row),
}

impl Row<'_> {
    /// The column at that place, from 0.
    pub(crate) fn get<T: FromCell>(&self, index: usize) -> Result<T, StoreError> {
        self.cell(index)?.and_then(T::from_cell).ok_or(StoreError::Column { index, source: None })
    }

    /// The column at that place as a parameter, whatever it holds.
    pub(in crate::store) fn value(&self, index: usize, kind: Kind) -> Result<Value, StoreError> {
        Ok(match self.cell(index)?.ok_or(StoreError::Column { index, source: None })? {
            Cell::Null => Value::Null(kind),
            Cell::Int(number) => Value::Int(number),
            Cell::Text(text) => Value::Text(text.to_owned()),
            Cell::Blob(bytes) => Value::Blob(bytes.to_vec()),
        })
    }

    fn cell(&self, index: usize) -> Result<Option<Cell<'_>>, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => match row.get_ref(index)? {
                ValueRef::Null => Some(Cell::Null),
                ValueRef::Integer(number) => Some(Cell::Int(number)),
                ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok().map(Cell::Text),
                ValueRef::Blob(bytes) => Some(Cell::Blob(bytes)),
                ValueRef::Real(_) => None,
            },
            Self::Postgres(row) => row.try_get(index).ok(),
        })
    }
}

/// A column of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell<'r> {
    Null,
    Int(i64),
    Text(&'r str),
    Blob(&'r [u8]),
}

impl<'r> FromSql<'r> for Cell<'r> {
    fn from_sql(kind: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *kind {
            Type::BOOL => Self::Int(i64::from(bool::from_sql(kind, raw)?)),
            Type::INT2 => Self::Int(i16::from_sql(kind, raw)?.into()),
            Type::INT4 => Self::Int(i32::from_sql(kind, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(kind, raw)?),
            Type::BYTEA => Self::Blob(raw),
            _ => Self::Text(std::str::from_utf8(raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(
            *kind,
            Type::BOOL
                | Type::INT2
                | Type::INT4
                | Type::INT8
                | Type::BYTEA
                | Type::TEXT
                | Type::VARCHAR
                | Type::NAME
        )
    }
}

/// What a column can be read as; none if it holds something else.
pub(crate) trait FromCell: Sized {
    fn from_cell(cell: Cell<'_>) -> Option<Self>;
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if cell == Cell::Null { Some(None) } else { T::from_cell(cell).map(Some) }
    }
}

impl FromCell for i64 {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Int(number) = cell { Some(number) } else { None }
    }
}

impl FromCell for u64 {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        i64::from_cell(cell)?.try_into().ok()
    }
}

impl FromCell for u32 {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        i64::from_cell(cell)?.try_into().ok()
    }
}

impl FromCell for u16 {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        i64::from_cell(cell)?.try_into().ok()
    }
}

impl FromCell for bool {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Int(0) => Some(false),
            Cell::Int(1) => Some(true),
            Cell::Int(_) | Cell::Null | Cell::Text(_) | Cell::Blob(_) => None,
        }
    }
}

impl FromCell for String {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Text(text) = cell { Some(text.to_owned()) } else { None }
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Blob(bytes) = cell { Some(bytes.to_vec()) } else { None }
    }
}

impl<const N: usize> FromCell for [u8; N] {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Blob(bytes) = cell { bytes.try_into().ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_range() {
        assert_eq!(u64::MAX.to_value(), Value::Int(i64::MAX));
        assert_eq!(u16::from_cell(Cell::Int(65_536)), None);
        assert_eq!(u64::from_cell(Cell::Int(-1)), None);
        assert_eq!(bool::from_cell(Cell::Int(2)), None);
    }

    #[test]
    fn nothing_is_only_an_option() {
        assert_eq!(None::<&str>.to_value(), Value::Null(Kind::Text));
        assert_eq!(String::from_cell(Cell::Null), None);
        assert_eq!(Option::<String>::from_cell(Cell::Null), Some(None));
        assert_eq!(Option::<u64>::from_cell(Cell::Text("1")), None);
    }

    #[test]
    fn bytes_have_their_length() {
        assert_eq!(<[u8; 2]>::from_cell(Cell::Blob(&[1, 2])), Some([1, 2]));
        assert_eq!(<[u8; 2]>::from_cell(Cell::Blob(&[1, 2, 3])), None);
        assert_eq!([1_u8, 2].to_value(), Value::Blob(vec![1, 2]));
    }
}
