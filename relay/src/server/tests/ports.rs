//! TCP and UDP tunnels: visitors at ports of their own.

use std::sync::atomic::{AtomicU16, Ordering};

use mytunnel_carrier::greeting::{Greeting, Transport};
use mytunnel_keys::{
    feed::{BasicGate, Change, Gates},
    id::{TunnelId, TunnelKind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{
    PublicPorts,
    testing::{cluster, device_claims, project, serial},
};

/// How many ports a relay here has.
const PORTS: u16 = 100;

/// Each relay has a range of its own: they all serve one tunnel, whose first port would be the same.
fn with_ports(config: &mut Config) {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let first = NEXT.fetch_add(PORTS, Ordering::Relaxed);
    let range = format!("{first}-{}", first + PORTS - 1).parse().unwrap();
    config.ports = Some(PublicPorts { ip: Ipv4Addr::LOCALHOST.into(), range });
}

fn device(number: u8) -> Credential {
    let claims = Claims { project: Some(project("a")), ..device_claims(number, unix_now()) };
    Credential::issue(number, claims)
}

/// A node that serves `db`, and the address of its port.
async fn served(lab: &Lab) -> (Node, SocketAddr) {
    let (mut node, _) = Node::hello(&lab.tcp(), &device(1)).await;
    match node.ask("db", TunnelKind::Tcp, 1, None).await {
        Some(ToNode::Registered { urls, .. }) => {
            let port = urls[0].strip_prefix("tcp://tun.example:").unwrap().parse().unwrap();
            (node, (Ipv4Addr::LOCALHOST, port).into())
        }
        other => panic!("{other:?}"),
    }
}

/// What the test's node sends back: the tunnel's id, and the first four bytes that it was sent.
async fn echo(visitor: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    timeout(SOON, visitor.read_exact(&mut bytes)).await.expect("an answer in time").unwrap();
    bytes
}

fn id() -> TunnelId {
    TunnelId::derive(&cluster(), &project("a"), &name("db"))
}

/// Whether the connection was reset, and not just closed.
async fn is_reset(mut visitor: TcpStream) -> bool {
    let mut rest = Vec::new();
    timeout(SOON, visitor.read_to_end(&mut rest)).await.expect("an end in time").is_err()
}

#[tokio::test]
async fn a_visitor_of_a_port_is_led_to_the_node_with_a_word_of_who_it_is() {
    let lab = Lab::start_with(with_ports).await;
    let (_node, address) = served(&lab).await;
    let mut visitor = TcpStream::connect(address).await.unwrap();
    let from = visitor.local_addr().unwrap();
    let greeting = Greeting { transport: Transport::Stream, visitor: from, relay: address }.encode();
    assert_eq!(echo(&mut visitor).await, [id().as_bytes().as_slice(), &greeting[..4]].concat());
    let tunnel = lab.tunnel("db");
    assert_eq!((tunnel.in_flight(), tunnel.traffic().requests()), (1, 1));
    visitor.write_all(b"bye!").await.unwrap();
    assert!(is_reset(visitor).await, "what the node broke off does not look whole");
    timeout(SOON, async {
        while tunnel.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the seat is given back");
    assert_eq!(tunnel.traffic().bytes_out(), 20);
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn visitors_of_a_port_are_spread_over_its_nodes_and_one_that_leaves_loses_nobody_new() {
    let lab = Lab::start_with(with_ports).await;
    let (first, address) = served(&lab).await;
    let (mut second, _) = Node::hello(&lab.tcp(), &device(2)).await;
    match second.ask("db", TunnelKind::Tcp, 2, None).await {
        Some(ToNode::Registered { urls, backends: 2, .. }) => {
            assert!(urls[0].ends_with(&format!(":{}", address.port())), "the same port: {urls:?}");
        }
        other => panic!("{other:?}"),
    }
    let live = lab.relay.routes().live();
    assert_eq!(live.len(), 2);
    let mut visitors = Vec::new();
    for _ in 0..6 {
        let mut visitor = TcpStream::connect(address).await.unwrap();
        echo(&mut visitor).await;
        visitors.push(visitor);
    }
    assert_eq!([live[0].in_flight(), live[1].in_flight()], [3, 3]);

    let (mut third, _) = Node::hello(&lab.tcp(), &device(3)).await;
    let other = if address.port() % PORTS == 0 { address.port() + 1 } else { address.port() - 1 };
    let elsewhere = third.ask("db", TunnelKind::Tcp, 3, Some(other)).await;
    assert!(matches!(elsewhere, Some(ToNode::Refused { code: Code::NameTaken, .. })), "{elsewhere:?}");

    drop(first);
    timeout(SOON, async {
        while !live.iter().any(|tunnel| tunnel.is_closed()) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("closed in time");
    for _ in 0..3 {
        let mut visitor = TcpStream::connect(address).await.unwrap();
        echo(&mut visitor).await;
    }
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn a_web_visitor_finds_no_site_under_the_name_of_a_port() {
    let lab = Lab::start_with(with_ports).await;
    let (_node, _) = served(&lab).await;
    let mut visitor = TcpStream::connect(lab.relay.addrs().http.unwrap()).await.unwrap();
    visitor.write_all(b"GET / HTTP/1.1\r\nHost: db.tun.example\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(SOON, visitor.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn a_visitor_waits_for_a_node_that_comes_back_and_is_cut_with_its_tunnel() {
    let lab = Lab::start_with(with_ports).await;
    let (node, address) = served(&lab).await;
    let tunnel = lab.tunnel("db");
    drop(node);
    timeout(SOON, tunnel.closed()).await.expect("closed in time");
    lab.until(|status| status.tunnels == 0).await;

    let mut visitor = TcpStream::connect(address).await.expect("the port is kept");
    let (node, again) = served(&lab).await;
    assert_eq!(again, address);
    assert_eq!(echo(&mut visitor).await.len(), 20, "it has waited");
    drop(node);
    assert!(is_reset(visitor).await);
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn a_gate_that_a_port_cannot_ask_for_shuts_it_and_cuts_who_is_in() {
    let lab = Lab::start_with(with_ports).await;
    let (_node, address) = served(&lab).await;
    let mut inside = TcpStream::connect(address).await.unwrap();
    echo(&mut inside).await;
    let basic = BasicGate { user: "ann".to_owned(), hash: "$argon2id$x".to_owned(), generation: 1 };
    let gates = Gates { basic: Some(basic), ..Gates::default() };
    lab.coordinator.change(Change::Gates { tunnel: id(), gates });
    assert!(is_reset(inside).await);
    assert!(is_reset(TcpStream::connect(address).await.unwrap()).await);
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let lab = Lab::start_with(|config| {
        with_ports(config);
        config.limits.ports.visitors_per_address = 1;
    })
    .await;
    let (_node, address) = served(&lab).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    echo(&mut first).await;
    assert!(is_reset(TcpStream::connect(address).await.unwrap()).await);
    drop(first);
    let again = async {
        loop {
            let mut visitor = TcpStream::connect(address).await.unwrap();
            if visitor.read_u8().await.is_ok() {
                return;
            }
        }
    };
    timeout(SOON, again).await.expect("its place is given back");
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn a_relay_without_ports_says_so_and_a_revoked_key_loses_its_port() {
    let lab = Lab::start().await;
    let (mut node, _) = Node::hello(&lab.tcp(), &device(1)).await;
    let refused = node.ask("db", TunnelKind::Tcp, 1, None).await;
    assert_eq!(code_of(refused), Code::BadRequest);
    assert!(matches!(lab.relay.routes().find("db"), Lookup::Away | Lookup::Unknown));
    lab.relay.shutdown().await;

    let lab = Lab::start_with(with_ports).await;
    let (_node, address) = served(&lab).await;
    lab.coordinator.change(Change::Revoke { serial: serial(1), until: unix_now() + 3600 });
    let gone = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(SOON, gone).await.expect("the port is closed at once");
    lab.relay.shutdown().await;
}
