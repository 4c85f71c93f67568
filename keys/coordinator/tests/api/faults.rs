//! Starts that cannot be: each says which file and what to do, and destroys nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use mytunnel_coordinator::{OpenError, StoreConfig};
use mytunnel_keys::feed::{Accepted, FeedError, FeedReader};
use serde_json::Value;

use crate::support::{By, Lab};

struct Place {
    _dir: tempfile::TempDir,
    db: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("data/mytunnel.db");
        Self { _dir: dir, db }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.db.with_file_name(name)
    }

    /// Starts once and stops, so that everything is there.
    async fn filled() -> Self {
        let place = Self::new();
        let lab = Lab::sqlite(&place.db).await.unwrap();
        lab.owner().await;
        lab.coordinator.shutdown().await;
        place
    }

    async fn fails(&self) -> OpenError {
        let Err(error) = Lab::sqlite(&self.db).await else { panic!("it started") };
        assert!(!error.help().is_empty());
        error
    }
}

fn names(error: &OpenError, path: &Path) -> bool {
    error.to_string().contains(&path.display().to_string())
}

#[tokio::test]
async fn everything_in_the_data_directory_is_private() {
    let place = Place::filled().await;
    let dir = place.db.parent().unwrap();
    assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        found.push(entry.file_name().into_string().unwrap());
    }
    found.sort();
    assert_eq!(
        found,
        ["accounts.key", "coordinator.lock", "feed.key", "issuer.key", "mytunnel.db", "root.key"]
    );
}

#[tokio::test]
async fn a_second_process_is_told_who_is_there() {
    let place = Place::new();
    let lab = Lab::sqlite(&place.db).await.unwrap();
    let error = place.fails().await;
    assert!(matches!(error, OpenError::Locked { holder: Some(_), .. }), "{error}");
    assert!(names(&error, place.db.parent().unwrap()));
    lab.coordinator.shutdown().await;
    Lab::sqlite(&place.db).await.unwrap();
}

#[tokio::test]
async fn after_a_shutdown_nothing_is_taken_and_the_directory_is_free_though_handles_remain() {
    let place = Place::new();
    let old = Lab::sqlite(&place.db).await.unwrap();
    let token = old.owner().await;
    old.coordinator.shutdown().await;
    let new = Lab::sqlite(&place.db).await.unwrap();
    let answer = old.call(By::Bearer(&token), "GET", "/api/v1/projects", Value::Null).await;
    answer.refused(mytunnel_keys::error::Code::Internal);
    assert_eq!(old.call(By::Nobody, "GET", "/readyz", Value::Null).await.status, 503);
    new.call(By::Bearer(&token), "GET", "/api/v1/projects", Value::Null).await.ok();
    old.coordinator.shutdown().await;
    assert_eq!(new.call(By::Nobody, "GET", "/readyz", Value::Null).await.status, 200);
}

#[tokio::test]
async fn dropping_a_coordinator_gives_its_directory_back() {
    let place = Place::new();
    drop(Lab::sqlite(&place.db).await.unwrap());
    crate::support::eventually(async || Lab::sqlite(&place.db).await.ok()).await;
}

#[tokio::test]
async fn a_damaged_database_is_reported_and_left_alone() {
    let place = Place::filled().await;
    let whole = fs::read(&place.db).unwrap();
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes[..16].fill(0),
        |bytes| {
            let at = bytes.len() / 2 / 4096 * 4096;
            bytes[at..at + 4096].fill(0xa5);
        },
        |bytes| bytes.truncate(bytes.len() / 3),
    ];
    for damage in damages {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&place.db, &bytes).unwrap();
        let error = place.fails().await;
        assert!(matches!(error, OpenError::Damaged { .. }) && names(&error, &place.db), "{error}");
        assert_eq!(fs::read(&place.db).unwrap(), bytes, "the damaged file is evidence");
    }
    // The remedy works.
    fs::write(&place.db, &whole).unwrap();
    Lab::sqlite(&place.db).await.unwrap();
}

#[tokio::test]
async fn a_lost_database_is_not_replaced_by_an_empty_one() {
    let place = Place::filled().await;
    for empty in [true, false] {
        if empty {
            fs::write(&place.db, b"").unwrap();
        } else {
            fs::remove_file(&place.db).unwrap();
        }
        let error = place.fails().await;
        assert!(matches!(error, OpenError::DatabaseMissing { .. }) && names(&error, &place.db), "{error}");
        assert_eq!(fs::metadata(&place.db).map_or(0, |meta| meta.len()), 0);
    }
    // The remedy for one who wants to start afresh.
    for name in ["root.key", "issuer.key", "feed.key"] {
        fs::remove_file(place.file(name)).unwrap();
    }
    Lab::sqlite(&place.db).await.unwrap();
}

#[tokio::test]
async fn a_missing_key_is_reported_and_not_made_anew() {
    let place = Place::filled().await;
    for name in ["issuer.key", "feed.key"] {
        let key = fs::read(place.file(name)).unwrap();
        fs::remove_file(place.file(name)).unwrap();
        let error = place.fails().await;
        assert!(matches!(error, OpenError::KeyMissing { .. }) && names(&error, &place.file(name)), "{error}");
        assert!(!place.file(name).exists());
        fs::write(place.file(name), key).unwrap();
        fs::set_permissions(place.file(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    Lab::sqlite(&place.db).await.unwrap();
}

#[tokio::test]
async fn the_root_key_may_be_kept_elsewhere() {
    let place = Place::filled().await;
    fs::remove_file(place.file("root.key")).unwrap();
    let lab = Lab::sqlite(&place.db).await.unwrap();
    lab.relay().await;
    assert!(!place.file("root.key").exists());
}

#[tokio::test]
async fn another_databases_keys_are_refused() {
    let (one, two) = (Place::filled().await, Place::filled().await);
    fs::copy(two.file("issuer.key"), one.file("issuer.key")).unwrap();
    assert!(matches!(one.fails().await, OpenError::Trust { .. }));
    fs::set_permissions(one.file("feed.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = one.fails().await;
    assert!(matches!(error, OpenError::KeyExposed { .. }) && names(&error, &one.file("feed.key")), "{error}");
}

#[tokio::test]
async fn a_start_that_was_cut_short_is_finished_by_the_next() {
    for kept in [&["root.key"][..], &["root.key", "issuer.key"], &["root.key", "issuer.key", "feed.key"]] {
        let place = Place::new();
        drop(Lab::sqlite(&place.db).await.unwrap());
        let lab = crate::support::eventually(async || Lab::sqlite(&place.db).await.ok()).await;
        lab.coordinator.shutdown().await;
        // As if the process had died before the bundle was kept.
        let sql = "DELETE FROM meta WHERE name IN ('root', 'trust')";
        rusqlite::Connection::open(&place.db).unwrap().execute_batch(sql).unwrap();
        for name in ["root.key", "issuer.key", "feed.key"] {
            if !kept.contains(&name) {
                fs::remove_file(place.file(name)).unwrap();
            }
        }
        let lab = Lab::sqlite(&place.db).await.unwrap();
        lab.relay().await;
    }
}

#[tokio::test]
async fn another_domain_or_a_later_version_is_refused() {
    let place = Place::filled().await;
    let store = StoreConfig::Sqlite(place.db.clone());
    let moved = Lab::open(store, |config| config.cluster = "tun.example".parse().unwrap()).await;
    let Err(error) = moved else { panic!("it started") };
    assert!(matches!(error, OpenError::Trust { .. }) && error.help().contains("domain"), "{error}");
    rusqlite::Connection::open(&place.db).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = place.fails().await;
    assert!(matches!(error, OpenError::Newer { found: 99, .. }) && names(&error, &place.db), "{error}");
}

#[tokio::test]
async fn a_file_in_the_way_is_named() {
    let place = Place::new();
    fs::write(place.db.parent().unwrap(), "x").unwrap();
    let error = place.fails().await;
    assert!(names(&error, place.db.parent().unwrap()), "{error}");
}

#[tokio::test]
async fn a_restored_backup_is_refused_by_relays_until_a_new_era_begins() {
    let place = Place::new();
    let lab = Lab::sqlite(&place.db).await.unwrap();
    let house = lab.house().await;
    lab.coordinator.shutdown().await;
    let backup = fs::read(&place.db).unwrap();
    let lab = Lab::sqlite(&place.db).await.unwrap();
    let child = lab.child(&house.master).await;
    let mut relay = lab.relay().await;
    tokio::join!(lab.revoke(By::Key(&child), &child, false), relay.delta()).0.ok();
    let (id, seen) = (relay.id, relay.reader.position());
    let trust = relay.reader.trust().clone();
    lab.coordinator.shutdown().await;
    fs::write(&place.db, backup).unwrap();

    let lab = Lab::sqlite(&place.db).await.unwrap();
    lab.coordinator.enroll_relay(id, Vec::new()).await.unwrap();
    let mut frames = lab.frames(id, seen).await;
    let mut reader = FeedReader::new(frames.nonce, trust.clone(), seen);
    assert!(matches!(frames.next(&mut reader).await, Ok(Accepted::Trust { newer: false })));
    assert!(matches!(frames.next(&mut reader).await, Err(FeedError::Rollback { .. })));
    lab.coordinator.shutdown().await;

    let root = fs::read(place.file("root.key")).unwrap();
    fs::remove_file(place.file("root.key")).unwrap();
    let anew = async || {
        let store = StoreConfig::Sqlite(place.db.clone());
        Lab::open(store, |config| config.new_era = true).await
    };
    assert!(matches!(anew().await.map(drop), Err(OpenError::Trust { .. })), "only the root can say so");
    fs::write(place.file("root.key"), root).unwrap();
    fs::set_permissions(place.file("root.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let lab = anew().await.unwrap();
    let mut frames = lab.frames(id, seen).await;
    let mut reader = FeedReader::new(frames.nonce, trust, seen);
    assert!(matches!(frames.next(&mut reader).await, Ok(Accepted::Trust { newer: true })));
    assert!(matches!(frames.next(&mut reader).await, Ok(Accepted::Snapshot { .. })));
    assert!(reader.position().unwrap().era > seen.unwrap().era);
    // What was signed before still counts.
    lab.child(&house.master).await;
    lab.coordinator.shutdown().await;
    // Without the wish the next start goes on in the same era.
    let lab = Lab::sqlite(&place.db).await.unwrap();
    assert_eq!(lab.subscribe(id, reader.position()).await.reader.position(), reader.position());
}

#[tokio::test]
async fn after_a_restart_everything_is_as_it_was() {
    let place = Place::new();
    let lab = Lab::sqlite(&place.db).await.unwrap();
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    lab.revoke(By::Key(&child), &child, false).await.ok();
    let root = *lab.coordinator.root();
    let listed = lab.call(By::Key(&house.device), "GET", "/api/v1/tokens", Value::Null).await.ok();
    lab.coordinator.shutdown().await;
    let lab = Lab::sqlite(&place.db).await.unwrap();
    assert_eq!(*lab.coordinator.root(), root);
    assert_eq!(lab.call(By::Key(&house.device), "GET", "/api/v1/tokens", Value::Null).await.ok(), listed);
    lab.call(By::Bearer(&house.token), "GET", "/api/v1/projects", Value::Null).await.ok();
    lab.child(&house.master).await;
}
