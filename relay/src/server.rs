//! A relay as one thing: [`Relay::start`] binds its sockets and starts its tasks, [`Relay::shutdown`] ends them.
//!
//! Four tasks share nothing but channels and the table of routes: the ingress (visitors), the driver (nodes), the
//! follower of the coordinator's feed and the one that renews the relay's certificate. Sockets are bound before anything
//! is spawned, so that a failed start leaves nothing behind; nodes are served once the first snapshot of the feed is in,
//! or after a second.

mod config;
mod doors;
mod listen;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::{Duration, SystemTime},
};

use libp2p::{Multiaddr, Swarm, TransportError};
use mytunnel_carrier::{
    Boxed,
    transport::{self, SecurityError},
    websocket::{Door, Entrance},
};
use mytunnel_keys::{certificate::VerifyError, feed::Position, id::PublicKey};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    acme::AcmeError,
    admit::{Admission, Policy, Status, Urls},
    behaviour::Behaviour,
    circuits::{Admitted, metered},
    crowds::Crowds,
    driver::{Driver, Surroundings},
    feed::Follower,
    ingress::{self, Beside, IngressConfig, IngressError, Terms},
    local_ca::LocalCaError,
    memory::{Memory, MemoryError, Remembered},
    metrics::{Metrics, Watched, Window},
    ports::{Draining, Ports},
    renewal::{Life, NotOurs, OwnCertificate, Renewal},
    route::Routes,
    strangers::Handshakes,
    tally::Tally,
    traces::{Traces, TracesError},
};
pub use config::{Config, Limits};
use doors::Doors;
pub(crate) use listen::Listening;
use listen::WebSockets;

/// News that wait for the driver.
const NEWS: usize = 64;

/// A running relay. Dropping it aborts its tasks; [`shutdown`](Self::shutdown) lets them end.
#[derive(Debug)]
pub struct Relay {
    addrs: Addrs,
    routes: Routes,
    crowds: Crowds,
    metrics: Metrics,
    local_ca: Option<PathBuf>,
    traces: Traces,
    status: watch::Receiver<Status>,
    terms: watch::Sender<Terms>,
    visitors: CancellationToken,
    draining: Draining,
    nodes: CancellationToken,
    ingress: JoinSet<Result<(), IngressError>>,
    tasks: JoinSet<()>,
    grace: Duration,
}

/// Where a relay is reached: the addresses that were really bound.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Addrs {
    /// The relay's identity.
    pub id: PublicKey,
    /// Visitors without TLS.
    pub http: Option<SocketAddr>,
    /// Visitors with TLS.
    pub https: Option<SocketAddr>,
    /// Nodes: multiaddresses that end in the relay's peer id, the ones to tell others first.
    pub p2p: Vec<Multiaddr>,
    /// Scrapers of metrics.
    pub metrics: Option<SocketAddr>,
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The relay's own certificate does not hold.
    #[error("the relay's certificate is refused")]
    Certificate(#[source] VerifyError),
    /// The certificate is not one of a relay.
    #[error("the certificate is not one of a relay")]
    NotARelay,
    /// What was remembered cannot be used.
    #[error("the relay's memory cannot be used")]
    Memory(#[from] MemoryError),
    /// A socket for visitors cannot be bound.
    #[error("{addr} cannot be bound")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An address for nodes cannot be listened on.
    #[error("{addr} cannot be listened on")]
    Listen {
        /// The address.
        addr: Multiaddr,
        /// Why.
        #[source]
        source: TransportError<std::io::Error>,
    },
    /// An address for nodes was given up again.
    #[error("listening on {addr} ended at once")]
    ListenEnded {
        /// The address.
        addr: Multiaddr,
        /// Why.
        #[source]
        source: Option<std::io::Error>,
    },
    /// There is no authority of the relay's own to serve HTTPS with.
    #[error("https has no certificates")]
    LocalCa(#[from] LocalCaError),
    /// The access log cannot be written.
    #[error("the access log {} cannot be written", path.display())]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// There are no certificates of a public authority to serve HTTPS with.
    #[error("https has no certificates")]
    Acme(#[from] AcmeError),
    /// No security layer can be set up for the relay's key.
    #[error("the relay's key cannot be used")]
    Security(#[from] SecurityError),
    /// The system gives no random bytes.
    #[error("there are no random bytes")]
    Random(#[from] getrandom::Error),
    /// The TLS library cannot use the relay's key for fast lanes.
    #[error("the relay's key cannot be used for fast lanes")]
    Lanes(#[source] rustls::Error),
}

impl Relay {
    /// Starts a relay.
    ///
    /// # Errors
    /// [`StartError`] names the address, the file or the certificate that is at fault. Nothing is left running.
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        let memory = Memory::new(config.data_dir.clone());
        let last = memory.load(&mut config.trust)?;
        let id = config.seed.public();
        let own = own_certificate(&config, &id)?;
        let life = own.life;
        let routes = Routes::partial();
        let doors = Doors::bind(&mut config, &routes).await?;
        let admitted = Admitted::default();
        let (door, entrance) = Door::new();
        let mut swarm = swarm(&config, &admitted, door)?;
        let port = config.public_https.or_else(|| doors.https_addr().map(|addr| addr.port()));
        let websockets = port.map(|port| WebSockets { port, host: &config.console });
        let nodes = websockets.is_some().then_some(entrance);
        let listening = listen::on(&mut swarm, &config.p2p, &config.public_addrs, websockets).await?;
        let addrs = Addrs {
            id,
            http: doors.http_addr(),
            https: doors.https_addr(),
            p2p: listening.addrs.clone(),
            metrics: doors.metrics.as_ref().map(Window::address),
        };

        let (status_in, status) = watch::channel(Status::default());
        let mut incarnation = [0; 16];
        getrandom::fill(&mut incarnation)?;
        let admission = Admission::new(policy(&config, &addrs, own, last, incarnation), config.trust.clone());
        let patience = config.limits.ingress.away_patience;
        let crowds = Crowds::default();
        let visitors = CancellationToken::new();
        let draining = Draining::with(visitors.clone());
        let watched = (&crowds, doors.log.0.clone(), draining.clone());
        let ports = Ports::new(config.ports, config.limits.ports.clone(), patience, routes.clone(), watched);
        let tally = Tally::default();
        let metrics = Metrics::new(Watched {
            crowds: crowds.clone(),
            routes: routes.clone(),
            lanes: doors.directory.clone(),
            status: status.clone(),
            tally: tally.clone(),
            access_log: doors.log.0.clone(),
            acme: doors.acme.as_ref().map(|(acme, _)| acme.clone()),
            datagrams: ports.queued(),
            visitors: RwLock::new(config.limits.ingress.clone()),
            limits: config.limits.clone(),
        });
        let around = Surroundings {
            tally: tally.clone(),
            admitted,
            routes: routes.clone(),
            lanes: doors.directory.clone(),
            status: status_in,
            authority: Arc::clone(&config.authority),
            pipes_per_connection: config.limits.pipes_per_connection,
        };
        let driver = Driver::new(swarm, listening, admission, ports, around);
        let mut relay = Self {
            addrs,
            routes,
            crowds,
            metrics,
            local_ca: doors.local_ca.clone(),
            traces: doors.traces.clone(),
            status,
            terms: watch::Sender::new(Terms { limits: config.limits.ingress.clone(), ..Terms::default() }),
            visitors,
            draining,
            nodes: CancellationToken::new(),
            ingress: JoinSet::new(),
            tasks: JoinSet::new(),
            grace: config.limits.grace,
        };
        relay.spawn(config, memory, (last, life), driver, (doors, tally, nodes));
        Ok(relay)
    }

    fn spawn(
        &mut self,
        config: Config,
        memory: Memory,
        (last, life): (Option<Position>, Life),
        driver: Driver,
        (doors, tally, nodes): (Doors, Tally, Option<Entrance>),
    ) {
        let (news, news_for_driver) = mpsc::channel(NEWS);
        let remembered = Remembered { position: last, trust: config.trust.bytes().to_vec(), witnessed: None };
        let (remember, latest) = watch::channel(remembered);
        let renewal = Renewal {
            authority: Arc::clone(&config.authority),
            id: self.addrs.id,
            root: *config.trust.root(),
            known: remember.subscribe(),
            life,
            news: news.clone(),
        };
        let follower = Follower {
            authority: config.authority,
            addrs: self.addrs.p2p.iter().map(ToString::to_string).collect(),
            trust: config.trust.clone(),
            last,
            news,
            witnessed: None,
            remember,
            hard_staleness: config.limits.hard_staleness,
        };
        self.tasks.spawn(memory.keep(latest, self.nodes.clone()));
        self.tasks.spawn(follower.run(self.nodes.clone()));
        self.tasks.spawn(renewal.run(self.nodes.clone()));
        self.tasks.spawn(driver.run(news_for_driver, self.nodes.clone(), self.grace));
        let ingress = IngressConfig {
            http: doors.http,
            https: doors.https,
            domain: config.trust.cluster().to_string(),
            console: config.console,
            console_service: config.console_service,
            limits: config.limits.ingress,
            proxies: config.trusted_proxies,
            only_https: config.only_https,
            sign_in: config.sign_in,
        };
        let (access_log, scribe) = doors.log;
        if let Some(scribe) = scribe {
            self.tasks.spawn(scribe.run(self.nodes.clone()));
        }
        let (acme, desk) = doors.acme.unzip();
        if let Some(desk) = desk {
            self.tasks.spawn(desk.run(self.nodes.clone()));
        }
        if let Some(names) = doors.names {
            self.tasks.spawn(names.run(self.nodes.clone()));
        }
        if let Some(window) = doors.metrics {
            self.tasks.spawn(window.run(self.metrics.clone(), self.nodes.clone()));
        }
        let ports = config.ports.map(|ports| ports.range);
        let beside =
            Beside { lanes: doors.lanes, acme, access_log, ports, crowds: self.crowds.clone(), tally, nodes };
        let (terms, routes) = (self.terms.subscribe(), self.routes.clone());
        self.ingress.spawn(ingress::serve_with(ingress, beside, terms, routes, self.visitors.clone()));
    }

    /// The addresses that were bound.
    pub fn addrs(&self) -> &Addrs {
        &self.addrs
    }

    /// Holds visitors to these terms from here on. A connection that is there keeps those that it came under.
    pub fn set_terms(&self, terms: Terms) {
        self.metrics.set_limits(&terms.limits);
        self.terms.send_replace(terms);
    }

    /// How the relay is doing; changes can be waited for.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// What an operator watches, to read at any time.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// How many visitors there are, to read at any time.
    pub fn crowds(&self) -> Crowds {
        self.crowds.clone()
    }

    /// The table of names, to read.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The file with the certificate of the relay's own authority, when HTTPS is served with it: whoever trusts that
    /// sees no warning.
    pub fn local_ca(&self) -> Option<&Path> {
        self.local_ca.as_deref()
    }

    /// Returns when a part of the relay has ended by itself, which it does only when it fails. Safe to cancel.
    ///
    /// # Errors
    /// Why the ingress cannot serve.
    ///
    /// # Panics
    /// When the part did.
    pub async fn stopped(&mut self) -> Result<(), IngressError> {
        tokio::select! {
            Some(ended) = self.ingress.join_next() => joined(ended).unwrap_or(Ok(())),
            Some(ended) = self.tasks.join_next() => {
                joined(ended);
                Ok(())
            }
            else => Ok(()),
        }
    }

    /// Ends the relay: visitors may finish, then nodes are told and let go, each within its own time.
    ///
    /// # Panics
    /// When a part of the relay did.
    pub async fn shutdown(mut self) {
        self.visitors.cancel();
        let until = Instant::now() + self.terms.borrow().limits.drain_timeout;
        while let Some(ended) = self.ingress.join_next().await {
            if let Some(Err(error)) = joined(ended) {
                tracing::error!(error = &error as &dyn std::error::Error, "ingress failed");
            }
        }
        self.draining.done(until).await;
        self.nodes.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            joined(ended);
        }
        if self.traces.is_open() {
            let traces = self.traces.clone();
            joined(tokio::task::spawn_blocking(move || traces.close()).await);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if !self.tasks.is_empty() {
            tracing::warn!("relay dropped without shutdown; its nodes are cut off");
        }
    }
}

/// The relay's certificate, if it is one of its key. One that has ended is renewed before it is of use.
fn own_certificate(config: &Config, id: &PublicKey) -> Result<OwnCertificate, StartError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let own = OwnCertificate::check_at_start(config.certificate.clone(), &config.trust, id, now.as_secs());
    own.map_err(|error| match error {
        NotOurs::Verify(error) => StartError::Certificate(error),
        NotOurs::Kind => StartError::NotARelay,
    })
}

fn swarm(config: &Config, admitted: &Admitted, door: Door) -> Result<Swarm<Boxed<Behaviour>>, StartError> {
    let limits = &config.limits;
    let keypair = mytunnel_carrier::keypair(&config.seed);
    let handshakes = Handshakes::new(limits.transport.handshake);
    let mut carrier = limits.transport.clone();
    carrier.handshake += Handshakes::QUEUE;
    let websockets = transport::secured(door, &keypair, &carrier)?;
    let transport = transport::either(websockets, transport::transport(&keypair, &carrier)?);
    let transport = metered(transport, admitted);
    let transport = handshakes.of(transport);
    let behaviour = Boxed(Behaviour::new(&keypair, limits, admitted, handshakes));
    let settings = transport::swarm_config(limits.negotiating, limits.patience);
    Ok(Swarm::new(transport, behaviour, keypair.public().to_peer_id(), settings))
}

fn policy(
    config: &Config,
    addrs: &Addrs,
    certificate: OwnCertificate,
    last: Option<Position>,
    incarnation: [u8; 16],
) -> Policy {
    let port = |addr: Option<SocketAddr>| addr.map(|addr| addr.port());
    Policy {
        id: config.seed.public(),
        patience: config.limits.patience,
        hard_staleness: config.limits.hard_staleness,
        // Whoever has never followed the feed has no nodes that could come back.
        settling: last.map_or(Duration::ZERO, |_| config.limits.ingress.away_patience),
        certificate,
        urls: Urls {
            domain: config.trust.cluster().clone(),
            http: config.public_http.or(port(addrs.http)),
            https: config.public_https.or(port(addrs.https)),
        },
        passthrough: config.passthrough,
        lane_port: config.public_https.or(port(addrs.https)),
        incarnation,
    }
}

/// Passes a panic on; `None` when the task was aborted.
fn joined<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests;
