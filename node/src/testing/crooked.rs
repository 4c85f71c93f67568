//! A relay with circuits that names whom a test wants it to, whatever anybody is entitled to.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    slice,
    sync::{Arc, Mutex},
};

use futures::{AsyncReadExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, Stream, StreamProtocol, Swarm,
    multiaddr::Protocol,
    relay,
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent},
};
use mytunnel_carrier::{
    address, frame,
    stream::{self, Opener},
    transport,
};
use mytunnel_keys::{
    error::Code,
    id::{PublicKey, TunnelId},
    wire::{AUTH_PROTOCOL, PIPE_PROTOCOL, ToNode, ToRelay},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use super::relay::{RelayPipe, SOON, address_of};
use crate::RelayAddress;

#[derive(NetworkBehaviour)]
struct Behaviour {
    streams: stream::Behaviour,
    circuits: relay::Behaviour,
}

/// A running relay; dropping it kills it.
pub(crate) struct Crooked {
    pub(crate) address: RelayAddress,
    bound: Multiaddr,
    late: u64,
    named: Arc<Mutex<Vec<PublicKey>>>,
    shown: watch::Sender<Vec<u8>>,
    said: watch::Sender<Option<ToNode>>,
    noted: watch::Receiver<Noted>,
    pipes: mpsc::Sender<([u8; 16], oneshot::Sender<RelayPipe>)>,
    /// All of it: when this ends, its sockets are closed.
    task: JoinSet<()>,
}

/// How often it has granted something.
#[derive(Default)]
struct Noted {
    reservations: usize,
    circuits: usize,
}

impl Crooked {
    pub(crate) async fn start() -> Self {
        Self::start_late(0).await
    }

    /// One that says to everybody that it is so many seconds earlier than it is.
    pub(crate) async fn start_late(seconds: u64) -> Self {
        let [_, any] = address::listen_on("127.0.0.1:0".parse().unwrap());
        Self::start_at(any, seconds).await
    }

    async fn start_at(address: Multiaddr, late: u64) -> Self {
        let (mut swarm, bound) = listening(address).await;
        swarm.add_external_address(bound.clone());
        let (named, (noting, noted)) = (Arc::default(), watch::channel(Noted::default()));
        let (pipes, wanted) = mpsc::channel(1);
        let (shown, bundle) = watch::channel(super::bundle(1));
        let (said, word) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(run(swarm, Said { named: Arc::clone(&named), late, bundle, word }, noting, wanted));
        Self {
            address: address_of(slice::from_ref(&bound)),
            bound,
            late,
            named,
            shown,
            said,
            noted,
            pipes,
            task,
        }
    }

    /// Dies, and comes back at the same address with nothing in mind.
    pub(crate) async fn restart(&mut self) {
        self.task.shutdown().await;
        *self = Self::start_at(self.bound.clone(), self.late).await;
    }

    /// Where it is reached, its key at the end.
    pub(crate) fn p2p(&self) -> Multiaddr {
        let peer = mytunnel_carrier::peer_id(&super::relay_seed().public());
        self.bound.clone().with(Protocol::P2p(peer))
    }

    /// Names these from now on.
    pub(crate) fn name(&self, peers: Vec<PublicKey>) {
        *self.named.lock().unwrap() = peers;
    }

    /// Shows this trust bundle from now on, also to those who are there.
    pub(crate) fn show(&self, bundle: Vec<u8>) {
        self.shown.send_replace(bundle);
    }

    /// Says this to everybody who is there.
    pub(crate) fn say(&self, message: ToNode) {
        self.said.send_replace(Some(message));
    }

    /// Returns when so many reservations were granted.
    pub(crate) async fn until_reserved(&mut self, count: usize) {
        self.until(|noted| noted.reservations >= count).await;
    }

    /// Returns when so many circuits were granted.
    pub(crate) async fn until_circuits(&mut self, count: usize) {
        self.until(|noted| noted.circuits >= count).await;
    }

    async fn until(&mut self, is_met: impl FnMut(&Noted) -> bool) {
        let noted = self.noted.wait_for(is_met);
        timeout(SOON, noted).await.expect("it is granted in time").expect("the relay lives");
    }

    /// Opens a pipe for a tunnel on every connection, and gives the first that stands.
    pub(crate) async fn pipe(&self, tunnel: [u8; 16]) -> RelayPipe {
        let (reply, pipe) = oneshot::channel();
        self.pipes.send((tunnel, reply)).await.unwrap();
        timeout(SOON, pipe).await.expect("a pipe in time").expect("somebody is connected")
    }
}

/// A swarm that listens there; the address again once it is bound.
async fn listening(address: Multiaddr) -> (Swarm<Behaviour>, Multiaddr) {
    let keypair = mytunnel_carrier::keypair(&super::relay_seed());
    let local = keypair.public().to_peer_id();
    loop {
        let transport = transport::transport(&keypair, &transport::Config::default()).unwrap();
        let behaviour = Behaviour {
            streams: stream::Behaviour::new(stream::Config::accepting([StreamProtocol::new(AUTH_PROTOCOL)])),
            circuits: relay::Behaviour::new(local, unbounded()),
        };
        let config = transport::swarm_config(NonZeroUsize::new(64).unwrap(), SOON);
        let mut swarm = Swarm::new(transport, behaviour, local, config);
        // The last one at this address may still be closing.
        if swarm.listen_on(address.clone()).is_err() {
            tokio::task::yield_now().await;
            continue;
        }
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => return (swarm, address),
                SwarmEvent::ListenerClosed { .. } => break,
                _ => {}
            }
        }
    }
}

/// Circuits that carry as much as a test likes.
fn unbounded() -> relay::Config {
    relay::Config { max_circuit_bytes: 0, ..relay::Config::default() }
}

/// What it tells everybody.
#[derive(Clone)]
struct Said {
    named: Arc<Mutex<Vec<PublicKey>>>,
    /// Seconds by which its clock is behind.
    late: u64,
    /// The trust bundle that it shows.
    bundle: watch::Receiver<Vec<u8>>,
    word: watch::Receiver<Option<ToNode>>,
}

async fn run(
    mut swarm: Swarm<Behaviour>,
    said: Said,
    noting: watch::Sender<Noted>,
    mut pipes: mpsc::Receiver<([u8; 16], oneshot::Sender<RelayPipe>)>,
) {
    let (mut controls, mut openers) = (JoinSet::new(), HashMap::<ConnectionId, Opener>::new());
    loop {
        tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(BehaviourEvent::Streams(stream::Event::Opened { connection, opener, .. })) => {
                    openers.insert(connection, opener);
                }
                SwarmEvent::Behaviour(BehaviourEvent::Streams(stream::Event::Inbound { stream, .. })) => {
                    controls.spawn(control(stream, said.clone()));
                }
                SwarmEvent::Behaviour(BehaviourEvent::Circuits(relay::Event::ReservationReqAccepted { .. })) => {
                    noting.send_modify(|noted| noted.reservations += 1);
                }
                SwarmEvent::Behaviour(BehaviourEvent::Circuits(relay::Event::CircuitReqAccepted { .. })) => {
                    noting.send_modify(|noted| noted.circuits += 1);
                }
                _ => {}
            },
            Some((tunnel, reply)) = pipes.recv() => {
                let opener = openers.values().next().expect("somebody is connected").clone();
                controls.spawn(async move {
                    let mut stream = opener.open(StreamProtocol::new(PIPE_PROTOCOL)).await.unwrap();
                    mytunnel_carrier::pipe::write_preface(&mut stream, &tunnel).await.unwrap();
                    let _ = reply.send(stream.compat());
                });
            }
        }
    }
}

async fn control(stream: Stream, said: Said) {
    let Said { named, late, mut bundle, mut word } = said;
    let (mut reader, mut writer) = stream.split();
    let (answers, mut answered) = mpsc::channel(16);
    let welcome = |bundle: &[u8]| {
        let mut welcome = super::welcome(&super::relay_claims_at(super::unix()), bundle);
        if let ToNode::Welcome { time, .. } = &mut welcome {
            *time -= late;
        }
        welcome
    };
    let shown = bundle.clone();
    let hear = async {
        while let Ok(Some(message)) = frame::read::<ToRelay, _>(&mut reader).await {
            let answer = match message {
                ToRelay::Hello { .. } => welcome(&shown.borrow()),
                ToRelay::Register { request, name, .. } => ToNode::Registered {
                    request,
                    tunnel: TunnelId::from_bytes([0x77; 16]),
                    name,
                    urls: Vec::new(),
                    expires_at: super::unix() + 3600,
                    backends: 1,
                },
                ToRelay::Find { request, .. } => found(request, named.lock().unwrap().clone()),
                ToRelay::Leave { .. }
                | ToRelay::Unregister { .. }
                | ToRelay::Watch { .. }
                | ToRelay::Unwatch { .. } => continue,
            };
            answers.send(answer).await.unwrap();
        }
    };
    let speak = async {
        loop {
            let message = tokio::select! {
                Some(answer) = answered.recv() => answer,
                Ok(()) = bundle.changed() => welcome(&bundle.borrow_and_update()),
                Ok(()) = word.changed() => match word.borrow_and_update().clone() {
                    Some(message) => message,
                    None => continue,
                },
                else => return,
            };
            if frame::write(&mut writer, &message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = hear => {}
        () = speak => {}
    }
}

fn found(request: u32, peers: Vec<PublicKey>) -> ToNode {
    if peers.is_empty() {
        let (message, help) = ("nobody is named".to_owned(), String::new());
        return ToNode::NotFound { request, code: Code::NotFound, message, help };
    }
    ToNode::Found { request, peers }
}
