//! Mints that race a cascade.

use std::sync::Arc;

use mytunnel_keys::certificate;
use mytunnel_keys::feed::Accepted;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{By, Key, Lab, fresh_seed, mint_body};

const ROUNDS: usize = 10;
const MINTERS: usize = 4;

/// Mints until it is refused; answers what was minted, with the certificates.
async fn mint_until_refused(lab: Arc<Lab>, master: Key) -> Vec<(Key, Vec<u8>)> {
    let mut minted = Vec::new();
    loop {
        let seed = fresh_seed();
        let body = mint_body(&seed.public(), Value::Null);
        let answer = lab.call(By::Key(&master), "POST", "/api/v1/mint", body).await;
        if !answer.status.is_success() {
            return minted;
        }
        let answer: mytunnel_keys::api::MintAnswer = answer.read();
        minted.push((Key { seed, serial: answer.serial }, answer.certificate));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_child_survives_a_cascade_however_it_raced() {
    let place = tempfile::tempdir().unwrap();
    let lab = Arc::new(Lab::at(&place.path().join("mytunnel.db")).await.unwrap());
    let token = lab.owner().await;
    let (device, _) = lab.device(&token).await;
    let mut relay = lab.relay().await;
    let mut total = 0;
    for round in 0..ROUNDS {
        let (_, master) = lab.project(By::Key(&device), &format!("round {round}")).await;
        let mut minters = JoinSet::new();
        for _ in 0..MINTERS {
            minters.spawn(mint_until_refused(lab.clone(), master.clone()));
        }
        // Somewhere in the middle of it, another place every time.
        for _ in 0..round {
            lab.child(&master).await;
        }
        let (answer, _) = tokio::join!(
            lab.revoke(By::Key(&device), &master, true),
            relay.until(|accepted| matches!(accepted, Accepted::Delta { .. }))
        );
        let answer = answer.ok();
        let minted: Vec<_> = minters.join_all().await.into_iter().flatten().collect();
        assert_eq!(answer["revoked_children"], minted.len() + round, "each was counted exactly once");
        for (key, certificate) in &minted {
            let trust = lab.coordinator.trust();
            let claims = certificate::verify(certificate, &trust, &key.seed.public(), lab.now()).unwrap();
            assert!(relay.revoked.is_revoked(&claims).is_some());
            assert!(lab.show(By::Key(&device), key).await["revoked_at"].is_u64());
        }
        total += minted.len();
    }
    assert!(total > ROUNDS, "{total} mints are no race");
}
