//! A coordinator and a relay in this process, wired to each other without a network in between.
//!
//! `mytunnel relay` runs them for others, `mytunnel share` without a relay for itself. The relay follows the
//! coordinator's feed and checks every frame of it just as it would from elsewhere.

mod authority;
mod console;
mod opening;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use mytunnel_coordinator::{Config as CoordinatorConfig, Coordinator, Endpoints, StoreConfig};
use mytunnel_keys::id::Cluster;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::ServerUrl;
use mytunnel_keys::trust::Trust;
use mytunnel_relay::{Config as RelayConfig, Relay};

use self::authority::InProcess;
pub(crate) use self::console::service;
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
    pub(crate) relay: RelayPlan,
}

/// What the relay is started with.
#[derive(Debug, Clone)]
pub(crate) struct RelayPlan {
    /// The first of these that is free is taken.
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) p2p: SocketAddr,
    /// Host of the console, if the API is to be reached from outside this process.
    pub(crate) console: Option<String>,
    /// Where the relay keeps its key and how far the feed had come.
    pub(crate) data: Option<PathBuf>,
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
        let config = CoordinatorConfig::new(store, plan.cluster.clone(), plan.url.clone());
        let coordinator = Arc::new(Coordinator::open(config).await?);
        match start_relay(&coordinator, &plan).await {
            Ok(relay) => Ok(Self { coordinator, relay }),
            Err(failure) => {
                stop(coordinator).await;
                Err(failure)
            }
        }
    }

    /// Tells the coordinator where it and the tunnels are found, now that this is known.
    pub(crate) fn announce(&self, url: ServerUrl, endpoints: Endpoints) {
        self.coordinator.set_endpoints(url, endpoints);
    }

    /// Lets what is in flight end, then closes the store.
    pub(crate) async fn shutdown(self) {
        self.relay.shutdown().await;
        stop(self.coordinator).await;
    }
}

async fn stop(coordinator: Arc<Coordinator>) {
    // The relay, which held the other handles, is gone by now.
    match Arc::into_inner(coordinator) {
        Some(coordinator) => coordinator.shutdown().await,
        None => tracing::warn!("the coordinator is still in use; it is left to end with the process"),
    }
}

async fn start_relay(coordinator: &Arc<Coordinator>, plan: &Plan) -> Result<Relay, Failure> {
    let plan = &plan.relay;
    let seed = match &plan.data {
        Some(data) => opening::seed(data)?,
        None => Seed::from_bytes(random()?),
    };
    let enrolled = coordinator.enroll_relay(seed.public(), Vec::new()).await?;
    let mut last = None;
    for &http in &plan.http {
        let trust = Trust::open(&enrolled.trust, coordinator.root()).map_err(|error| {
            Failure::local(format!("the coordinator's trust bundle: {error}"), "Report this.")
        })?;
        let authority = InProcess::new(Arc::clone(coordinator), seed.public());
        let mut config =
            RelayConfig::new(seed.clone(), enrolled.certificate.clone(), trust, Arc::new(authority));
        config.http = Some(http);
        config.p2p = vec![plan.p2p];
        config.public_addrs = opening::public_addrs(coordinator.trust().cluster(), plan.p2p);
        config.data_dir = plan.data.clone();
        if let Some(console) = &plan.console {
            config.console = console.clone();
            config.console_service = Some(service(Arc::clone(coordinator)));
        }
        match Relay::start(config).await {
            Ok(relay) => return Ok(relay),
            Err(error) if opening::is_taken(&error, http) => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.map_or_else(
        || Failure::local("there is no address to listen on", "Give one with --http."),
        Failure::from,
    ))
}
