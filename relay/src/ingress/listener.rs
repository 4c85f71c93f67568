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

use rustls::{ServerConfig, server::ResolvesServerCert};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ConsoleService, Limits, Shared, TrustedProxies,
    connections::{Connected, Connections},
    head::Visitor,
    http2,
    limits::Addresses,
    locked, passthrough,
    rates::Rates,
    terms::{Current, Terms},
    tls::{self, Accepted, Beside},
    visit::{Guest, Visit},
    visitor,
    visitor_io::VisitorStream,
};
use crate::{gate::Gatekeeper, line, route::Routes};

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
    /// Nothing is served in the clear: who comes without TLS is led to [`Self::https`], if there is one.
    pub only_https: bool,
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
    /// The port in URLs, where it differs from the socket's (behind a forwarding).
    pub public_port: Option<u16>,
}

impl Https {
    /// The port that visitors know.
    fn port(&self) -> Option<u16> {
        self.public_port.or_else(|| self.listener.local_addr().ok().map(|address| address.port()))
    }
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
    let (_terms, unchanged) = watch::channel(Terms::default());
    serve_with(config, Beside::default(), unchanged, routes, shutdown).await
}

/// As [`serve`], with others who come in beside visitors, on the TLS listener, and with terms that change: what is sent
/// holds for every connection that comes later.
pub(crate) async fn serve_with(
    mut config: IngressConfig,
    beside: Beside,
    terms: watch::Receiver<Terms>,
    routes: Routes,
    shutdown: CancellationToken,
) -> Result<(), IngressError> {
    let (http, https) = (config.http.take(), config.https.take());
    let https_port = https.as_ref().and_then(Https::port);
    let acceptor = Arc::new(Acceptor::new(config, https_port, beside, routes, shutdown.clone())?);
    let secure = match https {
        Some(https) => Some((https.listener, tls::config(https.certificates).map_err(IngressError::Tls)?)),
        None => None,
    };
    let plain = async {
        if let Some(listener) = http {
            Arc::clone(&acceptor).accept_all(listener, None).await;
        }
    };
    let tls = async {
        if let Some((listener, config)) = secure {
            Arc::clone(&acceptor).accept_all(listener, Some(config)).await;
        }
    };
    let sweep = shutdown.run_until_cancelled(sweep(&acceptor.current));
    let adjust = shutdown.run_until_cancelled(adjust(&acceptor.current, terms));
    tokio::join!(plain, tls, sweep, adjust, shutdown.cancelled());
    acceptor.drain().await;
    Ok(())
}

/// How often idle pipes are looked over.
const SWEEP: Duration = Duration::from_secs(5);

pub(super) async fn sweep(current: &Current) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        let now = ticks.tick().await;
        let shared = current.get();
        for tunnel in shared.routes.live() {
            tunnel.pool().sweep(now, shared.limits.pipe_idle_timeout);
        }
    }
}

/// Takes the terms that are sent.
async fn adjust(current: &Current, mut terms: watch::Receiver<Terms>) {
    while terms.changed().await.is_ok() {
        let newer = terms.borrow_and_update().clone();
        current.set(newer);
    }
}

pub(super) struct Acceptor {
    pub(super) connections: Connections,
    pub(super) addresses: Addresses,
    pub(super) visits: Visits,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
    pub(super) beside: Beside,
    pub(super) current: Current,
}

/// What one more visitor over the limit is told.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nx-mytunnel-error: RATE_LIMITED\r\nretry-after: 5\r\n\
    content-type: text/plain\r\ncontent-length: 15\r\nconnection: close\r\n\r\nToo many users.";

/// How long accepting rests when the system is out of sockets.
const EXHAUSTED: Duration = Duration::from_millis(100);

impl Acceptor {
    /// Nobody has come yet. The listeners of `config` are for its caller.
    pub(super) fn new(
        config: IngressConfig,
        https_port: Option<u16>,
        beside: Beside,
        routes: Routes,
        shutdown: CancellationToken,
    ) -> Result<Self, IngressError> {
        let (limits, access_log) = (Arc::new(config.limits), beside.access_log.clone());
        let senders = beside.crowds.senders.clone();
        let gates = Gatekeeper::new(config.sign_in, &config.console).map_err(IngressError::Random)?;
        let gates = Arc::new(gates.beside_ports(beside.ports).of_routes(routes.clone()));
        beside.tally.watch_gates(&gates);
        let (tally, beside_nodes) = (beside.tally.clone(), beside.nodes.clone());
        Ok(Self {
            connections: Connections::default(),
            addresses: beside.crowds.web.clone(),
            visits: Visits::default(),
            tasks: TaskTracker::new(),
            shutdown,
            beside,
            current: Current::new(Shared {
                routes,
                gates,
                domain: config.domain.to_ascii_lowercase().into(),
                console: config.console.to_ascii_lowercase().into(),
                console_service: config.console_service,
                https_port,
                only_https: config.only_https,
                http1: visitor::http1(&limits),
                rates: Arc::new(Rates::new(&limits)),
                limits,
                proxies: config.proxies,
                access_log,
                senders,
                tally,
                nodes: beside_nodes,
            }),
        })
    }

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
        let shared = self.current.get();
        let limits = &shared.limits;
        // A proxy stands for many, who have their shares by request.
        let by_proxy = shared.proxies.trust(address.ip());
        let share = if by_proxy { u32::MAX } else { limits.connections_per_address };
        let place = self.connections.enter(limits.connections, (!by_proxy).then_some(address.ip()));
        let Some((place, address_seat)) = place.zip(self.addresses.connect(address.ip(), share)) else {
            // One try: whoever does not take it at once has lost nothing but the reason.
            drop(stream.try_write(FULL));
            shared.tally.turned_away.add(1);
            return;
        };
        if let Err(error) = line::attend_reader(&stream, limits.stall_timeout) {
            tracing::debug!(%error, "visitor left at once");
            return;
        }
        let guest = Guest { visitor: Visitor::new(address.ip(), tls.is_some()), address: address_seat };
        let visit =
            Arc::new(Visit::new(Arc::new(guest), Arc::clone(limits), shared.tally.clone(), Instant::now()));
        let held = self.visits.enter(&visit);
        let this = Arc::clone(self);
        match tls.map(Arc::clone) {
            None => {
                drop(self.tasks.spawn(async move { this.plain(stream, shared, visit, (place, held)).await }))
            }
            Some(config) => {
                drop(
                    self.tasks.spawn(async move {
                        this.secure((stream, config), shared, visit, (place, held)).await
                    }),
                );
            }
        }
    }

    async fn plain(
        &self,
        stream: TcpStream,
        shared: Arc<Shared>,
        visit: Arc<Visit>,
        _held: (Connected, Held),
    ) {
        let first = http2::is_preface(&stream);
        let patience = shared.limits.head_timeout;
        let first = self.shutdown.run_until_cancelled(tokio::time::timeout(patience, first)).await;
        let Some(Ok(Ok(is_http2))) = first else { return };
        speak(stream, is_http2, shared, visit).await;
    }

    async fn secure(
        &self,
        (stream, config): (TcpStream, Arc<ServerConfig>),
        shared: Arc<Shared>,
        visit: Arc<Visit>,
        _held: (Connected, Held),
    ) {
        let handshake = tls::accept(stream, &config, &self.beside, &shared);
        let handshake = tokio::time::timeout(shared.limits.head_timeout, handshake);
        let Some(Ok(handshake)) = self.shutdown.run_until_cancelled(handshake).await else { return };
        match handshake {
            Ok(Accepted::Visitor(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
                speak(*stream, is_http2, shared, visit).await;
            }
            Ok(Accepted::Passed(passed)) => passthrough::serve(passed, &shared, &visit).await,
            Ok(Accepted::Lane | Accepted::Challenge) => {}
            Err(error) => tracing::debug!(%error, "no tls"),
        }
    }

    pub(super) async fn drain(&self) {
        self.tasks.close();
        self.visits.each(Visit::drain);
        let patience = self.current.get().limits.drain_timeout;
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            self.visits.each(Visit::abort);
            self.tasks.wait().await;
        }
    }
}

pub(super) async fn speak<S: VisitorStream>(stream: S, http2: bool, shared: Arc<Shared>, visit: Arc<Visit>) {
    match http2 {
        true => http2::serve(stream, shared, visit).await,
        false => visitor::serve(stream, shared, visit).await,
    }
}

fn is_visitors_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Every visitor connection there is, for the shutdown.
#[derive(Clone, Debug, Default)]
pub(super) struct Visits(Arc<VisitTable>);

#[derive(Debug, Default)]
struct VisitTable {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Visit>>>,
}

/// Takes its connection out of the table on drop.
pub(super) struct Held(Visits, u64);

impl Visits {
    pub(super) fn enter(&self, visit: &Arc<Visit>) -> Held {
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
