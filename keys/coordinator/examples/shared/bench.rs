//! A coordinator with an owner, a device and a project, and who asks it: what the examples share.
#![allow(dead_code, reason = "each of the two that include this uses its part")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use mytunnel_coordinator::{Config, Coordinator, StoreConfig};
use mytunnel_keys::api::{Device, Mint, MintAnswer, NewProject, ProjectCreated};
use mytunnel_keys::id::{Cluster, Serial};
use mytunnel_keys::proof;
use mytunnel_keys::secret::Seed;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was asked for: an empty PostgreSQL database, and numbers.
pub(crate) struct Asked {
    database: Option<String>,
    numbers: std::vec::IntoIter<usize>,
}

impl Asked {
    /// `[--database postgres://…] [NUMBER…]`.
    pub(crate) fn read() -> Result<Self> {
        let mut words: Vec<String> = std::env::args().skip(1).collect();
        let flag = words.first().is_some_and(|word| word == "--database");
        let database = if flag { words.drain(..2.min(words.len())).nth(1) } else { None };
        let numbers =
            words.iter().map(|word| word.parse().context("a number")).collect::<Result<Vec<_>>>()?;
        Ok(Self { database, numbers: numbers.into_iter() })
    }

    pub(crate) fn next(&mut self, default: usize) -> usize {
        self.numbers.next().unwrap_or(default)
    }

    pub(crate) fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// That database, or a file in the place.
    pub(crate) fn store(&self, place: &Path) -> Result<StoreConfig> {
        Ok(match &self.database {
            Some(url) => StoreConfig::Postgres { url: url.parse()?, data: place.to_owned() },
            None => StoreConfig::Sqlite(place.join("mytunnel.db")),
        })
    }
}

#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) seed: Seed,
    pub(crate) serial: Serial,
}

pub(crate) struct Bench {
    pub(crate) coordinator: Coordinator,
    pub(crate) cluster: Cluster,
    pub(crate) device: Key,
    pub(crate) master: Key,
}

impl Bench {
    pub(crate) async fn start(store: StoreConfig) -> Result<Self> {
        let cluster: Cluster = "localhost".parse()?;
        let config = Config::new(store, cluster.clone(), "http://localhost:8080".parse()?);
        let coordinator = Coordinator::open(config).await?;
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

    pub(crate) async fn project(&self, name: &str) -> Result<Key> {
        let seed = fresh()?;
        let new = NewProject { name: name.to_owned(), master: seed.public() };
        let made: ProjectCreated = self.signed(&self.device, "POST", "/api/v1/projects", &new).await?;
        Ok(Key { seed, serial: made.serial })
    }

    /// Mints a child and answers how long that took.
    pub(crate) async fn mint(&self, master: &Key) -> Result<Duration> {
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

    /// What the owner's device is shown.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let request = proof::Request { cluster: &self.cluster, method: "GET", path, body: &[] };
        let header = proof::sign_request(&self.device.seed, &self.device.serial, &request, now(), random()?);
        send(&self.coordinator, "GET", path, Some(header), Vec::new()).await
    }

    pub(crate) async fn signed<T: DeserializeOwned>(
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

pub(crate) async fn ask<T: DeserializeOwned>(
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
    let bytes = to_bytes(response.into_body(), 16 * 1024 * 1024).await?;
    if !status.is_success() {
        bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

/// Median, 99th percentile and worst, in milliseconds.
pub(crate) fn places(times: &mut [Duration]) -> [f64; 3] {
    times.sort_unstable();
    let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
    [50, 99, 100].map(|part| at(part).map_or(0.0, |time| millis(*time)))
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub(crate) fn now() -> u64 {
    mytunnel_coordinator::Clock::system().now()
}

pub(crate) fn fresh() -> Result<Seed> {
    Ok(Seed::from_bytes(random()?))
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
