//! `mytunnel trust`: has this machine and its browsers believe the certificates of a relay of one's own.
//!
//! [`stores`] says what there is and what changes it; here it is done. The authority's own bounds are looked at first:
//! one that could speak for more than a relay's domains is trusted by no machine of ours.

mod stores;

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf, absolute};
use std::process::{Command as Process, Output, Stdio};
use std::time::UNIX_EPOCH;

use data_encoding::HEXLOWER;
use mytunnel_relay::local_ca::{Described, Unfit};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use self::stores::{Kind, Line, Store, Subject, System, certutil, stores};
use crate::context::Context;
use crate::failure::{Failure, chain, io_help};
use crate::mint::shell_quoted;
use crate::report::Report;
use crate::{span, vouched};

/// Where programs lie that a person's PATH may not name: those of root, and the NSS tools of Homebrew.
const MORE_PROGRAMS: &str = ":/usr/sbin:/sbin:/opt/homebrew/opt/nss/bin:/usr/local/opt/nss/bin";

/// Have this machine and its browsers trust the certificates of a relay of your own
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel trust                the authority that `mytunnel relay` made here
  mytunnel trust --print        what would be done, and nothing else
  mytunnel trust --user         for the browsers of this user only, without root
  sudo mytunnel trust --ca /home/me/.local/share/mytunnel/local-ca-localhost.pem
  mytunnel trust --remove

A relay without --acme certifies its names itself, by an authority that can speak for the relay's domain and
for nothing else. Browsers keep stores of their own: this is done as the user of the browser, and by root for
the system. For another machine, copy the .pem file there (never the .key), and name it with --ca.")]
pub(crate) struct Args {
    /// Certificate of the authority [default: that of the relay on this machine]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// For the browsers of this user only, without root
    #[arg(long)]
    user: bool,

    /// Trust it no more
    #[arg(long)]
    remove: bool,

    /// Say what would be done, and change nothing
    #[arg(long)]
    print: bool,
}

/// What became of one store.
#[derive(Debug)]
enum Outcome {
    Planned,
    /// It was as it is wanted.
    Stood,
    Done,
    Failed {
        trouble: String,
        by_hand: Vec<String>,
    },
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let path = authority(args.ca.as_deref(), context)?;
    let described = described(&path, args.remove)?;
    let sha256 = HEXLOWER.encode(&Sha256::digest(&described.certificate));
    let sha1 = HEXLOWER.encode(&Sha1::digest(&described.certificate));
    let subject = Subject { path: &path, name: &described.name, sha256: &sha256, sha1: &sha1 };
    let mut stores = stores(System::this(), Path::new("/"), context.env.home.as_deref(), &subject);
    stores.retain(|store| !args.user || !matches!(store.kind, Kind::Gathered { .. }));
    if !context.report.is_json() {
        introduce(&described, &subject, context.report);
    }
    let change = Change { subject: &subject, described: &described, remove: args.remove, context };
    let outcomes: Vec<(&Store, Outcome)> = stores
        .iter()
        .map(|store| (store, if args.print { Outcome::Planned } else { change.make(store) }))
        .collect();
    tell(&change, &outcomes)
}

/// The certificate that is meant.
fn authority(named: Option<&Path>, context: &Context) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(absolute(path).unwrap_or_else(|_| path.to_owned()));
    }
    let mut found = vouched::all(context);
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::local(
            "no relay of this user has made an authority here",
            "Start `mytunnel relay` first, or name the certificate: --ca DATA/local-ca-DOMAIN.pem.",
        )),
        _ => {
            let all: Vec<_> = found.iter().map(|path| path.display().to_string()).collect();
            Err(Failure::usage(
                format!("there are several authorities here: {}", all.join(", ")),
                "Name the one you mean with --ca.",
            ))
        }
    }
}

/// What the certificate says of itself. One that is to go may be of any kind.
fn described(path: &Path, remove: bool) -> Result<Described, Failure> {
    let text = std::fs::read(path).map_err(|error| {
        Failure::local(format!("cannot read {}: {error}", path.display()), io_help(&error))
    })?;
    let described = Described::read(&text).map_err(|error| {
        Failure::usage(
            format!("{}: {}", path.display(), chain(&error)),
            "Name the relay's local-ca-DOMAIN.pem with --ca.",
        )
    })?;
    match described.check() {
        Err(unfit) if !remove => Err(refused(path, unfit)),
        Ok(()) | Err(_) => Ok(described),
    }
}

fn refused(path: &Path, unfit: Unfit) -> Failure {
    let help = match unfit {
        Unfit::Addresses => {
            "It is of an early version: stop the relay, remove this file and its .key, and start it again. What was given its address with #ca=… is given the new one."
        }
        Unfit::NotAnAuthority | Unfit::Unbound => "Name the relay's local-ca-DOMAIN.pem with --ca.",
    };
    Failure::usage(format!("{} is not to be trusted by a whole machine: {unfit}", path.display()), help)
}

fn introduce(described: &Described, subject: &Subject<'_>, report: Report) {
    report.line(&described.name);
    report.line(format_args!("  file      {}", subject.path.display()));
    report.line(format_args!("  SHA-256   {}", subject.sha256));
    let names: Vec<_> = described.domains.iter().map(|name| format!("{name} and names below it")).collect();
    let what = match described.check() {
        Ok(()) => format!("{}, and nothing else", names.join(", ")),
        Err(unfit) => unfit.to_string(),
    };
    report.line(format_args!("  vouches   for {what}"));
    report.line(format_args!("  until     {}", span::utc(ends(described))));
    report.line("");
}

fn ends(described: &Described) -> u64 {
    described.ends.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is done to each store.
struct Change<'a> {
    subject: &'a Subject<'a>,
    described: &'a Described,
    remove: bool,
    context: &'a Context,
}

impl Change<'_> {
    fn make(&self, store: &Store) -> Outcome {
        let made = match &store.kind {
            Kind::Gathered { file, .. } => self.gather(store, file),
            Kind::Database(folder) => self.database(store, folder),
            Kind::Commands { .. } => self.call(&store.line(self.subject, self.remove)).map(|_| Outcome::Done),
        };
        made.unwrap_or_else(|error| {
            let is_certutil = matches!(store.kind, Kind::Database(_));
            #[expect(clippy::wildcard_enum_match_arm, reason = "the system's kinds are many, those with a remedy few")]
            let by_hand = match error.kind() {
                // The same command does it all, so that it is one line to type.
                ErrorKind::PermissionDenied => vec![self.as_root()],
                ErrorKind::NotFound if is_certutil => {
                    vec!["sudo apt install libnss3-tools    # nss-tools (Fedora), nss (Arch, Homebrew); then again".to_owned()]
                }
                _ => store.by_hand(self.subject, self.remove),
            };
            Outcome::Failed { trouble: error.to_string(), by_hand }
        })
    }

    /// A file of the system, and what gathers it. A file whose gathering failed is as if it had not been.
    fn gather(&self, store: &Store, file: &Path) -> io::Result<Outcome> {
        let text = std::fs::read(self.subject.path)?;
        let stands = std::fs::read(file).is_ok_and(|there| there == text);
        let line = store.line(self.subject, self.remove);
        match (self.remove, stands) {
            (false, true) => return Ok(Outcome::Stood),
            (true, _) if !file.exists() => return Ok(Outcome::Stood),
            (true, _) => std::fs::remove_file(file).map_err(|error| named(error, file))?,
            (false, false) => std::fs::write(file, &text).map_err(|error| named(error, file))?,
        }
        match self.call(&line) {
            Ok(_) => Ok(Outcome::Done),
            Err(error) => {
                let undone =
                    if self.remove { std::fs::write(file, &text) } else { std::fs::remove_file(file) };
                undone.map_err(|error| named(error, file))?;
                Err(error)
            }
        }
    }

    fn database(&self, store: &Store, folder: &Path) -> io::Result<Outcome> {
        let look = certutil(&["-L", "-n", self.subject.name, "-r"], folder);
        let stands = match self.output(&look)? {
            found if found.status.success() => found.stdout == self.described.certificate.as_ref(),
            _ => false,
        };
        if stands != self.remove {
            return Ok(Outcome::Stood);
        }
        self.call(&store.line(self.subject, self.remove)).map(|_| Outcome::Done)
    }

    /// Calls a program that has to succeed.
    fn call(&self, line: &Line) -> io::Result<Output> {
        let output = self.output(line)?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing").trim();
        Err(io::Error::other(format!("`{}`: {said} ({})", line.join(" "), output.status)))
    }

    fn output(&self, line: &Line) -> io::Result<Output> {
        let (program, arguments) = line.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        let mut path = self.context.env.path.clone().unwrap_or_default();
        path.push(MORE_PROGRAMS);
        // Whoever asks for a password there is to fail, not to wait.
        let called = Process::new(program).args(arguments).env("PATH", path).stdin(Stdio::null()).output();
        called.map_err(|error| {
            let is_missing = error.kind() == ErrorKind::NotFound;
            let why = if is_missing {
                format!("there is no program `{program}`")
            } else {
                format!("`{program}`: {error}")
            };
            io::Error::new(error.kind(), why)
        })
    }

    fn as_root(&self) -> String {
        let program =
            std::env::current_exe().map_or_else(|_| "mytunnel".to_owned(), |path| path.display().to_string());
        let mut line = format!("sudo {} trust", shell_quoted(&program));
        if self.remove {
            line.push_str(" --remove");
        }
        // Infallible: a `String` takes everything.
        let _ = write!(line, " --ca {}", shell_quoted(&self.subject.path.display().to_string()));
        line
    }
}

fn named(error: io::Error, file: &Path) -> io::Error {
    let is_roots = error.kind() == ErrorKind::PermissionDenied;
    let file = file.display();
    let why = if is_roots { format!("only root may change {file}") } else { format!("{file}: {error}") };
    io::Error::new(error.kind(), why)
}

fn tell(change: &Change<'_>, outcomes: &[(&Store, Outcome)]) -> Result<(), Failure> {
    let report = change.context.report;
    let rows: Vec<Value> = outcomes.iter().map(|(store, outcome)| row(change, store, outcome)).collect();
    report.object(&json!({
        "ca": {
            "path": change.subject.path, "name": change.subject.name, "sha256": change.subject.sha256,
            "domains": change.described.domains, "ends": ends(change.described),
        },
        "stores": rows,
    }));
    for (store, outcome) in outcomes {
        let word = match (outcome, change.remove) {
            (Outcome::Planned, _) => "would be changed so:",
            (Outcome::Stood, false) => "trusts it already",
            (Outcome::Stood, true) => "does not know it",
            (Outcome::Done, false) => "trusts it now",
            (Outcome::Done, true) => "trusts it no more",
            (Outcome::Failed { trouble, .. }, _) => &format!("NOT DONE: {trouble}"),
        };
        report.line(format_args!("{}: {word}", store.name));
        for line in lines(change, store, outcome) {
            report.line(format_args!("    {line}"));
        }
    }
    if outcomes.is_empty() {
        return Err(Failure::local(
            "no store of authorities was found that is known here",
            "Start the browser once, or install ca-certificates; else add the file as your system's handbook says.",
        ));
    }
    if !outcomes.iter().any(|(store, _)| matches!(store.kind, Kind::Database(_))) {
        report
            .note("No database of Chromium or Firefox was found. Where one is started later, do this again.");
    } else if outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Done)) {
        report.note("Browsers that run take notice when they are started again.");
    }
    match outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed { .. })).count() {
        0 => Ok(()),
        failed => {
            let first = outcomes.iter().flat_map(|(store, outcome)| lines(change, store, outcome)).next();
            let help = first.unwrap_or_else(|| "See above.".to_owned());
            Err(Failure::local(format!("{failed} of {} stores could not be changed", outcomes.len()), help))
        }
    }
}

/// What is left for a person to type.
fn lines(change: &Change<'_>, store: &Store, outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Planned => store.by_hand(change.subject, change.remove),
        Outcome::Failed { by_hand, .. } => by_hand.clone(),
        Outcome::Stood | Outcome::Done => Vec::new(),
    }
}

fn row(change: &Change<'_>, store: &Store, outcome: &Outcome) -> Value {
    let state = match (outcome, change.remove) {
        (Outcome::Planned, _) => "planned",
        (Outcome::Stood, false) => "present",
        (Outcome::Stood, true) => "absent",
        (Outcome::Done, false) => "added",
        (Outcome::Done, true) => "removed",
        (Outcome::Failed { .. }, _) => "failed",
    };
    let trouble = match outcome {
        Outcome::Failed { trouble, .. } => Some(trouble),
        Outcome::Planned | Outcome::Stood | Outcome::Done => None,
    };
    json!({"store": store.name, "state": state, "trouble": trouble, "commands": lines(change, store, outcome)})
}
