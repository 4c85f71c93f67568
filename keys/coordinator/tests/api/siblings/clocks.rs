//! A coordinator whose clock is not the database server's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;

const BORNE: Duration = Duration::from_secs(60);

/// The server runs on this machine.
fn server_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn with_clock(database: &Database, place: &Path, now: u64) -> Result<Lab, OpenError> {
    Lab::open_at(now, on_server(database, place), |config| config.limits.clock_offset = BORNE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_a_wrong_clock_is_refused_and_leaves_nothing() {
    let Some(database) = Database::new() else { return };
    let place = tempfile::tempdir().unwrap();
    for now in [server_time() + 300, server_time() - 300] {
        let refused = with_clock(&database, place.path(), now).await.map(drop).unwrap_err();
        let OpenError::Clock { offset, .. } = refused else { panic!("{refused}") };
        assert!((240..=360).contains(&offset.abs()) && (offset > 0) == (now > server_time()), "{offset}");
        assert!(refused.to_string().contains("this machine's clock"), "{refused}");
        assert!(refused.help().contains("set-ntp"), "{}", refused.help());
    }
    assert!(!has_keys(place.path()));
    with_clock(&database, place.path(), server_time()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_goes_wrong_makes_a_coordinator_unready_until_it_is_right() {
    let Some(database) = Database::new() else { return };
    let place = tempfile::tempdir().unwrap();
    let lab = with_clock(&database, place.path(), server_time()).await.unwrap();
    let token = lab.owner().await;
    assert!(is_ready(&lab).await);
    // Set back, so that what was signed at the right time is of the future to it, and of no consequence here.
    lab.clock.store(server_time() - 300, std::sync::atomic::Ordering::Relaxed);
    let told = eventually(async || {
        let answer = lab.call(By::Nobody, "GET", "/readyz", Value::Null).await;
        (answer.status == StatusCode::SERVICE_UNAVAILABLE).then(|| answer.refused(Code::Internal))
    })
    .await;
    assert!(told.contains("s behind its database's"), "{told}");
    let metrics = lab.call(By::Bearer(&token), "GET", "/metrics", Value::Null).await.text();
    let line = metrics.lines().find(|line| line.starts_with("mytunnel_clock_offset_seconds ")).unwrap();
    let offset: i64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((-360..=-240).contains(&offset), "{line}");
    lab.clock.store(server_time(), std::sync::atomic::Ordering::Relaxed);
    eventually(async || is_ready(&lab).await.then_some(())).await;
}
