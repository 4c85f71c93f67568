//! Others on the network who say that they are the host of a spoken code.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use mdns_sd::{ServiceDaemon, ServiceInfo};
use mytunnel_pairing::Link;
use tokio::task::JoinSet;

use crate::{
    lab::{Host, Lab},
    nat::{Kind, Nat},
    pairing::{Agent, BACK},
};

/// How many who answer to a number are tried.
const RESPONDERS: usize = 3;

/// Who says by multicast that hosts of codes with a number are at ports of a machine, until this is dropped.
struct Claim(ServiceDaemon);

impl Claim {
    fn new(of: &Host, number: &str, ports: &[u16]) -> Result<Self> {
        let claim = Self(of.inside(|| Ok(ServiceDaemon::new()?))?);
        for port in ports {
            let (name, fields) = (format!("mallory-{port}"), [("v", "1"), ("n", number)]);
            let (host, ip) = (format!("{name}.local."), IpAddr::from(of.address()));
            let kind = "_mytunnel-pair._tcp.local.";
            claim.0.register(ServiceInfo::new(kind, &name, &host, ip, *port, &fields[..])?)?;
        }
        Ok(claim)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Its thread ends with the test otherwise.
        let _ = self.0.shutdown();
    }
}

#[tokio::test]
async fn who_claims_a_code_of_another_is_tried_among_three_at_most_and_heard_by_nobody() -> Result<()> {
    let lab = Lab::new()?;
    let bridge = lab.router(Nat::new(Kind::Routed))?;
    let (host, guest) = (Agent::start(&lab, &bridge).await?, Agent::start(&lab, &bridge).await?);
    let mallory = Agent::start(&lab, &bridge).await?;
    let opened = host.pair(&["open", "--code", "--goal", "the-hosts-plan"]).await?;
    let code = opened["invites"][0]["text"].as_str().context("a code")?.to_owned();
    let number = code.split('-').next().context("a number")?;

    // Five who take a connection and say nothing, where the host is not.
    host.host.cable.cut()?;
    let (tried, mut doors, mut ports) = (Arc::new(AtomicUsize::new(0)), JoinSet::new(), Vec::new());
    for _ in 0..5 {
        let (door, tried) = (mallory.host.listen()?, Arc::clone(&tried));
        ports.push(door.local_addr()?.port());
        doors.spawn(async move {
            while door.accept().await.is_ok() {
                tried.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let claim = Claim::new(&mallory.host, number, &ports)?;
    let refused = guest.try_to_join(&code).await?;
    ensure!(refused.json()?["code"] == "PAIR_UNREACHABLE", "{refused:?}");
    let tries = tried.load(Ordering::SeqCst);
    ensure!((1..=RESPONDERS).contains(&tries), "{tries} were tried");
    drop(claim);

    // One who answers as a host does, with a session of her own.
    let own = mallory.pair(&["open", "--goal", "mallorys-plan", "--verify", "off"]).await?;
    let link = Link::parse(own["invites"][0]["text"].as_str().context("a link")?)?;
    let tcp = link.addresses.iter().map(ToString::to_string).find(|address| address.contains("/tcp/"));
    let port = tcp.as_deref().and_then(|tcp| tcp.rsplit('/').next()).context("a port")?.parse()?;
    let _claim = Claim::new(&mallory.host, number, &[port])?;
    let refused = guest.try_to_join(&code).await?;
    ensure!(refused.json()?["code"] == "PAIR_SECRET", "{refused:?}");
    ensure!(guest.pair(&["status"]).await?["sessions"].as_array().is_some_and(Vec::is_empty));

    // And the host beside her.
    host.host.cable.heal()?;
    while !guest.pair(&["peers"]).await?["windows"].to_string().contains(&host.host.address().to_string()) {}
    let began = Instant::now();
    let joined = loop {
        let ended = guest.try_to_join(&code).await?;
        // Of two whose answers come long after each other the first may be the only one that is tried.
        if ended.code == Some(0) || began.elapsed() >= BACK {
            break ended.success()?.json()?;
        }
    };
    ensure!(joined["goal"] == "the-hosts-plan" && joined["session"] == opened["session"], "{joined}");
    mallory.pair(&["say", "of-mallory"]).await?;
    host.pair(&["say", "of-the-host"]).await?;
    ensure!(guest.hear(1, BACK).await? == ["of-the-host"]);
    let all = guest.pair(&["log"]).await?.to_string();
    ensure!(all.contains("of-the-host") && !all.contains("mallory"), "{all}");
    let status = mallory.pair(&["status"]).await?;
    ensure!(status["sessions"][0]["members"].as_array().is_some_and(Vec::is_empty), "{status}");
    Ok(())
}
