//! Hosts that cut off who comes, and hosts that refuse.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use futures::{AsyncReadExt as _, StreamExt as _};
use mytunnel_carrier::{
    address,
    libp2p::{PeerId, Stream, StreamProtocol, Swarm, swarm::SwarmEvent},
    stream, transport,
};
use mytunnel_keys::secret::Seed;
use mytunnel_pairing::{InviteId, InviteSecret, Link};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{
    FLOOD,
    agent::{Agent, SOON},
    proof::second,
    stranger::{PROTOCOL, QUIET, framed, hear, say, say_last},
};

/// How often that is tried with a machine that stands still meanwhile, and from when on it did: all tries together have 4.5 s,
/// of which the pauses between them take up to 3 and the last try half a second.
const ROUNDS: usize = 5;
const SLOW: Duration = Duration::from_secs(2);
/// How the hello of a guest with a code begins.
const CODE: &[u8] = &[1];

/// What a host does with every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It is ended at once.
    CutsAtOnce,
    /// It is ended when the first of the guest's words has come.
    CutsOff,
    /// It is ended when the proof has come.
    CutsAtProof,
    /// Nothing more is said when it has.
    HangsAtProof,
    /// The connection is ended.
    HangsUp,
    Refuses,
    /// It speaks another version, so that there is no stream.
    IsNewer,
}

/// A host to which a link leads. It counts streams.
async fn host(manner: Manner, key: u8) -> Result<(Link, watch::Receiver<usize>, JoinSet<()>)> {
    let seed = Seed::from_bytes([key; 32]);
    let keypair = mytunnel_carrier::keypair(&seed);
    let transport = transport::transport(&keypair, &transport::Config::default())?;
    let newer = StreamProtocol::new("/mytunnel/pair/2");
    let spoken = if manner == Manner::IsNewer { newer } else { PROTOCOL };
    let streams = stream::Behaviour::new(stream::Config::accepting([spoken]));
    let config = transport::swarm_config(NonZeroUsize::MIN, QUIET);
    let own = keypair.public().to_peer_id();
    let mut swarm = Swarm::new(transport, streams, own, config);
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let listening = async {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                return address;
            }
        }
    };
    let address = timeout(SOON, listening).await.context("it listens")?;
    let expires = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() + 600;
    let link = Link {
        invite: InviteId::from_bytes([4; 8]),
        secret: InviteSecret::from_bytes([5; 32]),
        host: seed.public(),
        expires: u32::try_from(expires)?,
        addresses: vec![address],
        ticket: None,
    };
    let (count, counted) = watch::channel(0);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut answers = JoinSet::new();
        loop {
            let event = swarm.select_next_some().await;
            if let SwarmEvent::Behaviour(stream::Event::Inbound { peer, stream, .. }) = event {
                count.send_modify(|count| *count += 1);
                if manner == Manner::HangsUp {
                    let _: Result<(), ()> = swarm.disconnect_peer_id(peer);
                }
                answers.spawn(answer(manner, stream, own, peer));
            }
        }
    });
    Ok((link, counted, tasks))
}

async fn answer(manner: Manner, mut stream: Stream, host: PeerId, guest: PeerId) -> Result<()> {
    match manner {
        Manner::CutsAtOnce | Manner::IsNewer => Ok(()),
        Manner::CutsOff => Ok(stream.read_exact(&mut [0]).await?),
        Manner::HangsUp => std::future::pending().await,
        Manner::CutsAtProof | Manner::HangsAtProof => {
            let hello = hear(&mut stream).await?;
            if hello.starts_with(CODE) {
                // SPAKE2's message of a host who knows no code: the base point of Ed25519.
                say(&mut stream, &framed(&[b"BX".as_slice(), &[0x66; 31]].concat())).await?;
            }
            let first = hear(&mut stream).await?;
            say(&mut stream, &framed(&second(&hello, &first, &host, &guest)?)).await?;
            hear(&mut stream).await?;
            if manner == Manner::HangsAtProof { std::future::pending().await } else { Ok(()) }
        }
        Manner::Refuses => say_last(stream, &[0, 0]).await.map(drop),
    }
}

/// A guest's try with a link, or with a code at the addresses of two hosts.
#[derive(Debug, Clone, Copy)]
enum With {
    Link,
    Code,
}

/// What a guest is told in the end, how often it came to each host, and how long all of it took.
async fn tried(with: With, manners: [Manner; 2]) -> Result<(Value, [usize; 2], Duration)> {
    let guest = Agent::start().await?;
    let (one, other) = (host(manners[0], 3).await?, host(manners[1], 4).await?);
    let begun = Instant::now();
    let ended = match with {
        With::Link => guest.try_to_join(&one.0.to_text()).await?,
        With::Code => {
            let mut args = vec!["join".to_owned()];
            for link in [&one.0, &other.0] {
                let (at, _) = link.addresses.first().and_then(address::socket).context("an address")?;
                args.extend(["--addr".to_owned(), at.to_string()]);
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            guest.run(&args, &[("MYTUNNEL_PAIR_SECRET", "7-amber-otter-plume")]).await?
        }
    };
    let times = [*one.1.borrow(), *other.1.borrow()];
    Ok((ended.json()?["code"].clone(), times, begun.elapsed()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_comes_again_until_a_code_was_shown_and_is_told_what_it_may_have_cost() -> Result<()> {
    use Manner::{CutsAtOnce, CutsAtProof, CutsOff, HangsAtProof, HangsUp, IsNewer, Refuses};
    // All tries have a few seconds together, of which a flood takes its part.
    let _flood = FLOOD.lock().await;
    for (with, manners, times, code) in [
        (With::Link, [CutsAtOnce; 2], [5, 0], "PAIR_RATE"),
        (With::Link, [CutsOff; 2], [5, 0], "PAIR_RATE"),
        (With::Link, [CutsAtProof; 2], [5, 0], "PAIR_RATE"),
        (With::Link, [HangsUp; 2], [1, 0], "PAIR_UNREACHABLE"),
        (With::Link, [Refuses; 2], [1, 0], "PAIR_REFUSED"),
        (With::Link, [IsNewer; 2], [0, 0], "PAIR_VERSION"),
        (With::Code, [Refuses, CutsOff], [1, 5], "PAIR_RATE"),
        (With::Code, [CutsOff, HangsUp], [5, 1], "PAIR_UNREACHABLE"),
        (With::Code, [CutsOff, IsNewer], [5, 0], "PAIR_VERSION"),
        (With::Code, [CutsAtProof, Refuses], [1, 1], "PAIR_SECRET"),
        (With::Code, [HangsAtProof, CutsOff], [1, 5], "PAIR_SECRET"),
    ] {
        for round in 1..=ROUNDS {
            let (told, came, took) = tried(with, manners).await?;
            if told == code && came == times {
                break;
            }
            ensure!(took > SLOW && round < ROUNDS, "{with:?} {manners:?}: {told}, {came:?} times");
        }
    }
    Ok(())
}
