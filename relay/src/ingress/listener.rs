//! The listeners: accept visitors up to the limits, and end them all on shutdown: first politely, then not.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::server::conn::http1;
use rustls::{ServerConfig, server::ResolvesServerCert};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ConsoleService, Limits, Shared, TrustedProxies,
    head::Visitor,
    http2,
    limits::Addresses,
    locked,
    tls::{self, Accepted, Beside},
    visit::{Guest, Visit},
    visitor,
    visitor_io::VisitorStream,
};
use crate::{gate::Gatekeeper, route::Routes};

/// What the ingress listens on and answers for.
pub struct IngressConfig {
    /// Plain HTTP.
    pub http: Option<TcpListener>,
    /// HTTP over TLS.
    pub https: Option<Https>,
    /// The base domain: tunnels are its direct subdomains.
    pub domain: String,
    /// The console's host.
    pub console: String,
    /// Who answers for the console; without one its host is unknown.
    pub console_service: Option<ConsoleService>,
    /// Bounds.
    pub limits: Limits,
    /// Proxies in front, which are believed about visitors.
    pub proxies: TrustedProxies,
    /// Who vouches for visitors.
    pub sign_in: Arc<mytunnel_sign_in::Client>,
}

/// A TLS listener and where its certificates come from.
#[derive(Debug)]
pub struct Https {
    /// The socket.
    pub listener: TcpListener,
    /// Chooses the certificate by the name that the visitor asks for.
    pub certificates: Arc<dyn ResolvesServerCert>,
}

impl fmt::Debug for IngressConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngressConfig")
            .field("http", &self.http)
            .field("https", &self.https)
            .field("domain", &self.domain)
            .field("console", &self.console)
            .finish_non_exhaustive()
    }
}

/// Why the ingress cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngressError {
    /// The TLS settings were refused.
    #[error("tls cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

/// Serves visitors until `shutdown`, then lets requests in flight end for [`Limits::drain_timeout`], aborts the rest
/// and returns.
pub async fn serve(
    config: IngressConfig,
    routes: Routes,
    shutdown: CancellationToken,
) -> Result<(), IngressError> {
    serve_with(config, Beside::default(), routes, shutdown).await
}

/// As [`serve`], with others who come in beside visitors, on the TLS listener.
pub(crate) async fn serve_with(
    config: IngressConfig,
    beside: Beside,
    routes: Routes,
    shutdown: CancellationToken,
) -> Result<(), IngressError> {
    let (limits, access_log) = (Arc::new(config.limits), beside.access_log.clone());
    let acceptor = Acceptor {
        http1: visitor::http1(&limits),
        connections: Arc::new(Semaphore::new(limits.connections)),
        addresses: Addresses::default(),
        visits: Visits::default(),
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
        beside,
        shared: Arc::new(Shared {
            routes,
            gates: Gatekeeper::new(config.sign_in, &config.console).map_err(IngressError::Random)?,
            domain: config.domain.to_ascii_lowercase().into_boxed_str(),
            console: config.console.to_ascii_lowercase().into_boxed_str(),
            console_service: config.console_service,
            limits,
            proxies: config.proxies,
            access_log,
            senders: Addresses::default(),
        }),
    };
    let acceptor = Arc::new(acceptor);
    let secure = match config.https {
        Some(https) => Some((https.listener, tls::config(https.certificates).map_err(IngressError::Tls)?)),
        None => None,
    };
    let plain = async {
        if let Some(listener) = config.http {
            Arc::clone(&acceptor).accept_all(listener, None).await;
        }
    };
    let tls = async {
        if let Some((listener, config)) = secure {
            Arc::clone(&acceptor).accept_all(listener, Some(config)).await;
        }
    };
    let sweep = shutdown.run_until_cancelled(sweep(&acceptor.shared));
    tokio::join!(plain, tls, sweep, shutdown.cancelled());
    acceptor.drain().await;
    Ok(())
}

/// How often idle pipes are looked over.
const SWEEP: Duration = Duration::from_secs(5);

async fn sweep(shared: &Shared) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        let now = ticks.tick().await;
        for tunnel in shared.routes.live() {
            tunnel.pool().sweep(now, shared.limits.pipe_idle_timeout);
        }
    }
}

struct Acceptor {
    http1: http1::Builder,
    connections: Arc<Semaphore>,
    addresses: Addresses,
    visits: Visits,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    beside: Beside,
    shared: Arc<Shared>,
}

/// What one more visitor over the limit is told.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nx-mytunnel-error: RATE_LIMITED\r\nretry-after: 5\r\n\
    content-type: text/plain\r\ncontent-length: 15\r\nconnection: close\r\n\r\nToo many users.";

/// How long accepting rests when the system is out of sockets.
const EXHAUSTED: Duration = Duration::from_millis(100);

impl Acceptor {
    async fn accept_all(self: Arc<Self>, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => self.admit(stream, address, tls.as_ref()),
                Err(error) if is_visitors_fault(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept visitors");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, address: SocketAddr, tls: Option<&Arc<ServerConfig>>) {
        let limits = &self.shared.limits;
        // A proxy stands for many, who have their shares by request.
        let by_proxy = self.shared.proxies.trust(address.ip());
        let share = if by_proxy { u32::MAX } else { limits.connections_per_address };
        let seats = Arc::clone(&self.connections)
            .try_acquire_owned()
            .ok()
            .zip(self.addresses.connect(address.ip(), share));
        let Some((permit, address_seat)) = seats else {
            // One try: whoever does not take it at once has lost nothing but the reason.
            drop(stream.try_write(FULL));
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "visitor left at once");
            return;
        }
        let guest = Guest { visitor: Visitor::new(address.ip(), tls.is_some()), address: address_seat };
        let visit = Arc::new(Visit::new(Arc::new(guest), Arc::clone(limits), Instant::now()));
        let held = self.visits.enter(&visit);
        let this = Arc::clone(self);
        match tls.map(Arc::clone) {
            None => drop(self.tasks.spawn(async move { this.plain(stream, visit, permit, held).await })),
            Some(config) => {
                drop(self.tasks.spawn(async move { this.secure(stream, config, visit, permit, held).await }));
            }
        }
    }

    async fn plain(&self, stream: TcpStream, visit: Arc<Visit>, _permit: OwnedSemaphorePermit, _held: Held) {
        let first = http2::is_preface(&stream);
        let patience = self.shared.limits.head_timeout;
        let first = self.shutdown.run_until_cancelled(tokio::time::timeout(patience, first)).await;
        let Some(Ok(Ok(is_http2))) = first else { return };
        self.speak(stream, is_http2, visit).await;
    }

    async fn speak<S: VisitorStream>(&self, stream: S, http2: bool, visit: Arc<Visit>) {
        let shared = Arc::clone(&self.shared);
        match http2 {
            true => http2::serve(stream, shared, visit).await,
            false => visitor::serve(stream, &self.http1, shared, visit).await,
        }
    }

    async fn secure(
        &self,
        stream: TcpStream,
        config: Arc<ServerConfig>,
        visit: Arc<Visit>,
        _permit: OwnedSemaphorePermit,
        _held: Held,
    ) {
        let handshake =
            tokio::time::timeout(self.shared.limits.head_timeout, tls::accept(stream, &config, &self.beside));
        let Some(Ok(handshake)) = self.shutdown.run_until_cancelled(handshake).await else { return };
        match handshake {
            Ok(Accepted::Visitor(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
                self.speak(*stream, is_http2, visit).await;
            }
            Ok(Accepted::Lane | Accepted::Challenge) => {}
            Err(error) => tracing::debug!(%error, "no tls"),
        }
    }

    async fn drain(&self) {
        self.tasks.close();
        self.visits.each(Visit::drain);
        if tokio::time::timeout(self.shared.limits.drain_timeout, self.tasks.wait()).await.is_err() {
            self.visits.each(Visit::abort);
            self.tasks.wait().await;
        }
    }
}

fn is_visitors_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Every visitor connection there is, for the shutdown.
#[derive(Clone, Debug, Default)]
struct Visits(Arc<VisitTable>);

#[derive(Debug, Default)]
struct VisitTable {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Visit>>>,
}

/// Takes its connection out of the table on drop.
struct Held(Visits, u64);

impl Visits {
    fn enter(&self, visit: &Arc<Visit>) -> Held {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.0.open).insert(number, Arc::clone(visit));
        Held(self.clone(), number)
    }

    fn each(&self, act: impl Fn(&Visit)) {
        let open: Vec<Arc<Visit>> = locked(&self.0.open).values().cloned().collect();
        for visit in open {
            act(&visit);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(locked(&self.0.0.open).remove(&self.1));
    }
}
