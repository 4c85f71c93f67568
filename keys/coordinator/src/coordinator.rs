//! The handle by which a program runs a coordinator.

mod opening;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use mytunnel_keys::api::{Device, RelayJoined, SetGate};
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Subscribe;
use mytunnel_keys::id::{PublicKey, TenantId, TunnelKind, TunnelName};
use mytunnel_keys::token::ServerUrl;
use mytunnel_keys::trust::{RootFingerprint, Trust};
use mytunnel_keys::usage::{Prices, Tell, Told};
use prometheus_client::collector::Collector;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tower::ServiceExt as _;
use zeroize::Zeroizing;

use self::opening::{blocking, issuer, on_disk, on_server, renew_setup_code, vault};
use crate::accounts::{self, Passwords, Vault};
use crate::authority;
use crate::config::{Clock, Config, Endpoints, StoreConfig};
use crate::data_dir::{self, DataDir};
use crate::dns::Resolver;
use crate::domains;
use crate::error::OpenError;
use crate::feed::{FeedLink, Followers, Publisher, Siblings};
use crate::http::{ApiError, App, router};
use crate::issuer::Seeds;
use crate::random;
use crate::shared::{Parts, Public, Shared};
use crate::store::{self, Opened, StoreError};

/// Subscriptions that may be asked for at a time.
const ASKED: usize = 16;
/// How long the database may take at the start to name the relays.
const STARTING: Duration = Duration::from_secs(30);
/// How often names that nobody uses and frames that nobody needs are swept away.
const SWEEP: Duration = Duration::from_secs(600);
/// Frames of the feed are kept for so many seconds: a day, and the difference of clocks.
const FRAMES_KEPT: u64 = 25 * 3600;

/// The key file of second factors.
pub(crate) const ACCOUNTS: &str = "accounts";

/// A running coordinator. It stops at [`Coordinator::shutdown`], or when it is dropped.
#[derive(Debug)]
pub struct Coordinator {
    shared: Arc<Shared>,
    router: Router,
}

/// Why the coordinator did not do what its own process asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActError {
    /// It refused.
    #[error("{message}")]
    Refused {
        /// Why.
        code: Code,
        /// Why, in words.
        message: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something else failed inside.
    #[error("the coordinator failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Coordinator {
    /// Opens the store, making everything that a first start needs, and begins to work.
    ///
    /// # Errors
    /// See [`OpenError`]: each names the file that it is about and what to do. Nothing that is on the disk was
    /// overwritten.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        let path = match &config.store {
            StoreConfig::Sqlite(path) => Some(path.clone()),
            StoreConfig::Postgres { .. } | StoreConfig::Memory => None,
        };
        Self::start(config).await.map_err(|error| error.in_file(path))
    }

    /// Whether the database at this path could be opened: its directory is nobody else's, and it is sound and of a
    /// version that is known. Of what is not there yet nothing is made, and nothing in the database is changed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn check(database: &Path) -> Result<(), OpenError> {
        let directory = directory(database);
        if !directory.is_dir() {
            return Ok(());
        }
        let dir = DataDir::lock(directory)?;
        match store::exists(database) {
            true => store::look(database).map(drop),
            false if Seeds::any_in(&dir) => Err(OpenError::DatabaseMissing { path: database.to_owned() }),
            false => Ok(()),
        }
    }

    /// A token that sets a new password of the account with that address, by the key in the coordinator's data directory:
    /// for the operator at its machine, whether the coordinator runs or not. It is good for an hour, once, and nothing is
    /// changed until then; where it is used, the audit log says so. Blocks.
    ///
    /// # Errors
    /// When the key file is missing or can be read by others.
    pub fn reset_token(directory: &Path, email: &str, clock: &Clock) -> Result<Zeroizing<String>, OpenError> {
        let path = data_dir::key_path(directory, ACCOUNTS);
        let key = data_dir::read_key(&path)?.ok_or(OpenError::KeyMissing { path })?;
        Ok(Vault::new(&key).reset_token(&email.trim().to_ascii_lowercase(), clock.now()))
    }

    async fn start(config: Config) -> Result<Self, OpenError> {
        let now = config.clock.now();
        let opened = match config.store.clone() {
            StoreConfig::Sqlite(path) => blocking(move || on_disk(&path, now)).await?,
            StoreConfig::Postgres { url, data } => blocking(move || on_server(&url, &data, now)).await?,
            StoreConfig::Memory => Opened::memory()?,
        };
        let most = config.limits.clock_offset.as_secs();
        opened.compare_clocks(&config.clock, most).await?;
        let (opened, issuer) = issuer(opened, &config, now).await?;
        let (opened, vault) = vault(opened).await?;
        let fresh = TenantId::from_entropy(&random::bytes().map_err(|_| OpenError::Random)?);
        let home = opened.make_home(fresh, now).await?;
        let store = opened.into_store(issuer.feed_signer(vault.gate_sessions()));
        let setup_code = renew_setup_code(&store, &vault).await?;
        let prices = store.set_prices(config.prices, now).await?;
        store.end_start().await?;
        let shared_in = store.is_shared().then(|| store.head().borrow().feed.era);
        let followers = Arc::new(Followers::new(config.limits.hard_staleness, shared_in));
        let (feed, asked) = mpsc::channel(ASKED);
        let (mail, mail_asked) = mpsc::channel(accounts::WAITING);
        let issuer = Arc::new(issuer);
        let publisher = Publisher::new(
            store.clone(),
            issuer.clone(),
            config.clock.clone(),
            &config.limits,
            followers.clone(),
        );
        let siblings =
            store.is_shared().then(|| Siblings::new(store.clone(), followers.clone(), feed.clone()));
        let heartbeat = config.limits.heartbeat;
        let parts = Parts {
            store,
            issuer,
            followers,
            feed,
            passwords: Passwords::of_people(),
            gate_passwords: Passwords::of_gates(),
            vault: Arc::new(vault),
            sign_in: config.sign_in,
            resolver: Resolver::new(config.name_servers),
            mail: (!config.mail_command.is_empty()).then_some(mail),
            clock: config.clock,
            limits: config.limits,
            metrics_token: config.metrics_token,
            home,
        };
        let public = Public { url: config.public_url, endpoints: config.endpoints };
        let shared = Arc::new(Shared::new(parts, public, prices, setup_code));
        shared.expect_relays(STARTING).await?;
        shared.tasks.spawn(publisher.run(asked, heartbeat, shared.stop.clone()));
        shared.tasks.spawn(sweep(shared.clone()));
        shared.tasks.spawn(domains::look_again(shared.clone()));
        if let Some(siblings) = siblings {
            shared.tasks.spawn(siblings.run(shared.stop.clone()));
        }
        shared.tasks.spawn(accounts::send_links(shared.clone(), config.mail_command, mail_asked));
        Ok(Self { router: router(App(shared.clone())), shared })
    }

    /// Answers one HTTP request. Put a [`ClientAddress`](crate::ClientAddress) into its extensions.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        match self.router.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// The code with which the first owner signs in, while there is no owner. It changes with every start.
    pub fn setup_code(&self) -> Option<Zeroizing<String>> {
        self.shared.setup_code()
    }

    /// Tells in the metrics what the relay in this process measures, too; the first who says so does.
    pub fn add_metrics(&self, others: impl Collector) {
        self.shared.metrics.add(others);
    }

    /// What everybody checks the coordinator's signatures by.
    pub fn trust(&self) -> Trust {
        Trust::clone(&self.shared.issuer.trust())
    }

    /// The root's fingerprint, which tokens carry.
    pub fn root(&self) -> &RootFingerprint {
        self.shared.issuer.root()
    }

    /// Tells where this coordinator and its tunnels are found, once the addresses are bound.
    pub fn set_endpoints(&self, url: ServerUrl, endpoints: Endpoints) {
        self.shared.set_public(Public { url, endpoints });
    }

    /// Sets what use costs from here on. What was used before keeps its price.
    ///
    /// # Errors
    /// When the store fails; the old prices stay then.
    pub async fn set_prices(&self, prices: Prices) -> Result<(), ActError> {
        let list = self.shared.store.set_prices(prices, self.shared.clock.now()).await?;
        self.shared.set_prices(list);
        Ok(())
    }

    /// Enrols the relay inside this process, at every start of it: its certificate gets a new life.
    ///
    /// # Errors
    /// When the key belongs to something else or was revoked, or the store fails.
    pub async fn enroll_relay(&self, relay: PublicKey, addrs: Vec<String>) -> Result<RelayJoined, ActError> {
        Ok(self.shared.enroll(relay, None, addrs).await?)
    }

    /// Gives the certificate of the enrolled relay inside this process a new life.
    ///
    /// # Errors
    /// When no such relay is enrolled, or it was revoked, or the store fails.
    pub async fn renew_relay(&self, relay: PublicKey) -> Result<RelayJoined, ActError> {
        let key = self.shared.store.key_of(relay).await?.ok_or_else(authority::Refusal::unknown_key);
        Ok(self.shared.renew_relay(&key.map_err(ApiError::from)?).await?)
    }

    /// Begins the subscription of the enrolled relay inside this process.
    ///
    /// # Errors
    /// When no such relay is enrolled, or the store fails.
    pub async fn subscribe(&self, relay: PublicKey, asked: Subscribe) -> Result<FeedLink, ActError> {
        let key = self.shared.store.key_of(relay).await?;
        let key = authority::standing_relay(key, self.shared.clock.now()).map_err(ApiError::from)?;
        Ok(self.shared.link(key, asked).await?)
    }

    /// Takes what the enrolled relay inside this process tells of usage, and grants it leases.
    ///
    /// # Errors
    /// When no such relay is enrolled, or it was revoked, or the store fails.
    pub async fn take_usage(&self, relay: PublicKey, tell: Tell) -> Result<Told, ActError> {
        let key = self.shared.store.key_of(relay).await?;
        let key = authority::standing_relay(key, self.shared.clock.now()).map_err(ApiError::from)?;
        Ok(self.shared.take_usage(&key, tell).await?)
    }

    /// A certificate for the person at this machine, without any sign-in: for one project named `local`, which
    /// is made on first use. The same key again gets a new life.
    ///
    /// # Errors
    /// When the key belongs to something else or was revoked, or the store fails.
    pub async fn local_owner_device(&self, key: PublicKey) -> Result<Device, ActError> {
        Ok(self.shared.local_device(key).await?)
    }

    /// Sets a gate of a tunnel that a device of this process is about to open under this name. Once it returns, the relay
    /// beside it asks for it. Answers the number or the token where none was given.
    ///
    /// # Errors
    /// When what the gate says does not fit, or the store fails.
    pub async fn gate_ahead(
        &self,
        device: PublicKey,
        tunnel: (TunnelName, TunnelKind),
        gate: SetGate,
    ) -> Result<Option<String>, ActError> {
        Ok(self.shared.gate_ahead(device, tunnel, gate).await?)
    }

    /// Takes a gate of a tunnel away that a device of this process has set.
    ///
    /// # Errors
    /// When the device may not, or the store fails.
    pub async fn ungate(&self, device: PublicKey, name: TunnelName, gate: SetGate) -> Result<(), ActError> {
        Ok(self.shared.ungate(device, &name, &gate).await?)
    }

    /// Stops: relays are cut off, and what was asked for is on the disk when this returns. Requests that come
    /// later are refused, and the data directory is free for another process.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.store.close().await;
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl From<ApiError> for ActError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Refused(refusal) => Self::Refused { code: refusal.code, message: refusal.message },
            ApiError::Store(error) => Self::Store(error),
            ApiError::TooMany(_) => Self::Refused { code: Code::RateLimited, message: error.to_string() },
            ApiError::Http(..) | ApiError::Unprocessable(_) => {
                Self::Refused { code: Code::BadRequest, message: error.to_string() }
            }
            ApiError::Unready(why) => Self::Internal(why.into()),
            ApiError::Internal(cause) => Self::Internal(cause),
        }
    }
}

/// The data directory of a database.
pub(crate) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Sweeps away what nobody needs, until the coordinator stops.
async fn sweep(shared: Arc<Shared>) {
    let mut due = tokio::time::interval(SWEEP);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared.stop.run_until_cancelled(due.tick()).await.is_some() {
        if let Err(error) = shared.sweep(FRAMES_KEPT).await {
            tracing::warn!(%error, "cannot sweep the database");
        }
    }
}

#[cfg(test)]
mod tests;
