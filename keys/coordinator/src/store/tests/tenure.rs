//! One coordinator at a time has a database on a server.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use tokio::task::spawn_blocking;

use super::*;

const CHILD: &str = "MYTUNNEL_TEST_HOLDER";

/// Opens it as a coordinator with a folder of its own does.
async fn open(url: &str) -> Result<Opened, OpenError> {
    let url = url.parse::<PostgresUrl>().unwrap().with_password("hunter2");
    let opening = move || {
        let place = tempfile::tempdir().unwrap();
        Opened::server(&url, DataDir::lock(place.path()).unwrap(), 0)
    };
    spawn_blocking(opening).await.unwrap()
}

async fn open_once_free(url: &str) -> Opened {
    loop {
        match open(url).await {
            Ok(opened) => return opened,
            Err(error) => assert!(matches!(error, OpenError::InUse { .. }), "{error}"),
        }
    }
}

async fn close(opened: &Arc<Opened>) {
    let opened = opened.clone();
    spawn_blocking(move || opened.engine.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_coordinator_is_refused_until_the_first_has_closed() {
    let Some(database) = Database::new() else { return };
    let first = Arc::new(open(&database.url()).await.unwrap());
    let Err(error) = open(&database.url()).await else { panic!("two have it") };
    let OpenError::InUse { server } = &error else { panic!("{error}") };
    assert!(database.url().contains(server.rsplit_once('/').unwrap().1), "{server}");
    let told = format!("{error} {error:?} {}", error.help());
    assert!(told.contains("another coordinator") && !told.contains("hunter2"), "{told}");
    put(&first.engine, "a", vec![1]).await.unwrap();
    close(&first).await;
    let second = open(&database.url()).await.unwrap();
    assert_eq!(get(&second.engine, "a").await, Some(vec![1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_was_killed_has_nothing() {
    let Some(database) = Database::new() else { return };
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "store::tests::tenure::holds_it_until_killed", "--ignored", "--nocapture"])
        .env(CHILD, database.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("held")), "it did not start");
    assert!(matches!(open(&database.url()).await, Err(OpenError::InUse { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
    let second = open(&database.url()).await.unwrap();
    put(&second.engine, "a", vec![1]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "another test runs it, in a process of its own"]
async fn holds_it_until_killed() {
    let _held = open(&env::var(CHILD).unwrap()).await.unwrap();
    io::Write::write_all(&mut io::stdout(), b"held\n").unwrap();
    io::stdin().read_line(&mut String::new()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_its_session_takes_the_database_again() {
    let Some(database) = Database::new() else { return };
    let only = open(&database.url()).await.unwrap();
    database.cut_holder();
    put(&only.engine, "a", vec![1]).await.unwrap();
    assert!(matches!(open(&database.url()).await, Err(OpenError::InUse { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_only_the_one_that_took_the_database_writes() {
    for second_goes in [false, true] {
        let Some(database) = Database::new() else { return };
        let first = open(&database.url()).await.unwrap();
        put(&first.engine, "a", vec![1]).await.unwrap();
        let url = database.url();
        let cutting = async {
            while !database.is_awaited() {
                tokio::task::yield_now().await;
            }
            database.cut_holder();
        };
        let (second, ()) = tokio::join!(open_once_free(&url), cutting);
        let second = Arc::new(second);
        put(&second.engine, "a", vec![2]).await.unwrap();
        if second_goes {
            close(&second).await;
        }
        let mut head = first.engine.head();
        head.mark_unchanged();
        assert!(matches!(put(&first.engine, "a", vec![1]).await, Err(StoreError::Taken)));
        // Whoever sends the feed stops, and nothing is tried again.
        assert!(head.changed().await.is_err());
        assert!(matches!(put(&first.engine, "a", vec![1]).await, Err(StoreError::Closed)));
        assert_eq!(get(&first.engine, "a").await, Some(vec![2]));
    }
}
