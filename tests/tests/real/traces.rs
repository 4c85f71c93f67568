//! Traces of requests, read by OpenTelemetry's own definition of OTLP.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::Running;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{lab, output};

const COLLECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/collector.py");

/// A collector, and its address.
async fn collector() -> Result<(Running, String)> {
    let python =
        std::env::var("MYTUNNEL_TEST_OTLP").context("set MYTUNNEL_TEST_OTLP to what .ci/otlp prints")?;
    let mut collector = Running::start(Path::new(&python), [COLLECTOR], &[], Path::new("."))?;
    let port = collector.line().await?;
    Ok((collector, format!("http://127.0.0.1:{port}")))
}

/// The same lab with its relay started anew with traces.
async fn traced(collector: &str, settings: &str) -> Result<Lab> {
    let mut lab = lab().await?;
    let file = lab.path("relay.toml");
    std::fs::write(&file, format!("otlp = '{collector}'\n{settings}"))?;
    let addresses = lab.listen_addresses()?;
    lab.kill_relay().await?;
    lab.start_relay_with(&addresses, &["--config", file.to_str().context("a path in UTF-8")?]).await?;
    Ok(lab)
}

async fn get(lab: &Lab, name: &str, path: &str, more: &[&str]) -> Result<String> {
    let host = format!("host: {}", lab.host(name));
    let url = format!("http://{}{path}", lab.http);
    output(Command::new("curl").args(["-sS", "-H", &host]).args(more).arg(url)).await
}

/// The next span of a request for a tunnel: those for the console have theirs, too.
async fn span(collector: &mut Running) -> Result<Value> {
    loop {
        let span: Value = serde_json::from_str(&collector.line().await?)?;
        let path = span["attributes"]["url.path"].as_str();
        if !path.is_some_and(|path| path.starts_with("/api/")) {
            return Ok(span);
        }
    }
}

const SENDER: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_request_has_a_span_of_the_relay_and_in_it_one_of_the_node() -> Result<()> {
    let (mut collector, address) = collector().await?;
    let lab = traced(&address, "trusted_proxies = ['127.0.0.1']\n").await?;
    let origin = Origin::start().await?;
    let (_node, ready) = lab.node(&origin.address.port().to_string(), "shop").await?;

    let seen = get(&lab, "shop", "/head?secret=1", &["-H", SENDER, "-A", "tester"]).await?;
    let (first, second) = (span(&mut collector).await?, span(&mut collector).await?);
    let (node, request) = if first["name"] == "node" { (first, second) } else { (second, first) };
    ensure!(request["service"] == "mytunnel-relay" && request["name"] == "GET", "{request}");
    // Server and client, as OTLP counts the kinds.
    ensure!((&request["kind"], &node["kind"]) == (&json!(2), &json!(3)), "{request} {node}");
    ensure!(request["trace"] == "0af7651916cd43dd8448eb211c80319c", "the sender's trace goes on: {request}");
    ensure!(request["parent"] == "b7ad6b7169203331" && node["parent"] == request["span"], "{request} {node}");
    let told = format!(
        "traceparent: 00-{}-{}-01",
        node["trace"].as_str().unwrap_or(""),
        node["span"].as_str().unwrap_or("")
    );
    ensure!(
        seen.to_lowercase().matches("traceparent").count() == 1 && seen.to_lowercase().contains(&told),
        "{told}: {seen}"
    );
    let about = &request["attributes"];
    for (name, value) in [
        ("http.request.method", json!("GET")),
        ("url.path", json!("/head")),
        ("http.response.status_code", json!(200)),
        ("user_agent.original", json!("tester")),
        ("client.address", json!("127.0.0.1")),
        ("mytunnel.tunnel.name", json!("shop")),
        ("mytunnel.tunnel.id", ready["tunnel_id"].clone()),
    ] {
        ensure!(about[name] == value, "{name}: {request}");
    }
    ensure!(!request.to_string().contains("secret"), "{request}");
    ensure!(request["took"].as_u64() >= node["took"].as_u64(), "{request} {node}");
    Ok(())
}

#[tokio::test]
async fn a_strangers_trace_is_theirs_and_reaches_the_server_as_it_is() -> Result<()> {
    let (mut collector, address) = collector().await?;
    let lab = traced(&address, "").await?;
    let origin = Origin::start().await?;
    let (_node, _) = lab.node(&origin.address.port().to_string(), "shop").await?;
    let seen = get(&lab, "shop", "/head", &["-H", SENDER]).await?;
    ensure!(seen.contains("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), "{seen}");
    for _ in 0..2 {
        let span = span(&mut collector).await?;
        ensure!(span["trace"] != "0af7651916cd43dd8448eb211c80319c", "{span}");
    }
    Ok(())
}

#[tokio::test]
async fn what_fails_is_an_error_and_a_share_of_requests_is_a_share() -> Result<()> {
    let (mut collector, address) = collector().await?;
    let mut lab = traced(&address, "trace_share = 0.5\n").await?;
    let (_node, _) = lab.node("9", "gone").await?;
    // Whatever a stranger says of that.
    for _ in 0..4 {
        get(&lab, "gone", "/", &["-H", SENDER]).await?;
    }
    let relay = lab.relay.take().context("the relay runs")?;
    relay.terminate().await?.success()?;
    let mut requests = 0;
    for _ in 0..4 {
        let span = span(&mut collector).await?;
        if span["name"] == "GET" {
            requests += 1;
            // 2 is an error.
            ensure!(
                span["status"] == 2 && span["attributes"]["error.type"] == "TARGET_UNREACHABLE",
                "{span}"
            );
        }
    }
    ensure!(requests == 2, "{requests}");
    Ok(())
}
