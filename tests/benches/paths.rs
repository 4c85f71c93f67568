//! A private share by each path against plain TCP to the same server, in one run: a connection of the direct path (by each
//! carrier that two nodes find on one machine), and of the relayed one.
//!
//! `cargo bench -p mytunnel-tests --bench paths [-- --seconds 4 --rounds 3]`

#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use mytunnel_tests::compare::{self, Subject};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::load::Work;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::Running;
use tokio::time::{Instant, sleep};

const MEASURES: [(&str, Work, usize); 6] = [
    ("keep-alive-1", Work::KeepAlive, 1),
    ("keep-alive-64", Work::KeepAlive, 64),
    ("download-1", Work::Download, 1),
    ("download-8", Work::Download, 8),
    ("upload-1", Work::Upload, 1),
    ("new-connections-16", Work::NewConnection, 16),
];

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--origin") {
        let origin = Origin::start().await?;
        println!("{}", origin.address);
        return std::future::pending().await;
    }
    let value =
        |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let seconds: f64 = value("--seconds").map_or(Ok(4.0), |text| text.parse())?;
    let rounds: usize = value("--rounds").map_or(Ok(3), |text| text.parse())?;

    let directory = tempfile::tempdir()?;
    let mut origin = Running::start(&std::env::current_exe()?, ["--origin"], &[], directory.path())?;
    let address: SocketAddr = origin.line().await?.parse()?;
    let lab = Lab::start(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"))).await?;
    let mut sharer = lab.spawn(&["share", &address.to_string(), "--private", "--name", "box", "--json"])?;
    sharer.event("ready").await?;
    let ends = |node: &Running| [sharer.id(), node.id()].into_iter().flatten().collect::<Vec<_>>();

    let mut subjects = vec![Subject { name: "tcp", address, host: address.to_string(), processes: vec![] }];
    let (relayed, at) = access(&lab, &["--no-direct"]).await?;
    let relay = lab.relay.as_ref().and_then(Running::id).context("the relay runs")?;
    let processes = [ends(&relayed), vec![relay]].concat();
    subjects.push(Subject { name: "relayed", address: at, host: at.to_string(), processes });
    let (direct, at) = access(&lab, &[]).await?;
    println!("direct: {}", until_direct(&lab).await?);
    subjects.push(Subject { name: "direct", address: at, host: at.to_string(), processes: ends(&direct) });
    compare::print(MEASURES.iter(), &subjects, "tcp", rounds, Duration::from_secs_f64(seconds)).await
}

/// A second node, which reaches the share.
async fn access(lab: &Lab, more: &[&str]) -> Result<(Running, SocketAddr)> {
    let mut node = lab.spawn(&[&["access", "box", "--json"], more].concat())?;
    let ready = node.event("ready").await?;
    Ok((node, ready["bind"].as_str().context("an address")?.parse()?))
}

/// Waits until one of the accesses has a direct path, and tells what `status` says of it.
async fn until_direct(lab: &Lab) -> Result<String> {
    let begun = Instant::now();
    loop {
        let status = lab.run(&["status", "--json"]).await?.success()?.json()?;
        let peers = status["peers"].as_array().context("peers")?;
        if let Some(peer) = peers.iter().find(|peer| peer["path"] != "relayed") {
            return Ok(peer.to_string());
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(20), "no direct path was found: {status}");
        sleep(Duration::from_millis(200)).await;
    }
}
