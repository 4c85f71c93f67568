//! A coordinator and a relay in this process, wired to each other without a network in between.
//!
//! `mytunnel relay` runs them for others, `mytunnel share` without a relay for itself. The relay follows the
//! coordinator's feed and checks every frame of it just as it would from elsewhere.

mod authority;
mod console;
pub(crate) mod joined;
mod opening;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use mytunnel_coordinator::MetricsToken;
use mytunnel_coordinator::{
    Config as CoordinatorConfig, Coordinator, Limits as CoordinatorLimits, StoreConfig,
};
use mytunnel_keys::id::Cluster;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::ServerUrl;
use mytunnel_keys::trust::Trust;
use mytunnel_keys::usage::Prices;
use mytunnel_relay::ingress::{ConsoleService, TrustedProxies};
use mytunnel_relay::{
    AccessLogConfig, AcmeConfig, Authority, Config as RelayConfig, Limits as RelayLimits, PublicPorts, Relay,
    TracesConfig,
};

use self::authority::InProcess;
pub(crate) use self::console::service;
pub(crate) use self::opening::{cannot_listen, is_local, seed};
use crate::context::random;
use crate::failure::Failure;

/// What the two of them are started with.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) cluster: Cluster,
    /// The coordinator's database; none keeps everything in memory.
    pub(crate) database: Option<PathBuf>,
    /// Where people reach the coordinator, as far as it is known before the sockets are bound.
    pub(crate) url: ServerUrl,
    pub(crate) limits: CoordinatorLimits,
    /// What use costs.
    pub(crate) prices: Prices,
    /// Who else may vouch for people.
    pub(crate) sign_in: Arc<mytunnel_sign_in::Client>,
    /// Sends mail; empty: none is sent.
    pub(crate) mail_command: Vec<String>,
    /// Whom to ask whose a domain is; empty: this machine's name servers.
    pub(crate) name_servers: Vec<SocketAddr>,
    /// What a scraper shows to read the metrics.
    pub(crate) metrics_token: Option<MetricsToken>,
    pub(crate) relay: RelayPlan,
}

/// What the relay is started with.
#[derive(Debug, Clone)]
pub(crate) struct RelayPlan {
    /// The first of these that is free is taken.
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) p2p: SocketAddr,
    /// Where certificates come from, if not from an own authority.
    pub(crate) acme: Option<AcmeConfig>,
    /// Where visitors' requests are noted down.
    pub(crate) access_log: Option<AccessLogConfig>,
    /// Visitors without TLS are led to it.
    pub(crate) only_https: bool,
    /// Names may be served whose TLS ends behind the relay.
    pub(crate) passthrough: bool,
    /// Where traces of visitors' requests go.
    pub(crate) traces: Option<TracesConfig>,
    /// Where TCP and UDP tunnels get ports.
    pub(crate) ports: Option<PublicPorts>,
    /// Who vouches for visitors.
    pub(crate) sign_in: Arc<mytunnel_sign_in::Client>,
    /// Host of the console, if the API is to be reached from outside this process.
    pub(crate) console: Option<String>,
    /// Where a scraper reads the relay's metrics.
    pub(crate) metrics: Option<SocketAddr>,
    /// Where the relay keeps its key and how far the feed had come.
    pub(crate) data: Option<PathBuf>,
    pub(crate) limits: RelayLimits,
    /// Who is believed about visitors.
    pub(crate) proxies: TrustedProxies,
}

/// Both, running.
#[derive(Debug)]
pub(crate) struct Embedded {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) relay: Relay,
}

impl Embedded {
    /// Starts both. A failure leaves nothing running.
    pub(crate) async fn start(plan: Plan) -> Result<Self, Failure> {
        let store = plan.database.clone().map_or(StoreConfig::Memory, StoreConfig::Sqlite);
        let mut config = CoordinatorConfig::new(store, plan.cluster.clone(), plan.url.clone());
        config.limits = plan.limits.clone();
        config.prices = plan.prices;
        config.sign_in = Arc::clone(&plan.sign_in);
        config.mail_command.clone_from(&plan.mail_command);
        config.name_servers.clone_from(&plan.name_servers);
        config.metrics_token.clone_from(&plan.metrics_token);
        let coordinator = Arc::new(Coordinator::open(config).await?);
        match start_relay(&coordinator, &plan).await {
            Ok(relay) => {
                coordinator.add_metrics(relay.metrics());
                Ok(Self { coordinator, relay })
            }
            Err(failure) => {
                coordinator.shutdown().await;
                Err(failure)
            }
        }
    }

    /// Lets what is in flight end, then closes the store.
    pub(crate) async fn shutdown(self) {
        self.relay.shutdown().await;
        self.coordinator.shutdown().await;
    }
}

/// The relay follows the coordinator beside it.
async fn start_relay(coordinator: &Arc<Coordinator>, plan: &Plan) -> Result<Relay, Failure> {
    let seed = match &plan.relay.data {
        Some(data) => seed(data)?,
        None => Seed::from_bytes(random()?),
    };
    let enrolled = coordinator.enroll_relay(seed.public(), Vec::new()).await?;
    let authority = InProcess::new(Arc::clone(coordinator), seed.public());
    let service = plan.relay.console.is_some().then(|| service(Arc::clone(coordinator)));
    let member = Member { seed, certificate: enrolled.certificate, trust: coordinator.trust() };
    relay(&member, Arc::new(authority), &plan.relay, service).await
}

/// What makes a relay one of a cluster.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) seed: Seed,
    pub(crate) certificate: Vec<u8>,
    pub(crate) trust: Trust,
}

/// Starts a relay at the first of its addresses that is free.
pub(crate) async fn relay(
    member: &Member,
    authority: Arc<dyn Authority>,
    plan: &RelayPlan,
    service: Option<ConsoleService>,
) -> Result<Relay, Failure> {
    let mut taken = None;
    for &http in &plan.http {
        let mut config = RelayConfig::new(
            member.seed.clone(),
            member.certificate.clone(),
            member.trust.clone(),
            Arc::clone(&authority),
        );
        config.http = Some(http);
        config.https = plan.https;
        config.p2p = vec![plan.p2p];
        config.ports = plan.ports;
        config.acme.clone_from(&plan.acme);
        config.access_log.clone_from(&plan.access_log);
        config.only_https = plan.only_https;
        config.passthrough = plan.passthrough;
        config.traces.clone_from(&plan.traces);
        config.metrics = plan.metrics;
        config.public_addrs = opening::public_addrs(member.trust.cluster(), plan.p2p);
        config.data_dir.clone_from(&plan.data);
        if let Some(console) = &plan.console {
            config.console.clone_from(console);
        }
        config.console_service.clone_from(&service);
        config.limits = plan.limits.clone();
        config.trusted_proxies = plan.proxies.clone();
        config.sign_in = Arc::new(plan.sign_in.for_visitors());
        match Relay::start(config).await {
            Ok(relay) => return Ok(relay),
            Err(error) if opening::is_taken(&error, http) => taken = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(taken.map_or_else(
        || Failure::local("there is no address to listen on", "Give one with --http."),
        Failure::from,
    ))
}
