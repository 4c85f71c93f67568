//! The API over a database that can no longer be written: what was acknowledged stays, what was not never happened.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::to_bytes;
use axum::http::StatusCode;
use mytunnel_keys::api::ProjectCreated;
use mytunnel_keys::feed::{Change, Report};
use mytunnel_keys::id::{Cluster, ProjectId, Serial, TunnelId, TunnelKind};
use mytunnel_keys::proof;
use mytunnel_keys::secret::Seed;
use serde_json::{Value, json};

use super::*;
use crate::store::testing::Database;

struct House {
    coordinator: Coordinator,
    token: String,
    master: Seed,
    serial: Serial,
}

fn fresh() -> Seed {
    Seed::from_bytes(random::bytes().unwrap())
}

async fn opened(path: &Path) -> Coordinator {
    let url = "http://localhost:8080".parse().unwrap();
    let config = Config::new(StoreConfig::Sqlite(path.to_owned()), "localhost".parse().unwrap(), url);
    Coordinator::open(config).await.unwrap()
}

async fn send(
    coordinator: &Coordinator,
    method: &str,
    path: &str,
    authorization: String,
    body: Vec<u8>,
) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).header("authorization", authorization);
    let response = coordinator.handle(request.body(Body::from(body)).unwrap()).await;
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 24).await.unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    (status, body)
}

impl House {
    async fn new(path: &Path) -> Self {
        Self::of(opened(path).await).await
    }

    async fn of(coordinator: Coordinator) -> Self {
        let code = coordinator.setup_code().unwrap();
        let setup = json!({"code": code.as_str(), "email": "a@b.example", "password": "correct horse"});
        let (_, access) =
            send(&coordinator, "POST", "/api/v1/auth/setup", String::new(), setup.to_string().into()).await;
        let token = format!("Bearer {}", access["access_token"].as_str().unwrap());
        let master = fresh();
        let asked = json!({"name": "web", "master": master.public()}).to_string().into();
        let (_, made) = send(&coordinator, "POST", "/api/v1/projects", token.clone(), asked).await;
        let made: ProjectCreated = serde_json::from_value(made).unwrap();
        Self { coordinator, token, master, serial: made.serial }
    }

    async fn signed(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let cluster: Cluster = "localhost".parse().unwrap();
        let request = proof::Request { cluster: &cluster, method, path, body: &body };
        let now = self.coordinator.shared.clock.now();
        let proof = proof::sign_request(&self.master, &self.serial, &request, now, random::bytes().unwrap());
        send(&self.coordinator, method, path, proof, body).await
    }

    async fn mint(&self) -> Result<String, (StatusCode, Value)> {
        let asked = json!({"public_key": fresh().public(), "ttl": 3600});
        match self.signed("POST", "/api/v1/mint", asked).await {
            (StatusCode::OK, minted) => Ok(minted["serial"].as_str().unwrap()[..16].to_owned()),
            refused => Err(refused),
        }
    }

    async fn revoke(&self, nonce: &str) -> Result<(), (StatusCode, Value)> {
        match self.signed("DELETE", &format!("/api/v1/tokens/{nonce}"), Value::Null).await {
            (StatusCode::OK, _) => Ok(()),
            refused => Err(refused),
        }
    }

    /// Every child with whether it was revoked.
    async fn children(&self) -> Vec<(String, bool)> {
        let (_, listed) = self.signed("GET", "/api/v1/tokens", Value::Null).await;
        let keys = listed["keys"].as_array().unwrap().iter();
        let children = keys.filter(|key| key["kind"] == "child");
        let mut told: Vec<_> = children
            .map(|key| (key["nonce"].as_str().unwrap().to_owned(), !key["revoked_at"].is_null()))
            .collect();
        told.sort();
        told
    }

    async fn restarted(self, path: &Path) -> Self {
        self.coordinator.shutdown().await;
        Self { coordinator: opened(path).await, ..self }
    }

    async fn audit_is_whole(&self) {
        let (status, verdict) =
            send(&self.coordinator, "GET", "/api/v1/audit/verify", self.token.clone(), Vec::new()).await;
        assert_eq!(status, StatusCode::OK, "{verdict}");
        assert_eq!(verdict["ok"], true, "{verdict}");
    }
}

#[track_caller]
fn refused_for((status, body): (StatusCode, Value), why: &str) {
    assert_eq!((status, &body["error"]["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("internal")));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("nothing was changed: ") && message.contains(why), "{message}");
}

#[tokio::test]
async fn on_a_full_disk_mint_and_revoke_are_refused_and_nothing_acknowledged_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let house = House::new(&path).await;
    let mut expected = vec![(house.mint().await.unwrap(), false)];
    // No page more than there are.
    house.coordinator.shared.store.pragma("PRAGMA max_page_count = 1").await.unwrap();

    let refusal = loop {
        match house.mint().await {
            Ok(child) => expected.push((child, false)),
            Err(refusal) => break refusal,
        }
        assert!(expected.len() < 1000, "the disk never fills");
    };
    refused_for(refusal, "disk is full");
    let mut refused = 0;
    for (child, revoked) in &mut expected {
        match house.revoke(child).await {
            Ok(()) => *revoked = true,
            Err(refusal) => {
                refused_for(refusal, "disk is full");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "no revocation needed room");
    expected.sort();
    assert_eq!(house.children().await, expected, "what was refused did not happen, and the rest did");

    house.coordinator.shared.store.pragma("PRAGMA max_page_count = 1000000").await.unwrap();
    expected.push((house.mint().await.unwrap(), false));
    for (child, revoked) in &mut expected {
        house.revoke(child).await.unwrap();
        *revoked = true;
    }
    house.audit_is_whole().await;
    let house = house.restarted(&path).await;
    expected.sort();
    assert_eq!(house.children().await, expected);
    house.audit_is_whole().await;
}

#[tokio::test]
async fn a_database_that_became_read_only_still_answers_and_refuses_every_change() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let house = House::new(&path).await;
    let child = house.mint().await.unwrap();
    house.coordinator.shared.store.pragma("PRAGMA query_only = 1").await.unwrap();

    refused_for(house.mint().await.unwrap_err(), "read-only");
    refused_for(house.revoke(&child).await.unwrap_err(), "read-only");
    assert_eq!(house.children().await, [(child.clone(), false)]);

    let house = house.restarted(&path).await;
    assert_eq!(house.children().await, [(child.clone(), false)]);
    house.revoke(&child).await.unwrap();
    house.mint().await.unwrap();
    house.audit_is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_up_keeps_its_name_though_its_relay_is_not_heard_in_the_end() {
    let place = tempfile::tempdir().unwrap();
    let database = Database::new();
    let on_server = database.as_ref().map(|database| StoreConfig::Postgres {
        url: database.url().parse().unwrap(),
        data: place.path().to_owned(),
    });
    for store in [StoreConfig::Memory].into_iter().chain(on_server) {
        keeps_its_name(store).await;
    }
}

async fn keeps_its_name(store: StoreConfig) {
    const HOUR: u64 = 3600;
    let clock = Arc::new(AtomicU64::new(1_800_000_000));
    let hands = clock.clone();
    let url = "http://localhost:8080".parse().unwrap();
    let mut config = Config::new(store, "localhost".parse().unwrap(), url);
    config.clock = Clock::from_fn(move || hands.load(Ordering::Relaxed));
    config.limits.clock_offset = Duration::MAX;
    config.limits.unused_name = Duration::from_secs(HOUR);
    let house = House::of(Coordinator::open(config).await.unwrap()).await;
    let shared = &house.coordinator.shared;
    let child = fresh();
    let asked = json!({"public_key": child.public(), "ttl": 24 * HOUR});
    let (_, minted) = house.signed("POST", "/api/v1/mint", asked).await;
    let serial: Serial = serde_json::from_value(minted["serial"].clone()).unwrap();
    let project: ProjectId = serde_json::from_value(minted["project"].clone()).unwrap();

    let relay = fresh().public();
    house.coordinator.enroll_relay(relay, Vec::new()).await.unwrap();
    let asked = Subscribe { nonce: [1; 16], addrs: Vec::new(), since: None };
    let link = house.coordinator.subscribe(relay, asked).await.unwrap();
    let name: TunnelName = "web".parse().unwrap();
    let tunnel = TunnelId::derive(shared.issuer.cluster(), &project, &name);
    let up = Report::TunnelUp { tunnel, name, project, serial, kind: TunnelKind::Http, at: 0 };
    let mut changes = shared.followers.live().changes();
    link.reports.send(up).await.unwrap();
    while !shared.followers.live().is_up(&tunnel) {
        changes.changed().await.unwrap();
    }

    let swept = async || {
        shared.sweep(FRAMES_KEPT).await.unwrap();
        let state = shared.store.state(shared.clock.now()).await.unwrap();
        state.changes.iter().filter(|change| matches!(change, Change::Name { .. })).count()
    };
    clock.fetch_add(HOUR * 3 / 4, Ordering::Relaxed);
    assert_eq!(swept().await, 1);
    shared.expel(relay).await.unwrap();
    clock.fetch_add(HOUR * 3 / 4, Ordering::Relaxed);
    assert_eq!(swept().await, 1, "it was up less than an hour ago");
    clock.fetch_add(HOUR / 2, Ordering::Relaxed);
    assert_eq!(swept().await, 0);
}

#[tokio::test]
async fn tickets_that_are_long_over_are_swept() {
    const HOUR: u64 = 3600;
    let clock = Arc::new(AtomicU64::new(1_800_000_000));
    let hands = clock.clone();
    let place = tempfile::tempdir().unwrap();
    let store = StoreConfig::Sqlite(place.path().join("mytunnel.db"));
    let mut config =
        Config::new(store, "localhost".parse().unwrap(), "http://localhost:8080".parse().unwrap());
    config.clock = Clock::from_fn(move || hands.load(Ordering::Relaxed));
    config.limits.clock_offset = Duration::MAX;
    let house = House::of(Coordinator::open(config).await.unwrap()).await;
    let mut tickets = Vec::new();
    for first in *b"AB" {
        let digest = format!("{}{}", char::from(first), "A".repeat(42));
        let asked = json!({"digest": digest, "name": "box", "within": HOUR, "ttl": HOUR});
        let (status, made) = house.signed("POST", "/api/v1/tickets", asked).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        tickets.push(format!("/api/v1/tickets/{}", made["id"].as_str().unwrap()));
    }
    let gone = async |path: &str| house.signed("DELETE", path, Value::Null).await.0 == StatusCode::NOT_FOUND;
    clock.fetch_add(2 * HOUR, Ordering::Relaxed);
    assert!(!gone(&tickets[0]).await, "nobody has swept yet");
    house.coordinator.shared.sweep(FRAMES_KEPT).await.unwrap();
    assert!(gone(&tickets[1]).await);
}
