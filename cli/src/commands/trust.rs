//! `mytunnel trust`: has this machine and its browsers believe the certificates of a relay of one's own.
//!
//! [`mod@stores`] says what there is and what changes it, [`change`] does it. The authority's own bounds are looked at first:
//! one that could speak for more than a relay's domains is trusted by no machine of ours.

mod change;
mod stores;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf, absolute};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use mytunnel_relay::local_ca::{Described, Unfit};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use self::change::Change;
use self::stores::{Kind, ROOT, Store, Subject, System, installed, stores};
use crate::context::Context;
use crate::failure::{Failure, chain, io_help};
use crate::files::read_private;
use crate::report::Report;
use crate::{span, vouched};

/// Have this machine and its browsers trust the certificates of a relay of your own
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel trust                the authority that `mytunnel relay` made here
  mytunnel trust --print        what would be done, and nothing else
  mytunnel trust --user         for the browsers of this user only, without root
  sudo mytunnel trust --ca /home/me/.local/share/mytunnel/local-ca-localhost.pem
  mytunnel trust --ca relay.pem --domain tunnel.example.com
  mytunnel trust --remove

A relay without --acme certifies its names itself, by an authority that can speak for the relay's domain and
for nothing else. Browsers keep stores of their own: this is done as the user of the browser, and by root for
the system. For another machine, copy the .pem file there (never the .key), and name it with --ca, and the
domain of your relay with --domain: an authority that may vouch for any other is refused.")]
pub(crate) struct Args {
    /// Certificate of the authority [default: that of the relay on this machine]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Domain of the relay, where its authority was not made by a relay of this user on this machine, and for root; may be repeated
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,

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
    let user = rustix::process::geteuid().as_raw();
    let path = authority(args, context)?;
    let described = described(&path, args.remove)?;
    if !args.remove {
        confirmed(args, &described, &path, user != ROOT && vouched::all(context).contains(&path))?;
    }
    // It is read once. What is trusted is what was looked at, whoever writes to the file meanwhile.
    let pem = described.pem();
    let copy = copied(&pem).map_err(|error| {
        Failure::local(format!("cannot write a temporary file: {error}"), io_help(&error))
    })?;
    let sha256 = HEXLOWER.encode(&Sha256::digest(&described.certificate));
    let sha1 = HEXLOWER.encode(&Sha1::digest(&described.certificate));
    let subject = Subject { path: &path, pem: &pem, name: &described.name, sha256: &sha256, sha1: &sha1 };
    let home = context.env.home.as_deref();
    let mut stores = stores(System::this(), Path::new("/"), home, user, &subject);
    stores.retain(|store| match store.kind {
        Kind::Gathered { .. } => !args.user,
        // Root's keychain is looked at by no browser, and the user's is not root's to change.
        Kind::Keychain(_) => user != ROOT,
        Kind::Database(_) | Kind::Windows => true,
    });
    if !context.report.is_json() {
        introduce(&described, &subject, context.report);
    }
    let (copy, remove) = (copy.path(), args.remove);
    let change = Change { subject: &subject, copy, described: &described, remove, user, context };
    let outcomes: Vec<(&Store, Outcome)> = stores
        .iter()
        .map(|store| (store, if args.print { Outcome::Planned } else { change.make(store) }))
        .collect();
    tell(&change, &outcomes)
}

/// A file of this process's own, for programs that read one.
fn copied(pem: &str) -> io::Result<NamedTempFile> {
    let mut copy = NamedTempFile::with_suffix(".pem")?;
    copy.write_all(pem.as_bytes())?;
    Ok(copy)
}

/// Whether the authority may speak for the relay's domain alone, which has to be a person's word where the file is not
/// known to be of this user's own relay: `co.uk` and a bank are domains like all others.
fn confirmed(args: &Args, described: &Described, path: &Path, is_own: bool) -> Result<(), Failure> {
    let is_meant = |domain: &str| args.domain.iter().any(|named| is_at_or_below(domain, named));
    let others: Vec<_> = described
        .domains
        .iter()
        .filter(|domain| !is_meant(domain) && !is_of_this_machine(domain))
        .map(String::as_str)
        .collect();
    if others.is_empty() || is_own && args.domain.is_empty() {
        return Ok(());
    }
    let others = others.join(", ");
    Err(Failure::usage(
        format!("{} may vouch for {others} and every name below", path.display()),
        "Name the domain of your relay with --domain, if it is this; else do not trust the file, and ask who gave it to you.",
    ))
}

/// Nobody else is reached by such a name.
fn is_of_this_machine(domain: &str) -> bool {
    is_at_or_below(domain, "localhost")
}

fn is_at_or_below(domain: &str, named: &str) -> bool {
    let plain = |name: &str| name.trim_matches('.').to_ascii_lowercase();
    let (domain, named) = (plain(domain), plain(named));
    domain.strip_suffix(&named).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        && !named.is_empty()
}

/// The certificate that is meant.
fn authority(args: &Args, context: &Context) -> Result<PathBuf, Failure> {
    if let Some(path) = &args.ca {
        return Ok(absolute(path).unwrap_or_else(|_| path.clone()));
    }
    let mut found = vouched::all(context);
    if found.is_empty() && args.remove {
        // Its own file is gone: the system's copy says as well what is to be taken out.
        found = installed(Path::new("/"));
    }
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
    let text = read_private(path)?
        .ok_or_else(|| Failure::local(format!("there is no file {}", path.display()), "Check the path."))?;
    let described = Described::read(&text).map_err(|error| {
        Failure::usage(
            format!("{}: {}", path.display(), chain(&error)),
            "Name the relay's local-ca-DOMAIN.pem with --ca.",
        )
    })?;
    match described.check(SystemTime::now()) {
        Err(unfit) if !remove => Err(refused(path, unfit)),
        Ok(()) | Err(_) => Ok(described),
    }
}

fn refused(path: &Path, unfit: Unfit) -> Failure {
    let help = match unfit {
        Unfit::Addresses => {
            "It is of an early version: `mytunnel trust --remove` with it, stop the relay, remove this file and its .key, and start it again. What was given its address with #ca=… is given the new one."
        }
        Unfit::Ended => {
            "Stop the relay, remove this file and its .key, and start it again: it makes a new one."
        }
        Unfit::NotAnAuthority | Unfit::Unbound | Unfit::Purposes => {
            "Name the relay's local-ca-DOMAIN.pem with --ca."
        }
        Unfit::TopLevel => {
            "Trust no file that was given to you as a relay's. Is it yours, serve it under a domain of at least two parts, or a name such as `test` or `internal`."
        }
    };
    Failure::usage(format!("{} is not to be trusted by a whole machine: {unfit}", path.display()), help)
}

fn introduce(described: &Described, subject: &Subject<'_>, report: Report) {
    report.line(&described.name);
    report.line(format_args!("  file      {}", subject.path.display()));
    report.line(format_args!("  SHA-256   {}", subject.sha256));
    let names: Vec<_> = described.domains.iter().map(|name| format!("{name} and names below it")).collect();
    let what = match described.check(SystemTime::now()) {
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
    let is_root = change.user == ROOT;
    if outcomes.is_empty() && is_root {
        return Err(Failure::local(
            "no store of authorities was found that is root's",
            "Run it without sudo, as the user whose browser it is for.",
        ));
    }
    if outcomes.is_empty() {
        return Err(Failure::local(
            "no store of authorities was found that is known here",
            "Start the browser once, or install ca-certificates; else add the file as your system's handbook says.",
        ));
    }
    if !outcomes.iter().any(|(store, _)| matches!(store.kind, Kind::Database(_))) {
        report.note(match is_root {
            true => "Browsers have stores for each user: run it as the user of the browser, too.",
            false => {
                "No database of Chromium or Firefox was found. Where one is started later, do this again."
            }
        });
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

#[cfg(test)]
mod tests {
    use mytunnel_relay::local_ca::LocalCa;

    use super::*;

    fn args(domains: &[&str]) -> Args {
        let domain = domains.iter().map(|&domain| domain.to_owned()).collect();
        Args { ca: None, domain, user: false, remove: false, print: false }
    }

    fn is_confirmed(of: (&str, &str), domains: &[&str], is_own: bool) -> bool {
        let ca = LocalCa::ephemeral(of.0, of.1, SystemTime::now()).unwrap();
        let described = Described::read(ca.certificate_pem().as_bytes()).unwrap();
        confirmed(&args(domains), &described, Path::new("ca.pem"), is_own).is_ok()
    }

    #[test]
    fn whose_relay_it_is_has_to_be_said_of_a_file_that_is_not_of_ones_own_relay() {
        let (one, two) = (("t.example", "t.example"), ("t.example", "console.example"));
        for (of, domains, is_own, wanted) in [
            (one, &[][..], true, true),
            (one, &[], false, false),
            (one, &["t.example"], false, true),
            (one, &["T.Example."], false, true),
            (one, &["example"], false, true),
            (one, &["bank.example"], false, false),
            (one, &["a.t.example"], false, false),
            (one, &["at.example"], false, false),
            (one, &[""], false, false),
            // Who names one means this one.
            (one, &["bank.example"], true, false),
            (two, &["t.example"], false, false),
            (two, &["t.example", "console.example"], false, true),
            (("localhost", "localhost"), &[], false, true),
            (("co.uk", "co.uk"), &["t.example"], false, false),
        ] {
            assert_eq!(is_confirmed(of, domains, is_own), wanted, "{of:?} {domains:?} {is_own}");
        }
    }
}
