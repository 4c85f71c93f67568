//! Visitors who sign in before a tunnel, by a real OpenID provider (npm's `oidc-provider`): in Chromium, and as attackers.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::origin::Origin;

use crate::dashboard::drive_in;
use crate::sign_in::{house_of, house_with};

const ANY: &str = "127.0.0.1:0";
const CALLBACK: &str = "/.mytunnel/callback";

#[tokio::test]
async fn a_visitor_signs_in_is_kept_out_comes_as_another_and_signs_out() -> Result<()> {
    let ((lab, _provider), origin) = (house_with(CALLBACK).await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let share = ["share", &target, "--name", "shop", "--oidc", "op", "--allow", "@acme.example", "--json"];
    let mut shop = lab.spawn(&share)?;
    let site = shop.event("ready").await?["url"].as_str().context("url")?.trim_end_matches('/').to_owned();
    let mut desk = lab.spawn(&["share", &target, "--name", "desk", "--pin", "--json"])?;
    let ready = desk.event("ready").await?;
    let (pinned, pin) = (ready["url"].as_str().context("url")?, ready["pin"].as_str().context("pin")?);
    let port =
        lab.ready["https"].as_str().and_then(|address| address.trim_end_matches('/').rsplit(':').next());
    let secure = format!("https://desk.localhost:{}", port.context("a port for HTTPS")?);
    let arguments = [site.as_str(), pinned.trim_end_matches('/'), pin, &secure];
    let mut browser = drive_in("sign_in", "visitor.mjs", &arguments).await?;
    browser.event("entered").await?;
    let allow = ["tunnels", "edge-auth", "shop", "--oidc", "op", "--allow", "@other.example", "--json"];
    let set = lab.run(&allow).await?.success()?.json()?;
    ensure!(set["relays"][0]["applied"] == true, "{set}");
    browser.event("done").await?;
    Ok(())
}

#[tokio::test]
async fn nothing_that_an_attacker_makes_of_a_visitors_sign_in_lets_anybody_in() -> Result<()> {
    let ((lab, _provider), origin) = (house_with(CALLBACK).await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let mut shop = lab.spawn(&["share", &target, "--name", "shop", "--oidc", "op", "--json"])?;
    let ready = shop.event("ready").await?;
    let site = ready["url"].as_str().context("url")?.trim_end_matches('/');
    let mut attacker = drive_in("sign_in", "visitor_attacks.mjs", &[site]).await?;
    attacker.event("done").await?;
    Ok(())
}

/// Names of one domain are one site to a browser, and may set cookies for all of it.
#[tokio::test]
async fn what_a_neighbour_does_with_cookies_in_a_browser_lets_nobody_in_and_locks_nobody_out() -> Result<()> {
    let ((lab, _provider), origin) = (house_of("tun.example", CALLBACK).await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let mut shop = lab.spawn(&["share", &target, "--name", "shop", "--oidc", "op", "--json"])?;
    shop.event("ready").await?;
    let [_, https, _] = lab.listen_addresses()?;
    let port = https.rsplit(':').next().context("a port for HTTPS")?;
    let mut browser = drive_in("sign_in", "visitor_neighbour.mjs", &[port]).await?;
    let neighbour = browser.event("neighbour").await?["port"].to_string();
    let mut evil = lab.spawn(&["share", &neighbour, "--name", "evil", "--json"])?;
    evil.event("ready").await?;
    browser.event("done").await?;
    Ok(())
}

#[tokio::test]
async fn a_visitor_signs_in_at_whichever_relay_a_name_leads_to() -> Result<()> {
    let ((lab, _provider), origin) = (house_with(CALLBACK).await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let mut shop = lab.spawn(&["share", &target, "--name", "shop", "--oidc", "op", "--json"])?;
    let ready = shop.event("ready").await?;
    let site = ready["url"].as_str().context("url")?.trim_end_matches('/').to_owned();
    // Joined after the node had chosen, so that the node is at the first one.
    let join = lab.run(&["keys", "join-token", "--json"]).await?.success()?.json()?;
    let (server, data, config) = (lab.server(), lab.path("second"), lab.path("relay.toml"));
    let path = |path: &Path| path.to_str().map(str::to_owned).context("a path in UTF-8");
    let (data, config) = (path(&data)?, path(&config)?);
    let token = join["token"].as_str().context("a join token")?;
    let mut joined = vec!["relay", "--json", "--data", &data, "--config", &config, "--coordinator", &server];
    joined.extend(["--join", token, "--http", ANY, "--https", ANY, "--p2p", ANY]);
    let mut second = lab.spawn(&joined)?;
    let ready = second.event("ready").await?;
    let elsewhere = ready["http"].as_str().map(|address| address.trim_end_matches('/'));
    let elsewhere = elsewhere.and_then(|address| address.rsplit(':').next()).context("a port for HTTP")?;
    let here = lab.http.port().to_string();
    let mut browser = drive_in("sign_in", "visitor_relays.mjs", &[&site, &here, elsewhere]).await?;
    browser.event("done").await?;
    Ok(())
}

#[tokio::test]
async fn a_provider_that_is_not_there_or_away_is_said() -> Result<()> {
    let ((lab, provider), origin) = (house_with(CALLBACK).await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let refused = lab.run(&["share", &target, "--name", "shop", "--google", "--json"]).await?;
    let told = refused.json()?;
    ensure!(told["code"] == "UNSUPPORTED_PROVIDER" && told.to_string().contains("[[sign_in]]"), "{told}");
    let other =
        lab.run(&["share", &target, "--name", "shop", "--oidc", "https://id.example", "--json"]).await?;
    ensure!(other.json()?["code"] == "UNSUPPORTED_PROVIDER", "{}", other.json()?);

    let mut shop = lab.spawn(&["share", &target, "--name", "shop", "--oidc", "op", "--json"])?;
    shop.event("ready").await?;
    provider.kill().await?;
    let begun = lab.get_html("shop", "/head").await?;
    ensure!(begun.status == 302, "{}", begun.status);
    let to = begun.field("location").context("where to sign in")?;
    let path = to.split_once(".mytunnel/").context("the sign-in's host")?.1;
    let answer = lab.get_at_console(&format!("/.mytunnel/{path}")).await?;
    ensure!(
        (answer.status, answer.field("x-mytunnel-error")) == (502, Some("SIGN_IN_DOWN")),
        "{}",
        answer.status
    );
    Ok(())
}
