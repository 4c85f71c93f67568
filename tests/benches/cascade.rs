//! How long after a cascade revocation the last of its tunnels is closed, as the nodes see it.
//!
//! `cargo bench -p mytunnel-tests --bench cascade [-- --tunnels 1000 --rounds 50]`
//!
//! A relay with its coordinator runs as a process of its own; the nodes share this one. Each round has a new master key
//! with one child and one tunnel for each; the clock starts when the revocation is sent and stops when the last node
//! has been told. A tunnel of another project must outlive every round.

#![expect(clippy::print_stdout, reason = "the figures are its output")]

mod crowd;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mytunnel_keys::token::{MasterToken, Token};
use mytunnel_node::ShareEvent;
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::usage;
use tokio::task::JoinSet;

use crowd::Member;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value =
        |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let tunnels: usize = value("--tunnels").map_or(Ok(1000), |text| text.parse())?;
    let rounds: usize = value("--rounds").map_or(Ok(50), |text| text.parse())?;

    let (lab, origin) =
        (Lab::start(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"))).await?, Origin::start().await?);
    let other = lab.project("other").await?;
    let child = lab.mint_with(other["master_key"].as_str().context("master")?, &["--ttl", "24h"]).await?;
    let token = child["token"].as_str().context("token")?;
    let (_untouched, _) = lab.node_with(token, &origin.address.port().to_string(), "untouched").await?;
    let relay = lab.relay.as_ref().and_then(|relay| relay.id()).context("the relay runs")?;

    let mut lasts = Vec::new();
    for round in 0..rounds {
        let project = lab.project(&format!("round-{round}")).await?;
        let master = project["master_key"].as_str().context("master")?;
        let master = Arc::new(Token::parse(master)?.into_master()?);
        let before = usage::resident(relay)?;
        let nodes = crowd::nodes(crowd::keys(&lab, &master, tunnels, |_| None).await?, "9").await?;
        let each = usage::resident(relay)?.saturating_sub(before) / tunnels as u64;
        let (last, answered) = revoke(&lab, &master, nodes).await?;
        println!(
            "round {round}: last tunnel closed after {last:?}, answered after {answered:?}, {each} B a node"
        );
        lasts.push(last);
        ensure!(lab.get("untouched", "/1k").await?.0.status == 200, "another project's tunnel was cut");
    }
    lasts.sort();
    let at = |quantile: f64| lasts[((lasts.len() as f64 * quantile) as usize).min(lasts.len() - 1)];
    println!(
        "{tunnels} tunnels, {rounds} rounds: median {:?}, p99 {:?}, worst {:?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

/// Revokes the master with all its children; returns when the last node knew and when the answer came.
async fn revoke(lab: &Lab, master: &MasterToken, nodes: Vec<Member>) -> Result<(Duration, Duration)> {
    let mut waiting = JoinSet::new();
    let count = nodes.len();
    for mut member in nodes {
        waiting.spawn(async move {
            while let Some(event) = member.share.next().await {
                if let ShareEvent::Closed(_) = event {
                    break;
                }
            }
            let closed = Instant::now();
            // Tidying up is not what is measured.
            (closed, member)
        });
    }
    tokio::task::yield_now().await;
    let started = Instant::now();
    let path = format!("/api/v1/tokens/{}?cascade=true", master.serial.nonce());
    let answer = crowd::call(lab.http, master, "DELETE", &path, "").await?;
    let answered = started.elapsed();
    ensure!(answer["revoked_children"] == count, "{answer}");
    let (mut last, mut gone) = (Duration::ZERO, Vec::new());
    while let Some(joined) = waiting.join_next().await {
        let (closed, member) = joined?;
        last = last.max(closed - started);
        gone.push(member);
    }
    Ok((last, answered))
}
