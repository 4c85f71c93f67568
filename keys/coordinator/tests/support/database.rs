//! PostgreSQL databases to try things on, where `MYTUNNEL_TEST_POSTGRES` names a server.
#![allow(dead_code, reason = "each of the two that include this uses its part")]

use std::env;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

const SERVER: &str = "MYTUNNEL_TEST_POSTGRES";

static NUMBER: AtomicU32 = AtomicU32::new(0);
static SAID: Once = Once::new();

/// A database of the test's own; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Database {
    server: String,
    name: String,
    /// Whether it goes with this value.
    temporary: bool,
}

impl Database {
    /// An empty database; none, and a word about it, where there is no server.
    pub(crate) fn new() -> Option<Self> {
        let Ok(server) = env::var(SERVER) else {
            SAID.call_once(|| {
                let told = "\nNOT TESTED: the PostgreSQL half; run `.ci/with-postgres cargo test -p mytunnel-coordinator`\n";
                // Not by a macro, whose output tests hold back.
                let _ = std::io::stderr().write_all(told.as_bytes());
            });
            return None;
        };
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        execute(&server, format!("CREATE DATABASE {name}")).unwrap();
        Some(Self { server, name, temporary: true })
    }

    /// The database that stands for a file of that path, for every process that asks for it. It goes with the server.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let server = env::var(SERVER).ok()?;
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let name = format!("test_of_{:x}", hasher.finish());
        // Usually it is there.
        let made = execute(&server, format!("CREATE DATABASE {name}"));
        made.or_else(
            |error| if error.code() == Some(&SqlState::DUPLICATE_DATABASE) { Ok(()) } else { Err(error) },
        )
        .unwrap();
        Some(Self { server, name, temporary: false })
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        let (address, options) = self.server.split_once('?').unwrap_or((&self.server, ""));
        let (host, _) = address.rsplit_once('/').unwrap();
        format!("{host}/{}?{options}", self.name)
    }

    /// Ends every connection to it, as a server does that restarts.
    pub(crate) fn cut(&self) {
        let Self { server, name, .. } = self;
        execute(
            server,
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
        )
        .unwrap();
    }
}

impl Database {
    /// Ends the connections of those that listen for news.
    pub(crate) fn deafen(&self) {
        let Self { server, name, .. } = self;
        let listeners = format!("FROM pg_stat_activity WHERE datname = '{name}' AND query LIKE 'LISTEN%'");
        execute(server, format!("SELECT pg_terminate_backend(pid) {listeners}")).unwrap();
    }

    /// Changes something in it behind everybody's back.
    pub(crate) fn change(&self, sql: &str) {
        execute(&self.url(), sql.to_owned()).unwrap();
    }

    /// A transaction that did this, and does not end before the answer is dropped.
    pub(crate) fn hold(&self, sql: &str) -> Held {
        let (url, sql) = (self.url(), sql.to_owned());
        let ((done, is_done), (end, ended)) = (std::sync::mpsc::channel(), oneshot::channel::<()>());
        let holding = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                let held = async {
                    client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
                    done.send(()).unwrap();
                    // It is dropped, not sent.
                    let _ = ended.await;
                };
                tokio::select! {
                    () = held => {}
                    ended = connection => ended.unwrap(),
                }
            });
        };
        let thread = Some(std::thread::spawn(holding));
        is_done.recv().unwrap();
        Held { end: Some(end), thread }
    }

    /// Takes no writes of anybody who connects from now on, as the server that another has replaced; or takes them again.
    pub(crate) fn freeze(&self, frozen: bool) {
        let Self { server, name, .. } = self;
        let change = if frozen {
            "SET default_transaction_read_only = on"
        } else {
            "RESET default_transaction_read_only"
        };
        execute(server, format!("ALTER DATABASE {name} {change}")).unwrap();
        self.cut();
    }

    /// Lets nobody in and everybody out, as if the server were away; or lets them in again.
    pub(crate) fn close(&self, closed: bool) {
        let Self { server, name, .. } = self;
        execute(server, format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {}", !closed)).unwrap();
        if closed {
            self.cut();
        }
    }
}

/// An open transaction.
#[derive(Debug)]
pub(crate) struct Held {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.end.take());
        // Whatever it panicked with was printed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.temporary {
            // The server may be gone by now, and everything with it.
            let _ = execute(&self.server, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

/// On a thread of its own: the caller may be a task.
fn execute(server: &str, sql: String) -> Result<(), tokio_postgres::Error> {
    let server = server.to_owned();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (client, connection) = tokio_postgres::connect(&server, NoTls).await?;
            tokio::select! {
                done = client.batch_execute(&sql) => done,
                ended = connection => ended,
            }
        })
    };
    match std::thread::spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
