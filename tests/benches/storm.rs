//! A fleet of nodes at one relay: how fast they come, what each costs while it rests, and how soon all are back after the relay
//! was killed.
//!
//! `cargo bench -p mytunnel-tests --bench storm [-- --nodes 5000 --visitors 8 --round-trip 60]`
//!
//! A relay with its coordinator runs as a process of its own; the complete nodes share this one, and the machine with it.
//! While the relay restarts, visitors ask for one name after the other: a request waits up to five seconds for its node. Whoever
//! cannot even connect, as nobody listens, asks again. With a round trip of so many milliseconds, nodes are that far away, each in
//! a network of its own (root, `ip` and `ethtool` are needed for that).

#![expect(clippy::print_stdout, reason = "the figures are its output")]

mod crowd;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mytunnel_keys::token::Token;
use mytunnel_node::ShareEvent;
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::usage;
use mytunnel_tests::wire::Connection;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Reasons that are printed, the most frequent.
const REASONS: usize = 12;

/// What visitors were told.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    answered: usize,
    /// The node was not back in five seconds.
    away: usize,
    other: usize,
    /// Nobody listened, or the connection broke before an answer: it was killed.
    unheard: usize,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: usize| {
        let text = arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
        text.map_or(Ok(default), |text| text.parse())
    };
    let (count, visitors, round_trip) =
        (value("--nodes", 5000)?, value("--visitors", 8)?, value("--round-trip", 0)?);
    let far = match round_trip {
        0 => None,
        _ => Some(lay(Duration::from_millis(u64::try_from(round_trip)?))?),
    };
    tokio::runtime::Runtime::new()?.block_on(storm(count, visitors, far))
}

#[cfg(target_os = "linux")]
fn lay(round_trip: Duration) -> Result<Ipv4Addr> {
    crowd::far::lay(round_trip)
}

#[cfg(not(target_os = "linux"))]
fn lay(_: Duration) -> Result<Ipv4Addr> {
    anyhow::bail!("a round trip is made of Linux's devices")
}

#[cfg(target_os = "linux")]
fn host(number: usize) -> Ipv4Addr {
    crowd::far::address(number)
}

#[cfg(not(target_os = "linux"))]
fn host(_: usize) -> Ipv4Addr {
    Ipv4Addr::LOCALHOST
}

async fn storm(count: usize, visitors: usize, far: Option<Ipv4Addr>) -> Result<()> {
    let (mut lab, origin) =
        (Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?, Origin::start().await?);
    let p2p = SocketAddr::from((far.unwrap_or(Ipv4Addr::LOCALHOST), 0)).to_string();
    lab.start_relay(&["127.0.0.1:0", "127.0.0.1:0", &p2p]).await?;
    let code = lab.ready["setup_code"].as_str().context("a setup code")?.to_owned();
    lab.own(&lab.server(), &code).await?;
    let project = lab.project("fleet").await?;
    let master = Arc::new(Token::parse(project["master_key"].as_str().context("master")?)?.into_master()?);
    let keys = crowd::keys(&lab, &master, count, |number| far.map(|_| host(number))).await?;
    let hosts: Arc<[String]> = keys.iter().map(crowd::Key::host).collect();
    let relay = lab.relay.as_ref().and_then(|relay| relay.id()).context("the relay runs")?;

    let (before, own, cpu) =
        (usage::resident(relay)?, usage::resident(std::process::id())?, usage::cpu(relay)?);
    let started = Instant::now();
    let members = crowd::nodes(keys, &origin.address.port().to_string()).await?;
    let took = started.elapsed();
    let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / count as f64 / 1024.0;
    println!(
        "{count} nodes came in {:.1} s: {:.0} a second, of which each took the relay {:.2} ms of CPU",
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
        (usage::cpu(relay)? - cpu).as_secs_f64() * 1000.0 / count as f64,
    );
    println!(
        "each at rest: {:.1} KiB at the relay, {:.1} KiB here",
        each(usage::resident(relay)?, before),
        each(usage::resident(std::process::id())?, own),
    );

    let mut returning = JoinSet::new();
    for mut member in members {
        returning.spawn(async move {
            let (mut is_lost, mut reasons) = (false, Vec::new());
            while let Some(event) = member.share.next().await {
                if let ShareEvent::Reconnecting { reason, .. } = event {
                    is_lost = true;
                    reasons.push((Instant::now(), reason));
                } else if is_lost && matches!(event, ShareEvent::Ready(_)) {
                    break;
                }
            }
            (Instant::now(), member, reasons)
        });
    }
    let over = Arc::new(AtomicBool::new(false));
    let mut asking = JoinSet::new();
    for number in 0..visitors {
        let (hosts, over, http) = (Arc::clone(&hosts), Arc::clone(&over), lab.http);
        asking.spawn(async move { ask(number, &hosts, http, &over).await });
    }
    let killed = Instant::now();
    lab.restart_relay().await?;
    let listening = Instant::now();
    let relay = lab.relay.as_ref().and_then(|relay| relay.id()).context("the relay runs")?;
    let here = usage::cpu(std::process::id())?;
    let (mut times, mut members) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let (mut reasons, mut last) = (BTreeMap::<String, usize>::new(), Vec::new());
    while let Some(back) = returning.join_next().await {
        let (at, member, told) = back?;
        times.push(at.saturating_duration_since(listening));
        members.push(member);
        for (_, reason) in &told {
            *reasons.entry(reason.clone()).or_default() += 1;
        }
        last = told;
    }
    over.store(true, Ordering::SeqCst);
    times.sort();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64();
    println!(
        "killed, and listening again after {:.2} s; from then on half were back after {:.2} s, 99 % after {:.2} s, all after {:.2} s",
        (listening - killed).as_secs_f64(),
        at(50),
        at(99),
        at(100),
    );
    println!(
        "CPU meanwhile: {:.1} s of the relay's, {:.1} s of the nodes' and the visitors'",
        usage::cpu(relay)?.as_secs_f64(),
        (usage::cpu(std::process::id())? - here).as_secs_f64(),
    );
    println!("why nodes tried again, each time they did:");
    let mut reasons: Vec<_> = reasons.into_iter().map(|(reason, times)| (times, reason)).collect();
    reasons.sort_unstable_by(|one, other| other.cmp(one));
    let others: usize = reasons.iter().skip(REASONS).map(|(times, _)| times).sum();
    for (times, reason) in reasons.iter().take(REASONS) {
        println!("  {times:6}  {reason}");
    }
    println!("  {others:6}  others");
    println!("of the last one:");
    for (at, reason) in last {
        println!("  {:5.2} s  {reason}", at.saturating_duration_since(listening).as_secs_f64());
    }
    let mut told = Told::default();
    while let Some(one) = asking.join_next().await {
        let one = one?;
        told.answered += one.answered;
        told.away += one.away;
        told.other += one.other;
        told.unheard += one.unheard;
    }
    println!("visitors meanwhile: {told:?}");
    Ok(())
}

/// Asks for one name after the other until it is over.
async fn ask(number: usize, hosts: &[String], http: SocketAddr, over: &AtomicBool) -> Told {
    let (mut told, mut at) = (Told::default(), number * 7919);
    while !over.load(Ordering::SeqCst) {
        at = (at + 104_729) % hosts.len();
        let request = format!("GET /1k HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", hosts[at]);
        let answer = async { Connection::open(http).await?.exchange(request.as_bytes()).await };
        match answer.await {
            Ok((head, _)) if head.status == 200 => told.answered += 1,
            Ok((head, _)) if head.status == 503 => told.away += 1,
            Ok(_) => told.other += 1,
            Err(_) => {
                told.unheard += 1;
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    told
}
