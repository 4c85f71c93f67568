//! Numbers, tokens, addresses and ends, from the command line to the visitor.

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::wire::{Connection, Head};
use serde_json::Value;

use crate::lab;

async fn ask(lab: &Lab, visitor: &mut Connection, name: &str, fields: &str) -> Result<(Head, String)> {
    let request = format!("GET /head HTTP/1.1\r\nhost: {}\r\n{fields}\r\n", lab.host(name));
    let (head, body) = visitor.exchange(request.as_bytes()).await?;
    Ok((head, String::from_utf8(body)?))
}

/// Sends the form of the page that asks for a number; answers the cookie of who has entered.
async fn enter(lab: &Lab, visitor: &mut Connection, name: &str, pin: &str) -> Result<(u16, String)> {
    let body = format!("pin={pin}");
    let request = format!(
        "POST /.mytunnel/pin?to=%2Fhead HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{body}",
        lab.host(name),
        body.len()
    );
    let (head, _) = visitor.exchange(request.as_bytes()).await?;
    let cookie = head.field("set-cookie").and_then(|set| set.split(';').next());
    Ok((head.status, cookie.map(|cookie| format!("cookie: {cookie}\r\n")).unwrap_or_default()))
}

#[tokio::test]
async fn a_share_makes_its_pin_and_token_and_tells_them_once() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let share = ["share", &target, "--name", "shop", "--pin", "--bearer", "--json"];
    let mut node = lab.spawn(&share)?;
    let ready = node.event("ready").await?;
    let (pin, token) = (ready["pin"].as_str().context("pin")?, ready["bearer"].as_str().context("bearer")?);
    ensure!(pin.len() == 6 && token.len() == 43, "{ready}");
    let mut visitor = Connection::open(lab.http).await?;
    let (asked, page) = ask(&lab, &mut visitor, "shop", "accept: text/html\r\n").await?;
    assert_eq!((asked.status, asked.field("x-mytunnel-error")), (401, Some("PIN_REQUIRED")));
    ensure!(page.contains("shop asks for a PIN"), "{page}");
    let wrong = if pin == "000000" { "000001" } else { "000000" };
    assert_eq!(enter(&lab, &mut visitor, "shop", wrong).await?.0, 401);
    let (status, cookie) = enter(&lab, &mut visitor, "shop", pin).await?;
    assert_eq!(status, 303);
    let (passed, seen) = ask(&lab, &mut visitor, "shop", &cookie).await?;
    assert_eq!(passed.status, 200);
    ensure!(!seen.contains("mtk_"), "{seen}");
    let bearer = format!("authorization: Bearer {token}\r\n");
    let (passed, seen) = ask(&lab, &mut visitor, "shop", &bearer).await?;
    assert_eq!(passed.status, 200);
    ensure!(!seen.contains(token), "{seen}");
    let listed = lab.run(&["tunnels", "list", "--json"]).await?.success()?.json()?;
    assert_eq!(listed["tunnels"][0]["gates"], serde_json::json!(["pin", "bearer"]));

    // Another number ends the sessions of the one before.
    let set = lab.run(&["tunnels", "pin", "shop", "--json"]).await?.success()?.json()?;
    let second = set["secret"].as_str().context("secret")?;
    assert_eq!(ask(&lab, &mut visitor, "shop", &cookie).await?.0.status, 401);
    assert_eq!(enter(&lab, &mut visitor, "shop", second).await?.0, 303);
    for gate in ["pin", "bearer"] {
        lab.run(&["tunnels", gate, "shop", "--off"]).await?.success()?;
    }
    assert_eq!(ask(&lab, &mut visitor, "shop", "").await?.0.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_session_outlives_the_relays_process() -> Result<()> {
    let (mut lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let mut node = lab.spawn(&["share", &target, "--name", "shop", "--pin", "123456", "--json"])?;
    node.event("ready").await?;
    ensure!(node.stderr().contains("others on this machine can read"), "{}", node.stderr());
    let mut visitor = Connection::open(lab.http).await?;
    let (_, cookie) = enter(&lab, &mut visitor, "shop", "123456").await?;
    lab.restart_relay().await?;
    node.event("ready").await?;
    let mut visitor = Connection::open(lab.http).await?;
    assert_eq!(ask(&lab, &mut visitor, "shop", &cookie).await?.0.status, 200);
    assert_eq!(ask(&lab, &mut visitor, "shop", "").await?.0.status, 401);
    Ok(())
}

#[tokio::test]
async fn addresses_are_asked_from_the_command_line_and_from_the_first_request_on() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let share = ["http", &target, "--subdomain", "shop", "--allow-ip", "192.0.2.0/24", "--json"];
    let mut node = lab.spawn(&share)?;
    node.event("ready").await?;
    let mut visitor = Connection::open(lab.http).await?;
    let (denied, _) = ask(&lab, &mut visitor, "shop", "x-forwarded-for: 192.0.2.1\r\n").await?;
    assert_eq!((denied.status, denied.field("x-mytunnel-error")), (403, Some("ADDRESS_DENIED")));
    let allow = ["tunnels", "ip", "shop", "--allow", "127.0.0.0/8", "--json"];
    let set = lab.run(&allow).await?.success()?.json()?;
    assert_eq!((&set["gate"], &set["relays"][0]["applied"]), (&"ip".into(), &true.into()));
    assert_eq!(ask(&lab, &mut visitor, "shop", "").await?.0.status, 200);
    lab.run(&["tunnels", "ip", "shop", "--deny", "127.0.0.1"]).await?.success()?;
    assert_eq!(ask(&lab, &mut visitor, "shop", "").await?.0.status, 403);
    let bad = lab.run(&["share", &target, "--allow-ip", "10.0.0.0/99", "--json"]).await?;
    assert_eq!(bad.code, Some(2));
    Ok(())
}

#[tokio::test]
async fn a_tunnel_ends_on_the_relay_whatever_its_node_does() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    // This node has no end of its own, and is told by the relay alone.
    let child = lab.mint(&["--ttl", "1h"]).await?;
    let token = child["token"].as_str().context("token")?;
    let (mut node, _) = lab.node_with(token, &target, "shop").await?;
    let end = async || lab.run(&["tunnels", "expire", "shop", "--in", "1s", "--json"]).await;
    let set = loop {
        let ended = end().await?;
        if ended.code == Some(0) {
            break ended.json()?;
        }
    };
    assert_eq!(set["gate"], "expires", "{set}");
    let told: Value = loop {
        let value: Value = serde_json::from_str(&node.line().await?)?;
        if value["event"] == "closed" || value["event"] == "error" {
            break value;
        }
    };
    ensure!(told["code"] == "NOT_FOUND" && told.to_string().contains("is over"), "{told}");
    let (head, page) = lab.get("shop", "/1k").await?;
    assert_eq!(head.status, 404);
    ensure!(String::from_utf8(page)?.contains("ended"), "the page of an ended tunnel");

    let again = ["share", &target, "--name", "shop", "--json"];
    let again = lab.run_with(&again, &[("MYTUNNEL_AUTH_TOKEN", token)]).await?.json()?;
    ensure!(again["code"] == "NOT_FOUND" && again.to_string().contains("--off"), "{again}");
    lab.run(&["tunnels", "expire", "shop", "--off"]).await?.success()?;
    let (_node, _) = lab.node_with(token, &target, "shop").await?;
    assert_eq!(lab.get("shop", "/1k").await?.0.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_share_with_an_end_ends_calmly_and_its_relay_knows() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let own = ["share", &target, "--name", "shop", "--project", "demo", "--json"];
    let mut node = lab.spawn(&[&own[..], &["--expires", "6s"]].concat())?;
    node.event("ready").await?;
    let closed = node.event("closed").await?;
    assert_eq!(closed["code"], Value::Null, "{closed}");
    assert_eq!(node.ended().await?.code, Some(0));
    // Once the relay has ended it, too, a key that did not set the end does not get past it.
    while lab.get("shop", "/1k").await?.0.status != 404 {}
    let child = lab.mint(&[]).await?;
    let token = child["token"].as_str().context("token")?;
    let again = ["share", &target, "--name", "shop", "--json"];
    let refused = lab.run_with(&again, &[("MYTUNNEL_AUTH_TOKEN", token)]).await?;
    ensure!(refused.json()?["code"] == "NOT_FOUND" && refused.code == Some(1), "{refused:?}");
    // Nor does what starts programs again by itself.
    let again = lab.run(&own).await?;
    let told = again.json()?;
    ensure!(told["code"] == "NOT_FOUND" && told["message"].to_string().contains("--expires"), "{again:?}");
    // A later share gives it another end.
    let mut node = lab.spawn(&[&own[..], &["--expires", "1h"]].concat())?;
    node.event("ready").await?;
    assert_eq!(lab.get("shop", "/1k").await?.0.status, 200);
    Ok(())
}
