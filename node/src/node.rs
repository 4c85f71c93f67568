//! The handle of a running node.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use libp2p::{PeerId, StreamProtocol, Swarm};
use mytunnel_carrier::{
    pong, stream,
    transport::{self, SecurityError},
    websocket::{self, Proxies},
};
use mytunnel_keys::{
    certificate::{self, VerifyError},
    id::{Cluster, TunnelName},
    secret::Seed,
    trust::RootFingerprint,
    wire::{
        PIPE_PROTOCOL,
        direct::DIRECT_PROTOCOL,
        peer::{LEG_PROTOCOL, PEER_PROTOCOL},
    },
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::{
    access::Access,
    carrier::Carrier,
    direct::gate,
    driver::{self, Behaviour, Introduction},
    lines::{self, Ends, Lines, Request},
    meeting,
    peers::rights::Own,
    relays::RelayAddress,
    share::{Share, ShareError, TunnelSpec},
    status::Status,
};

/// Requests of owners that wait.
pub(crate) const REQUESTS: usize = 16;

/// Dialled machines that have answered, and of which the driver has not heard yet.
const REACHED: usize = 16;

/// A connection whose session ended is closed by us; this is for one where there never was any.
const IDLE: Duration = Duration::from_secs(30);

/// Everything a node needs to know. Make one with [`Config::new`] and set what differs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The credential's secret.
    pub seed: Seed,
    /// The credential's certificate.
    pub certificate: Vec<u8>,
    /// The cluster the certificate is for.
    pub cluster: Cluster,
    /// The root that the cluster's trust bundle must be signed by.
    pub root: RootFingerprint,
    /// Relays of the cluster, the preferred ones first. Of two or more the node is at two at once.
    pub relays: Vec<RelayAddress>,
    /// Name and version of the program, for the relay's operator.
    pub agent: String,
    /// The carrier that gets a head start. Default TCP; see [`Carrier`].
    pub preferred: Carrier,
    /// Pipes at once; further ones are reset. Default 1024.
    pub max_pipes: usize,
    /// Shares at once. Default 64.
    pub max_shares: usize,
    /// The longest that connections of our private shares wait for a path between two nodes before they are reset,
    /// whatever the node at the other end asks for. Default [`Access::MOST_PATIENCE`].
    pub patience: Duration,
    /// Whether a tunnel in use also gets TLS connections to the relay beside libp2p, where the relay has a port for
    /// them. Default true.
    pub lanes: bool,
    /// Whether paths past the relay are looked for to nodes whose private shares we reach, or which reach ours. They are
    /// shown this machine's addresses then, and it listens for them on ports of the system's choosing. Default true.
    pub direct: bool,
    /// Whether to find out at once what kind of router there is ([`Status::nat`]), and not only once a direct path is wanted. It
    /// takes `direct`. Default false.
    pub look_at_nat: bool,
    /// The proxies by which a relay is reached over a WebSocket, where it is not reached otherwise. Default none.
    pub proxies: Proxies,
}

impl Config {
    /// A configuration with the default limits.
    pub fn new(
        seed: Seed,
        certificate: Vec<u8>,
        cluster: Cluster,
        root: RootFingerprint,
        relays: Vec<RelayAddress>,
    ) -> Self {
        Self {
            seed,
            certificate,
            cluster,
            root,
            relays,
            agent: concat!("mytunnel-node/", env!("CARGO_PKG_VERSION")).to_owned(),
            preferred: Carrier::default(),
            max_pipes: 1024,
            max_shares: 64,
            patience: Access::MOST_PATIENCE,
            lanes: true,
            direct: true,
            look_at_nat: false,
            proxies: Proxies::none(),
        }
    }
}

/// A node: its connections to one relay or two, and what is shared over them.
///
/// It connects by itself, and again after every loss. Everything it does runs in tasks that end with it; dropping it
/// cuts what is in flight, [`Node::shutdown`] lets it end.
#[derive(Debug)]
pub struct Node {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Status>,
    lines: JoinSet<()>,
}

impl Node {
    /// Starts to connect. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] when the configuration cannot work anywhere. That no relay is reached is no error: the node goes
    /// on trying.
    pub fn start(config: Config) -> Result<Self, StartError> {
        if config.relays.is_empty() {
            return Err(StartError::NoRelay);
        }
        let claims = certificate::inspect(&config.certificate)?;
        if claims.peek().subject != config.seed.public() {
            return Err(StartError::OtherKey);
        }
        if claims.peek().cluster != config.cluster {
            return Err(StartError::OtherCluster(claims.peek().cluster.clone()));
        }
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).map_err(StartError::Random)?;
        let introduction = Arc::new(Introduction {
            serial: claims.peek().serial,
            certificate: config.certificate.clone(),
            seed: config.seed.clone(),
            agent: config.agent.clone(),
        });
        let driver = |relays| -> Result<driver::Parts, StartError> {
            let (swarm, reached) = swarm(&config)?;
            Ok(driver::Parts {
                swarm,
                reached,
                seed: config.seed.clone(),
                relays,
                preferred: config.preferred,
                introduction: Arc::clone(&introduction),
                root: config.root,
                cluster: config.cluster.clone(),
                most_pipes: config.max_pipes,
                most_shares: config.max_shares,
                lanes: config.lanes,
                direct: config.direct,
                look_at_nat: config.look_at_nat,
                instance,
            })
        };
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let (sender, status) = watch::channel(Status::default());
        let drivers = lines::deal(config.relays.clone()).into_iter().map(driver);
        let drivers = drivers.collect::<Result<Vec<_>, _>>()?;
        let sessions = meeting::Parts {
            local: mytunnel_carrier::peer_id(&config.seed.public()),
            introduction: Arc::clone(&introduction),
            own: Own {
                cluster: config.cluster.clone(),
                tenant: claims.peek().tenant.clone(),
                project: claims.peek().project.clone(),
            },
            most_streams: config.max_pipes,
            patience: config.patience,
        };
        let mut task = JoinSet::new();
        task.spawn(Lines::start(drivers, sessions, Ends { requests: receiver, status: sender }).run());
        Ok(Self { requests, status, lines: task })
    }

    /// Shares something. Returns at once; the handle tells when visitors reach it.
    ///
    /// # Errors
    /// [`ShareError`] when it cannot be shared, or when the relay has refused the credential for good.
    pub async fn share(&self, spec: TunnelSpec) -> Result<Share, ShareError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Share(Box::new(spec), reply);
        self.requests.send(request).await.map_err(|_| ShareError::Stopped)?;
        answer.await.map_err(|_| ShareError::Stopped)?
    }

    /// Keeps a private share of another node in reach. Returns at once; the handle tells when there is a way to it.
    ///
    /// # Errors
    /// [`ShareError`] when there are too many, or when the relay has refused the credential for good.
    pub async fn access(&self, name: TunnelName) -> Result<Access, ShareError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Access(name, reply)).await.map_err(|_| ShareError::Stopped)?;
        answer.await.map_err(|_| ShareError::Stopped)?
    }

    /// What the node is up to.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// As [`Self::status`], and every change of it.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until requests under way have ended, `grace` at most, then gives every tunnel back and closes the
    /// connection, which takes a second at most. Shares end with [`crate::ShareEvent::Closed`] without a code.
    pub async fn shutdown(mut self, grace: Duration) {
        if self.requests.send(Request::Shutdown(grace)).await.is_ok() {
            while let Some(ended) = self.lines.join_next().await {
                if let Err(error) = ended
                    && let Ok(reason) = error.try_into_panic()
                {
                    std::panic::resume_unwind(reason);
                }
            }
        }
    }
}

/// A swarm, and the peers whom it dials as their machines answer.
fn swarm(config: &Config) -> Result<(Swarm<Behaviour>, mpsc::Receiver<PeerId>), StartError> {
    let keypair = mytunnel_carrier::keypair(&config.seed);
    // One stream for each pipe, and some for messages and pings.
    let streams = config.max_pipes.saturating_add(16);
    let mut carrier = transport::Config::default();
    carrier.windows.streams = streams;
    carrier.quic_streams = u32::try_from(streams).unwrap_or(u32::MAX);
    let websockets = websocket::Dialer::new(config.proxies.clone()).map_err(StartError::Tls)?;
    let mut over_https = carrier.clone();
    // The relay's own bound begins with the last part.
    over_https.handshake += websocket::Dialer::PATIENCE;
    let websockets = transport::secured(websockets, &keypair, &over_https)?;
    let (answers, reached) = mpsc::channel(REACHED);
    // One that finds no room is a dial more.
    let tell = move |peer| answers.try_send(peer).unwrap_or_default();
    let (transport, circuits) = transport::with_circuits(&keypair, &carrier, tell)?;
    let transport = transport::either(websockets, transport);
    let accepted = [PIPE_PROTOCOL, PEER_PROTOCOL, LEG_PROTOCOL, DIRECT_PROTOCOL];
    let mut streams = stream::Config::accepting(accepted.map(StreamProtocol::new));
    streams.keep_alive = true;
    let behaviour = Behaviour {
        gate: gate::Behaviour::default(),
        streams: stream::Behaviour::new(streams),
        pong: pong::Behaviour::default(),
        circuits: driver::Client::new(circuits),
    };
    let negotiating = NonZeroUsize::new(128).unwrap_or(NonZeroUsize::MIN);
    let swarm_config = transport::swarm_config(negotiating, IDLE);
    Ok((Swarm::new(transport, behaviour, keypair.public().to_peer_id(), swarm_config), reached))
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No relay to connect to.
    #[error("no relay is configured")]
    NoRelay,
    /// The certificate cannot be read.
    #[error("the certificate cannot be used")]
    Certificate(#[from] VerifyError),
    /// The TLS library does not offer what it should.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The certificate was issued for another key.
    #[error("the certificate belongs to another key than the secret")]
    OtherKey,
    /// The certificate is for another cluster.
    #[error("the certificate is for cluster {0}")]
    OtherCluster(Cluster),
    /// The key cannot be used for a connection.
    #[error("the connection cannot be secured with this key")]
    Security(#[from] SecurityError),
    /// The system has no random bytes.
    #[error("the system has no random bytes")]
    Random(#[source] getrandom::Error),
}

impl StartError {
    /// The contract's code for it.
    pub fn code(&self) -> mytunnel_keys::error::Code {
        use mytunnel_keys::error::Code;
        match self {
            Self::NoRelay => Code::RelayUnreachable,
            Self::Certificate(_) | Self::OtherKey | Self::OtherCluster(_) => Code::InvalidKey,
            Self::Security(_) | Self::Random(_) | Self::Tls(_) => Code::Internal,
        }
    }
}

#[cfg(test)]
mod tests;
