//! Those who show no certificate, among them libp2p's own relay client.

use futures::{AsyncReadExt as _, StreamExt as _};
use libp2p::{identity::Keypair, multiaddr::Protocol, swarm::SwarmEvent};
use mytunnel_keys::wire::ToRelay;
use tokio::time::Instant;

use super::{
    circuits::{ClientEvent, client},
    *,
};

/// A lab in which whoever says nothing for so long is dropped.
async fn impatient(patience: Duration) -> Lab {
    Lab::start_with(|config| config.limits.patience = patience).await
}

#[tokio::test]
async fn a_libp2p_client_without_a_certificate_gets_no_reservation_and_is_dropped() {
    // Longer than the refusal takes on a busy machine.
    let lab = impatient(Duration::from_secs(2)).await;
    for addr in [lab.tcp(), lab.quic()] {
        let mut client = client(Keypair::generate_ed25519());
        client.listen_on(addr.with(Protocol::P2pCircuit)).unwrap();
        let mut refused = false;
        let dropped = async {
            loop {
                match client.select_next_some().await {
                    SwarmEvent::Behaviour(ClientEvent::Relay(event)) => panic!("served: {event:?}"),
                    SwarmEvent::NewListenAddr { address, .. } => panic!("reachable at {address}"),
                    SwarmEvent::ListenerClosed { .. } => refused = true,
                    SwarmEvent::ConnectionClosed { .. } => return,
                    _ => {}
                }
            }
        };
        timeout(SOON, dropped).await.expect("dropped in time");
        assert!(refused, "the reservation is refused before the connection ends");
    }
}

#[tokio::test]
async fn a_stranger_cannot_reach_an_admitted_peer_over_a_circuit() {
    let lab = Lab::start().await;
    let _node = Node::serve(&lab.tcp(), &child(1), "web", 1).await;
    let mut client = client(Keypair::generate_ed25519());
    let destination = mytunnel_carrier::peer_id(&child(1).seed.public());
    client.dial(lab.tcp().with(Protocol::P2pCircuit).with(Protocol::P2p(destination))).unwrap();
    let failed = async {
        loop {
            match client.select_next_some().await {
                SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), .. } if peer == destination => {
                    return;
                }
                SwarmEvent::ConnectionEstablished { peer_id, .. } if peer_id == destination => {
                    panic!("a circuit")
                }
                _ => {}
            }
        }
    };
    timeout(SOON, failed).await.expect("refused in time");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_dropped() {
    let patience = Duration::from_millis(300);
    let lab = impatient(patience).await;
    let since = Instant::now();
    let mut silent = Node::connect(&lab.tcp(), &child(1)).await;
    silent.closed().await;
    assert!(since.elapsed() >= patience);
    lab.until(|status| status.strangers == 0).await;
}

#[tokio::test]
async fn there_is_no_second_control_stream() {
    let lab = Lab::start().await;
    let (mut node, welcome) = Node::hello(&lab.tcp(), &child(1)).await;
    assert!(matches!(welcome, Some(ToNode::Welcome { .. })));
    let mut second = node.second_control().await;
    let certificate = child(1).certificate;
    let hello =
        ToRelay::Hello { version: 1, certificate, presence: Vec::new(), agent: String::new(), clock: 0 };
    let _ = mytunnel_carrier::frame::write(&mut second, &hello).await;
    let read = timeout(SOON, second.read(&mut [0; 1])).await.expect("an end in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(matches!(node.register("web", 1).await, Some(ToNode::Registered { .. })));
}

#[tokio::test]
async fn more_strangers_than_there_are_places_are_turned_away() {
    let lab = Lab::start_with(|config| {
        config.limits.strangers.total = 2;
    })
    .await;
    let _first = Node::connect(&lab.tcp(), &child(1)).await;
    let _second = Node::connect(&lab.tcp(), &child(2)).await;
    lab.until(|status| status.strangers == 2).await;
    let mut third = client(Keypair::generate_ed25519());
    third.dial(lab.tcp()).unwrap();
    let turned_away = async {
        loop {
            match third.select_next_some().await {
                SwarmEvent::OutgoingConnectionError { .. } | SwarmEvent::ConnectionClosed { .. } => return,
                _ => {}
            }
        }
    };
    timeout(SOON, turned_away).await.expect("turned away in time");
}
