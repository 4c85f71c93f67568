//! Who may take which name.

use anyhow::{Context, Result};
use mytunnel_tests::origin::Origin;

use crate::lab;

#[tokio::test]
async fn a_name_belongs_to_the_project_that_took_it_first() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let (node, _) = lab.node(&target, "shop").await?;
    let other = lab.project("other").await?;
    let master = other["master_key"].as_str().context("master key")?;
    let thief = lab.mint_with(master, &[]).await?;
    let thief = thief["token"].as_str().context("token")?;
    let take = ["share", &target, "--name", "shop", "--json"];

    let while_live = lab.run_with(&take, &[("MYTUNNEL_AUTH_TOKEN", thief)]).await?;
    assert_eq!((while_live.json()?["code"].as_str(), while_live.code), (Some("NAME_TAKEN"), Some(4)));

    node.terminate().await?;
    let while_away = lab.run_with(&take, &[("MYTUNNEL_AUTH_TOKEN", thief)]).await?;
    assert_eq!((while_away.json()?["code"].as_str(), while_away.code), (Some("NAME_TAKEN"), Some(4)));
    Ok(())
}

#[tokio::test]
async fn a_child_has_one_tunnel_at_a_time() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let child = lab.mint(&[]).await?;
    let token = child["token"].as_str().context("token")?;
    let (first, _) = lab.node_with(token, &target, "one").await?;
    let second = lab
        .run_with(&["share", &target, "--name", "two", "--json"], &[("MYTUNNEL_AUTH_TOKEN", token)])
        .await?;
    assert_eq!((second.json()?["code"].as_str(), second.code), (Some("TUNNEL_LIMIT"), Some(4)));
    assert_eq!(lab.get("one", "/1k").await?.0.status, 200, "the first tunnel is untouched");
    first.terminate().await?;
    let (_again, _) = lab.node_with(token, &target, "two").await?;
    assert_eq!(lab.get("two", "/1k").await?.0.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_child_minted_for_a_name_takes_no_other() -> Result<()> {
    let lab = lab().await?;
    let child = lab.mint(&["--subdomain", "docs-*"]).await?;
    let token = child["token"].as_str().context("token")?;
    let ended =
        lab.run_with(&["share", "1", "--name", "shop", "--json"], &[("MYTUNNEL_AUTH_TOKEN", token)]).await?;
    assert_eq!((ended.json()?["code"].as_str(), ended.code), (Some("SCOPE_DENIED"), Some(4)));
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_no_name_is_refused_before_anything_happens() -> Result<()> {
    let lab = lab().await?;
    let child = lab.mint(&[]).await?;
    let token = child["token"].as_str().context("token")?;
    for wrong in ["Not_A_Name", "a.b", "-x", "www", "xn--80ak6aa92e"] {
        let ended = lab
            .run_with(
                &["share", "1", "--json", &format!("--name={wrong}")],
                &[("MYTUNNEL_AUTH_TOKEN", token)],
            )
            .await?;
        assert_eq!(ended.json()?["code"], "NAME_INVALID", "{wrong}");
    }
    Ok(())
}
