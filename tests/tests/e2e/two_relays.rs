//! A node is at two relays: one dies, and the visitors of the other do not notice.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::PATIENCE;
use mytunnel_tests::wire::Connection;

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
