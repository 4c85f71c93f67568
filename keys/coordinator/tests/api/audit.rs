//! The audit log: what is in it, what is not, and whether it was touched.

use mytunnel_keys::error::Code;
use serde_json::{Value, json};

use crate::support::{By, EMAIL, Key, Lab, PASSWORD, eventually, fresh_seed, mint_body};

async fn entries(lab: &Lab, by: By<'_>, query: &str) -> Vec<Value> {
    let answer = lab.call(by, "GET", &format!("/api/v1/audit{query}"), Value::Null).await.ok();
    answer["entries"].as_array().unwrap().clone()
}

fn acts(entries: &[Value]) -> Vec<&str> {
    entries.iter().rev().map(|entry| entry["act"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_act_and_refusal_is_written_down_in_its_order() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let relay = lab.relay().await;
    relay.up(&house.project, "web", &child).await;
    eventually(async || {
        let by = By::Key(&house.device);
        (entries(&lab, by, "").await[0]["act"] == "tunnel.up").then_some(())
    })
    .await;
    let body = mint_body(&fresh_seed().public(), Value::Null);
    lab.call(By::Key(&child), "POST", "/api/v1/mint", body).await.refused(Code::ScopeDenied);
    lab.revoke(By::Key(&child), &house.master, true).await.refused(Code::NotFound);
    lab.revoke(By::Key(&child), &child, false).await.ok();
    lab.call(By::Key(&child), "GET", "/api/v1/tokens", Value::Null).await.refused(Code::KeyRevoked);
    let login = json!({"email": EMAIL, "password": "wrong wrong"});
    lab.call(By::Nobody, "POST", "/api/v1/auth/login", login).await.refused(Code::InvalidKey);
    let path = format!("/api/v1/projects/{}", house.project);
    lab.call(By::Key(&house.device), "DELETE", &path, Value::Null).await.ok();
    let all = entries(&lab, By::Key(&house.device), "").await;
    let expected = [
        "owner.setup",
        "project.create",
        "login",
        "device.add",
        "project.create",
        "key.mint",
        "relay.join",
        "tunnel.up",
        "mint.refused",
        "revoke.refused",
        "key.revoke",
        "request.refused",
        "login.refused",
        "project.delete",
    ];
    assert_eq!(acts(&all), expected);
    let minted = &all[all.len() - 6];
    assert_eq!(minted["actor"], format!("master:{}", house.master.serial.nonce()));
    assert_eq!(minted["subject"], format!("child:{}", child.serial.nonce()));
    assert_eq!(minted["project"], house.project.to_string());
    let numbers: Vec<_> = all.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| *a == b + 1), "{numbers:?}");
    assert_eq!(entries(&lab, By::Bearer(&house.token), "").await, all);
}

#[tokio::test]
async fn it_can_be_narrowed_and_read_in_pages() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (other, other_master) = lab.project(By::Key(&house.device), "other").await;
    let child = lab.child(&house.master).await;
    lab.advance(100);
    lab.child(&other_master).await;
    lab.revoke(By::Key(&child), &child, false).await.ok();
    let by = By::Key(&house.device);
    let of = |key: &Key| format!("?key={}", key.serial.nonce());
    assert_eq!(acts(&entries(&lab, by, &of(&child)).await), ["key.mint", "key.revoke"]);
    assert_eq!(acts(&entries(&lab, by, &of(&other_master)).await), ["key.mint"]);
    assert_eq!(acts(&entries(&lab, by, &format!("?project={other}")).await), ["project.create", "key.mint"]);
    let since = format!("?since={}", lab.now());
    assert_eq!(acts(&entries(&lab, by, &since).await), ["key.mint", "key.revoke"]);
    let until = format!("?until={}&limit=2", lab.now() - 1);
    assert_eq!(acts(&entries(&lab, by, &until).await), ["project.create", "key.mint"]);
    let all = entries(&lab, by, "").await;
    let first = entries(&lab, by, "?limit=3").await;
    let rest = entries(&lab, by, &format!("?before={}", first[2]["seq"])).await;
    assert_eq!([first, rest].concat(), all);
    for key in [&house.master, &child, &other_master] {
        let answer = lab.call(By::Key(key), "GET", "/api/v1/audit", Value::Null).await;
        assert!(!answer.status.is_success());
    }
}

#[tokio::test]
async fn no_secret_is_in_it_nor_anywhere_else_in_the_database() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let lab = Lab::sqlite(&path).await.unwrap();
    let code = lab.coordinator.setup_code().unwrap().replace('-', "");
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    // A password typed into the field of the address must not end in the log either.
    let slip = json!({"email": "hunter2@slipped", "password": PASSWORD});
    lab.call(By::Nobody, "POST", "/api/v1/auth/login", slip).await.refused(Code::InvalidKey);
    let made = lab.call(By::Key(&house.device), "POST", "/api/v1/relays/join-tokens", Value::Null).await.ok();
    let join = made["token"].as_str().unwrap().to_owned();
    let join_secret =
        *mytunnel_keys::token::Token::parse(&join).unwrap().into_relay().unwrap().secret.expose();
    lab.coordinator.shutdown().await;
    let bytes = std::fs::read(&path).unwrap();
    let token = house.token.as_bytes().to_vec();
    let secrets = [
        ("code", code.into_bytes()),
        ("password", PASSWORD.as_bytes().to_vec()),
        ("slip", b"hunter2".to_vec()),
        ("access token", token),
        ("join secret", join_secret.to_vec()),
        ("join token", join.as_bytes()[11..40].to_vec()),
        ("device seed", house.device.seed.expose().to_vec()),
        ("master seed", house.master.seed.expose().to_vec()),
        ("child seed", child.seed.expose().to_vec()),
    ];
    for (name, secret) in secrets {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "the {name} is in the database");
    }
    assert!(bytes.windows(EMAIL.len()).any(|window| window == EMAIL.as_bytes()), "the search works");
}

#[tokio::test]
async fn refusals_cannot_fill_the_log() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    for _ in 0..100 {
        let body = mint_body(&fresh_seed().public(), Value::Null);
        lab.call(By::Key(&child), "POST", "/api/v1/mint", body).await.refused(Code::ScopeDenied);
    }
    let refused = entries(&lab, By::Key(&house.device), "?limit=1000").await;
    let count = acts(&refused).iter().filter(|act| **act == "mint.refused").count();
    assert_eq!(count, 20);
}

#[tokio::test]
async fn an_edit_behind_the_coordinators_back_is_found() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mytunnel.db");
    let lab = Lab::sqlite(&path).await.unwrap();
    let house = lab.house().await;
    for _ in 0..5 {
        lab.child(&house.master).await;
    }
    let verify = async |lab: &Lab| {
        lab.call(By::Key(&house.device), "GET", "/api/v1/audit/verify", Value::Null).await.ok()
    };
    let verdict = verify(&lab).await;
    assert_eq!(
        (&verdict["ok"], &verdict["entries"], &verdict["broken_at"]),
        (&json!(true), &json!(10), &json!(null))
    );
    lab.call(By::Key(&house.master), "GET", "/api/v1/audit/verify", Value::Null)
        .await
        .refused(Code::MasterCannotAct);
    lab.coordinator.shutdown().await;
    let edit = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql);
    assert!(edit("UPDATE audit SET actor = 'account:x' WHERE seq = 6").is_err(), "rows are append-only");
    assert!(edit("DELETE FROM audit WHERE seq = 9").is_err());
    edit("DROP TRIGGER audit_is_append_only_u; UPDATE audit SET actor = 'account:x' WHERE seq = 6").unwrap();
    let lab = Lab::sqlite(&path).await.unwrap();
    let verdict = verify(&lab).await;
    assert_eq!(
        (&verdict["ok"], &verdict["entries"], &verdict["broken_at"]),
        (&json!(false), &json!(5), &json!(6))
    );
    lab.coordinator.shutdown().await;
    // Rows cut off at the end leave a head that nothing leads to.
    edit(
        "UPDATE audit SET actor = (SELECT actor FROM audit WHERE seq = 7) WHERE seq = 6;
          DROP TRIGGER audit_is_append_only_d; DELETE FROM audit WHERE seq >= 9",
    )
    .unwrap();
    let lab = Lab::sqlite(&path).await.unwrap();
    assert_eq!(verify(&lab).await["broken_at"], 9);
}

#[tokio::test]
async fn a_log_that_was_rewritten_whole_is_found_by_what_relays_were_told() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let heads = async || {
        let rows = entries(&lab, By::Key(&house.device), "?limit=1000").await;
        let hashes = rows.iter().map(|row| row["hash"].as_str().unwrap().to_owned());
        hashes.collect::<Vec<_>>()
    };
    let told = heads().await;
    lab.child(&house.master).await;
    let verify = async |heads: &[String]| {
        lab.call(By::Key(&house.device), "POST", "/api/v1/audit/verify", json!({"heads": heads})).await.ok()
    };
    assert_eq!(verify(&told).await["ok"], true);
    // What a relay was told of a log that is another one by now.
    let other = "ab".repeat(32);
    let verdict = verify(&[told[0].clone(), other.clone()]).await;
    assert_eq!((&verdict["ok"], &verdict["missing"]), (&json!(false), &json!([other])));
    for bad in ["", "ab", &"AB".repeat(32), &"zz".repeat(32)] {
        let body = json!({"heads": [bad]});
        let answer = lab.call(By::Key(&house.device), "POST", "/api/v1/audit/verify", body).await;
        assert!(answer.refused(Code::BadRequest).contains("heads"));
    }
}
