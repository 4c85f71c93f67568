//! Circuits of libp2p's own relay client, with keys that have shown their certificate on another connection.

use std::collections::HashMap;

use futures::{AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    PeerId, StreamProtocol, SwarmBuilder,
    identity::Keypair,
    multiaddr::Protocol,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use mytunnel_carrier::stream;
use mytunnel_keys::{
    feed::Change,
    id::Serial,
    usage::{Standing, Usage},
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::*;
use crate::testing::serial;

/// What goes through circuits here.
const BULK: StreamProtocol = StreamProtocol::new("/test/bulk/1");

/// An unmodified client of circuit relays.
#[derive(NetworkBehaviour)]
pub(super) struct Client {
    relay: relay::client::Behaviour,
    ping: ping::Behaviour,
    streams: stream::Behaviour,
}

pub(super) fn client(keypair: Keypair) -> Swarm<Client> {
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_, relay| Client {
            relay,
            ping: ping::Behaviour::default(),
            streams: stream::Behaviour::new(stream::Config::accepting([BULK])),
        })
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
        Self::admitted_as(lab, &paired(number, scopes, tenant)).await
    }

    async fn admitted_as(lab: &Lab, credential: &Credential) -> Self {
        let (node, welcome) = Node::hello(&lab.tcp(), credential).await;
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

    /// Sends without end over the circuit that it has, and tells how much it got rid of when that breaks.
    async fn pump(self) -> (u64, Node) {
        let Self { mut swarm, node, .. } = self;
        let opener = loop {
            if let SwarmEvent::Behaviour(ClientEvent::Streams(stream::Event::Opened {
                endpoint, opener, ..
            })) = swarm.select_next_some().await
                && endpoint.is_relayed()
            {
                break opener;
            }
        };
        let pumping = async {
            let mut stream = opener.open(BULK).await.unwrap();
            let mut sent = 0;
            while stream.write_all(&[0; 16 << 10]).await.is_ok() {
                sent += 16 << 10;
            }
            sent
        };
        let sent = tokio::select! {
            sent = pumping => sent,
            () = async { loop { swarm.select_next_some().await; } } => unreachable!("a swarm has no end"),
        };
        (sent, node)
    }

    /// Runs on, and tells from whom a circuit comes.
    fn answer(self) -> Answering {
        let Self { mut swarm, node, .. } = self;
        let (tell, callers) = mpsc::channel(8);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut sinks = JoinSet::new();
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::Behaviour(ClientEvent::Relay(
                        relay::client::Event::InboundCircuitEstablished { src_peer_id, .. },
                    )) => tell.send(src_peer_id).await.unwrap(),
                    SwarmEvent::Behaviour(ClientEvent::Streams(stream::Event::Inbound {
                        stream, ..
                    })) => {
                        sinks.spawn(async { futures::io::copy(stream, &mut futures::io::sink()).await });
                    }
                    _ => {}
                }
            }
        });
        Answering { callers, node, _task: task }
    }
}

struct Answering {
    callers: mpsc::Receiver<PeerId>,
    node: Node,
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
    assert!(destination.reserve(&lab).await);
    let id = destination.id;
    let mut destination = destination.answer();
    assert!(!source.reach(&lab, id).await);
    timeout(SOON, source.node.closed()).await.unwrap();
    lab.until(|status| status.nodes == 1).await;

    // Nothing of it came to the destination, whose first call is this one.
    let mut neighbour = Peer::admitted(&lab, 3, "private", "ten_a").await;
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

fn paired(number: u8, scopes: &str, tenant: &str) -> Credential {
    issued(number, |claims| Claims {
        scopes: scopes.parse().unwrap(),
        tenant: tenant.parse().unwrap(),
        ..claims
    })
}

/// Two peers, the keys 1 and 2, with a circuit from the second to the first.
async fn met(lab: &Lab) -> (Answering, Peer) {
    let mut destination = Peer::admitted(lab, 1, "private", "ten_a").await;
    let mut source = Peer::admitted(lab, 2, "private", "ten_a").await;
    assert!(destination.reserve(lab).await);
    let id = destination.id;
    let destination = destination.answer();
    source.swarm.dial(lab.tcp().with(Protocol::P2pCircuit).with(Protocol::P2p(id))).unwrap();
    (destination, source)
}

#[tokio::test]
async fn a_circuit_counts_to_both_keys_and_ends_with_the_budget_of_either() {
    for paying in [1, 2, 100] {
        let lab = Lab::start().await;
        let mut told = lab.coordinator.used();
        // 64 MiB at the price of the default.
        lab.coordinator.set_means(312_500);
        lab.coordinator.change(Change::Budget { serial: serial(paying), standing: Standing::Limited });
        let (mut destination, source) = met(&lab).await;
        let (sent, mut node) = timeout(SOON * 6, source.pump()).await.expect("it breaks");
        let node = if paying == 1 { &mut destination.node } else { &mut node };
        assert_eq!(code_of(node.hear().await), Code::BudgetExceeded);
        // The key that minted both pays for either end.
        let through = if paying == 100 { 32 << 20 } else { 64 << 20 };
        // What is sent and not taken waits in windows: 16 MiB of the relay's, and the circuit's own.
        let expected = through - (1 << 20)..through + (24 << 20);
        assert!(expected.contains(&sent), "{sent} for the budget of {paying}");
        let taken = |used: &HashMap<Serial, Usage>| {
            let of = |number| used.get(&serial(number)).copied().unwrap_or_default();
            let counted = |bytes: u64| bytes.abs_diff(through) < 4 << 20;
            counted(of(2).bytes_out) && counted(of(1).bytes_in) && of(1).tunnel_seconds == 0
        };
        let taken = timeout(SOON * 6, told.wait_for(taken)).await.is_ok_and(|told| told.is_ok());
        assert!(taken, "the budget of {paying}, {sent} sent: {:?}", told.borrow());
    }
}

#[tokio::test]
async fn a_freeze_breaks_a_running_circuit() {
    let lab = Lab::start().await;
    let (_destination, source) = met(&lab).await;
    let mut told = lab.coordinator.used();
    let freeze = async {
        let flows = told.wait_for(|used| used.get(&serial(2)).is_some_and(|used| used.bytes_out > 1 << 20));
        drop(timeout(SOON, flows).await.expect("it flows").expect("the coordinator lives"));
        lab.coordinator.change(Change::Budget { serial: serial(1), standing: Standing::Frozen });
        Instant::now()
    };
    let (pumped, frozen) = tokio::join!(timeout(SOON * 3, source.pump()), freeze);
    pumped.expect("it breaks");
    assert!(frozen.elapsed() < Duration::from_secs(5), "{:?}", frozen.elapsed());
}

#[tokio::test]
async fn a_quiet_circuit_breaks_too_when_its_right_ends() {
    let lab = Lab::start().await;
    let mut destination = Peer::admitted(&lab, 1, "private", "ten_a").await;
    let mut source = Peer::admitted(&lab, 2, "private", "ten_a").await;
    assert!(destination.reserve(&lab).await);
    let id = destination.id;
    let _destination = destination.answer();
    assert!(source.reach(&lab, id).await);
    lab.coordinator.change(Change::Budget { serial: serial(1), standing: Standing::Frozen });
    let broken = async {
        loop {
            if let SwarmEvent::ConnectionClosed { peer_id, .. } = source.swarm.select_next_some().await
                && peer_id == id
            {
                return;
            }
        }
    };
    timeout(Duration::from_secs(5), broken).await.expect("broken in time");
}

#[tokio::test]
async fn who_has_nothing_left_gets_neither_reservation_nor_circuit() {
    let lab = Lab::start().await;
    lab.coordinator.change(Change::Budget { serial: serial(2), standing: Standing::Limited });
    let mut free = Peer::admitted(&lab, 1, "private", "ten_a").await;
    assert!(free.reserve(&lab).await);
    let id = free.id;
    let mut free = free.answer();
    let mut poor = Peer::admitted(&lab, 2, "private", "ten_a").await;
    assert!(!poor.reserve(&lab).await);
    assert!(!poor.reach(&lab, id).await);
    assert!(free.callers.try_recv().is_err());
    assert_eq!(code_of(poor.node.hear().await), Code::BudgetExceeded);
    let (_node, refused) = Node::hello(&lab.tcp(), &paired(2, "private", "ten_a")).await;
    assert_eq!(code_of(refused), Code::BudgetExceeded);
}

#[tokio::test]
async fn a_budget_of_a_keys_own_is_leased_before_there_is_a_circuit() {
    let lab = Lab::start().await;
    lab.coordinator.set_means(1 << 40);
    let mut peer = Peer::admitted_as(
        &lab,
        &issued(1, |claims| Claims { scopes: "pair".parse().unwrap(), budget: Some([1; 8]), ..claims }),
    )
    .await;
    assert!(peer.reserve(&lab).await);
}
