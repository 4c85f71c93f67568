//! Columns back into types. A value that does not parse is an error of the row, not a panic.

use std::error::Error;
use std::str::FromStr;

use mytunnel_keys::id::{PublicKey, Serial};
use rusqlite::Row;
use rusqlite::types::{FromSql, Type};

type Read<T> = rusqlite::Result<T>;

pub(super) fn parsed<T>(row: &Row<'_>, index: usize) -> Read<T>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: String = row.get(index)?;
    text.parse().map_err(|error| bad(index, Type::Text, error))
}

pub(super) fn maybe_parsed<T>(row: &Row<'_>, index: usize) -> Read<Option<T>>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: Option<String> = row.get(index)?;
    text.map(|text| text.parse().map_err(|error| bad(index, Type::Text, error))).transpose()
}

/// Words with a blank between them.
pub(super) fn words<T>(row: &Row<'_>, index: usize) -> Read<Vec<T>>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: String = row.get(index)?;
    text.split_ascii_whitespace()
        .map(|word| word.parse().map_err(|error| bad(index, Type::Text, error)))
        .collect()
}

pub(super) fn serial(row: &Row<'_>, index: usize) -> Read<Serial> {
    row.get(index).map(Serial::from_bytes)
}

pub(super) fn maybe_serial(row: &Row<'_>, index: usize) -> Read<Option<Serial>> {
    Ok(row.get::<_, Option<[u8; 16]>>(index)?.map(Serial::from_bytes))
}

pub(super) fn public_key(row: &Row<'_>, index: usize) -> Read<PublicKey> {
    PublicKey::from_bytes(row.get(index)?).map_err(|error| bad(index, Type::Blob, error))
}

/// The only column of a row.
pub(super) fn only<T: FromSql>(row: &Row<'_>) -> Read<T> {
    row.get(0)
}

fn bad(index: usize, kind: Type, error: impl Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, kind, Box::new(error))
}
