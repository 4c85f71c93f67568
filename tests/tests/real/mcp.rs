//! The tools for agents by clients that are not ours: the official TypeScript SDK, and the MCP inspector's command line.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mytunnel_tests::process::Running;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::browser::packages;
use crate::dashboard::drive_in;
use crate::spoken;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mytunnel-e2e");
const PAIR: [&str; 11] =
    ["open", "invite", "join", "say", "listen", "propose", "share", "receive", "peers", "status", "close"];
const TUNNEL: [&str; 9] = ["open", "invite", "join", "say", "listen", "status", "close", "share", "receive"];

/// A user whose sessions end with this.
struct Home {
    directory: TempDir,
    _daemon: Running,
}

impl Home {
    async fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let environment = environment(directory.path());
        let environment: Vec<(&str, &OsStr)> =
            environment.iter().map(|(name, value)| (*name, value.as_os_str())).collect();
        let line = ["pair", "daemon", "--json", "--linger", "600"];
        let mut daemon = Running::start(Path::new(PROGRAM), line, &environment, directory.path())?;
        daemon.event("ready").await?;
        Ok(Self { directory, _daemon: daemon })
    }

    fn path(&self) -> Result<&str> {
        self.directory.path().to_str().context("a path in UTF-8")
    }
}

fn environment(home: &Path) -> [(&'static str, PathBuf); 3] {
    [
        ("HOME", home.to_owned()),
        ("MYTUNNEL_CONFIG_DIR", home.join("config")),
        ("MYTUNNEL_PAIR_LISTEN", PathBuf::from("127.0.0.1:0")),
    ]
}

/// Two agents of the SDK go through a whole session by a script, which calls every tool.
async fn two_agents(script: &str, tools: &[&str], prefix: &str) -> Result<()> {
    let (host, guest) = (Home::new().await?, Home::new().await?);
    let mut agents = drive_in("mcp", script, &[PROGRAM, host.path()?, guest.path()?]).await?;
    let listed = agents.event("tools").await?;
    let expected: Vec<String> = tools.iter().map(|name| format!("{prefix}{name}")).collect();
    ensure!(listed["names"] == serde_json::to_value(expected)?, "{listed}");
    agents.event("done").await?;
    agents.ended().await?.success()?;
    Ok(())
}

#[tokio::test]
async fn two_agents_of_the_official_sdk_go_through_a_whole_session() -> Result<()> {
    two_agents("room.mjs", &PAIR, "pair_").await
}

#[tokio::test]
async fn two_agents_of_the_official_sdk_go_through_a_session_by_the_names_of_tunnel_mcp() -> Result<()> {
    two_agents("compat.mjs", &TUNNEL, "tunnel_").await
}

const PATHS: [&str; 3] = ["/cart", "/search", "/login"];

/// Which commit a deployment brought, of one history or another.
fn commit(history: usize, number: usize) -> String {
    format!("{:07x}", ((number + 1) * 7_919_993 + history * 104_729) & 0x0fff_ffff)
}

/// Of the deployments of three paths, in turn to the instances of each: when, what, to which instance, which commit.
fn deploys(history: usize) -> String {
    let line = |number: usize| {
        let (path, instance) = (PATHS[number % 3], number / 3 % 3 + 1);
        format!("{} {path} {instance} {}\n", number * 10 + 5, commit(history, number))
    };
    (0..140).map(line).collect()
}

/// What visitors met whose path is broken by one deployment: when, which request, which path, at which instance, with which
/// status. Others fail, too, and go well again.
fn requests(broken: usize) -> String {
    let line = |number: usize| {
        let (time, path, instance) = (number * 7, PATHS[number % 3], number / 3 % 3 + 1);
        let is_hit = (path, instance) == (PATHS[broken % 3], broken / 3 % 3 + 1) && time >= broken * 10 + 5;
        let status = if is_hit || [11, 29, 58].contains(&number) { 500 } else { 200 };
        format!("{time} r{:05x} {path} {instance} {status}\n", number * 4_099 % 0xf_ffff)
    };
    (0..200).map(line).collect()
}

/// Two agents, each a process that has its own home and half of what is to be known; gives what both say in the end.
async fn split(names: &str, requests: &str, deploys: &str) -> Result<String> {
    let (host, guest) = (Home::new().await?, Home::new().await?);
    for (home, name, text) in [(&host, "requests.log", requests), (&guest, "deploys.log", deploys)] {
        let project = home.directory.path().join("project");
        std::fs::create_dir(&project)?;
        std::fs::write(project.join(name), text)?;
    }
    let mut ada = drive_in("mcp", "split.mjs", &[PROGRAM, host.path()?, "host", names]).await?;
    let opened = ada.event("open").await?;
    let invite = opened["invite"].as_str().context("an invite")?;
    let mut bob = drive_in("mcp", "split.mjs", &[PROGRAM, guest.path()?, "guest", names, invite]).await?;
    let (one, other) = tokio::try_join!(ada.event("stated"), bob.event("stated"))?;
    ensure!(one["own"] == one["other"] && one == other, "{one} {other}");
    // The host closes it, and the guest hears that it is over.
    tokio::try_join!(ada.event("over"), bob.event("over"))?;
    ada.ended().await?.success()?;
    bob.ended().await?.success()?;
    Ok(one["own"].as_str().context("an answer")?.to_owned())
}

#[tokio::test]
async fn agents_that_know_half_each_find_what_neither_half_tells() -> Result<()> {
    // The same half with another one has another answer: neither of them holds it alone.
    for (history, broken) in [(1, 73), (1, 98), (2, 73)] {
        let (requests, deploys) = (requests(broken), deploys(history));
        let answer = commit(history, broken);
        ensure!(!requests.contains(&answer), "the host's half names it");
        ensure!(split("pair", &requests, &deploys).await? == answer, "{history} {broken}");
    }
    ensure!(commit(1, 73) != commit(1, 98) && commit(1, 73) != commit(2, 73), "three answers");
    Ok(())
}

#[tokio::test]
async fn agents_that_know_half_each_find_it_by_the_names_of_tunnel_mcp() -> Result<()> {
    ensure!(split("tunnel", &requests(73), &deploys(1)).await? == commit(1, 73), "another commit");
    Ok(())
}

/// Asks a server that is started for it, by the inspector.
async fn inspect(home: &Home, more: &[&str]) -> Result<Value> {
    let mut command = Command::new(packages().await?.join("node_modules/.bin/mcp-inspector"));
    command.args(["--cli", PROGRAM, "mcp"]).args(more).current_dir(home.directory.path());
    // It hands a server nothing of its own environment but the home.
    for (name, value) in environment(home.directory.path()) {
        command.env(name, &value).arg("-e").arg(format!("{name}={}", value.display()));
    }
    let (text, warned) = spoken(&mut command).await?;
    // What another program could not do with a schema is there.
    ensure!(warned.trim().is_empty(), "{warned}");
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

#[tokio::test]
async fn the_inspector_lists_the_tools_and_calls_them() -> Result<()> {
    let home = Home::new().await?;
    // Also whether other programs can do something with their schemas.
    let compat = ["--compat", "tunnel-mcp", "--method", "tools/list", "--strict"];
    let listed = inspect(&home, &compat).await?;
    ensure!(listed["tools"].as_array().map(Vec::len) == Some(TUNNEL.len()), "{listed}");
    let listed = inspect(&home, &["--method", "tools/list", "--strict"]).await?;
    let tools = listed["tools"].as_array().context("tools")?;
    let names: Vec<_> =
        tools.iter().filter_map(|tool| tool["name"].as_str()?.strip_prefix("pair_")).collect();
    ensure!(names == PAIR, "{names:?}");
    let call = ["--method", "tools/call", "--tool-name"];
    let status = inspect(&home, &[&call[..], &["pair_status"]].concat()).await?;
    ensure!(status["structuredContent"]["sessions"] == serde_json::json!([]), "{status}");

    let open = ["pair_open", "--tool-arg", "goal=find the bug", "invites=2"];
    let opened = inspect(&home, &[&call[..], &open].concat()).await?;
    ensure!(opened["structuredContent"]["invites"].as_array().map(Vec::len) == Some(2), "{opened}");
    // Another server of the same home knows it.
    let status = inspect(&home, &[&call[..], &["pair_status"]].concat()).await?;
    let session = &status["structuredContent"]["sessions"][0];
    ensure!(session["session"] == opened["structuredContent"]["session"], "{status}");
    ensure!(session["goal"] == "find the bug" && session["state"] == "waiting_for_guest", "{status}");
    Ok(())
}
