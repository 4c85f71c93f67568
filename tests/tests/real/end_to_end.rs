//! `share --e2e` with certificates of a real ACME server, got through the tunnel, and curl as the visitor.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::ports;
use mytunnel_tests::process::{PATIENCE, Running};
use tokio::process::Command;

use crate::acme::{Authority, DOMAIN, relay, shown, site, visit};
use crate::output;

/// Shares a folder end to end with a certificate of this authority.
pub(crate) fn share(lab: &Lab, authority: &Authority) -> Result<Running> {
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
    let https = ports::free()?;
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
    let https = ports::free()?;
    // It looks at a port at which nobody listens.
    let authority = Authority::start(&lab, ports::free()?).await?;
    relay(&mut lab, &authority, https, "").await?;
    let ended = share(&lab, &authority)?.ended().await?;
    let told = ended.json()?;
    ensure!(ended.code == Some(1), "{told}");
    ensure!(told["message"].as_str().is_some_and(|text| text.contains("vault.relay.test")), "{told}");
    ensure!(told["help"].as_str().is_some_and(|help| help.contains("--e2e-cert")), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_shown_and_read_again_when_it_changes() -> Result<()> {
    let lab = Lab::start(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"))).await?;
    let [_, https, _] = lab.listen_addresses()?;
    let https: u16 = https.rsplit_once(':').context("a port")?.1.parse()?;
    let place = lab.path("own");
    std::fs::create_dir_all(&place)?;
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=own \
         -addext subjectAltName=DNS:own.localhost -keyout new.key -out new.pem 2>&1 && mv new.key key.pem && mv new.pem cert.pem";
    output(Command::new("bash").args(["-c", make]).current_dir(&place)).await?;
    let text = |name: &str| place.join(name).to_str().map(str::to_owned).context("a path in UTF-8");
    let (cert, key) = (text("cert.pem")?, text("key.pem")?);
    let share =
        ["share", &site(&lab)?, "--name", "own", "--e2e", "--e2e-cert", &cert, "--e2e-key", &key, "--json"];
    let mut node = lab.spawn(&share)?;
    node.event("ready").await?;
    ensure!(!node.stderr().contains("is not for"), "{}", node.stderr());
    let serial = "openssl x509 -noout -serial -in cert.pem";
    let first = output(Command::new("bash").args(["-c", serial]).current_dir(&place)).await?;
    ensure!(shown(https, "own.localhost").await?.contains(first.trim()));
    let visit = ["-sS", "--cacert", &cert, &format!("https://own.localhost:{https}/")];
    ensure!(output(Command::new("curl").args(visit)).await? == "certified\n");

    output(Command::new("bash").args(["-c", make]).current_dir(&place)).await?;
    let second = output(Command::new("bash").args(["-c", serial]).current_dir(&place)).await?;
    let renewed = async {
        while !shown(https, "own.localhost").await.is_ok_and(|shown| shown.contains(second.trim())) {}
    };
    tokio::time::timeout(PATIENCE, renewed).await.context("the newer one is not shown")?;
    ensure!(output(Command::new("curl").args(visit)).await? == "certified\n");
    Ok(())
}
