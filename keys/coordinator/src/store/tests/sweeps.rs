//! Sweeps take everything that is old, however much it is, a step at a time, and nothing that is needed.

use mytunnel_keys::feed::{Change, FeedKey};
use mytunnel_keys::id::{Serial, TenantId, TunnelName};
use mytunnel_keys::secret::Seed;
use mytunnel_keys::usage::Month;

use super::*;

const NOW: u64 = 1_800_000_000;
/// More than a step, and no multiple of it.
const MANY: u64 = 2_300;

/// A store with one relay.
async fn with_relay(opened: Opened) -> (Store, Serial) {
    let tenant = TenantId::from_entropy(&[7; 10]);
    opened.make_home(tenant, NOW).await.unwrap();
    let seed = Seed::from_bytes([5; 32]);
    let store = opened.into_store(FeedSigner {
        key: FeedKey::new(seed.clone()),
        cluster: "localhost".parse().unwrap(),
        sessions: crate::accounts::GateSessions::for_tests(),
    });
    let serial = Serial::from_bytes([6; 16]);
    let new = NewRelay { serial, subject: seed.public(), token: None, addrs: Vec::new(), life: 60 };
    store.enroll_relay(new, NOW).await.unwrap().unwrap();
    (store, serial)
}

async fn counted(store: &Store, sql: &'static str) -> u64 {
    store.engine.read(move |reading| reading.one(sql, params![], |row| row.get(0))).await.unwrap()
}

fn id(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

#[tokio::test]
async fn frames_and_what_months_leave_behind_go_however_many_they_are() {
    let (_places, stores) = each().await;
    for opened in stores {
        let (store, relay) = with_relay(opened).await;
        let (present, old) = (Month::of(NOW), Month::of(NOW).before().before().before());
        let filled = store.engine.write(move |writing| {
            for number in 0..MANY {
                let at = if number < 3 { NOW } else { 10 };
                let month = if number < 3 { present } else { old };
                let (ended, key) = (id(number), [1_u8; 16]);
                writing.change("INSERT INTO feed (epoch, at, frame) VALUES ($1, $2, $3)", params![number + 1, at, ended])?;
                writing.change(
                    "INSERT INTO meters (incarnation, relay, seq, seen_at, ended) VALUES ($1, $2, 1, $3, 1)",
                    params![ended, relay.as_bytes(), month.start()],
                )?;
                writing.change(
                    "INSERT INTO leases (serial, incarnation, held, until, charged) VALUES ($1, $2, 0, $3, 5)",
                    params![key, ended, month.start()],
                )?;
                writing.change("INSERT INTO spend (serial, month, spent) VALUES ($1, $2, 1)", params![ended, month.number()])?;
                writing.change(
                    "INSERT INTO totals (incarnation, serial, month, run, seq, bytes_in, bytes_out, requests, tunnel_seconds)
                     VALUES ($1, $2, $3, 1, 1, 1, 1, 1, 1)",
                    params![ended, key, month.number()],
                )?;
            }
            Ok::<_, StoreError>(())
        });
        filled.await.unwrap();
        store.forget_frames(100).await.unwrap();
        store.tidy_usage(NOW - 60, NOW - 60, NOW).await.unwrap();
        assert_eq!(counted(&store, "SELECT count(*) FROM feed").await, 3);
        assert_eq!(counted(&store, "SELECT count(*) FROM meters").await, 3);
        assert_eq!(counted(&store, "SELECT count(*) FROM leases").await, 3);
        assert_eq!(counted(&store, "SELECT count(*) FROM spend").await, 3);
        assert_eq!(counted(&store, "SELECT count(*) FROM totals").await, 3);
        store.close().await;
    }
}

#[tokio::test]
async fn names_that_were_given_up_are_kept_for_their_tenant_and_freed_however_many_they_are() {
    let (_places, stores) = each().await;
    for opened in stores {
        let (store, _) = with_relay(opened).await;
        let tried = store.engine.write(|writing| {
            let (home, other) = (writing.home()?, TenantId::from_entropy(&[8; 10]));
            let name = |number: u64| format!("n{number:05}").parse::<TunnelName>().unwrap();
            let kept = writing.give_up((0..MANY).map(name).collect(), &home, NOW + 60, NOW)?;
            assert!(
                kept.iter()
                    .all(|change| matches!(change, Change::NameKept { tenant, .. } if *tenant == home))
            );
            assert!(!writing.take_kept(&name(1), &other)?, "another tenant");
            assert!(writing.take_kept(&name(1), &home)?, "whose it was");
            assert!(writing.take_kept(&name(1), &other)?, "it is kept for nobody any more");
            let freed = writing.give_up(vec![name(1)], &home, NOW, NOW)?;
            assert_eq!(freed, [Change::NameFreed { name: name(1) }], "where nothing is to be kept");
            Ok::<_, StoreError>(())
        });
        tried.await.unwrap();
        store.free_kept_names(NOW + 59).await.unwrap();
        assert_eq!(counted(&store, "SELECT count(*) FROM kept_names").await, MANY - 1);
        store.free_kept_names(NOW + 60).await.unwrap();
        assert_eq!(counted(&store, "SELECT count(*) FROM kept_names").await, 0);
        store.close().await;
    }
}

#[tokio::test]
async fn unused_names_are_found_behind_any_number_of_used_ones() {
    let (_places, stores) = each().await;
    for opened in stores {
        let (store, _) = with_relay(opened).await;
        let filled = store.engine.write(|writing| {
            let home = writing.home()?;
            writing.add_home_project(&home, "personal".to_owned(), crate::audit::Party::System, NOW)?;
            for number in 0..1_200_u64 {
                // Of the last few nobody has heard for long.
                let at = if number < 1_190 { NOW } else { 10 };
                writing.change(
                    "INSERT INTO names (name, project, created_at) VALUES ($1, $2, $3)",
                    params![format!("n{number:05}"), home.home_project().as_str(), at],
                )?;
            }
            Ok::<_, StoreError>(())
        });
        filled.await.unwrap();
        let (mut after, mut found, mut pages) = (None::<TunnelName>, Vec::new(), 0);
        loop {
            let (names, next) = store.unused_names(after, NOW - 60, NOW).await.unwrap();
            found.extend(names);
            (after, pages) = (next, pages + 1);
            if after.is_none() {
                break;
            }
        }
        assert_eq!((found.len(), pages), (10, 3));
        store.free_names(found, NOW - 60, NOW).await.unwrap();
        assert_eq!(counted(&store, "SELECT count(*) FROM names").await, 1_190);
        store.close().await;
    }
}
