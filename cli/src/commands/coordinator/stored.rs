//! Where a coordinator keeps what it knows, as its flags say it.

use std::fmt;
use std::path::PathBuf;

use mytunnel_coordinator::{PostgresUrl, StoreConfig, UrlError};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::failure::Failure;
use crate::secrets;

/// The flags that name a store.
#[derive(Debug, clap::Args)]
pub(super) struct Stored {
    /// Where accounts and keys are kept: sqlite:PATH or postgres://USER@HOST/DATABASE
    #[arg(long, value_name = "URL", env = "MYTUNNEL_DATABASE", hide_env_values = true, required = true)]
    database: Option<DatabaseText>,

    /// File with the password for the PostgreSQL server [default: PGPASSWORD]
    #[arg(long, value_name = "FILE")]
    database_password_file: Option<PathBuf>,

    /// Folder of the coordinator's own keys, with PostgreSQL; with SQLite they lie beside the database
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What `--database` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Database {
    Sqlite(PathBuf),
    Postgres(PostgresUrl),
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// What was typed for it. It may hold a password, which no message repeats.
#[derive(Clone)]
pub(super) struct DatabaseText(Zeroizing<String>);

impl From<String> for DatabaseText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for DatabaseText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseText(…)")
    }
}

fn parse_database(text: &str) -> Result<Database, String> {
    match text.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => {
            // `sqlite:///path` is how some tools write it.
            Ok(Database::Sqlite(PathBuf::from(path.strip_prefix("//").unwrap_or(path))))
        }
        Some(("postgres" | "postgresql", _)) => {
            text.parse().map(Database::Postgres).map_err(|error: UrlError| error.to_string())
        }
        Some(_) | None => Err("write sqlite:PATH, such as sqlite:/var/lib/mytunnel/coordinator.db, \
                               or postgres://USER@HOST/DATABASE"
            .to_owned()),
    }
}

impl Stored {
    /// What is named.
    pub(super) fn database(&self) -> Result<Database, Failure> {
        let text = self.database.as_ref().ok_or_else(|| {
            Failure::usage(
                "--database is missing",
                "Say where accounts and keys are kept: --database sqlite:PATH",
            )
        })?;
        parse_database(&text.0).map_err(|problem| {
            Failure::usage("--database (or MYTUNNEL_DATABASE) is not understood", &problem)
        })
    }

    /// The store behind it.
    pub(super) fn store(&self, database: &Database, context: &Context) -> Result<StoreConfig, Failure> {
        match database {
            Database::Sqlite(path) if self.data.is_none() && self.database_password_file.is_none() => {
                Ok(StoreConfig::Sqlite(path.clone()))
            }
            Database::Sqlite(_) => Err(Failure::usage(
                "--data and --database-password-file belong to PostgreSQL",
                "Leave them out: with SQLite the keys lie beside the database.",
            )),
            Database::Postgres(url) => {
                let data = self.data.clone().ok_or_else(|| {
                    Failure::usage(
                        "--data is missing",
                        "Name the folder in which this coordinator keeps its keys: --data /var/lib/mytunnel",
                    )
                })?;
                let url = url.clone();
                let password = match &self.database_password_file {
                    Some(file) => Some(secrets::from_file(file)?),
                    None => context.env.postgres_password.clone(),
                };
                if url.has_password() {
                    context.report.warn(format_args!(
                    "others on this machine can read a password in --database; use --database-password-file or MYTUNNEL_DATABASE"
                ));
                    return Ok(StoreConfig::Postgres { url, data });
                }
                let url = password.map_or(url.clone(), |password| url.with_password(&password));
                Ok(StoreConfig::Postgres { url, data })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_sqlite_file_or_on_a_postgresql_server() {
        let file = |path: &str| Ok(Database::Sqlite(path.into()));
        assert_eq!(parse_database("sqlite:/a/b.db"), file("/a/b.db"));
        assert_eq!(parse_database("sqlite:///a/b.db"), file("/a/b.db"));
        assert_eq!(parse_database("sqlite:b.db"), file("b.db"));
        let server = parse_database("postgres://anna:hunter2@db.example/mytunnel").unwrap();
        assert_eq!(server.to_string(), "postgres://db.example:5432/mytunnel");
        for bad in ["/a/b.db", "sqlite:", "mysql:x"] {
            assert!(parse_database(bad).unwrap_err().contains("sqlite:PATH"), "{bad}");
        }
        for bad in ["postgres://x", "postgres:x", "postgres://h/d?sslmode=prefer"] {
            let told = parse_database(bad).unwrap_err();
            assert!(told.contains("postgres://USER") || told.contains("verify-full"), "{bad}: {told}");
        }
    }
}
