//! Nodes that hold valid certificates.

use mytunnel_keys::{
    feed::{Change, Report},
    id::TunnelId,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    route::PipeError,
    testing::{cluster, project},
};

/// Sends a line through a pipe, and answers with what came back: status, tunnel id, line.
async fn echo(tunnel: &Tunnel) -> Vec<u8> {
    let mut pipe = timeout(SOON, tunnel.source().open()).await.unwrap().ok().unwrap();
    pipe.write_all(b"ping").await.unwrap();
    pipe.flush().await.unwrap();
    let mut answer = vec![0; 21];
    timeout(SOON, pipe.read_exact(&mut answer)).await.unwrap().unwrap();
    answer
}

fn is_up(report: &Report) -> Option<TunnelId> {
    if let Report::TunnelUp { tunnel, .. } = report { Some(*tunnel) } else { None }
}

#[tokio::test]
async fn a_registered_name_leads_to_its_node_over_every_transport() {
    let mut lab = Lab::start().await;
    for (number, addr) in [(1, lab.tcp()), (2, lab.quic())] {
        let name = format!("pr-{number}");
        let _node = Node::serve(&addr, &child(number), &name, 1).await;
        let id = TunnelId::derive(&cluster(), &project("a"), &name.parse().unwrap());
        let tunnel = lab.tunnel(&name);
        assert_eq!(*tunnel.id(), id);
        assert_eq!(echo(&tunnel).await, [&[0], id.as_bytes().as_slice(), b"ping"].concat());
        assert_eq!(lab.reports.find(is_up).await, id);
    }
}

#[tokio::test]
async fn a_node_that_leaves_takes_its_route_along_and_its_name_stays_known() {
    let mut lab = Lab::start().await;
    let node = Node::serve(&lab.tcp(), &child(1), "web", 1).await;
    let tunnel = lab.tunnel("web");
    drop(node);
    timeout(SOON, tunnel.closed()).await.expect("closed in time");
    lab.until(|status| status.tunnels == 0).await;
    assert!(matches!(lab.relay.routes().find("web"), Lookup::Away));
    lab.reports.find(|report| matches!(report, Report::TunnelDown { .. }).then_some(())).await;
}

#[tokio::test]
async fn a_node_that_comes_back_replaces_its_half_dead_self() {
    let lab = Lab::start().await;
    let child = child(1);
    let old = Node::serve(&lab.tcp(), &child, "web", 7).await;
    let before = lab.tunnel("web");

    let _new = Node::serve(&lab.tcp(), &child, "web", 7).await;
    timeout(SOON, before.closed()).await.expect("closed in time");
    let after = lab.tunnel("web");
    assert_eq!(after.id(), before.id());
    assert_eq!(echo(&after).await.len(), 21);
    lab.until(|status| status.nodes == 1).await;
    drop(old);
}

#[tokio::test]
async fn pipes_beyond_the_bound_of_a_connection_are_busy() {
    let lab = Lab::start_with(|config| config.limits.pipes_per_connection = 2).await;
    let _node = Node::serve(&lab.tcp(), &child(1), "web", 1).await;
    let tunnel = lab.tunnel("web");
    let first = tunnel.source().open().await;
    let _second = tunnel.source().open().await;
    assert!(matches!(tunnel.source().open().await, Err(PipeError::Busy)));
    drop(first);
    assert_eq!(echo(&tunnel).await.len(), 21);
}

#[tokio::test]
async fn a_node_is_served_from_the_first_word_of_the_coordinator_on() {
    let (coordinator, _reports) = TestCoordinator::new();
    coordinator.set_reachable(false);
    let relay = Relay::start(config(coordinator.clone())).await.unwrap();
    let addr = relay.addrs().p2p[0].clone();

    let (_refused, answer) = Node::hello(&addr, &child(1)).await;
    assert_eq!(code_of(answer), Code::RelayStale);
    coordinator.set_reachable(true);
    let admitted =
        async { while !matches!(Node::hello(&addr, &child(1)).await.1, Some(ToNode::Welcome { .. })) {} };
    timeout(SOON, admitted).await.expect("admitted in time");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_coordinator_that_was_away_is_told_anew_what_is_live() {
    let mut lab = Lab::start().await;
    let _node = Node::serve(&lab.tcp(), &child(1), "web", 1).await;
    lab.reports.find(is_up).await;
    lab.coordinator.set_reachable(false);
    lab.coordinator.set_reachable(true);
    lab.reports.find(|report| matches!(report, Report::Applied { epoch: 0, closed: 0 }).then_some(())).await;
    lab.reports.find(is_up).await;
    assert!(!lab.tunnel("web").is_closed());
}

#[tokio::test]
async fn no_name_is_unknown_before_the_first_word_of_the_coordinator() {
    let (coordinator, _reports) = TestCoordinator::new();
    coordinator.change(Change::Name { name: name("web"), project: project("a"), kind: None });
    coordinator.set_reachable(false);
    let relay = Relay::start(config(coordinator.clone())).await.unwrap();
    let routes = relay.routes();
    assert!(matches!(routes.find("web"), Lookup::Away) && matches!(routes.find("none"), Lookup::Away));
    coordinator.set_reachable(true);
    let told = routes.wait_live("none", SOON).await;
    assert!(matches!(told, Lookup::Unknown), "{told:?}");
    assert!(matches!(routes.find("web"), Lookup::Away));
    relay.shutdown().await;
}

#[tokio::test]
async fn a_relay_started_anew_gives_nodes_time_to_bring_names_that_nobody_stored() {
    let (dir, child) = (tempfile::tempdir().unwrap(), child(1));
    let start = |patience| {
        let data_dir = Some(dir.path().to_owned());
        Lab::unheard(move |config| {
            config.data_dir = data_dir;
            config.limits.ingress.away_patience = patience;
        })
    };
    let heard = |status: &Status| status.clock_offset.is_some();
    let first = start(SOON).await;
    assert!(matches!(first.relay.routes().wait_live("pr-1", SOON).await, Lookup::Unknown));
    first.relay.shutdown().await;

    let again = start(SOON).await;
    again.until(heard).await;
    assert!(matches!(again.relay.routes().find("pr-1"), Lookup::Away));
    let (tcp, routes) = (again.tcp(), again.relay.routes());
    let (found, _node) = tokio::join!(routes.wait_live("pr-1", SOON), Node::serve(&tcp, &child, "pr-1", 1));
    assert!(matches!(found, Lookup::Live(_)), "{found:?}");
    again.relay.shutdown().await;

    let late = start(Duration::from_millis(20)).await;
    let told = late.relay.routes().wait_live("pr-1", SOON).await;
    assert!(matches!(told, Lookup::Unknown), "{told:?}");
    late.relay.shutdown().await;
}

#[tokio::test]
async fn who_is_admitted_is_told_where_it_is_seen_on_each_of_its_connections_and_nobody_else() {
    let lab = Lab::start().await;
    let stranger = Node::connect(&lab.tcp(), &child(2)).await;
    assert_eq!(stranger.whereami().await, None);
    for addr in [lab.tcp(), lab.quic()] {
        let (node, _) = Node::hello(&addr, &child(1)).await;
        let first = node.whereami().await.expect("an admitted peer is told").address;
        assert_eq!(node.whereami().await.expect("and again").address, first);
        // One that has said nothing itself, of the same peer.
        let second = Node::connect(&addr, &child(1)).await.whereami().await.expect("the peer is admitted");
        assert!(first.ip().is_loopback() && second.address.ip().is_loopback());
        assert_ne!(first.port(), second.address.port());
    }
}
