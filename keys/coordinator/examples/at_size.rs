//! What a coordinator takes with many keys and a long audit log: memory, and the first and the last page of each list.
//!
//! ```text
//! cargo run --release -p mytunnel-coordinator --example at_size -- [--database URL] [KEYS] [ROWS]
//! ```
//!
//! A database is made by a coordinator, filled by SQL (so many children of one master key, of which a tenth lives, and so
//! many rows of the audit log), and then measured in a process of its own that has nothing else in its memory. The
//! PostgreSQL database must be empty; its server's memory is not in the figures.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "shared/bench.rs"]
mod bench;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use mytunnel_coordinator::{Config, Coordinator};
use mytunnel_keys::secret::Seed;
use serde_json::Value;
use tokio_postgres::NoTls;

use bench::{Asked, Bench, Key, fresh, millis, now};

/// Where the second process finds what the first has made.
const PLACE: &str = "MYTUNNEL_AT_SIZE";
const DAY: u64 = 86_400;

fn main() -> Result<()> {
    let mut asked = Asked::read()?;
    let (keys, rows) = (asked.next(100_000), asked.next(1_000_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(place) = std::env::var_os(PLACE) {
        return runtime.block_on(measure(&asked, Path::new(&place)));
    }
    let place = tempfile::tempdir()?;
    runtime.block_on(async {
        let bench = Bench::start(asked.store(place.path())?).await?;
        bench.mint(&bench.master).await?;
        let Key { seed, serial } = &bench.device;
        let device = serde_json::json!({"seed": seed.expose(), "serial": serial, "master": bench.master.serial.nonce()});
        std::fs::write(place.path().join("device.json"), device.to_string())?;
        bench.coordinator.shutdown().await;
        let begun = Instant::now();
        match asked.database() {
            Some(url) => fill_server(url, keys, rows).await?,
            None => fill_file(&place.path().join("mytunnel.db"), keys, rows)?,
        }
        println!("filled with {keys} keys and {rows} rows in {:.1} s", begun.elapsed().as_secs_f64());
        anyhow::Ok(())
    })?;
    let status = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(PLACE, place.path())
        .status()?;
    ensure!(status.success(), "the measurement failed");
    Ok(())
}

/// When a key was issued: over ten days, so that a tenth of them lives.
fn issued(number: usize, keys: usize) -> i64 {
    let (number, keys) = (number as u64, keys as u64);
    (now() - 10 * DAY + 10 * DAY * number / keys.max(1)).cast_signed()
}

fn subjects(keys: usize) -> Result<Vec<Vec<u8>>> {
    (0..keys).map(|_| Ok(fresh()?.public().as_bytes().to_vec())).collect()
}

const KEY_COLUMNS: &str =
    "serial, nonce, kind, subject, tenant, project, parent, label, hosts, scopes, issued_at, not_after,
    max_tunnels, max_staleness, bound";

fn fill_file(path: &Path, keys: usize, rows: usize) -> Result<()> {
    let mut connection = rusqlite::Connection::open(path)?;
    let transaction = connection.transaction()?;
    let add = format!(
        "INSERT INTO keys ({KEY_COLUMNS})
         SELECT $1, $2, 'child', $3, tenant, project, serial, '', '*', 'http', $4, $4 + 86400, 1, 60, 1
         FROM keys WHERE kind = 'master' LIMIT 1"
    );
    let mut statement = transaction.prepare(&add)?;
    for (number, subject) in subjects(keys)?.into_iter().enumerate() {
        let serial = ((number as u128) << 64 | number as u128).to_be_bytes();
        statement.execute((serial, format!("{number:016x}"), subject, issued(number, keys)))?;
    }
    drop(statement);
    transaction.execute(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < $1)
         INSERT INTO audit (seq, at, tenant, actor, act, subject, project, detail, hash)
         SELECT h.audit_seq + n, $2 + n / 100, m.tenant, 'master:' || m.nonce, 'key.mint',
                'child:' || printf('%016x', n % $3), m.project, '', randomblob(32)
         FROM n CROSS JOIN head h CROSS JOIN (SELECT * FROM keys WHERE kind = 'master' LIMIT 1) m",
        (rows as i64, (now() - 10 * DAY) as i64, keys as i64),
    )?;
    transaction.execute("UPDATE head SET audit_seq = audit_seq + $1", [rows as i64])?;
    Ok(transaction.commit()?)
}

async fn fill_server(url: &str, keys: usize, rows: usize) -> Result<()> {
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let work = async move {
        let transaction = client.transaction().await?;
        let first = issued(0, keys);
        let add = format!(
            "INSERT INTO keys ({KEY_COLUMNS})
             SELECT decode(lpad(to_hex(n - 1), 16, '0') || lpad(to_hex(n - 1), 16, '0'), 'hex'), lpad(to_hex(n - 1), 16, '0'),
                    'child', u.subject, m.tenant, m.project, m.serial, '', '*', 'http', $2 + 864000 * n / $3,
                    $2 + 864000 * n / $3 + 86400, 1, 60, 1
             FROM unnest($1::bytea[]) WITH ORDINALITY AS u (subject, n)
             CROSS JOIN (SELECT * FROM keys WHERE kind = 'master' LIMIT 1) m"
        );
        transaction.execute(&add, &[&subjects(keys)?, &first, &(keys as i64)]).await?;
        transaction
            .execute(
                "INSERT INTO audit (seq, at, tenant, actor, act, subject, project, detail, hash)
                 SELECT h.audit_seq + n, $2 + n / 100, m.tenant, 'master:' || m.nonce, 'key.mint',
                        'child:' || lpad(to_hex(n % $3), 16, '0'), m.project, '', sha256(int8send(n))
                 FROM generate_series(1, $1::bigint) n CROSS JOIN head h
                 CROSS JOIN (SELECT * FROM keys WHERE kind = 'master' LIMIT 1) m",
                &[&(rows as i64), &first, &(keys as i64)],
            )
            .await?;
        transaction.execute("UPDATE head SET audit_seq = audit_seq + $1", &[&(rows as i64)]).await?;
        transaction.commit().await?;
        client.batch_execute("ANALYZE").await?;
        anyhow::Ok(())
    };
    tokio::select! {
        done = work => done,
        ended = connection => Ok(ended?),
    }
}

async fn measure(asked: &Asked, place: &Path) -> Result<()> {
    let told: Value = serde_json::from_slice(&std::fs::read(place.join("device.json"))?)?;
    let seed: [u8; 32] = serde_json::from_value(told["seed"].clone())?;
    let device =
        Key { seed: Seed::from_bytes(seed), serial: serde_json::from_value(told["serial"].clone())? };
    let master = told["master"].as_str().context("a nonce")?;
    let begun = Instant::now();
    let config = Config::new(asked.store(place)?, "localhost".parse()?, "http://localhost:8080".parse()?);
    let coordinator = Coordinator::open(config).await?;
    println!("start: {:.0} ms, resident {} MiB", millis(begun.elapsed()), resident("VmRSS")?);
    let (cluster, device_of) = ("localhost".parse()?, device.clone());
    let bench = Bench { coordinator, cluster, device, master: device_of };
    let lists = [
        ("keys", "/api/v1/tokens?all=true&".to_owned(), "keys"),
        ("keys that live", "/api/v1/tokens?".to_owned(), "keys"),
        ("keys without a parent", "/api/v1/tokens?all=true&roots=true&".to_owned(), "keys"),
        ("children of a key", format!("/api/v1/tokens?all=true&parent={master}&"), "keys"),
        ("audit", "/api/v1/audit?limit=1000&".to_owned(), "entries"),
        ("audit of a key", format!("/api/v1/audit?limit=1000&key={master}&"), "entries"),
        ("audit of a child", "/api/v1/audit?limit=1000&key=0000000000000007&".to_owned(), "entries"),
        ("tunnels", "/api/v1/tunnels?".to_owned(), "tunnels"),
    ];
    for (name, path, rows) in lists {
        walk(&bench, name, &path, rows).await?;
    }
    println!("resident after all lists {} MiB, at most {} MiB", resident("VmRSS")?, resident("VmHWM")?);
    bench.coordinator.shutdown().await;
    Ok(())
}

/// Every page of a list.
async fn walk(bench: &Bench, name: &str, path: &str, rows: &str) -> Result<()> {
    let (mut times, mut count, mut next) = (Vec::new(), 0, String::new());
    loop {
        let begun = Instant::now();
        let page: Value = bench.get(&format!("{path}{next}")).await?;
        times.push(millis(begun.elapsed()));
        let found = page[rows].as_array().context("rows")?;
        count += found.len();
        let after = page["next"].as_str().map(|after| format!("after={after}"));
        let before = found.last().filter(|_| rows == "entries" && found.len() == 1000);
        let before = before.map(|row| format!("before={}", row["seq"]));
        match after.or(before) {
            Some(more) => next = more,
            None => break,
        }
    }
    let worst = times.iter().copied().fold(0.0, f64::max);
    println!(
        "{name}: {count} rows in {} pages; first {:.1} ms, last {:.1} ms, worst {worst:.1} ms",
        times.len(),
        times.first().copied().unwrap_or(0.0),
        times.last().copied().unwrap_or(0.0),
    );
    Ok(())
}

/// What the system says of this process, in MiB.
fn resident(what: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)).context("a line")?;
    let kib: u64 = line.split_ascii_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024)
}
