//! `mytunnel trust`, as curl sees it by the system's store, and Chromium by its own.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use tokio::process::Command;

use super::{lab, output};

/// What curl does before, between and after, in a mount namespace with a copy of the system's stores: nothing of it is
/// left on the machine.
const BY_CURL: &str = r#"
set -eu
mount --make-rprivate /
mkdir "$3/ssl" "$3/anchors"
cp -a /etc/ssl/. "$3/ssl"
mount --bind "$3/ssl" /etc/ssl
mount --bind "$3/anchors" /usr/local/share/ca-certificates
try() { curl --silent --noproxy '*' --max-time 20 --output /dev/null "$2" && echo trusted || echo "not trusted"; }
try "$@"
"$1" trust --json --ca "$4"
try "$@"
"$1" trust --json --ca "$4"
"$1" trust --json --ca "$4" --remove
try "$@"
"$1" trust --json --ca "$4" --remove
ls "$3/anchors"
"#;

/// Why this process may not have mounts of its own.
async fn no_mounts() -> Option<String> {
    let tried = Command::new("unshare").args(["--mount", "true"]).output().await;
    match tried {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// A tunnel by HTTPS, and the file of the authority that vouches for it.
async fn tunnel(lab: &Lab, target: &str) -> Result<(mytunnel_tests::process::Running, String, String)> {
    let (node, _) = lab.node(target, "trusted").await?;
    let [_, https, _] = lab.listen_addresses()?;
    let port = https.rsplit(':').next().context("a port")?;
    let authority = lab.path("data").join("local-ca-localhost.pem");
    let authority = authority.to_str().context("a path in UTF-8")?.to_owned();
    Ok((node, format!("https://trusted.localhost:{port}/head"), authority))
}

#[tokio::test]
async fn curl_believes_a_relay_of_ones_own_until_its_authority_is_removed() -> Result<()> {
    if let Some(reason) = no_mounts().await {
        eprintln!("NOT RUN: trust in the system's store, which needs mounts of its own: {reason}");
        return Ok(());
    }
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, url, authority) = tunnel(&lab, &origin.address.port().to_string()).await?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path().to_str().context("a path in UTF-8")?;
    let program = env!("CARGO_BIN_EXE_mytunnel-e2e");
    let mut script = Command::new("unshare");
    script
        .args(["--mount", "bash", "-c", BY_CURL, "-", program, &url, folder, &authority])
        .env("HOME", folder);
    let said = output(&mut script).await?;
    let states: Vec<String> = said
        .lines()
        .map(|line| match serde_json::from_str::<serde_json::Value>(line) {
            Ok(answer) => answer["stores"][0]["state"].as_str().unwrap_or("no state").to_owned(),
            Err(_) => line.to_owned(),
        })
        .collect();
    let wanted = ["not trusted", "added", "trusted", "present", "removed", "not trusted", "absent"];
    ensure!(states == wanted, "{said}");
    Ok(())
}

/// The text of a page in Chromium of a user with this home.
async fn read(home: &Path, url: &str) -> Result<String> {
    let quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                 --disable-component-update --disable-sync --dump-dom";
    let mut chromium = Command::new("chromium");
    chromium
        .args(quiet.split_whitespace())
        .arg(format!("--user-data-dir={}", home.join("profile").display()));
    output(chromium.arg(url).env("HOME", home).env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME"))
        .await
}

#[tokio::test]
async fn chromium_believes_a_relay_of_ones_own_until_its_authority_is_removed() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, url, authority) = tunnel(&lab, &origin.address.port().to_string()).await?;
    let home = tempfile::tempdir()?;
    let database = home.path().join(".pki/nssdb");
    std::fs::create_dir_all(&database)?;
    let database = format!("sql:{}", database.display());
    output(Command::new("certutil").args(["-N", "--empty-password", "-d", &database])).await?;
    ensure!(!read(home.path(), &url).await?.contains("GET /head"), "nobody vouches for it");

    let trust = async |more: &[&str]| {
        let mut trust = Command::new(env!("CARGO_BIN_EXE_mytunnel-e2e"));
        trust.args(["trust", "--user", "--json", "--ca", &authority]).args(more);
        let answer: serde_json::Value = serde_json::from_str(&output(trust.env("HOME", home.path())).await?)?;
        let stores = answer["stores"].as_array().context("stores")?;
        ensure!(stores.len() == 1, "the one database of this home: {answer}");
        anyhow::Ok(stores[0]["state"].clone())
    };
    ensure!(trust(&["--print"]).await? == "planned");
    ensure!(trust(&[]).await? == "added");
    ensure!(trust(&[]).await? == "present");
    let page = read(home.path(), &url).await?;
    ensure!(page.contains("GET /head"), "{page}");
    ensure!(trust(&["--remove"]).await? == "removed");
    ensure!(trust(&["--remove"]).await? == "absent");
    ensure!(!read(home.path(), &url).await?.contains("GET /head"), "it is trusted no more");
    Ok(())
}
