//! What a restore brings back, whom it lets in, and what it leaves when its last step fails.

use mytunnel_keys::feed::Subscribe;

use super::*;
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_revokes_ends_relays_but_the_one_in_the_same_process() {
    for place in Place::each() {
        let lab = place.lab(START).await;
        let own = lab.relay().await;
        lab.advance(1);
        let other = lab.relay().await;
        back_up(place.store(), place.backup(), START).await.unwrap();
        lab.coordinator.shutdown().await;
        for relay in [None, Some(own.id)] {
            let how = Restore { replace: true, relay, ..REVOKE };
            let told = restore(&place.backup(), place.store(), how, START + 9).await.unwrap();
            let ended: Vec<_> = [own.id, other.id].into_iter().filter(|id| Some(*id) != relay).collect();
            assert_eq!((told.relays, told.relays_ended), (Vec::from_iter(relay), ended.clone()));
            let lab = place.lab(START + 10).await;
            for id in ended {
                assert!(lab.coordinator.renew_relay(id).await.is_err());
                assert!(lab.coordinator.enroll_relay(id, Vec::new()).await.is_err());
                let asked = Subscribe { nonce: [0; 16], addrs: Vec::new(), since: None };
                assert!(lab.coordinator.subscribe(id, asked).await.is_err(), "it learns nothing more");
            }
            if relay.is_some() {
                lab.coordinator.enroll_relay(own.id, Vec::new()).await.unwrap();
                lab.subscribe(own.id, own.reader.position()).await;
            }
            lab.relay().await;
            lab.coordinator.shutdown().await;
            fs::remove_dir_all(place.data()).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_revokes_lets_nobody_in_but_by_the_operators_hand() {
    for place in Place::each() {
        let lab = place.lab(START).await;
        lab.owner().await;
        back_up(place.store(), place.backup(), START).await.unwrap();
        // Somebody asked for it before, and has it at hand.
        let early = Coordinator::reset_token(&place.data(), EMAIL, &clock(START + 8)).unwrap();
        lab.coordinator.shutdown().await;
        let how = Restore { replace: true, ..REVOKE };
        let told = restore(&place.backup(), place.store(), how, START + 9).await.unwrap();
        let accounts: Vec<_> = told.accounts.iter().map(|one| (one.email.as_str(), one.owner)).collect();
        assert_eq!(accounts, [(EMAIL, true)]);

        let lab = place.lab(START + 9).await;
        for password in [PASSWORD, "!", ""] {
            let body = json!({"email": EMAIL, "password": password});
            let refused = lab.call(By::Nobody, "POST", "/api/v1/auth/login", body).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{password:?}");
        }
        let body = json!({"token": early.as_str(), "password": PASSWORD});
        let void = lab.call(By::Nobody, "POST", "/api/v1/auth/password/reset", body).await;
        assert_eq!(void.status, StatusCode::UNAUTHORIZED);
        assert!(
            lab.coordinator.setup_code().is_none(),
            "nor is it a new coordinator, whose first caller owns it"
        );
        place.reset_password(&lab).await;
        lab.owner_again().await;
        lab.coordinator.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_link_goes_to_an_account_that_a_restore_locked() {
    let place = Place::sqlite();
    let lab = place.lab(START).await;
    lab.owner().await;
    back_up(place.store(), place.backup(), START).await.unwrap();
    lab.coordinator.shutdown().await;
    restore(&place.backup(), place.store(), Restore { replace: true, ..REVOKE }, START + 9).await.unwrap();
    let inbox = place.dir.path().join("inbox");
    let script = format!("cat >> {}", inbox.display());
    let lab = Lab::open_at(START + 9, place.store(), |config| {
        config.mail_command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    });
    let lab = lab.await.unwrap();
    let forgot = async || {
        let asked = json!({"email": EMAIL});
        let answer = lab.call(By::Nobody, "POST", "/api/v1/auth/password/forgot", asked).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    };
    // One at a time: when the second is written down, the first is over.
    forgot().await;
    forgot().await;
    let noted = async || {
        let database = rusqlite::Connection::open(place.file("mytunnel.db")).unwrap();
        let query = "SELECT count(*) FROM audit WHERE act = 'password.ask' AND detail LIKE '%locked%'";
        database.query_row(query, [], |row| row.get::<_, u32>(0)).ok().filter(|count| *count == 2)
    };
    eventually(noted).await;
    assert!(!inbox.exists(), "whoever was removed since would come back by it");
    place.reset_password(&lab).await;
    forgot().await;
    eventually(async || inbox.exists().then_some(())).await;
    lab.coordinator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_gives_way_is_one_file_with_all_that_was_committed() {
    let place = Place::sqlite();
    let lab = place.lab(START).await;
    let house = lab.house().await;
    back_up(place.store(), place.backup(), START).await.unwrap();
    let late = lab.child(&house.master).await;
    // As a killed coordinator leaves it: the last commits are in the log only.
    let files = ["mytunnel.db", "mytunnel.db-wal"].map(|name| (name, fs::read(place.file(name)).unwrap()));
    lab.coordinator.shutdown().await;
    for (name, content) in files {
        fs::write(place.file(name), content).unwrap();
    }
    restore(&place.backup(), place.store(), Restore { replace: true, ..KEEP }, START + 9).await.unwrap();
    let aside = format!("mytunnel.db.replaced-{}", START + 9);
    let names = fs::read_dir(place.data()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("mytunnel.db"));
    names.sort();
    assert_eq!(names, ["mytunnel.db", &aside]);
    let old = rusqlite::Connection::open(place.file(&aside)).unwrap();
    let query = "SELECT count(*) FROM keys WHERE nonce = $1";
    let kept: u32 = old.query_row(query, [late.serial.nonce().to_string()], |row| row.get(0)).unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_at_its_last_step_keeps_the_keys_and_can_be_done_again() {
    let from = Place::sqlite();
    let lab = from.lab(START).await;
    let house = lab.house().await;
    back_up(from.store(), from.backup(), START).await.unwrap();
    lab.coordinator.shutdown().await;

    // A folder stands where the log of the old database has its index, and does not go.
    let to = Place::sqlite();
    fs::create_dir_all(to.file("mytunnel.db-shm")).unwrap();
    fs::write(to.file("mytunnel.db"), "damaged").unwrap();
    let how = Restore { replace: true, ..KEEP };
    let failed = restore(&from.backup(), to.store(), how, START + 1).await.unwrap_err();
    assert!(matches!(failed, BackupError::Unfinished(_)), "{failed:?}");
    for key in ["root.key", "issuer.key", "feed.key", "accounts.key"] {
        assert_eq!(to.file(key).exists(), from.file(key).exists(), "{key}");
    }
    assert!(to.file("root.key").exists() && failed.help().contains("--replace"));
    let aside = to.file(&format!("mytunnel.db.replaced-{}", START + 1));
    assert_eq!(fs::read(aside).unwrap(), b"damaged");
    fs::remove_dir(to.file("mytunnel.db-shm")).unwrap();
    restore(&from.backup(), to.store(), how, START + 2).await.unwrap();
    to.lab(START + 2).await.child(&house.master).await;
}
