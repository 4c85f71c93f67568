//! Two swarms in one process, over memory, TCP and QUIC.

use std::num::NonZeroUsize;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Swarm, Transport as _,
    core::transport::MemoryTransport,
    identity::Keypair,
    swarm::{SwarmEvent, dial_opts::DialOpts, dial_opts::PeerCondition},
};
use tokio::{task::JoinSet, time::timeout};

use super::*;
use crate::transport::{self, PeerTransport, Suite, swarm_config};

const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");
const OTHER: StreamProtocol = StreamProtocol::new("/test/other/1");
const SOON: Duration = Duration::from_secs(10);

fn swarm(config: Config, transport: impl FnOnce(&Keypair) -> PeerTransport) -> Swarm<Behaviour> {
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let negotiating = NonZeroUsize::new(16).unwrap();
    Swarm::new(transport(&keypair), Behaviour::new(config), peer, swarm_config(negotiating, SOON))
}

fn memory(keypair: &Keypair) -> PeerTransport {
    transport::secured(MemoryTransport::new().boxed(), keypair, &transport::Config::default()).unwrap()
}

fn network(keypair: &Keypair) -> PeerTransport {
    transport::transport(keypair, &transport::Config::default()).unwrap()
}

async fn next(swarm: &mut Swarm<Behaviour>) -> Event {
    loop {
        if let SwarmEvent::Behaviour(event) = timeout(SOON, swarm.select_next_some()).await.unwrap() {
            return event;
        }
    }
}

async fn listen(swarm: &mut Swarm<Behaviour>, address: &str) -> Multiaddr {
    swarm.listen_on(address.parse().unwrap()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } =
            timeout(SOON, swarm.select_next_some()).await.unwrap()
        {
            return address;
        }
    }
}

/// Dials although a connection may stand already, and answers with the opener of the new one.
async fn dial(swarm: &mut Swarm<Behaviour>, peer: PeerId, address: &Multiaddr) -> Opener {
    let dial =
        DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![address.clone()]).build();
    swarm.dial(dial).unwrap();
    let event = next(swarm).await;
    let Event::Opened { opener, .. } = event else { panic!("{event:?}") };
    opener
}

/// A swarm on a task of its own that echoes, and writes the number of the connection before what it echoes.
async fn echo_server(tasks: &mut JoinSet<()>, swarm: Swarm<Behaviour>, address: &str) -> (PeerId, Multiaddr) {
    let mut swarm = swarm;
    let address = listen(&mut swarm, address).await;
    let peer = *swarm.local_peer_id();
    tasks.spawn(async move {
        let mut echoes = JoinSet::new();
        loop {
            let SwarmEvent::Behaviour(event) = swarm.select_next_some().await else { continue };
            if let Event::Inbound { connection, mut stream, .. } = event {
                echoes.spawn(async move {
                    let mut line = [0; 4];
                    stream.read_exact(&mut line).await.unwrap();
                    stream.write_all(format!("{:>8}", connection.to_string()).as_bytes()).await.unwrap();
                    stream.write_all(&line).await.unwrap();
                    stream.close().await.unwrap();
                });
            }
        }
    });
    (peer, address)
}

/// Sends a line and answers with the number of the remote connection that it arrived on.
async fn echo(opener: &Opener) -> String {
    let mut stream = timeout(SOON, opener.open(ECHO)).await.unwrap().unwrap();
    stream.write_all(b"ping").await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer[8..], b"ping");
    String::from_utf8(answer[..8].to_vec()).unwrap()
}

fn echoing() -> Config {
    Config::accepting([ECHO])
}

#[tokio::test]
async fn streams_open_on_the_chosen_connection() {
    let mut tasks = JoinSet::new();
    let (peer, address) = echo_server(&mut tasks, swarm(echoing(), memory), "/memory/0").await;
    let mut client = swarm(echoing(), memory);
    let first = dial(&mut client, peer, &address).await;
    let second = dial(&mut client, peer, &address).await;

    let (on_first, on_second) = (echo(&first).await, echo(&second).await);
    assert_ne!(on_first, on_second);
    for _ in 0..4 {
        assert_eq!(echo(&first).await, on_first);
        assert_eq!(echo(&second).await, on_second);
    }
}

/// `echo` never polls the client's swarm: opening goes past its loop.
#[tokio::test]
async fn opening_does_not_pass_the_loop_of_the_swarm_on_any_transport() {
    for (listen, suite) in [
        ("/memory/0", Suite::Noise),
        ("/ip4/127.0.0.1/tcp/0", Suite::Noise),
        ("/ip4/127.0.0.1/tcp/0", Suite::Tls),
        ("/ip4/127.0.0.1/udp/0/quic-v1", Suite::Noise),
    ] {
        let build = |keypair: &Keypair| {
            let config = transport::Config { suite, ..transport::Config::default() };
            if listen.starts_with("/memory") {
                transport::secured(MemoryTransport::new().boxed(), keypair, &config).unwrap()
            } else {
                transport::transport(keypair, &config).unwrap()
            }
        };
        let mut tasks = JoinSet::new();
        let (peer, address) = echo_server(&mut tasks, swarm(echoing(), build), listen).await;
        let mut client = swarm(echoing(), build);
        let opener = dial(&mut client, peer, &address).await;
        echo(&opener).await;
    }
}

#[tokio::test]
async fn more_streams_than_may_open_at_once_all_succeed() {
    let mut tasks = JoinSet::new();
    let (peer, address) = echo_server(&mut tasks, swarm(echoing(), network), "/ip4/127.0.0.1/tcp/0").await;
    let mut client = swarm(Config { max_opening: 2, ..echoing() }, network);
    let opener = dial(&mut client, peer, &address).await;

    let mut echoes = JoinSet::new();
    for _ in 0..100 {
        let opener = opener.clone();
        echoes.spawn(async move { echo(&opener).await });
    }
    assert_eq!(echoes.join_all().await.len(), 100);
}

#[tokio::test]
async fn protocols_that_are_not_accepted_end_in_an_error() {
    let mut tasks = JoinSet::new();
    let (peer, address) = echo_server(&mut tasks, swarm(echoing(), memory), "/memory/0").await;
    let mut client = swarm(echoing(), memory);
    let opener = dial(&mut client, peer, &address).await;

    let mut stream = opener.open(OTHER).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    stream.flush().await.unwrap();
    let read = timeout(SOON, stream.read(&mut [0; 1])).await.unwrap();
    assert!(read.is_err(), "{read:?}");
    echo(&opener).await;
}

#[tokio::test]
async fn a_closed_connection_closes_its_opener_only() {
    let mut tasks = JoinSet::new();
    let (peer, address) = echo_server(&mut tasks, swarm(echoing(), memory), "/memory/0").await;
    let mut client = swarm(echoing(), memory);
    let first = dial(&mut client, peer, &address).await;
    let second = dial(&mut client, peer, &address).await;

    client.close_connection(first.connection());
    let event = next(&mut client).await;
    let Event::Closed { connection, remaining, .. } = event else { panic!("{event:?}") };
    assert_eq!(connection, first.connection());
    assert_eq!(remaining, 1);
    assert!(first.is_closed());
    assert!(matches!(first.open(ECHO).await, Err(OpenError::Closed)));
    echo(&second).await;
}

/// Nobody reads the answers: the connection must still go away.
#[tokio::test]
async fn an_end_that_stopped_reading_does_not_hold_a_closing_connection() {
    let mut server = swarm(echoing(), memory);
    let address = listen(&mut server, "/memory/0").await;
    let peer = *server.local_peer_id();
    let mut client = swarm(echoing(), memory);
    let dialled = async {
        loop {
            if let Event::Opened { opener, .. } = next(&mut server).await {
                return opener;
            }
        }
    };
    let (_, opener) = tokio::join!(dialled, dial(&mut client, peer, &address));

    let mut stream = opener.open(ECHO).await.unwrap();
    drop(server);
    let write = timeout(SOON, async {
        loop {
            stream.write_all(&[0; 4096]).await?;
        }
    });
    let ended: std::io::Result<()> = write.await.unwrap();
    assert!(ended.is_err());
    while !matches!(next(&mut client).await, Event::Closed { .. }) {}
    assert!(opener.is_closed());
}

#[tokio::test]
async fn an_idle_connection_ends_unless_it_is_to_be_kept() {
    async fn remaining(keep_alive: bool) -> Option<usize> {
        let idle = Duration::from_millis(50);
        let build = || {
            let keypair = Keypair::generate_ed25519();
            let peer = keypair.public().to_peer_id();
            let config = Config { keep_alive, ..echoing() };
            let negotiating = NonZeroUsize::new(16).unwrap();
            Swarm::new(memory(&keypair), Behaviour::new(config), peer, swarm_config(negotiating, idle))
        };
        let mut tasks = JoinSet::new();
        let (peer, address) = echo_server(&mut tasks, build(), "/memory/0").await;
        let mut client = build();
        dial(&mut client, peer, &address).await;
        let patience = if keep_alive { idle * 10 } else { SOON };
        match timeout(patience, next(&mut client)).await {
            Ok(Event::Closed { remaining, .. }) => Some(remaining),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }

    assert_eq!(remaining(false).await, Some(0));
    assert_eq!(remaining(true).await, None);
}
