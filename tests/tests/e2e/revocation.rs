//! Ending rights ends what lives on them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mytunnel_tests::origin::Origin;
use mytunnel_tests::wire::Connection;
use serde_json::Value;

use crate::lab;

#[tokio::test]
async fn a_cascade_cuts_every_child_and_touches_no_other_project() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let (mut one, _) = lab.node(&target, "one").await?;
    let (mut two, _) = lab.node(&target, "two").await?;
    let other = lab.project("other").await?;
    let child = lab.mint_with(other["master_key"].as_str().context("master")?, &[]).await?;
    let (_three, _) = lab.node_with(child["token"].as_str().context("token")?, &target, "three").await?;
    let mut download = Connection::open(lab.http).await?;
    download
        .send(format!("GET /sse/20/1000 HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("one")).as_bytes())
        .await?;
    let head = download.head().await?;

    let answer: Value =
        lab.run(&["keys", "revoke", "--cascade", &lab.master, "--json"]).await?.success()?.json()?;
    assert_eq!(
        (answer["revoked_masters"].as_u64(), answer["revoked_children"].as_u64()),
        (Some(1), Some(2)),
        "{answer}"
    );
    assert_eq!(answer["relays"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(answer["relays"][0]["applied"], true, "{answer}");

    for node in [&mut one, &mut two] {
        let closed: Value = loop {
            let value: Value = serde_json::from_str(&node.line().await?)?;
            if value["event"] == "closed" || value["event"] == "error" {
                break value;
            }
        };
        assert_eq!(closed["code"], "KEY_REVOKED", "{closed}");
    }
    assert!(download.body(&head, |_| ()).await.is_err(), "a download in flight is cut");
    let asked = Instant::now();
    let (head, page) = lab.get("one", "/1k").await?;
    assert_eq!((head.status, head.field("x-mytunnel-error")), (404, Some("NOT_FOUND")), "{}", head.text);
    assert!(String::from_utf8(page)?.starts_with("This tunnel has ended."));
    assert!(asked.elapsed() < Duration::from_secs(2), "nobody is waited for: {:?}", asked.elapsed());
    assert_eq!(lab.get("three", "/1k").await?.0.status, 200, "the other project is untouched");
    assert_eq!(one.ended().await?.code, Some(3));

    let mint = lab.run_with(&["eval", "mint", "--json"], &[("MTK_MASTER", &lab.master)]).await?;
    assert_eq!((mint.json()?["code"].as_str(), mint.code), (Some("KEY_REVOKED"), Some(3)));
    Ok(())
}

#[tokio::test]
async fn a_tunnel_ends_by_itself_when_its_key_does() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let child = lab.mint(&["--ttl", "1m"]).await?;
    let token = child["token"].as_str().context("token")?.to_owned();
    let (mut node, ready) = lab.node_with(&token, &origin.address.port().to_string(), "brief").await?;
    assert!(ready["expires_at"].is_number() || ready["expires_at"].is_string(), "{ready}");
    let closed = tokio::time::timeout(Duration::from_secs(100), async {
        loop {
            if let Ok(line) = node.line().await {
                let value: Value = serde_json::from_str(&line)?;
                if value["event"] == "closed" || value["event"] == "error" {
                    return anyhow::Ok(value);
                }
            }
        }
    })
    .await
    .context("it ends at expiry")??;
    assert_eq!(closed["code"], "KEY_EXPIRED", "{closed}");
    assert_eq!(node.ended().await?.code, Some(3));
    let again = lab
        .run_with(&["share", "1", "--name", "brief", "--json"], &[("MYTUNNEL_AUTH_TOKEN", &token)])
        .await?;
    assert_eq!((again.json()?["code"].as_str(), again.code), (Some("KEY_EXPIRED"), Some(3)));
    Ok(())
}

#[tokio::test]
async fn every_act_is_in_an_audit_log_that_verifies() -> Result<()> {
    let lab = lab().await?;
    let child = lab.mint(&[]).await?;
    lab.run(&["keys", "revoke", child["serial"].as_str().context("serial")?]).await?.success()?;
    let audit = lab.run(&["audit", "--json"]).await?.success()?.json()?;
    let acts: Vec<&str> =
        audit["entries"].as_array().context("entries")?.iter().filter_map(|e| e["act"].as_str()).collect();
    for act in ["login", "project", "mint", "revoke"] {
        assert!(acts.iter().any(|seen| seen.contains(act)), "{act} in {acts:?}");
    }
    assert!(audit["head"].is_string());
    assert!(!audit.to_string().contains("mtk_master_"));
    lab.run(&["audit", "--verify", "--json"]).await?.success()?;
    Ok(())
}
