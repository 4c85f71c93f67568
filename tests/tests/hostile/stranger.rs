//! Somebody at a daemon's door, with a key of its own and nothing else: it opens streams and writes on them what it likes.

use std::{num::NonZeroUsize, time::Duration};

use anyhow::{Context, Result, bail};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use mytunnel_carrier::{
    libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, Swarm, swarm::SwarmEvent},
    stream::{self, Opener},
    transport,
};
use mytunnel_keys::secret::Seed;
use mytunnel_pairing::Link;
use tokio::{sync::oneshot, task::JoinSet, time::timeout};

pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/mytunnel/pair/1");
/// How long an answer is waited for; the daemon gives nobody more than five seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections end when their strangers do, and not before.
pub(crate) const QUIET: Duration = Duration::from_secs(600);

pub(crate) struct Stranger {
    pub(crate) peer: PeerId,
    pub(crate) host: PeerId,
    opener: Opener,
    _swarm: JoinSet<()>,
}

/// All that a daemon has written on a stream, and whether it has ended it in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ended: bool,
}

impl Answer {
    /// An empty frame and the end of the stream.
    pub(crate) fn is_refusal(&self) -> bool {
        self.ended && self.bytes == [0, 0]
    }
}

impl Stranger {
    /// Connects by TCP to the address in a link.
    pub(crate) async fn connect(link: &Link, seed: [u8; 32]) -> Result<Self> {
        let tcp = link.addresses.iter().find(|address| address.to_string().contains("/tcp/"));
        Self::connect_to(tcp.context("an address of TCP")?.clone(), seed).await
    }

    async fn connect_to(door: Multiaddr, seed: [u8; 32]) -> Result<Self> {
        let keypair = mytunnel_carrier::keypair(&Seed::from_bytes(seed));
        let peer = keypair.public().to_peer_id();
        let transport = transport::transport(&keypair, &transport::Config::default())?;
        let streams = stream::Behaviour::new(stream::Config::accepting([]));
        let config = transport::swarm_config(NonZeroUsize::MIN, QUIET);
        let mut swarm = Swarm::new(transport, streams, peer, config);
        swarm.dial(door)?;
        let (found, opener) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut found = Some(found);
            loop {
                let event = swarm.select_next_some().await;
                if let SwarmEvent::Behaviour(stream::Event::Opened { opener, .. }) = event {
                    found.take().and_then(|found| found.send(opener).ok());
                } else if let SwarmEvent::OutgoingConnectionError { .. } = event {
                    found = None;
                }
            }
        });
        let opener = timeout(PATIENCE, opener).await?.context("nobody lets it connect")?;
        Ok(Self { peer, host: opener.peer(), opener, _swarm: tasks })
    }

    pub(crate) async fn open(&self) -> Result<Stream> {
        Ok(timeout(PATIENCE, self.opener.open(PROTOCOL)).await??)
    }

    /// Writes on a new stream, ends that at its own side, and reads what comes.
    pub(crate) async fn ask(&self, bytes: &[u8]) -> Result<Answer> {
        say_last(self.open().await?, bytes).await
    }
}

/// A frame as it is on the wire.
pub(crate) fn framed(frame: &[u8]) -> Vec<u8> {
    let length = u16::try_from(frame.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), frame].concat()
}

/// The next frame of a daemon.
pub(crate) async fn hear(stream: &mut Stream) -> Result<Vec<u8>> {
    let heard = async {
        let mut length = [0; 2];
        stream.read_exact(&mut length).await?;
        let mut frame = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut frame).await?;
        if frame.is_empty() {
            bail!("refused");
        }
        Ok(frame)
    };
    timeout(PATIENCE, heard).await?
}

pub(crate) async fn say(stream: &mut Stream, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).await?;
    Ok(stream.flush().await?)
}

/// Says something, ends the stream at this side, and reads what comes until the daemon ends it, too.
pub(crate) async fn say_last(mut stream: Stream, bytes: &[u8]) -> Result<Answer> {
    // A daemon that has heard enough may have ended it before all of that is out.
    let written = async {
        stream.write_all(bytes).await?;
        stream.close().await
    };
    let _: std::io::Result<()> = timeout(PATIENCE, written).await?;
    let mut answer = Answer { bytes: Vec::new(), ended: false };
    let mut piece = [0; 1024];
    loop {
        match timeout(PATIENCE, stream.read(&mut piece)).await.context("the stream does not end")? {
            Ok(0) => return Ok(Answer { ended: true, ..answer }),
            Ok(count) => answer.bytes.extend_from_slice(&piece[..count]),
            Err(_) => return Ok(answer),
        }
    }
}
