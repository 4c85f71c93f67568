//! How fast a coordinator mints, and how soon a cascade is true on every relay.
//!
//! ```text
//! cargo run --release -p mytunnel-coordinator --example mint_speed -- [--database URL] [MINTS] [MINTERS] [RELAYS] [ROUNDS]
//! ```
//!
//! Everything goes through the API as a client's request does (signed, parsed, checked, committed to SQLite with
//! `synchronous=FULL`, or to an empty PostgreSQL database), without sockets. The relays follow the feed in this process, verify each frame and confirm.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "shared/bench.rs"]
mod bench;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use mytunnel_keys::api::RevokeAnswer;
use mytunnel_keys::feed::{Accepted, FeedReader, Report, Subscribe};
use tokio::sync::watch;
use tokio::task::JoinSet;

use bench::{Asked, Bench, fresh, now, places, random};

fn main() -> Result<()> {
    let mut asked = Asked::read()?;
    let (mints, minters, relays, rounds) =
        (asked.next(20_000), asked.next(64), asked.next(3), asked.next(50));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let place = tempfile::tempdir()?;
        let bench = Arc::new(Speed(Bench::start(asked.store(place.path())?).await?));
        bench.mint_alone(mints.min(500)).await?;
        bench.mint_together(mints, minters).await?;
        bench.revoke(relays, rounds).await
    })
}

struct Speed(Bench);

impl Speed {
    async fn mint_alone(&self, count: usize) -> Result<()> {
        let begun = Instant::now();
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            times.push(self.0.mint(&self.0.master).await?);
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
                    times.push(bench.0.mint(&bench.0.master).await?);
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
            let master = self.0.project(&format!("round {round}")).await?;
            for _ in 0..20 {
                self.0.mint(&master).await?;
            }
            let path = format!("/api/v1/tokens/{}?cascade=true", master.serial.nonce());
            let begun = Instant::now();
            let answer: RevokeAnswer = self.0.signed(&self.0.device, "DELETE", &path, &()).await?;
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
        self.0.coordinator.enroll_relay(relay, Vec::new()).await?;
        let nonce = random()?;
        let asked = Subscribe { nonce, addrs: Vec::new(), since: None };
        let mut link = self.0.coordinator.subscribe(relay, asked).await?;
        let mut reader = FeedReader::new(nonce, self.0.coordinator.trust().clone(), None);
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
}

fn report(what: &str, count: usize, took: Duration, times: &mut [Duration]) {
    let rate = count as f64 / took.as_secs_f64();
    let [middle, high, worst] = places(times);
    println!(
        "{what}: {rate:.0} mints/s, median {middle:.2} ms, p99 {high:.2} ms, worst {worst:.2} ms ({count} mints)"
    );
}
