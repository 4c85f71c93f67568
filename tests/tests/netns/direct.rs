//! Direct paths between two nodes: where theory lets them be, and where it does not; and what a running transfer survives.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::time::timeout;

use crate::{
    lab::{Lab, mapper::Speaks},
    nat::{Egress, Kind, Nat},
    pair::{Accessor, Between, Home, Sharer, TRANSFER},
};

/// What is aimed at from the moment in which a share is in reach.
const GOAL: Duration = Duration::from_secs(2);

/// Twice that, on a machine with more to do than this.
const BOUND: Duration = Duration::from_secs(4);

/// When one of all pairs at the same time has gone through two attempts.
const DECIDED: Duration = Duration::from_secs(40);

/// TCP to the relay, and to nobody else.
const QUIC_ALONE: Egress = Egress::UdpAndTcp(&[80, 4001]);

const TRANSLATING: [Kind; 4] = [Kind::FullCone, Kind::Restricted, Kind::PortRestricted, Kind::Symmetric];

/// Whether two NATs let their hosts meet.
fn theory(one: Kind, other: Kind) -> bool {
    let hard = |kind| matches!(kind, Kind::PortRestricted | Kind::Symmetric);
    !((one == Kind::Symmetric && hard(other)) || (other == Kind::Symmetric && hard(one)))
}

fn say(what: std::fmt::Arguments<'_>) -> Result<()> {
    Ok(writeln!(io::stdout(), "{what}")?)
}

/// Two homes, of which the second shares and the first reaches it.
struct Two {
    between: Between,
    homes: [Home; 2],
    sharer: Sharer,
    accessor: Accessor,
}

impl Two {
    async fn start(nats: [Nat; 2]) -> Result<Self> {
        Self::start_after(nats, |_| Ok(())).await
    }

    async fn start_after(nats: [Nat; 2], before: impl FnOnce(&mut [Home; 2]) -> Result<()>) -> Result<Self> {
        let between = Between::start(Lab::new()?).await?;
        let [one, two] = nats;
        let mut homes = [Home::new(&between.lab, one)?, Home::new(&between.lab, two)?];
        before(&mut homes)?;
        let sharer = between.share(&homes[1].machine, "box", &[]).await?;
        let accessor = between.access(&homes[0].machine, "box", &[]).await?;
        Ok(Self { between, homes, sharer, accessor })
    }
}

/// Every pair of NATs at the same time: what is shared behind one of each kind is reached from behind one of each kind.
async fn every_pair(what: &str, egress: Egress) -> Result<()> {
    let between = Between::start(Lab::new()?).await?;
    let home = |kind| Home::new(&between.lab, Nat::new(kind).with_egress(egress));
    let mut sharing = Vec::new();
    for (number, kind) in TRANSLATING.into_iter().enumerate() {
        let (home, name) = (home(kind)?, format!("box{number}"));
        let sharer = between.share(&home.machine, &name, &[]).await?;
        sharing.push((kind, name, home, sharer));
    }
    let mut failures = Vec::new();
    for one in TRANSLATING {
        let reaching = home(one)?;
        let mut accessors = Vec::new();
        for (other, name, ..) in &sharing {
            accessors.push((*other, between.access(&reaching.machine, name, &[]).await?));
        }
        for (other, mut accessor) in accessors {
            let is_possible = theory(one, other);
            // A first attempt may fail where a relay's answer over UDP comes late; there are others.
            let decided = accessor.path(|taken| {
                taken.path == "direct" || !is_possible && taken.reason.contains("symmetric NAT")
            });
            let Ok(decided) = timeout(DECIDED, decided).await else {
                failures.push(format!("{one:?} to {other:?}: undecided\n{}", accessor.node.stderr()));
                continue;
            };
            let (taken, took) = decided?;
            say(format_args!(
                "{what}: {one:?} to {other:?}: {} ({}) after {took:?}",
                taken.path, taken.reason
            ))?;
            let is_right = match is_possible {
                true => taken.path == "direct" && taken.reason == "punched",
                false => taken.path == "relayed" && taken.reason.contains("symmetric NAT"),
            };
            if !is_right {
                failures.push(format!("{one:?} to {other:?}: {taken:?}\n{}", accessor.node.stderr()));
            }
        }
    }
    ensure!(failures.is_empty(), "{what}: {}", failures.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pair_of_nats_that_theory_lets_through_is_punched_over_quic() -> Result<()> {
    every_pair("QUIC", QUIC_ALONE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pair_of_nats_that_theory_lets_through_is_punched_over_tcp() -> Result<()> {
    every_pair("TCP", Egress::Tcp).await
}

/// How often what is measured is done: `DIRECT_RUNS`, or a few times.
fn runs() -> usize {
    std::env::var("DIRECT_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(3)
}

/// Both homes 20 ms from the middle, so that a packet takes 80 ms to the other node and back.
fn far(homes: &mut [Home; 2]) -> Result<()> {
    homes.iter_mut().try_for_each(|home| home.router.wan.delay(Duration::from_millis(20)))
}

/// Reaches the share again and again, and says how long it took until that was direct.
async fn measure(what: &str, two: &Two) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..runs() {
        let mut accessor = two.between.access(&two.homes[0].machine, "box", &[]).await?;
        times.push(accessor.direct().await?.1);
    }
    times.sort_unstable();
    let late = times.iter().filter(|took| **took > GOAL).count();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    say(format_args!(
        "{what}: {} runs, median {median:?}, worst {worst:?}, {late} over {GOAL:?}",
        times.len()
    ))?;
    Ok(times)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_eighty_milliseconds_it_is_direct_within_two_seconds() -> Result<()> {
    for (what, nat) in [("80 ms", Nat::new(Kind::PortRestricted)), ("80 ms, TCP", by_tcp())] {
        let two = Two::start_after([nat.clone(), nat], far).await?;
        let times = measure(what, &two).await?;
        ensure!(times.iter().all(|took| *took < BOUND), "{what}: {times:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_packets_are_lost_it_is_direct_all_the_same() -> Result<()> {
    let lossy = |homes: &mut [Home; 2]| {
        far(homes)?;
        homes.iter().try_for_each(|home| home.router.wan.lose(2))
    };
    let two = Two::start_after([Nat::new(Kind::PortRestricted), Nat::new(Kind::Restricted)], lossy).await?;
    measure("80 ms, 2 % lost at each home, each way", &two).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_one_router_it_is_the_local_network() -> Result<()> {
    let between = Between::start(Lab::new()?).await?;
    let home = Home::new(&between.lab, Nat::new(Kind::PortRestricted))?;
    let neighbour = between.lab.host_behind(&home.router)?;
    let _sharer = between.share(&neighbour, "box", &[]).await?;
    let mut accessor = between.access(&home.machine, "box", &[]).await?;
    let (taken, took) = accessor.direct().await?;
    say(format_args!("one network: {taken:?} after {took:?}"))?;
    ensure!(taken.reason == "lan", "{taken:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_of_other_kinds_are_direct_as_well() -> Result<()> {
    let between = Between::start(Lab::dual()?).await?;
    let (lab, home) = (&between.lab, Nat::new(Kind::PortRestricted));
    let public = lab.host()?;
    let guarded = Home::new(lab, Nat::new(Kind::PortRestricted))?;
    let carrier = lab.router(home.clone())?;
    let inner = lab.router_behind(&carrier, home.clone())?;
    let customer = lab.host_behind(&inner)?;
    let blocked = Home::new(lab, home.clone().with_egress(Egress::Tcp))?;
    let keeps_none = Home::new(lab, home.clone().with_random_ports())?;
    let _sharer = between.share(&guarded.machine, "box", &[]).await?;
    let _open = between.share(&public, "open", &[]).await?;
    for (what, machine, name, reasons) in [
        ("IPv6", &keeps_none.machine, "box", &["ipv6"][..]),
        ("a public address", &guarded.machine, "open", &["ipv6", "public address"]),
        ("behind a carrier's NAT", &customer, "box", &["ipv6", "punched"]),
        ("UDP blocked", &blocked.machine, "box", &["ipv6", "punched"]),
    ] {
        let mut accessor = between.access(machine, name, &[]).await?;
        let (taken, took) = accessor.direct().await?;
        say(format_args!("{what}: {taken:?} after {took:?}"))?;
        ensure!(reasons.contains(&taken.reason.as_str()), "{what}: {taken:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ipv6_networks_of_other_kinds_are_punched() -> Result<()> {
    let between = Between::start(Lab::new()?).await?;
    let (lab, home) = (&between.lab, Nat::new(Kind::PortRestricted));
    let carrier = lab.router(home.clone())?;
    let inner = lab.router_behind(&carrier, home.clone())?;
    let customer = lab.host_behind(&inner)?;
    let blocked = Home::new(lab, home.clone().with_egress(Egress::Tcp))?;
    let keeps_none = [home.clone().with_random_ports(), home.clone().with_random_ports()];
    let [keeps_none, as_well] = keeps_none.map(|nat| Home::new(lab, nat));
    let (keeps_none, as_well) = (keeps_none?, as_well?);
    let _sharer = between.share(&as_well.machine, "box", &[]).await?;
    for (what, machine) in [
        ("behind a carrier's NAT", &customer),
        ("UDP blocked at one end", &blocked.machine),
        ("ports that are not kept", &keeps_none.machine),
    ] {
        let mut accessor = between.access(machine, "box", &[]).await?;
        let (taken, took) = accessor.direct().await?;
        say(format_args!("{what}: {taken:?} after {took:?}"))?;
        ensure!(taken.reason == "punched", "{what}: {taken:?}");
    }
    Ok(())
}

/// Where nothing but HTTPS leads out, no direct path can be, and the relay's leads through WebSockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_networks_that_let_out_nothing_but_https_the_relay_carries() -> Result<()> {
    let between = Between::start(Lab::new()?).await?;
    let home = || {
        let nat = Nat::new(Kind::PortRestricted).with_egress(Egress::TcpTo(&[80, 443]));
        Home::new(&between.lab, nat)
    };
    let (here, there) = (home()?, home()?);
    let sharer = between.share(&there.machine, "box", &[]).await?;
    let mut accessor = between.access(&here.machine, "box", &[]).await?;
    let (taken, took) = accessor.path(|taken| taken.path == "relayed").await?;
    say(format_args!("nothing but HTTPS: {taken:?} after {took:?}"))?;
    accessor.connect(&here.machine)?.whole(4 << 20).await.with_context(|| sharer.node.stderr())
}

/// What a router leads is given back: miniupnpd takes its rules away before it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_is_asked_for_a_port_makes_direct_what_no_punch_could() -> Result<()> {
    for (what, egress, speaks) in [
        ("QUIC", QUIC_ALONE, Speaks::Packets),
        ("TCP", Egress::Tcp, Speaks::Packets),
        ("QUIC by UPnP", QUIC_ALONE, Speaks::Upnp),
        ("TCP by UPnP", Egress::Tcp, Speaks::Upnp),
    ] {
        let nat = Nat::new(Kind::Symmetric).with_egress(egress);
        let between = Between::start(Lab::new()?).await?;
        let (here, there) = (Home::new(&between.lab, nat.clone())?, Home::new(&between.lab, nat)?);
        let mapper = there.router.map_ports(speaks, true)?;
        let sharer = between.share(&there.machine, "box", &[]).await?;
        let mut accessor = between.access(&here.machine, "box", &[]).await?;
        let (taken, took) = accessor.direct().await?;
        say(format_args!("mapped, {what}: {taken:?} after {took:?}"))?;
        ensure!(taken.reason == "mapped", "{taken:?}\n{}", accessor.node.stderr());
        ensure!(mapper.count()? > 0, "no port is led anywhere");
        sharer.node.terminate().await?;
        ensure!(mapper.count()? == 0, "{} ports are left", mapper.count()?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_gives_no_port_changes_nothing() -> Result<()> {
    let between = Between::start(Lab::new()?).await?;
    let home = || Home::new(&between.lab, Nat::new(Kind::Symmetric));
    let here = home()?;
    for (name, speaks) in [("packets", Speaks::Packets), ("upnp", Speaks::Upnp)] {
        let there = home()?;
        let mapper = there.router.map_ports(speaks, false)?;
        let _sharer = between.share(&there.machine, name, &[]).await?;
        let mut accessor = between.access(&here.machine, name, &[]).await?;
        accessor.relayed("symmetric NAT at both ends").await?;
        let rows = between.doctor(&there.machine).await?;
        let row = rows.iter().find(|row| row["name"] == "router").context("a row of the router")?;
        let says = row["message"].as_str().context("a message")?;
        ensure!(says.contains("by UPnP: it refuses") == (speaks == Speaks::Upnp), "{row}");
        ensure!(mapper.count()? == 0, "a port is led somewhere");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_want_it_shows_no_address_and_says_so() -> Result<()> {
    let between = Between::start(Lab::new()?).await?;
    let home = Home::new(&between.lab, Nat::new(Kind::PortRestricted))?;
    let neighbour = between.lab.host_behind(&home.router)?;
    let _willing = between.share(&neighbour, "willing", &[]).await?;
    let _unwilling = between.share(&neighbour, "unwilling", &["--no-direct"]).await?;
    let mut first = between.access(&home.machine, "willing", &["--no-direct"]).await?;
    let mut second = between.access(&home.machine, "unwilling", &[]).await?;
    first.relayed("direct paths are switched off here").await?;
    second.relayed("direct paths are switched off at the other end").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_vanishes_and_a_transfer_over_the_direct_path_goes_on() -> Result<()> {
    let mut two = Two::start([Nat::new(Kind::PortRestricted), Nat::new(Kind::Restricted)]).await?;
    two.accessor.direct().await?;
    let Two { between, homes, accessor, .. } = &two;
    let machine = &homes[0].machine;
    let pause = accessor.connect(machine)?.run(24 << 20, async || between.relay.cable.cut()).await?;
    say(format_args!("relay vanished: {pause:?} without a byte"))?;
    accessor.connect(machine)?.whole(1 << 20).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_is_blocked_all_at_once_under_a_transfer() -> Result<()> {
    let mut two = Two::start([by_quic(), by_quic()]).await?;
    two.accessor.direct().await?;
    let Two { homes: [home, _], accessor, .. } = &mut two;
    let transfer = accessor.connect(&home.machine)?;
    let pause = transfer.run(24 << 20, async || home.router.change(by_tcp())).await?;
    let (taken, _) = accessor.path(|taken| taken.path == "relayed").await?;
    say(format_args!("UDP blocked all at once: {pause:?} without a byte, then {taken:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_direct_path_can_be_any_more_and_a_transfer_goes_on_through_the_relay() -> Result<()> {
    let mut two = Two::start([Nat::new(Kind::PortRestricted), Nat::new(Kind::PortRestricted)]).await?;
    two.accessor.direct().await?;
    let Two { homes: [home, _], accessor, .. } = &mut two;
    let transfer = accessor.connect(&home.machine)?;
    let pause = transfer.run(24 << 20, async || home.router.set(Nat::new(Kind::Symmetric))).await?;
    let (taken, _) = accessor.path(|taken| taken.path == "relayed").await?;
    say(format_args!("another router: {pause:?} without a byte, then {taken:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_router_starts_anew_under_a_transfer() -> Result<()> {
    for (carrier, nat) in [("tcp", by_tcp()), ("quic", by_quic())] {
        let mut two = Two::start([nat.clone(), nat]).await?;
        two.accessor.direct().await?;
        let Two { homes: [home, _], accessor, .. } = &mut two;
        let pause = accessor.connect(&home.machine)?.run(24 << 20, async || home.router.rebind()).await?;
        say(format_args!("router started anew, direct over {carrier}: {pause:?} without a byte"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machine_moves_to_another_network_under_a_transfer() -> Result<()> {
    for (carrier, nat) in [("tcp", by_tcp()), ("quic", by_quic())] {
        let mut two = Two::start([nat.clone(), nat]).await?;
        two.accessor.direct().await?;
        let Two { between, homes: [home, _], accessor, .. } = &mut two;
        let cafe = between.lab.router(Nat::new(Kind::Restricted))?;
        let transfer = accessor.connect(&home.machine)?;
        let pause = transfer.run(24 << 20, async || between.lab.roam(&mut home.machine, &cafe)).await?;
        let (taken, _) = accessor.direct().await?;
        say(format_args!("another network, from {carrier}: {pause:?} without a byte, then {taken:?}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_knows_what_kind_of_router_there_is() -> Result<()> {
    let between = Between::start(Lab::new()?).await?;
    let port_restricted = || Nat::new(Kind::PortRestricted);
    let homes = [
        (port_restricted(), "ok", "cone"),
        (Nat::new(Kind::Symmetric), "warning", "symmetric"),
        (Nat::new(Kind::Firewall), "ok", "none"),
        (port_restricted().with_egress(Egress::Tcp), "warning", "UDP does not get through"),
    ];
    for (nat, state, message) in homes {
        let home = Home::new(&between.lab, nat.clone())?;
        let checks = between.doctor(&home.machine).await?;
        let told = checks.iter().find(|check| check["name"] == "nat").context("a look at the NAT")?;
        let is_right =
            told["state"] == state && told["message"].as_str().is_some_and(|said| said.contains(message));
        ensure!(is_right, "{nat:?}: {told}");
    }
    Ok(())
}

/// A node that does not listen to its relay stands still: what cuts it off has to come from the other end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_revoked_loses_its_direct_path_at_once_whatever_its_own_node_does() -> Result<()> {
    const AT_ONCE: Duration = Duration::from_secs(3);
    let nat = || Nat::new(Kind::PortRestricted);
    let mut two = Two::start([nat(), nat()]).await?;
    two.accessor.direct().await?;
    let _open = two.accessor.connect(&two.homes[0].machine)?;
    two.sharer.until_open(1, TRANSFER).await?;
    two.accessor.node.stand_still().await?;
    let key = two.accessor.key.clone();
    two.between.revoke(&key).await?;
    two.sharer.until_open(0, AT_ONCE).await?;

    let mut two = Two::start([nat(), nat()]).await?;
    two.accessor.direct().await?;
    let _open = two.accessor.connect(&two.homes[0].machine)?;
    two.sharer.until_open(1, TRANSFER).await?;
    two.sharer.node.stand_still().await?;
    two.between.revoke(&two.sharer.key).await?;
    let told = timeout(AT_ONCE, two.accessor.node.event("reconnecting")).await??;
    let reason = told["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("counts no longer"), "{told}");
    Ok(())
}

/// A home from which nodes reach each other by TCP alone.
fn by_tcp() -> Nat {
    Nat::new(Kind::PortRestricted).with_egress(Egress::Tcp)
}

/// A home from which they do so by QUIC alone.
fn by_quic() -> Nat {
    Nat::new(Kind::PortRestricted).with_egress(QUIC_ALONE)
}
