//! How long after a cascade revocation the last of its tunnels is closed, as the nodes see it.
//!
//! `cargo bench -p mytunnel-tests --bench cascade [-- --tunnels 1000 --rounds 50]`
//!
//! A relay with its coordinator runs as a process of its own; the nodes share this one. Each round has a new master key
//! with one child and one tunnel for each; the clock starts when the revocation is sent and stops when the last node
//! has been told. A tunnel of another project must outlive every round.

#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use mytunnel_keys::api::MintAnswer;
use mytunnel_keys::id::Cluster;
use mytunnel_keys::proof::{self, Request};
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::{MasterToken, Token};
use mytunnel_node::{Config, Node, RelayAddress, Share, ShareEvent, Target, TunnelSpec};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::usage;
use mytunnel_tests::wire::Connection;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Nodes that connect at once: strangers of one address are limited at the relay.
const AT_ONCE: usize = 16;

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
        let nodes = nodes(&lab, &master, tunnels).await?;
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

/// Mints a child for each tunnel and waits until all are live.
async fn nodes(lab: &Lab, master: &Arc<MasterToken>, count: usize) -> Result<Vec<(Node, Share)>> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let relay = relay(lab)?;
    let mut starting = JoinSet::new();
    for number in 0..count {
        let (master, relay, places, http) =
            (Arc::clone(master), relay.clone(), Arc::clone(&places), lab.http);
        starting.spawn(async move {
            let _place = places.acquire().await?;
            let seed = Seed::from_bytes(random()?);
            let body = json!({"public_key": seed.public(), "ttl": 3600}).to_string();
            let answer = call(http, &master, "POST", "/api/v1/mint", &body).await?;
            let answer: MintAnswer = serde_json::from_value(answer)?;
            let mut config = Config::new(seed, answer.certificate, cluster()?, master.root, vec![relay]);
            config.lanes = false;
            let node = Node::start(config)?;
            let name = format!("n{number}-{}", &answer.serial.to_string()[..8]).parse()?;
            let spec = TunnelSpec::new(name, "http".parse()?, Target::parse("9")?);
            let mut share = node.share(spec).await?;
            share.ready().await?;
            anyhow::Ok((node, share))
        });
    }
    let mut nodes = Vec::new();
    while let Some(started) = starting.join_next().await {
        nodes.push(started??);
    }
    Ok(nodes)
}

/// Revokes the master with all its children; returns when the last node knew and when the answer came.
async fn revoke(lab: &Lab, master: &MasterToken, nodes: Vec<(Node, Share)>) -> Result<(Duration, Duration)> {
    let mut waiting = JoinSet::new();
    let count = nodes.len();
    for (node, mut share) in nodes {
        waiting.spawn(async move {
            while let Some(event) = share.next().await {
                if let ShareEvent::Closed(_) = event {
                    break;
                }
            }
            let closed = Instant::now();
            // Tidying up is not what is measured.
            (closed, node, share)
        });
    }
    tokio::task::yield_now().await;
    let started = Instant::now();
    let path = format!("/api/v1/tokens/{}?cascade=true", master.serial.nonce());
    let answer = call(lab.http, master, "DELETE", &path, "").await?;
    let answered = started.elapsed();
    ensure!(answer["revoked_children"] == count, "{answer}");
    let (mut last, mut gone) = (Duration::ZERO, Vec::new());
    while let Some(joined) = waiting.join_next().await {
        let (closed, node, share) = joined?;
        last = last.max(closed - started);
        gone.push((node, share));
    }
    Ok((last, answered))
}

/// One call of the API, proved by the master key.
async fn call(
    http: std::net::SocketAddr,
    master: &MasterToken,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Value> {
    let cluster = cluster()?;
    let request = Request { cluster: &cluster, method, path, body: body.as_bytes() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let proof = proof::sign_request(&master.seed, &master.serial, &request, now, random()?);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost:{}\r\nauthorization: {proof}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        http.port(),
        body.len(),
    );
    let (head, answer) = Connection::open(http).await?.exchange(head.as_bytes()).await?;
    ensure!(head.status < 300, "{}{}", head.text, String::from_utf8_lossy(&answer));
    Ok(serde_json::from_slice(&answer)?)
}

fn relay(lab: &Lab) -> Result<RelayAddress> {
    let addresses = lab.ready["p2p"].as_array().context("addresses")?;
    let addresses: Vec<&str> = addresses.iter().filter_map(Value::as_str).collect();
    let peer = addresses.first().and_then(|address| address.rsplit('/').next()).context("a peer id")?;
    Ok(RelayAddress::parse(peer, &addresses)?)
}

fn cluster() -> Result<Cluster> {
    Ok("localhost".parse()?)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
