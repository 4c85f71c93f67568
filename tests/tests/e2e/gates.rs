//! Gates as visitors meet them: set from the command line, true from the next request on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::Ended;
use mytunnel_tests::wire::{Connection, Head};
use serde_json::Value;

use crate::lab;

const PASSWORD: &str = "correct horse";
/// `ann:correct horse`, and with a wrong password.
const RIGHT: &str = "Basic YW5uOmNvcnJlY3QgaG9yc2U=";
const WRONG: &str = "Basic YW5uOndyb25nIGhvcnNl";

/// A request of one visitor, on a connection that stays.
async fn ask(
    lab: &Lab,
    visitor: &mut Connection,
    name: &str,
    authorization: Option<&str>,
) -> Result<(Head, String)> {
    let header = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    let request = format!("GET /head HTTP/1.1\r\nhost: {}\r\n{header}\r\n", lab.host(name));
    let (head, body) = visitor.exchange(request.as_bytes()).await?;
    Ok((head, String::from_utf8(body)?))
}

/// Runs a command about a tunnel, which exists for the coordinator soon after it is up.
async fn about(lab: &Lab, arguments: &[&str]) -> Result<Ended> {
    let known = async {
        loop {
            let ended = lab.run_with(arguments, &[("MYTUNNEL_TUNNEL_PASSWORD", PASSWORD)]).await?;
            if ended.code == Some(0) || ended.json()?["code"] != "NOT_FOUND" {
                return anyhow::Ok(ended);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), known).await.context("the tunnel is known in time")?
}

async fn set_password(lab: &Lab, name: &str) -> Result<Value> {
    about(lab, &["tunnels", "auth", name, "--user", "ann", "--json"]).await?.success()?.json()
}

#[tokio::test]
async fn a_password_counts_from_the_next_request_on_and_the_node_never_sees_it() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = lab.node(&origin.address.port().to_string(), "shop").await?;
    let mut visitor = Connection::open(lab.http).await?;
    assert_eq!(ask(&lab, &mut visitor, "shop", None).await?.0.status, 200);
    let mut stream = Connection::open(lab.http).await?;
    stream
        .send(format!("GET /sse/20/1000 HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("shop")).as_bytes())
        .await?;
    let streaming = stream.head().await?;

    let set = set_password(&lab, "shop").await?;
    assert_eq!((&set["auth_enabled"], &set["relays"][0]["applied"]), (&true.into(), &true.into()), "{set}");
    assert!(stream.body(&streaming, |_| ()).await.is_err(), "who came in without it is cut off");
    let (refused, page) = ask(&lab, &mut visitor, "shop", None).await?;
    assert_eq!((refused.status, refused.field("www-authenticate")), (401, Some("Basic realm=\"shop\"")));
    assert!(page.contains("password"), "{page}");
    assert_eq!(ask(&lab, &mut visitor, "shop", Some(WRONG)).await?.0.status, 401);
    let (passed, seen) = ask(&lab, &mut visitor, "shop", Some(RIGHT)).await?;
    assert_eq!(passed.status, 200);
    assert!(!seen.to_ascii_lowercase().contains("authorization"), "{seen}");

    let listed = lab.run(&["tunnels", "list", "--json"]).await?.success()?.json()?;
    let row = &listed["tunnels"][0];
    assert_eq!(
        (&row["name"], &row["online"], &row["gates"]),
        (&"shop".into(), &true.into(), &serde_json::json!(["basic"]))
    );
    assert!(row["url"].as_str().context("url")?.contains("shop.localhost"), "{row}");

    let off = lab.run(&["tunnels", "auth", "shop", "--off", "--json"]).await?.success()?.json()?;
    assert_eq!(off["auth_enabled"], false);
    let (open, seen) = ask(&lab, &mut visitor, "shop", Some(RIGHT)).await?;
    assert_eq!(open.status, 200);
    assert!(seen.to_ascii_lowercase().contains("authorization"), "an open tunnel's own sign-in still works");
    Ok(())
}

#[tokio::test]
async fn a_relay_that_starts_again_asks_from_its_first_request_on() -> Result<()> {
    let (mut lab, origin) = (lab().await?, Origin::start().await?);
    let (mut node, _) = lab.node(&origin.address.port().to_string(), "shop").await?;
    set_password(&lab, "shop").await?;
    lab.restart_relay().await?;
    // It may come before the node is back, and then waits for it.
    let mut visitor = Connection::open(lab.http).await?;
    assert_eq!(ask(&lab, &mut visitor, "shop", None).await?.0.status, 401);
    node.event("ready").await?;
    assert_eq!(ask(&lab, &mut visitor, "shop", Some(RIGHT)).await?.0.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_sign_in_that_nobody_can_make_lets_nobody_in() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = lab.node(&origin.address.port().to_string(), "shop").await?;
    let allow = ["tunnels", "edge-auth", "shop", "--google", "--allow", "@acme.example", "--json"];
    let set = about(&lab, &allow).await?.success()?.json()?;
    assert_eq!(set["edge_auth_enabled"], true, "{set}");
    let mut visitor = Connection::open(lab.http).await?;
    let (head, page) = ask(&lab, &mut visitor, "shop", Some(RIGHT)).await?;
    assert_eq!((head.status, head.field("x-mytunnel-error")), (503, Some("SIGN_IN_UNAVAILABLE")));
    assert!(page.contains("sign-in"), "{page}");
    lab.run(&["tunnels", "edge-auth", "shop", "--off"]).await?.success()?;
    assert_eq!(ask(&lab, &mut visitor, "shop", None).await?.0.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_closed_tunnel_ends_at_once_and_its_key_may_serve_again() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let child = lab.mint(&["--ttl", "1h"]).await?;
    let token = child["token"].as_str().context("token")?;
    let (mut node, _) = lab.node_with(token, &target, "shop").await?;
    set_password(&lab, "shop").await?;
    let mut visitor = Connection::open(lab.http).await?;
    let stream =
        format!("GET /sse/20/1000 HTTP/1.1\r\nhost: {}\r\nauthorization: {RIGHT}\r\n\r\n", lab.host("shop"));
    visitor.send(stream.as_bytes()).await?;
    let streaming = visitor.head().await?;
    assert_eq!(streaming.status, 200);

    let closed = lab.run(&["tunnels", "close", "shop", "--json"]).await?.success()?.json()?;
    assert_eq!(closed["relays"][0]["applied"], true, "{closed}");
    assert!(visitor.body(&streaming, |_| ()).await.is_err(), "a live visitor is cut");
    let told: Value = loop {
        let value: Value = serde_json::from_str(&node.line().await?)?;
        if value["event"] == "closed" || value["event"] == "error" {
            break value;
        }
    };
    ensure!(told["code"] == "NOT_FOUND" && told.to_string().contains("closed by its owner"), "{told}");
    assert_eq!(lab.get("shop", "/1k").await?.0.status, 404);

    let (_again, _) = lab.node_with(token, &target, "shop").await?;
    assert_eq!(lab.get("shop", "/1k").await?.0.status, 401, "its gate is still there");
    Ok(())
}

#[tokio::test]
async fn a_plan_without_passwords_says_so_and_takes_none_away() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = lab.node(&origin.address.port().to_string(), "shop").await?;
    set_password(&lab, "shop").await?;
    let plan = lab.run(&["tenant", "plan", "free", "--json"]).await?.success()?.json()?;
    assert_eq!(plan["plan"], "free", "{plan}");
    let refused = about(&lab, &["tunnels", "auth", "shop", "--user", "bob", "--json"]).await?;
    assert_eq!((refused.json()?["code"].as_str(), refused.code), (Some("UPGRADE_REQUIRED"), Some(4)));
    let mut visitor = Connection::open(lab.http).await?;
    assert_eq!(ask(&lab, &mut visitor, "shop", None).await?.0.status, 401, "what stands goes on");
    lab.run(&["tunnels", "auth", "shop", "--off"]).await?.success()?;
    assert_eq!(ask(&lab, &mut visitor, "shop", None).await?.0.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_share_with_a_password_is_never_open_and_stays_gated() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let share = ["share", &target, "--name", "shop", "--basic", "ann:correct horse", "--json"];
    let mut node = lab.spawn(&share)?;
    let mut visitor = Connection::open(lab.http).await?;
    // Asked all the time from before the share is up: whatever comes, it is never the content.
    let open = async {
        loop {
            let (head, _) = ask(&lab, &mut visitor, "shop", None).await?;
            if head.status == 200 {
                return anyhow::Ok(());
            }
        }
    };
    tokio::select! {
        ready = node.event("ready") => drop(ready?),
        opened = open => anyhow::bail!("it was open: {opened:?}"),
    }
    ensure!(node.stderr().contains("others on this machine can read"), "{}", node.stderr());
    assert_eq!(lab.get("shop", "/1k").await?.0.status, 401);
    let mut visitor = Connection::open(lab.http).await?;
    assert_eq!(ask(&lab, &mut visitor, "shop", Some(RIGHT)).await?.0.status, 200);
    node.terminate().await?;

    // The gate stays with the name.
    let mut again = lab.spawn(&["share", &target, "--name", "shop", "--json"])?;
    again.event("ready").await?;
    assert_eq!(lab.get("shop", "/1k").await?.0.status, 401);
    Ok(())
}

#[tokio::test]
async fn who_shares_one_target_twice_has_two_names_and_each_asks() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let share = ["share", &origin.address.port().to_string(), "--basic", "ann:correct horse", "--json"];
    let mut nodes = Vec::new();
    let mut names = Vec::new();
    for _ in 0..3 {
        let mut node = lab.spawn(&share)?;
        let ready = node.event("ready").await?;
        let name = ready["name"].as_str().context("name")?.to_owned();
        let mut visitor = Connection::open(lab.http).await?;
        assert_eq!(ask(&lab, &mut visitor, &name, None).await?.0.status, 401, "{name}, after {names:?}");
        assert_eq!(ask(&lab, &mut visitor, &name, Some(RIGHT)).await?.0.status, 200);
        assert!(!names.contains(&name), "{name}, after {names:?}");
        nodes.push(node);
        names.push(name);
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_may_ask_for_a_password_but_not_touch_its_owners() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let share = ["http", &target, "--subdomain", "preview", "--basic", "ann", "--json"];
    let child = lab.mint(&[]).await?;
    let token = child["token"].as_str().context("token")?;
    let with = [("MYTUNNEL_AUTH_TOKEN", token), ("MYTUNNEL_TUNNEL_PASSWORD", PASSWORD)];
    let mut node = lab.spawn_with(&share, &with)?;
    node.event("ready").await?;
    assert_eq!(lab.get("preview", "/1k").await?.0.status, 401);
    let mut visitor = Connection::open(lab.http).await?;
    assert_eq!(ask(&lab, &mut visitor, "preview", Some(RIGHT)).await?.0.status, 200);
    set_password(&lab, "preview").await?;
    node.terminate().await?;
    let refused = lab.run_with(&share, &with).await?;
    assert_eq!((refused.json()?["code"].as_str(), refused.code), (Some("SCOPE_DENIED"), Some(4)));
    Ok(())
}

#[tokio::test]
async fn a_relay_for_one_share_asks_for_its_password_too() -> Result<()> {
    let origin = Origin::start().await?;
    let lab = Lab::empty(std::path::Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let target = origin.address.port().to_string();
    let arguments = ["share", &target, "--name", "shop", "--basic", "ann", "--json"];
    let mut node = lab.spawn_with(&arguments, &[("MYTUNNEL_TUNNEL_PASSWORD", PASSWORD)])?;
    let ready = node.event("ready").await?;
    let url = ready["url"].as_str().context("url")?;
    let port: u16 = url.rsplit(':').next().context("a port")?.trim_end_matches('/').parse()?;
    let mut visitor = Connection::open(([127, 0, 0, 1], port).into()).await?;
    let request = |more: &str| format!("GET /1k HTTP/1.1\r\nhost: shop.localhost:{port}\r\n{more}\r\n");
    assert_eq!(visitor.exchange(request("").as_bytes()).await?.0.status, 401);
    let right = request(&format!("authorization: {RIGHT}\r\n"));
    assert_eq!(visitor.exchange(right.as_bytes()).await?.0.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_tunnel_that_is_not_there_is_said() -> Result<()> {
    let lab = lab().await?;
    let ended = lab.run(&["tunnels", "close", "nothing", "--json"]).await?;
    assert_eq!((ended.json()?["code"].as_str(), ended.code), (Some("NOT_FOUND"), Some(1)));
    let both = lab.run(&["tunnels", "auth", "nothing", "--user", "ann", "--off", "--json"]).await?;
    assert_eq!(both.code, Some(2));
    Ok(())
}
