//! How fast a coordinator mints, and how soon a cascade is true on every relay.
//!
//! ```text
//! cargo run --release -p mytunnel-coordinator --example mint_speed -- [MINTS] [MINTERS] [RELAYS] [ROUNDS]
//! ```
//!
//! Everything goes through the API as a client's request does (signed, parsed, checked, committed to SQLite with
//! `synchronous=FULL`), without sockets. The relays follow the feed in this process, verify each frame and confirm.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use mytunnel_coordinator::{Config, Coordinator, StoreConfig};
use mytunnel_keys::api::{Device, Mint, MintAnswer, NewProject, ProjectCreated, RevokeAnswer};
use mytunnel_keys::feed::{Accepted, FeedReader, Report, Subscribe};
use mytunnel_keys::id::{Cluster, Serial};
use mytunnel_keys::proof;
use mytunnel_keys::secret::Seed;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let mut next = |default| numbers.next().transpose().map(|given| given.unwrap_or(default));
    let (mints, minters, relays, rounds) = (next(20_000)?, next(64)?, next(3)?, next(50)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let place = tempfile::tempdir()?;
        let bench = Arc::new(Bench::start(StoreConfig::Sqlite(place.path().join("mytunnel.db"))).await?);
        bench.mint_alone(mints.min(500)).await?;
        bench.mint_together(mints, minters).await?;
        bench.revoke(relays, rounds).await
    })
}

#[derive(Clone)]
struct Key {
    seed: Seed,
    serial: Serial,
}

struct Bench {
    coordinator: Coordinator,
    cluster: Cluster,
    device: Key,
    master: Key,
}

impl Bench {
    async fn start(store: StoreConfig) -> Result<Self> {
        let cluster: Cluster = "localhost".parse()?;
        let begun = Instant::now();
        let config = Config::new(store, cluster.clone(), "http://localhost:8080".parse()?);
        let coordinator = Coordinator::open(config).await?;
        println!("first start: {:.1} ms", millis(begun.elapsed()));
        let seed = fresh()?;
        let code = coordinator.setup_code().context("a setup code")?;
        let setup = serde_json::json!({"code": code.as_str(), "email": "a@b", "password": "correct horse"});
        let answer: serde_json::Value = ask(&coordinator, "POST", "/api/v1/auth/setup", None, &setup).await?;
        let token = format!("Bearer {}", answer["access_token"].as_str().context("an access token")?);
        let new = serde_json::json!({"public_key": seed.public(), "name": "bench"});
        let device: Device = ask(&coordinator, "POST", "/api/v1/devices", Some(token), &new).await?;
        let device = Key { seed, serial: device.serial };
        let master = device.clone();
        let mut bench = Self { coordinator, cluster, device, master };
        bench.master = bench.project("bench").await?;
        Ok(bench)
    }

    async fn project(&self, name: &str) -> Result<Key> {
        let seed = fresh()?;
        let new = NewProject { name: name.to_owned(), master: seed.public() };
        let made: ProjectCreated = self.signed(&self.device, "POST", "/api/v1/projects", &new).await?;
        Ok(Key { seed, serial: made.serial })
    }

    /// Mints a child and answers how long that took.
    async fn mint(&self, master: &Key) -> Result<Duration> {
        let mint = Mint {
            public_key: fresh()?.public(),
            ttl: 3600,
            project: None,
            scopes: None,
            hosts: Vec::new(),
            budget_cents: None,
            bound: true,
            replaces: None,
        };
        let begun = Instant::now();
        let _: MintAnswer = self.signed(master, "POST", "/api/v1/mint", &mint).await?;
        Ok(begun.elapsed())
    }

    async fn mint_alone(&self, count: usize) -> Result<()> {
        let begun = Instant::now();
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            times.push(self.mint(&self.master).await?);
        }
        report("one minter", count, begun.elapsed(), &mut times);
        Ok(())
    }

    async fn mint_together(self: &Arc<Self>, count: usize, minters: usize) -> Result<()> {
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..minters {
            let bench = self.clone();
            tasks.spawn(async move {
                let mut times = Vec::new();
                for _ in 0..count / minters {
                    times.push(bench.mint(&bench.master).await?);
                }
                anyhow::Ok(times)
            });
        }
        let mut times = Vec::with_capacity(count);
        while let Some(done) = tasks.join_next().await {
            times.extend(done??);
        }
        report(&format!("{minters} minters"), times.len(), begun.elapsed(), &mut times);
        Ok(())
    }

    async fn revoke(self: &Arc<Self>, relays: usize, rounds: usize) -> Result<()> {
        let (ready, mut up) = watch::channel(0_usize);
        let mut following = JoinSet::new();
        for _ in 0..relays {
            following.spawn(self.clone().follow(ready.clone()));
        }
        up.wait_for(|up| *up == relays).await?;
        let mut calls = Vec::with_capacity(rounds);
        let mut applied = Vec::with_capacity(rounds * relays);
        for round in 0..rounds {
            let master = self.project(&format!("round {round}")).await?;
            for _ in 0..20 {
                self.mint(&master).await?;
            }
            let path = format!("/api/v1/tokens/{}?cascade=true", master.serial.nonce());
            let begun = Instant::now();
            let answer: RevokeAnswer = self.signed(&self.device, "DELETE", &path, &()).await?;
            calls.push(begun.elapsed());
            if answer.revoked_children != 20 || answer.relays.iter().any(|relay| !relay.applied) {
                bail!("round {round}: {answer:?}");
            }
            applied.extend(answer.relays.iter().filter_map(|relay| relay.ms).map(Duration::from_millis));
        }
        applied.sort_unstable();
        let [middle, high, worst] = places(&mut calls);
        println!(
            "cascade of 20 children, confirmed by {relays} relays, {rounds} rounds: \
             median {middle:.2} ms, p99 {high:.2} ms, worst {worst:.2} ms; \
             slowest relay {} ms after the commit",
            applied.last().map_or(0, Duration::as_millis),
        );
        following.shutdown().await;
        Ok(())
    }

    /// A relay that verifies each frame and confirms it.
    async fn follow(self: Arc<Self>, ready: watch::Sender<usize>) -> Result<()> {
        let relay = fresh()?.public();
        self.coordinator.enroll_relay(relay, Vec::new()).await?;
        let nonce = random()?;
        let asked = Subscribe { nonce, addrs: Vec::new(), since: None };
        let mut link = self.coordinator.subscribe(relay, asked).await?;
        let mut reader = FeedReader::new(nonce, self.coordinator.trust().clone(), None);
        while let Some(frame) = link.frames.recv().await {
            let accepted = reader.accept(&frame, now())?;
            if let Accepted::Snapshot { position, .. } | Accepted::Delta { position, .. } = &accepted {
                link.reports.send(Report::Applied { epoch: position.epoch, closed: 0 }).await?;
            }
            if matches!(accepted, Accepted::Snapshot { .. }) {
                ready.send_modify(|up| *up += 1);
            }
        }
        Ok(())
    }

    async fn signed<T: DeserializeOwned>(
        &self,
        key: &Key,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        let bytes = serde_json::to_vec(body)?;
        let request = proof::Request { cluster: &self.cluster, method, path, body: &bytes };
        let header = proof::sign_request(&key.seed, &key.serial, &request, now(), random()?);
        send(&self.coordinator, method, path, Some(header), bytes).await
    }
}

async fn ask<T: DeserializeOwned>(
    coordinator: &Coordinator,
    method: &str,
    path: &str,
    authorization: Option<String>,
    body: &impl Serialize,
) -> Result<T> {
    send(coordinator, method, path, authorization, serde_json::to_vec(body)?).await
}

async fn send<T: DeserializeOwned>(
    coordinator: &Coordinator,
    method: &str,
    path: &str,
    authorization: Option<String>,
    body: Vec<u8>,
) -> Result<T> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    let response = coordinator.handle(request.body(Body::from(body))?).await;
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1024 * 1024).await?;
    if !status.is_success() {
        bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

fn report(what: &str, count: usize, took: Duration, times: &mut [Duration]) {
    let rate = count as f64 / took.as_secs_f64();
    let [middle, high, worst] = places(times);
    println!(
        "{what}: {rate:.0} mints/s, median {middle:.2} ms, p99 {high:.2} ms, worst {worst:.2} ms ({count} mints)"
    );
}

/// Median, 99th percentile and worst, in milliseconds.
fn places(times: &mut [Duration]) -> [f64; 3] {
    times.sort_unstable();
    let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
    [50, 99, 100].map(|part| at(part).map_or(0.0, |time| millis(*time)))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn now() -> u64 {
    mytunnel_coordinator::Clock::system().now()
}

fn fresh() -> Result<Seed> {
    Ok(Seed::from_bytes(random()?))
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
