//! The ingress on a node: TLS of one name ends here, behind a relay that passes it through, and what is in it meets the same
//! checks, limits and gates as at a relay.
//!
//! [`Inside::connect`] gives the near end of a connection for a visitor who came to the relay; [`Upkeep::run`] has to run
//! meanwhile. Where the routes lead is for the owner to say: a tunnel of kind HTTP to the target.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::SystemTime};

use rustls::{ServerConfig, server::ResolvesServerCert};
use tokio::{
    io::{DuplexStream, duplex},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    IngressConfig, IngressError, Limits, TrustedProxies,
    connections::Connected,
    head::Visitor,
    listener::{Acceptor, Held, speak, sweep},
    tls::{self, Beside},
    visit::{Guest, Visit},
    visitor_io::VisitorStream,
};
use crate::{
    acme::{Acme, AcmeConfig, AcmeError, Desk},
    local_ca::{LocalCa, LocalCaError},
    route::Routes,
};

/// Bytes under way in each direction.
const BUFFER: usize = 64 * 1024;

/// What a name shows visitors.
#[derive(Debug)]
pub enum Certificates {
    /// These.
    Own(Arc<dyn ResolvesServerCert>),
    /// Those of an authority of this node's own, kept in this folder.
    Local(PathBuf),
    /// Those of a public authority, kept in this folder.
    Public(AcmeConfig, PathBuf),
}

/// Why TLS cannot end here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InsideError {
    /// The ingress cannot serve.
    #[error(transparent)]
    Ingress(#[from] IngressError),
    /// The authority of this node's own cannot be used.
    #[error("the authority of this machine's own cannot be used")]
    Local(#[from] LocalCaError),
    /// There can be no certificates of a public authority.
    #[error("there can be no certificates")]
    Acme(#[from] AcmeError),
}

/// An ingress behind a relay, for connections that the relay passes through.
pub struct Inside {
    acceptor: Arc<Acceptor>,
    tls: Arc<ServerConfig>,
    local_ca: Option<PathBuf>,
}

/// What has to run beside an [`Inside`]: orders certificates, and puts idle pipes away.
pub struct Upkeep {
    acceptor: Arc<Acceptor>,
    desk: Option<Desk>,
}

impl Inside {
    /// For names under `domain`.
    ///
    /// # Errors
    /// When there can be no certificates.
    pub fn open(
        domain: &str,
        certificates: Certificates,
        limits: Limits,
        routes: Routes,
    ) -> Result<(Self, Upkeep), InsideError> {
        let (mut local_ca, mut acme, mut desk) = (None, None, None);
        let resolver = match certificates {
            Certificates::Own(resolver) => resolver,
            Certificates::Local(directory) => {
                let ca = LocalCa::open(&directory, domain, domain, SystemTime::now())?;
                local_ca = ca.path().map(ToOwned::to_owned);
                ca.resolver(routes.clone())
            }
            Certificates::Public(config, directory) => {
                // There is no console here, and no name that stands for one.
                let (all, orders) = Acme::open(&config, Some(&directory), (domain, ""), &routes)?;
                desk = Some(orders);
                acme.insert(all).resolver()
            }
        };
        let tls = tls::config(resolver).map_err(IngressError::Tls)?;
        let config = IngressConfig {
            http: None,
            https: None,
            domain: domain.to_owned(),
            console: String::new(),
            console_service: None,
            limits,
            proxies: TrustedProxies::default(),
            only_https: true,
            sign_in: Arc::default(),
        };
        let beside = Beside { acme, ..Beside::default() };
        let acceptor = Arc::new(Acceptor::new(config, None, beside, routes, CancellationToken::new())?);
        let upkeep = Upkeep { acceptor: Arc::clone(&acceptor), desk };
        Ok((Self { acceptor, tls, local_ca }, upkeep))
    }

    /// The file with the certificate of this node's own authority: whoever trusts that sees no warning.
    pub fn local_ca(&self) -> Option<&std::path::Path> {
        self.local_ca.as_deref()
    }

    /// The near end of a connection with this visitor, whose TLS ends at the far one; none where there are too many.
    pub fn connect(&self, visitor: SocketAddr) -> Option<DuplexStream> {
        let acceptor = &self.acceptor;
        let shared = acceptor.current.get();
        let limits = &shared.limits;
        let address = visitor.ip().to_canonical();
        let place = acceptor.connections.enter(limits.connections, Some(address))?;
        let address_seat = acceptor.addresses.connect(address, limits.connections_per_address)?;
        if acceptor.shutdown.is_cancelled() {
            return None;
        }
        let guest = Guest { visitor: Visitor::new(address, true), address: address_seat };
        let visit =
            Arc::new(Visit::new(Arc::new(guest), Arc::clone(limits), shared.tally.clone(), Instant::now()));
        let held = acceptor.visits.enter(&visit);
        let (near, far) = duplex(BUFFER);
        let (this, tls) = (Arc::clone(acceptor), Arc::clone(&self.tls));
        acceptor.tasks.spawn(async move { serve(&this, far, tls, visit, (place, held)).await });
        Some(near)
    }

    /// Whether there is a certificate for the name at this moment.
    pub fn has_certificate(&self, name: &str) -> bool {
        self.acceptor.beside.acme.as_ref().is_none_or(|acme| acme.has(name))
    }

    /// Whether there is a certificate for the name; waits while the first is on its way.
    ///
    /// # Errors
    /// Why there is none yet. It is tried again.
    pub async fn certified(&self, name: &str) -> Result<(), String> {
        match &self.acceptor.beside.acme {
            Some(acme) => acme.certified(name).await,
            None => Ok(()),
        }
    }

    /// Takes nobody in any more, and waits for a while until requests under way have ended.
    pub async fn drain(&self) {
        self.acceptor.shutdown.cancel();
        self.acceptor.drain().await;
    }
}

async fn serve(
    acceptor: &Acceptor,
    stream: DuplexStream,
    tls: Arc<ServerConfig>,
    visit: Arc<Visit>,
    _held: (Connected, Held),
) {
    let shared = acceptor.current.get();
    let handshake = tls::accept_inside(stream, &tls, acceptor.beside.acme.as_ref());
    let handshake = timeout(shared.limits.head_timeout, handshake);
    let Some(Ok(handshake)) = acceptor.shutdown.run_until_cancelled(handshake).await else { return };
    match handshake {
        Ok(Some(stream)) => {
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
            speak(stream, is_http2, shared, visit).await;
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "no tls"),
    }
}

impl Upkeep {
    /// Runs until cancelled.
    pub async fn run(self, cancelled: CancellationToken) {
        let sweep = cancelled.run_until_cancelled(sweep(&self.acceptor.current));
        match self.desk {
            Some(desk) => drop(tokio::join!(sweep, desk.run(cancelled.clone()))),
            None => drop(sweep.await),
        }
    }
}

impl VisitorStream for DuplexStream {
    /// What is dropped in the middle of a TLS stream does not look whole: its last word is missing.
    fn reset(&self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").field("local_ca", &self.local_ca).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upkeep").field("desk", &self.desk).finish_non_exhaustive()
    }
}
