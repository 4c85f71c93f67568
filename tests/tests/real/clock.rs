//! Machines whose clock is an hour off, against the others' clocks: told as what it is, and nothing is lost by it.
//!
//! `faketime` shifts the wall clock of one process; its timers go on as they are.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::{Ended, Running};
use tokio::process::Command;

use crate::{lab, output};

const ANY: [&str; 6] = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--p2p", "127.0.0.1:0"];

/// Variables under which a process has another time: `+1h`, `-1h`.
struct Shifted {
    library: String,
    by: &'static str,
}

impl Shifted {
    async fn by(by: &'static str) -> Result<Self> {
        let library = output(Command::new("faketime").args(["-f", "+0", "printenv", "LD_PRELOAD"])).await?;
        Ok(Self { library: library.trim().to_owned(), by })
    }

    fn start(&self, lab: &Lab, arguments: &[&str], more: &[(&str, &str)]) -> Result<Running> {
        let shift =
            [("LD_PRELOAD", &*self.library), ("FAKETIME", self.by), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        lab.spawn_with(arguments, &[&shift, more].concat())
    }

    async fn run(&self, lab: &Lab, arguments: &[&str], more: &[(&str, &str)]) -> Result<Ended> {
        self.start(lab, arguments, more)?.ended().await
    }
}

fn names_the_clock(ended: &Ended, direction: &str) -> Result<()> {
    let error = ended.json()?;
    ensure!(ended.code != Some(0) && error["event"] == "error", "{error}");
    let message = error["message"].as_str().context("a message")?;
    ensure!(message.contains(&format!("clock is 1 h {direction} the server's")), "{error}");
    ensure!(message.matches("clock is").count() == 1, "{error}");
    ensure!(error["help"].as_str().is_some_and(|help| help.contains("clock")), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_node_an_hour_off_is_told_so() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let child = lab.mint(&["--ttl", "4h"]).await?;
    let key = [("MYTUNNEL_AUTH_TOKEN", child["token"].as_str().context("token")?)];
    let port = origin.address.port().to_string();
    let share = ["share", &port, "--name", "shifted", "--json"];
    let (fast, slow) = (Shifted::by("+1h").await?, Shifted::by("-1h").await?);
    let master = [("MTK_MASTER", lab.master.as_str())];
    for (shifted, direction) in [(&fast, "ahead of"), (&slow, "behind")] {
        names_the_clock(&shifted.run(&lab, &["eval", "mint", "--json"], &master).await?, direction)?;
        names_the_clock(&shifted.run(&lab, &["keys", "list", "--json"], &[]).await?, direction)?;
    }
    let login = ["login", &lab.server(), "--email", "owner@example.com", "--json"];
    names_the_clock(&slow.run(&lab, &login, &[]).await?, "behind")?;

    // Ahead, everything is still good, and works; behind, the relay's own certificate is of the future.
    let mut node = fast.start(&lab, &share, &key)?;
    node.event("ready").await?;
    assert_eq!(lab.get("shifted", "/1k").await?.0.status, 200);
    let ended = node.terminate().await?;
    assert!(ended.stderr.contains("clock is 1 h ahead of the server's"), "{}", ended.stderr);
    let ended = slow.run(&lab, &share, &key).await?;
    names_the_clock(&ended, "behind")?;
    assert_eq!(ended.code, Some(6));

    // Set right, the same key and the same sign-in are as good as before.
    let mut node = lab.spawn_with(&share, &key)?;
    node.event("ready").await?;
    assert_eq!(lab.get("shifted", "/1k").await?.0.status, 200);
    lab.run(&["keys", "list"]).await?.success()?;
    Ok(())
}

#[tokio::test]
async fn a_relay_an_hour_off_from_its_coordinator_is_told_so() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let database = format!("sqlite:{}", lab.path("coordinator.db").display());
    let listen = ["coordinator", "--json", "--http", "127.0.0.1:0", "--database", &database];
    let mut coordinator = lab.spawn(&listen)?;
    let ready = coordinator.event("ready").await?;
    let url = ready["url"].as_str().context("a URL")?.to_owned();
    lab.own(&url, ready["setup_code"].as_str().context("a setup code")?).await?;
    let join = lab.run(&["keys", "join-token", "--json"]).await?.success()?.json()?;
    let join = join["token"].as_str().context("a join token")?;
    let data = lab.path("data");
    let data = data.to_str().context("a path in UTF-8")?;
    let relay = [&["relay", "--json", "--data", data, "--coordinator", &url][..], &ANY].concat();

    // It joins, and finds that what it was given begins in an hour.
    let slow = Shifted::by("-1h").await?;
    let joining = [&relay[..], &["--join", join]].concat();
    names_the_clock(&slow.run(&lab, &joining, &[]).await?, "behind")?;
    names_the_clock(&Shifted::by("+1h").await?.run(&lab, &relay, &[]).await?, "ahead of")?;

    // Set right, it is a member, though the token is used up.
    let mut joined = lab.spawn(&relay)?;
    let ready = joined.event("ready").await?;
    lab.http = ready["http"].as_str().context("an address")?.parse()?;
    let origin = Origin::start().await?;
    let (_node, _) = lab.node(&origin.address.port().to_string(), "steady").await?;
    assert_eq!(lab.get("steady", "/1k").await?.0.status, 200);
    Ok(())
}
