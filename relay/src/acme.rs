//! Certificates for visitors from a public authority, by ACME (RFC 8555): one for the whole domain where DNS can be
//! answered for, else one for each name that exists.
//!
//! [`Acme::ready`] is asked before a handshake is answered, and waits while the name's first certificate is on its way.
//! One task ([`Desk::run`]) owns what is to be ordered when ([`plan`]), so that no name is ordered twice at once; a name
//! that the relay does not serve is never ordered, whoever asks for it.

mod client;
mod dns;
mod kept;
mod order;
mod plan;
mod zone;

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use hickory_proto::ProtoError;
use instant_acme::Account;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    sync::{OnceCell, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::zone::NameServer;
use self::{
    dns::{Hook, Records},
    kept::{Kept, Store},
    order::{Challenges, OrderError, Orders},
    plan::{Life, Plan, Scope, Subject},
    zone::Zone,
};
use crate::{
    ingress::locked,
    route::{Customer, Routes},
};

/// The application protocol of a TLS-ALPN-01 challenge (RFC 8737 §4).
pub(crate) const CHALLENGE_PROTOCOL: &[u8] = b"acme-tls/1";

/// Let's Encrypt's directory.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How long a visitor waits for a name's first certificate: the time for a handshake ends it earlier.
const PATIENCE: Duration = Duration::from_secs(30);

/// Orders under way at once.
const AT_ONCE: usize = 4;

/// Names that visitors ask for and nobody has looked at.
const ASKED: usize = 256;

/// How often the tunnels that are up are looked over, at most.
const LOOK: Duration = Duration::from_secs(1);

/// How often the authority is asked when to renew.
const SUGGESTIONS: Duration = Duration::from_secs(6 * 3600);

/// Where certificates come from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AcmeConfig {
    /// Whom the authority writes to when something is wrong; empty for nobody.
    pub email: String,
    /// URL of the authority's directory. Default: Let's Encrypt.
    pub directory: String,
    /// A file with the certificate, in PEM form, that vouches for the directory's own HTTPS. Default: as browsers do.
    pub directory_ca: Option<PathBuf>,
    /// A program, with its arguments, that sets a DNS record: it is called with `present NAME VALUE` and `cleanup NAME VALUE`.
    /// With one there is a single certificate for the domain and all names under it. Default: none.
    pub dns_hook: Vec<String>,
    /// Where to answer, over UDP and TCP, for `_acme-challenge.DOMAIN`, which an NS record has to lead here. Then, too, there
    /// is a single certificate; a program comes first. Default: nowhere.
    pub dns: Option<SocketAddr>,
}

impl AcmeConfig {
    /// Certificates of Let's Encrypt, one for each name.
    pub fn new(email: String) -> Self {
        Self {
            email,
            directory: LETS_ENCRYPT.to_owned(),
            directory_ca: None,
            dns_hook: Vec::new(),
            dns: None,
        }
    }
}

/// Why there can be no certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeError {
    /// A file or folder cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds no certificate.
    #[error("{} holds no certificate in PEM form", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("tls cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The record of a challenge would have no name in the DNS.
    #[error("the domain is too long for a record under it")]
    Domain(#[from] ProtoError),
    /// There is nowhere to keep certificates.
    #[error("certificates of a public authority need a data directory")]
    NoDirectory,
}

/// A handle; clones share everything.
#[derive(Clone)]
pub(crate) struct Acme(Arc<Inner>);

struct Inner {
    scope: Scope,
    routes: Routes,
    kept: RwLock<HashMap<Box<str>, Arc<Kept>>>,
    /// Why there is none, of the last try.
    troubles: Mutex<HashMap<Box<str>, String>>,
    asked: mpsc::Sender<Asked>,
    zone: Option<Zone>,
    challenge_tls: Arc<ServerConfig>,
}

/// A visitor who waits for a certificate, and is told by the end of the channel.
struct Asked {
    subject: Subject,
    waiting: oneshot::Sender<()>,
}

/// Orders certificates: [`run`](Self::run) is to be run once.
pub(crate) struct Desk {
    acme: Acme,
    asked: mpsc::Receiver<Asked>,
    /// Dropped with the outcome of the order.
    waiting: HashMap<Subject, Vec<oneshot::Sender<()>>>,
    store: Store,
    orders: Arc<Orders>,
    account: Arc<OnceCell<Account>>,
}

impl Acme {
    /// Takes up what is kept in `data` for this relay.
    pub(crate) fn open(
        config: &AcmeConfig,
        data: Option<&Path>,
        (domain, console): (&str, &str),
        routes: &Routes,
    ) -> Result<(Self, Desk), AcmeError> {
        let data = data.ok_or(AcmeError::NoDirectory)?;
        // Of each authority apart: who tries one out must not go on with its certificates at another.
        let authority: String = config
            .directory
            .trim_start_matches("https://")
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' })
            .collect();
        let store = Store::open(&data.join("acme").join(authority.trim_matches('.')))?;
        let records = match (Hook::new(&config.dns_hook), config.dns) {
            (Some(hook), _) => Some(Records::Program(hook)),
            (None, Some(_)) => Some(Records::Own(Zone::new(domain)?)),
            (None, None) => None,
        };
        let zone = match &records {
            Some(Records::Own(zone)) => Some(zone.clone()),
            Some(Records::Program(_)) | None => None,
        };
        let scope = Scope::new(domain, console, records.is_some());
        let challenges = Challenges::default();
        let orders = Orders::new(config, store.account(), challenges.clone(), records)?;
        let kept = store.load(SystemTime::now());
        let (ask, asked) = mpsc::channel(ASKED);
        let inner = Inner {
            scope,
            routes: routes.clone(),
            kept: RwLock::new(kept),
            troubles: Mutex::default(),
            challenge_tls: challenge_tls(challenges)?,
            asked: ask,
            zone,
        };
        let acme = Self(Arc::new(inner));
        let account = Arc::default();
        let (orders, waiting) = (Arc::new(orders), HashMap::new());
        Ok((acme.clone(), Desk { acme, asked, waiting, store, orders, account }))
    }

    /// Where visitors' certificates are.
    pub(crate) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(self.clone())
    }

    /// Binds the address at which the relay is to answer for its challenges' record; `None` where a program sets it.
    pub(crate) async fn name_server(&self, addr: SocketAddr) -> io::Result<Option<NameServer>> {
        match &self.0.zone {
            Some(zone) => NameServer::bind(addr, zone.clone()).await.map(Some),
            None => Ok(None),
        }
    }

    /// How to answer an authority that looks whether a name is ours.
    pub(crate) fn challenge(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.challenge_tls)
    }

    /// Returns when the name has a certificate, or will have none for now.
    pub(crate) async fn ready(&self, name: &str) {
        let Some(subject) = self.0.scope.subject(name, &self.0.routes) else { return };
        if self.find(subject.name()).is_some() {
            return;
        }
        let (waiting, settled) = oneshot::channel();
        if self.0.asked.try_send(Asked { subject, waiting }).is_ok()
            && timeout(PATIENCE, settled).await.is_err()
        {
            tracing::debug!(name, "no certificate in time");
        }
    }

    /// As [`ready`](Self::ready), for as long as an order takes, and says why there is no certificate.
    pub(crate) async fn certified(&self, name: &str) -> Result<(), String> {
        let Some(subject) = self.0.scope.subject(name, &self.0.routes) else {
            return Err("no public authority vouches for such a name".to_owned());
        };
        if self.find(subject.name()).is_none() {
            let (waiting, settled) = oneshot::channel();
            let asked = self.0.asked.send(Asked { subject: subject.clone(), waiting }).await;
            if asked.is_ok() && timeout(order::ORDER, settled).await.is_err() {
                return Err("it took too long".to_owned());
            }
        }
        if self.find(subject.name()).is_some() {
            return Ok(());
        }
        let trouble = locked(&self.0.troubles).get(subject.name()).cloned();
        Err(trouble.unwrap_or_else(|| "it was not ordered yet".to_owned()))
    }

    /// Whether there is a certificate for the name.
    pub(crate) fn has(&self, name: &str) -> bool {
        let subject = self.0.scope.subject(name, &self.0.routes);
        subject.is_some_and(|subject| self.find(subject.name()).is_some())
    }

    /// Whether anything is served under the names of a certificate.
    fn needs(&self, subject: &Subject) -> bool {
        self.0.scope.subject(subject.host(), &self.0.routes).is_some()
    }

    fn customer(&self, subject: &Subject) -> Option<Customer> {
        self.0.scope.customer(subject, &self.0.routes)
    }

    fn find(&self, name: &str) -> Option<Arc<Kept>> {
        let kept = self.0.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.get(name).map(Arc::clone)
    }

    fn keep(&self, subject: &Subject, kept: Kept) {
        let mut all = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(subject.name().into(), Arc::new(kept));
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme").field("scope", &self.0.scope).finish_non_exhaustive()
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("acme", &self.acme).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Acme {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        let subject = self.0.scope.subject(name, &self.0.routes)?;
        self.find(subject.name()).map(|kept| Arc::clone(&kept.key))
    }
}

/// Answers with the certificate of the challenge of that name (RFC 8737 §3).
fn challenge_tls(challenges: Challenges) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(challenges));
    config.alpn_protocols = vec![CHALLENGE_PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

impl Desk {
    /// Orders what is missing and renews what ends, until cancelled.
    pub(crate) async fn run(mut self, cancelled: CancellationToken) {
        let mut plan = Plan::default();
        for (name, kept) in &*self.acme.0.kept.read().unwrap_or_else(PoisonError::into_inner) {
            plan.has(Subject::of(name), kept.life);
        }
        let mut under_way = JoinSet::new();
        // When the tunnels that are up were looked over.
        let (mut looked, mut is_news) = (Instant::now(), true);
        let (mut suggested, mut ask) = (JoinSet::new(), Instant::now());
        loop {
            let now = SystemTime::now();
            // Made before looking: what happens between the two is not missed.
            let changed = self.acme.0.routes.changed();
            if std::mem::take(&mut is_news) {
                looked = Instant::now();
                for subject in self.acme.0.scope.wanted(&self.acme.0.routes) {
                    self.want(&mut plan, &subject, now);
                }
            }
            while under_way.len() < AT_ONCE
                && let Some(subject) = plan.next(now, |subject| self.acme.customer(subject))
            {
                // A name may have been given up since.
                if self.acme.needs(&subject) {
                    under_way.spawn(self.order(subject));
                } else {
                    plan.forget(&subject);
                    self.waiting.remove(&subject);
                }
            }
            let until = Instant::now() + plan.pause(now);
            tokio::select! {
                () = cancelled.cancelled() => break,
                Some(Asked { subject, waiting }) = self.asked.recv() => {
                    if self.want(&mut plan, &subject, now) && self.acme.find(subject.name()).is_none() {
                        let all = self.waiting.entry(subject).or_default();
                        all.retain(|one| !one.is_closed());
                        all.push(waiting);
                    }
                }
                Some(ended) = under_way.join_next(), if !under_way.is_empty() => match ended {
                    Ok((subject, outcome)) => self.settle(&mut plan, subject, outcome),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                Some(suggestions) = suggested.join_next(), if !suggested.is_empty() => {
                    for (subject, at) in suggestions.unwrap_or_default() {
                        plan.suggest(&subject, at);
                    }
                }
                () = sleep_until(ask), if suggested.is_empty() => {
                    ask = Instant::now() + SUGGESTIONS;
                    suggested.spawn(self.suggestions());
                }
                () = later(looked + LOOK, changed), if self.acme.0.scope.follows_routes() => is_news = true,
                () = sleep_until(until) => {}
            }
        }
        under_way.shutdown().await;
        suggested.shutdown().await;
    }

    /// One is needed. `false` when there will be none for now.
    fn want(&self, plan: &mut Plan, subject: &Subject, now: SystemTime) -> bool {
        if plan.is_full() {
            plan.keep(now, |subject| self.acme.needs(subject));
        }
        if let Some(kept) = self.acme.find(subject.name()).filter(|_| !plan.knows(subject)) {
            plan.has(subject.clone(), kept.life);
        }
        plan.want(subject.clone(), now)
    }

    /// When the authority suggests to renew what is there.
    fn suggestions(&self) -> impl Future<Output = Vec<(Subject, SystemTime)>> + use<> {
        let (orders, account) = (Arc::clone(&self.orders), Arc::clone(&self.account));
        let all = self.acme.0.kept.read().unwrap_or_else(PoisonError::into_inner);
        let kept: Vec<_> = all.iter().map(|(name, kept)| (Subject::of(name), Arc::clone(kept))).collect();
        async move { if kept.is_empty() { Vec::new() } else { orders.suggestions(kept, &account).await } }
    }

    fn order(
        &self,
        subject: Subject,
    ) -> impl Future<Output = (Subject, Result<kept::Issued, OrderError>)> + use<> {
        let (orders, account) = (Arc::clone(&self.orders), Arc::clone(&self.account));
        let old = self.acme.find(subject.name());
        async move {
            let outcome = orders.order(&subject, old.as_deref(), &account).await;
            (subject, outcome)
        }
    }

    fn settle(&mut self, plan: &mut Plan, subject: Subject, outcome: Result<kept::Issued, OrderError>) {
        let now = SystemTime::now();
        let name = subject.name().to_owned();
        match outcome.and_then(|issued| self.store.save(&subject, &issued, now).map_err(OrderError::Kept)) {
            Ok(kept) => {
                tracing::info!(name, until = ?kept.life.ends, "certificate issued");
                plan.issued(subject.clone(), kept.life, now);
                self.acme.keep(&subject, kept);
                locked(&self.acme.0.troubles).remove(subject.name());
            }
            Err(error) => {
                let pause = plan.failed(&subject, now);
                locked(&self.acme.0.troubles).insert(subject.name().into(), told(&error));
                let error = &error as &dyn std::error::Error;
                tracing::warn!(name, error, again_in = ?pause, "no certificate");
            }
        }
        self.waiting.remove(&subject);
    }
}

/// An error with what has led to it.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

/// What happens, but not before a certain time.
async fn later(at: Instant, what: impl Future<Output = ()>) {
    sleep_until(at).await;
    what.await;
}
