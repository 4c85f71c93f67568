//! What a public share survives: same name, same tunnel, same process, and a bound for how long visitors wait.
//!
//! Each bound is the book's (`survival.md`), and holds on a machine with more to do than this.

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use crate::{
    lab::proxy,
    nat::{Egress, Nat},
    world::{World, home},
};

/// Twice what the slowest takes, on a machine that builds something at the same time.
const BOUND: Duration = Duration::from_secs(6);

/// The same over WebSockets, which are dialled half a second after the others, and take more round trips.
const BOUND_OF_WEBSOCKETS: Duration = Duration::from_secs(10);

/// How long a node waits for other ways before it takes a WebSocket.
const LAST_RESORT: Duration = Duration::from_secs(5);

/// A home whose firewall lets no TCP through to the relay's port for nodes, so that they use QUIC.
fn quic_only() -> Nat {
    home().with_egress(Egress::UdpAndTcp(&[80]))
}

/// A home whose firewall lets out nothing but HTTP and HTTPS, so that they use WebSockets.
fn web_only() -> Nat {
    home().with_egress(Egress::TcpTo(&[80, 443]))
}

/// Breaks something under a share over each carrier, and waits until visitors are served again.
async fn survives(what: &str, breaking: impl AsyncFn(&mut World) -> Result<()>) -> Result<()> {
    for (carrier, nat) in [("tcp", home()), ("quic", quic_only()), ("a WebSocket", web_only())] {
        let mut world = World::start(nat).await?;
        let is_websocket = world.ready["relay"].as_str().is_some_and(|at| at.contains("/ws"));
        ensure!(is_websocket == (carrier == "a WebSocket"), "{}", world.ready);
        breaking(&mut world).await?;
        let bound = if is_websocket { BOUND_OF_WEBSOCKETS } else { BOUND };
        let took = world.served_within(bound).await?;
        world.is_the_same().await?;
        writeln!(io::stdout(), "{what} over {carrier}: served after {took:?}")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_router_that_starts_anew() -> Result<()> {
    survives("router restart", async |world| world.home.rebind()).await
}

#[tokio::test]
async fn a_new_address_from_the_provider() -> Result<()> {
    survives("new address", async |world| world.home.readdress()).await
}

#[tokio::test]
async fn another_wireless_network() -> Result<()> {
    survives("another network", async |world| {
        let cafe = world.lab.router(world.home.nat().clone())?;
        world.lab.roam(&mut world.machine, &cafe)
    })
    .await
}

#[tokio::test]
async fn a_relay_that_starts_anew() -> Result<()> {
    survives("relay restart", async |world| {
        world.deployment.kill_relay().await?;
        world.start_relay().await
    })
    .await
}

#[tokio::test]
async fn a_relay_that_moves_with_its_name() -> Result<()> {
    survives("relay at another address", async |world| {
        let internet = Arc::clone(world.relay.cable.segment());
        world.relay.cable.replug(&internet)?;
        world.follow_relay()
    })
    .await
}

#[tokio::test]
async fn udp_that_is_blocked_all_at_once() -> Result<()> {
    let mut world = World::start(quic_only()).await?;
    world.home.change(home().with_egress(Egress::Tcp))?;
    let took = world.served_within(BOUND).await?;
    world.is_the_same().await?;
    writeln!(io::stdout(), "UDP blocked: served after {took:?}")?;
    Ok(())
}

#[tokio::test]
async fn everything_but_https_that_is_blocked_all_at_once() -> Result<()> {
    let mut world = World::start(home()).await?;
    let began = Instant::now();
    world.home.change(web_only())?;
    // What has lanes at the port of HTTPS serves meanwhile.
    let back = tokio::time::timeout(BOUND + LAST_RESORT, world.node.event("ready")).await;
    let back = back.context("it does not come back")??;
    ensure!(back["relay"].as_str().is_some_and(|at| at.contains("/ws")), "{back}");
    let took = began.elapsed();
    world.served_within(BOUND).await?;
    world.is_the_same().await?;
    writeln!(io::stdout(), "all but HTTPS blocked: back after {took:?}")?;
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_is_the_only_way_out() -> Result<()> {
    let world = World::behind_proxy(home().with_egress(Egress::TcpTo(&[proxy::PORT]))).await?;
    world.is_the_same().await
}

#[tokio::test]
async fn half_a_minute_without_a_network() -> Result<()> {
    survives("30 s without a network", async |world| {
        world.machine.cable.cut()?;
        // The outage itself, which nothing announces.
        tokio::time::sleep(Duration::from_secs(30)).await;
        world.machine.cable.heal()
    })
    .await
}

#[tokio::test]
async fn a_machine_that_sleeps() -> Result<()> {
    survives("30 s of sleep", async |world| {
        world.signal(Signal::SIGSTOP)?;
        // The sleep itself.
        tokio::time::sleep(Duration::from_secs(30)).await;
        world.signal(Signal::SIGCONT)
    })
    .await
}

#[tokio::test]
async fn a_machine_that_wakes_up_elsewhere() -> Result<()> {
    survives("asleep from one network to another", async |world| {
        world.signal(Signal::SIGSTOP)?;
        let cafe = world.lab.router(world.home.nat().clone())?;
        world.lab.roam(&mut world.machine, &cafe)?;
        world.signal(Signal::SIGCONT)
    })
    .await
}
