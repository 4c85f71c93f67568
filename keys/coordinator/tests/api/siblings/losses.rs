//! The database is lost for a while, or goes back, or takes no writes.

use super::*;

/// Ends every connection again and again, while both mint: what was acknowledged is there, and they heal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_lose_nothing_that_was_acknowledged() {
    let Some(pair) = Pair::new().await else { return };
    let minting = async |lab: &Lab, key: &Key| {
        let mut minted = HashSet::new();
        while minted.len() < 100 {
            let body = mint_body(&fresh_seed().public(), Value::Null);
            let answer = lab.call(By::Key(key), "POST", "/api/v1/mint", body).await;
            match answer.status {
                StatusCode::OK => {
                    minted.insert(answer.json()["serial"].as_str().unwrap()[..16].to_owned());
                    if minted.len() % 50 == 25 {
                        pair.database.cut();
                    }
                }
                StatusCode::SERVICE_UNAVAILABLE => {}
                other => panic!("{other}"),
            }
        }
        minted
    };
    let master = &pair.house.master;
    let (one, two) = tokio::join!(minting(&pair.first, master), minting(&pair.second, master));
    let mut there = HashSet::new();
    let mut query = String::new();
    loop {
        let page = eventually(async || {
            let path = format!("/api/v1/tokens{query}");
            let answer = pair.first.call(By::Key(master), "GET", &path, Value::Null).await;
            answer.status.is_success().then(|| answer.json())
        })
        .await;
        there.extend(nonces(&page));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?after={next}");
    }
    let lost: Vec<_> = one.union(&two).filter(|child| !there.contains(*child)).collect();
    assert!(lost.is_empty(), "minted and lost: {lost:?}");
    let verdict = eventually(async || {
        let by = By::Bearer(&pair.house.token);
        let answer = pair.second.call(by, "GET", "/api/v1/audit/verify", Value::Null).await;
        answer.status.is_success().then(|| answer.json())
    })
    .await;
    assert_eq!(verdict["ok"], true);
}

/// Whoever listens is cut off, so that the change is not announced to anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_not_announced_arrives_all_the_same() {
    let Some(Pair { first, second, house, database, .. }) = &Pair::new().await else { return };
    let mut relay = second.relay().await;
    let child = first.child(&house.master).await;
    database.deafen();
    first.revoke(By::Key(&house.device), &child, false).await.ok();
    timeout(PATIENCE, relay.until(|accepted| matches!(accepted, Accepted::Delta { .. }))).await.unwrap();
    assert_eq!(relay.revoked.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_nothing_is_said_to_have_not_changed() {
    let Some(Pair { first, house, database, .. }) = &Pair::new().await else { return };
    let mut relay = first.relay().await;
    relay.until(|accepted| matches!(accepted, Accepted::Heartbeat { .. })).await;
    assert!(is_ready(first).await);
    database.close(true);
    eventually(async || (!is_ready(first).await).then_some(())).await;
    // What had been signed before is on its way; then the feed ends, so that the relay looks for another coordinator.
    let signed = timeout(PATIENCE, drained(&mut relay)).await.expect("a relay is sent elsewhere");
    assert!(signed < 5, "{signed} heartbeats without the database");
    database.close(false);
    eventually(async || is_ready(first).await.then_some(())).await;
    let mut again = eventually(async || {
        let asked = mytunnel_keys::feed::Subscribe { nonce: [7; 16], addrs: Vec::new(), since: None };
        first.coordinator.subscribe(relay.id, asked).await.ok()
    })
    .await;
    timeout(PATIENCE, again.frames.recv()).await.unwrap().expect("the feed goes on");
    first.child(&house.master).await;
}

/// As after a restore, or where another server took the place of one without its last commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_knows_less_than_before_is_not_vouched_for() {
    let Some(Pair { first, house, database, .. }) = &Pair::new().await else { return };
    let mut relay = first.relay().await;
    let child = first.child(&house.master).await;
    let (answer, _) = tokio::join!(first.revoke(By::Key(&house.device), &child, false), relay.delta());
    answer.ok();
    database.change("UPDATE head SET epoch = epoch - 1");
    let (id, since) = (relay.id, relay.reader.position());
    let signed = timeout(PATIENCE, drained(&mut relay)).await.expect("a relay is sent elsewhere");
    assert!(signed < 5, "{signed} heartbeats for a database that went back");
    assert!(first.try_subscribe(id, since).await.is_err());
    database.change("UPDATE head SET epoch = epoch + 1");
    eventually(async || first.try_subscribe(id, since).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_writes_is_as_good_as_none() {
    let Some(Pair { first, house, database, .. }) = &Pair::new().await else { return };
    database.freeze(true);
    eventually(async || (!is_ready(first).await).then_some(())).await;
    let body = mint_body(&fresh_seed().public(), Value::Null);
    let refused = first.call(By::Key(&house.master), "POST", "/api/v1/mint", body).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    database.freeze(false);
    eventually(async || is_ready(first).await.then_some(())).await;
    eventually(async || {
        let body = mint_body(&fresh_seed().public(), Value::Null);
        let answer = first.call(By::Key(&house.master), "POST", "/api/v1/mint", body).await;
        answer.status.is_success().then_some(())
    })
    .await;
}

async fn drained(relay: &mut Relay) -> usize {
    let mut heartbeats = 0;
    while let Some(accepted) = relay.step().await {
        heartbeats += usize::from(matches!(accepted, Accepted::Heartbeat { .. }));
    }
    heartbeats
}
