//! Circuits of libp2p's own relay client, with keys that have shown their certificate on another connection.

use futures::StreamExt as _;
use libp2p::{
    PeerId, SwarmBuilder,
    identity::Keypair,
    multiaddr::Protocol,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::{sync::mpsc, task::JoinSet};

use super::*;

/// An unmodified client of circuit relays.
#[derive(NetworkBehaviour)]
pub(super) struct Client {
    relay: relay::client::Behaviour,
    ping: ping::Behaviour,
}

pub(super) fn client(keypair: Keypair) -> Swarm<Client> {
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_, relay| Client { relay, ping: ping::Behaviour::default() })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(SOON * 6))
        .build()
}

/// A key, admitted, and the client that holds it.
struct Peer {
    swarm: Swarm<Client>,
    id: PeerId,
    node: Node,
}

impl Peer {
    async fn admitted(lab: &Lab, number: u8, scopes: &str, tenant: &str) -> Self {
        let credential = issued(number, |claims| Claims {
            scopes: scopes.parse().unwrap(),
            tenant: tenant.parse().unwrap(),
            ..claims
        });
        let (node, welcome) = Node::hello(&lab.tcp(), &credential).await;
        assert!(matches!(welcome, Some(ToNode::Welcome { .. })), "{welcome:?}");
        let swarm = client(mytunnel_carrier::keypair(&credential.seed));
        Self { id: *swarm.local_peer_id(), swarm, node }
    }

    /// Asks for a reservation; whether it was granted.
    async fn reserve(&mut self, lab: &Lab) -> bool {
        self.swarm.listen_on(lab.tcp().with(Protocol::P2pCircuit)).unwrap();
        let answered = async {
            loop {
                match self.swarm.select_next_some().await {
                    SwarmEvent::Behaviour(ClientEvent::Relay(
                        relay::client::Event::ReservationReqAccepted { .. },
                    )) => return true,
                    SwarmEvent::ListenerClosed { .. } => return false,
                    _ => {}
                }
            }
        };
        timeout(SOON, answered).await.expect("answered in time")
    }

    /// Asks for a circuit; whether it leads to `destination`.
    async fn reach(&mut self, lab: &Lab, destination: PeerId) -> bool {
        self.swarm.dial(lab.tcp().with(Protocol::P2pCircuit).with(Protocol::P2p(destination))).unwrap();
        let answered = async {
            loop {
                match self.swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { peer_id, .. } if peer_id == destination => {
                        return true;
                    }
                    SwarmEvent::OutgoingConnectionError { peer_id, .. } if peer_id == Some(destination) => {
                        return false;
                    }
                    _ => {}
                }
            }
        };
        timeout(SOON, answered).await.expect("answered in time")
    }

    /// Runs on, and tells from whom a circuit comes.
    fn answer(self) -> Answering {
        let Self { mut swarm, node, .. } = self;
        let (tell, callers) = mpsc::channel(8);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                if let SwarmEvent::Behaviour(ClientEvent::Relay(
                    relay::client::Event::InboundCircuitEstablished { src_peer_id, .. },
                )) = swarm.select_next_some().await
                {
                    tell.send(src_peer_id).await.unwrap();
                }
            }
        });
        Answering { callers, _node: node, _task: task }
    }
}

struct Answering {
    callers: mpsc::Receiver<PeerId>,
    _node: Node,
    _task: JoinSet<()>,
}

impl Answering {
    async fn caller(&mut self) -> PeerId {
        timeout(SOON, self.callers.recv()).await.expect("called in time").expect("it answers")
    }
}

#[tokio::test]
async fn two_of_one_tenant_meet_over_a_circuit() {
    for scopes in ["private", "http pair"] {
        let lab = Lab::start().await;
        let mut destination = Peer::admitted(&lab, 1, scopes, "ten_a").await;
        let mut source = Peer::admitted(&lab, 2, scopes, "ten_a").await;
        assert!(destination.reserve(&lab).await);
        let id = destination.id;
        let mut destination = destination.answer();
        assert!(source.reach(&lab, id).await, "{scopes}");
        assert_eq!(destination.caller().await, source.id);
    }
}

#[tokio::test]
async fn a_peer_of_another_tenant_is_never_reached_and_its_caller_dropped() {
    let lab = Lab::start().await;
    let mut destination = Peer::admitted(&lab, 1, "private pair", "ten_a").await;
    let mut source = Peer::admitted(&lab, 2, "private pair", "ten_b").await;
    let mut neighbour = Peer::admitted(&lab, 3, "private", "ten_a").await;
    assert!(destination.reserve(&lab).await);
    let id = destination.id;
    let mut destination = destination.answer();
    assert!(!source.reach(&lab, id).await);
    timeout(SOON, source.node.closed()).await.unwrap();
    lab.until(|status| status.nodes == 2).await;

    // Nothing of it came to the destination, whose first call is this one.
    assert!(neighbour.reach(&lab, id).await);
    assert_eq!(destination.caller().await, neighbour.id);
}

#[tokio::test]
async fn without_the_scope_there_is_neither_reservation_nor_circuit() {
    let lab = Lab::start().await;
    let mut plain = Peer::admitted(&lab, 1, "http tcp udp", "ten_a").await;
    assert!(!plain.reserve(&lab).await);
    let mut destination = Peer::admitted(&lab, 2, "private", "ten_a").await;
    assert!(destination.reserve(&lab).await);
    let id = destination.id;
    let mut destination = destination.answer();
    assert!(!plain.reach(&lab, id).await);
    assert!(destination.callers.try_recv().is_err());
    lab.until(|status| status.nodes == 2).await;
}
