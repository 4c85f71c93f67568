//! What a public share survives: same name, same tunnel, same process, and a bound for how long visitors wait.
//!
//! Each bound is the book's (`survival.md`), and holds on a machine with more to do than this.

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::{
    nat::{Egress, Nat},
    world::{World, home},
};

/// Twice what the slowest takes, on a machine that builds something at the same time.
const BOUND: Duration = Duration::from_secs(6);

/// A home whose firewall lets no TCP through to the relay's port for nodes, so that they use QUIC.
fn quic_only() -> Nat {
    home().with_egress(Egress::UdpAndTcp(&[80]))
}

/// Breaks something under a share over TCP and under one over QUIC, and waits until visitors are served again.
async fn survives(what: &str, breaking: impl AsyncFn(&mut World) -> Result<()>) -> Result<()> {
    for (carrier, nat) in [("tcp", home()), ("quic", quic_only())] {
        let mut world = World::start(nat).await?;
        breaking(&mut world).await?;
        let took = world.served_within(BOUND).await?;
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
