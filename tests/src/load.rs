//! A load generator: so many connections, for so long, and how long each exchange took.

use std::io::Result;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::origin::WEBSOCKET_KEY;
use crate::wire::Connection;

/// What is asked for, over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// 1 KiB answers on a kept connection.
    KeepAlive,
    /// 1 KiB answers, a connection each.
    NewConnection,
    /// 100 MiB answers.
    Download,
    /// 32 MiB bodies, counted when answered.
    Upload,
    /// 64-byte WebSocket messages, one under way at a time.
    WebSocket,
}

/// Size of a download.
pub const DOWNLOAD: usize = 100 << 20;
/// Size of an upload.
pub const UPLOAD: usize = 32 << 20;

static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// What a run gave.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Exchanges that ended well.
    pub count: u64,
    /// Body bytes moved.
    pub bytes: u64,
    /// Exchanges that failed, with the first reason.
    pub failed: u64,
    /// The first failure, if any.
    pub first_failure: Option<String>,
    /// Wall time.
    pub elapsed: Duration,
    /// Duration of each exchange in microseconds, sorted.
    pub latencies: Vec<u32>,
}

impl Outcome {
    /// Exchanges per second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    /// Gigabytes (10⁹) per second.
    pub fn gigabytes(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64() / 1e9
    }

    /// The latency below which the fraction `quantile` of exchanges lies, in microseconds.
    pub fn latency(&self, quantile: f64) -> u32 {
        let last = self.latencies.len().saturating_sub(1);
        let index = (self.latencies.len() as f64 * quantile) as usize;
        self.latencies.get(index.min(last)).copied().unwrap_or(0)
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.latencies.extend(other.latencies);
    }
}

/// Runs `work` on `connections` connections to `address` for `duration`, sending `host` in each request.
pub async fn run(
    work: Work,
    address: SocketAddr,
    host: &str,
    connections: usize,
    duration: Duration,
) -> Outcome {
    let started = Instant::now();
    let until = started + duration;
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let host = host.to_owned();
        tasks.spawn(async move {
            let mut outcome = Outcome::default();
            if let Err(error) = one(work, address, &host, until, &mut outcome).await {
                outcome.failed += 1;
                outcome.first_failure = Some(error.to_string());
            }
            outcome
        });
    }
    let mut total = Outcome::default();
    while let Some(joined) = tasks.join_next().await {
        if let Ok(outcome) = joined {
            total.merge(outcome);
        }
    }
    total.elapsed = started.elapsed();
    total.latencies.sort_unstable();
    total
}

async fn one(
    work: Work,
    address: SocketAddr,
    host: &str,
    until: Instant,
    outcome: &mut Outcome,
) -> Result<()> {
    match work {
        Work::KeepAlive => gets(address, &get("/1k", host, ""), until, outcome).await,
        Work::NewConnection => {
            connections(address, &get("/1k", host, "connection: close\r\n"), until, outcome).await
        }
        Work::Download => gets(address, &get(&format!("/bytes/{DOWNLOAD}"), host, ""), until, outcome).await,
        Work::Upload => uploads(address, host, until, outcome).await,
        Work::WebSocket => messages(address, host, until, outcome).await,
    }
}

fn get(path: &str, host: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: load\r\naccept: */*\r\n{more}\r\n")
        .into_bytes()
}

async fn answer(connection: &mut Connection, started: Instant, outcome: &mut Outcome) -> Result<()> {
    let head = connection.head().await?;
    let mut bytes = 0;
    connection.body(&head, |piece| bytes += piece.len() as u64).await?;
    if head.status != 200 {
        return Err(std::io::Error::other(format!("status {}", head.status)));
    }
    outcome.count += 1;
    outcome.bytes += bytes;
    outcome.latencies.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
    Ok(())
}

async fn gets(address: SocketAddr, request: &[u8], until: Instant, outcome: &mut Outcome) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    while Instant::now() < until {
        let started = Instant::now();
        connection.send(request).await?;
        answer(&mut connection, started, outcome).await?;
    }
    Ok(())
}

async fn connections(
    address: SocketAddr,
    request: &[u8],
    until: Instant,
    outcome: &mut Outcome,
) -> Result<()> {
    while Instant::now() < until {
        let started = Instant::now();
        let mut connection = Connection::open(address).await?;
        connection.send(request).await?;
        answer(&mut connection, started, outcome).await?;
    }
    Ok(())
}

async fn uploads(address: SocketAddr, host: &str, until: Instant, outcome: &mut Outcome) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    let head = format!("POST /upload HTTP/1.1\r\nhost: {host}\r\ncontent-length: {UPLOAD}\r\n\r\n");
    while Instant::now() < until {
        let started = Instant::now();
        connection.send(head.as_bytes()).await?;
        for _ in 0..UPLOAD / ZEROS.len() {
            connection.send(&ZEROS).await?;
        }
        answer(&mut connection, started, outcome).await?;
        outcome.bytes += UPLOAD as u64;
    }
    Ok(())
}

async fn messages(address: SocketAddr, host: &str, until: Instant, outcome: &mut Outcome) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    let more = format!(
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {WEBSOCKET_KEY}\r\n"
    );
    connection.send(&get("/echo", host, &more)).await?;
    let head = connection.head().await?;
    if head.status != 101 {
        return Err(std::io::Error::other(format!("status {}", head.status)));
    }
    // A final binary frame of 64 bytes, masked with zeros (RFC 6455 §5.2).
    let mut frame = vec![0x82, 0x80 | 64, 0, 0, 0, 0];
    frame.extend_from_slice(&[7; 64]);
    let mut echoed = [0; 66];
    while Instant::now() < until {
        let started = Instant::now();
        connection.send(&frame).await?;
        connection.raw(&mut echoed).await?;
        outcome.count += 1;
        outcome.bytes += 128;
        outcome.latencies.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(())
}
