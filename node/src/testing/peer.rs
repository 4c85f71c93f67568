//! A node that does on the wire what a test tells it, and nothing that nodes do by themselves: a guest that opens what it likes,
//! or a host that shows what it likes.

use std::num::NonZeroUsize;

use futures::{AsyncReadExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, Stream, StreamProtocol, Swarm,
    multiaddr::Protocol,
    relay,
    swarm::{
        NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use mytunnel_carrier::{
    frame,
    stream::{self, Opener},
    transport,
};
use mytunnel_keys::{
    certificate::Claims,
    id::{PublicKey, Serial},
    secret::Seed,
    wire::{
        direct::{DIRECT_PROTOCOL, Word},
        peer::{Answer, Hello, LEG_PROTOCOL, Opening, PEER_PROTOCOL, VERSION},
    },
};
use tokio::{task::JoinSet, time::timeout};

use super::{crooked::Crooked, relay::SOON};

#[derive(NetworkBehaviour)]
struct Behaviour {
    streams: stream::Behaviour,
    circuits: relay::client::Behaviour,
}

/// What belongs to a key of this number: its seed, and a certificate for private shares that is changed.
pub(crate) fn credential(number: u8, change: impl FnOnce(&mut Claims)) -> (Seed, Vec<u8>) {
    let (seed, claims) = claims(number, change);
    (seed, super::sign(&claims))
}

/// The same by an issuer that only some trust bundles know.
pub(crate) fn other_credential(number: u8) -> (Seed, Vec<u8>) {
    let (seed, claims) = claims(number, |_| {});
    (seed, super::sign_by(&claims, super::other_issuer()))
}

fn claims(number: u8, change: impl FnOnce(&mut Claims)) -> (Seed, Claims) {
    let seed = Seed::from_bytes([number; 32]);
    let mut claims = super::node_claims_at(super::unix());
    claims.subject = seed.public();
    claims.serial = Serial::from_bytes([number; 16]);
    claims.scopes = "http private".parse().unwrap();
    change(&mut claims);
    (seed, claims)
}

fn swarm(seed: &Seed) -> Swarm<Behaviour> {
    let keypair = mytunnel_carrier::keypair(seed);
    let (transport, circuits) =
        transport::with_circuits(&keypair, &transport::Config::default(), drop).unwrap();
    let mut accepted = stream::Config::accepting([StreamProtocol::new(PEER_PROTOCOL)]);
    accepted.keep_alive = true;
    let behaviour = Behaviour { streams: stream::Behaviour::new(accepted), circuits };
    let config = transport::swarm_config(NonZeroUsize::new(16).unwrap(), SOON);
    Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config)
}

/// The address of circuits through a relay, to which there is a connection then.
async fn through(swarm: &mut Swarm<Behaviour>, relay: &Crooked) -> Multiaddr {
    swarm.dial(relay.p2p()).unwrap();
    let connected = async {
        while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
    };
    timeout(SOON, connected).await.expect("no connection to the relay");
    relay.p2p().with(Protocol::P2pCircuit)
}

/// A connection to a node, on which nothing was said yet. Dropping it ends it.
pub(crate) struct Guest {
    opener: Opener,
    certificate: Vec<u8>,
    _task: JoinSet<()>,
}

impl Guest {
    pub(crate) async fn dial(
        relay: &Crooked,
        host: &PublicKey,
        (seed, certificate): (Seed, Vec<u8>),
    ) -> Self {
        let mut swarm = swarm(&seed);
        let address = through(&mut swarm, relay).await;
        let host = mytunnel_carrier::peer_id(host);
        let dial = DialOpts::peer_id(host).condition(PeerCondition::Always).addresses(vec![address]);
        swarm.dial(dial.build()).unwrap();
        let opened = async {
            loop {
                if let SwarmEvent::Behaviour(BehaviourEvent::Streams(stream::Event::Opened {
                    peer,
                    opener,
                    ..
                })) = swarm.select_next_some().await
                    && peer == host
                {
                    break opener;
                }
            }
        };
        let opener = timeout(SOON, opened).await.expect("no connection to the node");
        let mut task = JoinSet::new();
        task.spawn(async move { while swarm.next().await.is_some() {} });
        Self { opener, certificate, _task: task }
    }

    pub(crate) async fn greet(&self, name: &str) -> Answer {
        let mut stream = self.open(PEER_PROTOCOL).await;
        let certificate = self.certificate.clone();
        let hello = Hello { version: VERSION, certificate, name: name.parse().unwrap() };
        frame::write(&mut stream, &hello).await.unwrap();
        let answer = timeout(SOON, frame::read(&mut stream)).await.expect("no answer");
        answer.unwrap().expect("an answer")
    }

    /// Begins a leg, and gives what comes on it until it ends.
    pub(crate) async fn leg(&self, opening: &Opening) -> Vec<u8> {
        let mut stream = self.open(LEG_PROTOCOL).await;
        let mut answer = Vec::new();
        if frame::write(&mut stream, opening).await.is_ok() {
            // It ends well or not.
            let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the leg goes on");
        }
        answer
    }

    /// Begins a leg that the node takes, which it says with how far it has received, and how much of that was read.
    pub(crate) async fn taken_leg(&self, opening: &Opening) -> Stream {
        let mut stream = self.open(LEG_PROTOCOL).await;
        frame::write(&mut stream, opening).await.unwrap();
        let have = timeout(SOON, stream.read_exact(&mut [0; 17 + 9])).await;
        have.expect("the leg is not taken").unwrap();
        stream
    }

    /// Offers no address, and gives what the node says to that; none when it says nothing.
    pub(crate) async fn offer(&self) -> Option<Word> {
        let mut stream = self.open(DIRECT_PROTOCOL).await;
        frame::write(&mut stream, &Word::Offer { candidates: Vec::new() }).await.ok()?;
        let heard = timeout(SOON, frame::read(&mut stream)).await.expect("the conversation goes on");
        heard.unwrap_or_default()
    }

    /// Returns when the node has closed the connection.
    pub(crate) async fn until_closed(&self) {
        let closed = async {
            while !self.opener.is_closed() {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, closed).await.expect("the connection stands");
    }

    async fn open(&self, protocol: &'static str) -> Stream {
        self.opener.open(StreamProtocol::new(protocol)).await.unwrap()
    }
}

/// Reserves at the relay, and answers every greeting with this. Ends with what is given back.
pub(crate) async fn host(relay: &Crooked, seed: &Seed, answer: Answer) -> JoinSet<()> {
    let mut swarm = swarm(seed);
    let address = through(&mut swarm, relay).await;
    swarm.listen_on(address).unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut answers = JoinSet::new();
        loop {
            let SwarmEvent::Behaviour(BehaviourEvent::Streams(stream::Event::Inbound { mut stream, .. })) =
                swarm.select_next_some().await
            else {
                continue;
            };
            let answer = answer.clone();
            answers.spawn(async move {
                let hello: Option<Hello> = frame::read(&mut stream).await.unwrap();
                assert!(hello.is_some());
                frame::write(&mut stream, &answer).await.unwrap();
            });
        }
    });
    task
}
