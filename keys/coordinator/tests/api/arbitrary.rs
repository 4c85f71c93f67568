//! Whatever a body says, the answer is an answer: never a failure of the server's own, and always in the one form.

use std::cell::RefCell;
use std::collections::BTreeSet;

use axum::http::StatusCode;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Report;
use mytunnel_keys::id::{TunnelId, TunnelKind, TunnelName};
use mytunnel_keys::usage::{Count, Tell, Usage, Want};
use mytunnel_keys::wire;
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
        ("/api/v1/auth/again", json!({"provider": "google"})),
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
        (
            "/api/v1/tickets",
            json!({
                "digest": data_encoding::BASE64URL_NOPAD.encode(&[1; 32]), "name": "box", "project": house.project,
                "within": 600, "ttl": 3600,
            }),
        ),
        ("/api/v1/tickets/redeem", json!({"ticket": "mtk_ticket_x", "public_key": key})),
        ("/api/v1/audit/verify", json!({"heads": ["ab".repeat(32)]})),
        ("/api/v1/relays/join-tokens", Value::Null),
        ("/api/v1/relays/join-tokens?ttl=18446744073709551615", Value::Null),
        (
            "/api/v1/relay/join",
            json!({"token": "AAAA", "public_key": key, "addrs": ["/ip4/127.0.0.1/tcp/1"]}),
        ),
        (
            "/api/v1/domains",
            json!({"domain": "app.example.com", "name": "web", "tunnel": null, "project": "proj_a"}),
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
    let (lab, house, relay) = runtime.block_on(open());
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

/// What relays say, in the encoding of the wire, with a few bytes exchanged.
#[test]
fn no_message_of_a_relay_makes_the_server_fail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (lab, house, relay) = runtime.block_on(open());
    let serial = house.device.serial;
    let usage = Usage { bytes_in: u64::MAX, bytes_out: 1, requests: 2, tunnel_seconds: 3 };
    let month = mytunnel_keys::usage::Month::of(lab.now());
    let tell = Tell {
        incarnation: [1; 16],
        seq: 1,
        prices: 1,
        counts: vec![Count { serial, month, run: 1, total: usage }],
        wants: vec![Want { key: serial, held: 1, ask: u64::MAX }],
    };
    let name: TunnelName = "web".parse().unwrap();
    let reports = vec![
        Report::Applied { epoch: 1, closed: 2 },
        Report::TunnelUp {
            tunnel: TunnelId::derive(&"localhost".parse().unwrap(), &house.project, &name),
            name,
            project: house.project.clone(),
            serial,
            kind: TunnelKind::Http,
            at: 3,
        },
        Report::Present { presence: house.device.presence(&relay.seed.public(), lab.now()), at: 4 },
        Report::Refused { serial: Some(serial), code: Code::InvalidKey, at: 5 },
    ];
    // Its reports are taken while it follows.
    let _frames = runtime.block_on(lab.frames(relay.seed.public(), None));
    for (path, whole) in [
        ("/api/v1/relay/usage", wire::encode(&tell).unwrap()),
        ("/api/v1/relay/reports", wire::encode(&reports).unwrap()),
    ] {
        let right = runtime.block_on(lab.send(lab.request(By::Key(&relay), "POST", path, whole.clone())));
        assert!(right.status.is_success(), "{path}: {}", right.status);
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
        let mut runner =
            TestRunner::new(Config { cases: 4 * CASES, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&changes, |changes| {
            let mut body = whole.clone();
            for (at, byte) in changes {
                let at = at.index(body.len());
                body[at] = byte;
            }
            judged(&runtime.block_on(lab.send(lab.request(By::Key(&relay), "POST", path, body))))
        });
        outcome.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

/// A house, and a relay with its key.
async fn open() -> (Lab, House, Key) {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let seed = fresh_seed();
    let enrolled = lab.coordinator.enroll_relay(seed.public(), Vec::new()).await.unwrap();
    let serial = mytunnel_keys::certificate::inspect(&enrolled.certificate).unwrap().peek().serial;
    (lab, house, Key { seed, serial })
}

/// A route that takes a body and has none here fails this: the description is held against the router elsewhere.
#[test]
fn every_route_with_a_body_is_among_them() {
    let description: Value = serde_json::from_str(include_str!("../../src/http/openapi.json")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (posts, others) = runtime.block_on(async {
        let house = Lab::new().await.house().await;
        (whole(&house), changes(&house, "1"))
    });
    let mut tried: BTreeSet<(&str, &str)> =
        posts.iter().map(|(path, _)| ("post", path.split('?').next().unwrap())).collect();
    tried.extend(others.iter().map(|change| (change.method, change.route)));
    let mut described = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            if ["post", "put", "patch"].contains(&method.as_str()) {
                described.insert((method.as_str(), path.as_str()));
            }
        }
    }
    assert_eq!(tried, described);
}

/// A request that changes what is there.
struct Change {
    method: &'static str,
    /// As the description has it.
    route: &'static str,
    path: String,
    /// With every field that it knows.
    whole: Value,
}

fn changes(house: &House, account: &str) -> [Change; 10] {
    let name = "web".parse().unwrap();
    let id = TunnelId::derive(&"localhost".parse().unwrap(), &house.project, &name);
    let lists =
        json!({"provider": "google", "allowed_domains": ["a.example"], "allowed_emails": ["b@c.example"]});
    let tunnel = json!({"project": house.project, "name": name});
    let gate = |route: &'static str, rest: &str, whole: Value| Change {
        method: "put",
        route,
        path: format!("/api/v1/tunnels/{id}/{rest}"),
        whole,
    };
    [
        gate("/api/v1/tunnels/{id}/gates/pin", "gates/pin", json!({"pin": "123456", "tunnel": tunnel})),
        gate(
            "/api/v1/tunnels/{id}/gates/bearer",
            "gates/bearer",
            json!({"token": "abcdefghijklmnop", "tunnel": tunnel}),
        ),
        gate(
            "/api/v1/tunnels/{id}/gates/ip",
            "gates/ip",
            json!({"allow": ["10.0.0.0/8"], "deny": ["10.0.0.7"], "tunnel": tunnel}),
        ),
        gate("/api/v1/tunnels/{id}/expires", "expires", json!({"expires_in": 3600, "tunnel": tunnel})),
        Change {
            method: "post",
            route: "/api/v1/domains/{domain}/verify",
            path: "/api/v1/domains/app.example.com/verify".to_owned(),
            whole: Value::Null,
        },
        Change {
            method: "put",
            route: "/api/v1/tunnels/{id}/auth",
            path: format!("/api/v1/tunnels/{id}/auth"),
            whole: json!({"user": "ann", "password": "long enough", "tunnel": tunnel}),
        },
        Change {
            method: "put",
            route: "/api/v1/tunnels/{id}/edge-auth",
            path: format!("/api/v1/tunnels/{id}/edge-auth"),
            whole: lists,
        },
        Change {
            method: "put",
            route: "/api/v1/tenant/plan",
            path: "/api/v1/tenant/plan".to_owned(),
            whole: json!({"plan": "trial", "trial_ends_at": 1_900_000_000}),
        },
        Change {
            method: "put",
            route: "/api/v1/tokens/{nonce}/budget",
            path: format!("/api/v1/tokens/{}/budget", house.master.serial.nonce()),
            whole: json!({"monthlyBudgetUsdCents": 5000}),
        },
        Change {
            method: "patch",
            route: "/api/v1/accounts/{id}",
            path: format!("/api/v1/accounts/{account}"),
            whole: json!({"role": "owner"}),
        },
    ]
}

#[test]
fn no_body_of_a_change_makes_the_server_fail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (lab, house, _) = runtime.block_on(open());
    let me = runtime.block_on(lab.call(By::Bearer(&house.token), "GET", "/api/v1/auth/me", Value::Null)).ok();
    let statuses = RefCell::new(BTreeSet::new());
    for change in changes(&house, me["id"].as_str().unwrap()) {
        let Change { path, whole, .. } = change;
        let method = change.method.to_uppercase();
        // What is to be changed is there from the first request on.
        if path.contains("/tunnels/") {
            runtime.block_on(lab.call(By::Key(&house.device), &method, &path, whole.clone())).ok();
        }
        for by in [By::Nobody, By::Bearer(&house.token), By::Key(&house.master), By::Key(&house.device)] {
            // Among arbitrary ones a body that is right is too rare to count on.
            let answer = runtime.block_on(lab.call(by, &method, &path, whole.clone()));
            statuses.borrow_mut().insert(answer.status.as_u16());
            let mut runner =
                TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
            let outcome = runner.run(&body(&whole), |body| {
                let answer = runtime.block_on(lab.send(lab.request(by, &method, &path, body)));
                statuses.borrow_mut().insert(answer.status.as_u16());
                judged(&answer)
            });
            outcome.unwrap_or_else(|error| panic!("{path} by {by:?}: {error}"));
        }
    }
    for reached in [200, 400, 401, 403] {
        assert!(statuses.borrow().contains(&reached), "{statuses:?}");
    }
}
