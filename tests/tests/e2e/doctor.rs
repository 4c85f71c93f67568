//! What `mytunnel doctor` finds.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab;

fn state<'a>(report: &'a Value, name: &str) -> &'a str {
    let checks = report["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let check = checks.iter().find(|check| check["name"] == name);
    check.and_then(|check| check["state"].as_str()).unwrap_or("none")
}

#[tokio::test]
async fn what_works_and_what_does_not_is_told_with_its_remedy() -> Result<()> {
    let mut lab = lab().await?;
    let well = lab.run(&["doctor", "--json"]).await?.success()?.json()?;
    ensure!(well["ok"] == true, "{well}");
    for name in ["key", "coordinator", "clock", "relay over tcp", "relay over udp", "relay over https"] {
        ensure!(state(&well, name) == "ok", "{name}: {well}");
    }
    ensure!(state(&well, "dns") == "skipped", "{well}");

    let ended = lab.run(&["doctor", "9", "--json"]).await?;
    ensure!(ended.code == Some(1), "{ended:?}");
    let report: Value = serde_json::from_str(ended.stdout.lines().next().context("a report")?)?;
    ensure!(state(&report, "target") == "failed" && report["ok"] == false, "{report}");

    lab.kill_relay().await?;
    let ended = lab.run(&["doctor", "--json"]).await?;
    let report: Value = serde_json::from_str(ended.stdout.lines().next().context("a report")?)?;
    // What was learnt at the first look is still known.
    ensure!(state(&report, "coordinator") == "warning", "{report}");
    for name in ["relay over tcp", "relay over udp", "relay over https"] {
        ensure!(state(&report, name) == "failed", "{name}: {report}");
    }
    let helps =
        report["checks"].as_array().context("checks")?.iter().filter(|check| check["state"] == "failed");
    ensure!(
        helps.clone().count() == 3 && helps.into_iter().all(|check| check["help"].is_string()),
        "{report}"
    );
    Ok(())
}

#[tokio::test]
async fn a_key_that_was_revoked_is_no_matter_of_a_firewall() -> Result<()> {
    let lab = lab().await?;
    let minted = lab.mint(&[]).await?;
    let (token, serial) = (minted["token"].as_str().context("a token")?, minted["serial"].as_str());
    let environment = [("MYTUNNEL_AUTH_TOKEN", token)];
    lab.run_with(&["doctor", "--json"], &environment).await?.success()?;
    lab.run(&["keys", "revoke", serial.context("a serial")?]).await?.success()?;
    let ended = lab.run_with(&["doctor", "--json"], &environment).await?;
    ensure!(ended.code == Some(1), "{ended:?}");
    let report: Value = serde_json::from_str(ended.stdout.lines().next().context("a report")?)?;
    for name in ["relay over tcp", "relay over udp", "relay over https"] {
        ensure!(state(&report, name) == "ok", "{name}: {report}");
    }
    let checks = report["checks"].as_array().context("checks")?;
    let failed: Vec<_> = checks.iter().filter(|check| check["state"] == "failed").collect();
    let [refused] = failed[..] else { anyhow::bail!("one thing is wrong: {report}") };
    let told = refused["message"].as_str().context("a message")?;
    ensure!(refused["name"] == "relay" && told.contains("revoked"), "{report}");
    ensure!(refused["help"].is_string(), "{report}");
    Ok(())
}
