//! Devices of people: how many, and at what cost.

use std::time::Duration;

use axum::http::StatusCode;
use mytunnel_coordinator::StoreConfig;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::{Accepted, Change, Report};
use mytunnel_keys::usage::Standing;
use serde_json::{Value, json};

use crate::people::join;
use crate::support::{By, DAY, EMAIL, Key, Lab, PASSWORD, fresh_seed, mint_body};

async fn set_budget(lab: &Lab, token: &str, key: &Key, cents: Value) {
    let path = format!("/api/v1/tokens/{}/budget", key.serial.nonce());
    let body = json!({"monthlyBudgetUsdCents": cents});
    lab.call(By::Bearer(token), "PUT", &path, body).await.ok();
}

#[tokio::test]
async fn a_new_device_is_no_way_out_of_a_members_budget() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (browser, first) = join(&lab, &house, "member").await;
    let owner = By::Bearer(&house.token);
    let (second, _) = lab.device(&browser.access).await;
    assert_eq!(lab.show(owner, &second).await["budget_cents"], Value::Null);
    // Whichever of them it is set on, it is of all.
    set_budget(&lab, &house.token, &first, json!(500)).await;
    assert_eq!(lab.show(owner, &second).await["budget_cents"], 500);
    set_budget(&lab, &house.token, &second, json!(20)).await;
    assert_eq!(lab.show(owner, &first).await["budget_cents"], 20);
    // Nor is it a way out to throw them away.
    lab.revoke(By::Bearer(&browser.access), &second, true).await.ok();
    lab.revoke(By::Key(&first), &first, true).await.ok();
    let (third, _) = lab.device(&browser.access).await;
    assert_eq!(lab.show(owner, &third).await["budget_cents"], 20);
    // A child of it has no more.
    let body = mint_body(&fresh_seed().public(), json!({"project": house.project, "budget_cents": 21}));
    lab.call(By::Key(&third), "POST", "/api/v1/mint", body).await.refused(Code::ScopeDenied);
    // Who is frozen stays so, until the owner lifts it.
    set_budget(&lab, &house.token, &third, json!(0)).await;
    let (fourth, _) = lab.device(&browser.access).await;
    assert_eq!(lab.show(owner, &fourth).await["budget_cents"], 0);
    set_budget(&lab, &house.token, &fourth, Value::Null).await;
    assert_eq!(lab.show(owner, &third).await["budget_cents"], Value::Null);
    // Owners set budgets; theirs follow them nowhere.
    set_budget(&lab, &house.token, &house.device, json!(0)).await;
    let (own, _) = lab.device(&house.token).await;
    assert_eq!(lab.show(owner, &own).await["budget_cents"], Value::Null);
}

#[tokio::test]
async fn a_device_is_signed_in_when_relays_know_of_its_budget() {
    // Nothing but the relay's word ends the waiting, and nothing comes between the changes.
    let lab = Lab::open(StoreConfig::Memory, |config| {
        config.limits.heartbeat = Duration::from_secs(3600);
        config.limits.confirm = Duration::from_secs(3600);
    });
    let lab = lab.await.unwrap();
    let house = lab.house().await;
    let (browser, first) = join(&lab, &house, "member").await;
    set_budget(&lab, &house.token, &first, json!(500)).await;
    let mut relay = lab.relay().await;
    let mut adding = std::pin::pin!(lab.device(&browser.access));
    let frame = tokio::select! {
        biased;
        frame = relay.link.frames.recv() => frame.unwrap(),
        _ = &mut adding => panic!("it was not waited for"),
    };
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        assert!(futures::poll!(adding.as_mut()).is_pending(), "no relay has confirmed");
    }
    let accepted = relay.reader.accept(&frame, lab.now()).unwrap();
    let Accepted::Delta { changes, .. } = accepted else { panic!("{accepted:?}") };
    let epoch = relay.reader.position().unwrap().epoch;
    relay.link.reports.send(Report::Applied { epoch, closed: 0 }).await.unwrap();
    let (second, _) = adding.await;
    assert_eq!(changes, [Change::Budget { serial: second.serial, standing: Standing::Limited }]);
}

/// Who revokes their own device without what it minted has not taken that out of the account's budget.
#[tokio::test]
async fn what_a_revoked_device_minted_is_frozen_with_the_account() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (browser, first) = join(&lab, &house, "member").await;
    let body = mint_body(&fresh_seed().public(), json!({"project": house.project}));
    lab.call(By::Key(&first), "POST", "/api/v1/mint", body).await.ok();
    lab.revoke(By::Key(&first), &first, false).await.ok();
    let (second, _) = lab.device(&browser.access).await;
    let mut relay = lab.relay().await;
    let freeze = set_budget(&lab, &house.token, &second, json!(0));
    let (_, told) = tokio::join!(freeze, relay.delta());
    let anew = lab.snapshot(relay.id).await;
    for serial in [first.serial, second.serial] {
        let frozen = Change::Budget { serial, standing: Standing::Frozen };
        assert!(told.contains(&frozen) && anew.contains(&frozen), "{told:?} {anew:?}");
    }
}

#[tokio::test]
async fn a_device_that_was_away_comes_back_to_the_budget_of_this_day() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (browser, device) = join(&lab, &house, "member").await;
    set_budget(&lab, &house.token, &device, json!(500)).await;
    lab.advance(20 * DAY);
    let again = async |email: &str| {
        let body = json!({"email": email, "password": PASSWORD});
        let answer = lab.call(By::Nobody, "POST", "/api/v1/auth/login", body).await.ok();
        answer["access_token"].as_str().unwrap().to_owned()
    };
    drop(browser);
    let member = again("member@example.org").await;
    let (other, _) = lab.device(&member).await;
    lab.advance(20 * DAY);
    // The first has ended: no relay is told of it any more, whatever is set on the other.
    let owner = again(EMAIL).await;
    let mut relay = lab.relay().await;
    let path = format!("/api/v1/tokens/{}/budget", other.serial.nonce());
    let set = lab.call(By::Bearer(&owner), "PUT", &path, json!({"monthlyBudgetUsdCents": 0}));
    let (set, changes) = tokio::join!(set, relay.delta());
    set.ok();
    assert_eq!(changes, [Change::Budget { serial: other.serial, standing: Standing::Frozen }]);
    let member = again("member@example.org").await;
    let body = json!({"public_key": device.seed.public(), "name": "laptop"});
    let renewed = lab.call(By::Bearer(&member), "POST", "/api/v1/devices", body);
    let (renewed, changes) = tokio::join!(renewed, relay.delta());
    renewed.ok();
    assert_eq!(changes, [Change::Budget { serial: device.serial, standing: Standing::Frozen }]);
}

#[tokio::test]
async fn an_owner_who_becomes_a_member_shares_the_narrowest_budget_among_their_devices() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (browser, one) = join(&lab, &house, "owner").await;
    let (two, _) = lab.device(&browser.access).await;
    let mine = By::Bearer(&house.token);
    set_budget(&lab, &house.token, &one, json!(500)).await;
    set_budget(&lab, &house.token, &two, json!(30)).await;
    assert_eq!(lab.show(mine, &one).await["budget_cents"], 500);
    let me = lab.call(By::Bearer(&browser.access), "GET", "/api/v1/auth/me", Value::Null).await.ok();
    let path = format!("/api/v1/accounts/{}", me["id"].as_str().unwrap());
    let mut relay = lab.relay().await;
    let role = lab.call(mine, "PATCH", &path, json!({"role": "member"}));
    let (role, changes) = tokio::join!(role, relay.delta());
    role.ok();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!(lab.show(mine, &one).await["budget_cents"], 30);
    // Back again, each has its own, of the same size at first.
    drop(relay);
    lab.call(mine, "PATCH", &path, json!({"role": "owner"})).await.ok();
    set_budget(&lab, &house.token, &one, json!(70)).await;
    assert_eq!(lab.show(mine, &two).await["budget_cents"], 30);
}

#[tokio::test]
async fn an_account_has_fifty_devices_and_is_told_what_to_do() {
    let lab = Lab::new().await;
    let token = lab.owner().await;
    let mut devices = Vec::new();
    for _ in 0..50 {
        devices.push(lab.device(&token).await.0);
    }
    let add = async |seed: &mytunnel_keys::secret::Seed| {
        let body = json!({"public_key": seed.public(), "name": "one more"});
        lab.call(By::Bearer(&token), "POST", "/api/v1/devices", body).await
    };
    let message = add(&fresh_seed()).await.refused(Code::BadRequest);
    assert!(message.contains("revoke one"), "{message}");
    // Who is there may be renewed, and who goes makes room.
    assert_eq!(add(&devices[0].seed).await.status, StatusCode::OK);
    lab.revoke(By::Bearer(&token), &devices[1], true).await.ok();
    assert_eq!(add(&fresh_seed()).await.status, StatusCode::OK);
    add(&fresh_seed()).await.refused(Code::BadRequest);
}
