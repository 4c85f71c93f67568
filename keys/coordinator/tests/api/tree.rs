//! Keys by family: roots, and the children of one.

use mytunnel_keys::error::Code;
use serde_json::{Value, json};

use crate::support::{By, Key, Lab, nonces};

async fn listed(lab: &Lab, by: By<'_>, query: &str) -> Value {
    lab.call(by, "GET", &format!("/api/v1/tokens?{query}"), Value::Null).await.ok()
}

fn in_order(listing: &Value) -> Vec<String> {
    let keys = listing["keys"].as_array().unwrap();
    keys.iter().map(|key| key["nonce"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn roots_come_without_the_children_that_others_come_with() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    let roots = listed(&lab, By::Bearer(&house.token), "roots=true").await;
    let expected = [&house.device, &house.master].map(|key| key.serial.nonce());
    assert_eq!(nonces(&roots), expected.into());
    let all = listed(&lab, By::Bearer(&house.token), "").await;
    assert!(nonces(&all).contains(&child.serial.nonce()));
    // A master key sees itself as the root, and a project has its master only.
    assert_eq!(
        in_order(&listed(&lab, By::Key(&house.master), "roots=true").await),
        [house.master.serial.nonce()]
    );
    let query = format!("roots=true&project={}", house.project);
    assert_eq!(
        in_order(&listed(&lab, By::Bearer(&house.token), &query).await),
        [house.master.serial.nonce()]
    );
}

#[tokio::test]
async fn children_come_page_by_page_the_newest_first() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        lab.advance(1);
        made.push(lab.child(&house.master).await.serial.nonce());
    }
    lab.mint(&house.device, json!({"project": house.project})).await;
    made.reverse();
    let mut seen = Vec::new();
    let mut query = format!("parent={}&limit=3", house.master.serial.nonce());
    loop {
        let page = listed(&lab, By::Bearer(&house.token), &query).await;
        seen.extend(in_order(&page));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("parent={}&limit=3&after={next}", house.master.serial.nonce());
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn the_children_of_others_are_as_if_they_were_not_there() {
    let lab = Lab::new().await;
    let house = lab.house().await;
    let (_, other) = lab.project(By::Key(&house.device), "other").await;
    lab.child(&other).await;
    let ask = async |by: By<'_>, key: &Key| {
        let path = format!("/api/v1/tokens?parent={}", key.serial.nonce());
        lab.call(by, "GET", &path, Value::Null).await
    };
    ask(By::Key(&house.master), &other).await.refused(Code::NotFound);
    ask(By::Key(&house.master), &house.master).await.ok();
    assert_eq!(ask(By::Bearer(&house.token), &other).await.ok()["keys"].as_array().map(Vec::len), Some(1));
    let none =
        lab.call(By::Bearer(&house.token), "GET", "/api/v1/tokens?parent=0011223344556677", json!(null));
    none.await.refused(Code::NotFound);
}
