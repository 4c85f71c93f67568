//! `mytunnel coordinator backup` and `restore`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use mytunnel_coordinator::{BackupError, BackupReport, Clock, Coordinator, Restore, RestoredKeys};
use serde::Serialize;

use super::stored::Stored;
use crate::context::Context;
use crate::failure::{Failure, chain, sentence};

/// Write everything that lasts to one file, also while the coordinator runs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  mytunnel coordinator backup /backup/mytunnel-2026-11-26.backup --database sqlite:/var/lib/mytunnel/coordinator.db

The file moves between SQLite and PostgreSQL. It holds the coordinator's own keys: whoever has it can sign for the
coordinator, so keep it as you keep those. Sessions, invitations, join tokens and recovery codes are not in it.")]
pub(super) struct BackupArgs {
    /// The file to write, which must not be there; - for the standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    stored: Stored,
}

/// Restore a backup into an empty place, and begin a new era of the feed there
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  mytunnel coordinator restore /backup/mytunnel-2026-11-26.backup --revoke-keys \\
      --database sqlite:/var/lib/mytunnel/coordinator.db

Stop the coordinator first. A backup does not know what was revoked after it was made: with --keep-keys such keys stand
again. If you are not sure that nothing was revoked since, take --revoke-keys.")]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    stored: Stored,

    /// End every key issued until now: people sign in again, projects get new master keys; relays stay
    #[arg(long, conflicts_with = "keep_keys", required_unless_present = "keep_keys")]
    revoke_keys: bool,

    /// Let keys stand as they stood then, because nothing was revoked since
    #[arg(long)]
    keep_keys: bool,

    /// Let a database that is there give way: a file is put aside, what is on a server is gone
    #[arg(long)]
    replace: bool,
}

#[derive(Serialize)]
struct Told<'a> {
    file: &'a Path,
    made_at: u64,
    rows: u64,
    audit_entries: u64,
    digest: String,
    has_root: bool,
}

impl<'a> Told<'a> {
    fn new(file: &'a Path, report: BackupReport) -> Self {
        let BackupReport { made_at, rows, audit_entries, digest, has_root, .. } = report;
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { file, made_at, rows, audit_entries, digest, has_root }
    }
}

pub(super) fn backup(args: &BackupArgs, context: &Context) -> Result<(), Failure> {
    let BackupArgs { file, stored } = args;
    let to_stdout = file.as_os_str() == "-";
    if to_stdout && (context.report.is_json() || io::stdout().is_terminal()) {
        return Err(Failure::usage(
            "the standard output is not the place for the backup here",
            "Name a file, or pipe it into a program, without --json.",
        ));
    }
    let store = stored.store(&stored.database()?, context)?;
    let clock = Clock::system();
    let report = if to_stdout {
        Coordinator::backup_to(&store, &mut io::stdout().lock(), &clock)?
    } else {
        Coordinator::backup(&store, file, &clock)?
    };
    let told = Told::new(file, report);
    if !to_stdout {
        context.report.line(file.display());
    }
    context.report.note(format_args!(
        "{} rows, the audit log with {} of them; SHA-256 {}.",
        told.rows, told.audit_entries, told.digest
    ));
    context.report.note("It holds the coordinator's own keys: keep it where nobody else can read it.");
    if !told.has_root {
        context.report.warn("root.key is not in it, because it is not here; a restore needs it");
    }
    context.report.object(&told);
    Ok(())
}

pub(super) fn restore(args: &RestoreArgs, context: &Context) -> Result<(), Failure> {
    let RestoreArgs { file, stored, revoke_keys, keep_keys: _, replace } = args;
    let store = stored.store(&stored.database()?, context)?;
    let keys = if *revoke_keys { RestoredKeys::Revoked } else { RestoredKeys::Stand };
    let how = Restore { keys, replace: *replace };
    let told = Told::new(file, Coordinator::restore(file, &store, how, &Clock::system())?);
    context.report.line(format_args!("Restored {} rows; relays take everything anew.", told.rows));
    match keys {
        RestoredKeys::Revoked => {
            context.report.note("Every key ended: sign in again, and make projects anew for new master keys.");
        }
        RestoredKeys::Stand => context.report.warn(
            "a key that was revoked after the backup was made stands again, and one that was made after it is not \
             listed until it ends: revoke anew what must not stand",
        ),
    }
    context.report.note("Sessions, invitations, join tokens and recovery codes are void.");
    context.report.object(&told);
    Ok(())
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        if let BackupError::Open(error) = error {
            return error.into();
        }
        Self::local(chain(&error), sentence(&error.help()))
    }
}
