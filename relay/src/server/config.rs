//! What a relay is told at its start.

use std::{fmt, net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use libp2p::Multiaddr;
use mytunnel_carrier::transport;
use mytunnel_keys::{secret::Seed, trust::Trust};
use rustls::server::ResolvesServerCert;

use crate::{
    access_log::AccessLogConfig,
    acme::AcmeConfig,
    authority::Authority,
    circuits::CircuitLimits,
    ingress::{self, ConsoleService, TrustedProxies},
    ports::{PortLimits, PublicPorts},
    strangers::StrangerLimits,
    traces::TracesConfig,
};

/// Everything a relay is told at its start. [`Config::new`] takes what has no default.
#[non_exhaustive]
pub struct Config {
    /// The relay's own key: its identity towards nodes and towards the coordinator.
    pub seed: Seed,
    /// The certificate of that key, of kind relay. It is renewed while the relay runs; one that has ended is renewed
    /// before any tunnel is taken.
    pub certificate: Vec<u8>,
    /// Whom the cluster trusts. A newer bundle in [`Self::data_dir`] takes its place.
    pub trust: Trust,
    /// Whose feed to follow.
    pub authority: Arc<dyn Authority>,
    /// Where visitors come in without TLS. Port 0 takes a free one.
    pub http: Option<SocketAddr>,
    /// Where visitors come in with TLS.
    pub https: Option<SocketAddr>,
    /// The certificates for HTTPS. Default: those of an authority of the relay's own, kept in [`Self::data_dir`].
    pub certificates: Option<Arc<dyn ResolvesServerCert>>,
    /// Where certificates for HTTPS come from, if [`Self::certificates`] says nothing: a public authority.
    pub acme: Option<AcmeConfig>,
    /// Where every request of a visitor is noted down. Default: nowhere.
    pub access_log: Option<AccessLogConfig>,
    /// Where traces of visitors' requests go. Default: nowhere.
    pub traces: Option<TracesConfig>,
    /// Where a scraper reads the relay's metrics, over HTTP and without a credential. Default: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Nothing is served to visitors in the clear: who comes without TLS is led to it. Default false.
    pub only_https: bool,
    /// Names may be served whose TLS ends behind the relay. Default true.
    pub passthrough: bool,
    /// Where nodes come in, each over UDP (QUIC) and TCP. Port 0 takes a free one, the same for both where it can.
    pub p2p: Vec<SocketAddr>,
    /// Port of HTTP in URLs, where it differs from the bound one (behind a forwarding).
    pub public_http: Option<u16>,
    /// Port of HTTPS in URLs, where it differs from the bound one.
    pub public_https: Option<u16>,
    /// Addresses by which nodes outside reach [`Self::p2p`], without a peer id. Default: the bound ones.
    pub public_addrs: Vec<Multiaddr>,
    /// Where ports for TCP and UDP tunnels are opened. Default: nowhere.
    pub ports: Option<PublicPorts>,
    /// Host of the console. Default: the domain itself.
    pub console: String,
    /// Who answers for the console.
    pub console_service: Option<ConsoleService>,
    /// Proxies in front of the relay, which are believed about visitors. Default: none.
    pub trusted_proxies: TrustedProxies,
    /// Who vouches for visitors. Default: nobody.
    pub sign_in: Arc<mytunnel_sign_in::Client>,
    /// Where to remember how far the feed had come. Without it a feed that goes back is noticed only while the relay
    /// runs.
    pub data_dir: Option<PathBuf>,
    /// Limits and time-outs.
    pub limits: Limits,
}

impl Config {
    /// A relay that listens nowhere yet.
    pub fn new(seed: Seed, certificate: Vec<u8>, trust: Trust, authority: Arc<dyn Authority>) -> Self {
        let console = trust.cluster().to_string();
        Self {
            seed,
            certificate,
            trust,
            authority,
            http: None,
            https: None,
            certificates: None,
            acme: None,
            access_log: None,
            traces: None,
            metrics: None,
            only_https: false,
            passthrough: true,
            p2p: Vec::new(),
            public_http: None,
            public_https: None,
            public_addrs: Vec::new(),
            ports: None,
            console,
            console_service: None,
            trusted_proxies: TrustedProxies::default(),
            sign_in: Arc::default(),
            data_dir: None,
            limits: Limits::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("domain", self.trust.cluster())
            .field("authority", &self.authority)
            .field("http", &self.http)
            .field("https", &self.https)
            .field("p2p", &self.p2p)
            .field("ports", &self.ports)
            .field("console", &self.console)
            .field("data_dir", &self.data_dir)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Bounds of everything that others can make grow, and time-outs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Visitors.
    pub ingress: ingress::Limits,
    /// Visitors of public ports.
    pub ports: PortLimits,
    /// Connections that have not shown a certificate.
    pub strangers: StrangerLimits,
    /// Reservations and circuits.
    pub circuits: CircuitLimits,
    /// Windows and time-outs of connections with nodes. Default: those of the carrier, but with few streams that a node
    /// may have waiting, because a stranger may have them too.
    pub transport: transport::Config,
    /// Connections with nodes. Default 65,536.
    pub connections: u32,
    /// Connections with one node. Default 8.
    pub connections_per_peer: u32,
    /// Streams of one connection that the node may have in negotiation. Default 8.
    pub negotiating: NonZeroUsize,
    /// Pipes of one connection. Default 960, which stays below the streams of [`transport::Windows`].
    pub pipes_per_connection: usize,
    /// Time that a connection has to show a certificate. Default 5 s.
    pub patience: Duration,
    /// Time without news from the coordinator after which everything live is ended. Default 15 min.
    pub hard_staleness: Duration,
    /// Time that nodes have to take their farewell at shutdown. Default 2 s.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ingress: ingress::Limits::default(),
            ports: PortLimits::default(),
            strangers: StrangerLimits::default(),
            circuits: CircuitLimits::default(),
            transport: transport(),
            connections: 65_536,
            connections_per_peer: 8,
            negotiating: const { NonZeroUsize::new(8).expect("8 is not zero") },
            pipes_per_connection: 960,
            patience: Duration::from_secs(5),
            hard_staleness: Duration::from_secs(15 * 60),
            grace: Duration::from_secs(2),
        }
    }
}

/// A node opens few streams itself; its pipes are opened by the relay.
fn transport() -> transport::Config {
    let mut config = transport::Config::default();
    config.windows.waiting = 8;
    config.quic_streams = 128;
    config.quic_stream_window = 512 << 10;
    config.quic_window = 32 << 20;
    config
}
