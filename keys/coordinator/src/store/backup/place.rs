//! A backup put into its place, whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{Archive, copy};
use crate::backup::BackupError;
use crate::config::StoreConfig;
use crate::data_dir::Neighbour;
use crate::error::OpenError;
use crate::issuer::TrustedEra;
use crate::store::sql::{Session, Writing, params};
use crate::store::{StoreError, connect, postgres};

/// Steps of an authenticator, in seconds (RFC 6238).
const STEP: u64 = 30;

/// Puts a backup into an empty place and begins an era there; `revoke` ends the keys that were issued before. Blocks.
pub(crate) fn place(
    store: &StoreConfig,
    archive: &Archive,
    era: &TrustedEra,
    revoke: bool,
    replace: bool,
    now: u64,
) -> Result<(), BackupError> {
    let fill = |to: &Writing<'_>| {
        let from = archive.reading();
        copy::all(&from, to, &from)?;
        begin(to, archive, era, revoke, now).map_err(BackupError::Write)
    };
    match store {
        StoreConfig::Sqlite(path) => file(path, replace, now, fill),
        StoreConfig::Postgres { url, .. } => postgres::fill(url, replace, now, fill),
        StoreConfig::Memory => Err(BackupError::Memory),
    }
}

/// What a restore changes.
fn begin(
    to: &Writing<'_>,
    archive: &Archive,
    era: &TrustedEra,
    revoke: bool,
    now: u64,
) -> Result<(), StoreError> {
    // A step of an authenticator counts once, and what was used since the backup is not known.
    to.change("UPDATE accounts SET totp_step = $1 WHERE totp_step < $1", params![now / STEP + 1])?;
    if revoke {
        to.revoke_all_before(now)?;
    }
    let contents = archive.contents();
    let keys = if revoke { "revoked" } else { "kept" };
    let detail = format!(
        "restored from the backup of {} with {} rows of the log, keys {keys}",
        contents.made_at, contents.audit_entries
    );
    to.begin_era(era, detail, now)
}

fn file(
    path: &Path,
    replace: bool,
    now: u64,
    fill: impl FnOnce(&Writing<'_>) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    if connect::exists(path) && !replace {
        return Err(BackupError::NotEmpty(path.display().to_string()));
    }
    let new = Neighbour::of(path)?;
    let filled = || {
        let connection = connect::fresh(new.path(), now)?;
        let to = Writing::of(Session::Sqlite(&connection));
        to.control("BEGIN IMMEDIATE").map_err(BackupError::Write)?;
        fill(&to)?;
        to.control("COMMIT").map_err(BackupError::Write)
    };
    filled().map_err(|error| error.within(path))?;
    let failed = |source| OpenError::io("write", path, source);
    File::open(new.path()).and_then(|file| file.sync_all()).map_err(failed)?;
    put_aside(path, now)?;
    new.become_file(path)?;
    Ok(())
}

/// Moves a database away, together with the log of what it has not taken in yet.
fn put_aside(path: &Path, now: u64) -> Result<(), OpenError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let there = with_suffix(path, suffix);
        let aside = with_suffix(&with_suffix(path, &format!(".replaced-{now}")), suffix);
        if there.exists() {
            fs::rename(&there, &aside).map_err(|source| OpenError::io("move", &there, source))?;
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
