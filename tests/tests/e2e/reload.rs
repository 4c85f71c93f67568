//! What a relay reads again from its file holds for the next connection.

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::apart::ANY;

/// Has the relay read its file again; answers what it took.
async fn reload(lab: &mut Lab, text: &str) -> Result<Value> {
    std::fs::write(lab.path("relay.toml"), text)?;
    let relay = lab.relay.as_mut().context("it runs")?;
    let id = relay.id().context("it runs")?.to_string();
    ensure!(Command::new("kill").args(["-HUP", &id]).status().await?.success());
    Ok(relay.event("reloaded").await?["applied"].take())
}

#[tokio::test]
async fn proxies_and_sign_ins_are_those_of_the_new_file() -> Result<()> {
    let origin = Origin::start().await?;
    let mut lab = Lab::empty(std::path::Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let file = lab.path("relay.toml");
    std::fs::write(&file, "")?;
    lab.start_relay_with(&ANY, &["--config", file.to_str().context("a path in UTF-8")?]).await?;
    let code = lab.ready["setup_code"].as_str().context("a setup code")?.to_owned();
    lab.own(&lab.server(), &code).await?;
    let (_node, _) = lab.node(&origin.address.port().to_string(), "shop").await?;

    let visitor = async |lab: &Lab| {
        let mut connection = mytunnel_tests::wire::Connection::open(lab.http).await?;
        let host = lab.host("shop");
        let request = format!("GET /head HTTP/1.1\r\nhost: {host}\r\nx-forwarded-for: 203.0.113.7\r\n\r\n");
        let (_, seen) = connection.exchange(request.as_bytes()).await?;
        let seen = String::from_utf8(seen)?;
        anyhow::Ok(mytunnel_tests::wire::field(&seen, "x-forwarded-for").unwrap_or_default().to_owned())
    };
    ensure!(visitor(&lab).await? == "127.0.0.1", "nobody is believed who was not named");
    let proxies = "trusted_proxies = ['127.0.0.1']\n";
    ensure!(reload(&mut lab, proxies).await? == json!(["trusted_proxies"]));
    // The relay takes what it was sent before the next connection, or soon after.
    let believed = async {
        while visitor(&lab).await? != "203.0.113.7" {}
        anyhow::Ok(())
    };
    tokio::time::timeout(mytunnel_tests::process::PATIENCE, believed)
        .await
        .context("a proxy is believed")??;
    let applied = reload(&mut lab, "").await?;
    ensure!(applied == json!(["trusted_proxies"]), "{applied}");
    let doubted = async {
        while visitor(&lab).await? != "127.0.0.1" {}
        anyhow::Ok(())
    };
    tokio::time::timeout(mytunnel_tests::process::PATIENCE, doubted).await.context("and no more")??;

    let set = ["tunnels", "edge-auth", "shop", "--google", "--json"];
    lab.run(&set).await?.success()?;
    let asked = lab.get_html("shop", "/head").await?;
    ensure!(asked.field("x-mytunnel-error") == Some("SIGN_IN_UNAVAILABLE"), "{}", asked.text);
    let secret = lab.path("secret");
    let google = format!(
        "[[sign_in]]\nid = 'google'\nclient_id = 'us'\nclient_secret = {{ file = '{}' }}\n",
        secret.display()
    );
    std::fs::write(&secret, "secret\n")?;
    let applied = reload(&mut lab, &google).await?;
    ensure!(applied == json!(["sign_in"]), "{applied}");
    let offered = async {
        while lab.get_html("shop", "/head").await?.field("x-mytunnel-error") == Some("SIGN_IN_UNAVAILABLE") {}
        anyhow::Ok(())
    };
    tokio::time::timeout(mytunnel_tests::process::PATIENCE, offered)
        .await
        .context("it can be signed in")??;
    let led = lab.get_html("shop", "/head").await?;
    ensure!(led.field("location").is_some_and(|to| to.contains("/.mytunnel/")), "{}", led.text);
    Ok(())
}
