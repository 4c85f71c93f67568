//! Devices of people: how many, and at what cost.

use axum::http::StatusCode;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Change;
use mytunnel_keys::usage::Standing;
use serde_json::{Value, json};

use crate::people::join;
use crate::support::{By, Key, Lab, fresh_seed};

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
    let (free, _) = lab.device(&browser.access).await;
    assert_eq!(lab.show(owner, &free).await["budget_cents"], Value::Null);
    set_budget(&lab, &house.token, &first, json!(500)).await;
    let (second, _) = lab.device(&browser.access).await;
    assert_eq!(lab.show(owner, &second).await["budget_cents"], 500);
    // Nor is it to throw the limited one away, or to wait for a narrower one to be forgotten.
    set_budget(&lab, &house.token, &second, json!(20)).await;
    lab.revoke(By::Bearer(&browser.access), &second, true).await.ok();
    lab.revoke(By::Key(&first), &first, true).await.ok();
    let mut relay = lab.relay().await;
    let (third, _) = lab.device(&browser.access).await;
    assert_eq!(lab.show(owner, &third).await["budget_cents"], 20);
    assert_eq!(relay.delta().await, [Change::Budget { serial: third.serial, standing: Standing::Limited }]);
    // A child of it has no more.
    let body = crate::support::mint_body(
        &fresh_seed().public(),
        json!({"project": house.project, "budget_cents": 21}),
    );
    lab.call(By::Key(&third), "POST", "/api/v1/mint", body).await.refused(Code::ScopeDenied);
    // Who is frozen stays so.
    set_budget(&lab, &house.token, &third, json!(0)).await;
    let (fourth, _) = lab.device(&browser.access).await;
    assert_eq!(lab.show(owner, &fourth).await["budget_cents"], 0);
    // Owners set budgets; theirs follow them nowhere.
    set_budget(&lab, &house.token, &house.device, json!(0)).await;
    let (own, _) = lab.device(&house.token).await;
    assert_eq!(lab.show(owner, &own).await["budget_cents"], Value::Null);
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
