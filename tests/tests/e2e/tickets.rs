//! Tickets for private shares: somebody without an account, on a machine that knows nothing, reaches one of them, once.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::{ChildToken, Secret, Token};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::process::Running;
use mytunnel_tests::wire::Connection;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::lab;
use crate::private::{bytes, echo, refused, round_trip, share};

const SOON: Duration = Duration::from_secs(30);

/// Makes a ticket for `box` as the owner.
async fn ticket(lab: &Lab) -> Result<(String, Value)> {
    let made = lab.run(&["ticket", "box", "--json"]).await?.success()?.json()?;
    Ok((made["ticket"].as_str().context("a ticket")?.to_owned(), made))
}

/// A machine that nobody has signed in on.
fn elsewhere(lab: &Lab) -> Result<String> {
    Ok(lab.path("guest").to_str().context("a path in UTF-8")?.to_owned())
}

/// What a guest types, whose ticket is in the environment.
const REACH: [&str; 3] = ["access", "--no-direct", "--json"];

fn guest(lab: &Lab, ticket: &str) -> Result<Running> {
    let place = elsewhere(lab)?;
    lab.spawn_with(&REACH, &[("MYTUNNEL_CONFIG_DIR", &place), ("MYTUNNEL_TICKET", ticket)])
}

async fn turned_away(lab: &Lab, ticket: &str) -> Result<(Value, i32)> {
    let place = elsewhere(lab)?;
    refused(lab, &REACH, &[("MYTUNNEL_CONFIG_DIR", &place), ("MYTUNNEL_TICKET", ticket)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_reaches_the_share_once_until_its_key_is_revoked() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let _sharer = share(&lab, &["share", &target.to_string()]).await?;
    let (text, made) = ticket(&lab).await?;
    ensure!(made["command"] == format!("mytunnel access {text}") && made["name"] == "box", "{made}");
    let mut node = guest(&lab, &text)?;
    let admitted = node.event("ticket").await?;
    ensure!(admitted["name"] == "box" && admitted["from"] == "owner@example.com", "{admitted}");
    ensure!(
        admitted["expires_at"].as_u64() > made["expires_at"].as_u64(),
        "an hour, and ten minutes: {admitted}"
    );
    let ready = node.event("ready").await?;
    let address: SocketAddr = ready["bind"].as_str().context("an address")?.parse()?;
    timeout(SOON, round_trip(TcpStream::connect(address).await?, &bytes(1 << 20))).await??;

    let (error, code) = turned_away(&lab, &text).await?;
    ensure!(error["code"] == "INVALID_KEY" && code == 3, "{error}");
    ensure!(error["message"].as_str().is_some_and(|message| message.contains("was used")), "{error}");
    ensure!(error["help"].as_str().is_some_and(|help| help.contains("another")), "{error}");

    let mut open = TcpStream::connect(address).await?;
    let mut welcome = [0; 8];
    timeout(SOON, open.read_exact(&mut welcome)).await??;
    let list = lab.run(&["ticket", "--list", "--json"]).await?.success()?.json()?;
    let key = list["tickets"][0]["used_by"].as_str().context("the guest's key")?;
    let keys = lab.run(&["keys", "list"]).await?.success()?.stdout;
    ensure!(keys.contains(key) && keys.contains(made["id"].as_str().context("an id")?), "{keys}");
    lab.run(&["keys", "revoke", key]).await?.success()?;
    let closed = node.event("closed").await?;
    ensure!(closed["code"] == "KEY_REVOKED", "{closed}");
    let mut rest = Vec::new();
    ensure!(timeout(SOON, open.read_to_end(&mut rest)).await?.is_err(), "it looks whole");
    let ended = node.ended().await?;
    ensure!(ended.code == Some(3), "{ended:?}");
    ensure!(!lab.path("guest").join("keys").exists(), "a guest leaves no key behind");
    Ok(())
}

/// Uses a ticket as a program of its own would, and answers with a token of the guest's key.
async fn stolen(lab: &Lab, text: &str) -> Result<String> {
    let ticket = Token::parse(text)?.into_ticket()?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let seed = Seed::from_bytes(seed);
    let body = json!({"ticket": text, "public_key": seed.public()}).to_string();
    let request = format!(
        "POST /api/v1/tickets/redeem HTTP/1.1\r\nhost: localhost:{}\r\ncontent-length: {}\r\n\r\n{body}",
        lab.http.port(),
        body.len()
    );
    let (head, body) = Connection::open(lab.http).await?.exchange(request.as_bytes()).await?;
    ensure!(head.status == 200, "{} {}", head.text, String::from_utf8_lossy(&body));
    let answer: mytunnel_keys::api::TicketRedeemed = serde_json::from_slice(&body)?;
    let token = ChildToken::new(Secret::Portable(seed), answer.key.certificate, ticket.root, ticket.server)?;
    Ok(token.into_token().to_text().to_string())
}

#[tokio::test]
async fn a_guests_key_reaches_nothing_else_and_serves_nothing() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let target = target.to_string();
    let sharer = share(&lab, &["share", &target]).await?;
    let other = ["share", &target, "--private", "--name", "other", "--project", "demo", "--json"];
    let mut other = lab.spawn(&other)?;
    other.event("ready").await?;
    let key = stolen(&lab, &ticket(&lab).await?.0).await?;
    let as_guest = [("MYTUNNEL_AUTH_TOKEN", key.as_str())];

    let (error, code) = refused(&lab, &["access", "other", "--json"], &as_guest).await?;
    ensure!(error["code"] == "SCOPE_DENIED" && code == 4, "{error}");
    // The name is free, and the guest's key has the right scope and name for it.
    sharer.terminate().await?;
    let serve = ["share", &target, "--private", "--name", "box", "--json"];
    let (error, code) = refused(&lab, &serve, &as_guest).await?;
    ensure!(error["code"] == "TUNNEL_LIMIT" && code == 4, "{error}");
    let (error, code) = refused(&lab, &["share", &target, "--name", "box", "--json"], &as_guest).await?;
    ensure!(error["code"] == "SCOPE_DENIED" && code == 4, "{error}");
    let _sharer = share(&lab, &["share", &target]).await?;
    let mut node = lab.spawn_with(&["access", "box", "--no-direct", "--json"], &as_guest)?;
    node.event("ready").await?;
    Ok(())
}

#[tokio::test]
async fn a_guest_who_is_early_waits_for_the_share() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let mut node = guest(&lab, &ticket(&lab).await?.0)?;
    let waiting = node.event("reconnecting").await?;
    ensure!(waiting["reason"].as_str().is_some_and(|reason| reason.contains("box")), "{waiting}");
    let _sharer = share(&lab, &["share", &target.to_string()]).await?;
    let ready = node.event("ready").await?;
    let address: SocketAddr = ready["bind"].as_str().context("an address")?.parse()?;
    timeout(SOON, round_trip(TcpStream::connect(address).await?, &bytes(1 << 16))).await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_in_use_costs_no_ticket() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let _sharer = share(&lab, &["share", &target.to_string()]).await?;
    let (text, _) = ticket(&lab).await?;
    let (taken, place) = (target.to_string(), elsewhere(&lab)?);
    let env = [("MYTUNNEL_CONFIG_DIR", place.as_str()), ("MYTUNNEL_TICKET", &text)];
    let (error, _) = refused(&lab, &["access", "--bind", &taken, "--json"], &env).await?;
    let message = error["message"].as_str().context("a message")?;
    ensure!(message.contains(&taken) && message.contains("the ticket was not used"), "{error}");
    guest(&lab, &text)?.event("ready").await?;
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_ticket_is_told() -> Result<()> {
    let mut lab = lab().await?;
    let (text, made) = ticket(&lab).await?;
    let (error, code) = turned_away(&lab, &text[..text.len() - 1]).await?;
    ensure!(error["code"] == "INVALID_KEY" && code == 3, "{error}");
    ensure!(error["message"].as_str().is_some_and(|message| message.contains("checksum")), "{error}");
    let child = lab.mint(&["--ttl", "1h"]).await?;
    let (error, code) = turned_away(&lab, child["token"].as_str().context("a token")?).await?;
    ensure!(error["code"] == "INVALID_KEY" && code == 3, "{error}");
    // As if it were a key.
    let (error, code) =
        refused(&lab, &["access", "box", "--json"], &[("MYTUNNEL_AUTH_TOKEN", &text)]).await?;
    ensure!(error["code"] == "INVALID_KEY" && code == 3, "{error}");

    lab.run(&["ticket", "--withdraw", made["id"].as_str().context("an id")?]).await?.success()?;
    let (error, code) = turned_away(&lab, &text).await?;
    ensure!(error["code"] == "INVALID_KEY" && code == 3, "{error}");
    ensure!(error["message"].as_str().is_some_and(|message| message.contains("withdrawn")), "{error}");

    let (text, _) = ticket(&lab).await?;
    lab.kill_relay().await?;
    let (error, code) = turned_away(&lab, &text).await?;
    ensure!(error["code"] == "COORDINATOR_UNREACHABLE" && code == 6, "{error}");
    Ok(())
}

#[tokio::test]
async fn a_master_key_makes_tickets_for_its_own_project_which_end_with_it() -> Result<()> {
    let (lab, (target, _server)) = (lab().await?, echo().await?);
    let place = lab.path("master");
    let master =
        [("MYTUNNEL_CONFIG_DIR", place.to_str().context("a path in UTF-8")?), ("MTK_MASTER", &lab.master)];
    let child = lab.mint(&["--ttl", "1h"]).await?;
    let sharing = ["share", &target.to_string(), "--private", "--name", "box", "--json"];
    let token = child["token"].as_str().context("a token")?;
    let mut sharer = lab.spawn_with(&sharing, &[("MYTUNNEL_AUTH_TOKEN", token)])?;
    sharer.event("ready").await?;
    let made = async || lab.run_with(&["ticket", "box", "--json"], &master).await?.success()?.json();
    let (used, open) = (made().await?, made().await?);
    let mut node = guest(&lab, used["ticket"].as_str().context("a ticket")?)?;
    ensure!(node.event("ticket").await?["from"] == "demo", "the name of the project");
    node.event("ready").await?;
    // The owner's own project has no such name.
    let (error, code) = refused(&lab, &["ticket", "box", "--json"], &[]).await?;
    ensure!(error["code"] == "PROJECT_MISMATCH" && code == 4, "{error}");

    lab.run(&["keys", "revoke", "--cascade", &lab.master]).await?.success()?;
    ensure!(node.event("closed").await?["code"] == "KEY_REVOKED");
    let (error, code) = turned_away(&lab, open["ticket"].as_str().context("a ticket")?).await?;
    ensure!(error["code"] == "KEY_REVOKED" && code == 3, "{error}");
    Ok(())
}
