//! Certificates for visitors from a public authority, by ACME (RFC 8555): one for the whole domain where DNS can be
//! answered for, else one for each name that exists.
//!
//! [`Acme::ready`] is asked before a handshake is answered, and waits while the name's first certificate is on its way.
//! One task ([`desk`]) owns what is to be ordered when ([`plan`]), so that no name is ordered twice at once; a name
//! that the relay does not serve is never ordered, whoever asks for it.

mod client;
mod desk;
mod dns;
mod gone;
mod kept;
mod order;
mod plan;
mod refusal;
mod scope;
mod week;
mod zone;

pub use self::zone::fuzz;

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use hickory_proto::ProtoError;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

pub(crate) use self::{desk::Desk, zone::NameServer};
use self::{
    dns::{Hook, Records},
    gone::Gone,
    kept::{Kept, Store},
    order::{Challenges, Orders},
    plan::Life,
    scope::{Scope, Subject},
    week::Week,
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

/// Reasons that are remembered, by name.
const TROUBLES: usize = 10_000;

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
    numbers: Numbers,
}

/// For whoever watches the relay.
#[derive(Debug, Default)]
struct Numbers {
    issued: AtomicU64,
    failed: AtomicU64,
    under_way: AtomicUsize,
    /// New names of this week, where that counts.
    week: AtomicUsize,
}

/// How it stands with certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// That are there.
    pub(crate) certificates: usize,
    /// Seconds of the Unix epoch at which the first of them ends.
    pub(crate) first_end: Option<u64>,
    /// Orders that brought one, and that did not.
    pub(crate) issued: u64,
    pub(crate) failed: u64,
    pub(crate) under_way: usize,
    /// New names of this week, where the authority is known to count.
    pub(crate) week: usize,
}

/// What is bounded of it.
pub(crate) const BOUNDS: [(&str, usize); 2] =
    [("acme_orders_under_way", AT_ONCE), ("acme_new_names_this_week", week::MOST)];

/// A visitor who waits for a certificate, and is told by the end of the channel.
struct Asked {
    subject: Subject,
    waiting: oneshot::Sender<()>,
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
            numbers: Numbers::default(),
        };
        let acme = Self(Arc::new(inner));
        // What others count is told by them when it is reached.
        let week = match config.directory == LETS_ENCRYPT {
            true => Some(Week::new(&domain.to_ascii_lowercase(), store.week()?.as_deref())),
            false => None,
        };
        Ok((acme.clone(), Desk::new(acme, asked, (store, Arc::new(orders)), week)))
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

    /// How it stands with certificates at this moment.
    pub(crate) fn standing(&self) -> Standing {
        let kept = self.0.kept.read().unwrap_or_else(PoisonError::into_inner);
        let first_end = kept.values().map(|kept| kept.life.ends).min();
        let Numbers { issued, failed, under_way, week } = &self.0.numbers;
        Standing {
            certificates: kept.len(),
            first_end: first_end
                .and_then(|at| Some(at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())),
            issued: issued.load(Relaxed),
            failed: failed.load(Relaxed),
            under_way: under_way.load(Relaxed),
            week: week.load(Relaxed),
        }
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

    fn note_trouble(&self, subject: &Subject, trouble: String) {
        let mut troubles = locked(&self.0.troubles);
        // They are words for whoever waits just now: the next try says them again.
        if troubles.len() >= TROUBLES {
            troubles.clear();
        }
        troubles.insert(subject.name().into(), trouble);
    }

    fn keep(&self, subject: &Subject, kept: Kept) {
        let mut all = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(subject.name().into(), Arc::new(kept));
    }

    /// Lets go of what is kept of names that are gone, and says of which.
    fn tidy(&self, gone: &mut Gone, now: SystemTime) -> Vec<Subject> {
        let kept: Vec<_> = {
            let all = self.0.kept.read().unwrap_or_else(PoisonError::into_inner);
            all.iter().map(|(name, kept)| (name.clone(), kept.life.ends)).collect()
        };
        let kept = kept.iter().map(|(name, ends)| (&**name, *ends));
        let over = gone.over(kept, |subject| self.needs(subject), now);
        let mut all = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        over.iter().for_each(|subject| _ = all.remove(subject.name()));
        over
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme").field("scope", &self.0.scope).finish_non_exhaustive()
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
