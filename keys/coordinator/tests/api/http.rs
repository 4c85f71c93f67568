//! Requests that are not as they should be, and who is believed.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use mytunnel_coordinator::{ClientAddress, MetricsToken};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::Serial;
use mytunnel_keys::proof;
use serde_json::{Value, json};

use crate::support::{By, Key, Lab, fresh_seed, mint_body, random};

#[tokio::test]
async fn every_failure_has_the_same_form() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let request = |method: &str, path: &str, body: &str| {
        let by = By::Bearer(&token);
        lab.request(by, method, path, body.as_bytes().to_vec())
    };
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(70_000));
    let cases = [
        ("GET", "/nothing", "", StatusCode::NOT_FOUND, Code::NotFound),
        ("GET", "/api/v1/nothing", "", StatusCode::NOT_FOUND, Code::NotFound),
        ("GET", "/api/v1/tokens/zz", "", StatusCode::NOT_FOUND, Code::NotFound),
        ("DELETE", "/api/v1/projects/nonsense", "", StatusCode::NOT_FOUND, Code::NotFound),
        ("DELETE", "/api/v1/projects/proj_none", "", StatusCode::NOT_FOUND, Code::NotFound),
        ("PATCH", "/api/v1/projects", "", StatusCode::METHOD_NOT_ALLOWED, Code::BadRequest),
        ("GET", "/api/v1/mint", "", StatusCode::METHOD_NOT_ALLOWED, Code::BadRequest),
        ("POST", "/api/v1/projects", "", StatusCode::BAD_REQUEST, Code::BadRequest),
        ("POST", "/api/v1/projects", "{\"name\":", StatusCode::BAD_REQUEST, Code::BadRequest),
        ("POST", "/api/v1/projects", "{\"name\":\"a\"}", StatusCode::BAD_REQUEST, Code::BadRequest),
        ("POST", "/api/v1/projects", "[1]", StatusCode::BAD_REQUEST, Code::BadRequest),
        ("POST", "/api/v1/auth/login", "\u{0}", StatusCode::BAD_REQUEST, Code::BadRequest),
        ("POST", "/api/v1/projects", &long, StatusCode::PAYLOAD_TOO_LARGE, Code::PayloadTooLarge),
        ("POST", "/api/v1/auth/login", &long, StatusCode::PAYLOAD_TOO_LARGE, Code::PayloadTooLarge),
        ("GET", "/api/v1/audit?limit=x", "", StatusCode::BAD_REQUEST, Code::BadRequest),
        ("GET", "/api/v1/tokens?after=x", "", StatusCode::BAD_REQUEST, Code::BadRequest),
        ("POST", "/api/v1/relay/feed", "\u{1}", StatusCode::BAD_REQUEST, Code::BadRequest),
    ];
    for (method, path, body, status, code) in cases {
        let answer = lab.send(request(method, path, body)).await;
        answer.refused(code);
        assert_eq!(answer.status, status, "{method} {path} {body:.20}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    }
}

#[tokio::test]
async fn a_message_names_the_field_that_is_wrong() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let answer = lab.call(By::Bearer(&token), "POST", "/api/v1/projects", json!({"name": "a"})).await;
    assert!(answer.refused(Code::BadRequest).contains("master"));
}

#[tokio::test]
async fn signs_of_life_need_no_credential() {
    let lab = Lab::new().await;
    for path in ["/healthz", "/readyz", "/api/v1/bootstrap"] {
        lab.call(By::Nobody, "GET", path, Value::Null).await.ok();
    }
    let known = lab.call(By::Nobody, "GET", "/api/v1/bootstrap", Value::Null).await.ok();
    assert_eq!((&known["cluster"], &known["relays"]), (&json!("localhost"), &json!([])));
}

#[tokio::test]
async fn metrics_are_for_the_machine_itself_and_for_owners() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let ask_at = async |host: &str, from: Option<&str>, forwarded: bool, by: By<'_>| {
        let mut request = lab.request(by, "GET", "/metrics", Vec::new());
        request.headers_mut().insert(header::HOST, host.parse().unwrap());
        if let Some(from) = from {
            request.extensions_mut().insert(ClientAddress(from.parse().unwrap()));
        }
        if forwarded {
            request.headers_mut().insert("x-forwarded-for", "127.0.0.1".parse().unwrap());
        }
        lab.send(request).await
    };
    let ask = async |from, forwarded, by: By<'_>| ask_at("localhost:8080", from, forwarded, by).await;
    let text = ask(Some("127.0.0.1"), false, By::Nobody).await.text();
    assert!(text.contains("mytunnel_api_requests_total{route=\"/api/v1/projects\""), "{text}");
    assert!(text.contains("mytunnel_audit_entries ") && text.ends_with("# EOF\n"), "{text}");
    ask(Some("127.0.0.1"), true, By::Nobody).await.refused(Code::InvalidKey);
    ask(Some("192.0.2.1"), false, By::Nobody).await.refused(Code::InvalidKey);
    ask(None, false, By::Nobody).await.refused(Code::InvalidKey);
    ask(Some("192.0.2.1"), false, By::Key(&house.master)).await.refused(Code::MasterCannotAct);
    assert!(ask(Some("192.0.2.1"), false, By::Key(&house.device)).await.text().contains("relays_connected"));
    // A proxy on this machine that says nothing of whom it asks for, and passes on the name that was asked for.
    ask_at("console.example", Some("127.0.0.1"), false, By::Nobody).await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn with_a_token_for_the_metrics_nobody_else_but_an_owner_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::open(crate::support::store_at(&dir.path().join("db")), |config| {
        config.metrics_token = MetricsToken::new("0123456789abcdef".to_owned().into());
    })
    .await
    .unwrap();
    let house = lab.house().await;
    let ask = async |authorization: Option<&str>| {
        let mut request = lab.request(By::Nobody, "GET", "/metrics", Vec::new());
        request.extensions_mut().insert(ClientAddress("127.0.0.1".parse().unwrap()));
        request.headers_mut().insert(header::HOST, "localhost".parse().unwrap());
        if let Some(authorization) = authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.parse().unwrap());
        }
        lab.send(request).await
    };
    assert!(ask(Some("Bearer 0123456789abcdef")).await.text().contains("mytunnel_limit"));
    for wrong in [None, Some("Bearer 0123456789abcdeF"), Some("Bearer "), Some("0123456789abcdef")] {
        ask(wrong).await.refused(Code::InvalidKey);
    }
    lab.call(By::Key(&house.device), "GET", "/metrics", Value::Null).await.text();
}

#[tokio::test]
async fn whoever_shows_nothing_valid_is_nobody() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let good = house.device.sign("GET", "/api/v1/projects", b"", lab.now());
    let ask = async |value: &[u8]| {
        let mut request = Request::builder().uri("/api/v1/projects").body(Body::empty()).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value.try_into().unwrap());
        lab.send(request).await
    };
    let long = format!("Mytunnel {}", "A".repeat(5000));
    let cut = &good[..good.len() - 1];
    for value in
        ["Bearer", "Bearer ", "Bearer x", "Basic eDp5", "Mytunnel", "Mytunnel ", "Mytunnel !", cut, &long]
    {
        let answer = ask(value.as_bytes()).await;
        answer.refused(Code::InvalidKey);
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{value:.30}");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer, Mytunnel");
    }
    ask(b"Bearer \xff").await.refused(Code::InvalidKey);
    let mut twice = Request::builder().uri("/api/v1/projects").body(Body::empty()).unwrap();
    for _ in 0..2 {
        twice.headers_mut().append(header::AUTHORIZATION, good.parse().unwrap());
    }
    lab.send(twice).await.refused(Code::BadRequest);
    ask(good.as_bytes()).await.ok();
}

#[tokio::test]
async fn a_proof_is_for_one_request_at_one_time_and_counts_once() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let path = format!("/api/v1/tokens/{}?cascade=false", child.serial.nonce());
    let proof = house.master.sign("DELETE", &path, b"", lab.now());
    let send = async |method: &str, path: &str, body: &str| {
        let request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, &proof);
        lab.send(request.body(Body::from(body.to_owned())).unwrap()).await
    };
    send("GET", &path, "").await.refused(Code::InvalidKey);
    send("DELETE", &path.replace("false", "true"), "").await.refused(Code::InvalidKey);
    send("DELETE", &path, " ").await.refused(Code::InvalidKey);
    send("DELETE", &path, "").await.ok();
    let message = send("DELETE", &path, "").await.refused(Code::InvalidKey);
    assert!(message.contains("before"), "{message}");
    lab.advance(proof::WINDOW + 1);
    send("DELETE", &path, "").await.refused(Code::KeyExpired);
}

#[tokio::test]
async fn a_proof_of_another_cluster_or_key_is_none() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let body = mint_body(&fresh_seed().public(), Value::Null).to_string().into_bytes();
    let elsewhere = "tun.example".parse().unwrap();
    let request = proof::Request { cluster: &elsewhere, method: "POST", path: "/api/v1/mint", body: &body };
    let foreign =
        proof::sign_request(&house.master.seed, &house.master.serial, &request, lab.now(), random());
    let thief = Key { seed: fresh_seed(), serial: house.master.serial };
    let forged = thief.sign("POST", "/api/v1/mint", &body, lab.now());
    let unknown = Key { seed: house.master.seed.clone(), serial: Serial::from_bytes([9; 16]) };
    let unknown = unknown.sign("POST", "/api/v1/mint", &body, lab.now());
    for header in [foreign, forged, unknown] {
        let mut request = lab.request(By::Nobody, "POST", "/api/v1/mint", body.clone());
        request.headers_mut().insert(header::AUTHORIZATION, header.parse().unwrap());
        lab.send(request).await.refused(Code::InvalidKey);
    }
}

/// PostgreSQL cannot keep it, and what one store refuses the other must not take.
#[tokio::test]
async fn a_text_with_a_nul_is_refused_and_never_reaches_the_store() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let key = fresh_seed().public();
    let bodies = [
        ("/api/v1/auth/login", json!({"email": "a\0@b.example", "password": "long enough as it is"})),
        ("/api/v1/projects", json!({"name": "a\0b", "master": key})),
        ("/api/v1/devices", json!({"name": "\\\0", "public_key": key})),
    ];
    for (path, body) in bodies {
        let answer = lab.call(By::Bearer(&token), "POST", path, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert!(answer.refused(Code::BadRequest).contains("U+0000"), "{path}");
    }
    let page = lab.call(By::Bearer(&token), "GET", "/api/v1/tokens?after=%00", Value::Null).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    let session = lab.call(By::Bearer(&token), "DELETE", "/api/v1/sessions/%00", Value::Null).await;
    assert_eq!(session.status, StatusCode::NOT_FOUND);
    // Only the escape is one, not what looks like it.
    let named = json!({"name": "\\u0000", "public_key": key});
    lab.call(By::Bearer(&token), "POST", "/api/v1/devices", named).await.ok();
}
