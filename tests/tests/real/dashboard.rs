//! The dashboard in a real browser: what a person does there, how it looks, and that its keys are keys.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::Token;
use mytunnel_tests::lab::Lab;
use mytunnel_tests::process::Running;

use crate::browser::packages;

/// Where the pages lie.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../keys/coordinator/src/dashboard");

/// Runs one of the scripts beside this file, where it finds the npm packages.
async fn drive(script: &str, arguments: &[&str]) -> Result<Running> {
    drive_in("dashboard", script, arguments).await
}

/// The same of another folder.
pub(crate) async fn drive_in(scripts: &str, script: &str, arguments: &[&str]) -> Result<Running> {
    // A folder of its own, because tests that run at the same time share scripts.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = packages().await?.join(format!("{scripts}-{number}-{}", script.trim_end_matches(".mjs")));
    std::fs::create_dir_all(&folder)?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real");
    let beside = std::fs::read_dir(sources.join(scripts))?.map(|entry| Ok(entry?.path()));
    let all: Vec<_> = beside.collect::<Result<_>>()?;
    for source in all.iter().chain([&sources.join("dashboard/house.mjs")]) {
        let name = source.file_name().context("a file")?;
        std::fs::copy(source, folder.join(name)).with_context(|| source.display().to_string())?;
    }
    let mut all = vec![script];
    all.extend(arguments);
    Running::start(Path::new("node"), all, &[], &folder)
}

/// A relay that nobody owns yet, and its setup code.
async fn ownerless() -> Result<(Lab, String)> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    lab.start_relay(&["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"]).await?;
    let code = lab.ready["setup_code"].as_str().context("the first start shows a setup code")?.to_owned();
    Ok((lab, code))
}

#[tokio::test]
async fn a_person_makes_a_project_sees_its_tunnel_and_revokes_it() -> Result<()> {
    let (lab, code) = ownerless().await?;
    let mut browser = drive("whole.mjs", &[&lab.server(), &code]).await?;
    let made = browser.event("made").await?;
    let master = made["master"].as_str().context("a master key")?;
    let child = lab.mint_with(master, &["--ttl", "1h"]).await?;
    let folder = lab.path("site");
    std::fs::create_dir(&folder)?;
    let target = folder.to_str().context("a path in UTF-8")?;
    let (mut node, _) = lab.node_with(child["token"].as_str().context("a token")?, target, "preview").await?;
    browser.event("live").await?;
    let revoked = browser.event("revoked").await?;
    let text = revoked["text"].as_str().context("text")?;
    ensure!(text.contains("Revoked 1 key and 1 child key."), "{text}");
    ensure!(text.contains("1 of 1 relay confirmed within"), "{text}");
    let closed = ended(&mut node).await?;
    ensure!(closed.contains("KEY_REVOKED"), "{closed}");
    browser.event("done").await?;
    Ok(())
}

/// The next word of a node that it ended, and why.
async fn ended(node: &mut Running) -> Result<String> {
    loop {
        let line = node.line().await?;
        if line.contains("\"closed\"") || line.contains("\"error\"") {
            return Ok(line);
        }
    }
}

#[tokio::test]
async fn gates_a_close_and_the_plan_hold_for_the_next_visitor() -> Result<()> {
    let (mut lab, code) = ownerless().await?;
    let server = lab.server();
    lab.own(&server, &code).await?;
    let folder = lab.path("site");
    std::fs::create_dir(&folder)?;
    let (mut node, ready) = lab.node(folder.to_str().context("a path in UTF-8")?, "preview").await?;
    let mut browser = drive("gates.mjs", &[&server, ready["url"].as_str().context("url")?]).await?;
    browser.event("gated").await?;
    lab.run(&["tenant", "plan", "free"]).await?.success()?;
    browser.event("done").await?;
    let closed = ended(&mut node).await?;
    ensure!(closed.contains("closed by its owner"), "{closed}");
    Ok(())
}

#[tokio::test]
async fn the_second_factor_is_proven_and_then_asked_for() -> Result<()> {
    let (lab, code) = ownerless().await?;
    let mut browser = drive("mfa.mjs", &[&lab.server(), &code]).await?;
    browser.event("done").await?;
    Ok(())
}

#[tokio::test]
async fn an_owner_invites_gives_a_role_proves_who_they_are_and_removes() -> Result<()> {
    let (mut lab, code) = ownerless().await?;
    let server = lab.server();
    lab.own(&server, &code).await?;
    let folder = lab.path("site");
    std::fs::create_dir(&folder)?;
    let target = folder.to_str().context("a path in UTF-8")?;
    let (_one, _) = lab.node(target, "one").await?;
    let (_two, _) = lab.node(target, "two").await?;
    let mut browser = drive("people.mjs", &[&server]).await?;
    browser.event("joined").await?;
    browser.event("done").await?;
    Ok(())
}

#[tokio::test]
async fn every_page_fits_a_phone_and_a_desk_by_day_and_by_night() -> Result<()> {
    let (mut lab, code) = ownerless().await?;
    let server = lab.server();
    lab.own(&server, &code).await?;
    let folder = lab.path("site");
    std::fs::create_dir(&folder)?;
    let (_node, _) = lab.node(folder.to_str().context("a path in UTF-8")?, "preview").await?;
    let mut browser = drive("looks.mjs", &[&server]).await?;
    browser.event("done").await?;
    Ok(())
}

#[tokio::test]
async fn the_keyboard_alone_is_enough() -> Result<()> {
    let (lab, code) = ownerless().await?;
    let mut browser = drive("keyboard.mjs", &[&lab.server(), &code]).await?;
    browser.event("done").await?;
    Ok(())
}

#[tokio::test]
async fn the_first_paint_is_small_and_nothing_jumps() -> Result<()> {
    let (lab, _) = ownerless().await?;
    let mut browser = drive("paint.mjs", &[&lab.server()]).await?;
    let cold = browser.event("cold").await?;
    let warm = browser.event("warm").await?;
    println!("cold {cold}\nwarm {warm}");
    ensure!(cold["bytes"].as_u64().context("bytes")? < 250_000, "{cold}");
    ensure!(warm["bytes"].as_u64().context("bytes")? < 10_000, "parts are not kept: {warm}");
    ensure!(cold["shift"].as_f64().context("shift")? < 0.1, "{cold}");
    browser.event("done").await?;
    Ok(())
}

#[tokio::test]
async fn keys_that_the_pages_make_are_keys() -> Result<()> {
    let mut script = drive("token.mjs", &[SOURCE]).await?;
    for server in ["http://localhost:8080", "https://tun.example#ca=00112233445566778899aabbccddeeff"] {
        let line = script.event("master").await?;
        let text = line["text"].as_str().context("text")?;
        let token = Token::parse(text)?;
        ensure!(token.to_text().as_str() == text, "it is not written as Rust writes it");
        let master = token.into_master()?;
        ensure!(master.seed.expose() == &std::array::from_fn::<u8, 32, _>(|at| at as u8));
        ensure!(master.serial.to_string() == "00112233445566778899aabbccddeeff");
        ensure!(master.root.to_string() == "ffeeddccbbaa99887766554433221100");
        ensure!((master.project.as_str(), master.server.as_str()) == ("proj_demo", server));
    }
    let line = script.event("key").await?;
    let hex = line["seed"].as_str().context("seed")?;
    let mut seed = [0; 32];
    for (at, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16)?;
    }
    ensure!(Seed::from_bytes(seed).public().to_string() == line["public"].as_str().context("public")?);
    Ok(())
}
