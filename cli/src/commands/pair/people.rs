//! Who is in a session, and what its person decides about them.

use std::time::Duration;

use mytunnel_keys::error::Code;
use mytunnel_pairing::{By, Said, Verdict, api::Request, daemon};
use serde_json::{Value, json};

use super::listen::READER;
use super::person::Person;
use super::start::text;
use super::{SessionArgs, client, relay};
use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::inspect::told::printable;
use crate::report::{Style, columns};
use crate::runtime::block_on;
use crate::span;

/// How long codes of this network are heard of.
const LOOKING: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Name of the member, where several wait
    peer: Option<String>,

    #[command(flatten)]
    session: SessionArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DecideArgs {
    /// Number of the proposal; for `deny` also the name of a guest
    id: String,

    /// Why, in a sentence
    #[arg(long, default_value = "")]
    reason: String,

    #[command(flatten)]
    session: SessionArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KickArgs {
    /// Name of the member
    peer: String,

    #[command(flatten)]
    session: SessionArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CloseArgs {
    /// Leave nothing of a session that was kept on this machine's disk, also of one that is over
    #[arg(long)]
    forget: bool,

    #[command(flatten)]
    session: SessionArgs,
}

pub(crate) fn status(args: &SessionArgs, context: &Context) -> Result<(), Failure> {
    let answer = match client::ask(&status_of(args), context) {
        // That nothing runs is an answer, unless a session was named.
        Err(failure) if failure.code() == Code::PairNoSession && args.session.is_none() => {
            json!({ "sessions": [] })
        }
        other => other?,
    };
    context.report.object(&answer);
    let sessions = answer["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if sessions.is_empty() {
        context.report.note("There is no session on this machine.");
    }
    for session in sessions {
        let head =
            format!("{}  {}  {}", text(session, "session"), text(session, "role"), text(session, "state"));
        context.report.line(context.report.styled(Style::Strong, head));
        for (name, value) in [("goal", text(session, "goal")), ("closed", text(session, "closed"))] {
            if !value.is_empty() {
                context.report.line(format_args!("  {name}: {value}"));
            }
        }
        if session["can_verify"] == true && text(session, "verification") == "pending" {
            context.report.line("  words not compared yet: `mytunnel pair verify`");
        }
        if session["kept"] == true {
            context.report.line("  kept on this machine's disk");
        } else if session["host_keeps"] == true {
            context.report.line("  kept on the host's disk");
        }
        if let Some(line) = way(&session["relay"]) {
            context.report.line(format_args!("  {line}"));
        }
        let offers = session["offers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let waiting = offers.iter().filter(|offer| text(offer, "state") == "offered").count();
        if waiting > 0 {
            context.report.line(format_args!("  files offered: {waiting}, see `mytunnel pair offers`"));
        }
        print_members(session, context);
    }
    let records = answer["records"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for record in records.filter(|id| !sessions.iter().any(|session| text(session, "session") == *id)) {
        context
            .report
            .line(format_args!("{record}  over; `mytunnel pair export --session {record}` has its record"));
    }
    for aside in answer["unreadable"].as_array().into_iter().flatten() {
        let (id, why) = (text(aside, "session"), text(aside, "why"));
        context.report.line(format_args!(
            "{id}  cannot be used: {why}; it stays on disk until `mytunnel pair close --forget --session {id}`"
        ));
    }
    Ok(())
}

fn status_of(args: &SessionArgs) -> Request {
    Request::Status { session: args.session.clone(), reader: READER.to_owned() }
}

pub(crate) fn peers(args: &SessionArgs, context: &Context) -> Result<(), Failure> {
    let answer = client::ask(&status_of(args), context);
    // That nothing runs is an answer, unless a session was named.
    let is_none = |failure: &Failure| failure.code() == Code::PairNoSession && args.session.is_none();
    let sessions = match answer {
        Err(failure) if is_none(&failure) => Vec::new(),
        other => other?["sessions"].as_array().cloned().unwrap_or_default(),
    };
    let windows = if args.session.is_none() { windows()? } else { Vec::new() };
    let peers: Vec<Value> = sessions
        .iter()
        .map(|session| json!({ "session": session["session"], "peers": session["members"] }))
        .collect();
    context.report.object(&json!({ "sessions": peers, "windows": windows }));
    if sessions.is_empty() {
        context.report.note("There is no session on this machine.");
    }
    sessions.iter().for_each(|session| print_members(session, context));
    for window in windows {
        let (number, at) = (&window["number"], text(&window, "at"));
        context.report.line(format_args!(
            "A code that begins with {number} is open at {at}: who knows it joins by `mytunnel pair join`."
        ));
    }
    Ok(())
}

/// The codes that are open on this network; none where it has no multicast.
pub(crate) fn windows() -> Result<Vec<Value>, Failure> {
    let found = block_on(async { Ok(daemon::windows(LOOKING).await) })?;
    Ok(match found {
        Ok(windows) => windows
            .iter()
            .map(|one| json!({ "number": one.number, "at": one.at, "untrusted": true }))
            .collect(),
        Err(error) => {
            tracing::debug!(why = chain(&error), "codes of this network are not known");
            Vec::new()
        }
    })
}

/// How the way through a relay stands, where there is one.
fn way(relay: &Value) -> Option<String> {
    let why = |otherwise: &'static str| match text(relay, "why") {
        "" => otherwise.to_owned(),
        why => why.to_owned(),
    };
    let paths = relay["paths"].as_array().into_iter().flatten();
    let paths: Vec<String> =
        paths.map(|path| format!("{} ({})", text(path, "path"), text(path, "reason"))).collect();
    match text(relay, "state") {
        "open" if paths.is_empty() => Some("through a relay: ready".to_owned()),
        "open" => Some(format!("through a relay: {}", paths.join(", "))),
        "opening" => Some(format!("through a relay: not yet, {}", why("no answer"))),
        "closed" => Some(format!("through a relay: no more, {}", why("it ended"))),
        _ => None,
    }
}

fn print_members(session: &Value, context: &Context) {
    let heading = ["NAME", "AGENT", "THERE", "BY", "VERIFIED"].map(str::to_owned).to_vec();
    let row = |member: &Value| {
        let away = || {
            member["offline_s"]
                .as_u64()
                .map_or("no".to_owned(), |time| format!("no, for {}", span::human(time)))
        };
        let there = if member["online"] == true { "yes".to_owned() } else { away() };
        let verified = if member["verified"] == true { "yes" } else { "no" };
        let by = text(member, "via");
        let texts = [text(member, "name"), text(member, "agent"), &there, by, verified];
        texts.map(str::to_owned).to_vec()
    };
    let members = session["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<_> = std::iter::once(heading).chain(members.iter().map(row)).collect();
    for (at, line) in columns(&rows).into_iter().enumerate() {
        context.report.line(if at == 0 { context.report.styled(Style::Faint, line) } else { line });
    }
}

pub(crate) fn verify(args: &VerifyArgs, context: &Context) -> Result<(), Failure> {
    let mut person = Person::here().ok_or_else(|| {
        let help = "Run `mytunnel pair verify` in a terminal: it shows the words to read out, and asks for the other machine's.";
        Failure::usage("words are compared by two persons, each at a terminal", help)
    })?;
    let (session, peer) = (args.session.session.clone(), args.peer.clone());
    let own = client::ask(&Request::Words { session: session.clone(), peer: peer.clone() }, context)?;
    let shown = format!("Read these words of this machine to the other person: {}", text(&own, "words"));
    let words = person.ask(&shown, "The words of the other machine, as that person reads them out: ")?;
    let session = own["session"].as_str().map(str::to_owned).or(session);
    let request = Request::Verify { session, peer, words };
    let answer = client::ask(&request, context)?;
    context.report.object(&answer);
    context
        .report
        .note("Verified: nobody sits between the two machines. The other person does the same there.");
    Ok(())
}

pub(crate) fn approve(args: &DecideArgs, context: &Context) -> Result<(), Failure> {
    let number = args.id.parse().map_err(|_| {
        Failure::usage(
            format!("{} is no number of a proposal", args.id),
            "`mytunnel pair log` shows the numbers; a guest is let in with `mytunnel pair verify`.",
        )
    })?;
    decide(number, Verdict::Approved, args, context)
}

pub(crate) fn deny(args: &DecideArgs, context: &Context) -> Result<(), Failure> {
    if let Ok(number) = args.id.parse() {
        return decide(number, Verdict::Denied, args, context);
    }
    let request = Request::Deny { session: args.session.session.clone(), peer: args.id.clone() };
    let answer = client::ask(&request, context)?;
    context.report.object(&answer);
    context.report.note(format_args!("{} is out, and its invite opens nothing any more.", args.id));
    Ok(())
}

fn decide(proposal: u64, verdict: Verdict, args: &DecideArgs, context: &Context) -> Result<(), Failure> {
    let by = if Person::here().is_some() { By::Human } else { By::Agent };
    let said = Said::Decision { proposal, verdict, by, text: args.reason.clone() };
    let session = args.session.session.clone();
    let answer =
        client::ask(&Request::Say { session, said, reply_to: Some(proposal), to: Vec::new() }, context)?;
    context.report.object(&answer);
    Ok(())
}

pub(crate) fn kick(args: &KickArgs, context: &Context) -> Result<(), Failure> {
    let request = Request::Kick { session: args.session.session.clone(), peer: args.peer.clone() };
    let answer = client::ask(&request, context)?;
    context.report.object(&answer);
    context.report.note(format_args!("{} is out.", args.peer));
    if let Some(ticket) = answer["ticket"].as_str() {
        let ticket = printable(ticket);
        context.report.note(format_args!(
            "Its key for the relay came from {ticket}: `mytunnel keys list` shows it, `mytunnel keys revoke` ends it."
        ));
    }
    Ok(())
}

pub(crate) fn lock(args: &SessionArgs, context: &Context) -> Result<(), Failure> {
    let mut answer = client::ask(&Request::Lock { session: args.session.clone() }, context)?;
    relay::withdraw(&mut answer, context);
    context.report.object(&answer);
    context.report.note("Nobody comes in any more.");
    Ok(())
}

pub(crate) fn revoke(args: &SessionArgs, context: &Context) -> Result<(), Failure> {
    let mut answer =
        client::ask(&Request::Revoke { session: args.session.clone(), invites: Vec::new() }, context)?;
    relay::withdraw(&mut answer, context);
    context.report.object(&answer);
    context.report.note(format_args!("Took back {} invites.", answer["revoked"]));
    Ok(())
}

pub(crate) fn close(args: &CloseArgs, context: &Context) -> Result<(), Failure> {
    let (session, forget) = (args.session.session.clone(), args.forget);
    let mut answer = client::ask(&Request::Close { session, forget }, context)?;
    relay::withdraw(&mut answer, context);
    context.report.object(&answer);
    context.report.note(if forget {
        "Closed, and nothing of it stays on this machine's disk."
    } else {
        "Closed."
    });
    Ok(())
}
