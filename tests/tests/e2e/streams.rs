//! Bodies, events and upgrades: everything passes at once, in both directions, and never falsely whole.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::load::{self, Work};
use mytunnel_tests::origin::{Origin, nanoseconds};
use mytunnel_tests::stalls::Stalls;
use mytunnel_tests::usage;
use mytunnel_tests::wire::Connection;

use crate::lab;

/// An event as a visitor got it.
#[derive(Debug, Clone, Copy)]
struct Event {
    sent: u128,
    arrived: u128,
}

/// Every event of a stream by its beat.
async fn events(address: SocketAddr, host: &str, path: &str) -> Result<BTreeMap<u128, Event>> {
    let mut visitor = Connection::open(address).await?;
    visitor.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await?;
    let head = visitor.head().await?;
    let (mut seen, mut text) = (BTreeMap::new(), String::new());
    visitor
        .body(&head, |piece| {
            let arrived = nanoseconds();
            text.push_str(&String::from_utf8_lossy(piece));
            while let Some((event, rest)) = text.split_once("\n\n") {
                let number = |field: &str| {
                    event.lines().find_map(|line| line.strip_prefix(field)?.trim().parse::<u128>().ok())
                };
                if let (Some(beat), Some(sent)) = (number("id:"), number("data:")) {
                    seen.insert(beat, Event { sent, arrived });
                }
                text = rest.to_owned();
            }
        })
        .await?;
    Ok(seen)
}

/// A machine that lets a process stand still for a moment spoils a stream, but not one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_arrives_within_50_ms_of_being_sent() -> Result<()> {
    const ROUNDS: usize = 3;
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = lab.node(&origin.address.port().to_string(), "events").await?;
    for round in 1..=ROUNDS {
        match late(&lab, &origin).await? {
            None => break,
            Some(late) => ensure!(round < ROUNDS, "{late}"),
        }
    }
    Ok(())
}

/// What came too late, if more than one event did. The same beats are read from the origin itself at the same time: what is
/// late there too is the machine's doing, and so is what it lets all of this process stand still for.
async fn late(lab: &Lab, origin: &Origin) -> Result<Option<String>> {
    const PATH: &str = "/sse/100/102";
    /// In nanoseconds.
    const BOUND: u128 = 50_000_000;
    let (host, stalls) = (lab.host("events"), Stalls::watch()?);
    let (tunnel, direct) =
        tokio::try_join!(events(lab.http, &host, PATH), events(origin.address, &host, PATH))?;
    assert_eq!((tunnel.len(), direct.len()), (102, 102));

    let (mut compared, mut late, mut worst) = (0, 0, 0);
    for (beat, event) in &tunnel {
        let Some(control) = direct.get(beat) else { continue };
        let since = control.arrived.max(event.sent);
        let behind = event.arrived.saturating_sub(since + stalls.between(since, event.arrived));
        (compared, worst) = (compared + 1, worst.max(behind));
        late += u32::from(behind >= BOUND);
        let Some(next) = tunnel.get(&(beat + 1)) else { continue };
        let busy = direct.get(&(beat + 1)).is_some_and(|next| control.arrived >= next.sent);
        let stood = stalls.between(event.sent, event.arrived);
        // An origin that stood still itself sends what it has missed at once.
        let paced = next.sent >= event.sent + BOUND;
        if paced && event.arrived >= next.sent + stood && !busy {
            return Ok(Some(format!("beat {beat} came with its successor")));
        }
    }
    if compared < 100 {
        return Ok(Some(format!("only {compared} of 102 beats lie in both streams")));
    }
    let told = || {
        let worst = worst / 1_000_000;
        format!("{late} of {compared} events were 50 ms behind those of the origin, the worst {worst} ms")
    };
    Ok((late > 1).then(told))
}

#[tokio::test]
async fn a_web_socket_echoes() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = lab.node(&origin.address.port().to_string(), "socket").await?;
    let outcome =
        load::run(Work::WebSocket, lab.http, &lab.host("socket"), 4, Duration::from_millis(200)).await;
    assert_eq!(outcome.failed, 0, "{:?}", outcome.first_failure);
    assert!(outcome.count > 4);
    Ok(())
}

#[tokio::test]
async fn a_body_cut_short_at_the_origin_is_cut_short_for_the_visitor() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = lab.node(&origin.address.port().to_string(), "cut").await?;
    assert!(lab.get("cut", "/cut/100000").await.is_err(), "a truncated body must not look whole");
    let (head, _) = lab.get("cut", "/garbage").await?;
    assert_eq!(head.status, 502, "{}", head.text);
    assert_eq!(lab.get("cut", "/1k").await?.0.status, 200, "the tunnel stays");
    Ok(())
}

#[tokio::test]
async fn a_gigabyte_each_way_leaves_memory_flat() -> Result<()> {
    const GIGABYTE: u64 = 1 << 30;
    const GROWTH: u64 = 64 << 20;
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (node, _) = lab.node(&origin.address.port().to_string(), "big").await?;
    let relay = lab.relay.as_ref().and_then(|relay| relay.id()).context("the relay runs")?;
    let node = node.id().context("the node runs")?;
    let before = [usage::resident_peak(relay)?, usage::resident_peak(node)?];

    let mut visitor = Connection::open(lab.http).await?;
    let host = lab.host("big");
    visitor.send(format!("GET /bytes/{GIGABYTE} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await?;
    let head = visitor.head().await?;
    let mut received = 0;
    visitor.body(&head, |piece| received += piece.len() as u64).await?;
    assert_eq!(received, GIGABYTE);

    visitor
        .send(
            format!("POST /upload HTTP/1.1\r\nhost: {host}\r\ncontent-length: {GIGABYTE}\r\n\r\n").as_bytes(),
        )
        .await?;
    let piece = vec![7; 1 << 20];
    for _ in 0..GIGABYTE >> 20 {
        visitor.send(&piece).await?;
    }
    let head = visitor.head().await?;
    let mut answer = Vec::new();
    visitor.body(&head, |piece| answer.extend_from_slice(piece)).await?;
    assert_eq!(String::from_utf8(answer)?, GIGABYTE.to_string());

    for (process, before) in [relay, node].into_iter().zip(before) {
        let grown = usage::resident_peak(process)?.saturating_sub(before);
        assert!(grown < GROWTH, "{} MiB more at process {process}", grown >> 20);
    }
    Ok(())
}

#[tokio::test]
async fn stalled_downloads_hold_nobody_up_and_cost_little_however_large_they_are() -> Result<()> {
    const STALLED: u64 = 200;
    const EACH: u64 = 512 << 10;
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (node, _) = lab.node(&origin.address.port().to_string(), "slow").await?;
    let relay = lab.relay.as_ref().and_then(|relay| relay.id()).context("the relay runs")?;
    let processes = [relay, node.id().context("the node runs")?];
    let held = || processes.map(|process| usage::resident(process).unwrap_or(u64::MAX));
    let before = held();
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut visitor = Connection::open(lab.http).await?;
        let request = format!("GET /bytes/{} HTTP/1.1\r\nhost: {}\r\n\r\n", 1_u64 << 30, lab.host("slow"));
        visitor.send(request.as_bytes()).await?;
        assert_eq!(visitor.head().await?.status, 200);
        stalled.push(visitor);
    }
    let served = || async {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(2) {
            let other = tokio::time::timeout(Duration::from_secs(2), lab.get("slow", "/1k"));
            assert_eq!(other.await.context("served in 2 s")??.0.status, 200);
        }
        anyhow::Ok(())
    };
    served().await?;
    let full = held();
    for ((process, before), full) in processes.into_iter().zip(before).zip(full) {
        let each = full.saturating_sub(before) / STALLED;
        assert!(each < EACH, "{} KiB for each stalled visitor at process {process}", each >> 10);
    }
    served().await?;
    served().await?;
    for ((process, full), later) in processes.into_iter().zip(full).zip(held()) {
        let more = later.saturating_sub(full);
        assert!(more < 16 << 20, "{} KiB more at process {process} though nothing moved", more >> 10);
    }
    Ok(())
}
