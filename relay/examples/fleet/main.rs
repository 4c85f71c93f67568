//! What a fleet of nodes costs a relay, and how soon all of it is told of a cascade.
//!
//! ```text
//! cargo run --release -p mytunnel-relay --example fleet -- idle 1000
//! cargo run --release -p mytunnel-relay --example fleet -- cascade 1000 50
//! ```
//!
//! The relay runs in a process of its own. `idle` prints its resident memory per registered, idle node. `cascade`
//! registers that many tunnels of one master key and ten of another, revokes the first, and measures from the order
//! until the last node has read that its tunnel is closed, over so many rounds.

#[path = "../../src/testing.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "made for the unit tests, which use more of it"
)]
mod testing;

use std::{
    fs,
    net::Ipv4Addr,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use libp2p::Multiaddr;
use mytunnel_keys::{
    certificate::{self, Claims},
    feed::Change,
    id::Serial,
    secret::Seed,
    wire::ToNode,
};
use mytunnel_relay::{Authority, AuthorityError, Config, FeedLink, Relay};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, stdin},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinSet,
};

use testing::{
    Credential, child_claims,
    coordinator::{TestCoordinator, unix_now},
    issuer,
    node::Node,
    relay_claims, trust_at,
};

/// Nodes that connect at the same time.
const ABREAST: usize = 64;

/// Tunnels of another master key, which a cascade must leave alone.
const OTHERS: usize = 10;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args.get(at).map(|arg| arg.parse::<usize>()).transpose();
    match args.first().map(String::as_str) {
        Some("relay") => relay().await,
        Some("idle") => idle(number(1)?.unwrap_or(1000)).await,
        Some("cascade") => cascade(number(1)?.unwrap_or(1000), number(2)?.unwrap_or(50)).await,
        _ => bail!("idle NODES | cascade NODES ROUNDS"),
    }
}

/// The relay's process: revokes the tree of each number that it is told.
async fn relay() -> Result<()> {
    let (coordinator, reports) = TestCoordinator::new();
    let now = unix_now();
    let own = Credential::issue(150, relay_claims(150, now));
    let mut config = Config::new(own.seed, own.certificate, trust_at(now), Arc::new(coordinator.clone()));
    config.p2p = vec![(Ipv4Addr::LOCALHOST, 0).into()];
    let relay = Relay::start(config).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(reports.drain());
    let tcp =
        relay.addrs().p2p.iter().find(|addr| addr.to_string().contains("/tcp/")).context("no address")?;
    say(&tcp.to_string()).await?;
    let mut orders = BufReader::new(stdin()).lines();
    let mut heartbeat = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            order = orders.next_line() => match order? {
                Some(parent) => coordinator.change(Change::RevokeTree { serial: serial(parent.parse()?, 0), until: now + 90_000 }),
                None => break,
            },
            _ = heartbeat.tick() => coordinator.heartbeat(),
        }
    }
    relay.shutdown().await;
    Ok(())
}

async fn say(line: &str) -> Result<()> {
    let mut out = tokio::io::stdout();
    out.write_all(format!("{line}\n").as_bytes()).await?;
    Ok(out.flush().await?)
}

/// The relay's process, seen from here.
struct Remote {
    child: Child,
    orders: ChildStdin,
    addr: Multiaddr,
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Remote {
    async fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("relay")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().context("no stdin")?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let addr = lines.next_line().await?.context("the relay did not start")?.parse()?;
        Ok(Self { child, orders, addr, _lines: lines })
    }

    async fn revoke(&mut self, parent: u32) -> Result<()> {
        self.orders.write_all(format!("{parent}\n").as_bytes()).await?;
        Ok(self.orders.flush().await?)
    }

    /// Resident memory in KiB.
    fn resident(&self) -> Result<usize> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id().context("the relay is gone")?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Connects and registers so many tunnels of the master key `parent`.
    async fn register(&self, parent: u32, count: usize) -> Result<Vec<Node>> {
        let mut nodes = Vec::with_capacity(count);
        let mut connecting = JoinSet::new();
        for number in 0..count {
            if connecting.len() >= ABREAST {
                nodes.extend(connecting.join_next().await.transpose()?);
            }
            let (addr, number) = (self.addr.clone(), u32::try_from(number)?);
            connecting.spawn(async move {
                let name = format!("n{parent}-{number}");
                Node::serve(&addr, &child(parent, number), &name, 1).await
            });
        }
        nodes.extend(connecting.join_all().await);
        Ok(nodes)
    }
}

fn serial(parent: u32, number: u32) -> Serial {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&parent.to_be_bytes());
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    Serial::from_bytes(bytes)
}

/// The child of this number of the master key of that one.
fn child(parent: u32, number: u32) -> Credential {
    let serial = serial(parent, number + 1);
    let mut bytes = [7; 32];
    bytes[..16].copy_from_slice(serial.as_bytes());
    let seed = Seed::from_bytes(bytes);
    let hosts = vec!["*".parse().expect("a pattern")];
    let parent = Some(self::serial(parent, 0));
    let claims = Claims { serial, subject: seed.public(), parent, hosts, ..child_claims(1, unix_now()) };
    let certificate = certificate::issue(&claims, &issuer()).expect("good claims");
    Credential { seed, certificate }
}

async fn idle(count: usize) -> Result<()> {
    let remote = Remote::start().await?;
    // What is allocated once, by the first nodes, does not count.
    let _first = remote.register(1, OTHERS).await?;
    let before = remote.resident()?;
    let nodes = remote.register(2, count).await?;
    let after = remote.resident()?;
    let each = (after - before) as f64 / nodes.len() as f64;
    say(&format!("{count} idle nodes: {before} KiB before, {after} KiB after, {each:.1} KiB each")).await
}

async fn cascade(count: usize, rounds: usize) -> Result<()> {
    let mut remote = Remote::start().await?;
    let mut others = remote.register(1, OTHERS).await?;
    let mut worst = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let parent = u32::try_from(round)? + 2;
        let nodes = remote.register(parent, count).await?;
        let mut waiting = JoinSet::new();
        for mut node in nodes {
            waiting.spawn(async move {
                let heard = node.hear().await;
                (heard, Instant::now(), node)
            });
        }
        let ordered = Instant::now();
        remote.revoke(parent).await?;
        let mut told = Vec::with_capacity(count);
        for (heard, at, _node) in waiting.join_all().await {
            ensure!(matches!(heard, Some(ToNode::Closed { .. })), "a node heard {heard:?}");
            told.push(at - ordered);
        }
        told.sort();
        worst.push(told[count - 1]);
        say(&format!("round {round}: median {:?}, last {:?}", told[count / 2], told[count - 1])).await?;
    }
    for node in &mut others {
        ensure!(node.register("still-here", 1).await.is_some(), "an untouched node was cut off");
    }
    worst.sort();
    let at = |share: usize| worst[(rounds * share / 100).min(rounds - 1)];
    say(&format!("last of {count} told: median {:?}, p99 {:?} over {rounds} rounds", at(50), at(99))).await
}
