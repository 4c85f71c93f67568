//! Whatever a body says, the answer is an answer: never a failure of the server's own, and always in the one form.

use std::cell::RefCell;
use std::collections::BTreeSet;

use axum::http::StatusCode;
use mytunnel_keys::id::TunnelId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::support::{Answer, By, House, Key, Lab, fresh_seed};

/// Bodies for one route and one caller.
const CASES: u32 = 24;

/// Requests that these routes take, with every field they know.
fn whole(house: &House) -> Vec<(&'static str, Value)> {
    let key = fresh_seed().public();
    vec![
        (
            "/api/v1/auth/setup",
            json!({"code": "AAAA-BBBB", "email": "a@b.example", "password": "long enough"}),
        ),
        ("/api/v1/auth/login", json!({"email": "a@b.example", "password": "long enough"})),
        ("/api/v1/auth/logout", Value::Null),
        ("/api/v1/auth/login/mfa", json!({"challenge_token": "AAAA", "code": "123456"})),
        ("/api/v1/auth/oauth/code", json!({"code": "ABCD-EFGH-JKMN", "verifier": "AAAA"})),
        ("/api/v1/auth/invitations/sign-in", json!({"code": "x", "provider": "google"})),
        ("/api/v1/auth/identities", json!({"provider": "google"})),
        ("/api/v1/auth/refresh", Value::Null),
        ("/api/v1/auth/password", json!({"current": "long enough", "new": "long enough"})),
        ("/api/v1/auth/password/forgot", json!({"email": "a@b.example"})),
        ("/api/v1/auth/password/reset", json!({"token": "AAAA", "password": "long enough"})),
        ("/api/v1/auth/invitations/accept", json!({"code": "AAAA-BBBB", "password": "long enough"})),
        ("/api/v1/invitations", json!({"email": "a@b.example", "role": "member"})),
        ("/api/v1/auth/mfa/enroll", Value::Null),
        ("/api/v1/auth/mfa/enroll/verify", json!({"secret_base32": "GEZDGNBVGY3TQOJQ", "code": "123456"})),
        ("/api/v1/auth/mfa/disable", json!({"code": "abcd-efgh"})),
        ("/api/v1/auth/mfa/recovery-codes", json!({"code": "123456"})),
        ("/api/v1/devices", json!({"public_key": key, "name": "laptop"})),
        ("/api/v1/projects", json!({"name": "web", "master": key})),
        (
            "/api/v1/mint",
            json!({
                "public_key": key, "ttl": 3600, "project": house.project, "scopes": "http", "hosts": ["a-*"],
                "budget_cents": 5, "bound": true, "replaces": house.master.serial,
            }),
        ),
        ("/api/v1/audit/verify", json!({"heads": ["ab".repeat(32)]})),
        ("/api/v1/relays/join-tokens", Value::Null),
        ("/api/v1/relays/join-tokens?ttl=18446744073709551615", Value::Null),
        (
            "/api/v1/relay/join",
            json!({"token": "AAAA", "public_key": key, "addrs": ["/ip4/127.0.0.1/tcp/1"]}),
        ),
        ("/api/v1/relay/renew", Value::Null),
        ("/api/v1/relay/feed", json!({"nonce": vec![0; 16], "addrs": [], "since": null})),
        ("/api/v1/relay/reports", json!([{"applied": {"epoch": 1, "closed": 0}}])),
        (
            "/api/v1/relay/usage",
            json!({"incarnation": vec![0; 16], "seq": 1, "prices": 0, "counts": [], "wants": []}),
        ),
    ]
}

/// Text that is near to what a field may hold, or far from it.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,40}",
        "(ten|proj)_[a-z0-9]{0,20}",
        "[0-9a-f]{0,40}",
        "12D3Koo[1-9A-HJ-NP-Za-km-z]{40,50}",
        "[a-z*.-]{1,70}",
        Just("http tcp udp private pair".to_owned()),
        Just("\u{0}".to_owned()),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Bytes, any JSON, or the whole request with a few fields exchanged, taken out or added.
fn body(whole: &Value) -> impl Strategy<Value = Vec<u8>> + use<> {
    let whole = whole.clone();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(value())), 1..3);
    let changed = (changes, prop::option::of((text(), value()))).prop_map(move |(changes, more)| {
        let mut body = whole.clone();
        if let Some(fields) = body.as_object_mut() {
            for (at, value) in changes {
                let Some(name) = fields.keys().nth(at.index(fields.len().max(1))).cloned() else { break };
                match value {
                    Some(value) => drop(fields.insert(name, value)),
                    None => drop(fields.remove(&name)),
                }
            }
            fields.extend(more);
        }
        serde_json::to_vec(&body).unwrap()
    });
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200),
        2 => value().prop_map(|value| serde_json::to_vec(&value).unwrap()),
        5 => changed,
    ]
}

fn judged(answer: &Answer) -> Result<(), TestCaseError> {
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    prop_assert!(!answer.status.is_server_error(), "{} {}", answer.status, text());
    if answer.status != StatusCode::NO_CONTENT && !answer.status.is_success() {
        let said: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| TestCaseError::fail(format!("{error}: {}", text())))?;
        for part in ["code", "message", "help"] {
            prop_assert!(said["error"][part].is_string(), "{said}");
        }
    }
    Ok(())
}

#[test]
fn no_body_makes_the_server_fail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (lab, house, relay) = runtime.block_on(async {
        let lab = Lab::new().await;
        let house = lab.house().await;
        let seed = fresh_seed();
        let enrolled = lab.coordinator.enroll_relay(seed.public(), Vec::new()).await.unwrap();
        let serial = mytunnel_keys::certificate::inspect(&enrolled.certificate).unwrap().peek().serial;
        (lab, house, Key { seed, serial })
    });
    let statuses = RefCell::new(BTreeSet::new());
    for (path, whole) in whole(&house) {
        let callers = [By::Nobody, By::Bearer(&house.token), By::Key(&house.master), By::Key(&house.device)];
        for by in callers.into_iter().chain([By::Key(&relay)]) {
            if path.ends_with("/logout") && matches!(by, By::Bearer(_)) {
                continue; // The session is needed for the next route.
            }
            let mut runner =
                TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
            let outcome = runner.run(&body(&whole), |body| {
                let answer = runtime.block_on(lab.send(lab.request(by, "POST", path, body)));
                statuses.borrow_mut().insert(answer.status.as_u16());
                judged(&answer)
            });
            outcome.unwrap_or_else(|error| panic!("{path} by {by:?}: {error}"));
        }
    }
    // The bodies came past the first check of their kind, too.
    for reached in [200, 400, 401, 403] {
        assert!(statuses.borrow().contains(&reached), "{statuses:?}");
    }
}

#[test]
fn every_post_route_is_among_them() {
    let description: Value = serde_json::from_str(include_str!("../../src/http/openapi.json")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tried = runtime.block_on(async { whole(&Lab::new().await.house().await) });
    let tried: BTreeSet<_> = tried.iter().map(|(path, _)| path.split('?').next().unwrap()).collect();
    let described = description["paths"].as_object().unwrap().iter();
    let posts: BTreeSet<_> = described
        .filter(|(_, methods)| methods.get("post").is_some())
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(tried, posts);
}

/// Requests that change what tunnels ask of visitors, with every field they know.
fn puts(house: &House) -> [(String, Value); 3] {
    let name = "web".parse().unwrap();
    let id = TunnelId::derive(&"localhost".parse().unwrap(), &house.project, &name);
    let lists =
        json!({"provider": "google", "allowed_domains": ["a.example"], "allowed_emails": ["b@c.example"]});
    let tunnel = json!({"project": house.project, "name": name});
    [
        (
            format!("/api/v1/tunnels/{id}/auth"),
            json!({"user": "ann", "password": "long enough", "tunnel": tunnel}),
        ),
        (format!("/api/v1/tunnels/{id}/edge-auth"), lists),
        ("/api/v1/tenant/plan".to_owned(), json!({"plan": "trial", "trial_ends_at": 1_900_000_000})),
    ]
}

#[test]
fn no_body_of_a_gate_or_a_plan_makes_the_server_fail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (lab, house) = runtime.block_on(async {
        let lab = Lab::new().await;
        let house = lab.house().await;
        (lab, house)
    });
    let statuses = RefCell::new(BTreeSet::new());
    for (path, whole) in puts(&house) {
        // The tunnel is there from the first request on.
        runtime.block_on(lab.call(By::Key(&house.device), "PUT", &path, whole.clone())).ok();
        for by in [By::Nobody, By::Bearer(&house.token), By::Key(&house.master), By::Key(&house.device)] {
            // Among arbitrary ones a body that is right is too rare to count on.
            let answer = runtime.block_on(lab.call(by, "PUT", &path, whole.clone()));
            statuses.borrow_mut().insert(answer.status.as_u16());
            let mut runner =
                TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
            let outcome = runner.run(&body(&whole), |body| {
                let answer = runtime.block_on(lab.send(lab.request(by, "PUT", &path, body)));
                statuses.borrow_mut().insert(answer.status.as_u16());
                judged(&answer)
            });
            outcome.unwrap_or_else(|error| panic!("{path} by {by:?}: {error}"));
        }
    }
    for reached in [400, 401, 403] {
        assert!(statuses.borrow().contains(&reached), "{statuses:?}");
    }
}
