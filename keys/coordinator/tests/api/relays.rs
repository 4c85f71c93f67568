//! Join tokens, and relays that come and go.

use mytunnel_keys::api::{RelayJoin, RelayJoined};
use mytunnel_keys::certificate::{self, Kind};
use mytunnel_keys::error::Code;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::Token;
use serde_json::{Value, json};

use crate::feed::joined;
use crate::support::{Answer, By, DAY, Lab, fresh_seed};

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
        certificate::verify(&joined.certificate, lab.coordinator.trust(), &seed.public(), lab.now()).unwrap();
    assert_eq!((claims.kind, claims.not_after), (Kind::Relay, lab.now() + 365 * DAY));
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

#[tokio::test]
async fn a_relay_renews_its_certificate_and_one_that_ended_cannot() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let relay = joined(&lab, &house.token).await;
    lab.advance(364 * DAY);
    let renewed: RelayJoined =
        lab.call(By::Key(&relay), "POST", "/api/v1/relay/renew", Value::Null).await.read();
    let subject = relay.seed.public();
    let claims =
        certificate::verify(&renewed.certificate, lab.coordinator.trust(), &subject, lab.now()).unwrap();
    assert_eq!((claims.serial, claims.not_after), (relay.serial, lab.now() + 365 * DAY));
    lab.advance(365 * DAY);
    let late = lab.call(By::Key(&relay), "POST", "/api/v1/relay/renew", Value::Null).await;
    late.refused(Code::KeyExpired);
    let device = lab.call(By::Key(&house.device), "POST", "/api/v1/relay/renew", Value::Null).await;
    assert!(!device.status.is_success());
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
