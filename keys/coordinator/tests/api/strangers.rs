//! What anybody can send costs little, and keeps nobody out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, StatusCode, header};
use mytunnel_coordinator::ClientAddress;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{TunnelId, TunnelName};
use mytunnel_keys::secret::TicketSecret;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::issuer::Issuer;
use crate::sessions::{Browser, log_in};
use crate::support::{Answer, By, EMAIL, Lab, PASSWORD, START, fresh_seed, random};

/// A call of somebody at that address.
async fn from(lab: &Lab, address: u8, path: &str, body: Value) -> Answer {
    let mut request = lab.request(By::Nobody, "POST", path, serde_json::to_vec(&body).unwrap());
    request.extensions_mut().insert(ClientAddress(IpAddr::from([198, 51, 100, address])));
    lab.send(request).await
}

/// A few addresses that try codes until each is told to wait.
async fn guess(lab: &Lab, addresses: [u8; 4], path: &str, body: impl Fn(u32) -> Value) {
    for address in addresses {
        let mut tries = 0;
        while from(lab, address, path, body(tries)).await.status != StatusCode::TOO_MANY_REQUESTS {
            tries += 1;
            assert!(tries <= 50, "guesses from one address have no end");
        }
        assert!(tries >= 10, "{tries} guesses are a person with a bad day");
    }
}

#[tokio::test]
async fn guesses_do_not_keep_the_one_out_who_has_the_code() {
    let lab = Lab::new().await;
    let setup = |code: &str| json!({"code": code, "email": EMAIL, "password": PASSWORD});
    guess(&lab, [0, 1, 2, 3], "/api/v1/auth/setup", |number| setup(&format!("guess {number}"))).await;
    let code = lab.coordinator.setup_code().unwrap();
    // Even behind the address that a guesser had.
    let owner = Browser::of(&from(&lab, 0, "/api/v1/auth/setup", setup(code.as_str())).await);

    let asked = json!({"email": "ann@example.org", "role": "member"});
    let made = lab.call(By::Bearer(&owner.access), "POST", "/api/v1/invitations", asked).await.ok();
    let accept = |code: &str| json!({"code": code, "password": PASSWORD});
    guess(&lab, [4, 5, 6, 7], "/api/v1/auth/invitations/accept", |number| accept(&format!("guess {number}")))
        .await;
    let path = "/api/v1/auth/invitations/accept";
    from(&lab, 4, path, accept(made["code"].as_str().unwrap())).await.ok();

    let (device, _) = lab.device(&owner.access).await;
    let (_, master) = lab.project(By::Key(&device), "web").await;
    let ticket = crate::tickets::issue(&lab, &master, Value::Null).await;
    let show = |ticket: &str| json!({"ticket": ticket, "public_key": fresh_seed().public()});
    let path = "/api/v1/tickets/redeem";
    let wrong = || crate::tickets::text_of(&lab, TicketSecret::from_bytes(random()));
    guess(&lab, [8, 9, 10, 11], path, |_| show(&wrong())).await;
    from(&lab, 8, path, show(&ticket.text)).await.ok();
}

#[tokio::test]
async fn tokens_that_nobody_was_given_cost_a_look_and_no_write() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("mytunnel.db");
    let issuer = Issuer::start(START).await;
    let client = issuer.client(&["co"]);
    let store = mytunnel_coordinator::StoreConfig::Sqlite(file.clone());
    let lab = Lab::open(store, |config| config.sign_in = client).await.unwrap();
    let token = lab.owner().await;
    let (device, _) = lab.device(&token).await;
    let (_, master) = lab.project(By::Key(&device), "web").await;
    let used = crate::tickets::issue(&lab, &master, Value::Null).await;
    let (guest, _) = crate::tickets::enter(&lab, &used).await;
    let (doomed, revoked) = lab.project(By::Key(&device), "doomed").await;
    let of_project = crate::tickets::issue(&lab, &device, json!({"project": doomed})).await;
    let of_key = crate::tickets::issue(&lab, &revoked, Value::Null).await;
    lab.revoke(By::Key(&device), &revoked, false).await.ok();
    lab.call(By::Key(&device), "DELETE", &format!("/api/v1/projects/{doomed}"), Value::Null).await.ok();
    let code = |number: u32| json!({"code": format!("guess {number}"), "verifier": "mine"});
    let by_code = "/api/v1/auth/oauth/code";
    guess(&lab, [0, 1, 2, 3], by_code, code).await;

    // Whoever writes now waits, and is told after five seconds that it cannot be.
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let cookie = |request: &mut axum::http::Request<_>, text: &'static str| {
        request.headers_mut().insert(header::COOKIE, HeaderValue::from_static(text));
    };
    for path in ["/api/v1/auth/refresh", "/api/v1/auth/logout"] {
        let mut request = lab.request(By::Nobody, "POST", path, Vec::new());
        cookie(&mut request, "__Host-mtk_rt=never-given");
        let answer = lab.send(request).await;
        let wanted = [StatusCode::UNAUTHORIZED, StatusCode::NO_CONTENT];
        assert!(wanted.contains(&answer.status), "{path}: {}", answer.status);
    }
    let body = json!({"challenge_token": "never-given", "code": "000000"});
    lab.call(By::Nobody, "POST", "/api/v1/auth/login/mfa", body).await.refused(Code::InvalidKey);
    let path = "/api/v1/auth/oauth/co/callback?state=never-given&code=x";
    let mut request = lab.request(By::Nobody, "GET", path, Vec::new());
    cookie(&mut request, "__Host-mtk_flow=never-given");
    let answer = lab.send(request).await;
    assert_eq!(answer.headers.get(header::LOCATION).unwrap(), "/#/login?error=stale");
    from(&lab, 0, by_code, code(99)).await.refused(Code::RateLimited);
    let never = crate::tickets::text_of(&lab, TicketSecret::from_bytes(random()));
    let stranger = || fresh_seed().public();
    for (ticket, public_key) in [
        (&never, stranger()),
        (&used.text, stranger()),
        (&used.text, guest.seed.public()),
        (&of_key.text, stranger()),
        (&of_project.text, stranger()),
    ] {
        let body = json!({"ticket": ticket, "public_key": public_key});
        from(&lab, 0, "/api/v1/tickets/redeem", body).await.refused(Code::RateLimited);
    }
    other.execute_batch("ROLLBACK").unwrap();
}

#[tokio::test]
async fn a_flood_of_passwords_for_gates_keeps_nobody_from_signing_in() {
    const FLOOD: usize = 300;
    let lab = Arc::new(Lab::new().await);
    let house = lab.house().await;
    let (child, _) = lab.mint(&house.master, Value::Null).await;
    let cluster = "localhost".parse().unwrap();
    let mut flood = JoinSet::new();
    for number in 0..FLOOD {
        let (lab, child, project) = (lab.clone(), child.clone(), house.project.clone());
        let name: TunnelName = format!("t{number}").parse().unwrap();
        let id = TunnelId::derive(&cluster, &project, &name);
        flood.spawn(async move {
            let tunnel = json!({"project": project, "name": name});
            let body = json!({"user": "ann", "password": "long enough", "tunnel": tunnel});
            lab.call(By::Key(&child), "PUT", &format!("/api/v1/tunnels/{id}/auth"), body).await.status
        });
    }
    // The queue of gates is full as soon as one was turned away.
    let turned_away = |status: StatusCode| status == StatusCode::TOO_MANY_REQUESTS;
    while !turned_away(flood.join_next().await.expect("some are turned away").unwrap()) {}
    for _ in 0..3 {
        log_in(&lab).await.ok();
    }
    flood.shutdown().await;
}

/// Passwords are hashed on threads of their own, as many as there are cores; some wait, and the rest is told to come
/// back. Whoever is signed in notices little: a call that looks into the store takes a small part of what one hash does.
#[tokio::test]
async fn a_flood_of_sign_ins_leaves_the_api_answering() {
    let lab = Arc::new(Lab::new().await);
    let owner = lab.owner().await;
    let me = async || {
        let begun = Instant::now();
        lab.call(By::Bearer(&owner), "GET", "/api/v1/auth/me", Value::Null).await.ok();
        begun.elapsed()
    };
    let in_quiet = async || {
        let mut quiet = Vec::new();
        for _ in 0..200 {
            quiet.push(me().await);
        }
        median(quiet)
    };
    // What else runs on the machine may come in between.
    for round in 1..=3 {
        let before = in_quiet().await;
        let begun = Instant::now();
        log_in(&lab).await.ok();
        let one_hash = begun.elapsed();
        let (hashed, busy) = flood_with_sign_ins(&lab, round, &me).await;
        let (quiet, busy) = (in_quiet().await.clamp(before, before * 3), median(busy));
        if busy < (quiet * 20).max(one_hash / 4) {
            log_in(&lab).await.ok();
            return;
        }
        println!(
            "{busy:?} while {hashed} passwords were hashed, {quiet:?} when it was quiet, {one_hash:?} for one sign-in"
        );
    }
    panic!("the API answers slowly");
}

/// A thousand people sign in at one moment, each from an address of its own: how many of them were heard, and how long each call
/// of `me` took meanwhile.
async fn flood_with_sign_ins(
    lab: &Arc<Lab>,
    round: u32,
    me: impl AsyncFn() -> Duration,
) -> (u32, Vec<Duration>) {
    const FLOOD: u32 = 1000;
    let mut flood = JoinSet::new();
    for number in round * FLOOD..(round + 1) * FLOOD {
        let lab = lab.clone();
        flood.spawn(async move {
            let body = json!({"email": format!("{number}@example.org"), "password": PASSWORD}).to_string();
            let mut request = lab.request(By::Nobody, "POST", "/api/v1/auth/login", body.into());
            request.extensions_mut().insert(ClientAddress(std::net::Ipv4Addr::from(number).into()));
            lab.send(request).await
        });
    }
    let (mut hashed, mut put_off, mut busy) = (0_u32, 0_u32, Vec::new());
    while hashed + put_off < FLOOD {
        busy.push(me().await);
        while let Some(answer) = flood.try_join_next() {
            let answer = answer.unwrap();
            match answer.status {
                StatusCode::UNAUTHORIZED => hashed += 1,
                StatusCode::TOO_MANY_REQUESTS => {
                    assert!(answer.headers.contains_key(header::RETRY_AFTER));
                    put_off += 1;
                }
                other => panic!("{other}"),
            }
        }
    }
    assert!(hashed >= 32 && put_off > FLOOD / 2, "{hashed} hashed, {put_off} put off");
    (hashed, busy)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
