//! `mytunnel relay --check`: whether a relay with these settings would start, without starting one.
//!
//! Everything is tried, so that all that is wrong is told at once, each with its remedy. What a first start makes is
//! not made, and nothing that is there is changed.

use std::fs::OpenOptions;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use mytunnel_carrier::address::listen_on;
use mytunnel_coordinator::Coordinator;
use serde_json::{Value, json};

use crate::embedded::cannot_listen;
use crate::failure::{Failure, io_help};
use crate::report::{Report, columns};
use crate::settings::{AuthoritySettings, RelaySettings};

/// Says what the settings come to, and what stands against them.
pub(super) fn run(settings: &RelaySettings, report: Report) -> Result<(), Failure> {
    let problems: Vec<Failure> = data(settings).into_iter().chain(ports(settings)).collect();
    let authority = match &settings.authority {
        AuthoritySettings::Embedded => "in this process".to_owned(),
        AuthoritySettings::Joined { servers, .. } => {
            servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
    };
    let dns = dns(settings);
    report.object(&json!({
        "ok": problems.is_empty(), "problems": problems.iter().map(described).collect::<Vec<_>>(),
        "domain": settings.domain, "data": settings.data, "http": settings.http, "https": settings.https, "dns": dns, "metrics": settings.metrics,
        "p2p": settings.p2p, "ports": settings.ports.map(|ports| ports.range.to_string()), "console": settings.console, "coordinator": authority,
    }));
    let rows = [
        ("domain", settings.domain.to_string()),
        ("console", settings.console.clone()),
        ("http", settings.http.to_string()),
        ("https", settings.https.to_string()),
        ("dns", dns.map_or_else(|| "none".to_owned(), |dns| dns.to_string())),
        ("p2p", settings.p2p.to_string()),
        ("ports", settings.ports.map_or_else(|| "none".to_owned(), |ports| ports.range.to_string())),
        ("data", settings.data.display().to_string()),
        ("coordinator", authority),
    ];
    for line in columns(&rows.map(|(name, value)| vec![name.to_owned(), value])) {
        report.line(line);
    }
    verdict(problems, report)
}

fn verdict(mut problems: Vec<Failure>, report: Report) -> Result<(), Failure> {
    let Some(last) = problems.pop() else {
        report.note("The settings are right: the data directory and the ports can be used.");
        return Ok(());
    };
    if problems.is_empty() {
        return Err(last);
    }
    let count = problems.len() + 1;
    problems.push(last);
    if !report.is_json() {
        problems.iter().for_each(|problem| report.failure(problem));
    }
    Err(Failure::local(
        format!("{count} things keep this relay from starting"),
        "Mend each, then check again.",
    ))
}

fn described(problem: &Failure) -> Value {
    json!({"code": problem.code().name(), "message": problem.message(), "help": problem.help()})
}

/// What is wrong with the data directory and what is in it.
fn data(settings: &RelaySettings) -> Option<Failure> {
    let data = &settings.data;
    writable(data).err().or_else(|| match &settings.authority {
        AuthoritySettings::Embedded => {
            Coordinator::check(&data.join("coordinator.db")).err().map(Failure::from)
        }
        AuthoritySettings::Joined { servers, token } => {
            let joined = token.is_some() || data.join("membership.json").exists();
            (!joined).then(|| crate::embedded::joined::not_yet(servers))
        }
    })
}

/// Whether files can be made in a directory, or in the one that it would be made in.
fn writable(directory: &Path) -> Result<(), Failure> {
    let there = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let probe = there.join(format!(".mytunnel-check-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&probe);
    made.and_then(|_| std::fs::remove_file(&probe)).map_err(|error| {
        let message = format!("cannot write to the data directory {}: {error}", directory.display());
        let help = match io_help(&error) {
            "" => "Choose another directory with --data.",
            help => help,
        };
        Failure::local(message, help)
    })
}

/// What is wrong with the addresses to listen on. All are held until the last was tried: two of one relay must not be
/// the same.
fn ports(settings: &RelaySettings) -> Vec<Failure> {
    let mut held: Vec<Held> = Vec::new();
    let [quic, tcp] = listen_on(settings.p2p);
    let metrics =
        settings.metrics.map(|address| (address.to_string(), bind(&mut held, address, TcpListener::bind)));
    let mut problems: Vec<Failure> = [
        (settings.http.to_string(), bind(&mut held, settings.http, TcpListener::bind)),
        (settings.https.to_string(), bind(&mut held, settings.https, TcpListener::bind)),
        (tcp.to_string(), bind(&mut held, settings.p2p, TcpListener::bind)),
        (quic.to_string(), bind(&mut held, settings.p2p, UdpSocket::bind)),
    ]
    .into_iter()
    .chain(dns(settings).into_iter().flat_map(|dns| {
        let tcp = bind(&mut held, dns, TcpListener::bind);
        [(dns.to_string(), tcp), (dns.to_string(), bind(&mut held, dns, UdpSocket::bind))]
    }))
    .chain(metrics)
    .filter_map(|(address, outcome)| outcome.err().map(|error| cannot_listen(&address, Some(&error))))
    .collect();
    // Both halves of an address are one thing to mend.
    problems.dedup_by(|one, other| one.message() == other.message());
    problems
}

/// Where the relay answers for its challenges' record.
fn dns(settings: &RelaySettings) -> Option<SocketAddr> {
    settings.acme.as_ref().and_then(|acme| acme.dns)
}

type Held = Box<dyn std::any::Any>;

fn bind<S: 'static>(
    held: &mut Vec<Held>,
    address: SocketAddr,
    how: impl Fn(SocketAddr) -> io::Result<S>,
) -> io::Result<()> {
    held.push(Box::new(how(address)?));
    Ok(())
}
