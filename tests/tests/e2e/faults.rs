//! What breaks in real life, broken on purpose.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mytunnel_tests::origin::Origin;
use serde_json::Value;

use crate::lab;

#[tokio::test]
async fn a_killed_relay_comes_back_and_nobody_notices_much() -> Result<()> {
    let (mut lab, origin) = (lab().await?, Origin::start().await?);
    let (mut node, before) = lab.node(&origin.address.port().to_string(), "steady").await?;
    assert_eq!(lab.get("steady", "/1k").await?.0.status, 200);
    // A machine that stands still for a moment spoils one, but not one after the other.
    for round in 1..=3 {
        lab.restart_relay().await?;
        let listening = Instant::now();
        let (head, _) = lab.get("steady", "/1k").await?;
        let took = listening.elapsed();
        assert_eq!(head.status, 200, "a request that comes meanwhile waits: {}", head.text);
        let again: Value = node.event("ready").await?;
        assert_eq!((&again["name"], &again["tunnel_id"]), (&before["name"], &before["tunnel_id"]));
        if took < Duration::from_secs(2) {
            break;
        }
        assert!(round < 3, "{took:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_name_whose_node_stays_away_is_a_503_after_5_seconds() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (node, _) = lab.node(&origin.address.port().to_string(), "gone").await?;
    node.kill().await?;
    let asked = Instant::now();
    let (head, _) = lab.get("gone", "/1k").await?;
    assert!(matches!(head.status, 502 | 503), "{}", head.text);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_said_and_nothing_is_lost() -> Result<()> {
    let lab = lab().await?;
    let data = lab.path("other-data");
    let data = data.to_str().context("a path in UTF-8")?;
    let taken = lab.http.to_string();
    let ended = lab
        .run(&[
            "relay",
            "--json",
            "--data",
            data,
            "--http",
            &taken,
            "--https",
            "127.0.0.1:0",
            "--p2p",
            "127.0.0.1:0",
        ])
        .await?;
    let error = ended.json()?;
    assert_eq!((error["event"].as_str(), ended.code), (Some("error"), Some(1)), "{error}");
    assert!(error.to_string().contains(&lab.http.port().to_string()), "names the port: {error}");
    Ok(())
}

#[tokio::test]
async fn a_second_relay_on_the_same_data_is_refused() -> Result<()> {
    let lab = lab().await?;
    let data = lab.path("data");
    let data = data.to_str().context("a path in UTF-8")?;
    let arguments = [
        "relay",
        "--json",
        "--data",
        data,
        "--http",
        "127.0.0.1:0",
        "--https",
        "127.0.0.1:0",
        "--p2p",
        "127.0.0.1:0",
    ];
    let ended = lab.run(&arguments).await?;
    assert_eq!((ended.json()?["event"].as_str(), ended.code), (Some("error"), Some(1)), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_damaged_database_is_said_and_left_as_it_is() -> Result<()> {
    let mut lab = lab().await?;
    let addresses = lab.listen_addresses()?;
    lab.kill_relay().await?;
    let database = std::fs::read_dir(lab.path("data"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "db" || e == "sqlite"))
        .context("one SQLite file in the data directory")?;
    let mut bytes = std::fs::read(&database)?;
    bytes[..64].fill(0xff);
    std::fs::write(&database, &bytes)?;
    for rest in ["-wal", "-shm"] {
        let mut path = database.clone().into_os_string();
        path.push(rest);
        let _ = std::fs::remove_file(path);
    }
    assert!(lab.start_relay(&addresses).await.is_err());
    assert_eq!(std::fs::read(&database)?, bytes, "it is not overwritten");
    Ok(())
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() -> Result<()> {
    let mut lab = lab().await?;
    let mut serials = Vec::new();
    for _ in 0..5 {
        serials.push(lab.mint(&[]).await?["serial"].as_str().context("serial")?.to_owned());
    }
    lab.run(&["keys", "revoke", &serials[0]]).await?.success()?;
    lab.restart_relay().await?;
    let listed = lab.run(&["keys", "list", "--json"]).await?.success()?.json()?;
    let keys = listed["keys"].as_array().context("keys")?;
    for (index, serial) in serials.iter().enumerate() {
        let row = keys.iter().find(|key| serial.starts_with(key["nonce"].as_str().unwrap_or("?")));
        let row = row.with_context(|| format!("{serial} is listed"))?;
        assert_eq!(row["revoked_at"].is_null(), index != 0, "{row}");
    }
    lab.run(&["audit", "--verify"]).await?.success()?;
    Ok(())
}
