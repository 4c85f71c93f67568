//! Sessions: kept alive by tokens that are good once, shown, ended.

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use mytunnel_coordinator::ClientAddress;
use mytunnel_keys::error::Code;
use serde_json::{Value, json};

use crate::support::{Answer, By, DAY, EMAIL, Lab, PASSWORD};

/// A signed-in browser: its access token, and the cookie that it sends.
#[derive(Debug, Clone)]
pub(crate) struct Browser {
    pub(crate) access: String,
    pub(crate) cookie: String,
}

impl Browser {
    #[track_caller]
    pub(crate) fn of(answer: &Answer) -> Self {
        let access = answer.ok()["access_token"].as_str().unwrap().to_owned();
        Self { access, cookie: cookie(answer).expect("a refresh token") }
    }
}

/// The refresh token that an answer sets, as the cookie that comes back.
fn cookie(answer: &Answer) -> Option<String> {
    let set = answer.headers.get(header::SET_COOKIE)?.to_str().unwrap();
    for part in ["Path=/;", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(set.contains(part) && !set.contains("Domain"), "{set}");
    }
    set.split(';').next().map(str::to_owned).filter(|pair| pair.starts_with("__Host-mtk_rt="))
}

pub(crate) async fn log_in(lab: &Lab) -> Answer {
    lab.call(By::Nobody, "POST", "/api/v1/auth/login", json!({"email": EMAIL, "password": PASSWORD})).await
}

async fn with_cookie(lab: &Lab, path: &str, cookie: &str, more: &[(&'static str, &'static str)]) -> Answer {
    let mut request: Request<Body> = lab.request(By::Nobody, "POST", path, Vec::new());
    request.headers_mut().insert(header::COOKIE, cookie.parse().unwrap());
    for (name, value) in more {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    lab.send(request).await
}

async fn refresh(lab: &Lab, cookie: &str) -> Answer {
    with_cookie(lab, "/api/v1/auth/refresh", cookie, &[]).await
}

async fn me(lab: &Lab, access: &str) -> Answer {
    lab.call(By::Bearer(access), "GET", "/api/v1/auth/me", Value::Null).await
}

pub(crate) async fn acts(lab: &Lab, token: &str) -> Vec<String> {
    let log = lab.call(By::Bearer(token), "GET", "/api/v1/audit?limit=1000", Value::Null).await.ok();
    let entries = log["entries"].as_array().unwrap();
    entries.iter().map(|row| row["act"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_session_lives_by_tokens_that_are_good_once() {
    let lab = Lab::new().await;
    lab.owner().await;
    let first = Browser::of(&log_in(&lab).await);
    let seen = me(&lab, &first.access).await.ok();
    assert_eq!(
        (&seen["email"], &seen["role"], &seen["mfa_enabled"]),
        (&json!(EMAIL), &json!("owner"), &json!(false))
    );
    lab.advance(15 * 60);
    me(&lab, &first.access).await.refused(Code::InvalidKey);
    let second = Browser::of(&refresh(&lab, &first.cookie).await);
    assert_ne!(second.cookie, first.cookie);
    me(&lab, &second.access).await.ok();
    let third = Browser::of(&refresh(&lab, &second.cookie).await);
    me(&lab, &third.access).await.ok();
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_the_family_and_is_told() {
    let lab = Lab::new().await;
    let other = lab.owner().await;
    let stolen = Browser::of(&log_in(&lab).await);
    let next = Browser::of(&refresh(&lab, &stolen.cookie).await);
    lab.advance(10);
    let reused = refresh(&lab, &stolen.cookie).await;
    assert!(reused.refused(Code::InvalidKey).contains("used twice"));
    assert_eq!(cookie(&reused).as_deref(), Some("__Host-mtk_rt="));
    refresh(&lab, &next.cookie).await.refused(Code::InvalidKey);
    me(&lab, &next.access).await.refused(Code::InvalidKey);
    // Sessions of the same account that have nothing to do with it go on.
    me(&lab, &other).await.ok();
    assert!(acts(&lab, &other).await.contains(&"session.reuse".to_owned()));
}

#[tokio::test]
async fn two_tabs_that_refresh_at_once_stay_signed_in_and_on_one_line() {
    let lab = Lab::new().await;
    lab.owner().await;
    let both = Browser::of(&log_in(&lab).await);
    let winner = Browser::of(&refresh(&lab, &both.cookie).await);
    lab.advance(9);
    let loser = refresh(&lab, &both.cookie).await;
    let access = loser.ok()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(cookie(&loser), None, "a second line of tokens would hide a thief");
    me(&lab, &access).await.ok();
    me(&lab, &winner.access).await.ok();
    Browser::of(&refresh(&lab, &winner.cookie).await);
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends_and_so_does_one_that_is_used() {
    let lab = Lab::new().await;
    lab.owner().await;
    let idle = Browser::of(&log_in(&lab).await);
    let mut used = Browser::of(&log_in(&lab).await);
    lab.advance(14 * DAY - 1);
    used = Browser::of(&refresh(&lab, &used.cookie).await);
    lab.advance(1);
    refresh(&lab, &idle.cookie).await.refused(Code::InvalidKey);
    lab.advance(14 * DAY - 100);
    used = Browser::of(&refresh(&lab, &used.cookie).await);
    lab.advance(2 * DAY + 100);
    refresh(&lab, &used.cookie).await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn tokens_of_one_kind_do_not_pass_for_another() {
    let lab = Lab::new().await;
    lab.owner().await;
    let browser = Browser::of(&log_in(&lab).await);
    let refresh_token = browser.cookie.trim_start_matches("__Host-mtk_rt=").to_owned();
    me(&lab, &refresh_token).await.refused(Code::InvalidKey);
    refresh(&lab, &format!("__Host-mtk_rt={}", browser.access)).await.refused(Code::InvalidKey);
    for token in [&browser.access, &refresh_token] {
        let body = json!({"challenge_token": token, "code": "123456"});
        let answer = lab.call(By::Nobody, "POST", "/api/v1/auth/login/mfa", body).await;
        answer.refused(Code::InvalidKey);
    }
    refresh(&lab, &browser.cookie).await.ok();
}

#[tokio::test]
async fn other_sites_cannot_use_the_cookie() {
    let lab = Lab::new().await;
    lab.owner().await;
    let browser = Browser::of(&log_in(&lab).await);
    let path = "/api/v1/auth/refresh";
    for headers in [
        [("sec-fetch-site", "cross-site"), ("origin", "http://evil.example")],
        [("sec-fetch-site", "same-site"), ("origin", "http://localhost:8080")],
        [("origin", "http://a.localhost:8080"), ("host", "localhost:8080")],
    ] {
        with_cookie(&lab, path, &browser.cookie, &headers).await.refused(Code::ScopeDenied);
        with_cookie(&lab, "/api/v1/auth/logout", &browser.cookie, &headers).await.refused(Code::ScopeDenied);
    }
    let twice = format!("{}; {}", browser.cookie, browser.cookie);
    refresh(&lab, &twice).await.refused(Code::BadRequest);
    let own = [("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8080")];
    with_cookie(&lab, path, &browser.cookie, &own).await.ok();
}

#[tokio::test]
async fn logging_out_ends_every_token_of_the_session() {
    let lab = Lab::new().await;
    let owner = lab.owner().await;
    let by_cookie = Browser::of(&log_in(&lab).await);
    let out = with_cookie(&lab, "/api/v1/auth/logout", &by_cookie.cookie, &[]).await;
    assert_eq!((out.status, cookie(&out).as_deref()), (StatusCode::NO_CONTENT, Some("__Host-mtk_rt=")));
    me(&lab, &by_cookie.access).await.refused(Code::InvalidKey);
    let by_token = Browser::of(&log_in(&lab).await);
    lab.call(By::Bearer(&by_token.access), "POST", "/api/v1/auth/logout", Value::Null).await;
    refresh(&lab, &by_token.cookie).await.refused(Code::InvalidKey);
    lab.call(By::Nobody, "POST", "/api/v1/auth/logout", Value::Null).await.refused(Code::InvalidKey);
    assert_eq!(acts(&lab, &owner).await.iter().filter(|act| *act == "logout").count(), 2);
}

#[tokio::test]
async fn people_see_and_end_their_sessions() {
    let lab = Lab::new().await;
    let here = lab.owner().await;
    let mut elsewhere = lab.request(
        By::Nobody,
        "POST",
        "/api/v1/auth/login",
        json!({"email": EMAIL, "password": PASSWORD}).to_string().into(),
    );
    elsewhere.extensions_mut().insert(ClientAddress([198, 51, 100, 7].into()));
    elsewhere.headers_mut().insert(header::USER_AGENT, "Browser\t5".parse().unwrap());
    lab.advance(60);
    let there = Browser::of(&lab.send(elsewhere).await);
    let rows = lab.call(By::Bearer(&here), "GET", "/api/v1/sessions", Value::Null).await.ok();
    let rows = rows["sessions"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let (other, own) = (&rows[0], &rows[1]);
    assert_eq!((&other["address"], &other["agent"]), (&json!("198.51.100.7"), &json!("Browser5")));
    assert_eq!((&other["current"], &own["current"]), (&json!(false), &json!(true)));
    let path = format!("/api/v1/sessions/{}", other["id"].as_str().unwrap());
    let ended = lab.call(By::Bearer(&here), "DELETE", &path, Value::Null).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    lab.call(By::Bearer(&here), "DELETE", &path, Value::Null).await.refused(Code::NotFound);
    me(&lab, &there.access).await.refused(Code::InvalidKey);
    refresh(&lab, &there.cookie).await.refused(Code::InvalidKey);
    me(&lab, &here).await.ok();
}

#[tokio::test]
async fn an_account_has_a_bounded_number_of_sessions() {
    let lab = Lab::new().await;
    let oldest = lab.owner().await;
    for _ in 0..50 {
        lab.advance(1);
        log_in(&lab).await.ok();
    }
    me(&lab, &oldest).await.refused(Code::InvalidKey);
    let newest = Browser::of(&log_in(&lab).await);
    let rows = lab.call(By::Bearer(&newest.access), "GET", "/api/v1/sessions", Value::Null).await.ok();
    assert_eq!(rows["sessions"].as_array().unwrap().len(), 50);
}

#[tokio::test]
async fn a_device_shows_its_own_account() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let get = async |by| lab.call(by, "GET", "/api/v1/auth/me", Value::Null).await;
    assert_eq!(get(By::Key(&house.device)).await.ok()["email"], EMAIL);
    get(By::Key(&house.master)).await.refused(Code::ScopeDenied);
    get(By::Nobody).await.refused(Code::InvalidKey);
}
