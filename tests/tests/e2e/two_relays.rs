//! A node is at two relays: one dies, and the visitors of the other do not notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::PATIENCE;
use mytunnel_tests::wire::Connection;
use tokio::task::JoinSet;

use crate::apart::{ANY, owned, relay_beside};

/// What one visitor at a relay is answered.
async fn visit(at: SocketAddr) -> Result<u16> {
    let mut connection = Connection::open(at).await?;
    let request = format!("GET /1k HTTP/1.1\r\nhost: steady.localhost:{}\r\n\r\n", at.port());
    Ok(connection.exchange(request.as_bytes()).await?.0.status)
}

/// Waits until visitors are served at a relay.
async fn served(at: SocketAddr) -> Result<()> {
    let until = async { while !matches!(visit(at).await, Ok(200)) {} };
    tokio::time::timeout(PATIENCE, until).await.with_context(|| format!("nobody is served at {at}"))
}

#[tokio::test]
async fn one_of_two_relays_dies_and_visitors_of_the_other_do_not_notice() -> Result<()> {
    let (mut lab, _coordinator, url, join) = owned().await?;
    lab.start_relay_with(&ANY, &["--coordinator", &url, "--join", &join]).await?;
    let (second, at_second) = relay_beside(&lab, &url).await?;
    let origin = Origin::start().await?;
    let (mut node, before) = lab.node(&origin.address.port().to_string(), "steady").await?;
    served(lab.http).await?;
    served(at_second).await?;

    let first = lab.listen_addresses()?;
    lab.kill_relay().await?;
    let died = Instant::now();
    let mut slowest = Duration::ZERO;
    // For as long as a node takes to notice that a relay is gone, and more.
    while died.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        let status = visit(at_second).await?;
        slowest = slowest.max(asked.elapsed());
        ensure!(status == 200, "{status} {:?} after the other relay's end", died.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");

    lab.start_relay_with(&first, &["--coordinator", &url]).await?;
    served(lab.http).await?;
    second.kill().await?;
    assert_eq!(visit(lab.http).await?, 200);

    lab.kill_relay().await?;
    node.event("reconnecting").await?;
    lab.start_relay_with(&first, &["--coordinator", &url]).await?;
    let again = node.event("ready").await?;
    assert_eq!(again["tunnel_id"], before["tunnel_id"]);
    Ok(())
}

/// A visitor who knows both relays, as one does whose name leads to both: goes on with the one that answers, and is never left
/// with half an answer. Returns how many answers there were.
async fn visit_either(
    relays: [SocketAddr; 2],
    host: String,
    over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
) -> Result<()> {
    let (mut at, mut connection) = (0, None);
    while !over.load(Ordering::SeqCst) {
        let mut open = match connection.take() {
            Some(open) => open,
            None => match Connection::open(relays[at]).await {
                Ok(open) => open,
                Err(_) => {
                    at = 1 - at;
                    continue;
                }
            },
        };
        let request = format!("GET /1k HTTP/1.1\r\nhost: {host}\r\n\r\n");
        // A connection that ends before a word of an answer has taken nothing: browsers ask elsewhere then.
        let head = match open.send(request.as_bytes()).await {
            Ok(()) => open.head().await,
            Err(error) => Err(error),
        };
        let Ok(head) = head else {
            at = 1 - at;
            continue;
        };
        let mut length = 0;
        open.body(&head, |part| length += part.len()).await.context("half an answer")?;
        ensure!((head.status, length) == (200, 1024), "{}", head.text);
        served.fetch_add(1, Ordering::SeqCst);
        connection = (head.field("connection") != Some("close")).then_some(open);
    }
    Ok(())
}

#[tokio::test]
async fn one_of_two_relays_is_stopped_under_load_and_nobody_loses_anything() -> Result<()> {
    let (mut lab, _coordinator, url, join) = owned().await?;
    lab.start_relay_with(&ANY, &["--coordinator", &url, "--join", &join]).await?;
    let (_second, at_second) = relay_beside(&lab, &url).await?;
    let origin = Origin::start().await?;
    let target = origin.address.port().to_string();
    // Two nodes, each at both relays.
    let (_one, _) = lab.node(&target, "steady").await?;
    let (_two, _) = lab.node(&target, "steady").await?;
    served(lab.http).await?;
    served(at_second).await?;
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let host = lab.host("steady");
    let mut visitors = JoinSet::new();
    for number in 0..8 {
        let mut relays = [lab.http, at_second];
        relays.rotate_left(number % 2);
        visitors.spawn(visit_either(relays, host.clone(), Arc::clone(&over), Arc::clone(&count)));
    }
    // Under way at the one that is stopped, each for some three seconds more.
    let mut under_way = JoinSet::new();
    for _ in 0..6 {
        let mut slow = Connection::open(lab.http).await?;
        slow.send(format!("GET /trickle/100/30 HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await?;
        let head = slow.head().await?;
        ensure!(head.status == 200, "{}", head.text);
        under_way.spawn(async move {
            let mut length = 0;
            slow.body(&head, |part| length += part.len()).await.context("an answer under way is cut")?;
            ensure!(length == 30, "{length}");
            anyhow::Ok(())
        });
    }
    let reach = async |many: usize| {
        let reached = async {
            while count.load(Ordering::SeqCst) < many {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.context("the visitors get on")
    };
    reach(200).await?;
    let stopped = lab.relay.take().context("it runs")?.terminate();
    let stopped = tokio::time::timeout(PATIENCE, stopped).await??;
    ensure!(stopped.code == Some(0), "{stopped:?}");
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    let after = count.load(Ordering::SeqCst);
    reach(after + 200).await?;
    over.store(true, Ordering::SeqCst);
    while let Some(done) = visitors.join_next().await {
        done??;
    }
    Ok(())
}
