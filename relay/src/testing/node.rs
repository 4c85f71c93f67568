//! A node in a few lines: shows a certificate, registers a name, and answers pipes.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks out what it looks for")]

use std::{num::NonZeroUsize, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{Multiaddr, Stream, StreamProtocol, Swarm, swarm::SwarmEvent};
use mytunnel_carrier::{
    address, frame, keypair, pipe, public_key,
    stream::{self, Opener},
    transport, websocket,
};
use mytunnel_keys::{
    id::TunnelKind,
    wire::{
        AUTH_PROTOCOL, PIPE_PROTOCOL, PipeStatus, ToNode, ToRelay, VERSION,
        direct::{Seen, WHEREAMI_PROTOCOL},
    },
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{Credential, coordinator::unix_now};

const SOON: Duration = Duration::from_secs(10);

/// A connection with a relay, on a task of its own.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) control: Stream,
    opener: Opener,
    _swarm: JoinSet<()>,
    closed: mpsc::Receiver<()>,
}

impl Node {
    /// Connects and opens the control stream, without a word on it.
    pub(crate) async fn connect(relay: &Multiaddr, credential: &Credential) -> Self {
        let keypair = keypair(&credential.seed);
        let settings = transport::Config::default();
        let over_https = websocket::Dialer::new(websocket::Proxies::none()).unwrap();
        let over_https = transport::secured(over_https, &keypair, &settings).unwrap();
        let transport = transport::either(over_https, transport::transport(&keypair, &settings).unwrap());
        let behaviour =
            stream::Behaviour::new(stream::Config::accepting([StreamProtocol::new(PIPE_PROTOCOL)]));
        let settings = transport::swarm_config(NonZeroUsize::new(64).unwrap(), SOON);
        let mut swarm = Swarm::new(transport, behaviour, keypair.public().to_peer_id(), settings);
        swarm.dial(relay.clone()).unwrap();
        let opened = async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::Behaviour(stream::Event::Opened { opener, .. }) => return opener,
                    SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                    _ => {}
                }
            }
        };
        let opener = timeout(SOON, opened).await.expect("a connection in time");
        assert_eq!(Some(opener.peer()), address::peer(relay));
        let (closing, closed) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(run(swarm, closing));
        let control = opener.open(StreamProtocol::new(AUTH_PROTOCOL)).await.unwrap();
        Self { control, opener, _swarm: tasks, closed }
    }

    /// Connects with a certificate and answers with the relay's first word.
    pub(crate) async fn hello(relay: &Multiaddr, credential: &Credential) -> (Self, Option<ToNode>) {
        let mut node = Self::connect(relay, credential).await;
        let id = address::peer(relay).and_then(|peer| public_key(&peer)).unwrap();
        node.say(&ToRelay::Hello {
            version: VERSION,
            certificate: credential.certificate.clone(),
            presence: credential.presence(&id, unix_now()),
            agent: "test".to_owned(),
            clock: unix_now(),
        })
        .await;
        let answer = node.hear().await;
        (node, answer)
    }

    /// Connects with a certificate that must be good, and serves a name.
    pub(crate) async fn serve(relay: &Multiaddr, credential: &Credential, name: &str, instance: u8) -> Self {
        let (mut node, welcome) = Self::hello(relay, credential).await;
        assert!(matches!(welcome, Some(ToNode::Welcome { .. })), "{welcome:?}");
        let registered = node.register(name, instance).await;
        assert!(matches!(registered, Some(ToNode::Registered { .. })), "{registered:?}");
        node
    }

    pub(crate) async fn register(&mut self, name: &str, instance: u8) -> Option<ToNode> {
        self.ask(name, TunnelKind::Http, instance, None).await
    }

    /// Asks for a tunnel of any kind.
    pub(crate) async fn ask(
        &mut self,
        name: &str,
        kind: TunnelKind,
        instance: u8,
        port: Option<u16>,
    ) -> Option<ToNode> {
        let (name, instance) = (name.parse().unwrap(), [instance; 16]);
        self.say(&ToRelay::Register { request: 1, name, kind, instance, port, alone: false }).await;
        loop {
            match self.hear().await {
                // The relay shows a new certificate at its own time.
                Some(ToNode::Welcome { .. }) => {}
                answer => return answer,
            }
        }
    }

    pub(crate) async fn say(&mut self, message: &ToRelay) {
        frame::write(&mut self.control, message).await.unwrap();
    }

    /// The relay's next word; none when it has closed the stream.
    pub(crate) async fn hear(&mut self) -> Option<ToNode> {
        let heard = timeout(SOON, frame::read(&mut self.control)).await.expect("a word in time");
        heard.unwrap_or_default()
    }

    /// Asks where the relay sees this connection; none when it does not say.
    pub(crate) async fn whereami(&self) -> Option<Seen> {
        let mut stream = self.opener.open(StreamProtocol::new(WHEREAMI_PROTOCOL)).await.unwrap();
        let heard = timeout(SOON, frame::read(&mut stream)).await.expect("an answer or an end in time");
        heard.unwrap_or_default()
    }

    /// Opens one more stream of the control protocol.
    pub(crate) async fn second_control(&self) -> Stream {
        self.opener.open(StreamProtocol::new(AUTH_PROTOCOL)).await.unwrap()
    }

    /// Returns when the relay has closed the connection.
    pub(crate) async fn closed(&mut self) {
        timeout(SOON, self.closed.recv()).await.expect("closed in time");
    }
}

/// Runs the swarm; a pipe says which tunnel it is for, then echoes.
async fn run(mut swarm: Swarm<stream::Behaviour>, closing: mpsc::Sender<()>) {
    let mut pipes = JoinSet::new();
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(stream::Event::Inbound { stream, .. }) => {
                pipes.spawn(echo(stream));
            }
            SwarmEvent::Behaviour(stream::Event::Closed { .. }) => {
                let _ = closing.try_send(());
            }
            _ => {}
        }
    }
}

async fn echo(mut stream: Stream) {
    let Ok(tunnel) = pipe::read_preface(&mut stream).await else { return };
    let mut line = [0; 4];
    if stream.read_exact(&mut line).await.is_err() {
        return;
    }
    let _ = pipe::write_status(&mut stream, PipeStatus::Connected).await;
    let _ = stream.write_all(&tunnel).await;
    let _ = stream.write_all(&line).await;
    let _ = stream.flush().await;
    // Holds the pipe open until the other end is done with it, or says that it is to be broken off.
    while stream.read(&mut line).await.is_ok_and(|read| read > 0) && line != *b"bye!" {}
}
