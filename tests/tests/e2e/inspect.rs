//! What a share's owner sees of its requests.

use anyhow::{Context, Result};
use mytunnel_tests::origin::Origin;
use serde_json::json;

use crate::lab;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_is_one_line_without_secrets() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let port = origin.address.port().to_string();
    let mut node = lab.spawn(&["share", &port, "--name", "lines", "--requests", "--json"])?;
    node.event("ready").await?;
    lab.get("lines", "/head?password=hunter2&x=1").await?;
    lab.get("lines", "/bytes/70000").await?;

    let seen = [node.event("request").await?, node.event("request").await?];
    let keys = ["method", "path", "status", "bytes_in"].map(|key| seen[0][key].clone());
    assert_eq!(keys, [json!("GET"), json!("/head?password=***&x=1"), json!(404), json!(0)]);
    assert!(seen[0]["ms"].as_f64().context("a number")? > 0.0);
    assert_eq!((&seen[1]["path"], &seen[1]["bytes_out"]), (&json!("/bytes/70000"), &json!(70_000)));
    Ok(())
}
