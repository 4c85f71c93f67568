//! The audit log against what a relay was told of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab;

#[tokio::test]
async fn a_relay_keeps_what_the_log_ended_with_and_the_owner_compares() -> Result<()> {
    let lab = lab().await?;
    let file = lab.path("data/audit-witness");
    let begun = Instant::now();
    while !file.exists() {
        ensure!(begun.elapsed() < Duration::from_secs(20), "the relay wrote no witness");
        tokio::task::yield_now().await;
    }
    let path = file.to_str().context("a path in UTF-8")?;
    let verify = ["audit", "--verify", "--witness", path];
    let told = lab.run(&verify).await?.success()?;
    ensure!(told.stderr.contains("is whole") && told.stderr.contains("relay was told"), "{}", told.stderr);

    // The log that the relay saw later is not this one.
    let mut text = std::fs::read_to_string(&file)?;
    text.push_str(&format!("4000000000 {}\n", "ab".repeat(32)));
    std::fs::write(&file, text)?;
    let told = lab.run(&verify).await?;
    ensure!(told.code == Some(1) && told.stderr.contains("2096-10-02"), "{told:?}");
    std::fs::write(&file, "nonsense\n")?;
    let told = lab.run(&verify).await?;
    ensure!(told.code != Some(0) && told.stderr.contains("audit-witness:1"), "{told:?}");
    Ok(())
}
