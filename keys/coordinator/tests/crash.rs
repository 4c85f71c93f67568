//! A PostgreSQL server that is killed again and again under two coordinators.
//!
//! In a program of its own, because it stops the server of `.ci/with-postgres`, which other tests use.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

#[allow(dead_code, unused_imports, reason = "the other tests use the rest of it")]
#[path = "api/support.rs"]
mod support;

use std::collections::HashSet;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use self::support::{By, Database, Key, Lab, Relay, eventually, fresh_seed, mint_body, nonces, on_server};

const PLACE: &str = "MYTUNNEL_TEST_POSTGRES_DIR";
const CRASHES: usize = 3;
/// Acknowledged acts between two crashes.
const BETWEEN: usize = 60;

/// Kills the server and starts it again. It runs as its folder's owner.
fn crash(place: &str) {
    let control = |action: &[&str]| {
        let owned_by_this = fs::metadata(place).unwrap().uid() == fs::metadata("/proc/self").unwrap().uid();
        let mut command = match owned_by_this {
            true => Command::new("pg_ctl"),
            false => {
                let mut other = Command::new("runuser");
                other.args(["-u", "postgres", "--", "pg_ctl"]);
                other
            }
        };
        let log = format!("{place}/../log");
        let done = command.current_dir("/").args(["-D", place, "-s", "-w", "-l", &log]).args(action).status();
        assert!(done.unwrap().success(), "{action:?}");
    };
    control(&["-m", "immediate", "stop"]);
    control(&["start"]);
}

#[derive(Debug, Default)]
struct Known {
    minted: HashSet<String>,
    revoked: HashSet<String>,
    cascaded: HashSet<String>,
}

/// What one coordinator acknowledged, to the end of the crashes.
async fn storm(
    lab: &Lab,
    device: &Key,
    acknowledged: &watch::Sender<usize>,
    over: &watch::Receiver<bool>,
) -> Known {
    let mut known = Known::default();
    let ask = async |by: &Key, method: &str, path: &str, body: Value| {
        // What was lost in the middle may have been done; nothing is said of it.
        let answer = lab.call(By::Key(by), method, path, body).await;
        match answer.status {
            StatusCode::SERVICE_UNAVAILABLE => None,
            status => {
                assert!(status.is_success() || status.is_client_error(), "{status}");
                answer.status.is_success().then(|| answer.json())
            }
        }
    };
    while !*over.borrow() {
        let seed = fresh_seed();
        let named = json!({"name": seed.public().to_string(), "master": seed.public()});
        let Some(made) = ask(device, "POST", "/api/v1/projects", named).await else { continue };
        let serial = serde_json::from_value(made["serial"].clone()).unwrap();
        let master = Key { seed, serial };
        for turn in 0..8 {
            let body = mint_body(&fresh_seed().public(), Value::Null);
            let Some(minted) = ask(&master, "POST", "/api/v1/mint", body).await else { continue };
            let child = minted["serial"].as_str().unwrap()[..16].to_owned();
            let path = format!("/api/v1/tokens/{child}");
            known.minted.insert(child.clone());
            acknowledged.send_modify(|count| *count += 1);
            if turn % 3 == 0 && ask(&master, "DELETE", &path, Value::Null).await.is_some() {
                known.revoked.insert(child);
            }
        }
        let nonce = master.serial.nonce().to_string();
        let path = format!("/api/v1/tokens/{nonce}?cascade=true");
        if ask(device, "DELETE", &path, Value::Null).await.is_some() {
            known.cascaded.insert(nonce);
        }
    }
    known
}

async fn page(lab: &Lab, device: &Key, query: &str) -> Value {
    eventually(async || {
        let path = format!("/api/v1/tokens?all=true{query}");
        let answer = lab.call(By::Key(device), "GET", &path, Value::Null).await;
        answer.status.is_success().then(|| answer.json())
    })
    .await
}

async fn check(lab: &Lab, device: &Key, known: &Known) {
    let (mut there, mut revoked, mut query) = (HashSet::new(), HashSet::new(), String::new());
    loop {
        let page = page(lab, device, &query).await;
        there.extend(nonces(&page));
        for row in page["keys"].as_array().unwrap() {
            let nonce = row["nonce"].as_str().unwrap().to_owned();
            if row["revoked_at"].is_u64() {
                revoked.insert(nonce);
            } else {
                let parent = row["parent"].as_str().map(|parent| parent[..16].to_owned());
                let outlived = parent.is_some_and(|parent| known.cascaded.contains(&parent));
                assert!(!outlived, "a child outlived its master: {row}");
            }
        }
        let Some(next) = page["next"].as_str() else { break };
        query = format!("&after={next}");
    }
    let lost: Vec<_> = known.minted.difference(&there).collect();
    assert!(lost.is_empty(), "minted and lost: {lost:?}");
    let undone: Vec<_> =
        known.revoked.union(&known.cascaded).filter(|nonce| !revoked.contains(*nonce)).collect();
    assert!(undone.is_empty(), "revoked and not: {undone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_server_that_is_killed() {
    let (Some(database), Ok(place)) = (Database::new(), env::var(PLACE)) else { return };
    let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = Lab::open(on_server(&database, places[0].path()), |_| {}).await.unwrap();
    let house = first.house().await;
    for name in ["root.key", "issuer.key", "feed.key", "accounts.key"] {
        fs::copy(places[0].path().join(name), places[1].path().join(name)).unwrap();
    }
    let second = Lab::open(on_server(&database, places[1].path()), |_| {}).await.unwrap();

    let (acknowledged, mut count) = watch::channel(0);
    let (end, over) = watch::channel(false);
    let crashing = async {
        for _ in 0..CRASHES {
            let enough = *count.borrow() + BETWEEN;
            count.wait_for(|count| *count >= enough).await.unwrap();
            let place = place.clone();
            spawn_blocking(move || crash(&place)).await.unwrap();
        }
        let enough = *count.borrow() + BETWEEN;
        count.wait_for(|count| *count >= enough).await.unwrap();
        end.send_replace(true);
    };
    let storms = async {
        tokio::join!(
            storm(&first, &house.device, &acknowledged, &over),
            storm(&second, &house.device, &acknowledged, &over)
        )
    };
    let (storms, ()) = tokio::join!(storms, crashing);
    for (known, other) in [(&storms.0, &second), (&storms.1, &first)] {
        assert!(!known.minted.is_empty() && !known.revoked.is_empty() && !known.cascaded.is_empty());
        check(other, &house.device, known).await;
    }
    let verdict = first.call(By::Bearer(&house.token), "GET", "/api/v1/audit/verify", Value::Null).await.ok();
    assert_eq!(verdict["ok"], true, "{verdict}");

    // The server has forgotten who follows whom, and is told again.
    let relay = second.relay().await;
    spawn_blocking(move || crash(&place)).await.unwrap();
    let revoking = eventually(async || {
        let body = mint_body(&fresh_seed().public(), Value::Null);
        let minted = first.call(By::Key(&house.master), "POST", "/api/v1/mint", body).await;
        let child = minted.status.is_success().then(|| minted.json())?;
        let path = format!("/api/v1/tokens/{}", &child["serial"].as_str()?[..16]);
        let answer = first.call(By::Key(&house.device), "DELETE", &path, Value::Null).await;
        let answer = answer.status.is_success().then(|| answer.json())?;
        (answer["relays"][0]["applied"] == true).then_some(())
    });
    tokio::select! {
        () = revoking => {}
        () = faithful(&second, relay) => {}
    }
}

/// A relay that follows, and subscribes again whenever it is cut off.
async fn faithful(lab: &Lab, mut relay: Relay) {
    loop {
        let cut_off = relay.follow().await;
        let again = async || lab.try_subscribe(cut_off.id, cut_off.reader.position()).await.ok();
        relay = eventually(again).await;
    }
}
