//! A backup put into its place, whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Archive, copy};
use crate::backup::{BackupError, Restore, RestoredKeys};
use crate::config::StoreConfig;
use crate::data_dir::{self, Neighbour};
use crate::error::OpenError;
use crate::issuer::TrustedEra;
use crate::store::sql::{Session, Writing, params};
use crate::store::{StoreError, connect, postgres};

/// Steps of an authenticator, in seconds (RFC 6238).
const STEP: u64 = 30;

/// Puts a backup into an empty place and begins an era there. Blocks.
pub(crate) fn place(
    store: &StoreConfig,
    archive: &Archive,
    era: &TrustedEra,
    how: Restore,
    now: u64,
) -> Result<(), BackupError> {
    let replace = how.replace;
    let fill = |to: &Writing<'_>| {
        let from = archive.reading();
        copy::all(&from, to, &from)?;
        begin(to, archive, era, how, now).map_err(BackupError::Write)
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
    how: Restore,
    now: u64,
) -> Result<(), StoreError> {
    // A step of an authenticator counts once, and what was used since the backup is not known.
    to.change("UPDATE accounts SET totp_step = $1 WHERE totp_step < $1", params![now / STEP + 1])?;
    let keys = match how.keys {
        RestoredKeys::Stand => "kept",
        RestoredKeys::Revoked => {
            to.revoke_all_before(now, how.relay)?;
            to.lock_accounts(now)?;
            "revoked"
        }
    };
    let contents = archive.contents();
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
    // From here on a failure may come too late.
    put_aside(path, now)?;
    new.become_file(path).map_err(BackupError::Unfinished)
}

/// What SQLite keeps beside a database: commits that it has not taken in yet, and an index of them.
const LOGS: [&str; 2] = ["-wal", "-journal"];
const INDEX: &str = "-shm";

/// Gives a database another name, with what belongs to it. It stays in its place until the new one takes it, but what
/// stands beside it goes: the new one would take it for its own.
fn put_aside(path: &Path, now: u64) -> Result<(), BackupError> {
    if !path.exists() {
        return Ok(());
    }
    // As a rule nothing is left beside it then. A damaged one is put aside as it is.
    if let Err(error) = connect::settle(path) {
        tracing::warn!(%error, "the log of the database that gives way stays a file of its own");
    }
    let aside = with_suffix(path, &format!(".replaced-{now}"));
    let mut made = Vec::new();
    let mut keep = |suffix: &str| -> io::Result<()> {
        let there = with_suffix(path, suffix);
        if there.exists() {
            let name = with_suffix(&aside, suffix);
            fs::hard_link(there, &name)?;
            made.push(name);
        }
        Ok(())
    };
    let kept = LOGS.iter().try_for_each(|suffix| keep(suffix)).and_then(|()| keep(""));
    if let Err(source) = kept.and_then(|()| data_dir::sync_folder(path)) {
        for name in made {
            if let Err(error) = fs::remove_file(&name) {
                tracing::warn!(%error, path = %name.display(), "a file stays behind");
            }
        }
        return Err(OpenError::io("put aside", path, source).into());
    }
    for there in [INDEX, LOGS[0], LOGS[1]].map(|suffix| with_suffix(path, suffix)) {
        if there.exists() {
            fs::remove_file(&there)
                .map_err(|source| BackupError::Unfinished(OpenError::io("remove", &there, source)))?;
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
