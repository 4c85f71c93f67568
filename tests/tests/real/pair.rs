//! Two coordinators on one PostgreSQL database, and a relay that knows both: either may be killed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::{PATIENCE, Running};
use serde_json::Value;
use tokio::process::Command;

use crate::output;

const ANY: [&str; 3] = ["127.0.0.1:0"; 3];
const SERVER: &str = "MYTUNNEL_TEST_POSTGRES";

/// A new database on the server of the tests.
async fn database(name: &str) -> Result<String> {
    let server = std::env::var(SERVER).context("there is no PostgreSQL: run this by .ci/with-postgres")?;
    output(Command::new("psql").args([&server, "--command", &format!("CREATE DATABASE {name}")])).await?;
    let (address, options) = server.split_once('?').context("options")?;
    let (host, _) = address.rsplit_once('/').context("a database")?;
    Ok(format!("{host}/{name}?{options}"))
}

async fn coordinator(lab: &Lab, database: &str, data: &str, address: &str) -> Result<(Running, Value)> {
    let data = lab.path(data);
    let data = data.to_str().context("a path in UTF-8")?;
    let line = ["coordinator", "--json", "--http", address, "--database", database, "--data", data];
    let mut process = lab.spawn(&line)?;
    let ready = process.event("ready").await?;
    Ok((process, ready))
}

fn copy_keys(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "key") {
            fs::copy(&path, to.join(path.file_name().context("a name")?))?;
        }
    }
    Ok(())
}

fn url(ready: &Value) -> Result<String> {
    Ok(ready["url"].as_str().context("a URL")?.to_owned())
}

/// Asks the coordinator at `server` from here on.
async fn sign_in(lab: &Lab, server: &str) -> Result<()> {
    lab.run(&["login", server, "--email", "owner@example.com", "--json"]).await?.success().map(drop)
}

/// Shares a page with a new child key, kills what `kill` does, revokes the child, and sees the tunnel end.
async fn cut(lab: &Lab, origin: &Origin, name: &str, dies: Running, other: &str) -> Result<()> {
    let child = lab.mint(&["--ttl", "1h"]).await?;
    let (token, serial) = (&child["token"], &child["serial"]);
    let (token, serial) = (token.as_str().context("a token")?, serial.as_str().context("a serial")?);
    let (mut node, _) = lab.node_with(token, &origin.address.port().to_string(), name).await?;
    ensure!(lab.get(name, "/1k").await?.0.status == 200);

    dies.kill().await?;
    ensure!(lab.get(name, "/1k").await?.0.status == 200, "visitors notice nothing");
    sign_in(lab, other).await?;
    let confirmed = tokio::time::timeout(PATIENCE, async {
        loop {
            let answer = lab.run(&["keys", "revoke", serial, "--json"]).await?.success()?.json()?;
            let relays = answer["relays"].as_array().context("relays")?;
            ensure!(relays.len() == 1, "the relay is named wherever it is: {answer}");
            if relays[0]["applied"] == true {
                return anyhow::Ok(());
            }
        }
    });
    confirmed.await.context("the relay confirms to the other coordinator")??;
    let closed = node.event("closed").await?;
    ensure!(closed["code"] == "KEY_REVOKED", "{closed}");
    ensure!(lab.get(name, "/1k").await?.0.status != 200);
    Ok(())
}

#[tokio::test]
async fn either_of_two_coordinators_may_be_killed() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let database = database(&format!("pair_{}", std::process::id())).await?;
    let (first, ready) = coordinator(&lab, &database, "one", ANY[0]).await?;
    let one = url(&ready)?;
    lab.own(&one, ready["setup_code"].as_str().context("a setup code")?).await?;
    copy_keys(&lab.path("one"), &lab.path("two"))?;
    let (second, ready) = coordinator(&lab, &database, "two", ANY[0]).await?;
    ensure!(ready["setup_code"].is_null(), "there is an owner: {ready}");
    let two = url(&ready)?;
    let join = lab.run(&["keys", "join-token", "--json"]).await?.success()?.json()?;
    let join = join["token"].as_str().context("a join token")?;
    lab.start_relay_with(&ANY, &["--coordinator", &one, "--coordinator", &two, "--join", join]).await?;
    let origin = Origin::start().await?;

    cut(&lab, &origin, "before", first, &two).await?;
    let address = one.strip_prefix("http://").context("plain HTTP")?;
    let (_first, _) = coordinator(&lab, &database, "one", address).await?;
    cut(&lab, &origin, "after", second, &one).await?;
    Ok(())
}
