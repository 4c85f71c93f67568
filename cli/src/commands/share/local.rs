//! A relay of one's own for one share: in memory, on this machine, gone with the process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mytunnel_coordinator::Limits as CoordinatorLimits;
use mytunnel_keys::id::Cluster;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::usage::Prices;
use mytunnel_node::{Config as NodeConfig, RelayAddress};
use mytunnel_relay::ingress::TrustedProxies;
use mytunnel_relay::{Limits as RelayLimits, PortRange, PublicPorts};

use crate::context::random;
use crate::embedded::{Embedded, Plan, RelayPlan};
use crate::failure::{Failure, chain};

/// The usual port; the next ones are for further shares at the same time, and port 0 for where all are taken.
const PORTS: std::ops::Range<u16> = 7070..7080;

/// Starts the relay, for TLS too where it is asked to, and makes the node a device of its only person.
pub(super) async fn start(secure: bool) -> Result<(Embedded, NodeConfig), Failure> {
    let at = |port| SocketAddr::new(IpAddr::from(Ipv4Addr::LOCALHOST), port);
    let embedded = Embedded::start(Plan {
        cluster: cluster(),
        database: None,
        url: "http://localhost".parse().expect("it is a URL"),
        limits: CoordinatorLimits::default(),
        prices: Prices::default(),
        sign_in: std::sync::Arc::default(),
        mail_command: Vec::new(),
        name_servers: Vec::new(),
        metrics_token: None,
        relay: RelayPlan {
            http: PORTS.chain([0]).map(at).collect(),
            https: secure.then(|| at(0)),
            p2p: at(0),
            acme: None,
            access_log: None,
            only_https: false,
            passthrough: true,
            traces: None,
            metrics: None,
            ports: Some(PublicPorts { ip: IpAddr::from(Ipv4Addr::LOCALHOST), range: PortRange::DEFAULT }),
            console: None,
            data: None,
            limits: limits(),
            proxies: TrustedProxies::default(),
            sign_in: std::sync::Arc::default(),
        },
    })
    .await?;
    match node(&embedded).await {
        Ok(config) => Ok((embedded, config)),
        Err(failure) => {
            embedded.shutdown().await;
            Err(failure)
        }
    }
}

/// Visitors' requests have had their time when the node left; the relay behind it need not wait again.
fn limits() -> RelayLimits {
    let mut limits = RelayLimits::default();
    limits.ingress.drain_timeout = Duration::from_millis(500);
    limits.grace = Duration::from_millis(500);
    limits
}

async fn node(embedded: &Embedded) -> Result<NodeConfig, Failure> {
    let seed = Seed::from_bytes(random()?);
    let device = embedded.coordinator.local_owner_device(seed.public()).await?;
    let addrs = embedded.relay.addrs();
    let addresses = addrs.p2p.iter().map(ToString::to_string);
    let relay = RelayAddress::parse(&addrs.id.to_string(), addresses).map_err(|error| {
        Failure::local(format!("the relay's own address: {}", chain(&error)), "Report this.")
    })?;
    let root = *embedded.coordinator.root();
    Ok(NodeConfig::new(seed, device.certificate, cluster(), root, vec![relay]))
}

fn cluster() -> Cluster {
    "localhost".parse().expect("it is a domain")
}
