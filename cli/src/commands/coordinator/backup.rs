//! `mytunnel coordinator backup` and `restore`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use mytunnel_coordinator::{
    BackupError, BackupReport, Clock, Coordinator, Restore, Restored, RestoredAccount, RestoredKeys,
    StoreConfig,
};
use mytunnel_keys::id::PublicKey;
use serde::Serialize;
use serde_json::json;

use super::stored::Stored;
use crate::context::Context;
use crate::embedded;
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
again, and so do removed people and passwords that were changed. If you are not sure, take --revoke-keys: then you let
people in again with 'mytunnel coordinator reset-password', and relays join again with a new token.")]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    stored: Stored,

    /// End every key and password of until now: you make links to new passwords, projects get new master keys, relays join
    /// again; the relay of 'mytunnel relay', whose key lies beside the database, stays
    #[arg(long, conflicts_with = "keep_keys")]
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
    let RestoreArgs { file, stored, revoke_keys, keep_keys, replace } = args;
    let keys = match (revoke_keys, keep_keys) {
        (true, _) => RestoredKeys::Revoked,
        (false, true) => RestoredKeys::Stand,
        (false, false) => {
            return Err(Failure::usage(
                "a backup does not know what was revoked after it was made: say what becomes of keys and passwords",
                "--revoke-keys ends them all, and you let people and relays in again: take it if you are not sure. \
                 --keep-keys lets them stand as they stood then: only if nothing was revoked since.",
            ));
        }
    };
    let store = stored.store(&stored.database()?, context)?;
    let relay = own_relay(&store)?;
    let how = Restore { keys, replace: *replace, relay };
    let restored = Coordinator::restore(file, &store, how, &Clock::system())?;
    let told = Told::new(file, restored.backup);
    context.report.line(format_args!("Restored {} rows; relays take everything anew.", told.rows));
    match keys {
        RestoredKeys::Revoked => context.report.note(
            "Every key and every password ended, and so did sign-ins by a provider. Let back in whom you still trust, \
             owners first: mytunnel coordinator reset-password --email ADDRESS --data DIR. Remove whoever left since, and \
             make projects anew for new master keys.",
        ),
        RestoredKeys::Stand => context.report.warn(
            "a key that was revoked after the backup was made stands again, and one that was made after it is not \
             listed until it ends: revoke anew what must not stand; who was removed since can sign in, with the password \
             and the role of then: remove them anew",
        ),
    }
    people(&restored, context);
    context.report.note("Sessions, invitations, join tokens and recovery codes are void.");
    let accounts = restored.accounts.iter().map(|one| json!({"email": one.email, "role": role(one)}));
    context.report.object(&json!({
        "file": told.file, "made_at": told.made_at, "rows": told.rows, "audit_entries": told.audit_entries,
        "digest": told.digest, "has_root": told.has_root, "accounts": accounts.collect::<Vec<_>>(),
        "relays": restored.relays, "relays_ended": restored.relays_ended,
    }));
    Ok(())
}

/// Says who and what came back, which is more than stands today if any of it was removed since.
fn people(restored: &Restored, context: &Context) {
    context.report.note("Accounts of then:");
    for account in &restored.accounts {
        context.report.note(format_args!("  {} ({})", account.email, role(account)));
    }
    for relay in &restored.relays {
        context.report.note(format_args!("The relay {relay} stands."));
    }
    for relay in &restored.relays_ended {
        context.report.note(format_args!(
            "The relay {relay} ended: if you still trust its machine, move its data directory away and join it with a new \
             token (mytunnel keys join-token)."
        ));
    }
}

const fn role(account: &RestoredAccount) -> &'static str {
    if account.owner { "owner" } else { "member" }
}

/// The relay that `mytunnel relay` runs on this data directory, if it ever did.
fn own_relay(store: &StoreConfig) -> Result<Option<PublicKey>, Failure> {
    let Some(data) = store.data_dir().filter(|data| data.join("relay.key").exists()) else { return Ok(None) };
    Ok(Some(embedded::seed(data)?.public()))
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        if let BackupError::Open(error) = error {
            return error.into();
        }
        Self::local(chain(&error), sentence(&error.help()))
    }
}
