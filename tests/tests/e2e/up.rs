//! Several tunnels of one person from a file, beside others of the same relay.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::{
    lab::Lab,
    origin::{Origin, WEBSOCKET_ACCEPT, WEBSOCKET_KEY},
    process::Running,
    wire::Connection,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::lab;

const SOON: Duration = Duration::from_secs(30);

fn write(lab: &Lab, file: &str) -> Result<()> {
    std::fs::write(lab.path("new"), file)?;
    Ok(std::fs::rename(lab.path("new"), lab.path("mytunnel.toml"))?)
}

fn tunnel(name: &str, target: &str) -> String {
    format!("[[tunnel]]\nname = '{name}'\ntarget = {target}\n")
}

/// The next event of this kind; others end meanwhile, as they are to.
async fn event(up: &mut Running, wanted: &str) -> Result<Value> {
    loop {
        let line = timeout(SOON, up.line()).await.with_context(|| format!("waiting for {wanted}"))??;
        let event: Value = serde_json::from_str(&line)?;
        if event["event"] == wanted {
            return Ok(event);
        }
    }
}

async fn ready(up: &mut Running, name: &str) -> Result<()> {
    let ready = event(up, "ready").await?;
    ensure!(ready["name"] == name, "{ready}");
    Ok(())
}

/// Another process of the same person that shares a name with nobody.
async fn alone(lab: &Lab, target: &str, name: &str) -> Result<Running> {
    let mut share = lab.spawn(&["share", target, "--name", name, "--alone", "--json"])?;
    ready(&mut share, name).await?;
    Ok(share)
}

#[tokio::test]
async fn a_websocket_outlives_every_change_that_is_not_its_own() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    write(&lab, &tunnel("socket", &target))?;
    let mut up = lab.spawn(&["up", "--json"])?;
    ready(&mut up, "socket").await?;
    let mut socket = Connection::open(lab.http).await?;
    let request = format!(
        "GET /echo HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: {WEBSOCKET_KEY}\r\n\r\n",
        lab.host("socket")
    );
    socket.send(request.as_bytes()).await?;
    let head = socket.head().await?;
    ensure!(head.status == 101 && head.text.contains(WEBSOCKET_ACCEPT), "{}", head.text);

    // Another comes, gets a gate, and goes.
    std::fs::write(lab.path("pin"), "424242")?;
    let socket_alone = tunnel("socket", &target);
    for (more, change) in [
        (tunnel("other", &target), "started"),
        (tunnel("other", &target) + "pin = { file = 'pin' }\n", "gates"),
        (tunnel("other", &target) + "pin = { file = 'pin' }\nhost_header = 'b.example'\n", "restarted"),
        (tunnel("other", &target) + "host_header = 'a.example'\n", "restarted"),
        (String::new(), "ended"),
    ] {
        write(&lab, &format!("{socket_alone}{more}"))?;
        let reloaded = event(&mut up, "reloaded").await?;
        ensure!(reloaded[change] == json!(["other"]), "{change}: {reloaded}");
        if change == "gates" {
            event(&mut up, "gates").await?;
            ensure!(lab.get("other", "/1k").await?.0.status != 200, "it asks for the PIN");
        } else if change != "ended" {
            ready(&mut up, "other").await?;
            let is_open = lab.get("other", "/1k").await?.0.status == 200;
            ensure!(
                is_open != more.contains("pin"),
                "whoever begins anew asks what the file says now: {more}"
            );
        }
        // A masked text frame of one byte, which comes back unmasked.
        socket.send(&[0x81, 0x81, 0, 0, 0, 0, b'x']).await?;
        let mut echo = [0; 3];
        timeout(SOON, socket.raw(&mut echo)).await??;
        ensure!(echo == [0x81, 1, b'x'], "{echo:?}");
    }
    let ended = up.terminate().await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn one_for_the_owners_machines_alone_stands_beside_a_public_one() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    write(&lab, &(tunnel("web", &target) + &tunnel("box", &target) + "kind = 'tcp'\nprivate = true\n"))?;
    let mut up = lab.spawn(&["up", "--json"])?;
    let mut names = [event(&mut up, "ready").await?, event(&mut up, "ready").await?]
        .map(|ready| ready["name"].as_str().unwrap_or_default().to_owned());
    names.sort();
    ensure!(names == ["box", "web"], "{names:?}");
    ensure!(lab.get("web", "/1k").await?.0.status == 200);
    ensure!(lab.get("box", "/1k").await?.0.status == 404, "no visitor knows of it");
    let mut access = lab.spawn(&["access", "box", "--json"])?;
    let ready = event(&mut access, "ready").await?;
    let address = ready["bind"].as_str().context("an address")?.parse()?;
    let mut own = Connection::open(address).await?;
    let (head, body) = own.exchange(b"GET /1k HTTP/1.1\r\nhost: box\r\n\r\n").await?;
    ensure!(head.status == 200 && body.len() == 1024, "{}", head.text);
    Ok(())
}

#[tokio::test]
async fn one_that_is_refused_ends_no_other_and_the_exit_status_tells() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let holder = alone(&lab, &target, "taken").await?;
    write(&lab, &(tunnel("taken", &target) + &tunnel("free", &target)))?;
    let mut up = lab.spawn(&["up", "--json"])?;
    let (mut failed, mut is_up) = (None, false);
    while failed.is_none() || !is_up {
        let line: Value = serde_json::from_str(&up.line().await?)?;
        match line["event"].as_str() {
            Some("failed") => failed = Some(line),
            Some("ready") => is_up = line["name"] == "free",
            _ => {}
        }
    }
    let failed = failed.context("it was refused")?;
    ensure!(failed["name"] == "taken" && failed["code"] == "NAME_TAKEN", "{failed}");
    ensure!(failed["help"].as_str().is_some_and(|help| !help.is_empty()), "{failed}");
    ensure!(lab.get("free", "/1k").await?.0.status == 200);

    // It is tried again when the file is read again, also when it says the same.
    let ended = holder.terminate().await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let id = up.id().context("it runs")?.to_string();
    let sent = tokio::process::Command::new("kill").args(["-s", "HUP", &id]).status().await?;
    ensure!(sent.success());
    ensure!(event(&mut up, "reloaded").await?["started"] == json!(["taken"]));
    ready(&mut up, "taken").await?;
    let holder = alone(&lab, &target, "held").await?;
    write(&lab, &(tunnel("free", &target) + &tunnel("held", &target)))?;
    event(&mut up, "failed").await?;
    let ended = up.terminate().await?;
    ensure!(ended.code == Some(4), "{ended:?}");
    let last = ended.json()?;
    ensure!(last["event"] == "error" && last["code"] == "NAME_TAKEN", "{last}");
    ensure!(
        last["message"].as_str().is_some_and(|message| message.starts_with("1 of 2 tunnels failed: held")),
        "{last}"
    );
    drop(holder);
    Ok(())
}

#[tokio::test]
async fn a_child_key_is_told_that_it_has_one_tunnel_before_anything_starts() -> Result<()> {
    let lab = lab().await?;
    let child = lab.mint(&[]).await?;
    let token = child["token"].as_str().context("a token")?;
    std::fs::write(lab.path("token"), token)?;
    write(&lab, &("token_file = 'token'\n".to_owned() + &tunnel("a", "3000") + &tunnel("b", "3001")))?;
    let ended = lab.run(&["up", "--json"]).await?;
    ensure!(ended.code == Some(4), "{ended:?}");
    let last = ended.json()?;
    ensure!(last["code"] == "TUNNEL_LIMIT", "{last}");
    ensure!(
        last["message"] == "the file has 2 tunnels, and this key may have one tunnel at one time",
        "{last}"
    );

    // One is one.
    write(&lab, &("token_file = 'token'\n".to_owned() + &tunnel("a", "3000")))?;
    let mut up = lab.spawn(&["up", "--json"])?;
    ready(&mut up, "a").await?;
    Ok(())
}
