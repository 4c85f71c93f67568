//! Proofs of these minutes by another provider: only where it says when, and only for who is signed in already.

use axum::http::{HeaderValue, header};
use data_encoding::BASE64URL_NOPAD;
use mytunnel_keys::error::Code;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::issuer::Lie;
use crate::provider::{House, Way, location, set_cookie, signed_in};
use crate::second_factor::{answer, code_at, enrol};
use crate::support::{Answer, By};

const AGAIN: &str = "/api/v1/auth/again";

/// The access token of the browser that came back so.
async fn access(house: &House, end: &Answer) -> String {
    renewed(house, &signed_in(end)).await
}

async fn renewed(house: &House, refresh: &str) -> String {
    let mut request = house.lab.request(By::Nobody, "POST", "/api/v1/auth/refresh", Vec::new());
    request.headers_mut().insert(header::COOKIE, HeaderValue::from_str(refresh).unwrap());
    house.lab.send(request).await.ok()["access_token"].as_str().unwrap().to_owned()
}

async fn invite(house: &House, access: &str) -> Answer {
    let body = json!({"email": "ann@example.org", "role": "member"});
    house.lab.call(By::Bearer(access), "POST", "/api/v1/invitations", body).await
}

async fn again(house: &House, access: &str) -> Way {
    let answer = house.lab.call(By::Bearer(access), "POST", AGAIN, json!({"provider": "co"})).await;
    let address = answer.ok()["url"].as_str().unwrap().to_owned();
    assert!(address.contains("max_age=600"), "{address}");
    let cookie = set_cookie(&answer, "__Host-mtk_flow").expect("a cookie");
    Way { provider: "co".to_owned(), cookie, address }
}

#[track_caller]
fn refused(end: &Answer, trouble: &str) {
    assert_eq!(location(end), format!("/#/security?error={trouble}"));
    assert_eq!(set_cookie(end, "__Host-mtk_rt"), None, "the session of before stays");
}

#[tokio::test]
async fn a_sign_in_by_a_provider_is_no_proof_until_it_says_when_that_was() {
    let house = House::linked().await;
    // A browser that has a session at the provider comes in, and nobody had to prove anything.
    let before = access(&house, &house.sign_in("co").await).await;
    invite(&house, &before).await.refused(Code::StepUpRequired);
    let fresh = access(&house, &house.back(&again(&house, &before).await).await).await;
    invite(&house, &fresh).await.ok();
    let before = fresh;
    // Nor is a proof one that is of long ago, or of a time that nobody tells.
    let now = house.lab.now();
    for auth_time in [json!(now - 600), Value::Null] {
        house.issuer.lie(Lie { claims: json!({"auth_time": auth_time}), ..Lie::default() });
        refused(&house.back(&again(&house, &before).await).await, "not_fresh");
    }
    house.issuer.lie(Lie::default());
    let asked = json!({"provider": "github"});
    let no = house.lab.call(By::Bearer(&before), "POST", AGAIN, asked).await.refused(Code::BadRequest);
    assert!(no.contains("Use your password"), "{no}");
}

/// The ids of somebody's sessions, and which of them the caller has.
async fn sessions(house: &House, access: &str) -> (Vec<Value>, Value) {
    let list = house.lab.call(By::Bearer(access), "GET", "/api/v1/sessions", Value::Null).await.ok();
    let list = list["sessions"].as_array().unwrap().clone();
    let own = list.iter().find(|session| session["current"] == true).unwrap()["id"].clone();
    (list.iter().map(|session| session["id"].clone()).collect(), own)
}

/// With a second factor too, which is asked for in between.
#[tokio::test]
async fn the_session_of_before_ends_with_the_proof_and_no_earlier() {
    let house = House::linked().await;
    let first = access(&house, &house.sign_in("co").await).await;
    let (before, old) = sessions(&house, &first).await;
    let end = house.back(&again(&house, &first).await).await;
    // Another window may renew the old one before this browser has the new cookie, which must not be taken from it.
    assert!(sessions(&house, &first).await.0.contains(&old));
    let second = access(&house, &end).await;
    let (after, new) = sessions(&house, &second).await;
    assert_eq!(after.len(), before.len());
    assert!(!after.contains(&old) && !before.contains(&new), "{before:?} {after:?}");
    house.lab.call(By::Bearer(&first), "GET", "/api/v1/auth/me", Value::Null).await.refused(Code::InvalidKey);

    let secret = enrol(&house.lab, &second).await.secret;
    let end = house.back(&again(&house, &second).await).await;
    let challenge = location(&end).strip_prefix("/#/login?challenge_token=").expect("a challenge").to_owned();
    assert!(sessions(&house, &second).await.0.contains(&new), "half a proof ends nothing");
    house.lab.advance(30);
    let third = answer(&house.lab, &challenge, &code_at(&secret, house.lab.now())).await;
    let third = set_cookie(&third, "__Host-mtk_rt").expect("a session");
    let (last, _) = sessions(&house, &renewed(&house, &third).await).await;
    assert_eq!(last.len(), 1, "the second factor has ended all others when it was set up");
    assert!(!last.contains(&new), "{last:?}");
}

#[tokio::test]
async fn nobody_comes_back_from_a_provider_as_somebody_else() {
    let house = House::linked().await;
    let code = invite(&house, &house.token).await.ok()["code"].as_str().unwrap().to_owned();
    let body = json!({"code": code, "provider": "co"});
    let begun = house.lab.call(By::Nobody, "POST", "/api/v1/auth/invitations/sign-in", body).await;
    let way = Way {
        provider: "co".to_owned(),
        cookie: set_cookie(&begun, "__Host-mtk_flow").unwrap(),
        address: begun.ok()["url"].as_str().unwrap().to_owned(),
    };
    house.issuer.person("subject-ann", "ann@example.org", true);
    signed_in(&house.back(&way).await);
    // Ann sits at the provider, and the owner here.
    refused(&house.back(&again(&house, &house.token).await).await, "other_account");
    let me = house.lab.call(By::Bearer(&house.token), "GET", "/api/v1/auth/me", Value::Null).await.ok();
    assert_eq!(me["email"], crate::support::EMAIL);
    // Nor does who was signed out meanwhile come back at all.
    let way = again(&house, &house.token).await;
    let ended = house.lab.call(By::Bearer(&house.token), "POST", "/api/v1/auth/logout", Value::Null).await;
    assert!(ended.status.is_success());
    let end = house.back(&way).await;
    assert!(location(&end).ends_with("?error=stale"), "{}", location(&end));
    assert_eq!(set_cookie(&end, "__Host-mtk_rt"), None);
}

#[tokio::test]
async fn a_device_that_a_provider_signed_in_is_worth_what_the_provider_proved() {
    let house = House::linked().await;
    for (says_when, expected) in [(true, None), (false, Some(Code::StepUpRequired))] {
        let lie = if says_when { json!({}) } else { json!({"auth_time": null}) };
        house.issuer.lie(Lie { claims: lie, ..Lie::default() });
        let verifier = "v".repeat(43);
        let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(verifier.as_bytes()));
        let way = house.begin("co", &format!("?terminal={challenge}")).await;
        assert!(way.address.contains("max_age=600"), "{}", way.address);
        let page = house.back(&way).await.text();
        let code = page.split("<code>").nth(1).unwrap().split('<').next().unwrap().to_owned();
        let body = json!({"code": code, "verifier": verifier});
        let entered = house.lab.call(By::Nobody, "POST", "/api/v1/auth/oauth/code", body).await.ok();
        // It is signed in either way: there is no other way to do so by a provider that tells nothing.
        let (device, _) = house.lab.device(entered["access_token"].as_str().unwrap()).await;
        let made = house.lab.call(By::Key(&device), "POST", "/api/v1/relays/join-tokens", Value::Null).await;
        match expected {
            Some(code) => drop(made.refused(code)),
            None => drop(made.ok()),
        }
    }
}
