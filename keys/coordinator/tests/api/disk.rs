//! A disk that is really full, and one that is really read-only: a small file system of the test's own. Who may not
//! mount one is told so; the same rules are tested on the database alone elsewhere.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use axum::http::StatusCode;
use mytunnel_coordinator::{BackupError, Clock, Coordinator, OpenError, Restore, RestoredKeys, StoreConfig};
use mytunnel_keys::error::Code;
use serde_json::{Value, json};

use crate::support::{By, House, Key, Lab, START, fresh_seed, mint_body, nonces};

/// A file system of two megabytes; gone when it is dropped.
struct Disk {
    dir: tempfile::TempDir,
}

fn run(program: &str, line: &[&str], at: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(line).arg(at).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Disk {
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        if run("mount", &["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"], dir.path()) {
            return Some(Self { dir });
        }
        eprintln!("SKIPPED: this user may not mount a file system; run as root to see a disk fill up");
        None
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("mytunnel.db")
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }

    /// Takes every free byte.
    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let full = loop {
            if let Err(error) = ballast.write_all(&[7; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    fn remount(&self, how: &str) {
        assert!(run("mount", &["-o", &format!("remount,{how}")], self.dir.path()), "remount {how}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["--lazy"], self.dir.path());
    }
}

/// Mints until that is refused; answers the children that were acknowledged.
async fn mint_until_refused(lab: &Lab, house: &House) -> (Vec<Key>, String) {
    let mut minted = Vec::new();
    loop {
        let seed = fresh_seed();
        let body = mint_body(&seed.public(), Value::Null);
        let answer = lab.call(By::Key(&house.master), "POST", "/api/v1/mint", body).await;
        if answer.status != StatusCode::OK {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            return (minted, answer.refused(Code::Internal));
        }
        let serial = answer.json()["serial"].as_str().unwrap().parse().unwrap();
        minted.push(Key { seed, serial });
        assert!(minted.len() < 10_000, "the disk never fills");
    }
}

async fn children(lab: &Lab, house: &House) -> Vec<String> {
    let listed = lab.call(By::Key(&house.master), "GET", "/api/v1/tokens", Value::Null).await.ok();
    let master = house.master.serial.nonce();
    let mut children: Vec<_> = nonces(&listed).into_iter().filter(|nonce| *nonce != master).collect();
    children.sort();
    children
}

fn sorted(keys: &[Key]) -> Vec<String> {
    let mut nonces: Vec<_> = keys.iter().map(|key| key.serial.nonce()).collect();
    nonces.sort();
    nonces
}

#[tokio::test]
async fn a_disk_that_fills_refuses_and_forgets_nothing_and_a_little_room_heals_it() {
    let Some(disk) = Disk::mount() else { return };
    let lab = Lab::sqlite(&disk.db()).await.unwrap();
    let house = lab.house().await;
    let before = lab.child(&house.master).await;
    disk.fill();

    let (mut kept, message) = mint_until_refused(&lab, &house).await;
    assert!(message.contains("nothing was changed: the server's disk is full"), "{message}");
    kept.push(before.clone());
    assert_eq!(children(&lab, &house).await, sorted(&kept), "reading goes on");
    let refused = lab.revoke(By::Key(&house.master), &before, false).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(lab.show(By::Key(&house.master), &before).await["revoked_at"].is_null());

    fs::remove_file(disk.ballast()).unwrap();
    lab.revoke(By::Key(&house.master), &before, false).await.ok();
    kept.push(lab.child(&house.master).await);
    let verdict = lab.call(By::Key(&house.device), "GET", "/api/v1/audit/verify", Value::Null).await.ok();
    assert_eq!(verdict["ok"], json!(true), "{verdict}");
    lab.coordinator.shutdown().await;

    let lab = Lab::sqlite(&disk.db()).await.unwrap();
    assert_eq!(children(&lab, &house).await, sorted(&kept));
    assert!(!lab.show(By::Key(&house.master), &before).await["revoked_at"].is_null());
    lab.coordinator.shutdown().await;
}

#[tokio::test]
async fn a_read_only_disk_is_named_at_the_start_and_nothing_on_it_is_touched() {
    let Some(disk) = Disk::mount() else { return };
    let lab = Lab::sqlite(&disk.db()).await.unwrap();
    let house = lab.house().await;
    let child = lab.child(&house.master).await;
    lab.coordinator.shutdown().await;
    let bytes = fs::read(disk.db()).unwrap();

    disk.remount("ro");
    let Err(error) = Lab::sqlite(&disk.db()).await else { panic!("it started") };
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
    let told = format!("{error} {}", error.help());
    assert!(told.contains(&*disk.dir.path().to_string_lossy()) && told.contains("read-only"), "{told}");
    assert_eq!(fs::read(disk.db()).unwrap(), bytes);

    disk.remount("rw");
    let lab = Lab::sqlite(&disk.db()).await.unwrap();
    assert_eq!(children(&lab, &house).await, sorted(&[child]));
    lab.coordinator.shutdown().await;
}

#[tokio::test]
async fn a_backup_or_a_restore_that_does_not_fit_says_so_and_leaves_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let place = tempfile::tempdir().unwrap();
    let store = StoreConfig::Sqlite(place.path().join("mytunnel.db"));
    let lab = Lab::open(store.clone(), |_| {}).await.unwrap();
    let house = lab.house().await;
    for _ in 0..300 {
        lab.child(&house.master).await;
    }
    let clock = Clock::from_fn(|| START);
    let whole = place.path().join("whole.backup");
    Coordinator::backup(&store, &whole, &clock).unwrap();
    lab.coordinator.shutdown().await;
    assert!(fs::metadata(&whole).unwrap().len() > 200_000);
    let mut ballast = File::create(disk.ballast()).unwrap();
    ballast.write_all(&vec![7; 1_900_000]).unwrap();

    let out = disk.dir.path().join("out.backup");
    let error = Coordinator::backup(&store, &out, &clock).unwrap_err();
    assert!(matches!(&error, BackupError::Open(OpenError::Full { path }) if *path == out), "{error:?}");
    let how = Restore { keys: RestoredKeys::Stand, replace: false, relay: None };
    let error = Coordinator::restore(&whole, &StoreConfig::Sqlite(disk.db()), how, &clock).unwrap_err();
    assert!(matches!(&error, BackupError::Open(OpenError::Full { .. })), "{error:?}");
    let left = fs::read_dir(disk.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["ballast", "coordinator.lock"]);
}
