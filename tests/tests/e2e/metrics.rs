//! What a relay tells a scraper: of one that joined a coordinator, at an address of its own.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::PATIENCE;
use mytunnel_tests::wire::Connection;
use tokio::time::timeout;

use crate::apart::{ANY, owned};

/// Samples by their names, labels and all.
async fn scrape(at: SocketAddr) -> Result<HashMap<String, f64>> {
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {at}\r\n\r\n");
    let (head, text) = Connection::open(at).await?.exchange(request.as_bytes()).await?;
    ensure!(head.status == 200, "{}", head.text);
    ensure!(
        head.field("content-type")
            .is_some_and(|form| form.starts_with("application/openmetrics-text; version=1.0.0"))
    );
    let text = String::from_utf8(text)?;
    ensure!(text.ends_with("# EOF\n"), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

/// Scrapes until this holds.
async fn until(
    at: SocketAddr,
    holds: impl Fn(&HashMap<String, f64>) -> bool,
) -> Result<HashMap<String, f64>> {
    let mut last = HashMap::new();
    let held = async {
        loop {
            last = scrape(at).await?;
            if holds(&last) {
                return anyhow::Ok(());
            }
        }
    };
    let outcome = timeout(PATIENCE, held).await;
    outcome.with_context(|| format!("{last:?}"))??;
    Ok(last)
}

fn is(samples: &HashMap<String, f64>, name: &str, wanted: f64) -> bool {
    samples.get(name).is_some_and(|value| (value - wanted).abs() < 0.5)
}

async fn joined() -> Result<(Lab, mytunnel_tests::process::Running, SocketAddr)> {
    let (mut lab, coordinator, url, join) = owned().await?;
    let more = ["--coordinator", &url, "--join", &join, "--metrics", "127.0.0.1:0"];
    lab.start_relay_with(&ANY, &more).await?;
    let at = lab.ready["metrics"].as_str().context("where its metrics are")?.parse()?;
    Ok((lab, coordinator, at))
}

#[tokio::test]
async fn a_relay_that_joined_a_coordinator_tells_what_it_does_and_is_at_rest_afterwards() -> Result<()> {
    let (lab, _coordinator, at) = joined().await?;
    let origin = Origin::start().await?;
    let (_node, _) = lab.node(&origin.address.port().to_string(), "seen").await?;
    let calm = until(at, |now| is(now, "mytunnel_relay_tunnels{kind=\"http\"}", 1.0)).await?;
    ensure!(
        is(&calm, "mytunnel_relay_nodes", 1.0) && calm["mytunnel_relay_limit{of=\"nodes\"}"] > 1.0,
        "{calm:?}"
    );
    let open = "mytunnel_visitors{of=\"connections\"}";
    let at_rest = calm[open];

    // Visitors in the middle of an upload are there at once, and gone when it is done.
    let mut uploading = Vec::new();
    for _ in 0..20 {
        let mut visitor = Connection::open(lab.http).await?;
        let head = format!(
            "POST /upload HTTP/1.1\r\nhost: {}\r\ncontent-length: 3\r\nconnection: close\r\n\r\n",
            lab.host("seen")
        );
        visitor.send(head.as_bytes()).await?;
        uploading.push(visitor);
    }
    until(at, |now| is(now, "mytunnel_visitors{of=\"requests\"}", 20.0)).await?;
    for mut visitor in uploading {
        let (head, body) = visitor.exchange(b"abc").await?;
        ensure!(head.status == 200 && body == b"3", "{}", head.text);
    }
    until(at, |now| {
        is(now, "mytunnel_visitors{of=\"requests\"}", 0.0)
            && now.get(open).is_some_and(|open| *open <= at_rest)
    })
    .await?;

    for _ in 0..10 {
        ensure!(lab.get("seen", "/1k").await?.0.status == 200);
    }
    ensure!(lab.get("nobody", "/").await?.0.status == 404);
    let cause = "mytunnel_relay_refusals_total{cause=\"NOT_FOUND\"}";
    let told = until(at, |now| {
        is(now, cause, 1.0) && now.get("mytunnel_relay_requests_total").is_some_and(|count| *count >= 30.0)
    })
    .await?;
    ensure!(told["mytunnel_relay_bytes_total{to=\"visitors\"}"] >= 10.0 * 1024.0, "{told:?}");
    for waits in told.keys().filter(|name| name.ends_with("_waiting") && !name.contains("lanes")) {
        ensure!(is(&told, waits, 0.0), "{waits}: {told:?}");
    }
    for lost in [
        "mytunnel_relay_turned_away_total",
        "mytunnel_relay_access_log_lines_lost_total",
        "mytunnel_relay_expelled",
    ] {
        ensure!(is(&told, lost, 0.0), "{lost}: {told:?}");
    }
    Ok(())
}

#[tokio::test]
async fn no_page_of_another_host_reads_the_metrics_and_no_other_path_is_there() -> Result<()> {
    let (_lab, _coordinator, at) = joined().await?;
    for (request, status) in [
        (format!("GET /metrics HTTP/1.1\r\nhost: evil.example:{}\r\n\r\n", at.port()), 403),
        ("GET /metrics HTTP/1.1\r\nhost: 192.0.2.1\r\n\r\n".to_owned(), 403),
        ("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 404),
        ("POST /metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n".to_owned(), 405),
        ("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 200),
    ] {
        let (head, _) = Connection::open(at).await?.exchange(request.as_bytes()).await?;
        ensure!(head.status == status, "{request}: {}", head.text);
    }
    Ok(())
}
