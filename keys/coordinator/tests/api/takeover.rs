//! A PostgreSQL database that goes from one coordinator to the next.

use std::fs;
use std::path::Path;

use mytunnel_coordinator::{OpenError, StoreConfig};
use mytunnel_keys::error::Code;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{By, Database, Lab, PATIENCE, fresh_seed, on_server};

fn copy_keys(from: &Path, to: &Path) {
    for name in ["root.key", "issuer.key", "feed.key", "accounts.key"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

async fn taken_over(database: &Database, store: StoreConfig) -> Lab {
    loop {
        // The first may be quicker and have it again.
        database.cut_holder();
        match Lab::open(store.clone(), |_| {}).await {
            Ok(lab) => return lab,
            Err(error) => assert!(matches!(error, OpenError::InUse { .. }), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_database_cuts_its_relays_off_unasked_and_writes_no_more() {
    let Some(database) = Database::new() else { return };
    let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = Lab::open(on_server(&database, places[0].path()), |_| {}).await.unwrap();
    let house = first.house().await;
    let mut relay = first.relay().await;
    copy_keys(places[0].path(), places[1].path());
    let store = on_server(&database, places[1].path());
    let refused = Lab::open(store.clone(), |_| {}).await.map(drop);
    assert!(matches!(refused, Err(OpenError::InUse { .. })));

    let second = taken_over(&database, store).await;
    let ended = async { while relay.link.frames.recv().await.is_some() {} };
    timeout(PATIENCE, ended).await.expect("heartbeats of a coordinator that has lost its database");
    let body = json!({"name": "late", "master": fresh_seed().public()});
    first.call(By::Key(&house.device), "POST", "/api/v1/projects", body).await.refused(Code::Internal);
    let listed = second.call(By::Key(&house.device), "GET", "/api/v1/projects", Value::Null).await.ok();
    assert!(!listed.to_string().contains("late"), "{listed}");
    second.child(&house.master).await;
}
