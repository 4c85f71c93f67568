//! Hosts that cut off who comes, and hosts that refuse.

use std::{num::NonZeroUsize, time::SystemTime};

use anyhow::{Context, Result, ensure};
use futures::StreamExt as _;
use mytunnel_carrier::{
    libp2p::{Swarm, swarm::SwarmEvent},
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

/// A host to which a link leads, and which answers every stream by a refusal, or ends it without a word. It counts them.
async fn host(refuses: bool) -> Result<(Link, watch::Receiver<usize>, JoinSet<()>)> {
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
                if refuses {
                    answers.spawn(say_last(stream, &[0, 0]));
                }
            }
        }
    });
    Ok((link, counted, tasks))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_comes_again_a_few_times_and_who_is_refused_does_not() -> Result<()> {
    // All tries have a few seconds together, of which a flood takes its part.
    let _flood = FLOOD.lock().await;
    for (refuses, tries) in [(false, 5), (true, 1)] {
        let (guest, (link, tried, _host)) = (Agent::start().await?, host(refuses).await?);
        let refused = guest.try_to_join(&link.to_text()).await?;
        ensure!(refused.json()?["code"] == "PAIR_REFUSED", "{refused:?}");
        ensure!(*tried.borrow() == tries, "{} tries where it refuses: {refuses}", *tried.borrow());
    }
    Ok(())
}
