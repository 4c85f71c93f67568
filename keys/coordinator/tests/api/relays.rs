//! Join tokens, and relays that come and go.

use std::time::Duration;

use mytunnel_coordinator::{ActError, Config, StoreConfig};
use mytunnel_keys::api::{RelayJoin, RelayJoined};
use mytunnel_keys::certificate::{self, Kind};
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Report;
use mytunnel_keys::id::{TunnelId, TunnelKind};
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::Token;
use serde_json::{Value, json};

use crate::feed::joined;
use crate::support::{Answer, By, DAY, EMAIL, Key, Lab, PASSWORD, fresh_seed};

async fn token(lab: &Lab, owner: &str, query: &str) -> [u8; 32] {
    let path = format!("/api/v1/relays/join-tokens{query}");
    let made = lab.call(By::Bearer(owner), "POST", &path, Value::Null).await.ok();
    let token = Token::parse(made["token"].as_str().unwrap()).unwrap();
    assert_eq!(token.root(), lab.coordinator.root());
    assert_eq!(token.server().as_str(), "http://localhost:8080");
    *token.into_relay().unwrap().secret.expose()
}

async fn join(lab: &Lab, seed: &Seed, secret: [u8; 32]) -> Answer {
    let body = serde_json::to_value(RelayJoin { public_key: seed.public(), secret }).unwrap();
    lab.call(By::Nobody, "POST", "/api/v1/relay/join", body).await
}

#[tokio::test]
async fn a_join_token_lets_one_relay_in() {
    let lab = Lab::new().await;
    let owner = lab.owner().await;
    let secret = token(&lab, &owner, "").await;
    let seed = fresh_seed();
    let joined: RelayJoined = join(&lab, &seed, secret).await.read();
    let claims =
        certificate::verify(&joined.certificate, &lab.coordinator.trust(), &seed.public(), lab.now())
            .unwrap();
    assert_eq!((claims.kind, claims.not_after), (Kind::Relay, lab.now() + DAY));
    join(&lab, &fresh_seed(), secret).await.refused(Code::InvalidKey);
    // The answer may have been lost: the same relay asks again.
    join(&lab, &seed, secret).await.ok();
    join(&lab, &fresh_seed(), [7; 32]).await.refused(Code::InvalidKey);
    let log = lab.call(By::Bearer(&owner), "GET", "/api/v1/audit", Value::Null).await.ok();
    assert_eq!(
        (&log["entries"][0]["act"], &log["entries"][0]["actor"]),
        (&json!("join.refused"), &json!("address:192.0.2.1"))
    );
}

#[tokio::test]
async fn a_join_token_ends() {
    let lab = Lab::new().await;
    let owner = lab.owner().await;
    let (short, usual) = (token(&lab, &owner, "?ttl=60").await, token(&lab, &owner, "").await);
    lab.advance(60);
    join(&lab, &fresh_seed(), short).await.refused(Code::InvalidKey);
    lab.advance(3600 - 61);
    join(&lab, &fresh_seed(), usual).await.ok();
    for query in ["?ttl=59", "?ttl=86401", "?ttl=x"] {
        let path = format!("/api/v1/relays/join-tokens{query}");
        let owner = lab.call(By::Bearer(&owner), "POST", &path, Value::Null).await;
        assert!(!owner.status.is_success(), "{query}");
    }
}

#[tokio::test]
async fn only_the_operator_lets_relays_in_and_sees_them() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let relay = joined(&lab, &house.token).await;
    let child = lab.child(&house.master).await;
    for (method, path) in [("POST", "/api/v1/relays/join-tokens"), ("GET", "/api/v1/relays")] {
        lab.call(By::Key(&house.master), method, path, Value::Null).await.refused(Code::MasterCannotAct);
        lab.call(By::Key(&child), method, path, Value::Null).await.refused(Code::ScopeDenied);
        lab.call(By::Key(&relay), method, path, Value::Null).await.refused(Code::ScopeDenied);
        lab.call(By::Key(&house.device), method, path, Value::Null).await.ok();
    }
}

const RENEW: &str = "/api/v1/relay/renew";

/// Asks as the owner, signed in anew: time passes in these tests.
async fn get(lab: &Lab, path: &str) -> Value {
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let session = lab.call(By::Nobody, "POST", "/api/v1/auth/login", body).await.ok();
    let token = session["access_token"].as_str().unwrap().to_owned();
    lab.call(By::Bearer(&token), "GET", path, Value::Null).await.ok()
}

/// The acts of relays in the audit log, the newest first, each with its actor.
async fn acts(lab: &Lab) -> Vec<(Value, Value)> {
    let log = get(lab, "/api/v1/audit").await;
    let entries = log["entries"].as_array().unwrap().iter();
    let acts = entries.map(|entry| (entry["act"].clone(), entry["actor"].clone()));
    acts.filter(|(_, actor)| actor.as_str().is_some_and(|actor| actor.starts_with("relay:"))).collect()
}

#[tokio::test]
async fn a_relay_renews_its_certificate_also_when_it_was_switched_off_for_long() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let relay = joined(&lab, &house.token).await;
    let party = json!(format!("relay:{}", relay.serial.nonce()));
    for away in [DAY / 2, DAY, 400 * DAY] {
        lab.advance(away);
        let renewed: RelayJoined = lab.call(By::Key(&relay), "POST", RENEW, Value::Null).await.read();
        let (trust, subject) = (lab.coordinator.trust(), relay.seed.public());
        let claims = certificate::verify(&renewed.certificate, &trust, &subject, lab.now()).unwrap();
        assert_eq!((claims.serial, claims.not_after), (relay.serial, lab.now() + DAY));
        assert_eq!(acts(&lab).await[0], (json!("relay.renew"), party.clone()));
    }
    let before = acts(&lab).await.len();
    for _ in 0..10 {
        lab.advance(60);
        lab.call(By::Key(&relay), "POST", RENEW, Value::Null).await.ok();
    }
    assert_eq!(acts(&lab).await.len(), before, "asking on and on fills nothing");
    lab.advance(DAY);
    let feed = lab.call(By::Key(&relay), "POST", "/api/v1/relay/feed", Value::Null).await;
    feed.refused(Code::KeyExpired);
    let listed = get(&lab, "/api/v1/relays").await;
    assert_eq!(listed["relays"].as_array().unwrap().len(), 1, "it can come back, so it can be revoked");
    let stranger = Key { seed: fresh_seed(), serial: relay.serial };
    lab.call(By::Key(&stranger), "POST", RENEW, Value::Null).await.refused(Code::InvalidKey);
}

#[tokio::test]
async fn nobody_but_a_relay_that_was_not_revoked_renews() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let relay = joined(&lab, &house.token).await;
    lab.call(By::Key(&house.device), "POST", RENEW, Value::Null).await.refused(Code::ScopeDenied);
    let child = lab.child(&house.master).await;
    lab.advance(DAY);
    lab.call(By::Key(&child), "POST", RENEW, Value::Null).await.refused(Code::KeyExpired);

    let path = format!("/api/v1/relays/{}", relay.seed.public());
    lab.call(By::Key(&house.device), "DELETE", &path, Value::Null).await.ok();
    lab.call(By::Key(&relay), "POST", RENEW, Value::Null).await.refused(Code::KeyRevoked);
    assert_eq!(acts(&lab).await[0].0, "request.refused");
    let inside = lab.coordinator.renew_relay(relay.seed.public()).await.unwrap_err();
    assert!(matches!(inside, ActError::Refused { code: Code::KeyRevoked, .. }), "{inside}");
    assert_eq!(acts(&lab).await[1].0, "request.refused");
    let unknown = lab.coordinator.renew_relay(fresh_seed().public()).await.unwrap_err();
    assert!(matches!(unknown, ActError::Refused { code: Code::InvalidKey, .. }), "{unknown}");
}

#[tokio::test]
async fn the_operator_sets_how_long_a_relays_certificate_lives() {
    let life = |config: &mut Config| config.limits.relay_certificate = Duration::from_secs(600);
    let lab = Lab::open(StoreConfig::Memory, life).await.unwrap();
    let seed = fresh_seed();
    let enrolled = lab.coordinator.enroll_relay(seed.public(), Vec::new()).await.unwrap();
    lab.advance(100);
    let renewed = lab.coordinator.renew_relay(seed.public()).await.unwrap();
    for (joined, end) in [(enrolled, lab.now() + 500), (renewed, lab.now() + 600)] {
        let trust = lab.coordinator.trust();
        let claims = certificate::verify(&joined.certificate, &trust, &seed.public(), lab.now()).unwrap();
        assert_eq!(claims.not_after, end);
    }
}

#[tokio::test]
async fn a_relay_takes_no_name_that_no_live_key_of_the_project_may_have() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (other, other_master) = lab.project(By::Key(&house.device), "other").await;
    let (narrow, _) = lab.mint(&house.master, json!({"hosts": ["pr-*"]})).await;
    let (revoked, theirs) = (lab.child(&house.master).await, lab.child(&other_master).await);
    let mut relay = lab.relay().await;
    lab.revoke(By::Key(&house.device), &revoked, false).await;
    relay.delta().await;

    relay.up(&house.project, "alpha", &narrow).await;
    relay.up(&house.project, "beta", &revoked).await;
    relay.up(&house.project, "gamma", &theirs).await;
    // An id of its own choice: that of another project's tunnel.
    let foreign = TunnelId::derive(&"localhost".parse().unwrap(), &other, &"their".parse().unwrap());
    let forged = Report::TunnelUp {
        tunnel: foreign,
        name: "pr-2".parse().unwrap(),
        project: house.project.clone(),
        serial: narrow.serial,
        kind: TunnelKind::Http,
        at: lab.now(),
    };
    relay.link.reports.send(forged).await.unwrap();
    relay.up(&house.project, "pr-1", &narrow).await;

    // Reports are taken in order: when the last of them counts, the others do not.
    relay.delta().await;
    let names: Vec<_> = relay.names.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["pr-1"]);
    let tunnels = lab.call(By::Key(&house.device), "GET", "/api/v1/tunnels", Value::Null).await.ok();
    assert_eq!(tunnels["tunnels"].as_array().unwrap().len(), 1, "{tunnels}");
}

#[tokio::test]
async fn a_revoked_relay_is_cut_off_for_good() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let staying = lab.relay().await;
    let leaving = lab.relay().await;
    let path = format!("/api/v1/relays/{}", leaving.id);
    lab.call(By::Key(&house.master), "DELETE", &path, Value::Null).await.refused(Code::MasterCannotAct);
    let (answer, leaving, _) = tokio::join!(
        lab.call(By::Key(&house.device), "DELETE", &path, Value::Null),
        async {
            let id = leaving.id;
            leaving.follow().await;
            id
        },
        async {
            let mut relay = staying;
            relay.delta().await;
            relay
        }
    );
    let relays = answer.ok()["relays"].clone();
    assert_eq!(relays.as_array().unwrap().len(), 1, "{relays}");
    let asked = mytunnel_keys::feed::Subscribe { nonce: [0; 16], addrs: Vec::new(), since: None };
    assert!(lab.coordinator.subscribe(leaving, asked).await.is_err());
    assert!(lab.coordinator.enroll_relay(leaving, Vec::new()).await.is_err());
    let listed = lab.call(By::Key(&house.device), "GET", "/api/v1/relays", Value::Null).await.ok();
    assert_eq!(listed["relays"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_relays_addresses_are_addresses() {
    let lab = Lab::new().await;
    let seed = fresh_seed();
    for bad in ["no slash", "/ip4/1.2.3.4 /tcp/1", "/\u{e9}"] {
        let refused = lab.coordinator.enroll_relay(seed.public(), vec![bad.to_owned()]).await;
        assert!(refused.is_err(), "{bad}");
    }
    let many = vec!["/ip4/127.0.0.1/tcp/1".to_owned(); 33];
    assert!(lab.coordinator.enroll_relay(seed.public(), many).await.is_err());
}

#[tokio::test]
async fn tunnels_have_urls_once_it_is_known_where() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let mut relay = lab.relay().await;
    relay.up(&house.project, "web", &child).await;
    relay.delta().await;
    let url = async || {
        let answer = lab.call(By::Key(&house.device), "GET", "/api/v1/tunnels", Value::Null).await.ok();
        answer["tunnels"][0]["url"].clone()
    };
    assert_eq!(url().await, json!(null));
    let endpoints =
        mytunnel_coordinator::Endpoints { http: Some(":8080".to_owned()), https: Some(":443".to_owned()) };
    lab.coordinator.set_endpoints("http://localhost:8080".parse().unwrap(), endpoints);
    assert_eq!(url().await, "http://web.localhost:8080");
}
