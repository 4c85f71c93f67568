//! A stream between two swarms with several connections, which is moved about.

use std::{cell::Cell, num::NonZeroUsize};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, Swarm,
    swarm::{
        SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use mytunnel_carrier::{
    stream::{self, Event},
    transport,
};
use mytunnel_keys::secret::Seed;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split},
    sync::mpsc::error::SendError,
    task::JoinSet,
};

use super::*;
use crate::lasting::frames::ALL;

const SOON: Duration = Duration::from_secs(20);

fn swarm(number: u8) -> Swarm<stream::Behaviour> {
    let keypair = mytunnel_carrier::keypair(&Seed::from_bytes([number; 32]));
    let transport = transport::transport(&keypair, &transport::Config::default()).unwrap();
    let behaviour = stream::Behaviour::new(stream::Config::accepting([StreamProtocol::new(LEG_PROTOCOL)]));
    let config = transport::swarm_config(NonZeroUsize::new(16).unwrap(), SOON);
    Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config)
}

async fn next(swarm: &mut Swarm<stream::Behaviour>) -> SwarmEvent<Event> {
    timeout(SOON, swarm.select_next_some()).await.expect("nothing happens")
}

/// Takes legs; one that `is_deaf` takes the first, and says nothing on those that follow.
async fn take(mut swarm: Swarm<stream::Behaviour>, arrivals: mpsc::Sender<Arrival>, is_deaf: bool) {
    let (mut held, mut reading) = (Vec::new(), JoinSet::new());
    loop {
        tokio::select! {
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(Event::Inbound { mut stream, .. }) = event {
                    reading.spawn(async move { Some((frame::read(&mut stream).await.ok()??, stream)) });
                }
            }
            Some(read) = reading.join_next() => {
                let Some((Opening { attempt, received, .. }, stream)) = read.unwrap() else { continue };
                if is_deaf && attempt > 0 {
                    held.push(stream);
                    continue;
                }
                // A leg of a stream that has ended has come too late.
                let _ = arrivals.send(Arrival { leg: Box::new(stream.compat()), attempt, received }).await;
            }
        }
    }
}

/// Two nodes with so many connections.
struct Lab {
    routes: Vec<Arc<Route>>,
    arrivals: mpsc::Receiver<Arrival>,
    _swarms: JoinSet<()>,
}

async fn lab(connections: usize, is_deaf: bool) -> Lab {
    let (mut here, mut there) = (swarm(1), swarm(2));
    there.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address: Multiaddr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = next(&mut there).await {
            break address;
        }
    };
    let peer = *there.local_peer_id();
    let (sender, arrivals) = mpsc::channel(4);
    let mut swarms = JoinSet::new();
    swarms.spawn(take(there, sender, is_deaf));
    let mut routes = Vec::new();
    while routes.len() < connections {
        let dial = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![address.clone()]);
        here.dial(dial.build()).unwrap();
        let opener = loop {
            if let SwarmEvent::Behaviour(Event::Opened { opener, .. }) = next(&mut here).await {
                break opener;
            }
        };
        routes.push(Arc::new(Route { peer, connection: opener.connection(), opener }));
    }
    swarms.spawn(async move { while here.next().await.is_some() {} });
    Lab { routes, arrivals, _swarms: swarms }
}

/// Says that it is there, and sends everything back.
async fn echo(far: DuplexStream) {
    let (mut read, mut write) = split(far);
    write.write_all(&[PipeStatus::Connected as u8]).await.unwrap();
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.unwrap();
}

fn purpose() -> Purpose {
    Purpose { tunnel: TunnelId::from_bytes([7; 16]), stream: [8; 16], limits: Limits::default() }
}

/// Sends so many pieces there and back; after each, `moves` says which way is best. How many legs have come.
async fn transfer(lab: Lab, pieces: usize, moves: impl Fn(usize) -> usize) -> usize {
    const PIECE: usize = 100_000;
    let Lab { routes, mut arrivals, _swarms } = lab;
    let (best, routes_of_stream) = watch::channel(Some(Arc::clone(&routes[0])));
    let (near, far) = duplex(1 << 16);
    let (there, target) = duplex(1 << 16);
    let (legs, receiver) = mpsc::channel(4);
    let count = Cell::new(0);
    let counting = async {
        while let Some(arrival) = arrivals.recv().await {
            count.set(count.get() + 1);
            if let Err(SendError(mut late)) = legs.send(arrival).await {
                // As who has seen the stream end well answers.
                let _ = late.leg.write_all(&ALL).await;
                let _ = late.leg.shutdown().await;
            }
        }
    };
    let ending = CancellationToken::new();
    let accepted = accept(there, Verdict::default(), receiver, Limits::default(), &ending);
    let opened = open(far, b"", purpose(), routes_of_stream, &ending);
    let sent: Vec<u8> =
        (0..(pieces * PIECE) as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 19) as u8).collect();
    let (mut read, mut write) = split(near);
    let writing = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let reading = async {
        let mut received = Vec::new();
        for piece in 0..pieces {
            let at = received.len();
            received.resize(at + PIECE, 0);
            read.read_exact(&mut received[at..]).await.unwrap();
            best.send_replace(Some(Arc::clone(&routes[moves(piece)])));
        }
        assert_eq!(read.read(&mut [0]).await.unwrap(), 0);
        received
    };
    let whole = async { tokio::join!(writing, reading, echo(target), accepted, opened) };
    tokio::select! {
        whole = timeout(SOON, whole) => {
            let ((), received, (), (theirs, _), (ours, _)) = whole.expect("it stands still");
            assert_eq!((ours, theirs), (Outcome::Done, Outcome::Done));
            assert!(received == sent, "lost, doubled or out of order");
        }
        () = counting => panic!("the other node is gone"),
    }
    count.get()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_moved_about_in_mid_transfer_and_nothing_is_lost() {
    let legs = transfer(lab(3, false).await, 100, |piece| piece % 3).await;
    assert!(legs >= 30, "it was moved {legs} times only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_leads_nowhere_costs_the_one_that_carries_nothing() {
    let begun = Instant::now();
    let legs = transfer(lab(2, true).await, 20, |_| 1).await;
    assert_eq!(legs, 1, "it goes on where it was");
    assert!(begun.elapsed() < Duration::from_secs(8), "it waited for an answer: {:?}", begun.elapsed());
}
