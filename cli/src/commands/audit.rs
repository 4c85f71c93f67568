//! `mytunnel audit`: what was done, by whom; `--verify` has the whole chain of hashes followed.

mod witness;

use std::path::{Path, PathBuf};

use mytunnel_keys::api::{AuditEntry, AuditLog, AuditWitness};
use mytunnel_keys::error::Code;
use serde::{Deserialize, Serialize};

use crate::commands::keys;
use crate::commands::projects::{self, ServerArgs};
use crate::context::{Context, now};
use crate::failure::Failure;
use crate::report::columns;
use crate::session::Session;
use crate::span;

/// Entries of one answer of the server, at most.
const PAGE: u64 = 1000;

/// Show the audit log, newest last
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Have the hash chain of the whole log checked, too
    #[arg(long)]
    verify: bool,

    /// Compare with what a relay was told: the file audit-witness in its data directory
    #[arg(long, value_name = "FILE", requires = "verify")]
    witness: Option<PathBuf>,

    /// Only what concerns this key (its id or serial)
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// Only what concerns this project (its id or name)
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,

    /// Only the last TIME, e.g. 1h
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    since: Option<u64>,

    /// So many entries, the newest
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit)]
    limit: u64,

    #[command(flatten)]
    server: ServerArgs,
}

fn limit(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "a number of entries, 1 or more".to_owned())
}

/// The server's word on the chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Verdict {
    ok: bool,
    entries: u64,
    head: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    broken_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    log: &'a AuditLog,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<&'a Verdict>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.server.server.as_deref())?;
    let log = read(args, &session)?;
    let verdict = if args.verify { Some(verify(&session, args.witness.as_deref())?) } else { None };
    context.report.object(&Answer { log: &log, verified: verdict.as_ref() });
    if log.entries.is_empty() {
        context.report.note("No entries.");
    } else {
        for line in lines(&log.entries) {
            context.report.line(line);
        }
    }
    if let Some(verdict) = verdict {
        context.report.note(format_args!(
            "The chain of all {} entries is whole; its head is {}.",
            verdict.entries, verdict.head
        ));
        if args.witness.is_some() {
            context.report.note("It is the log that the relay was told of.");
        }
    }
    Ok(())
}

/// The newest entries, page by page, put into their order of time.
fn read(args: &Args, session: &Session) -> Result<AuditLog, Failure> {
    let filter = filter(args, session)?;
    let mut log = AuditLog { entries: Vec::new(), head: String::new() };
    while (log.entries.len() as u64) < args.limit {
        let wanted = (args.limit - log.entries.len() as u64).min(PAGE);
        let before = log.entries.last().map(|entry| format!("&before={}", entry.seq)).unwrap_or_default();
        let page: AuditLog = session.get(&format!("/audit?limit={wanted}{before}{filter}"))?;
        if log.head.is_empty() {
            log.head = page.head;
        }
        let last = (page.entries.len() as u64) < wanted;
        log.entries.extend(page.entries);
        if last {
            break;
        }
    }
    log.entries.reverse();
    Ok(log)
}

fn filter(args: &Args, session: &Session) -> Result<String, Failure> {
    let mut filter = String::new();
    if let Some(key) = &args.key {
        filter.push_str(&format!("&key={}", keys::nonce(key)?));
    }
    if let Some(project) = &args.project {
        filter.push_str(&format!("&project={}", projects::find(session, project)?.id));
    }
    if let Some(since) = args.since {
        filter.push_str(&format!("&since={}", now().saturating_sub(since)));
    }
    Ok(filter)
}

fn verify(session: &Session, witness: Option<&Path>) -> Result<Verdict, Failure> {
    let seen = witness.map(witness::read).transpose()?.unwrap_or_default();
    let mut verdict: Verdict = session.get("/audit/verify")?;
    for some in seen.chunks(witness::AT_ONCE) {
        if !verdict.ok {
            break;
        }
        let heads = some.iter().map(|seen| seen.head.clone()).collect();
        verdict = session.post("/audit/verify", &AuditWitness { heads })?;
    }
    if verdict.ok {
        return Ok(verdict);
    }
    if let Some(at) = verdict.broken_at {
        return Err(Failure::new(
            Code::Internal,
            format!("the audit log was changed: its chain is broken at entry {at}"),
        )
        .with_help(
            "Compare with a copy of the database from before. Relays keep what they were told of the log: \
             --witness FILE compares with that.",
        ));
    }
    Err(Failure::new(Code::Internal, format!("the audit log is not the one that the relay was told of: {}", witness::span_of(&seen, &verdict.missing)))
        .with_help(
            "Its chain fits, so it was written anew from some entry on, or the database was restored from a backup. \
             Compare with a copy of the database from before.",
        ))
}

fn lines(entries: &[AuditEntry]) -> Vec<String> {
    let heading = ["NO", "TIME", "WHO", "DID", "TO", "PROJECT"].map(str::to_owned).to_vec();
    let row = |entry: &AuditEntry| {
        vec![
            entry.seq.to_string(),
            span::utc(entry.at),
            entry.actor.clone(),
            entry.act.clone(),
            entry.subject.clone(),
            entry.project.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        ]
    };
    columns(&std::iter::once(heading).chain(entries.iter().map(row)).collect::<Vec<_>>())
}
