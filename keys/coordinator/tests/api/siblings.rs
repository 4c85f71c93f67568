//! Two coordinators on one database. Only PostgreSQL can be shared; without a server there is nothing to try.

mod claims;
mod clocks;
mod losses;
mod stalled;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use mytunnel_coordinator::{OpenError, StoreConfig};
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Accepted;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::{
    By, Database, EMAIL, House, Key, Lab, PASSWORD, PATIENCE, Relay, eventually, fresh_seed, mint_body,
    nonces, on_server,
};

/// Two coordinators on one database, each with its own folder.
struct Pair {
    first: Lab,
    second: Lab,
    house: House,
    place: tempfile::TempDir,
    database: Database,
}

fn copy_keys(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "key") {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn has_keys(place: &Path) -> bool {
    fs::read_dir(place)
        .unwrap()
        .any(|entry| entry.unwrap().path().extension().is_some_and(|end| end == "key"))
}

async fn opened(store: StoreConfig) -> Lab {
    Lab::open(store, |_| {}).await.unwrap()
}

impl Pair {
    async fn new() -> Option<Self> {
        let database = Database::new()?;
        let place = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| place.path().join(name));
        let first = opened(on_server(&database, &one)).await;
        let house = first.house().await;
        copy_keys(&one, &two);
        let second = opened(on_server(&database, &two)).await;
        Some(Self { first, second, house, place, database })
    }

    fn data(&self, name: &str) -> StoreConfig {
        on_server(&self.database, &self.place.path().join(name))
    }
}

fn applied(answer: &Value) -> Vec<bool> {
    answer["relays"].as_array().unwrap().iter().map(|relay| relay["applied"].as_bool().unwrap()).collect()
}

async fn is_ready(lab: &Lab) -> bool {
    lab.call(By::Nobody, "GET", "/readyz", Value::Null).await.status == StatusCode::OK
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_by_one_is_confirmed_by_the_relays_of_both() {
    let Some(Pair { first, second, house, .. }) = &Pair::new().await else { return };
    let (at_first, at_second) = (first.relay().await, second.relay().await);
    let mut following = JoinSet::new();
    following.spawn(at_first.follow());
    following.spawn(at_second.follow());
    for (by, other) in [(first, second), (second, first)] {
        let child = other.child(&house.master).await;
        let answer = by.revoke(By::Key(&house.device), &child, false).await.ok();
        assert_eq!(applied(&answer), [true, true], "{answer}");
        let seen = other.show(By::Key(&house.device), &child).await;
        assert!(seen["revoked_at"].is_u64(), "{seen}");
    }
    let listed = first.call(By::Bearer(&house.token), "GET", "/api/v1/relays", Value::Null).await.ok();
    let connected = listed["relays"].as_array().unwrap().iter().filter(|relay| relay["connected"] == true);
    assert_eq!(connected.count(), 2, "{listed}");
}

/// `.ci/with-postgres cargo test --release -p mytunnel-coordinator --test api figures -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it tells figures and checks nothing else"]
async fn figures_of_a_revocation_until_three_relays_of_two_coordinators_confirmed() {
    let Some(Pair { first, second, house, .. }) = &Pair::new().await else { return };
    let mut following = JoinSet::new();
    for lab in [first, second, second] {
        following.spawn(lab.relay().await.follow());
    }
    let mut times = Vec::new();
    for round in 0..500 {
        let by = if round % 2 == 0 { first } else { second };
        let child = by.child(&house.master).await;
        let begun = Instant::now();
        let answer = by.revoke(By::Key(&house.device), &child, false).await.ok();
        times.push(begun.elapsed());
        assert_eq!(applied(&answer), [true; 3], "{answer}");
    }
    times.sort_unstable();
    let [middle, high, worst] = [times[249], times[494], times[499]];
    println!(
        "revoked and confirmed: median {middle:?}, p99 {high:?}, worst {worst:?}, {} rounds",
        times.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_by_one_is_confirmed_by_the_relays_of_the_other() {
    let Some(Pair { first, second, house, .. }) = &Pair::new().await else { return };
    let mut following = JoinSet::new();
    following.spawn(second.relay().await.follow());
    let path = format!("/api/v1/tokens/{}/budget", house.master.serial.nonce());
    let body = json!({"monthlyBudgetUsdCents": 0});
    let answer = first.call(By::Bearer(&house.token), "PUT", &path, body).await.ok();
    assert_eq!(applied(&answer), [true], "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_confirm_is_named_by_the_other_too() {
    let Some(Pair { first, second, house, .. }) = &Pair::new().await else { return };
    let silent = first.relay().await;
    let child = second.child(&house.master).await;
    let answer = second.revoke(By::Key(&house.device), &child, false).await.ok();
    assert_eq!(applied(&answer), [false], "{answer}");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_whose_coordinator_ends_goes_on_at_the_other() {
    let Some(pair) = Pair::new().await else { return };
    let relay = pair.first.relay().await;
    let (id, position) = (relay.id, relay.reader.position());
    let lost = pair.second.child(&pair.house.master).await;
    drop(pair.first);
    let gone = pair.second.revoke(By::Key(&pair.house.device), &lost, false).await.ok();
    assert_eq!(applied(&gone), [false], "one that may still serve is named: {gone}");

    let relay = pair.second.subscribe(id, position).await;
    assert!(relay.reader.position().unwrap().epoch > position.unwrap().epoch);
    assert_eq!(relay.revoked.len(), 1, "what it missed is in its snapshot");
    let child = pair.second.child(&pair.house.master).await;
    let mut following = JoinSet::new();
    following.spawn(relay.follow());
    let answer = pair.second.revoke(By::Key(&pair.house.device), &child, false).await.ok();
    assert_eq!(applied(&answer), [true], "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_and_the_end_of_a_relay_are_known_to_both() {
    let Some(Pair { first, second, house, .. }) = &Pair::new().await else { return };
    let relay = first.relay().await;
    let child = second.child(&house.master).await;
    relay.up(&house.project, "web", &child).await;
    let online = async |wanted: bool| {
        eventually(async || {
            let listed =
                second.call(By::Bearer(&house.token), "GET", "/api/v1/tunnels", Value::Null).await.ok();
            (listed["tunnels"][0]["online"] == wanted).then_some(())
        })
        .await;
    };
    online(true).await;
    assert_eq!(second.show(By::Key(&house.device), &child).await["live_tunnels"], 1);

    let path = format!("/api/v1/relays/{}", relay.id);
    second.call(By::Bearer(&house.token), "DELETE", &path, Value::Null).await.ok();
    // The subscription at the other coordinator ends.
    timeout(PATIENCE, relay.follow()).await.expect("the end of a relay that was revoked");
    online(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_request_counts_once_for_both() {
    let Some(Pair { first, second, house, .. }) = &Pair::new().await else { return };
    let proof = house.device.sign("GET", "/api/v1/tokens", b"", first.now());
    let asked = || {
        let request = Request::get("/api/v1/tokens").header("authorization", &proof);
        request.body(Body::empty()).unwrap()
    };
    assert_eq!(first.send(asked()).await.status, StatusCode::OK);
    let told = second.send(asked()).await.refused(Code::InvalidKey);
    assert!(told.contains("made before"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_start_at_once_on_an_empty_database_one_makes_the_keys() {
    let Some(database) = Database::new() else { return };
    let place = tempfile::tempdir().unwrap();
    let places = ["one", "two"].map(|name| place.path().join(name));
    let [one, two] = places.each_ref().map(|place| Lab::open(on_server(&database, place), |_| {}));
    let (started, refused, late) = match tokio::join!(one, two) {
        (Ok(started), Err(error)) => (started, error, &places[1]),
        (Err(error), Ok(started)) => (started, error, &places[0]),
        (Ok(_), Ok(_)) => panic!("two made keys"),
        (Err(one), Err(two)) => panic!("{one}; {two}"),
    };
    assert!(matches!(&refused, OpenError::KeyMissing { .. }), "{refused}");
    assert!(refused.help().contains("coordinator of this database runs"), "{}", refused.help());
    assert!(!has_keys(late), "keys that sign nothing");

    let early = places.iter().find(|place| *place != late).unwrap();
    copy_keys(early, late);
    let joined = opened(on_server(&database, late)).await;
    assert_eq!(started.coordinator.root(), joined.coordinator.root());
    let codes = [&started, &joined].map(|lab| lab.coordinator.setup_code().unwrap());
    assert_eq!(codes[0], codes[1], "each lets the owner in");
    started.owner().await;
    let second = json!({"code": codes[0].as_str(), "email": "other@example.org", "password": PASSWORD});
    joined.call(By::Nobody, "POST", "/api/v1/auth/setup", second).await.refused(Code::InvalidKey);
    let login = json!({"email": EMAIL, "password": PASSWORD});
    joined.call(By::Nobody, "POST", "/api/v1/auth/login", login).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_with_other_keys_is_refused() {
    let Some(pair) = Pair::new().await else { return };
    let foreign = Database::new().unwrap();
    drop(opened(on_server(&foreign, &pair.place.path().join("foreign"))).await);
    copy_keys(&pair.place.path().join("foreign"), &pair.place.path().join("three"));
    let refused = Lab::open(pair.data("three"), |_| {}).await.map(drop);
    assert!(matches!(refused, Err(OpenError::Trust { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_era_that_one_begins_is_the_others_too() {
    let Some(Pair { first, second, house, place, database }) = Pair::new().await else { return };
    let relay = first.relay().await;
    let old = relay.reader.position().unwrap();
    let id = relay.id;
    second.coordinator.shutdown().await;
    let next = on_server(&database, &place.path().join("two"));
    let second = Lab::open(next, |config| config.new_era = true).await.unwrap();
    // Nothing of the old era is said any more.
    timeout(PATIENCE, relay.follow()).await.expect("the old feed ends");
    let mut following = JoinSet::new();
    for lab in [&first, &second] {
        let relay = lab.subscribe(id, Some(old)).await;
        assert!(relay.reader.position().unwrap().era > old.era);
        following.spawn(relay.follow());
    }
    let trusts = [&first, &second].map(|lab| lab.coordinator.trust().bytes().to_vec());
    assert_eq!(trusts[0], trusts[1]);
    let child = first.child(&house.master).await;
    let answer = first.revoke(By::Key(&house.device), &child, false).await.ok();
    assert_eq!(applied(&answer), [true], "{answer}");
}

/// Mints through both at once, and revokes the master in between: the one head row decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_child_is_minted_at_one_after_its_master_was_revoked_at_the_other() {
    let Some(Pair { first, second, house, .. }) = &Pair::new().await else { return };
    for _ in 0..5 {
        let (_, master) = first.project(By::Key(&house.device), &fresh_seed().public().to_string()).await;
        let minting = async |lab: &Lab| {
            let mut minted = Vec::new();
            loop {
                let body = mint_body(&fresh_seed().public(), Value::Null);
                let answer = lab.call(By::Key(&master), "POST", "/api/v1/mint", body).await;
                if !answer.status.is_success() {
                    return minted;
                }
                minted.push(answer.json()["serial"].as_str().unwrap()[..16].to_owned());
            }
        };
        let revoking = async {
            second.child(&master).await;
            second.revoke(By::Key(&house.device), &master, true).await.ok()
        };
        let (one, two, answer) = tokio::join!(minting(first), minting(second), revoking);
        // The one that the revoking itself minted.
        let minted = one.len() + two.len() + 1;
        assert_eq!(answer["revoked_children"], json!(minted), "{answer}");
    }
}
