//! A relay whose certificate lives for seconds: tunnels live through any number of renewals, and visitors are served all
//! the time.

use std::path::Path;

use anyhow::{Context, Result};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::PATIENCE;

use crate::apart::coordinator;

const ANY: [&str; 3] = ["127.0.0.1:0"; 3];

/// A certificate is renewed about every three seconds.
const LIFE: &str = "6s";

/// How often relays were given a new certificate.
async fn renewals(lab: &Lab) -> Result<usize> {
    let log = lab.run(&["audit", "--json"]).await?.success()?.json()?;
    let entries = log["entries"].as_array().context("entries")?;
    Ok(entries.iter().filter(|entry| entry["act"] == "relay.renew").count())
}

/// Shares something, and visits it until the relay was renewed three times more: one whole life at the least.
async fn serves_through_renewals(lab: &Lab) -> Result<()> {
    let origin = Origin::start().await?;
    let (node, _) = lab.node(&origin.address.port().to_string(), "steady").await?;
    let before = renewals(lab).await?;
    let mut visits = 0;
    let visiting = async {
        while renewals(lab).await? < before + 3 {
            for _ in 0..20 {
                assert_eq!(lab.get("steady", "/1k").await?.0.status, 200);
                visits += 1;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, visiting).await.context("three renewals")??;
    assert!(visits > 20);
    // Newcomers check what the relay shows at this moment.
    lab.node(&origin.address.port().to_string(), "late").await?;
    let ended = node.terminate().await?.success()?;
    assert!(!ended.stdout.contains("reconnecting"), "the node's connection went on: {ended:?}");
    let said = lab.relay.as_ref().context("it runs")?.stderr();
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_relay_with_its_coordinator_beside_it_renews_while_it_serves() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let settings = lab.path("relay.toml");
    std::fs::write(&settings, format!("[limits]\nrelay_certificate = '{LIFE}'\n"))?;
    let settings = settings.to_str().context("a path in UTF-8")?.to_owned();
    lab.start_relay_with(&ANY, &["--config", &settings]).await?;
    let code = lab.ready["setup_code"].as_str().context("a setup code")?.to_owned();
    let server = lab.server();
    lab.own(&server, &code).await?;
    serves_through_renewals(&lab).await
}

#[tokio::test]
async fn a_relay_that_has_joined_renews_while_it_serves() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let (_process, ready) = coordinator(&lab, "127.0.0.1:0", &["--relay-certificate", LIFE]).await?;
    let url = ready["url"].as_str().context("a URL")?.to_owned();
    lab.own(&url, ready["setup_code"].as_str().context("a setup code")?).await?;
    let join = lab.run(&["keys", "join-token", "--json"]).await?.success()?.json()?;
    let join = join["token"].as_str().context("a join token")?.to_owned();
    lab.start_relay_with(&ANY, &["--coordinator", &url, "--join", &join]).await?;
    serves_through_renewals(&lab).await
}
