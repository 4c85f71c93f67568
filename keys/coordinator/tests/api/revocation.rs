//! Revoking: who may, what goes with it, who hears of it.

use std::time::Duration;

use mytunnel_coordinator::StoreConfig;
use mytunnel_keys::api::MintAnswer;
use mytunnel_keys::certificate;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Change;
use serde_json::{Value, json};

use crate::support::{By, DAY, Key, Lab, Relay, START, fresh_seed, mint_body};

fn is_revoked(lab: &Lab, relay: &Relay, key: &Key, minted: &MintAnswer) -> bool {
    let trust = lab.coordinator.trust();
    let claims = certificate::verify(&minted.certificate, &trust, &key.seed.public(), lab.now()).unwrap();
    relay.revoked.is_revoked(&claims).is_some()
}

#[tokio::test]
async fn a_cascade_is_one_change_and_takes_every_child() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (_, bystander) = lab.project(By::Key(&house.device), "other").await;
    let mut children = Vec::new();
    for _ in 0..17 {
        children.push(lab.mint(&house.master, Value::Null).await);
    }
    let (unharmed, unharmed_answer) = lab.mint(&bystander, Value::Null).await;
    let mut relay = lab.relay().await;
    let (answer, changes) =
        tokio::join!(lab.revoke(By::Key(&house.device), &house.master, true), relay.delta());
    let answer = answer.ok();
    assert_eq!((&answer["revoked_masters"], &answer["revoked_children"]), (&json!(1), &json!(17)));
    assert_eq!(answer["relays"][0]["id"], relay.id.to_string());
    assert_eq!(answer["relays"][0]["applied"], true);
    assert!(answer["relays"][0]["ms"].as_u64().unwrap() < 2000);
    assert!(matches!(&changes[..], [Change::RevokeTree { serial, .. }] if *serial == house.master.serial));
    for (key, minted) in &children {
        assert!(is_revoked(&lab, &relay, key, minted));
        assert!(lab.show(By::Key(&house.device), key).await["revoked_at"].is_u64());
    }
    assert!(!is_revoked(&lab, &relay, &unharmed, &unharmed_answer));
    assert!(lab.show(By::Key(&house.device), &unharmed).await["revoked_at"].is_null());
    lab.child(&bystander).await;
}

#[tokio::test]
async fn what_was_revoked_can_do_nothing_any_more_and_again_is_harmless() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    lab.revoke(By::Key(&house.device), &house.master, true).await.ok();
    let body = mint_body(&fresh_seed().public(), Value::Null);
    lab.call(By::Key(&house.master), "POST", "/api/v1/mint", body).await.refused(Code::KeyRevoked);
    lab.call(By::Key(&child), "GET", "/api/v1/tokens", Value::Null).await.refused(Code::KeyRevoked);
    let again = lab.revoke(By::Key(&house.device), &house.master, true).await.ok();
    assert_eq!((&again["revoked_masters"], &again["revoked_children"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn without_the_children_a_master_goes_alone_and_they_can_follow_later() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let gone = lab.child(&house.master).await;
    lab.revoke(By::Key(&gone), &gone, false).await.ok();
    let answer = lab.revoke(By::Key(&house.device), &house.master, false).await.ok();
    assert_eq!((&answer["revoked_masters"], &answer["revoked_children"]), (&json!(1), &json!(0)));
    assert!(lab.show(By::Key(&child), &child).await["revoked_at"].is_null());
    let answer = lab.revoke(By::Key(&house.device), &house.master, true).await.ok();
    assert_eq!((&answer["revoked_masters"], &answer["revoked_children"]), (&json!(0), &json!(1)));
    lab.call(By::Key(&child), "GET", "/api/v1/tokens", Value::Null).await.refused(Code::KeyRevoked);
}

#[tokio::test]
async fn expired_children_are_not_counted() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    lab.mint(&house.master, json!({"ttl": 60})).await;
    lab.child(&house.master).await;
    lab.advance(60);
    let answer = lab.revoke(By::Key(&house.device), &house.master, true).await.ok();
    assert_eq!(answer["revoked_children"], 1);
}

#[tokio::test]
async fn everybody_may_revoke_the_key_they_hold_and_a_master_its_children() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (_, other) = lab.project(By::Key(&house.device), "other").await;
    let (own, own_answer) = lab.mint(&house.master, Value::Null).await;
    let sibling = lab.child(&house.master).await;
    for (caller, target) in [(&sibling, &own), (&other, &own), (&own, &house.master), (&other, &house.master)]
    {
        lab.revoke(By::Key(caller), target, true).await.refused(Code::NotFound);
    }
    let mut relay = lab.relay().await;
    let (answer, changes) = tokio::join!(lab.revoke(By::Key(&own), &own, false), relay.delta());
    assert_eq!(answer.ok()["revoked_children"], 1);
    assert!(matches!(&changes[..], [Change::Revoke { serial, until }]
        if *serial == own.serial && *until > own_answer.expires_at));
    let (answer, _) = tokio::join!(lab.revoke(By::Key(&house.master), &sibling, false), relay.delta());
    assert_eq!(answer.ok()["revoked_children"], 1);
    lab.revoke(By::Key(&house.master), &house.master, true).await.ok();
}

#[tokio::test]
async fn a_device_goes_with_what_it_minted() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let by_device = lab.mint(&house.device, json!({"project": house.project})).await;
    let by_master = lab.mint(&house.master, Value::Null).await;
    let mut relay = lab.relay().await;
    let (answer, _) = tokio::join!(lab.revoke(By::Bearer(&house.token), &house.device, true), relay.delta());
    let answer = answer.ok();
    assert_eq!((&answer["revoked_masters"], &answer["revoked_children"]), (&json!(1), &json!(1)));
    assert!(is_revoked(&lab, &relay, &by_device.0, &by_device.1));
    assert!(!is_revoked(&lab, &relay, &by_master.0, &by_master.1));
}

#[tokio::test]
async fn a_deleted_project_takes_its_keys_and_names_along() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (child, minted) = lab.mint(&house.master, Value::Null).await;
    let mut relay = lab.relay().await;
    relay.up(&house.project, "web", &child).await;
    relay.delta().await;
    assert_eq!(relay.names.get(&"web".parse().unwrap()), Some(&house.project));
    let path = format!("/api/v1/projects/{}", house.project);
    lab.call(By::Key(&house.master), "DELETE", &path, Value::Null).await.refused(Code::MasterCannotAct);
    lab.call(By::Key(&child), "DELETE", &path, Value::Null).await.refused(Code::ScopeDenied);
    let (answer, _) =
        tokio::join!(lab.call(By::Key(&house.device), "DELETE", &path, Value::Null), relay.delta());
    let answer = answer.ok();
    assert_eq!((&answer["revoked_masters"], &answer["revoked_children"]), (&json!(1), &json!(1)));
    assert_eq!(answer["relays"][0]["applied"], true);
    assert!(is_revoked(&lab, &relay, &child, &minted) && relay.names.is_empty());
    let body = mint_body(&fresh_seed().public(), Value::Null);
    lab.call(By::Key(&house.master), "POST", "/api/v1/mint", body).await.refused(Code::KeyRevoked);
    lab.call(By::Key(&child), "GET", "/api/v1/tokens", Value::Null).await.refused(Code::KeyRevoked);
    let body = mint_body(&fresh_seed().public(), json!({"project": house.project}));
    lab.call(By::Key(&house.device), "POST", "/api/v1/mint", body).await.refused(Code::NotFound);
    let again = lab.call(By::Key(&house.device), "DELETE", &path, Value::Null).await.ok();
    assert_eq!(again["revoked_masters"], 0);
    // Its name and the names in it are free.
    let (again, master) = lab.project(By::Key(&house.device), "web").await;
    let child = lab.child(&master).await;
    relay.up(&again, "web", &child).await;
    relay.delta().await;
    assert_eq!(relay.names.get(&"web".parse().unwrap()), Some(&again));
}

#[tokio::test]
async fn a_relay_that_does_not_confirm_is_named_and_the_others_are_not_waited_for_longer() {
    let limit = Duration::from_secs(1);
    let lab = Lab::open(StoreConfig::Memory, |config| config.limits.confirm = limit).await.unwrap();
    let house = lab.house().await;
    let obedient = lab.relay().await;
    let deaf = lab.relay().await;
    let begun = std::time::Instant::now();
    let (answer, _) = tokio::join!(lab.revoke(By::Key(&house.device), &house.master, true), async {
        let mut relay = obedient;
        relay.delta().await;
        relay
    });
    assert!(begun.elapsed() >= limit && begun.elapsed() < limit * 10);
    let answer = answer.ok();
    let of = |relay: &str| {
        let relays = answer["relays"].as_array().unwrap();
        relays.iter().find(|row| row["id"] == relay).unwrap().clone()
    };
    let named = of(&deaf.id.to_string());
    assert_eq!((&named["applied"], &named["ms"]), (&json!(false), &json!(null)));
    assert_eq!(answer["relays"].as_array().unwrap().iter().filter(|row| row["applied"] == true).count(), 1);
}

/// What devices share outlives the bound after which a relay that was cut off ends everything else.
#[tokio::test]
async fn a_relay_that_may_still_serve_devices_is_named_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let open = async |now| {
        let store = StoreConfig::Sqlite(place.path().join("mytunnel.db"));
        Lab::open_at(now, store, |_| ()).await.unwrap()
    };
    let lab = open(START).await;
    let house = lab.house().await;
    let relay = lab.relay().await.id;
    lab.coordinator.shutdown().await;
    let lab = open(START + 1800).await;
    let answer = lab.revoke(By::Key(&house.device), &house.master, true).await.ok();
    assert_eq!(answer["relays"], json!([{"id": relay, "applied": false, "ms": null}]));
}

#[tokio::test]
async fn a_relay_that_comes_later_learns_of_what_is_in_force_and_of_no_more() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (child, minted) = lab.mint(&house.master, json!({"ttl": 600})).await;
    let (_, other) = lab.project(By::Key(&house.device), "other").await;
    lab.revoke(By::Key(&child), &child, false).await.ok();
    lab.revoke(By::Key(&house.device), &other, true).await.ok();
    let relay = lab.relay().await;
    assert_eq!(relay.revoked.len(), 2);
    assert!(is_revoked(&lab, &relay, &child, &minted));
    lab.advance(3600);
    assert_eq!(lab.relay().await.revoked.len(), 1, "the child has ended anyway");
    lab.advance(DAY);
    assert!(lab.relay().await.revoked.is_empty(), "so has every child of the master");
}
