//! Signing in by a real OpenID provider (npm's `oidc-provider`), in Chromium, for a terminal, and as an attacker.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::{Lab, PASSWORD};
use mytunnel_tests::process::Running;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::dashboard::drive_in;
use crate::{lab, output};

/// A relay whose people may sign in at the provider, and the provider.
async fn house() -> Result<(Lab, Running)> {
    house_with("/api/v1/auth/oauth/op/callback").await
}

/// The same, with the path to which the provider sends people back.
pub(crate) async fn house_with(path: &str) -> Result<(Lab, Running)> {
    let lab = lab().await?;
    let redirect = format!("{}{path}", lab.server());
    with_provider(lab, &redirect, &[]).await
}

/// The same for a domain whose names are neighbours to a browser, and who come by TLS; its console is at `localhost`.
pub(crate) async fn house_of(domain: &str, path: &str) -> Result<(Lab, Running)> {
    const ANY: &str = "127.0.0.1:0";
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let more = ["--domain", domain, "--console", "localhost"];
    lab.start_relay_with(&[ANY, ANY, ANY], &more).await?;
    let code = lab.ready["setup_code"].as_str().context("a setup code")?.to_owned();
    lab.own(&lab.server(), &code).await?;
    let [_, https, _] = lab.listen_addresses()?;
    let port = https.rsplit(':').next().context("a port for HTTPS")?;
    let redirect = format!("https://localhost:{port}{path}");
    with_provider(lab, &redirect, &more).await
}

async fn with_provider(mut lab: Lab, redirect: &str, more: &[&str]) -> Result<(Lab, Running)> {
    let mut provider = drive_in("sign_in", "provider.mjs", &[redirect]).await?;
    let listening = provider.event("listening").await?;
    let issuer = listening["issuer"].as_str().context("an issuer")?;
    let (secret, config) = (lab.path("secret"), lab.path("relay.toml"));
    std::fs::write(&secret, "a secret\n")?;
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let one = |id: &str, issuer: &str| {
        let secret = secret.display();
        format!(
            "[[sign_in]]\nid = '{id}'\nname = 'Example ID'\nissuer = '{issuer}'\nclient_id = 'mytunnel'\n\
             client_secret = {{ file = '{secret}' }}\n"
        )
    };
    std::fs::write(&config, one("op", issuer))?;
    let addresses = lab.listen_addresses()?;
    lab.kill_relay().await?;
    let config = config.to_str().context("a path in UTF-8")?.to_owned();
    let more = [more, &["--config", &config]].concat();
    lab.start_relay_with(&addresses, &more).await?;
    Ok((lab, provider))
}

#[tokio::test]
async fn a_person_connects_comes_in_proves_the_second_factor_and_disconnects() -> Result<()> {
    let (lab, _provider) = house().await?;
    let mut browser = drive_in("sign_in", "person.mjs", &[&lab.server()]).await?;
    browser.event("connected").await?;
    browser.event("second").await?;
    browser.event("done").await?;
    Ok(())
}

#[tokio::test]
async fn nothing_that_an_attacker_makes_of_its_answers_signs_anybody_in() -> Result<()> {
    let (lab, _provider) = house().await?;
    let login = json!({"email": "owner@example.com", "password": PASSWORD}).to_string();
    let url = format!("{}/api/v1/auth/login", lab.server());
    let line = ["--silent", "--header", "content-type: application/json", "--data", &login, &url];
    let answer: Value = serde_json::from_str(&output(Command::new("curl").args(line)).await?)?;
    let token = answer["access_token"].as_str().context("an access token")?;
    let mut attacker = drive_in("sign_in", "attacks.mjs", &[&lab.server(), token]).await?;
    attacker.event("done").await?;
    Ok(())
}

#[tokio::test]
async fn a_terminal_signs_in_with_the_code_that_the_browser_shows() -> Result<()> {
    let (lab, _provider) = house().await?;
    let config = lab.path("elsewhere");
    let mut terminal = Command::new(env!("CARGO_BIN_EXE_mytunnel-e2e"))
        .args(["login", &lab.server(), "--sign-in", "op", "--device", "ssh", "--json"])
        .env("MYTUNNEL_CONFIG_DIR", &config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(terminal.stdout.take().context("standard output")?).lines();
    let shown: Value = serde_json::from_str(&lines.next_line().await?.context("the address")?)?;
    let address = shown["url"].as_str().context("an address")?;
    ensure!(!address.contains("verifier"), "{address}");

    let mut browser = drive_in("sign_in", "terminal.mjs", &[&lab.server(), address]).await?;
    let code = browser.event("code").await?["code"].as_str().context("a code")?.to_owned();
    let mut stdin = terminal.stdin.take().context("standard input")?;
    stdin.write_all(format!("{}\n", code.to_lowercase()).as_bytes()).await?;
    drop(stdin);
    let login: Value = serde_json::from_str(&lines.next_line().await?.context("the sign-in")?)?;
    ensure!(login["account"] == "owner@example.com" && login["device"] == "ssh", "{login}");
    ensure!(terminal.wait().await?.success());
    let listed = Command::new(env!("CARGO_BIN_EXE_mytunnel-e2e"))
        .args(["projects", "list", "--json"])
        .env("MYTUNNEL_CONFIG_DIR", &config)
        .output()
        .await?;
    ensure!(listed.status.success(), "{listed:?}");

    // Who has no such sign-in is told which there are, and who mistypes the password that there is another way.
    let none = lab.run(&["login", &lab.server(), "--sign-in", "google", "--json"]).await?.json()?;
    ensure!(
        none["code"] == "BAD_REQUEST" && none["help"].as_str().is_some_and(|help| help.contains("op")),
        "{none}"
    );
    let line = ["login", &lab.server(), "--email", "owner@example.com", "--json"];
    let wrong = lab.run_with(&line, &[("MYTUNNEL_PASSWORD", "not the password")]).await?.json()?;
    ensure!(wrong["help"].as_str().is_some_and(|help| help.contains("--sign-in op")), "{wrong}");
    Ok(())
}
