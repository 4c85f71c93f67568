//! `pair share`, `offers` and `receive`.

use std::path::{Path, PathBuf};

use mytunnel_keys::error::Code;
use mytunnel_pairing::{api::Request, folder, limits};
use serde_json::Value;

use super::person::Person;
use super::start::text;
use super::{SessionArgs, client};
use crate::context::Context;
use crate::failure::Failure;
use crate::places::default_data_dir;
use crate::report::{Style, columns};

/// How long one question waits; what is said in between is how far the file is.
const STEP: u64 = 2_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shared is what lies in the repository around the current folder, or in that folder, and is no key and no credential
(.ssh, .env, .git, *key*, *secret* and the like). What is offered is fetched from this machine by who wants it, for as
long as the session is open; the 64 files that were shared last are there.")]
pub(crate) struct ShareArgs {
    /// The file
    #[arg(required_unless_present = "withdraw")]
    path: Option<PathBuf>,

    /// Offer the file with this number no longer; who has it keeps it
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["path", "text", "to", "max_size", "anyway"])]
    withdraw: Option<u64>,

    /// What it is for, in a sentence
    #[arg(long, default_value = "")]
    text: String,

    /// For these members only, and the host; may be given several times
    #[arg(long, value_name = "NAME")]
    to: Vec<String>,

    /// The largest that it may be, up to 10G
    #[arg(long, value_name = "SIZE", default_value = "100M", value_parser = size)]
    max_size: u64,

    /// This very file, wherever it is and whatever it holds; for a person at a terminal
    #[arg(long)]
    anyway: bool,

    #[command(flatten)]
    session: SessionArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A file is put into the inbox, ~/.local/share/mytunnel/inbox/SESSION/NUMBER-NAME, and replaces nothing there. One that
stops half-way goes on where it was when it is received again. Interrupting this command leaves it on its way; --stop
ends it.")]
pub(crate) struct ReceiveArgs {
    /// Number of the offer
    offer: u64,

    /// The largest that it may be, up to 10G
    #[arg(long, value_name = "SIZE", default_value = "100M", value_parser = size)]
    max_size: u64,

    /// Another inbox than the usual one; for a person at a terminal
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,

    /// Stop what is on its way; what has come of it stays
    #[arg(long)]
    stop: bool,

    #[command(flatten)]
    session: SessionArgs,
}

pub(super) fn share(args: &ShareArgs, context: &Context) -> Result<(), Failure> {
    match (&args.path, args.withdraw) {
        (_, Some(offer)) => withdraw(args, offer, context),
        (Some(path), None) => offer(args, path, context),
        (None, None) => {
            Err(Failure::usage("no file is named", "Name one, or the number of one with `--withdraw`."))
        }
    }
}

fn withdraw(args: &ShareArgs, offer: u64, context: &Context) -> Result<(), Failure> {
    let session = args.session.session.clone();
    let answer = client::ask(&Request::Withdraw { session, offer }, context)?;
    context.report.object(&answer);
    context.report.line(format_args!("{} is offered no longer. Who has it keeps it.", text(&answer, "name")));
    Ok(())
}

fn offer(args: &ShareArgs, path: &Path, context: &Context) -> Result<(), Failure> {
    let within = if args.anyway {
        person("--anyway", "A person runs the same in a terminal.")?;
        None
    } else {
        Some(own_folder(context)?)
    };
    let answer = client::ask(
        &Request::Share {
            session: args.session.session.clone(),
            path: whole(path)?,
            within,
            most: args.max_size,
            text: args.text.clone(),
            to: args.to.clone(),
        },
        context,
    )?;
    context.report.object(&answer);
    context.report.line(&answer["offer"]);
    context.report.note(format_args!(
        "{}, {} bytes, is offered. The others run `mytunnel pair receive {}`.",
        text(&answer, "name"),
        answer["size"],
        answer["offer"]
    ));
    Ok(())
}

pub(super) fn offers(args: &SessionArgs, context: &Context) -> Result<(), Failure> {
    let answer = client::ask(&Request::Offers { session: args.session.clone() }, context)?;
    context.report.object(&answer);
    let offers = answer["offers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if offers.is_empty() {
        context.report.note("No file is offered in this session.");
        return Ok(());
    }
    let heading = ["OFFER", "FROM", "BYTES", "STATE", "NAME"].map(str::to_owned).to_vec();
    let row = |offer: &Value| {
        let mut cells = vec![offer["offer"].to_string(), text(&offer["from"], "name").to_owned()];
        cells.extend([offer["size"].to_string(), text(offer, "state").to_owned()]);
        cells.push(text(offer, "name").to_owned());
        cells
    };
    let rows: Vec<_> = std::iter::once(heading).chain(offers.iter().map(row)).collect();
    for (at, line) in columns(&rows).into_iter().enumerate() {
        context.report.line(if at == 0 { context.report.styled(Style::Faint, line) } else { line });
    }
    Ok(())
}

pub(super) fn receive(args: &ReceiveArgs, context: &Context) -> Result<(), Failure> {
    let inbox = match &args.into {
        Some(folder) => {
            person("--into", "Leave it out: the file is put into the inbox, and the answer says where.")?;
            whole(folder)?
        }
        None => inbox(context)?,
    };
    let mut session = args.session.session.clone();
    loop {
        let request = Request::Receive {
            session,
            offer: args.offer,
            inbox: inbox.clone(),
            most: args.max_size,
            wait_ms: STEP,
            stop: args.stop,
        };
        let answer = client::ask(&request, context)?;
        if text(&answer, "state") != "receiving" {
            context.report.object(&answer);
            print(&answer, context);
            return Ok(());
        }
        context.report.note(format_args!("{} of {} bytes", answer["received"], answer["size"]));
        session = answer["session"].as_str().map(str::to_owned);
    }
}

fn print(answer: &Value, context: &Context) {
    if text(answer, "state") == "received" {
        context.report.line(text(answer, "path"));
        let from = text(&answer["from"], "name");
        context.report.note(format_args!("From {from}: look at it before you open or run it."));
    } else {
        context.report.note("Stopped. Receiving it again goes on where it was.");
    }
}

/// Where received files are put.
pub(crate) fn inbox(context: &Context) -> Result<PathBuf, Failure> {
    let data = default_data_dir(&context.env).map_err(|_| {
        Failure::local("this user has no home directory for an inbox", "Set HOME or XDG_DATA_HOME.")
    })?;
    Ok(data.join("inbox"))
}

/// The folder from which this command may share.
pub(crate) fn own_folder(context: &Context) -> Result<PathBuf, Failure> {
    let cannot = |error: std::io::Error| Failure::local(format!("cannot tell where this runs: {error}"), "");
    let cwd = std::env::current_dir().map_err(cannot)?;
    let home = context.env.home.as_deref().and_then(|home| home.canonicalize().ok());
    folder(&cwd, home.as_deref()).ok_or_else(|| {
        let message = format!(
            "{} is no project's folder: it is all of a home or a disk, or hidden in a home and no repository",
            cwd.display()
        );
        Failure::new(Code::PairPathDenied, message).with_help(
            "Run it in the folder of the project, or let a person share with `--anyway` in a terminal.",
        )
    })
}

pub(crate) fn whole(path: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("that is no path: {error}"), "Name a file."))?;
    // It travels as JSON.
    if path.to_str().is_none() {
        let help = "Rename it, or copy it to a name in UTF-8.";
        return Err(Failure::usage(format!("the name of {} is not UTF-8", path.display()), help));
    }
    Ok(path)
}

/// Somebody sits at a terminal.
fn person(option: &str, help: &str) -> Result<(), Failure> {
    let nobody = || Failure::new(Code::PairNeedsApproval, format!("{option} is for a person at a terminal"));
    Person::here().map(drop).ok_or_else(|| nobody().with_help(help))
}

/// Bytes: `500M`, `2G`, up to the most that a file may have.
fn size(text: &str) -> Result<u64, String> {
    let expected = || format!("`{text}` is no size; write 500K, 100M or 2G");
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let amount: u64 = text[..digits].parse().map_err(|_| expected())?;
    let unit: u64 = match &text[digits..] {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return Err(expected()),
    };
    match amount.checked_mul(unit) {
        Some(bytes) if (1..=limits::FILE_MOST).contains(&bytes) => Ok(bytes),
        _ => Err(format!("from 1 to 10G, not {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_up_to_the_most_that_a_file_may_have() {
        assert_eq!(size("100M"), Ok(limits::FILE));
        assert_eq!((size("7"), size("500k"), size("10G")), (Ok(7), Ok(512_000), Ok(limits::FILE_MOST)));
        for bad in ["", "M", "0", "11G", "10GB", "-1", "1.5G", "99999999999999999999", "99999999999G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
