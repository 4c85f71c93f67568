use std::num::NonZeroUsize;

use futures::StreamExt as _;
use libp2p::{
    Swarm,
    identity::Keypair,
    swarm::{ConnectionId, SwarmEvent, dial_opts::DialOpts},
};
use mytunnel_carrier::{
    address,
    stream::{Behaviour, Config, Event},
    transport,
};
use tokio::{sync::mpsc, task::JoinSet};

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn swarm(config: Config) -> Swarm<Behaviour> {
    let keypair = Keypair::generate_ed25519();
    let transport = transport::transport(&keypair, &transport::Config::default()).unwrap();
    let swarm_config = transport::swarm_config(NonZeroUsize::new(16).unwrap(), SOON);
    Swarm::new(transport, Behaviour::new(config), keypair.public().to_peer_id(), swarm_config)
}

async fn echo(mut stream: Stream) {
    let mut question = [0; LENGTH];
    while stream.read_exact(&mut question).await.is_ok() {
        stream.write_all(&question).await.unwrap();
        stream.flush().await.unwrap();
    }
}

/// A connection to somebody who closes so many streams without an answer, and answers on the others.
async fn connected(closes: usize, tasks: &mut JoinSet<()>) -> Opener {
    let mut answering = swarm(Config::accepting([PROTOCOL]));
    let [_, any] = address::listen_on("127.0.0.1:0".parse().unwrap());
    answering.listen_on(any).unwrap();
    let at = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = answering.select_next_some().await {
            break address;
        }
    };
    let peer = *answering.local_peer_id();
    tasks.spawn(async move {
        let (mut seen, mut echoes) = (0, JoinSet::new());
        loop {
            if let SwarmEvent::Behaviour(Event::Inbound { stream, .. }) = answering.select_next_some().await {
                seen += 1;
                if seen > closes {
                    echoes.spawn(echo(stream));
                }
            }
        }
    });
    let mut config = Config::accepting([]);
    config.keep_alive = true;
    let mut asking = swarm(config);
    asking.dial(DialOpts::peer_id(peer).addresses(vec![at]).build()).unwrap();
    let opener = loop {
        if let SwarmEvent::Behaviour(Event::Opened { opener, .. }) = asking.select_next_some().await {
            break opener;
        }
    };
    tasks.spawn(async move {
        loop {
            asking.select_next_some().await;
        }
    });
    opener
}

#[tokio::test]
async fn a_first_ping_that_fails_is_not_the_last() {
    let mut tasks = JoinSet::new();
    let opener = connected(1, &mut tasks).await;
    let (owner, mut found) = mpsc::channel(8);
    let mailbox = Mailbox { connection: ConnectionId::new_unchecked(1), owner };
    tasks.spawn(async move {
        drop(run::<Finding>(&opener, Carrier::Quic, &mailbox).await);
    });
    let first = timeout(SOON, async {
        loop {
            if let (_, Finding::Alive(trip)) = found.recv().await.unwrap() {
                break trip;
            }
        }
    });
    assert!(first.await.unwrap() < SOON);
}
