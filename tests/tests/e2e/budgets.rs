//! What keys may cost: used up, frozen, raised; and what a crash loses of the counts.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::{PATIENCE, Running};
use mytunnel_tests::wire::Connection;
use serde_json::Value;

use crate::lab;

/// At 10,000 cents a GiB, what goes through for a cent.
pub(crate) const PER_CENT: u64 = (1 << 30) / 10_000;

/// A deployment in which a MiB costs about ten cents, and nothing else anything.
async fn dear() -> Result<Lab> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let config = lab.path("relay.toml");
    std::fs::write(&config, "[prices]\ngib = 10000\ntunnel_hour = 0\n")?;
    let config = config.to_str().context("a path in UTF-8")?.to_owned();
    lab.start_relay_with(&["127.0.0.1:0"; 3], &["--config", &config]).await?;
    let code = lab.ready["setup_code"].as_str().context("a setup code")?.to_owned();
    let server = lab.server();
    lab.own(&server, &code).await?;
    Ok(lab)
}

pub(crate) async fn budget(lab: &Lab, cents: &str) -> Result<Value> {
    let answer: Value =
        lab.run(&["keys", "budget", &lab.master, "--cents", cents, "--json"]).await?.success()?.json()?;
    ensure!(answer["relays"][0]["applied"] == true, "{answer}");
    Ok(answer)
}

/// What the master key has cost, and what it may.
pub(crate) async fn master(lab: &Lab) -> Result<(u64, Option<u64>)> {
    let keys: Value = lab.run(&["keys", "list", "--json"]).await?.success()?.json()?;
    let keys = keys["keys"].as_array().context("keys")?;
    let row = keys.iter().find(|key| key["kind"] == "master").context("the master key")?;
    Ok((row["spent_cents"].as_u64().context("cents")?, row["budget_cents"].as_u64()))
}

/// A field of all days together.
fn total(usage: &Value, field: &str) -> Result<u64> {
    let points = usage["points"].as_array().context("points")?;
    Ok(points.iter().filter_map(|point| point[field].as_u64()).sum())
}

pub(crate) async fn closed(node: &mut Running) -> Result<Value> {
    loop {
        let value: Value = serde_json::from_str(&node.line().await?)?;
        if value["event"] == "closed" || value["event"] == "error" {
            return Ok(value);
        }
    }
}

/// Shares, and must be refused because there is no money.
pub(crate) async fn refused(lab: &Lab, target: &str) -> Result<()> {
    let child = lab.mint(&[]).await?;
    let token = child["token"].as_str().context("a token")?;
    let arguments = ["share", target, "--name", "other", "--json"];
    let ended = lab.run_with(&arguments, &[("MYTUNNEL_AUTH_TOKEN", token)]).await?;
    let last = ended.stdout.lines().last().context("a last line")?;
    let error: Value = serde_json::from_str(last)?;
    ensure!(error["code"] == "BUDGET_EXCEEDED" && ended.code == Some(5), "{error} {:?}", ended.code);
    Ok(())
}

#[tokio::test]
async fn a_budget_ends_a_download_and_a_raise_lets_it_go_on() -> Result<()> {
    let (lab, origin) = (dear().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    budget(&lab, "100").await?;
    let (mut node, _) = lab.node(&target, "web").await?;
    assert_eq!(lab.get("web", "/1k").await?.0.status, 200);

    let mut download = Connection::open(lab.http).await?;
    download
        .send(format!("GET /bytes/400000000 HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("web")).as_bytes())
        .await?;
    let head = download.head().await?;
    let (mut taken, mut last) = (0, Instant::now());
    let cut = download
        .body(&head, |bytes| {
            taken += bytes.len() as u64;
            last = Instant::now();
        })
        .await;
    assert!(cut.is_err(), "it is cut");
    assert!(last.elapsed() < Duration::from_secs(5), "{:?} after the last byte", last.elapsed());
    // Buffers on the way out were counted and are cut with the stream.
    assert!(taken <= 100 * PER_CENT + (1 << 20), "{taken}");
    assert!(taken >= 60 * PER_CENT, "most of the budget can be used: {taken}");
    assert_eq!(closed(&mut node).await?["code"], "BUDGET_EXCEEDED");
    assert_eq!(node.ended().await?.code, Some(5));

    refused(&lab, &target).await?;
    let (spent, limit) = master(&lab).await?;
    assert!((99..=110).contains(&spent), "{spent}");
    assert_eq!(limit, Some(100));
    let (page, _) = lab.get("web", "/1k").await?;
    assert_eq!(page.status, 404, "{}", page.text);

    budget(&lab, "200").await?;
    let (_node, _) = lab.node(&target, "web").await?;
    assert_eq!(lab.get("web", "/1k").await?.0.status, 200);
    let usage: Value = lab.run(&["usage", "--json"]).await?.success()?.json()?;
    assert!(usage["total_cents"].as_f64().context("cents")? > 99.0, "{usage}");
    assert!(total(&usage, "requests")? >= 2, "{usage}");
    let page = lab.run(&["usage"]).await?.success()?.stdout;
    assert!(page.contains('█') && page.contains("Total $"), "{page}");
    Ok(())
}

#[tokio::test]
async fn a_freeze_cuts_at_once_and_a_lifted_limit_lets_in_again() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let (mut node, _) = lab.node(&target, "web").await?;
    let mut stream = Connection::open(lab.http).await?;
    stream.send(format!("GET /sse/20/1000 HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("web")).as_bytes()).await?;
    let head = stream.head().await?;

    let frozen = budget(&lab, "0").await?;
    assert_eq!(frozen["budget_cents"], 0);
    assert!(frozen["relays"][0]["ms"].as_u64().context("ms")? < 2000, "{frozen}");
    assert_eq!(closed(&mut node).await?["code"], "BUDGET_EXCEEDED");
    assert!(stream.body(&head, |_| ()).await.is_err(), "a stream in flight is cut");
    assert_eq!(node.ended().await?.code, Some(5));
    refused(&lab, &target).await?;

    assert_eq!(budget(&lab, "none").await?["budget_cents"], Value::Null);
    let (_node, _) = lab.node(&target, "web").await?;
    assert_eq!(lab.get("web", "/1k").await?.0.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_child_has_its_own_budget_beside_its_masters() -> Result<()> {
    let (lab, origin) = (dear().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let narrow = lab.mint(&["--budget", "10"]).await?;
    let (mut node, _) =
        lab.node_with(narrow["token"].as_str().context("a token")?, &target, "narrow").await?;
    let (_wide, _) = lab.node(&target, "wide").await?;
    let mut download = Connection::open(lab.http).await?;
    download
        .send(format!("GET /bytes/400000000 HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("narrow")).as_bytes())
        .await?;
    let head = download.head().await?;
    assert!(download.body(&head, |_| ()).await.is_err());
    assert_eq!(closed(&mut node).await?["code"], "BUDGET_EXCEEDED");
    assert_eq!(lab.get("wide", "/1k").await?.0.status, 200, "its sibling goes on");
    let (spent, limit) = master(&lab).await?;
    assert!((9..=20).contains(&spent) && limit.is_none(), "{spent}");
    Ok(())
}

#[tokio::test]
async fn a_relay_that_is_killed_loses_a_second_of_its_counts_at_most() -> Result<()> {
    let (mut lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = lab.node(&origin.address.port().to_string(), "web").await?;
    let mut stream = Connection::open(lab.http).await?;
    stream
        .send(format!("GET /sse/5/100000 HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("web")).as_bytes())
        .await?;
    let head = stream.head().await?;
    let (begun, mut seen) = (Instant::now(), Vec::new());
    let reading = stream.body(&head, |bytes| seen.push((begun.elapsed(), bytes.len() as u64)));
    // It is to be killed in the middle of the stream.
    assert!(tokio::time::timeout(Duration::from_secs(6), reading).await.is_err());
    let killed = begun.elapsed();
    lab.restart_relay().await?;

    let counted = tokio::time::timeout(PATIENCE, async {
        let usage: Value = lab.run(&["usage", "--json"]).await?.success()?.json()?;
        total(&usage, "bytes_out")
    })
    .await??;
    // One second between two readings, and as long for a loaded machine to bring the last one home.
    let safe: u64 =
        seen.iter().filter(|(at, _)| *at + Duration::from_secs(2) < killed).map(|(_, bytes)| bytes).sum();
    let all: u64 = seen.iter().map(|(_, bytes)| bytes).sum();
    assert!(safe > 0 && counted >= safe, "{counted} of {safe} of {all}");
    Ok(())
}
