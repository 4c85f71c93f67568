//! What relays get, and what becomes of their reports.

use std::collections::HashSet;
use std::time::Duration;

use axum::http::StatusCode;
use futures::StreamExt as _;
use mytunnel_coordinator::StoreConfig;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::{Accepted, Change, FeedReader, Report, Subscribe};
use mytunnel_keys::id::TunnelKind;
use mytunnel_keys::wire;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{
    By, DAY, Key, Lab, PATIENCE, Relay, START, eventually, fresh_seed, named, named_as, random, store_at,
};

async fn live_tunnels(lab: &Lab, by: &Key, key: &Key) -> Value {
    lab.show(By::Key(by), key).await["live_tunnels"].clone()
}

#[tokio::test]
async fn every_relay_gets_every_change_in_the_same_order() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let mut following = JoinSet::new();
    for _ in 0..5 {
        let relay = lab.relay().await;
        following.spawn(relay.follow());
    }
    let mut children = Vec::new();
    for _ in 0..40 {
        let child = lab.child(&house.master).await;
        lab.revoke(By::Key(&child), &child, false).await.ok();
        children.push(child);
    }
    lab.coordinator.shutdown().await;
    let relays: Vec<Relay> = following.join_all().await;
    for relay in &relays {
        assert_eq!(relay.reader.position(), relays[0].reader.position());
        assert_eq!(relay.revoked, relays[0].revoked);
        assert_eq!(relay.revoked.len(), children.len());
    }
}

#[tokio::test]
async fn heartbeats_come_by_themselves_and_carry_the_head_of_the_audit_log() {
    let lab =
        Lab::open(StoreConfig::Memory, |config| config.limits.heartbeat = Duration::from_millis(5)).await;
    let lab = lab.unwrap();
    let house = lab.house().await;
    let mut relay = lab.relay().await;
    let audit = lab.call(By::Key(&house.device), "GET", "/api/v1/audit", Value::Null).await.ok();
    for _ in 0..3 {
        let beat = relay.until(|accepted| matches!(accepted, Accepted::Heartbeat { .. })).await;
        let Accepted::Heartbeat { audit_head, offset, .. } = beat else { panic!("{beat:?}") };
        let hex: String = audit_head.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((Value::from(hex), offset), (audit["head"].clone(), 0));
    }
}

#[tokio::test]
async fn the_feed_goes_on_where_it_was_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let lab = Lab::at(&path).await.unwrap();
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let mut relay = lab.relay().await;
    tokio::join!(lab.revoke(By::Key(&child), &child, false), relay.delta()).0.ok();
    let (id, seen) = (relay.id, relay.reader.position());
    drop(relay);
    lab.coordinator.shutdown().await;
    let lab = Lab::at(&path).await.unwrap();
    // The reader refuses a feed that has gone back or has another history.
    let mut relay = lab.subscribe(id, seen).await;
    assert_eq!(relay.reader.position(), seen);
    assert_eq!(relay.revoked.len(), 1);
    tokio::join!(lab.revoke(By::Key(&house.device), &house.master, true), relay.delta()).0.ok();
    assert_eq!(relay.reader.position().unwrap().epoch, seen.unwrap().epoch + 1);
}

#[tokio::test]
async fn a_relay_that_does_not_read_is_cut_off_and_comes_back_to_a_snapshot() {
    let lab = Lab::open(StoreConfig::Memory, |config| {
        config.limits.heartbeat = Duration::from_micros(200);
        config.limits.confirm = Duration::from_millis(1);
    });
    let lab = lab.await.unwrap();
    let house = lab.house().await;
    let slow = lab.relay().await;
    let mut steady = lab.relay().await;
    let cut_off = async || {
        let relays = lab.call(By::Bearer(&house.token), "GET", "/api/v1/relays", Value::Null).await.ok();
        let relays = relays["relays"].as_array().unwrap().clone();
        let here = |id| relays.iter().find(|relay| relay["id"] == json!(id)).unwrap()["connected"].clone();
        assert_eq!(here(steady.id), true, "who reads goes on");
        here(slow.id) == false
    };
    // What the other is sent was put into the queue of the slow one, too.
    let mut sent = 0;
    while !cut_off().await {
        timeout(PATIENCE, steady.link.frames.recv()).await.unwrap().expect("who reads goes on");
        sent += 1 + std::iter::from_fn(|| steady.link.frames.try_recv().ok()).count();
        assert!(sent < 8192, "so many frames wait for one that does not read");
    }
    drop(steady);
    let child = lab.child(&house.master).await;
    let answer = lab.revoke(By::Key(&child), &child, false).await.ok();
    let told = answer["relays"].as_array().unwrap().iter().find(|relay| relay["id"] == json!(slow.id));
    assert_eq!(told.unwrap()["applied"], false, "it is named for as long as it may serve");
    let id = slow.id;
    drop(slow);
    let back = lab.subscribe(id, None).await;
    assert_eq!(back.revoked.len(), 1);
}

#[tokio::test]
async fn relays_are_told_what_a_name_carries_and_when_that_changes() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (child, _) = lab.mint(&house.master, json!({"scopes": "http tls"})).await;
    let mut relay = lab.relay().await;
    relay.up(&house.project, "vault", &child).await;
    assert_eq!(relay.delta().await, [named("vault", &house.project)]);
    relay.up(&house.project, "vault", &child).await;
    relay.up_as(TunnelKind::Tls, &house.project, "vault", &child).await;
    let told = [named_as(TunnelKind::Tls, "vault", &house.project)];
    assert_eq!(relay.delta().await, told, "what is no news is not told");
    // A relay that starts now hears it with its snapshot.
    assert!(lab.snapshot(relay.id).await.contains(&told[0]));
}

#[tokio::test]
async fn a_name_belongs_to_the_project_that_had_it_first() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (other, other_master) = lab.project(By::Key(&house.device), "other").await;
    let child = lab.child(&house.master).await;
    let stranger = lab.child(&other_master).await;
    let mut first = lab.relay().await;
    let mut second = lab.relay().await;
    first.up(&house.project, "web", &child).await;
    let told = [named("web", &house.project)];
    assert_eq!(first.delta().await, told);
    assert_eq!(second.delta().await, told);
    // The other one lost the race, and its own name is told in the same order to all.
    second.up(&other, "web", &stranger).await;
    second.up(&other, "api2", &stranger).await;
    let told = [named("api2", &other)];
    assert_eq!((first.delta().await, second.delta().await), (told.to_vec(), told.to_vec()));
    assert_eq!(lab.relay().await.names, first.names);
    let tunnels = lab.call(By::Key(&house.device), "GET", "/api/v1/tunnels", Value::Null).await.ok();
    let seen: Vec<_> =
        tunnels["tunnels"].as_array().unwrap().iter().map(|row| (&row["name"], &row["project"])).collect();
    assert_eq!(seen, [(&json!("api2"), &json!(other)), (&json!("web"), &json!(house.project))]);
}

#[tokio::test]
async fn a_relay_is_believed_no_further_than_the_key_reaches() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (other, _) = lab.project(By::Key(&house.device), "other").await;
    let child = lab.child(&house.master).await;
    let relay = lab.relay().await;
    let unknown = Key { seed: fresh_seed(), serial: mytunnel_keys::id::Serial::from_bytes([1; 16]) };
    relay.up(&other, "stolen", &child).await;
    relay.up(&house.project, "ghost", &unknown).await;
    relay.up(&house.project, "master", &house.master).await;
    relay.up(&house.project, "real", &child).await;
    eventually(async || (live_tunnels(&lab, &house.master, &child).await == 1).then_some(())).await;
    let tunnels = lab.call(By::Key(&house.device), "GET", "/api/v1/tunnels", Value::Null).await.ok();
    let names: Vec<_> =
        tunnels["tunnels"].as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["real"]);
}

#[tokio::test]
async fn live_tunnels_are_those_of_the_relays_that_follow() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let sibling = lab.child(&house.master).await;
    let relay = lab.relay().await;
    let tunnel = relay.up(&house.project, "one", &child).await;
    relay.up(&house.project, "two", &sibling).await;
    let counted = async |key: &Key, count: u32| {
        eventually(async || (live_tunnels(&lab, &house.device, key).await == count).then_some(())).await;
    };
    counted(&house.master, 2).await;
    counted(&child, 1).await;
    let online = async |by: &Key| {
        let answer = lab.call(By::Key(by), "GET", "/api/v1/tunnels", Value::Null).await.ok();
        let rows = answer["tunnels"].as_array().unwrap().clone();
        rows.iter().map(|row| (row["name"].clone(), row["online"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(online(&child).await, [(json!("one"), json!(true))], "a child sees what it served");
    let down = Report::TunnelDown { tunnel, serial: child.serial, at: 0 };
    relay.link.reports.send(down).await.unwrap();
    counted(&child, 0).await;
    counted(&house.master, 1).await;
    let master = lab.call(By::Key(&house.master), "GET", "/api/v1/tunnels", Value::Null).await;
    master.refused(Code::MasterCannotAct);
    drop(relay);
    // With the relay goes what it told.
    counted(&sibling, 0).await;
    assert_eq!(online(&house.device).await, [(json!("one"), json!(false)), (json!("two"), json!(false))]);
}

#[tokio::test]
async fn an_unused_name_is_free_again_and_a_used_one_is_not() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let lab = Lab::at(&path).await.unwrap();
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let mut relay = lab.relay().await;
    relay.up(&house.project, "old", &child).await;
    relay.delta().await;
    drop(relay);
    lab.coordinator.shutdown().await;
    // Sweeping is the first thing that a start does.
    let later = async |seconds| {
        let store = store_at(&path);
        Lab::open_at(START + seconds, store, |_| {}).await.unwrap()
    };
    let month = 30 * DAY;
    let lab = later(month - 10).await;
    assert_eq!(lab.relay().await.names.len(), 1);
    lab.coordinator.shutdown().await;
    let lab = later(month + 10).await;
    eventually(async || lab.relay().await.names.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_name_is_not_held_for_ever_by_a_relay_that_never_says_it_is_down() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let mut relay = lab.relay().await;
    relay.up(&house.project, "old", &child).await;
    relay.delta().await;
    lab.advance(31 * DAY);
    // The sweep is due every ten minutes.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(600)).await;
    tokio::time::resume();
    let freed = relay.delta().await;
    assert!(matches!(&freed[..], [Change::NameFreed { name }] if name.as_str() == "old"), "{freed:?}");
}

#[tokio::test]
async fn names_of_a_deleted_project_are_kept_for_their_tenant_for_a_day() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let device = By::Key(&house.device);
    let (other, other_master) = lab.project(device, "other").await;
    let (child, heir) = (lab.child(&house.master).await, lab.child(&other_master).await);
    let mut relay = lab.relay().await;
    for name in ["web", "shop"] {
        relay.up(&house.project, name, &child).await;
        relay.delta().await;
    }
    let path = format!("/api/v1/projects/{}", house.project);
    let (answer, told) = tokio::join!(lab.call(device, "DELETE", &path, Value::Null), relay.delta());
    answer.ok();
    let kept = |changes: &[Change]| {
        let names = changes.iter().filter_map(|change| match change {
            Change::NameKept { name, .. } => Some(name.to_string()),
            _ => None,
        });
        names.collect::<HashSet<_>>()
    };
    assert_eq!(kept(&told), ["web", "shop"].map(str::to_owned).into());
    relay.up(&other, "web", &heir).await;
    assert_eq!(relay.delta().await, [named("web", &other)], "the same tenant has it at once");
    assert_eq!(kept(&lab.snapshot(relay.id).await), ["shop".to_owned()].into());

    let mut relay = lab.relay().await;
    lab.advance(DAY);
    // The sweep is due every ten minutes.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(600)).await;
    tokio::time::resume();
    assert_eq!(relay.delta().await, [Change::NameFreed { name: "shop".parse().unwrap() }]);
}

#[tokio::test]
async fn a_relay_elsewhere_follows_by_http() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let key = joined(&lab, &house.token).await;
    let nonce = random();
    let asked = Subscribe { nonce, addrs: vec!["/dns4/relay.example/tcp/1".to_owned()], since: None };
    let body = wire::encode(&asked).unwrap();
    let request = lab.request(By::Key(&key), "POST", "/api/v1/relay/feed", body.clone());
    let response = lab.coordinator.handle(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut stream = response.into_body().into_data_stream();
    let mut reader = FeedReader::new(nonce, lab.coordinator.trust(), None);
    let mut next = async |reader: &mut FeedReader| {
        let framed = stream.next().await.unwrap().unwrap();
        let length = u32::from_be_bytes(framed[..4].try_into().unwrap()) as usize;
        assert_eq!(length, framed.len() - 4);
        reader.accept(&framed[4..], lab.now()).unwrap()
    };
    assert!(matches!(next(&mut reader).await, Accepted::Trust { .. }));
    assert!(matches!(next(&mut reader).await, Accepted::Snapshot { .. }));
    let known = lab.call(By::Nobody, "GET", "/api/v1/bootstrap", Value::Null).await.ok();
    assert_eq!(known["relays"][0]["peer_id"], key.seed.public().to_string());
    assert_eq!(known["relays"][0]["addrs"], json!(["/dns4/relay.example/tcp/1"]));
    let applies = async {
        while !matches!(next(&mut reader).await, Accepted::Delta { .. }) {}
        let epoch = reader.position().unwrap().epoch;
        let reports = wire::encode(&vec![Report::Applied { epoch, closed: 3 }]).unwrap();
        let request = lab.request(By::Key(&key), "POST", "/api/v1/relay/reports", reports);
        assert_eq!(lab.send(request).await.status, StatusCode::NO_CONTENT);
    };
    let (answer, ()) = tokio::join!(lab.revoke(By::Key(&house.device), &house.master, true), applies);
    assert_eq!(answer.ok()["relays"][0]["applied"], true);
    drop(stream);
    // Others than relays have no business here, and one that does not follow has nothing to report.
    for by in [By::Key(&house.device), By::Key(&house.master), By::Bearer(&house.token)] {
        let request = lab.request(by, "POST", "/api/v1/relay/feed", body.clone());
        let answer = lab.send(request).await;
        assert!(!answer.status.is_success());
    }
    let stranger = joined(&lab, &house.token).await;
    let reports = wire::encode(&vec![Report::Applied { epoch: 1, closed: 0 }]).unwrap();
    let request = lab.request(By::Key(&stranger), "POST", "/api/v1/relay/reports", reports);
    lab.send(request).await.refused(Code::BadRequest);
}

/// A relay that joined with a token.
pub(crate) async fn joined(lab: &Lab, owner: &str) -> Key {
    let made = lab.call(By::Bearer(owner), "POST", "/api/v1/relays/join-tokens", Value::Null).await.ok();
    let token = mytunnel_keys::token::Token::parse(made["token"].as_str().unwrap()).unwrap();
    let secret = token.into_relay().unwrap().secret;
    let seed = fresh_seed();
    let body = mytunnel_keys::api::RelayJoin { public_key: seed.public(), secret: *secret.expose() };
    let body = serde_json::to_value(body).unwrap();
    let joined: mytunnel_keys::api::RelayJoined =
        lab.call(By::Nobody, "POST", "/api/v1/relay/join", body).await.read();
    let trust = crate::support::trust(&joined.trust, lab.coordinator.root());
    let claims =
        mytunnel_keys::certificate::verify(&joined.certificate, &trust, &seed.public(), lab.now()).unwrap();
    Key { serial: claims.serial, seed }
}
