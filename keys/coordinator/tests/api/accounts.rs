//! Set-up, sign-in, devices.

use axum::http::{StatusCode, header};
use mytunnel_coordinator::ClientAddress;
use mytunnel_keys::certificate::{self, Kind};
use mytunnel_keys::error::Code;
use serde_json::{Value, json};

use crate::support::{By, DAY, EMAIL, Lab, PASSWORD, fresh_seed, named, trust};

fn login(password: &str) -> Value {
    json!({"email": EMAIL, "password": password})
}

#[tokio::test]
async fn the_set_up_code_makes_one_owner() {
    let lab = Lab::new().await;
    let code = lab.coordinator.setup_code().unwrap();
    let setup = |code: &str| json!({"code": code, "email": EMAIL, "password": PASSWORD});
    let wrong = lab.call(By::Nobody, "POST", "/api/v1/auth/setup", setup("AAAA-AAAA-AAAA-AAAA")).await;
    let message = wrong.refused(Code::InvalidKey);
    assert!(message.contains("setup code is wrong or already used; copy it again"), "{message}");
    assert!(lab.coordinator.setup_code().is_some());
    // As somebody types it who reads it from another screen.
    let typed = code.to_lowercase().replace('-', "");
    lab.call(By::Nobody, "POST", "/api/v1/auth/setup", setup(&typed)).await.ok();
    assert!(lab.coordinator.setup_code().is_none());
    let again = lab.call(By::Nobody, "POST", "/api/v1/auth/setup", setup(&code)).await;
    again.refused(Code::InvalidKey);
}

#[tokio::test]
async fn each_start_without_an_owner_has_a_new_code() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("data/mytunnel.db");
    // Coordinators that share a database have one code for all starts.
    let lab = Lab::sqlite(&path).await.unwrap();
    let old = lab.coordinator.setup_code().unwrap();
    lab.coordinator.shutdown().await;
    let lab = Lab::sqlite(&path).await.unwrap();
    let new = lab.coordinator.setup_code().unwrap();
    assert_ne!(old, new);
    let body = json!({"code": old.as_str(), "email": EMAIL, "password": PASSWORD});
    lab.call(By::Nobody, "POST", "/api/v1/auth/setup", body).await.refused(Code::InvalidKey);
    lab.owner().await;
    lab.coordinator.shutdown().await;
    assert!(Lab::sqlite(&path).await.unwrap().coordinator.setup_code().is_none());
}

#[tokio::test]
async fn a_weak_password_or_a_broken_address_makes_no_owner() {
    let lab = Lab::new().await;
    let code = lab.coordinator.setup_code().unwrap();
    for (email, password, field) in [("owner", PASSWORD, "email"), (EMAIL, "short", "password")] {
        let body = json!({"code": code.as_str(), "email": email, "password": password});
        let answer = lab.call(By::Nobody, "POST", "/api/v1/auth/setup", body).await;
        assert!(answer.refused(Code::BadRequest).starts_with(field));
    }
    lab.owner().await;
}

#[tokio::test]
async fn a_stranger_learns_nothing_from_a_refused_sign_in() {
    let lab = Lab::new().await;
    lab.owner().await;
    lab.call(By::Nobody, "POST", "/api/v1/auth/login", login(PASSWORD)).await.ok();
    let wrong = lab.call(By::Nobody, "POST", "/api/v1/auth/login", login("incorrect horse")).await;
    let unknown = json!({"email": "nobody@example.org", "password": PASSWORD});
    let unknown = lab.call(By::Nobody, "POST", "/api/v1/auth/login", unknown).await;
    assert_eq!(wrong.refused(Code::InvalidKey), unknown.refused(Code::InvalidKey));
    assert_eq!(wrong.status, unknown.status);
}

#[tokio::test]
async fn guessing_is_put_off_and_does_not_lock_the_owner_out() {
    let lab = Lab::new().await;
    lab.owner().await;
    for _ in 0..5 {
        let answer = lab.call(By::Nobody, "POST", "/api/v1/auth/login", login("guess guess")).await;
        answer.refused(Code::InvalidKey);
    }
    let put_off = lab.call(By::Nobody, "POST", "/api/v1/auth/login", login(PASSWORD)).await;
    put_off.refused(Code::RateLimited);
    assert_eq!(put_off.status, StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = put_off.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    let mut elsewhere =
        lab.request(By::Nobody, "POST", "/api/v1/auth/login", login(PASSWORD).to_string().into());
    elsewhere.extensions_mut().insert(ClientAddress([198, 51, 100, 7].into()));
    lab.send(elsewhere).await.ok();
    lab.advance(wait);
    lab.call(By::Nobody, "POST", "/api/v1/auth/login", login(PASSWORD)).await.ok();
}

#[tokio::test]
async fn a_session_ends_by_itself_and_by_logging_out() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let projects =
        async |token: &str| lab.call(By::Bearer(token), "GET", "/api/v1/projects", Value::Null).await;
    projects(&token).await.ok();
    lab.advance(15 * 60 - 1);
    projects(&token).await.ok();
    lab.advance(1);
    projects(&token).await.refused(Code::InvalidKey);
    let answer = lab.call(By::Nobody, "POST", "/api/v1/auth/login", login(PASSWORD)).await;
    let token = answer.ok()["access_token"].as_str().unwrap().to_owned();
    projects(&token).await.ok();
    let out = lab.call(By::Bearer(&token), "POST", "/api/v1/auth/logout", Value::Null).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    projects(&token).await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn a_device_gets_a_certificate_that_everybody_can_check() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let (key, device) = lab.device(&token).await;
    assert_eq!(device.account, EMAIL);
    let trust = trust(&device.trust, lab.coordinator.root());
    let claims = certificate::verify(&device.certificate, &trust, &key.seed.public(), lab.now()).unwrap();
    assert_eq!((claims.kind, claims.serial), (Kind::UserDevice, key.serial));
    assert_eq!((&claims.tenant, &claims.project, claims.parent), (&device.tenant, &None, None));
    assert_eq!(claims.not_after, lab.now() + 30 * DAY);
    lab.call(By::Key(&key), "GET", "/api/v1/projects", Value::Null).await.ok();
}

#[tokio::test]
async fn signing_in_again_gives_the_same_device_a_new_life() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let (key, _) = lab.device(&token).await;
    lab.advance(30 * DAY);
    lab.call(By::Key(&key), "GET", "/api/v1/projects", Value::Null).await.refused(Code::KeyExpired);
    let answer = lab.call(By::Nobody, "POST", "/api/v1/auth/login", login(PASSWORD)).await.ok();
    let token = answer["access_token"].as_str().unwrap();
    let body = json!({"public_key": key.seed.public(), "name": "laptop"});
    let renewed = lab.call(By::Bearer(token), "POST", "/api/v1/devices", body.clone()).await.ok();
    assert_eq!(renewed["serial"], key.serial.to_string());
    assert_eq!(renewed["expires_at"], lab.now() + 30 * DAY);
    lab.call(By::Key(&key), "GET", "/api/v1/projects", Value::Null).await.ok();
    // A revoked device stays revoked.
    lab.revoke(By::Key(&key), &key, false).await.ok();
    lab.call(By::Bearer(token), "POST", "/api/v1/devices", body).await.refused(Code::KeyRevoked);
    lab.call(By::Key(&key), "GET", "/api/v1/projects", Value::Null).await.refused(Code::KeyRevoked);
}

#[tokio::test]
async fn only_a_signed_in_person_adds_a_device() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let body = json!({"public_key": fresh_seed().public(), "name": "second"});
    for by in [By::Key(&house.device), By::Key(&house.master)] {
        lab.call(by, "POST", "/api/v1/devices", body.clone()).await.refused(Code::ScopeDenied);
    }
    lab.call(By::Nobody, "POST", "/api/v1/devices", body).await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn the_person_at_this_machine_needs_no_sign_in() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let lab = Lab::at(&path).await.unwrap();
    let seed = fresh_seed();
    let device = lab.coordinator.local_owner_device(seed.public()).await.unwrap();
    let claims =
        certificate::verify(&device.certificate, &lab.coordinator.trust(), &seed.public(), lab.now())
            .unwrap();
    assert_eq!(claims.kind, Kind::UserDevice);
    let project = claims.project.clone().unwrap();
    lab.coordinator.shutdown().await;
    // The next share has the same project, so that its names are still its own.
    let lab = Lab::at(&path).await.unwrap();
    let again = lab.coordinator.local_owner_device(seed.public()).await.unwrap();
    assert_eq!((again.serial, &again.tenant), (device.serial, &device.tenant));
    let other = fresh_seed();
    let other_device = lab.coordinator.local_owner_device(other.public()).await.unwrap();
    let claims =
        certificate::verify(&other_device.certificate, &lab.coordinator.trust(), &other.public(), lab.now())
            .unwrap();
    assert_eq!(claims.project, Some(project.clone()));
    // The owner who is set up later finds it.
    let token = lab.owner().await;
    let projects = lab.call(By::Bearer(&token), "GET", "/api/v1/projects", Value::Null).await.ok();
    assert_eq!(projects["projects"][0]["id"], project.to_string());
}

#[tokio::test]
async fn a_signed_in_device_owns_names_in_its_tenants_own_project() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let (device, answer) = lab.device(&token).await;
    let personal = answer.tenant.home_project();
    let mut relay = lab.relay().await;
    relay.up(&personal, "web", &device).await;
    assert_eq!(relay.delta().await, [named("web", &personal)]);

    let get = async |path: &str| lab.call(By::Key(&device), "GET", path, Value::Null).await.ok();
    let tunnels = get("/api/v1/tunnels").await["tunnels"].clone();
    assert_eq!((&tunnels[0]["name"], &tunnels[0]["online"]), (&json!("web"), &json!(true)), "{tunnels}");
    let audit = get(&format!("/api/v1/audit?project={personal}")).await["entries"].clone();
    assert!(audit.as_array().unwrap().iter().any(|row| row["act"] == "tunnel.up"), "{audit}");
    let projects = get("/api/v1/projects").await["projects"].clone();
    assert_eq!((&projects[0]["id"], &projects[0]["name"]), (&json!(personal), &json!("personal")));

    let (child, _) = lab.mint(&device, json!({"project": personal})).await;
    relay.up(&personal, "blog", &child).await;
    relay.delta().await;
    let path = format!("/api/v1/projects/{personal}");
    lab.call(By::Bearer(&token), "DELETE", &path, Value::Null).await.refused(Code::BadRequest);
}
