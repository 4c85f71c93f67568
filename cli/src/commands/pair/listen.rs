//! `pair listen`: what the others have said.

use mytunnel_keys::error::Code;
use mytunnel_pairing::api::Request;
use serde_json::Value;

use super::start::text;
use super::{SessionArgs, client};
use crate::context::Context;
use crate::failure::Failure;
use crate::report::Style;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read behind this number, and leave the place where you read unchanged
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,

    /// Seconds to wait for something, 25 at most
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=25))]
    wait: u64,

    /// Go on until the session is closed
    #[arg(long)]
    follow: bool,

    /// Whose place it is, where several read on this machine
    #[arg(long, value_name = "NAME", default_value = READER)]
    reader: String,

    /// What was said here, too
    #[arg(long)]
    own: bool,

    #[command(flatten)]
    session: SessionArgs,
}

/// Who reads at a terminal, or by a script.
pub(super) const READER: &str = "terminal";

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let (mut since, mut session) = (args.since, args.session.session.clone());
    loop {
        let request = Request::Listen {
            session: session.clone(),
            reader: args.reader.clone(),
            since,
            wait_ms: args.wait.max(u64::from(args.follow)) * 1000,
            own: args.own,
        };
        let answer = client::ask(&request, context)?;
        let reason = text(&answer, "reason");
        session = answer["session"].as_str().map(str::to_owned);
        let is_shown = !args.follow || reason == "message" || reason == "closed";
        let was_taken = is_shown && context.report.hand_object(&answer) & print(&answer, context);
        if since.is_none() && was_taken {
            has_read(&answer, &args.reader, context);
        }
        if reason == "closed" {
            let message = format!("the session is over: {}", text(&answer, "closed"));
            return if args.follow { Ok(()) } else { closed(message, context) };
        }
        if !args.follow {
            return Ok(());
        }
        if since.is_some() {
            since = answer["next"].as_u64();
        }
    }
}

/// Tells the daemon that what it answered has arrived. If that is lost, it is shown once more.
fn has_read(answer: &Value, reader: &str, context: &Context) {
    let request = Request::Read {
        session: answer["session"].as_str().map(str::to_owned),
        reader: reader.to_owned(),
        number: answer["next"].as_u64().unwrap_or_default(),
        end: text(answer, "reason") == "closed",
    };
    if let Err(failure) = client::ask(&request, context) {
        tracing::debug!(message = failure.message(), "not marked as read");
    }
}

/// For scripts the answer has said it; people are told as of every failure.
fn closed(message: String, context: &Context) -> Result<(), Failure> {
    if context.report.is_json() { Ok(()) } else { Err(Failure::new(Code::PairClosed, message)) }
}

/// Peers' words, marked off from this program's own; whether all of that was taken.
pub(crate) fn print(answer: &Value, context: &Context) -> bool {
    let mut taken = true;
    if let Some(missed) = answer["missed"].as_u64().filter(|missed| *missed > 0) {
        context
            .report
            .note(format_args!("{missed} entries were missed: the host says that it kept them no longer."));
    }
    if let Some(lost) = answer["lost"].as_u64().filter(|lost| *lost > 0) {
        context.report.note(format_args!(
            "{lost} of the things said here were heard by nobody: the session ended first. Say them in another one."
        ));
    }
    for message in answer["messages"].as_array().into_iter().flatten() {
        let from = &message["from"];
        let mark = if from["verified"] == true { "" } else { ", not verified" };
        let kind = text(message, "kind");
        let head = format!("[{}] {} ({kind}{mark})", message["seq"], text(from, "name"));
        taken &= context.report.hand_line(context.report.styled(Style::Faint, head));
        for line in text(message, "text").lines() {
            taken &= context.report.hand_line(format_args!("  {line}"));
        }
        let file = &message["data"]["file"];
        if !file.is_null() {
            let (name, size, number) = (text(file, "name"), &file["size"], &message["seq"]);
            taken &= context
                .report
                .hand_line(format_args!("  {name}, {size} bytes: `mytunnel pair receive {number}`"));
        } else if let Some(data) = message.get("data") {
            taken &= context.report.hand_line(format_args!("  {data}"));
        }
    }
    taken
}
