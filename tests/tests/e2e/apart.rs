//! Coordinator and relay as processes of their own: the one can die without the other's visitors noticing.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::ports;
use mytunnel_tests::process::{PATIENCE, Running};
use serde_json::Value;

pub(crate) const ANY: [&str; 3] = ["127.0.0.1:0"; 3];

pub(crate) async fn coordinator(lab: &Lab, address: &str, more: &[&str]) -> Result<(Running, Value)> {
    let database = format!("sqlite:{}", lab.path("coordinator.db").display());
    let mut arguments = vec!["coordinator", "--json", "--http", address, "--database", &database];
    arguments.extend(more);
    let mut process = lab.spawn(&arguments)?;
    let ready = process.event("ready").await?;
    Ok((process, ready))
}

/// A coordinator with an owner; its URL, and a token with which one relay may join.
pub(crate) async fn owned() -> Result<(Lab, Running, String, String)> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let (process, ready) = coordinator(&lab, &format!("127.0.0.1:{}", ports::free()?), &[]).await?;
    let url = ready["url"].as_str().context("a URL")?.to_owned();
    lab.own(&url, ready["setup_code"].as_str().context("a setup code")?).await?;
    let join = join(&lab).await?;
    Ok((lab, process, url, join))
}

/// A token with which one relay may join.
pub(crate) async fn join(lab: &Lab) -> Result<String> {
    let token = lab.run(&["keys", "join-token", "--json"]).await?.success()?.json()?;
    Ok(token["token"].as_str().context("a join token")?.to_owned())
}

/// A relay beside the lab's, with a data directory of its own, and where its visitors come.
pub(crate) async fn relay_beside(lab: &Lab, url: &str) -> Result<(Running, SocketAddr)> {
    let data = lab.path("second").to_str().context("a path in UTF-8")?.to_owned();
    let token = join(lab).await?;
    let [http, https, p2p] = ANY;
    let mut arguments = vec!["relay", "--json", "--data", &data, "--coordinator", url, "--join", &token];
    arguments.extend(["--http", http, "--https", https, "--p2p", p2p]);
    let mut relay = lab.spawn(&arguments)?;
    let ready = relay.event("ready").await?;
    let at = ready["http"].as_str().context("the relay tells where it listens")?;
    let bare = at.split_once("://").map_or(at, |(_, rest)| rest).trim_end_matches('/');
    Ok((relay, bare.replace("localhost:", "127.0.0.1:").parse()?))
}

#[tokio::test]
async fn a_coordinator_may_die_and_come_back() -> Result<()> {
    let (mut lab, process, url, join) = owned().await?;
    lab.start_relay_with(&ANY, &["--coordinator", &url, "--join", &join]).await?;
    let origin = Origin::start().await?;
    let (_node, _) = lab.node(&origin.address.port().to_string(), "steady").await?;
    assert_eq!(lab.get("steady", "/1k").await?.0.status, 200);

    process.kill().await?;
    for _ in 0..20 {
        assert_eq!(lab.get("steady", "/1k").await?.0.status, 200, "visitors notice nothing");
    }
    let mint = lab.run_with(&["eval", "mint", "--json"], &[("MTK_MASTER", &lab.master)]).await?;
    assert_eq!((mint.json()?["code"].as_str(), mint.code), (Some("COORDINATOR_UNREACHABLE"), Some(6)));

    let address = url.strip_prefix("http://").context("plain HTTP")?;
    let (_process, _) = coordinator(&lab, address, &[]).await?;
    let child = lab.mint(&[]).await?;
    let serial = child["serial"].as_str().context("a serial")?;
    // The relay follows again by itself, and from then on confirms.
    let confirmed = tokio::time::timeout(PATIENCE, async {
        loop {
            let answer = lab.run(&["keys", "revoke", serial, "--json"]).await?.success()?.json()?;
            if answer["relays"][0]["applied"] == true {
                return anyhow::Ok(());
            }
        }
    });
    confirmed.await.context("the relay confirms")??;
    assert_eq!(lab.get("steady", "/1k").await?.0.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_join_token_works_once() -> Result<()> {
    let (mut lab, _process, url, join) = owned().await?;
    let joining = ["--coordinator", &url, "--join", &join];
    lab.start_relay_with(&ANY, &joining).await?;
    let data = lab.path("second");
    let data = data.to_str().context("a path in UTF-8")?;
    let mut arguments =
        vec!["relay", "--json", "--data", data, "--http", ANY[0], "--https", ANY[0], "--p2p", ANY[0]];
    arguments.extend(joining);
    let second = lab.run(&arguments).await?;
    assert_eq!((second.json()?["code"].as_str(), second.code), (Some("INVALID_KEY"), Some(3)), "{second:?}");
    Ok(())
}
