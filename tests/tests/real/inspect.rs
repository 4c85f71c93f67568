//! The page of requests in a real browser: what a developer does there with a webhook that came in.

use anyhow::{Context, Result, ensure};
use mytunnel_tests::origin::Origin;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::dashboard::drive_in;
use crate::{lab, output};

/// The signature of GitHub's documentation, and what it is of.
const SIGNED: &str =
    "x-hub-signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
const BODY: &str = "Hello, World!";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_seen_live_found_replayed_edited_and_checked() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let port = origin.address.port().to_string();
    let mut node =
        lab.spawn(&["share", &port, "--name", "hook", "--inspect", "127.0.0.1:0", "--requests", "--json"])?;
    let ready = node.event("ready").await?;
    let url = ready["url"].as_str().context("a URL")?;
    let socket = lab.path("config").join("run").join(format!("{}.sock", node.id().context("it runs")?));
    let mut state = String::new();
    UnixStream::connect(socket).await?.read_to_string(&mut state).await?;
    let state: Value = serde_json::from_str(&state)?;

    let mut browser =
        drive_in("inspect", "whole.mjs", &[state["inspect"].as_str().context("a page")?]).await?;
    browser.event("empty").await?;
    let post = [
        &format!("{url}/upload?token=t0ken"),
        "-sS",
        "--data",
        BODY,
        "-H",
        SIGNED,
        "-H",
        "authorization: Bearer s3cret",
    ];
    output(Command::new("curl").args(post)).await?;
    output(Command::new("curl").args([&format!("{url}/bytes/5"), "-sS"])).await?;
    output(Command::new("curl").args([&format!("{url}/no-such-page"), "-sS"])).await?;
    let curl = browser.event("curl").await?;
    let command = curl["command"].as_str().context("a command")?;
    ensure!(output(Command::new("sh").args(["-c", &format!("{command} -sS")])).await? == "13", "{command}");
    browser.event("done").await?;

    // What the server was sent: three visits, a replay, and an edited one.
    let mut paths = Vec::new();
    for _ in 0..5 {
        let request = node.event("request").await?;
        paths.push(format!("{} {}", request["path"], request["replay_of"]));
    }
    let expected = [
        r#""/upload?token=***" null"#,
        r#""/bytes/5" null"#,
        r#""/no-such-page" null"#,
        r#""/upload?token=***" 1"#,
        r#""/upload?token=***&edited=1" 1"#,
    ];
    ensure!(paths == expected, "{paths:?}");
    Ok(())
}
