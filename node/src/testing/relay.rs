//! A relay that does what a test tells it: the carrier's own transport and streams, and nothing of the real relay.

use std::{collections::HashMap, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, Stream, StreamProtocol, Swarm,
    swarm::{ConnectionId, SwarmEvent},
};
use mytunnel_carrier::{
    address, frame, pipe,
    stream::{self, Opener},
    transport,
};
use mytunnel_keys::{
    error::Code,
    id::TunnelId,
    wire::{AUTH_PROTOCOL, PIPE_PROTOCOL, ToNode, ToRelay},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use crate::{Config, RelayAddress};

const PING: &str = "/ipfs/ping/1.0.0";

/// A generous bound for whatever a test waits for.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The id of every tunnel that a test relay registers.
pub(crate) const TUNNEL: [u8; 16] = [0x77; 16];

/// A pipe as the relay holds it.
pub(crate) type RelayPipe = Compat<Stream>;

/// What a relay answers.
#[derive(Clone)]
pub(crate) struct Manners {
    pub(crate) welcome: ToNode,
    pub(crate) register: fn(u32) -> ToNode,
    /// Pings that are answered on one connection.
    pub(crate) pings: usize,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            welcome: super::welcome(&super::relay_claims_at(super::unix()), &super::bundle(1)),
            register: |request| registered(request, 3600),
            pings: usize::MAX,
        }
    }
}

pub(crate) fn registered(request: u32, life: u64) -> ToNode {
    ToNode::Registered {
        request,
        tunnel: TunnelId::from_bytes(TUNNEL),
        name: "web".parse().unwrap(),
        urls: vec!["https://web.tun.example".to_owned()],
        expires_at: super::unix() + life,
        backends: 1,
    }
}

pub(crate) fn refused(request: Option<u32>, code: Code) -> ToNode {
    ToNode::Refused { request, code, message: "not you".to_owned(), help: "go away".to_owned() }
}

/// What a relay notices.
#[derive(Debug)]
pub(crate) enum Noticed {
    Connected,
    Said(ToRelay),
    Gone,
}

enum Order {
    Say(ToNode),
    Pipe(oneshot::Sender<RelayPipe>),
    Disconnect,
}

/// A running relay. Dropping it kills it.
pub(crate) struct Relay {
    pub(crate) addresses: Vec<Multiaddr>,
    noticed: mpsc::Receiver<Noticed>,
    orders: mpsc::Sender<Order>,
    runtime: Option<Runtime>,
}

impl Relay {
    pub(crate) async fn start(manners: Manners) -> Self {
        Self::start_at(manners, address::listen_on("127.0.0.1:0".parse().unwrap()).to_vec()).await
    }

    pub(crate) async fn start_at(manners: Manners, listen: Vec<Multiaddr>) -> Self {
        let (notices, noticed) = mpsc::channel(256);
        let (orders, receiver) = mpsc::channel(16);
        // A runtime of its own: when that ends, everything ends without another word, as with `kill -9`.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sender, bound) = oneshot::channel();
        drop(runtime.handle().spawn(async move {
            let (swarm, addresses) = listening(listen).await;
            let state = State {
                swarm,
                manners,
                notices,
                orders: receiver,
                openers: Vec::new(),
                voices: HashMap::new(),
                controls: JoinSet::new(),
            };
            sender.send(addresses).unwrap();
            state.run().await;
        }));
        Self { addresses: bound.await.unwrap(), noticed, orders, runtime: Some(runtime) }
    }

    /// Ends it as `kill -9` would, and returns once its sockets are closed.
    pub(crate) async fn kill(mut self) -> Vec<Multiaddr> {
        let runtime = self.runtime.take();
        tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
        std::mem::take(&mut self.addresses)
    }

    /// The address as the coordinator would list it.
    pub(crate) fn address(&self) -> RelayAddress {
        address_of(&self.addresses)
    }

    pub(crate) async fn notice(&mut self) -> Noticed {
        timeout(SOON, self.noticed.recv()).await.expect("the relay notices nothing").expect("the relay ended")
    }

    /// The next thing the node says, other things passed over.
    pub(crate) async fn hear(&mut self) -> ToRelay {
        loop {
            if let Noticed::Said(message) = self.notice().await {
                return message;
            }
        }
    }

    /// Hears a greeting and a registration; the registration's name and instance.
    pub(crate) async fn hear_registration(&mut self) -> (String, [u8; 16]) {
        assert!(matches!(self.hear().await, ToRelay::Hello { .. }));
        match self.hear().await {
            ToRelay::Register { name, instance, .. } => (name.to_string(), instance),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn say(&self, message: ToNode) {
        self.order(Order::Say(message)).await;
    }

    pub(crate) async fn disconnect(&self) {
        self.order(Order::Disconnect).await;
    }

    /// Opens a pipe on the newest connection, and names the tunnel.
    pub(crate) async fn pipe(&self) -> RelayPipe {
        let (reply, pipe) = oneshot::channel();
        self.order(Order::Pipe(reply)).await;
        timeout(SOON, pipe).await.expect("no pipe").expect("the relay has no connection")
    }

    async fn order(&self, order: Order) {
        assert!(self.orders.send(order).await.is_ok(), "the relay ended");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn listening(listen: Vec<Multiaddr>) -> (Swarm<stream::Behaviour>, Vec<Multiaddr>) {
    let keypair = mytunnel_carrier::keypair(&super::relay_seed());
    let transport = transport::transport(&keypair, &transport::Config::default()).unwrap();
    let protocols = [StreamProtocol::new(AUTH_PROTOCOL), StreamProtocol::new(PING)];
    let behaviour = stream::Behaviour::new(stream::Config::accepting(protocols));
    let config = transport::swarm_config(std::num::NonZeroUsize::new(64).unwrap(), SOON);
    let mut swarm = Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config);
    let wanted = listen.len();
    for address in listen {
        swarm.listen_on(address).unwrap();
    }
    let mut addresses = Vec::new();
    while addresses.len() < wanted {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => addresses.push(address),
            SwarmEvent::ListenerClosed { reason, .. } => panic!("{reason:?}"),
            _ => {}
        }
    }
    (swarm, addresses)
}

pub(crate) fn address_of(addresses: &[Multiaddr]) -> RelayAddress {
    let peer = mytunnel_carrier::peer_id(&super::relay_seed().public());
    RelayAddress::parse(&peer.to_string(), addresses.iter().map(ToString::to_string)).unwrap()
}

/// A node's configuration for these relays.
pub(crate) fn config(relays: Vec<RelayAddress>) -> Config {
    let claims = super::node_claims_at(super::unix());
    let root = super::root().fingerprint();
    Config::new(super::node(), super::sign(&claims), super::cluster(), root, relays)
}

/// Sends `request` on a pipe and reads until the pipe ends: the bytes, and whether the end was a proper one.
pub(crate) async fn exchange(pipe: &mut RelayPipe, request: &[u8]) -> (Vec<u8>, bool) {
    let exchanged = async {
        pipe.write_all(request).await.unwrap();
        pipe.flush().await.unwrap();
        let mut answer = Vec::new();
        let read = pipe.read_to_end(&mut answer).await;
        let proper = read.is_ok() && ends_properly(pipe).await;
        (answer, proper)
    };
    timeout(SOON, exchanged).await.expect("the pipe hangs")
}

/// What an ingress does at an end of reading: a reset pipe does not take bytes.
async fn ends_properly(pipe: &mut RelayPipe) -> bool {
    std::future::poll_fn(|cx| tokio::io::AsyncWrite::poll_write(std::pin::Pin::new(&mut *pipe), cx, &[]))
        .await
        .is_ok()
}

struct State {
    swarm: Swarm<stream::Behaviour>,
    manners: Manners,
    notices: mpsc::Sender<Noticed>,
    orders: mpsc::Receiver<Order>,
    openers: Vec<Opener>,
    voices: HashMap<ConnectionId, mpsc::Sender<ToNode>>,
    controls: JoinSet<()>,
}

impl State {
    async fn run(mut self) {
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => if let SwarmEvent::Behaviour(event) = event {
                    self.on_event(event);
                },
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                Some(ended) = self.controls.join_next() => ended.unwrap(),
            }
        }
    }

    fn on_event(&mut self, event: stream::Event) {
        match event {
            stream::Event::Opened { opener, .. } => {
                self.openers.push(opener);
                self.notice(Noticed::Connected);
            }
            stream::Event::Closed { connection, .. } => {
                self.openers.retain(|opener| opener.connection() != connection);
                self.voices.remove(&connection);
                self.notice(Noticed::Gone);
            }
            stream::Event::Inbound { connection, protocol, stream, .. } if protocol == AUTH_PROTOCOL => {
                let (voice, words) = mpsc::channel(64);
                self.voices.insert(connection, voice);
                self.controls.spawn(control(stream, self.manners.clone(), words, self.notices.clone()));
            }
            stream::Event::Inbound { stream, .. } => {
                self.controls.spawn(answer_pings(stream, self.manners.pings));
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Say(message) => {
                for voice in self.voices.values() {
                    voice.send(message.clone()).await.unwrap();
                }
            }
            Order::Pipe(reply) => {
                let opener = self.openers.last().expect("nobody is connected").clone();
                self.controls.spawn(async move {
                    let mut stream = opener.open(StreamProtocol::new(PIPE_PROTOCOL)).await.unwrap();
                    pipe::write_preface(&mut stream, &TUNNEL).await.unwrap();
                    let _ = reply.send(stream.compat());
                });
            }
            Order::Disconnect => {
                for opener in &self.openers {
                    self.swarm.close_connection(opener.connection());
                }
            }
        }
    }

    fn notice(&self, noticed: Noticed) {
        // A test that looks at nothing lets the channel run full.
        let _ = self.notices.try_send(noticed);
    }
}

async fn control(
    stream: Stream,
    manners: Manners,
    mut words: mpsc::Receiver<ToNode>,
    notices: mpsc::Sender<Noticed>,
) {
    let (mut reader, mut writer) = stream.split();
    let (answers, mut answered) = mpsc::channel(64);
    let hear = async {
        while let Ok(Some(message)) = frame::read::<ToRelay, _>(&mut reader).await {
            let answer = match &message {
                ToRelay::Hello { .. } => Some(manners.welcome.clone()),
                ToRelay::Register { request, .. } => Some((manners.register)(*request)),
                ToRelay::Leave { .. }
                | ToRelay::Unregister { .. }
                | ToRelay::Find { .. }
                | ToRelay::Watch { .. }
                | ToRelay::Unwatch { .. } => None,
            };
            let _ = notices.try_send(Noticed::Said(message));
            if let Some(answer) = answer {
                answers.send(answer).await.unwrap();
            }
        }
    };
    let speak = async {
        loop {
            let message = tokio::select! {
                Some(answer) = answered.recv() => answer,
                Some(word) = words.recv() => word,
                else => return,
            };
            if frame::write(&mut writer, &message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = hear => {},
        () = speak => {},
    }
}

async fn answer_pings(mut stream: Stream, most: usize) {
    let mut ping = [0; 32];
    for _ in 0..most {
        if stream.read_exact(&mut ping).await.is_err() || stream.write_all(&ping).await.is_err() {
            return;
        }
        let _ = stream.flush().await;
    }
    // Open, and silent.
    let _ = stream.read_exact(&mut ping).await;
    std::future::pending().await
}
