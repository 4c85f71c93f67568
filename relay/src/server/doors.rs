//! Where visitors and fast lanes come in.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use tokio::net::TcpListener;

use super::{Config, StartError};
use crate::{
    access_log::{AccessLog, Scribe},
    acme::{Acme, Desk, NameServer},
    ingress::Https,
    lanes::{Directory, Door},
    local_ca::{LocalCa, LocalCaError},
    metrics::Window,
    route::Routes,
    traces::Traces,
};

/// The sockets for visitors.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) http: Option<TcpListener>,
    pub(super) https: Option<Https>,
    /// Where fast lanes go in, beside HTTPS.
    pub(super) lanes: Option<Door>,
    pub(super) directory: Directory,
    /// Certificates of a public authority, and who orders them.
    pub(super) acme: Option<(Acme, Desk)>,
    /// Who answers for the record of their challenges.
    pub(super) names: Option<NameServer>,
    /// The log of visitors' requests, and who writes it.
    pub(super) log: (AccessLog, Option<Scribe>),
    pub(super) traces: Traces,
    /// Where scrapers come.
    pub(super) metrics: Option<Window>,
    /// The file of the certificate that signs for HTTPS, when it is a CA of this machine's own.
    pub(super) local_ca: Option<PathBuf>,
}

impl Doors {
    pub(super) async fn bind(config: &mut Config, routes: &Routes) -> Result<Self, StartError> {
        let http = match config.http {
            Some(addr) => Some(bind(addr).await?),
            None => None,
        };
        let (mut local_ca, mut acme) = (None, None);
        let https = match config.https {
            Some(addr) => {
                let certificates = match (config.certificates.take(), &config.acme) {
                    (Some(certificates), _) => certificates,
                    (None, Some(settings)) => {
                        let names = (config.trust.cluster().as_str(), config.console.as_str());
                        let (all, desk) = Acme::open(settings, config.data_dir.as_deref(), names, routes)?;
                        acme.insert((all, desk)).0.resolver()
                    }
                    (None, None) => {
                        let ca = own_authority(config)?;
                        local_ca = ca.path().map(Path::to_owned);
                        ca.resolver(routes.clone())
                    }
                };
                Some(Https { listener: bind(addr).await?, certificates, public_port: config.public_https })
            }
            None => None,
        };
        let names = match (&acme, config.acme.as_ref().and_then(|settings| settings.dns)) {
            (Some((all, _)), Some(addr)) => {
                all.name_server(addr).await.map_err(|source| StartError::Bind { addr, source })?
            }
            (None, _) | (_, None) => None,
        };
        let directory = Directory::default();
        let lanes = match https {
            Some(_) => Some(Door::new(&config.seed, directory.clone()).map_err(StartError::Lanes)?),
            None => None,
        };
        let (log, scribe) = match &config.access_log {
            Some(log) => {
                let opened = AccessLog::open(log).map_err(|source| {
                    let path = log.path.clone();
                    StartError::AccessLog { path, source }
                })?;
                (opened.0, Some(opened.1))
            }
            None => (AccessLog::default(), None),
        };
        let traces = match &config.traces {
            Some(traces) => Traces::open(traces, &config.seed.public().to_string())?,
            None => Traces::default(),
        };
        let metrics = match config.metrics {
            Some(addr) => Some(Window::bind(addr).await.map_err(|source| StartError::Bind { addr, source })?),
            None => None,
        };
        let log = (log.with_traces(traces.clone()), scribe);
        Ok(Self { http, https, lanes, directory, acme, names, log, traces, metrics, local_ca })
    }

    pub(super) fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    pub(super) fn https_addr(&self) -> Option<SocketAddr> {
        self.https.as_ref().and_then(|https| https.listener.local_addr().ok())
    }
}

fn own_authority(config: &Config) -> Result<LocalCa, LocalCaError> {
    let (domain, now) = (config.trust.cluster().as_str(), SystemTime::now());
    match &config.data_dir {
        Some(directory) => LocalCa::open(directory, domain, &config.console, now),
        None => LocalCa::ephemeral(domain, &config.console, now),
    }
}

async fn bind(addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|source| StartError::Bind { addr, source })
}
