//! Backups: of either database, while it is used, into either; and what a restore takes back.

mod lost;
mod restored;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use mytunnel_coordinator::{
    BackupError, BackupReport, Clock, Coordinator, OpenError, Restore, Restored, RestoredKeys, StoreConfig,
};
use mytunnel_keys::certificate;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::{Accepted, FeedReader};
use serde_json::{Value, json};

use crate::support::{
    By, DAY, Database, EMAIL, House, Key, Lab, PASSWORD, START, fresh_seed, mint_body, on_server,
};

const KEEP: Restore = Restore { keys: RestoredKeys::Stand, replace: false, relay: None };
const REVOKE: Restore = Restore { keys: RestoredKeys::Revoked, ..KEEP };

/// Somewhere a store can lie.
struct Place {
    dir: tempfile::TempDir,
    database: Option<Database>,
}

impl Place {
    fn sqlite() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), database: None }
    }

    /// One on each engine that there is.
    fn each() -> Vec<Self> {
        let on_server = Database::new().map(|database| Self { database: Some(database), ..Self::sqlite() });
        on_server.into_iter().chain([Self::sqlite()]).collect()
    }

    fn store(&self) -> StoreConfig {
        let file = || StoreConfig::Sqlite(self.file("mytunnel.db"));
        self.database.as_ref().map_or_else(file, |database| on_server(database, &self.data()))
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    async fn lab(&self, now: u64) -> Lab {
        Lab::open_at(now, self.store(), |_| {}).await.unwrap()
    }

    fn backup(&self) -> PathBuf {
        self.dir.path().join("one.backup")
    }

    /// What the operator does at the machine.
    async fn reset_password(&self, lab: &Lab) {
        let token = Coordinator::reset_token(&self.data(), EMAIL, &clock(lab.now())).unwrap();
        let body = json!({"token": token.as_str(), "password": PASSWORD});
        let reset = lab.call(By::Nobody, "POST", "/api/v1/auth/password/reset", body).await;
        assert_eq!(reset.status, StatusCode::NO_CONTENT);
    }
}

fn clock(now: u64) -> Clock {
    Clock::from_fn(move || now)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn back_up(store: StoreConfig, file: PathBuf, now: u64) -> Result<BackupReport, BackupError> {
    blocking(move || Coordinator::backup(&store, &file, &clock(now))).await
}

async fn restore(file: &Path, store: StoreConfig, how: Restore, now: u64) -> Result<Restored, BackupError> {
    let file = file.to_owned();
    blocking(move || Coordinator::restore(&file, &store, how, &clock(now))).await
}

/// A child with what a relay knows of it.
async fn certified(lab: &Lab, master: &Key) -> (Key, certificate::Claims) {
    let (key, minted) = lab.mint(master, Value::Null).await;
    let trust = lab.coordinator.trust();
    let claims = certificate::verify(&minted.certificate, &trust, &key.seed.public(), lab.now()).unwrap();
    (key, claims.into_inner())
}

async fn listed(lab: &Lab, house: &House, what: &str) -> Value {
    lab.call(By::Key(&house.device), "GET", what, Value::Null).await.ok()
}

async fn refused(lab: &Lab, by: &Key) -> Code {
    let answer = lab.call(By::Key(by), "GET", "/api/v1/tokens", Value::Null).await;
    let code = answer.json()["error"]["code"].as_str().map(str::to_ascii_uppercase);
    [Code::KeyRevoked, Code::InvalidKey]
        .into_iter()
        .find(|known| Some(known.name()) == code.as_deref())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_database_in_use_is_restored_into_either_engine() {
    for from in Place::each() {
        let lab = from.lab(START).await;
        let house = lab.house().await;
        let mut relay = lab.relay().await;
        let child = lab.child(&house.master).await;
        let gone = lab.child(&house.master).await;
        tokio::join!(lab.revoke(By::Key(&house.device), &gone, false), relay.delta()).0.ok();
        relay.up(&house.project, "web", &child).await;
        relay.delta().await;
        let body = json!({"monthlyBudgetUsdCents": 500});
        let budget = format!("/api/v1/tokens/{}/budget", child.serial.nonce());
        tokio::join!(lab.call(By::Bearer(&house.token), "PUT", &budget, body), relay.delta()).0.ok();
        let before = listed(&lab, &house, "/api/v1/tokens?all=true").await;
        let tunnels = listed(&lab, &house, "/api/v1/tunnels").await;

        let report = back_up(from.store(), from.backup(), START + 5).await.unwrap();
        assert!(report.has_root && report.rows > 10 && report.audit_entries > 4, "{report:?}");
        assert_eq!(fs::metadata(from.backup()).unwrap().permissions().mode() & 0o777, 0o600);
        let beside = fs::read_dir(from.dir.path()).unwrap().count();
        assert_eq!(beside, 2, "the folder of the keys and the backup, nothing half made");
        let (store, mut streamed) = (from.store(), Vec::new());
        let again = blocking(move || {
            let report = Coordinator::backup_to(&store, &mut streamed, &clock(START + 5)).unwrap();
            (report, streamed)
        });
        let (report_again, streamed) = again.await;
        assert_eq!(report_again, report);
        assert_eq!(streamed, fs::read(from.backup()).unwrap(), "the same rows make the same file");
        // What happens afterwards is not in it.
        lab.child(&house.master).await;
        let (seen, trust) = (relay.reader.position(), relay.reader.trust().clone());
        lab.coordinator.shutdown().await;

        for to in Place::each() {
            let told = restore(&from.backup(), to.store(), KEEP, START + 9).await.unwrap();
            assert_eq!(told.backup, report);
            assert_eq!((told.relays.as_slice(), told.relays_ended.len()), ([relay.id].as_slice(), 0));
            let lab = to.lab(START + 10).await;
            let after = listed(&lab, &house, "/api/v1/tokens?all=true").await;
            assert_eq!(crate::support::nonces(&after), crate::support::nonces(&before));
            let rows = |tunnels: &Value| {
                let all = tunnels["tunnels"].as_array().unwrap().iter();
                all.map(|row| (row["id"].clone(), row["name"].clone())).collect::<Vec<_>>()
            };
            assert_eq!(rows(&listed(&lab, &house, "/api/v1/tunnels").await), rows(&tunnels));
            assert_eq!(lab.show(By::Key(&house.device), &child).await["budget_cents"], 500);
            let verdict = listed(&lab, &house, "/api/v1/audit/verify").await;
            assert_eq!(verdict["ok"], json!(true), "{verdict}");
            assert_eq!(refused(&lab, &gone).await, Code::KeyRevoked, "revoked before the backup");

            // A relay that has seen more follows by itself, into a state that is whole.
            let mut frames = lab.frames(relay.id, seen).await;
            let mut reader = FeedReader::new(frames.nonce, trust.clone(), seen);
            assert!(matches!(frames.next(&mut reader).await, Ok(Accepted::Trust { newer: true })));
            assert!(matches!(frames.next(&mut reader).await, Ok(Accepted::Snapshot { .. })));
            assert!(reader.position().unwrap().era > seen.unwrap().era);
            assert!(lab.subscribe(relay.id, None).await.names.contains_key(&"web".parse().unwrap()));

            // Who was signed in is not; a password signs in.
            let stale = lab.call(By::Bearer(&house.token), "GET", "/api/v1/projects", Value::Null).await;
            assert_eq!(stale.status, StatusCode::UNAUTHORIZED);
            lab.owner_again().await;
            lab.child(&house.master).await;
            lab.coordinator.shutdown().await;
            // The place is a coordinator's like any other.
            to.lab(START + 11).await.coordinator.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_revokes_ends_also_keys_that_the_backup_does_not_know() {
    for place in Place::each() {
        let lab = place.lab(START).await;
        let house = lab.house().await;
        let (known, known_claims) = certified(&lab, &house.master).await;
        back_up(place.store(), place.backup(), START).await.unwrap();
        lab.advance(100);
        let (later, later_claims) = certified(&lab, &house.master).await;
        let (_, master) = lab.project(By::Key(&house.device), "later").await;
        let (unknown, unknown_claims) = certified(&lab, &master).await;
        let (device, given) = lab.device(&lab.owner_again().await).await;
        let trust = lab.coordinator.trust();
        let device_claims = certificate::verify(&given.certificate, &trust, &device.seed.public(), lab.now());
        let relay = lab.relay().await;
        lab.coordinator.shutdown().await;

        let now = START + 200;
        let replace = Restore { replace: true, ..REVOKE };
        restore(&place.backup(), place.store(), replace, now).await.unwrap();
        let lab = place.lab(now).await;
        for key in [&house.device, &house.master, &known] {
            assert_eq!(refused(&lab, key).await, Code::KeyRevoked);
        }
        for key in [&later, &master, &unknown, &device] {
            assert_eq!(refused(&lab, key).await, Code::InvalidKey);
        }
        // The relay joined after the backup: it is as unknown as they are, and joins again.
        lab.coordinator.enroll_relay(relay.id, Vec::new()).await.unwrap();
        let relay = lab.subscribe(relay.id, relay.reader.position()).await;
        let device_claims = device_claims.unwrap().into_inner();
        for claims in [&known_claims, &later_claims, &unknown_claims, &device_claims] {
            assert_eq!(relay.revoked.is_revoked(claims), Some(Code::KeyRevoked));
        }
        place.reset_password(&lab).await;
        let token = lab.owner_again().await;
        let (device, _) = lab.device(&token).await;
        let (_, master) = lab.project(By::Key(&device), "anew").await;
        let (_, claims) = certified(&lab, &master).await;
        assert_eq!(relay.revoked.is_revoked(&claims), None);
        // Until the longest of those certificates is over, every relay is told.
        for (days, told) in [(29, true), (31, false)] {
            lab.clock.store(now + days * DAY, std::sync::atomic::Ordering::Relaxed);
            lab.coordinator.enroll_relay(relay.id, Vec::new()).await.unwrap();
            let relay = lab.subscribe(relay.id, None).await;
            assert_eq!(relay.revoked.is_revoked(&unknown_claims).is_some(), told, "{days}");
        }
        lab.coordinator.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_keeps_lets_what_was_revoked_since_stand_again() {
    let place = Place::sqlite();
    let lab = place.lab(START).await;
    let house = lab.house().await;
    let (key, claims) = certified(&lab, &house.master).await;
    back_up(place.store(), place.backup(), START).await.unwrap();
    let mut relay = lab.relay().await;
    tokio::join!(lab.revoke(By::Key(&house.device), &key, false), relay.delta()).0.ok();
    assert!(relay.revoked.is_revoked(&claims).is_some());
    lab.coordinator.shutdown().await;

    restore(&place.backup(), place.store(), Restore { replace: true, ..KEEP }, START + 9).await.unwrap();
    let lab = place.lab(START + 9).await;
    lab.call(By::Key(&key), "GET", "/api/v1/tokens", Value::Null).await.ok();
    lab.coordinator.enroll_relay(relay.id, Vec::new()).await.unwrap();
    let mut relay = lab.subscribe(relay.id, relay.reader.position()).await;
    assert_eq!(relay.revoked.is_revoked(&claims), None);
    tokio::join!(lab.revoke(By::Key(&house.device), &key, false), relay.delta()).0.ok();
    assert!(relay.revoked.is_revoked(&claims).is_some(), "and it can be revoked anew");
    lab.coordinator.shutdown().await;
    let aside = fs::read_dir(place.data()).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("mytunnel.db.replaced-")
    });
    assert_eq!(aside.count(), 1, "what was there is put aside");
}

/// Everything below a folder, to see that nothing changed.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("coordinator.lock"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_whole_or_not_empty_or_in_use_is_refused_and_nothing_changes() {
    let from = Place::sqlite();
    let lab = from.lab(START).await;
    let house = lab.house().await;
    for _ in 0..20 {
        lab.child(&house.master).await;
    }
    back_up(from.store(), from.backup(), START).await.unwrap();
    assert!(matches!(back_up(from.store(), from.backup(), START).await, Err(BackupError::Exists(_))));
    let in_use = restore(&from.backup(), from.store(), Restore { replace: true, ..KEEP }, START).await;
    assert!(matches!(in_use, Err(BackupError::Open(OpenError::Locked { .. }))), "{in_use:?}");
    lab.coordinator.shutdown().await;

    let to = Place::sqlite();
    let bad = to.dir.path().join("bad.backup");
    let whole = fs::read(from.backup()).unwrap();
    let edit = |sql: &str| {
        fs::write(&bad, &whole).unwrap();
        rusqlite::Connection::open(&bad).unwrap().execute_batch(sql).unwrap();
    };
    let told = async || {
        let error = restore(&bad, to.store(), REVOKE, START + 1).await.unwrap_err();
        assert!(contents(&to.data()).is_empty(), "{error}");
        assert!(!error.help().is_empty());
        error.to_string()
    };
    for length in [0, 100, 5_000, whole.len() / 2, whole.len() - 4096] {
        fs::write(&bad, &whole[..length]).unwrap();
        let told = told().await;
        assert!(told.contains("is not a whole backup"), "{length}: {told}");
    }
    for sql in [
        "UPDATE keys SET not_after = not_after + 1 WHERE kind = 'child'",
        "UPDATE accounts SET password = 'x'",
        "DELETE FROM keys WHERE rowid IN (SELECT max(rowid) FROM keys)",
        "UPDATE backup SET made_at = made_at - 1",
        "UPDATE backup_keys SET key = zeroblob(32)",
        "CREATE TABLE more (a INTEGER PRIMARY KEY)",
    ] {
        edit(sql);
        let told = told().await;
        assert!(told.contains("its rows are not those that were written"), "{sql}: {told}");
    }
    edit("ALTER TABLE names ADD COLUMN \"a) VALUES (1); DROP TABLE keys; --\" TEXT");
    assert!(told().await.contains("it cannot be read to its end"), "no statement is made of such a name");
    edit("PRAGMA user_version = 99");
    assert!(told().await.contains("version 99"));
    fs::write(&bad, &whole).unwrap();
    let early = restore(&bad, to.store(), KEEP, START - 1).await;
    assert!(matches!(early, Err(BackupError::Clock { .. })), "{early:?}");

    // The keys of another coordinator, and a database.
    to.lab(START).await.coordinator.shutdown().await;
    let there = contents(&to.data());
    let refused = restore(&bad, to.store(), Restore { replace: true, ..KEEP }, START).await;
    assert!(matches!(refused, Err(BackupError::OtherKeys(_))), "{refused:?}");
    let refused = restore(&from.backup(), from.store(), KEEP, START).await;
    assert!(matches!(refused, Err(BackupError::NotEmpty(_))), "{refused:?}");
    assert_eq!(contents(&to.data()), there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_was_moved_away_comes_back_for_the_restore() {
    let from = Place::sqlite();
    let lab = from.lab(START).await;
    let house = lab.house().await;
    let root = fs::read(from.file("root.key")).unwrap();
    fs::remove_file(from.file("root.key")).unwrap();
    let report = back_up(from.store(), from.backup(), START).await.unwrap();
    assert!(!report.has_root);
    lab.coordinator.shutdown().await;

    let to = Place::sqlite();
    let refused = restore(&from.backup(), to.store(), KEEP, START).await.unwrap_err();
    assert!(refused.help().contains("root.key"), "{refused}");
    assert!(contents(&to.data()).is_empty(), "no key stays behind");
    fs::write(to.file("root.key"), root).unwrap();
    fs::set_permissions(to.file("root.key"), fs::Permissions::from_mode(0o600)).unwrap();
    restore(&from.backup(), to.store(), KEEP, START).await.unwrap();
    to.lab(START).await.child(&house.master).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_database_in_use_is_refused_and_one_that_gives_way_is_exchanged_whole() {
    let Some(database) = Database::new() else { return };
    let place = Place { database: Some(database), ..Place::sqlite() };
    let lab = place.lab(START).await;
    let house = lab.house().await;
    back_up(place.store(), place.backup(), START).await.unwrap();
    // Another folder with the same keys, as on another machine.
    let other = tempfile::tempdir().unwrap();
    let store = on_server(place.database.as_ref().unwrap(), other.path());
    let replace = Restore { replace: true, ..KEEP };
    let in_use = restore(&place.backup(), store.clone(), replace, START).await;
    assert!(matches!(in_use, Err(BackupError::Open(OpenError::InUse { .. }))), "{in_use:?}");
    assert!(contents(other.path()).is_empty());
    let late = lab.child(&house.master).await;
    lab.coordinator.shutdown().await;
    let refused = restore(&place.backup(), store.clone(), KEEP, START).await;
    assert!(matches!(refused, Err(BackupError::NotEmpty(_))), "{refused:?}");
    restore(&place.backup(), store.clone(), replace, START).await.unwrap();
    let lab = Lab::open_at(START, store, |_| {}).await.unwrap();
    assert_eq!(self::refused(&lab, &late).await, Code::InvalidKey);
    lab.child(&house.master).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_beside_a_storm_of_mints_is_one_state_and_stops_nobody() {
    for place in Place::each() {
        let lab = place.lab(START).await;
        let house = lab.house().await;
        let storm = async {
            for _ in 0..200 {
                let body = mint_body(&fresh_seed().public(), Value::Null);
                lab.call(By::Key(&house.master), "POST", "/api/v1/mint", body).await.ok();
            }
        };
        let backups = async {
            let mut rows = Vec::new();
            for number in 0..5 {
                let file = place.dir.path().join(format!("{number}.backup"));
                // It checks the audit log of what it wrote against the head.
                rows.push(back_up(place.store(), file, START).await.unwrap().rows);
            }
            rows
        };
        let ((), rows) = tokio::join!(storm, backups);
        assert!(rows.is_sorted());
        lab.coordinator.shutdown().await;
    }
}
