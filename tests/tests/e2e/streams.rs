//! Bodies, events and upgrades: everything passes at once, in both directions, and never falsely whole.

use std::time::Duration;

use anyhow::{Context, Result};
use mytunnel_tests::load::{self, Work};
use mytunnel_tests::origin::{Origin, nanoseconds};
use mytunnel_tests::usage;
use mytunnel_tests::wire::Connection;

use crate::lab;

#[tokio::test]
async fn events_arrive_within_50_ms_of_being_sent() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = lab.node(&origin.address.port().to_string(), "events").await?;
    let mut visitor = Connection::open(lab.http).await?;
    visitor
        .send(format!("GET /sse/100/20 HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("events")).as_bytes())
        .await?;
    let head = visitor.head().await?;
    let mut delays = Vec::new();
    visitor
        .body(&head, |piece| {
            let now = nanoseconds();
            for line in String::from_utf8_lossy(piece).lines() {
                if let Some(sent) = line.strip_prefix("data: ").and_then(|text| text.parse::<u128>().ok()) {
                    delays.push(Duration::from_nanos(u64::try_from(now - sent).unwrap_or(u64::MAX)));
                }
            }
        })
        .await?;
    assert_eq!(delays.len(), 20, "each event in a piece of its own");
    delays.sort();
    assert!(delays[delays.len() / 2] < Duration::from_millis(50), "median {:?}", delays[delays.len() / 2]);
    Ok(())
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
async fn slow_downloads_hold_nobody_else_up() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = lab.node(&origin.address.port().to_string(), "slow").await?;
    let relay = lab.relay.as_ref().and_then(|relay| relay.id()).context("the relay runs")?;
    let before = usage::resident_peak(relay)?;
    let mut stalled = Vec::new();
    for _ in 0..200 {
        let mut visitor = Connection::open(lab.http).await?;
        visitor
            .send(format!("GET /bytes/50000000 HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("slow")).as_bytes())
            .await?;
        assert_eq!(visitor.head().await?.status, 200);
        stalled.push(visitor);
    }
    let other = tokio::time::timeout(Duration::from_secs(2), lab.get("slow", "/1k"))
        .await
        .context("served in 2 s")??;
    assert_eq!(other.0.status, 200);
    let grown = usage::resident_peak(relay)?.saturating_sub(before);
    assert!(grown < 256 << 20, "{} MiB for 200 stalled visitors", grown >> 20);
    Ok(())
}
