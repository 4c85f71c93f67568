//! A whole relay in this process, with nodes and strangers over real sockets.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks out what it looks for")]

mod budgets;
mod circuits;
#[cfg(target_os = "linux")]
mod crowd;
mod nodes;
mod ports;
mod renewal;
mod rights;
mod strangers;
mod websockets;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use mytunnel_keys::{certificate::Claims, error::Code, id::TunnelName, wire::ToNode};
use tokio::{net::TcpListener, time::timeout};

use super::*;
use crate::{
    Authority,
    acme::AcmeConfig,
    route::{Lookup, Tunnel},
    testing::{
        Credential, child_claims,
        coordinator::{Reports, TestCoordinator, unix_now},
        node::Node,
        relay_claims, trust_now,
    },
};

const SOON: Duration = Duration::from_secs(10);

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn config(authority: impl Authority + 'static) -> Config {
    let now = unix_now();
    let relay = Credential::issue(150, relay_claims(150, now));
    let mut config = Config::new(relay.seed, relay.certificate, trust_now(), Arc::new(authority));
    config.http = Some(any_port());
    config.p2p = vec![any_port()];
    // A test in which somebody is dropped for silence says so: on a busy machine honest clients take their time, too.
    config.limits.patience = SOON * 6;
    config
}

/// A relay that follows a coordinator of its own.
struct Lab {
    relay: Relay,
    coordinator: TestCoordinator,
    reports: Reports,
}

impl Lab {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// As the relay's `config` is changed here, once it has heard from its coordinator.
    async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let lab = Self::unheard(change).await;
        // A relay waits a second for the coordinator's first word, which on a busy machine may be too short.
        lab.until(|status| status.clock_offset.is_some()).await;
        lab
    }

    /// A relay that may not have heard from its coordinator yet.
    async fn unheard(change: impl FnOnce(&mut Config)) -> Self {
        let (coordinator, reports) = TestCoordinator::new();
        let mut config = config(coordinator.clone());
        change(&mut config);
        let relay = Relay::start(config).await.unwrap();
        Self { relay, coordinator, reports }
    }

    fn tcp(&self) -> Multiaddr {
        self.addr("/tcp/")
    }

    fn quic(&self) -> Multiaddr {
        self.addr("/quic-v1")
    }

    fn addr(&self, kind: &str) -> Multiaddr {
        let mut addrs = self.relay.addrs().p2p.iter();
        addrs.find(|addr| addr.to_string().contains(kind)).unwrap().clone()
    }

    fn tunnel(&self, name: &str) -> Arc<Tunnel> {
        match self.relay.routes().find(name) {
            Lookup::Live(tunnel) => tunnel,
            other => panic!("{name} is {other:?}"),
        }
    }

    /// Waits until the relay says so of itself.
    async fn until(&self, what: impl FnMut(&Status) -> bool) {
        timeout(SOON, self.relay.status().wait_for(what)).await.expect("in time").expect("the relay runs");
    }
}

fn child(number: u8) -> Credential {
    Credential::issue(number, child_claims(number, unix_now()))
}

fn issued(number: u8, change: impl FnOnce(Claims) -> Claims) -> Credential {
    Credential::issue(number, change(child_claims(number, unix_now())))
}

fn code_of(message: Option<ToNode>) -> Code {
    match message {
        Some(ToNode::Refused { code, .. } | ToNode::Closed { code, .. } | ToNode::Goodbye { code, .. }) => {
            code
        }
        other => panic!("{other:?}"),
    }
}

fn name(text: &str) -> TunnelName {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_addresses_are_the_bound_ones() {
    let lab = Lab::start().await;
    let addrs = lab.relay.addrs();
    assert_ne!(addrs.http.unwrap().port(), 0);
    assert_eq!(addrs.https, None);
    assert_eq!(addrs.id, lab.relay.addrs().id);
    let port = |addr: &Multiaddr, at: usize| addr.to_string().split('/').nth(at).unwrap().to_owned();
    // Unless somebody else has that of QUIC, which is not so one time after the other.
    for round in 1..=3 {
        let lab = Lab::start().await;
        if port(&lab.tcp(), 4) == port(&lab.quic(), 4) {
            break;
        }
        assert!(round < 3, "QUIC and TCP share a port");
    }
    let id = mytunnel_carrier::peer_id(&addrs.id);
    assert!(addrs.p2p.iter().all(|addr| addr.to_string().ends_with(&format!("/p2p/{id}"))));
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_named() {
    let (coordinator, _reports) = TestCoordinator::new();
    let first = Relay::start(config(coordinator.clone())).await.unwrap();
    let taken = first.addrs().http;
    let error = Relay::start(Config { http: taken, ..config(coordinator.clone()) }).await.unwrap_err();
    assert!(matches!(error, StartError::Bind { addr, .. } if Some(addr) == taken), "{error}");

    let (mut acme, data) = (AcmeConfig::new(String::new()), tempfile::tempdir().unwrap());
    acme.dns = taken;
    let (https, data_dir) = (Some(any_port()), Some(data.path().to_owned()));
    let named = Config { https, data_dir, acme: Some(acme), ..config(coordinator.clone()) };
    let error = Relay::start(named).await.unwrap_err();
    assert!(
        matches!(error, StartError::Bind { addr, .. } if Some(addr) == taken),
        "the name server: {error}"
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    let (https, data_dir) = (Some(any_port()), Some(file.path().to_owned()));
    let error = Relay::start(Config { https, data_dir, ..config(coordinator.clone()) }).await.unwrap_err();
    assert!(matches!(error, StartError::LocalCa(_) | StartError::Memory(_)), "{error}");

    let child = child(1);
    let (seed, certificate) = (child.seed, child.certificate);
    let error = Relay::start(Config { seed, certificate, ..config(coordinator.clone()) }).await.unwrap_err();
    assert!(matches!(error, StartError::NotARelay), "{error}");

    let error = Relay::start(Config { certificate: Vec::new(), ..config(coordinator) }).await.unwrap_err();
    assert!(matches!(error, StartError::Certificate(_)), "{error}");
    first.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_tells_nodes_and_frees_the_sockets() {
    let lab = Lab::start().await;
    let mut node = Node::serve(&lab.tcp(), &child(1), "web", 1).await;
    let tunnel = lab.tunnel("web");
    let http = lab.relay.addrs().http.unwrap();
    let p2p = lab.tcp();

    timeout(SOON, lab.relay.shutdown()).await.expect("ends in time");
    assert_eq!(code_of(node.hear().await), Code::RelayUnreachable);
    node.closed().await;
    assert!(tunnel.is_closed());
    TcpListener::bind(http).await.unwrap();
    let port = p2p.to_string().split('/').nth(4).unwrap().parse().unwrap();
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
}
