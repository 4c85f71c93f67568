//! What coordinators tell each other gets stuck in the database: whoever does not need it goes on.

use std::time::Duration;

use mytunnel_coordinator::ActError;

use super::*;

/// A revocation until it is answered, while its relays may take two seconds. Asked for by a session: proofs of keys are
/// counted where it is stuck.
async fn revoked(lab: &Lab, house: &House, child: &Key) -> Value {
    let begun = Instant::now();
    let answer = lab.revoke(By::Bearer(&house.token), child, false).await.ok();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    answer
}

fn applied_by(answer: &Value, relay: &Relay) -> bool {
    let id = json!(relay.id);
    let relays = answer["relays"].as_array().unwrap();
    relays.iter().find(|row| row["id"] == id).expect("it is named")["applied"].as_bool().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_waits_for_the_database_holds_up_no_other() {
    let Some(Pair { first, house, database, .. }) = &Pair::new().await else { return };
    let (mut follower, silent) = (first.relay().await, first.relay().await);
    follower.until(|accepted| matches!(accepted, Accepted::Heartbeat { .. })).await;
    let child = first.child(&house.master).await;
    let held = database.hold("UPDATE followers SET seen_at = seen_at");
    // It comes again, and stands in the line behind the rows that are held.
    let mut joining = std::pin::pin!(async {
        // It is told to come again after a while, for which a slow machine has the time.
        loop {
            match first.try_subscribe(silent.id, None).await {
                Err(ActError::Store(_)) => {}
                other => panic!("{:?}", other.map(|relay| relay.id)),
            }
        }
    });
    tokio::select! {
        biased;
        never = &mut joining => match never {},
        _ = follower.until(|accepted| matches!(accepted, Accepted::Heartbeat { .. })) => {}
    }
    let answered = async { tokio::join!(revoked(first, house, &child), follower.delta()).0 };
    let answer = tokio::select! {
        answer = answered => answer,
        never = &mut joining => match never {},
    };
    assert!(applied_by(&answer, &follower), "{answer}");
    assert!(!applied_by(&answer, &silent), "{answer}");
    drop(held);
    let joined = eventually(async || first.try_subscribe(silent.id, None).await.ok()).await;
    assert_eq!(joined.revoked.len(), 1, "what it missed is in its snapshot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_answered_in_time_though_nobody_hears_of_the_others() {
    let Some(Pair { first, second, house, database, .. }) = &Pair::new().await else { return };
    let (mut here, elsewhere) = (first.relay().await, second.relay().await);
    let child = first.child(&house.master).await;
    let held = database.hold("LOCK TABLE followers IN ACCESS EXCLUSIVE MODE");
    let (answer, _) = tokio::join!(revoked(first, house, &child), here.delta());
    assert!(applied_by(&answer, &here), "{answer}");
    assert!(!applied_by(&answer, &elsewhere), "{answer}");
    drop(held);
}
