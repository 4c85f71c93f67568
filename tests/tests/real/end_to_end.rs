//! `share --e2e` with certificates of a real ACME server, got through the tunnel, and curl as the visitor.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::process::Running;
use tokio::process::Command;

use crate::acme::{Authority, DOMAIN, relay, shown, site, visit};
use crate::{free_port, output};

/// Shares a folder end to end with a certificate of this authority.
fn share(lab: &Lab, authority: &Authority) -> Result<Running> {
    let (site, ca) = (site(lab)?, lab.path("pebble/cert.pem"));
    let ca = ca.to_str().context("a path in UTF-8")?;
    lab.spawn(&[
        "share",
        &site,
        "--name",
        "vault",
        "--e2e",
        "--e2e-acme",
        &authority.directory,
        "--e2e-acme-ca",
        ca,
        "--e2e-email",
        "me@example.com",
        "--json",
    ])
}

#[tokio::test]
async fn the_node_gets_its_certificate_through_the_tunnel_and_keeps_it() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let https = free_port()?;
    let authority = Authority::start(&lab, https).await?;
    relay(&mut lab, &authority, https, "").await?;
    let mut node = share(&lab, &authority)?;
    let ready = node.event("ready").await?;
    ensure!(ready["url"] == format!("https://vault.{DOMAIN}:{https}"), "{ready}");
    let root = authority.root(&lab).await?;
    ensure!(visit(&root, https, "vault").await? == "certified\n");

    // The one that visitors see is the node's, whose key no other file has.
    let find = format!("find {} -name vault.{DOMAIN}.pem", lab.path("").display());
    let files = output(Command::new("bash").args(["-c", &find])).await?;
    let kept: Vec<&str> = files.lines().collect();
    ensure!(kept.len() == 1 && kept[0].contains("/config/e2e/acme/"), "{files}");
    let serial = format!("openssl x509 -noout -serial -in {}; stat -c %a {}", kept[0], kept[0]);
    let of_file = output(Command::new("bash").args(["-c", &serial])).await?;
    let seen = shown(https, &format!("vault.{DOMAIN}")).await?;
    let number = of_file.lines().next().context("a serial number")?;
    ensure!(seen.contains(number) && of_file.ends_with("600\n"), "{of_file}{seen}");

    // It is there again at once, also while the authority is away.
    node.terminate().await?;
    let mut node = share(&lab, &authority)?;
    drop(authority);
    node.event("ready").await?;
    ensure!(visit(&root, https, "vault").await? == "certified\n");
    ensure!(shown(https, &format!("vault.{DOMAIN}")).await? == seen);
    Ok(())
}

#[tokio::test]
async fn an_authority_that_cannot_look_is_told_with_its_remedy() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let https = free_port()?;
    // It looks at a port at which nobody listens.
    let authority = Authority::start(&lab, free_port()?).await?;
    relay(&mut lab, &authority, https, "").await?;
    let ended = share(&lab, &authority)?.ended().await?;
    let told = ended.json()?;
    ensure!(ended.code == Some(1), "{told}");
    ensure!(told["message"].as_str().is_some_and(|text| text.contains("vault.relay.test")), "{told}");
    ensure!(told["help"].as_str().is_some_and(|help| help.contains("--e2e-cert")), "{told}");
    Ok(())
}
