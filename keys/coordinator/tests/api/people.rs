//! People: invited, given a role, removed; what a member may; passwords that change.

use axum::http::StatusCode;
use mytunnel_coordinator::{Clock, Coordinator, StoreConfig};
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Change;
use serde_json::{Value, json};

use crate::sessions::{Browser, acts, log_in};
use crate::support::{Answer, By, EMAIL, House, Key, Lab, PASSWORD, eventually, fresh_seed, mint_body};

const MEMBER: &str = "member@example.org";

async fn get(lab: &Lab, by: By<'_>, path: &str) -> Answer {
    lab.call(by, "GET", path, Value::Null).await
}

async fn invite(lab: &Lab, by: By<'_>, email: &str, role: &str) -> Answer {
    lab.call(by, "POST", "/api/v1/invitations", json!({"email": email, "role": role})).await
}

async fn accept(lab: &Lab, code: &str) -> Answer {
    let body = json!({"code": code, "password": PASSWORD});
    lab.call(By::Nobody, "POST", "/api/v1/auth/invitations/accept", body).await
}

async fn log_in_as(lab: &Lab, email: &str, password: &str) -> Answer {
    lab.call(By::Nobody, "POST", "/api/v1/auth/login", json!({"email": email, "password": password})).await
}

/// A second person in the owner's tenant, with a device.
pub(crate) async fn join(lab: &Lab, house: &House, role: &str) -> (Browser, Key) {
    let made = invite(lab, By::Bearer(&house.token), MEMBER, role).await.ok();
    let browser = Browser::of(&accept(lab, made["code"].as_str().unwrap()).await);
    let (device, _) = lab.device(&browser.access).await;
    (browser, device)
}

async fn id_of(lab: &Lab, token: &str) -> String {
    get(lab, By::Bearer(token), "/api/v1/auth/me").await.ok()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_invitation_makes_one_account_for_one_address() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    lab.advance(1);
    let owner = By::Bearer(&house.token);
    let made = invite(&lab, owner, " Member@Example.org ", "member").await.ok();
    let (id, code) = (made["id"].as_str().unwrap(), made["code"].as_str().unwrap());
    assert_eq!(
        (&made["email"], made["expires_at"].as_u64()),
        (&json!(MEMBER), Some(lab.now() + 7 * 24 * 3600))
    );
    assert_eq!(made["url"], format!("http://localhost:8080/#/invitation?code={code}"));
    let open = get(&lab, owner, "/api/v1/invitations").await.ok();
    assert_eq!(
        (&open["invitations"][0]["id"], open["invitations"].as_array().unwrap().len()),
        (&json!(id), 1)
    );
    assert!(!open.to_string().contains(code), "a code is shown once");

    accept(&lab, "AAAA-AAAA-AAAA-AAAA").await.refused(Code::InvalidKey);
    let browser = Browser::of(&accept(&lab, &code.to_lowercase().replace('-', "")).await);
    accept(&lab, code).await.refused(Code::InvalidKey);
    let me = get(&lab, By::Bearer(&browser.access), "/api/v1/auth/me").await.ok();
    assert_eq!((&me["email"], &me["role"]), (&json!(MEMBER), &json!("member")));
    log_in_as(&lab, MEMBER, PASSWORD).await.ok();
    invite(&lab, owner, MEMBER, "owner").await.refused(Code::NameTaken);
    let accounts = get(&lab, owner, "/api/v1/accounts").await.ok();
    let emails: Vec<_> = accounts["accounts"].as_array().unwrap().iter().map(|row| &row["email"]).collect();
    assert_eq!(emails, [EMAIL, MEMBER]);
    assert!(
        accounts["accounts"][1]["last_login_at"].is_u64() && accounts["accounts"][1]["mfa_enabled"] == false
    );
    let acts = acts(&lab, &house.token).await;
    for act in ["invitation.create", "account.create", "login.refused"] {
        assert!(acts.contains(&act.to_owned()), "{act} in {acts:?}");
    }
}

#[tokio::test]
async fn an_invitation_ends_is_replaced_and_is_withdrawn() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let code = |answer: Answer| answer.ok()["code"].as_str().unwrap().to_owned();
    let first = code(invite(&lab, By::Bearer(&token), MEMBER, "member").await);
    let second = code(invite(&lab, By::Bearer(&token), MEMBER, "owner").await);
    accept(&lab, &first).await.refused(Code::InvalidKey);
    let open = get(&lab, By::Bearer(&token), "/api/v1/invitations").await.ok();
    assert_eq!(open["invitations"].as_array().unwrap().len(), 1);
    let path = format!("/api/v1/invitations/{}", open["invitations"][0]["id"].as_str().unwrap());
    let withdrawn = lab.call(By::Bearer(&token), "DELETE", &path, Value::Null).await;
    assert_eq!(withdrawn.status, StatusCode::NO_CONTENT);
    lab.call(By::Bearer(&token), "DELETE", &path, Value::Null).await.refused(Code::NotFound);
    accept(&lab, &second).await.refused(Code::InvalidKey);
    let late = code(invite(&lab, By::Bearer(&token), MEMBER, "member").await);
    lab.advance(7 * 24 * 3600);
    accept(&lab, &late).await.refused(Code::InvalidKey);
    let fresh = Browser::of(&log_in(&lab).await);
    invite(&lab, By::Bearer(&fresh.access), MEMBER, "admin").await.refused(Code::BadRequest);
    invite(&lab, By::Bearer(&fresh.access), "nobody", "owner").await.refused(Code::BadRequest);
}

#[tokio::test]
async fn a_member_sees_and_manages_what_is_their_own_and_nothing_else() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (browser, device) = join(&lab, &house, "member").await;
    let owner_device = house.device.serial.nonce();
    for by in [By::Bearer(&browser.access), By::Key(&device)] {
        for path in
            ["/api/v1/projects", "/api/v1/tokens", "/api/v1/tunnels", "/api/v1/sessions", "/api/v1/auth/me"]
        {
            get(&lab, by, path).await.ok();
        }
        for path in ["/api/v1/accounts", "/api/v1/invitations", "/api/v1/audit", "/api/v1/relays"] {
            get(&lab, by, path).await.refused(Code::ScopeDenied);
        }
        invite(&lab, by, "x@example.org", "owner").await.refused(Code::ScopeDenied);
        let project = json!({"name": "mine", "master": fresh_seed().public()});
        lab.call(by, "POST", "/api/v1/projects", project).await.refused(Code::ScopeDenied);
        let path = format!("/api/v1/projects/{}", house.project);
        lab.call(by, "DELETE", &path, Value::Null).await.refused(Code::ScopeDenied);
        lab.revoke(by, &house.master, true).await.refused(Code::NotFound);
        lab.revoke(by, &house.device, true).await.refused(Code::NotFound);
        lab.call(by, "POST", "/api/v1/relays/join-tokens", Value::Null).await.refused(Code::ScopeDenied);
        let id = id_of(&lab, &house.token).await;
        let path = format!("/api/v1/accounts/{id}");
        lab.call(by, "DELETE", &path, Value::Null).await.refused(Code::ScopeDenied);
        lab.call(by, "PATCH", &path, json!({"role": "member"})).await.refused(Code::ScopeDenied);
        let devices = get(&lab, by, "/api/v1/devices").await.ok();
        assert!(!devices.to_string().contains(&owner_device), "{devices}");
        assert_eq!(devices["devices"][0]["nonce"], device.serial.nonce());
    }
    let all = get(&lab, By::Bearer(&house.token), "/api/v1/devices").await.ok();
    assert_eq!(all["devices"].as_array().unwrap().len(), 2);

    let minted = async |more: Value| lab.mint(&device, more).await.0;
    let child = minted(json!({"project": house.project})).await;
    lab.revoke(By::Bearer(&browser.access), &child, false).await.ok();
    let child = minted(json!({"project": house.project})).await;
    lab.revoke(By::Key(&device), &child, false).await.ok();
    lab.revoke(By::Bearer(&browser.access), &device, true).await.ok();
}

#[tokio::test]
async fn a_role_counts_from_the_next_request_and_there_is_always_an_owner() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (browser, device) = join(&lab, &house, "member").await;
    let (owner, member) = (id_of(&lab, &house.token).await, id_of(&lab, &browser.access).await);
    let set = async |by: By<'_>, id: &str, role: &str| {
        lab.call(by, "PATCH", &format!("/api/v1/accounts/{id}"), json!({"role": role})).await
    };
    let mine = By::Bearer(&house.token);
    set(mine, &owner, "member").await.refused(Code::BadRequest);
    lab.call(mine, "DELETE", &format!("/api/v1/accounts/{owner}"), Value::Null)
        .await
        .refused(Code::BadRequest);
    set(mine, "acc_nobody", "member").await.refused(Code::NotFound);
    set(mine, &member, "king").await.refused(Code::BadRequest);
    assert_eq!(set(mine, &member, "owner").await.ok()["role"], "owner");
    get(&lab, By::Key(&device), "/api/v1/accounts").await.ok();
    set(By::Bearer(&browser.access), &owner, "member").await.ok();
    get(&lab, By::Bearer(&house.token), "/api/v1/accounts").await.refused(Code::ScopeDenied);
    get(&lab, By::Key(&house.device), "/api/v1/accounts").await.refused(Code::ScopeDenied);
    set(By::Bearer(&browser.access), &member, "member").await.refused(Code::BadRequest);
}

#[tokio::test]
async fn who_comes_in_and_who_goes_is_an_owners_own_word_of_the_last_minutes() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (browser, _) = join(&lab, &house, "member").await;
    let path = format!("/api/v1/accounts/{}", id_of(&lab, &browser.access).await);
    let acts: [(&str, &str, Value); 3] = [
        ("POST", "/api/v1/invitations", json!({"email": "eve@example.org", "role": "owner"})),
        ("PATCH", &path, json!({"role": "owner"})),
        ("DELETE", &path, Value::Null),
    ];
    let tried = async |by: By<'_>| {
        for (method, path, body) in &acts {
            let message = lab.call(by, method, path, body.clone()).await.refused(Code::StepUpRequired);
            assert!(message.contains("ten minutes"), "{message}");
        }
    };
    // Neither a stolen device nor an open window.
    tried(By::Key(&house.device)).await;
    lab.advance(10 * 60);
    tried(By::Bearer(&house.token)).await;
    let fresh = Browser::of(&log_in(&lab).await);
    for (method, path, body) in acts {
        lab.call(By::Bearer(&fresh.access), method, path, body).await.ok();
    }
}

#[tokio::test]
async fn what_stays_when_a_device_is_revoked_is_made_in_the_minutes_after_a_sign_in() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let join_token = async |by: By<'_>| lab.call(by, "POST", "/api/v1/relays/join-tokens", Value::Null).await;
    join_token(By::Key(&house.device)).await.ok();
    join_token(By::Bearer(&house.token)).await.ok();
    lab.advance(10 * 60);
    // Neither the device nor the window does any more, nor what a thief could make of the window.
    for by in [By::Key(&house.device), By::Bearer(&house.token)] {
        let message = join_token(by).await.refused(Code::StepUpRequired);
        assert!(message.contains("ten minutes"), "{message}");
    }
    let added = json!({"public_key": fresh_seed().public(), "name": "mine now"});
    let old = By::Bearer(&house.token);
    lab.call(old, "POST", "/api/v1/devices", added).await.refused(Code::StepUpRequired);
    let renewed = json!({"public_key": house.device.seed.public(), "name": "laptop"});
    lab.call(old, "POST", "/api/v1/devices", renewed.clone()).await.refused(Code::StepUpRequired);
    join_token(By::Key(&house.device)).await.refused(Code::StepUpRequired);
    let project = json!({"name": "mine too", "master": fresh_seed().public()});
    lab.call(old, "POST", "/api/v1/projects", project).await.refused(Code::StepUpRequired);
    let fresh = Browser::of(&log_in(&lab).await);
    join_token(By::Bearer(&fresh.access)).await.ok();
    lab.call(By::Bearer(&fresh.access), "POST", "/api/v1/devices", renewed).await.ok();
    join_token(By::Key(&house.device)).await.ok();
}

fn left(answer: &Value) -> Vec<&str> {
    let left = answer["masters_left"].as_array().map_or(&[][..], Vec::as_slice);
    left.iter().map(|key| key["nonce"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_master_outlives_the_device_that_made_it_and_whoever_revokes_that_is_told() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let mine = By::Bearer(&house.token);
    let (_, in_browser) = lab.project(mine, "by hand").await;
    let (stolen, _) = lab.device(&house.token).await;
    let (_, planted) = lab.project(By::Key(&stolen), "planted").await;
    let child = lab.child(&planted).await;
    let maker = |account: &str, device: Option<&Key>| json!({"account": account, "device": device.map(|key| key.serial.nonce())});
    assert_eq!(lab.show(mine, &planted).await["made_by"], maker(EMAIL, Some(&stolen)));
    assert_eq!(lab.show(mine, &in_browser).await["made_by"], maker(EMAIL, None));
    assert!(lab.show(mine, &child).await["made_by"].is_null());

    let told = lab.revoke(mine, &stolen, true).await.ok();
    assert_eq!(left(&told), [planted.serial.nonce()]);
    assert_eq!(told["masters_left"][0]["name"], "planted");
    lab.child(&planted).await;
    // Told again, and ended with what it minted; what others made stands.
    let mut relay = lab.relay().await;
    let path = format!("/api/v1/tokens/{}?masters=true", stolen.serial.nonce());
    let (told, changes) = tokio::join!(lab.call(mine, "DELETE", &path, Value::Null), relay.delta());
    let told = told.ok();
    assert_eq!((&told["revoked_masters"], &told["revoked_children"]), (&json!(1), &json!(2)));
    assert!(left(&told).is_empty() && told["relays"][0]["applied"] == true, "{told}");
    assert!(
        matches!(&changes[..], [Change::RevokeTree { serial, .. }] if *serial == planted.serial),
        "{changes:?}"
    );
    get(&lab, By::Key(&child), "/api/v1/tokens").await.refused(Code::KeyRevoked);
    get(&lab, By::Key(&planted), "/api/v1/tokens").await.refused(Code::KeyRevoked);
    lab.child(&in_browser).await;
    lab.child(&house.master).await;
}

#[tokio::test]
async fn masters_end_with_an_account_where_an_owner_says_so() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let mine = By::Bearer(&house.token);
    let (browser, device) = join(&lab, &house, "owner").await;
    let (_, on_device) = lab.project(By::Key(&device), "one").await;
    let (_, in_browser) = lab.project(By::Bearer(&browser.access), "two").await;
    let id = id_of(&lab, &browser.access).await;
    // Who is an owner no more ends their own device, and no master of the tenant's.
    lab.call(mine, "PATCH", &format!("/api/v1/accounts/{id}"), json!({"role": "member"})).await.ok();
    let path = format!("/api/v1/tokens/{}?masters=true", device.serial.nonce());
    lab.call(By::Bearer(&browser.access), "DELETE", &path, Value::Null).await.refused(Code::ScopeDenied);
    get(&lab, By::Key(&device), "/api/v1/projects").await.ok();

    let path = format!("/api/v1/accounts/{id}");
    let told = lab.call(mine, "DELETE", &format!("{path}?masters=true"), Value::Null).await.ok();
    assert_eq!((left(&told).len(), &told["revoked_masters"]), (0, &json!(3)));
    for gone in [&on_device, &in_browser] {
        assert!(lab.show(mine, gone).await["revoked_at"].is_u64());
        assert!(lab.show(mine, gone).await["made_by"]["account"].is_null());
    }
    // Without that they stand, and are named.
    let (browser, device) = join(&lab, &house, "owner").await;
    let (_, stands) = lab.project(By::Key(&device), "three").await;
    let path = format!("/api/v1/accounts/{}", id_of(&lab, &browser.access).await);
    let told = lab.call(mine, "DELETE", &path, Value::Null).await.ok();
    assert_eq!(left(&told), [stands.serial.nonce()]);
    lab.child(&stands).await;
}

#[tokio::test]
async fn a_deleted_account_takes_its_sessions_devices_and_children_along() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (browser, device) = join(&lab, &house, "owner").await;
    let child = lab.mint(&device, json!({"project": house.project})).await.0;
    let own_child = lab.mint(&house.device, json!({"project": house.project})).await.0;
    let mut relay = lab.relay().await;
    let path = format!("/api/v1/accounts/{}", id_of(&lab, &browser.access).await);
    let deleting = lab.call(By::Bearer(&house.token), "DELETE", &path, Value::Null);
    let (answer, changes) = tokio::join!(deleting, relay.delta());
    let answer = answer.ok();
    assert_eq!((&answer["revoked_masters"], &answer["revoked_children"]), (&json!(1), &json!(1)));
    assert_eq!(answer["relays"][0]["applied"], true, "{answer}");
    assert!(
        matches!(&changes[..], [Change::RevokeTree { serial, .. }] if *serial == device.serial),
        "{changes:?}"
    );

    get(&lab, By::Bearer(&browser.access), "/api/v1/auth/me").await.refused(Code::InvalidKey);
    get(&lab, By::Key(&device), "/api/v1/projects").await.refused(Code::KeyRevoked);
    get(&lab, By::Key(&child), "/api/v1/tokens").await.refused(Code::KeyRevoked);
    get(&lab, By::Key(&own_child), "/api/v1/tokens").await.ok();
    log_in_as(&lab, MEMBER, PASSWORD).await.refused(Code::InvalidKey);
    lab.call(By::Bearer(&house.token), "DELETE", &path, Value::Null).await.refused(Code::NotFound);
    let accounts = get(&lab, By::Bearer(&house.token), "/api/v1/accounts").await.ok();
    assert_eq!(accounts["accounts"].as_array().unwrap().len(), 1);
    // The address is free again.
    let made = invite(&lab, By::Bearer(&house.token), MEMBER, "member").await.ok();
    accept(&lab, made["code"].as_str().unwrap()).await.ok();
    assert!(acts(&lab, &house.token).await.contains(&"account.delete".to_owned()));
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let lab = Lab::new().await;
    let other = lab.owner().await;
    let here = Browser::of(&log_in(&lab).await);
    let change = async |current: &str, new: &str| {
        let body = json!({"current": current, "new": new});
        lab.call(By::Bearer(&here.access), "POST", "/api/v1/auth/password", body).await
    };
    change("wrong password", "another password").await.refused(Code::InvalidKey);
    change(PASSWORD, "short").await.refused(Code::BadRequest);
    assert_eq!(change(PASSWORD, "another password").await.status, StatusCode::NO_CONTENT);
    get(&lab, By::Bearer(&other), "/api/v1/auth/me").await.refused(Code::InvalidKey);
    get(&lab, By::Bearer(&here.access), "/api/v1/auth/me").await.ok();
    log_in(&lab).await.refused(Code::InvalidKey);
    log_in_as(&lab, EMAIL, "another password").await.ok();
    // Wrong ones are counted with those of sign-ins: two so far.
    for _ in 0..3 {
        change("wrong password", "another password").await.refused(Code::InvalidKey);
    }
    change("another password", "a third password").await.refused(Code::RateLimited);
    let (device, _) = lab.device(&here.access).await;
    let body = json!({"current": "another password", "new": "a third password"});
    lab.call(By::Key(&device), "POST", "/api/v1/auth/password", body).await.refused(Code::ScopeDenied);
}

#[tokio::test]
async fn the_operator_makes_a_link_that_sets_a_password_once_while_the_coordinator_runs() {
    let place = tempfile::tempdir().unwrap();
    let lab = Lab::at(&place.path().join("mytunnel.db")).await.unwrap();
    let session = lab.owner().await;
    lab.advance(1);
    let now = lab.now();
    let made = |now| {
        Coordinator::reset_token(place.path(), "Owner@example.org ", &Clock::from_fn(move || now)).unwrap()
    };
    let token = made(now);
    let reset = async |token: &str, password: &str| {
        let body = json!({"token": token, "password": password});
        lab.call(By::Nobody, "POST", "/api/v1/auth/password/reset", body).await
    };
    let first = if token.starts_with('A') { 'B' } else { 'A' };
    reset(&format!("{first}{}", &token[1..]), "another password").await.refused(Code::InvalidKey);
    reset("nonsense", "another password").await.refused(Code::InvalidKey);
    reset(&token, "short").await.refused(Code::BadRequest);
    lab.advance(10);
    assert_eq!(reset(&token, "another password").await.status, StatusCode::NO_CONTENT);
    reset(&token, "a third password").await.refused(Code::InvalidKey);
    // Nor one that was made before, in the hands of somebody else.
    reset(&made(now + 5), "a third password").await.refused(Code::InvalidKey);
    get(&lab, By::Bearer(&session), "/api/v1/auth/me").await.refused(Code::InvalidKey);
    log_in(&lab).await.refused(Code::InvalidKey);
    let browser = Browser::of(&log_in_as(&lab, EMAIL, "another password").await);
    assert!(acts(&lab, &browser.access).await.contains(&"password.reset".to_owned()));
    lab.advance(3601);
    reset(&made(now + 11), "a third password").await.refused(Code::InvalidKey);
    let stranger = Coordinator::reset_token(
        place.path(),
        "nobody@example.org",
        &Clock::from_fn({
            let now = lab.now();
            move || now
        }),
    );
    reset(&stranger.unwrap(), "a third password").await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn a_forgotten_password_is_mailed_by_the_operators_command_and_strangers_learn_nothing() {
    let place = tempfile::tempdir().unwrap();
    let inbox = place.path().join("inbox");
    let script = format!("cat > {0}.part && mv {0}.part {0}", inbox.display());
    let lab = Lab::open(StoreConfig::Memory, |config| {
        config.mail_command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    })
    .await
    .unwrap();
    lab.owner().await;
    lab.advance(1);
    let forgot = async |email: &str| {
        lab.call(By::Nobody, "POST", "/api/v1/auth/password/forgot", json!({"email": email})).await
    };
    let unknown = forgot("nobody@example.org").await;
    let known = forgot(EMAIL).await;
    assert_eq!((known.status, &known.body), (StatusCode::ACCEPTED, &unknown.body));
    assert_eq!((unknown.status, known.json()), (StatusCode::ACCEPTED, json!({"mail": true})));
    let mail = eventually(async || std::fs::read(&inbox).ok()).await;
    let mail: Value = serde_json::from_slice(&mail).unwrap();
    assert_eq!(mail["to"], EMAIL);
    let url = mail["url"].as_str().unwrap();
    assert!(mail["text"].as_str().unwrap().contains(url), "{mail}");
    let token = url.strip_prefix("http://localhost:8080/#/reset?token=").unwrap();
    let body = json!({"token": token, "password": "another password"});
    let reset = lab.call(By::Nobody, "POST", "/api/v1/auth/password/reset", body).await;
    assert_eq!(reset.status, StatusCode::NO_CONTENT);
    let browser = Browser::of(&log_in_as(&lab, EMAIL, "another password").await);
    let acts = acts(&lab, &browser.access).await;
    assert_eq!(acts.iter().filter(|act| *act == "password.ask").count(), 1);
    for _ in 0..4 {
        assert_eq!(forgot(EMAIL).await.status, StatusCode::ACCEPTED);
    }
    forgot(EMAIL).await.refused(Code::RateLimited);
    forgot("not an address").await.refused(Code::BadRequest);
}

#[tokio::test]
async fn a_server_without_mail_says_so_to_everybody_alike() {
    let lab = Lab::new().await;
    lab.owner().await;
    for email in [EMAIL, "nobody@example.org"] {
        let answer =
            lab.call(By::Nobody, "POST", "/api/v1/auth/password/forgot", json!({"email": email})).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::ACCEPTED, json!({"mail": false})));
    }
}

#[tokio::test]
async fn a_device_of_a_member_mints_for_any_project_of_the_tenant() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (_, device) = join(&lab, &house, "member").await;
    let body = mint_body(&fresh_seed().public(), json!({"project": house.project}));
    lab.call(By::Key(&device), "POST", "/api/v1/mint", body).await.ok();
}

#[tokio::test]
async fn a_member_changes_no_gate_and_closes_no_tunnel_of_an_owner() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let relay = lab.relay().await;
    let tunnel = relay.up(&house.project, "wiki", &house.device).await;
    let mut following = tokio::task::JoinSet::new();
    following.spawn(relay.follow());
    let path = |what: &str| format!("/api/v1/tunnels/{tunnel}{what}");
    let password = json!({"user": "ann", "password": "long enough"});
    let list = json!({"provider": "google", "allowed_domains": ["acme.example"], "allowed_emails": []});
    let there =
        async || get(&lab, By::Bearer(&house.token), &path("")).await.status.is_success().then_some(());
    eventually(there).await;
    lab.call(By::Bearer(&house.token), "PUT", &path("/auth"), password.clone()).await.ok();
    let (browser, device) = join(&lab, &house, "member").await;
    for by in [By::Bearer(&browser.access), By::Key(&device)] {
        for what in ["/auth", "/edge-auth"] {
            lab.call(by, "DELETE", &path(what), Value::Null).await.refused(Code::ScopeDenied);
        }
        lab.call(by, "PUT", &path("/auth"), password.clone()).await.refused(Code::ScopeDenied);
        lab.call(by, "PUT", &path("/edge-auth"), list.clone()).await.refused(Code::ScopeDenied);
        lab.call(by, "DELETE", &path(""), Value::Null).await.refused(Code::ScopeDenied);
    }
    let seen = get(&lab, By::Bearer(&house.token), &path("")).await.ok();
    assert_eq!(seen["gates"], json!(["basic"]));
}
