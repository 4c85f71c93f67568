//! The record of a session: printed, exported, and checked.

use std::path::{Path, PathBuf};

use mytunnel_keys::error::Code;
use mytunnel_pairing::api::Request;
use mytunnel_pairing::{Checked, Transcript, TranscriptError};
use serde_json::{Value, json};

use super::{SessionArgs, client, listen};
use crate::context::Context;
use crate::failure::{Failure, io_help};

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The file that `pair export` wrote
    file: PathBuf,
}

pub(crate) fn log(args: &SessionArgs, context: &Context) -> Result<(), Failure> {
    let mut since = 0;
    loop {
        let (session, reader) = (args.session.clone(), listen::READER.to_owned());
        let request = Request::Listen { session, reader, since: Some(since), wait_ms: 0, own: true };
        let answer = client::ask(&request, context)?;
        context.report.object(&answer);
        listen::print(&answer, context);
        if answer["more"] != true {
            return Ok(());
        }
        since = answer["next"].as_u64().unwrap_or(u64::MAX);
    }
}

pub(crate) fn export(args: &SessionArgs, context: &Context) -> Result<(), Failure> {
    let answer: Value = client::ask(&Request::Export { session: args.session.clone() }, context)?;
    context.report.object(&answer);
    context.report.line(&answer);
    Ok(())
}

pub(crate) fn verify(args: &VerifyArgs, context: &Context) -> Result<(), Failure> {
    let transcript = read(&args.file)?;
    match transcript.verify() {
        Ok(checked) => {
            let Checked { entries, withheld, host, reader, .. } = checked;
            context.report.object(&json!({
                "verified": true, "entries": entries, "withheld": withheld, "host": host, "reader": reader,
            }));
            context.report.line(format_args!("{entries} entries, each signed and in its place."));
            if withheld > 0 {
                context
                    .report
                    .line(format_args!("{withheld} of them were for others than this record's reader."));
            }
            context.report.line(format_args!("Host: {host}\nReader: {reader}"));
            context.report.note("A record proves as much as these keys are the host's and the reader's.");
            Ok(())
        }
        Err(error @ TranscriptError::Unreadable) => Err(no_record(&args.file, &error.to_string())),
        Err(error @ TranscriptError::Unsigned { .. }) => Err(Failure::new(Code::PairFork, error.to_string())
            .with_help(
                "Ask who exported it for the file as it was; if it is, the host has left the signature out.",
            )),
        Err(TranscriptError::Fork(fork)) => Err(Failure::new(Code::PairFork, fork.to_string())),
    }
}

fn read(file: &Path) -> Result<Transcript, Failure> {
    let content = std::fs::read(file).map_err(|error| {
        Failure::local(format!("cannot read {}: {error}", file.display()), io_help(&error))
    })?;
    serde_json::from_slice(&content).map_err(|error| no_record(file, &error.to_string()))
}

fn no_record(file: &Path, why: &str) -> Failure {
    let message = format!("{} is no record of a session: {why}", file.display());
    Failure::usage(message, "Give the file that `mytunnel pair export` wrote.")
}
