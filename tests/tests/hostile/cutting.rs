//! Hosts that cut off who comes, and hosts that refuse.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use futures::{AsyncReadExt as _, StreamExt as _};
use mytunnel_carrier::{
    address,
    libp2p::{Stream, Swarm, swarm::SwarmEvent},
    stream, transport,
};
use mytunnel_keys::secret::Seed;
use mytunnel_pairing::{InviteId, InviteSecret, Link};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{
    FLOOD,
    agent::{Agent, SOON},
    stranger::{PROTOCOL, QUIET, say_last},
};

/// How often that is tried with a machine that stands still meanwhile, and from when on it did: all tries together have 4.5 s,
/// of which the pauses between them take up to 3.
const ROUNDS: usize = 5;
const SLOW: Duration = Duration::from_secs(4);

/// What a host does with every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It is ended at once.
    CutsAtOnce,
    /// It is ended when the first of the guest's words has come.
    CutsOff,
    Refuses,
}

/// A host to which a link leads. It counts streams.
async fn host(manner: Manner) -> Result<(Link, watch::Receiver<usize>, JoinSet<()>)> {
    let seed = Seed::from_bytes([3; 32]);
    let keypair = mytunnel_carrier::keypair(&seed);
    let transport = transport::transport(&keypair, &transport::Config::default())?;
    let streams = stream::Behaviour::new(stream::Config::accepting([PROTOCOL]));
    let config = transport::swarm_config(NonZeroUsize::MIN, QUIET);
    let mut swarm = Swarm::new(transport, streams, keypair.public().to_peer_id(), config);
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
            if let SwarmEvent::Behaviour(stream::Event::Inbound { stream, .. }) = event {
                count.send_modify(|count| *count += 1);
                answers.spawn(answer(manner, stream));
            }
        }
    });
    Ok((link, counted, tasks))
}

async fn answer(manner: Manner, mut stream: Stream) -> Result<()> {
    match manner {
        Manner::CutsAtOnce => Ok(()),
        Manner::CutsOff => Ok(stream.read_exact(&mut [0]).await?),
        Manner::Refuses => say_last(stream, &[0, 0]).await.map(drop),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_comes_again_a_few_times_and_who_is_refused_does_not() -> Result<()> {
    // All tries have a few seconds together, of which a flood takes its part.
    let _flood = FLOOD.lock().await;
    for (manner, tries, code) in [
        (Manner::CutsAtOnce, 5, "PAIR_RATE"),
        (Manner::CutsOff, 5, "PAIR_RATE"),
        (Manner::Refuses, 1, "PAIR_REFUSED"),
    ] {
        for round in 1..=ROUNDS {
            let (guest, (link, tried, _host)) = (Agent::start().await?, host(manner).await?);
            let begun = Instant::now();
            let refused = guest.try_to_join(&link.to_text()).await?;
            if begun.elapsed() > SLOW && round < ROUNDS {
                continue;
            }
            ensure!(refused.json()?["code"] == code, "{manner:?}: {refused:?}");
            ensure!(*tried.borrow() == tries, "{} tries where it {manner:?}", *tried.borrow());
            break;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_shown_once_to_who_cuts_it_off_and_is_not_said_to_be_wrong() -> Result<()> {
    let guest = Agent::start().await?;
    let (_, codes) = guest.open(&["--code"]).await?;
    for (manner, code) in [(Manner::CutsOff, "PAIR_RATE"), (Manner::Refuses, "PAIR_SECRET")] {
        let (link, tried, _host) = host(manner).await?;
        let (at, _) = link.addresses.first().and_then(address::socket).context("an address")?;
        let env = [("MYTUNNEL_PAIR_SECRET", codes[0].as_str())];
        let refused = guest.run(&["join", "--addr", &at.to_string()], &env).await?;
        ensure!(refused.json()?["code"] == code, "{manner:?}: {refused:?}");
        ensure!(*tried.borrow() == 1, "{} tries where it {manner:?}", *tried.borrow());
    }
    Ok(())
}
