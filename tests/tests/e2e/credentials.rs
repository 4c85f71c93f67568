//! Every way in which a credential can be wrong: each has its own code, exit status and remedy.

use anyhow::{Context, Result};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::process::Ended;

use crate::lab;

async fn share(lab: &Lab, token: &str, more: &[&str]) -> Result<Ended> {
    let mut arguments = vec!["share", "1", "--name", "x", "--json"];
    arguments.extend(more);
    lab.run_with(&arguments, &[("MYTUNNEL_AUTH_TOKEN", token)]).await
}

fn refused(ended: &Ended, code: &str, exit: i32) -> Result<()> {
    let error = ended.json()?;
    assert_eq!(error["event"], "error", "{error}");
    assert_eq!(error["code"], code, "{error}");
    assert!(!error["help"].as_str().unwrap_or_default().is_empty(), "a remedy stands beside {code}: {error}");
    assert_eq!(ended.code, Some(exit), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_master_key_cannot_share() -> Result<()> {
    let lab = lab().await?;
    refused(&share(&lab, &lab.master, &[]).await?, "MASTER_CANNOT_ACT", 4)
}

#[tokio::test]
async fn a_child_cannot_mint() -> Result<()> {
    let lab = lab().await?;
    let child = lab.mint(&["--portable"]).await?;
    let token = child["token"].as_str().context("token")?;
    let ended = lab.run_with(&["eval", "mint", "--json"], &[("MTK_MASTER", token)]).await?;
    assert!(matches!(ended.code, Some(3 | 4)), "{ended:?}");
    assert_eq!(ended.json()?["event"], "error");
    Ok(())
}

#[tokio::test]
async fn a_mistyped_or_cut_token_is_told_apart_from_a_refused_one() -> Result<()> {
    let lab = lab().await?;
    let child = lab.mint(&["--portable"]).await?;
    let token = child["token"].as_str().context("token")?;
    let mut typo: Vec<char> = token.chars().collect();
    let at = typo.len() - 20;
    typo[at] = if typo[at] == 'a' { 'b' } else { 'a' };
    let typo: String = typo.into_iter().collect();
    for wrong in [typo.as_str(), &token[..token.len() - 9], "hello", "mtk_child_"] {
        refused(&share(&lab, wrong, &[]).await?, "INVALID_KEY", 3)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_revoked_child_is_refused() -> Result<()> {
    let lab = lab().await?;
    let child = lab.mint(&[]).await?;
    let (token, serial) =
        (child["token"].as_str().context("token")?, child["serial"].as_str().context("serial")?);
    lab.run(&["keys", "revoke", serial]).await?.success()?;
    refused(&share(&lab, token, &[]).await?, "KEY_REVOKED", 3)
}

#[tokio::test]
async fn another_clusters_child_is_refused() -> Result<()> {
    let (ours, theirs) = tokio::try_join!(lab(), lab())?;
    let child = theirs.mint(&["--portable"]).await?;
    let token = child["token"].as_str().context("token")?;
    let ended = ours
        .run_with(
            &["share", "1", "--name", "x", "--json"],
            &[("MYTUNNEL_AUTH_TOKEN", token), ("MYTUNNEL_SERVER", &ours.server())],
        )
        .await?;
    refused(&ended, "INVALID_KEY", 3)
}

#[tokio::test]
async fn a_child_acts_in_its_own_project_only() -> Result<()> {
    let lab = lab().await?;
    let other = lab.project("other").await?;
    let other = other["id"].as_str().context("id")?;
    let child = lab.mint(&[]).await?;
    let token = child["token"].as_str().context("token")?;
    let ended = lab
        .run_with(
            &["share", "1", "--name", "x", "--json"],
            &[("MYTUNNEL_AUTH_TOKEN", token), ("MYTUNNEL_PROJECT", other)],
        )
        .await?;
    refused(&ended, "PROJECT_MISMATCH", 4)
}

#[tokio::test]
async fn what_eval_prints_is_safe_to_eval_and_holds_no_secret() -> Result<()> {
    let lab = lab().await?;
    let bound =
        lab.run_with(&["eval", "mint", "--output-env"], &[("MTK_MASTER", &lab.master)]).await?.success()?;
    let portable = lab
        .run_with(&["eval", "mint", "--output-env", "--portable"], &[("MTK_MASTER", &lab.master)])
        .await?
        .success()?;
    for text in [&bound.stdout, &portable.stdout] {
        assert!(text.starts_with("export MYTUNNEL_AUTH_TOKEN=mtk_child_"), "{text}");
        assert!(text.contains(&format!("export MYTUNNEL_PROJECT={}", lab.project)), "{text}");
    }
    let shell = tokio::process::Command::new("sh")
        .args(["-c", &format!("{}\nprintf %s \"$MYTUNNEL_PROJECT\"", bound.stdout)])
        .output()
        .await?;
    assert_eq!(String::from_utf8(shell.stdout)?, lab.project);
    let keys = lab.path("config").join("keys");
    let seeds = std::fs::read_dir(&keys)?.count();
    assert!(seeds >= 1, "the bound child's seed stays in a file");
    Ok(())
}
