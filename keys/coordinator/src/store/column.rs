//! Columns back into types. A value that does not parse is an error of the row, not a panic.

use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;

use mytunnel_keys::id::{PublicKey, Serial};

use super::StoreError;
use super::sql::{FromCell, Row};

type Read<T> = Result<T, StoreError>;

pub(super) fn parsed<T>(row: &Row<'_>, index: usize) -> Read<T>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: String = row.get(index)?;
    text.parse().map_err(|error| bad(index, error))
}

pub(super) fn maybe_parsed<T>(row: &Row<'_>, index: usize) -> Read<Option<T>>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: Option<String> = row.get(index)?;
    text.map(|text| text.parse().map_err(|error| bad(index, error))).transpose()
}

/// Words with a blank between them.
pub(super) fn words<T>(row: &Row<'_>, index: usize) -> Read<Vec<T>>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: String = row.get(index)?;
    text.split_ascii_whitespace().map(|word| word.parse().map_err(|error| bad(index, error))).collect()
}

pub(super) fn serial(row: &Row<'_>, index: usize) -> Read<Serial> {
    row.get(index).map(Serial::from_bytes)
}

pub(super) fn maybe_serial(row: &Row<'_>, index: usize) -> Read<Option<Serial>> {
    Ok(row.get::<Option<[u8; 16]>>(index)?.map(Serial::from_bytes))
}

pub(super) fn public_key(row: &Row<'_>, index: usize) -> Read<PublicKey> {
    PublicKey::from_bytes(row.get(index)?).map_err(|error| bad(index, error))
}

/// The only column of a row.
pub(super) fn only<T: FromCell>(row: &Row<'_>) -> Read<T> {
    row.get(0)
}

fn bad(index: usize, error: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError::Column { index, source: Some(Arc::new(error)) }
}
