//! Killed in the middle of it: what was acknowledged is there, all of it.
//!
//! The test starts itself again as another process, which mints and revokes as fast as it can and prints what was
//! acknowledged; it is killed with SIGKILL at a moment of nobody's choosing.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{By, Key, Lab, fresh_seed, mint_body, nonces};

const PLACE: &str = "MYTUNNEL_TEST_STORM";
const THIS: &str = "storm::nothing_acknowledged_is_lost_when_the_process_is_killed";
const ROUNDS: usize = 5;
const MINTERS: usize = 8;

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(place) = std::env::var_os(PLACE) {
        runtime.block_on(storm(Path::new(&place)));
    } else {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("mytunnel.db");
        let mut known = Known::default();
        for round in 0..ROUNDS {
            let lines = kill_after(&path, 150 + 130 * round);
            for line in &lines {
                known.take(line);
            }
            runtime.block_on(check(&path, &known));
        }
        assert!(known.minted.len() > 100 && known.revoked.len() > 10, "{known:?}");
    }
}

/// What the killed processes had acknowledged.
#[derive(Debug, Default)]
struct Known {
    minted: HashSet<String>,
    revoked: HashSet<String>,
    cascaded: HashSet<String>,
    /// Child and its master.
    parents: Vec<(String, String)>,
}

impl Known {
    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["ack", "mint", child, master] => {
                self.minted.insert(child.to_owned());
                self.parents.push((child.to_owned(), master.to_owned()));
            }
            ["ack", "revoke", child] => drop(self.revoked.insert(child.to_owned())),
            ["ack", "cascade", master] => drop(self.cascaded.insert(master.to_owned())),
            _ => {}
        }
    }
}

/// Runs a storm, kills it after so many acknowledgements, and answers all of them.
fn kill_after(path: &Path, acknowledged: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", THIS, "--nocapture"])
        .env(PLACE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acks = |line: std::io::Result<String>| line.ok().filter(|line| line.starts_with("ack "));
    let mut seen: Vec<String> = lines.by_ref().filter_map(acks).take(acknowledged).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had written before it died was acknowledged too. A line that was cut off was not.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    seen.extend(rest.into_iter().filter(|line| line.starts_with("ack ") && line.ends_with(" .")));
    seen.iter().map(|line| line.trim_end_matches(" .").to_owned()).collect()
}

async fn check(path: &Path, known: &Known) {
    let lab = Lab::at(path).await.unwrap();
    let device = device(&lab).await;
    let by = By::Key(&device);
    let mut there = HashSet::new();
    let mut revoked = HashSet::new();
    let mut query = "?all=true".to_owned();
    loop {
        let page = lab.call(by, "GET", &format!("/api/v1/tokens{query}"), Value::Null).await.ok();
        there.extend(nonces(&page));
        for row in page["keys"].as_array().unwrap() {
            if row["revoked_at"].is_u64() {
                revoked.insert(row["nonce"].as_str().unwrap().to_owned());
            }
        }
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?all=true&after={next}");
    }
    let lost: Vec<_> = known.minted.difference(&there).collect();
    assert!(lost.is_empty(), "minted and lost: {lost:?}");
    let undone: Vec<_> =
        known.revoked.union(&known.cascaded).filter(|nonce| !revoked.contains(*nonce)).collect();
    assert!(undone.is_empty(), "revoked and not: {undone:?}");
    for (child, master) in &known.parents {
        assert!(!known.cascaded.contains(master) || revoked.contains(child), "a child outlived its master");
    }
    let verdict = lab.call(by, "GET", "/api/v1/audit/verify", Value::Null).await.ok();
    assert_eq!(verdict["ok"], true, "{verdict}");
    lab.relay().await;
    lab.coordinator.shutdown().await;
}

/// A device of the owner, who is set up on first use.
async fn device(lab: &Lab) -> Key {
    let token = if lab.coordinator.setup_code().is_some() {
        lab.owner().await
    } else {
        let login = json!({"email": crate::support::EMAIL, "password": crate::support::PASSWORD});
        let answer = lab.call(By::Nobody, "POST", "/api/v1/auth/login", login).await;
        answer.ok()["access_token"].as_str().unwrap().to_owned()
    };
    lab.device(&token).await.0
}

/// Never returns.
async fn storm(path: &Path) {
    let lab = Arc::new(Lab::at(path).await.unwrap());
    let device = device(&lab).await;
    let mut tasks = JoinSet::new();
    for _ in 0..MINTERS {
        tasks.spawn(rage(lab.clone(), device.clone()));
    }
    tasks.join_all().await;
}

async fn rage(lab: Arc<Lab>, device: Key) {
    loop {
        let name: String = fresh_seed().public().to_string();
        let (_, master) = lab.project(By::Key(&device), &name).await;
        for turn in 0..12 {
            let seed = fresh_seed();
            let body = mint_body(&seed.public(), Value::Null);
            let minted = lab.call(By::Key(&master), "POST", "/api/v1/mint", body).await.ok();
            let child = minted["serial"].as_str().unwrap()[..16].to_owned();
            acknowledge(&format!("mint {child} {}", master.serial.nonce()));
            if turn % 3 == 0 {
                let path = format!("/api/v1/tokens/{child}");
                lab.call(By::Key(&master), "DELETE", &path, Value::Null).await.ok();
                acknowledge(&format!("revoke {child}"));
            }
        }
        lab.revoke(By::Key(&device), &master, true).await.ok();
        acknowledge(&format!("cascade {}", master.serial.nonce()));
    }
}

fn acknowledge(what: &str) {
    let mut out = std::io::stdout().lock();
    // One write for a line, so that a kill leaves it whole or not at all.
    out.write_all(format!("ack {what} .\n").as_bytes()).unwrap();
    out.flush().unwrap();
}
