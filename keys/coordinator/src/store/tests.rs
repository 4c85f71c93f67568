//! The engine under load and under fire, and the rules for SQL texts.

mod domains;
mod older;
mod plans;
mod sweeps;

use tokio::task::JoinSet;

use super::sql::params;
use super::testing::Database;
use super::*;

impl Store {
    /// Sets something of the connection that writes.
    pub(crate) async fn pragma(&self, sql: &'static str) -> Result<(), StoreError> {
        self.engine.write(move |writing| writing.first(sql, params![], |_| Ok(())).map(drop)).await
    }
}

/// What a store lies in; gone when it is dropped.
pub(super) type Places = (tempfile::TempDir, Option<Database>);

/// SQLite in a file and in memory.
fn both() -> (tempfile::TempDir, [Opened; 2]) {
    let place = tempfile::tempdir().unwrap();
    let dir = DataDir::lock(place.path()).unwrap();
    let file = Opened::file(&place.path().join("mytunnel.db"), dir, 0).unwrap();
    (place, [file, Opened::memory().unwrap()])
}

/// A database on a server, where there is one.
async fn on_server(database: &Database, place: &Path) -> Opened {
    let (url, place) = (database.url().parse().unwrap(), place.to_owned());
    let opening = move || Opened::server(&url, DataDir::lock(&place).unwrap(), 0).unwrap();
    tokio::task::spawn_blocking(opening).await.unwrap()
}

/// Every kind of store; what holds for one holds for the others.
pub(super) async fn each() -> (Places, Vec<Opened>) {
    let (place, stores) = both();
    let mut stores = Vec::from(stores);
    let database = Database::new();
    if let Some(database) = &database {
        stores.push(on_server(database, &place.path().join("postgres")).await);
    }
    ((place, database), stores)
}

async fn put(engine: &Engine, name: &str, value: Vec<u8>) -> Result<(), StoreError> {
    let name = name.to_owned();
    engine.write(move |writing| writing.set_meta(&name, &value)).await
}

async fn get(engine: &Engine, name: &str) -> Option<Vec<u8>> {
    let name = name.to_owned();
    engine.read(move |reading| reading.meta(&name)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_operation_that_fails_undoes_itself_and_nothing_else() {
    let (_places, stores) = each().await;
    for opened in stores {
        let engine = Arc::new(opened.engine);
        let mut tasks = JoinSet::new();
        for number in 0..300_u32 {
            let engine = engine.clone();
            tasks.spawn(async move {
                let name = number.to_string();
                let result: Result<(), StoreError> = engine
                    .write(move |writing| {
                        writing.set_meta(&name, &[1])?;
                        if number % 3 == 0 { Err(StoreError::Malformed("test")) } else { Ok(()) }
                    })
                    .await;
                assert_eq!(result.is_err(), number % 3 == 0);
            });
        }
        tasks.join_all().await;
        for number in 0..300_u32 {
            assert_eq!(get(&engine, &number.to_string()).await.is_some(), number % 3 != 0);
        }
    }
}

#[tokio::test]
async fn what_was_answered_can_be_read_at_once() {
    let (_places, stores) = each().await;
    for opened in stores {
        for number in 0..50_u8 {
            put(&opened.engine, "x", vec![number]).await.unwrap();
            assert_eq!(get(&opened.engine, "x").await, Some(vec![number]));
        }
    }
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let (_places, stores) = each().await;
    // In memory there is but one connection.
    for opened in stores.iter().filter(|opened| opened.dir().is_some()) {
        let refused: Result<(), StoreError> = opened
            .engine
            .read(|reading| reading.first("DELETE FROM meta RETURNING name", params![], |_| Ok(())).map(drop))
            .await;
        assert!(matches!(refused, Err(StoreError::ReadOnly)), "{refused:?}");
        // A server's session that cannot write is given up: the next may be another server's.
        assert_eq!(get(&opened.engine, "nothing").await, None);
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_heals() {
    let (_place, stores) = both();
    for opened in stores {
        let engine = &opened.engine;
        put(engine, "before", vec![1]).await.unwrap();
        let limit = |pages: u32| {
            engine.write(move |writing| {
                let sql = format!("PRAGMA max_page_count = {pages}");
                writing.one(&sql, params![], |_| Ok(()))
            })
        };
        limit(200).await.unwrap();
        let mut kept = 0;
        let failed = loop {
            match put(engine, &format!("big {kept}"), vec![7; 20_000]).await {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, StoreError::Full), "{failed}");
        assert!(kept > 0);
        assert_eq!(get(engine, "before").await, Some(vec![1]));
        for number in 0..kept {
            assert!(get(engine, &format!("big {number}")).await.is_some());
        }
        assert_eq!(get(engine, &format!("big {kept}")).await, None);
        limit(100_000).await.unwrap();
        put(engine, "after", vec![2]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_disk_fills_nobody_in_the_transaction_is_told_a_lie() {
    let (_place, [file, _]) = both();
    let engine = Arc::new(file.engine);
    let limited: Result<(), StoreError> =
        engine.write(|writing| writing.one("PRAGMA max_page_count = 220", params![], |_| Ok(()))).await;
    limited.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..200_u32 {
        let engine = engine.clone();
        tasks.spawn(async move {
            let name = format!("many {number}");
            (name.clone(), put(&engine, &name, vec![3; 5_000]).await.is_ok())
        });
    }
    let told = tasks.join_all().await;
    assert!(told.iter().any(|(_, kept)| *kept) && told.iter().any(|(_, kept)| !kept));
    for (name, kept) in told {
        assert_eq!(get(&engine, &name).await.is_some(), kept, "{name}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_changes_nothing_for_the_others() {
    let (_places, stores) = each().await;
    for opened in stores {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let mut holding = Box::pin(opened.engine.write(move |_| {
            released.recv().unwrap();
            Ok::<_, StoreError>(())
        }));
        assert!(futures::poll!(&mut holding).is_pending());
        {
            let mut gone = Box::pin(put(&opened.engine, "gone", vec![1]));
            assert!(futures::poll!(&mut gone).is_pending());
        }
        release.send(()).unwrap();
        holding.await.unwrap();
        put(&opened.engine, "there", vec![2]).await.unwrap();
        assert_eq!(get(&opened.engine, "gone").await, Some(vec![1]), "it was asked for, so it was done");
    }
}

#[tokio::test]
async fn a_closed_database_is_one_whole_file() {
    for _ in 0..20 {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("mytunnel.db");
        let opened = Opened::file(&path, DataDir::lock(place.path()).unwrap(), 0).unwrap();
        put(&opened.engine, "x", vec![7; 10_000]).await.unwrap();
        assert!(get(&opened.engine, "x").await.is_some());
        opened.engine.close();
        assert!(!place.path().join("mytunnel.db-wal").exists());
        assert!(matches!(put(&opened.engine, "y", vec![1]).await, Err(StoreError::Closed)));
    }
}

/// Every file with texts for both engines, by its name.
fn sources() -> Vec<(String, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") if !path.ends_with("tests.rs") => {
                    sources.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
                }
                // What is PostgreSQL's alone needs no order.
                None if path.is_dir() && !path.ends_with("tests") && !path.ends_with("postgres") => {
                    folders.push(path);
                }
                Some(_) | None => {}
            }
        }
    }
    sources
}

/// SQLite numbers `$n` by first appearance, PostgreSQL by `n`: the texts must not depend on which.
#[test]
fn sql_parameters_are_numbered_in_order_of_appearance() {
    let sources = sources().into_iter().map(|(_, source)| source);
    let mut texts = 0;
    for source in sources {
        for text in source.split('"').skip(1).step_by(2).filter(|text| text.contains('$')) {
            let mut highest = None;
            for after in text.split('$').skip(1) {
                let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
                let number: u32 = digits.parse().unwrap_or_else(|_| panic!("not a parameter: {text}"));
                // What continues another text begins with a later number.
                let highest = highest.get_or_insert(number - 1);
                assert!((1..=*highest + 1).contains(&number), "${number} comes out of order: {text}");
                *highest = number.max(*highest);
            }
            texts += 1;
        }
    }
    assert!(texts > 40, "only {texts} texts were found");
}
