//! One budget and two relays, each a process of its own beside their coordinator's.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::{PATIENCE, Running};
use mytunnel_tests::wire::Connection;
use tokio::sync::watch;

use crate::apart::{coordinator, join, relay_beside};
use crate::budgets::{PER_CENT, budget, closed, master, refused};

const ANY: &str = "127.0.0.1:0";

/// What goes through beyond a budget, for each stream: buffers on the way out, which are cut with it.
const BEYOND: u64 = 1 << 20;

/// Two relays under one coordinator, where a MiB costs about ten cents; a node at each.
struct Pair {
    lab: Lab,
    /// Where its relay listens, and by which arguments it is started again.
    first: [String; 3],
    url: String,
    _coordinator: Running,
    /// The relay that is not the lab's, and where it listens.
    _second: Running,
    second_http: SocketAddr,
    /// At the lab's relay and at the second.
    nodes: [Running; 2],
}

impl Pair {
    async fn start(target: &str) -> Result<Self> {
        let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
        let (process, ready) = coordinator(&lab, ANY, &["--price-gib", "10000", "--price-hour", "0"]).await?;
        let url = ready["url"].as_str().context("a URL")?.to_owned();
        lab.own(&url, ready["setup_code"].as_str().context("a setup code")?).await?;
        lab.start_relay_with(&[ANY; 3], &["--coordinator", &url, "--join", &join(&lab).await?]).await?;
        let first = lab.listen_addresses()?;

        // Nodes try relays in the order in which they joined, which is known in whole seconds.
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        tokio::time::sleep(Duration::from_secs(now.as_secs() + 1).saturating_sub(now)).await;
        let (second, second_http) = relay_beside(&lab, &url).await?;

        // A node goes to the first relay that answers, of which there is but one at this moment.
        lab.kill_relay().await?;
        let (at_second, there) = lab.node(target, "two").await?;
        lab.start_relay_with(&first, &["--coordinator", &url]).await?;
        let (at_first, here) = tokio::time::timeout(PATIENCE, async {
            loop {
                let (node, ready) = lab.node(target, "one").await?;
                if ready["relay"] != there["relay"] {
                    return anyhow::Ok((node, ready));
                }
                // The first relay has not reached its coordinator yet.
                node.kill().await?;
            }
        })
        .await
        .context("a node at either relay")??;
        ensure!(here["relay"] != there["relay"], "{here} {there}");
        let nodes = [at_first, at_second];
        Ok(Self { lab, first, url, _coordinator: process, _second: second, second_http, nodes })
    }
}

/// What a visitor gets of a stream without an end, and when the last of it came.
async fn download(at: SocketAddr, name: &str) -> Result<(u64, Instant)> {
    download_telling(at, name, &watch::Sender::new(0)).await
}

/// The same, telling how much it is so far.
async fn download_telling(at: SocketAddr, name: &str, so_far: &watch::Sender<u64>) -> Result<(u64, Instant)> {
    let mut connection = Connection::open(at).await?;
    let request = format!("GET /bytes/4000000000 HTTP/1.1\r\nhost: {name}.localhost:{}\r\n\r\n", at.port());
    connection.send(request.as_bytes()).await?;
    let head = connection.head().await?;
    ensure!(head.status == 200, "{}", head.text);
    let (mut taken, mut last) = (0, Instant::now());
    let cut = connection
        .body(&head, |bytes| {
            taken += bytes.len() as u64;
            so_far.send_replace(taken);
            last = Instant::now();
        })
        .await;
    ensure!(cut.is_err(), "it is cut");
    Ok((taken, last))
}

#[tokio::test]
async fn two_relays_never_spend_more_than_a_budget_together() -> Result<()> {
    let origin = Origin::start().await?;
    let target = origin.address.port().to_string();
    let mut pair = Pair::start(&target).await?;
    let lab = &pair.lab;
    budget(lab, "100").await?;
    let (one, two) = tokio::try_join!(download(lab.http, "one"), download(pair.second_http, "two"))?;
    let taken = one.0 + two.0;
    assert!(taken <= 100 * PER_CENT + 2 * BEYOND, "{taken} of {}", 100 * PER_CENT);
    assert!(taken >= 50 * PER_CENT && one.0 > 0 && two.0 > 0, "most of it can be used: {one:?} {two:?}");
    for (node, (_, last)) in pair.nodes.iter_mut().zip([one, two]) {
        assert_eq!(closed(node).await?["code"], "BUDGET_EXCEEDED");
        assert!(last.elapsed() < Duration::from_secs(10), "{:?}", last.elapsed());
    }
    let (spent, _) = master(lab).await?;
    assert!((50..=100).contains(&spent), "{spent}");
    refused(lab, &target).await?;

    budget(lab, "200").await?;
    let (_node, _) = lab.node(&target, "one").await?;
    // It is ready once either relay has taken it.
    let served = async {
        while lab.get("one", "/1k").await?.0.status != 200 {}
        Ok(())
    };
    tokio::time::timeout(PATIENCE, served).await.context("the first relay has not taken it back")?
}

/// It cannot tell what it spent last: what it held is charged, and no more goes through than the budget allows.
#[tokio::test]
async fn a_relay_that_is_killed_in_mid_traffic_spends_nothing_beyond_the_budget_with_the_other() -> Result<()>
{
    let origin = Origin::start().await?;
    let target = origin.address.port().to_string();
    let mut pair = Pair::start(&target).await?;
    budget(&pair.lab, "100").await?;
    let (at_first, at_second) = (pair.lab.http, pair.second_http);
    let so_far = watch::Sender::new(0);
    let mut told = so_far.subscribe();
    let arguments = ["--coordinator", &pair.url];
    let lab = &mut pair.lab;
    let killing = async {
        told.wait_for(|taken| *taken >= 5 * PER_CENT).await?;
        lab.kill_relay().await?;
        lab.start_relay_with(&pair.first, &arguments).await
    };
    let one = download_telling(at_first, "one", &so_far);
    let (one, two, ()) = tokio::try_join!(one, download(at_second, "two"), killing)?;
    let taken = one.0 + two.0;
    assert!(taken <= 100 * PER_CENT + 2 * BEYOND, "{taken} of {}", 100 * PER_CENT);
    assert!(taken >= 50 * PER_CENT, "the other goes on with what is left: {one:?} {two:?}");
    assert_eq!(closed(&mut pair.nodes[1]).await?["code"], "BUDGET_EXCEEDED");
    // The new process has said that the old one is over: nothing of the budget stays reserved.
    tokio::time::timeout(PATIENCE, async {
        while master(&pair.lab).await?.0 < 99 {}
        anyhow::Ok(())
    })
    .await
    .context("what the killed relay held is charged")??;
    assert!(master(&pair.lab).await?.0 <= 100);
    refused(&pair.lab, &target).await
}
