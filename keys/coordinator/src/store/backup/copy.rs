//! Rows from one database to another, whatever the engines, a page at a time.
//!
//! One side is always a SQLite file, whose schema says which columns there are.

use sha2::{Digest as _, Sha256};

use crate::backup::BackupError;
use crate::store::StoreError;
use crate::store::sql::{Kind, Reading, Value, Writing, params};

/// Tables that last, each behind those that it refers to.
pub(in crate::store) const KEPT: &[&str] = &[
    "meta",
    "head",
    "tenants",
    "accounts",
    "projects",
    "keys",
    "makers",
    "identities",
    "names",
    "kept_names",
    "tunnels",
    "relays",
    "audit",
    "basic_gates",
    "oidc_gates",
    "tunnel_gates",
    "domains",
    "budgets",
    "account_budgets",
    "account_spend",
    "prices",
    // Relays tell totals that only grow: what was used since the backup is in the difference.
    "meters",
    "served",
    "totals",
    "spend",
    "leases",
    "usage",
];

/// Tables that do not come back. What is good once, or until it is taken back, would be good again; the rest belongs to
/// the era of the feed that ends, or to a process.
pub(in crate::store) const NOT_KEPT: &[&str] = &[
    "sessions",
    "access_tokens",
    "refresh_tokens",
    "challenges",
    "recovery_codes",
    "sign_ins",
    "sign_in_codes",
    "invitations",
    "join_tokens",
    "tickets",
    "feed",
    "closings",
    "followers",
    "live",
    "proofs",
];

/// Rows that are read at a time: little enough for a server that waits for no client long.
const PAGE: usize = 500;
/// Rows in one statement.
const BATCH: usize = 50;

/// A table, in the words of its SQLite schema.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    name: String,
    columns: Vec<Column>,
    /// Places of the columns of the primary key, in its order.
    key: Vec<usize>,
    /// The column that refers to another row of the same table.
    parent: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Column {
    name: String,
    kind: Kind,
}

/// Copies every row that lasts; `schema` is whichever of the two is a SQLite file.
pub(super) fn all(from: &Reading<'_>, to: &Writing<'_>, schema: &Reading<'_>) -> Result<u64, BackupError> {
    // It has a head of its own.
    to.change("DELETE FROM head", params![]).map_err(BackupError::Write)?;
    let mut rows = 0;
    for name in KEPT {
        rows += Table::of(schema, name).map_err(BackupError::Read)?.copy(from, to)?;
    }
    Ok(rows)
}

/// Every table of a SQLite file but the one with its digest.
pub(super) fn tables(sqlite: &Reading<'_>) -> Result<Vec<Table>, StoreError> {
    let names: Vec<String> = sqlite.all(
        "SELECT name FROM sqlite_schema
         WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'backup' ORDER BY name",
        params![],
        |row| row.get(0),
    )?;
    names.iter().map(|name| Table::of(sqlite, name)).collect()
}

/// Are the tables that last in a SQLite file those of this version?
pub(super) fn same_tables(sqlite: &Reading<'_>, ours: &Reading<'_>) -> Result<bool, StoreError> {
    for name in KEPT {
        if Table::of(sqlite, name)? != Table::of(ours, name)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A name that goes into the text of a statement.
fn plain(name: &str) -> Result<(), StoreError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let plain = !name.is_empty() && name.bytes().all(fits);
    if plain { Ok(()) } else { Err(StoreError::Malformed("name of a table or column")) }
}

impl Table {
    fn of(sqlite: &Reading<'_>, name: &str) -> Result<Self, StoreError> {
        plain(name)?;
        let columns: Vec<(Column, u32)> =
            sqlite.all("SELECT name, type, pk FROM pragma_table_info($1)", params![name], |row| {
                let kind = match row.get::<String>(1)?.as_str() {
                    "INTEGER" => Kind::Int,
                    "TEXT" => Kind::Text,
                    _ => Kind::Blob,
                };
                Ok((Column { name: row.get(0)?, kind }, row.get(2)?))
            })?;
        columns.iter().try_for_each(|(column, _)| plain(&column.name))?;
        let mut key: Vec<(u32, usize)> = columns
            .iter()
            .enumerate()
            .filter_map(|(place, (_, order))| (*order > 0).then_some((*order, place)))
            .collect();
        key.sort_unstable();
        // Pages are told apart by it.
        if key.is_empty() {
            return Err(StoreError::Malformed("table, which has no key,"));
        }
        let parent: Option<String> = sqlite.first(
            "SELECT [from] FROM pragma_foreign_key_list($1) WHERE [table] = $2",
            params![name, name],
            |row| row.get(0),
        )?;
        parent.iter().try_for_each(|name| plain(name))?;
        Ok(Self {
            name: name.to_owned(),
            columns: columns.into_iter().map(|(column, _)| column).collect(),
            key: key.into_iter().map(|(_, place)| place).collect(),
            parent,
        })
    }

    fn copy(&self, from: &Reading<'_>, to: &Writing<'_>) -> Result<u64, BackupError> {
        let passes = match &self.parent {
            // A parent has none: they come first.
            Some(parent) => vec![format!("{parent} IS NULL"), format!("{parent} IS NOT NULL")],
            None => vec!["1 = 1".to_owned()],
        };
        let mut rows = 0;
        for pass in passes {
            let mut pages = Pages::of(self, &pass);
            while let Some(page) = pages.next(from).map_err(BackupError::Read)? {
                rows += page.len() as u64;
                for batch in page.chunks(BATCH) {
                    self.insert(to, batch).map_err(BackupError::Write)?;
                }
            }
        }
        Ok(rows)
    }

    fn insert(&self, to: &Writing<'_>, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        let width = self.columns.len();
        let each = (0..rows.len()).map(|row| format!("({})", places(row * width, width)));
        let each = each.collect::<Vec<_>>().join(", ");
        let text = format!("INSERT INTO {} ({}) VALUES {each}", self.name, self.listed());
        to.change(&text, &rows.concat()).map(drop)
    }

    /// Takes every row into a digest, in the order of the primary key.
    pub(super) fn digest(&self, of: &Reading<'_>, digest: &mut Sha256) -> Result<(), StoreError> {
        for part in [self.name.as_str(), &self.listed()] {
            take(digest, b'n', part.as_bytes());
        }
        let mut pages = Pages::of(self, "1 = 1");
        while let Some(page) = pages.next(of)? {
            for value in page.iter().flatten() {
                match value {
                    Value::Null(_) => take(digest, b'0', &[]),
                    Value::Int(number) => take(digest, b'i', &number.to_be_bytes()),
                    Value::Text(text) => take(digest, b't', text.as_bytes()),
                    Value::Blob(bytes) => take(digest, b'b', bytes),
                }
            }
        }
        Ok(())
    }

    fn listed(&self) -> String {
        self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

fn take(digest: &mut Sha256, kind: u8, bytes: &[u8]) {
    digest.update([kind]);
    digest.update((bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}

/// The rows of a table in the order of its primary key, each page from behind the one before.
struct Pages<'t> {
    table: &'t Table,
    only: &'t str,
    /// The key of the last row; none before the first page.
    last: Option<Vec<Value>>,
    done: bool,
}

impl<'t> Pages<'t> {
    fn of(table: &'t Table, only: &'t str) -> Self {
        Self { table, only, last: None, done: false }
    }

    fn next(&mut self, from: &Reading<'_>) -> Result<Option<Vec<Vec<Value>>>, StoreError> {
        if self.done {
            return Ok(None);
        }
        let Table { name, columns, key, .. } = self.table;
        let keys = key.iter().map(|place| columns[*place].name.as_str()).collect::<Vec<_>>().join(", ");
        let behind = match &self.last {
            Some(last) => format!("AND ({keys}) > ({})", places(0, last.len())),
            None => String::new(),
        };
        let text = format!(
            "SELECT {} FROM {name} WHERE {} {behind} ORDER BY {keys} LIMIT {PAGE}",
            self.table.listed(),
            self.only
        );
        let page: Vec<Vec<Value>> = from.all(&text, self.last.as_deref().unwrap_or_default(), |row| {
            columns.iter().enumerate().map(|(place, column)| row.value(place, column.kind)).collect()
        })?;
        self.done = page.len() < PAGE;
        let Some(row) = page.last() else { return Ok(None) };
        self.last = Some(key.iter().map(|place| row[*place].clone()).collect());
        Ok(Some(page))
    }
}

/// So many parameters behind the first ones.
fn places(before: usize, count: usize) -> String {
    let mut text = String::new();
    for number in before + 1..=before + count {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push('$');
        text.push_str(&number.to_string());
    }
    text
}
