//! Ports at which this machine's router leads to the node, asked for by PCP (RFC 6887), or by NAT-PMP (RFC 6886) where a router speaks
//! no other.
//!
//! Both are one packet to the router and one back. A mapping ends by itself within an hour of the last time that it was asked for, and
//! is given back when the node shuts down.

mod gateway;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZeroU16,
    time::Duration,
};

use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp};
use mytunnel_keys::wire::direct::Over;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    direct::candidates::{is_translated, may_be_mapped},
    tasks::resume,
};

/// Where the node listens inside, by each carrier.
pub(crate) type Ports = BTreeSet<(Over, SocketAddrV4)>;

/// Where it is reached from outside.
pub(crate) type Mapped = Vec<(Over, SocketAddr)>;

/// Seconds for which a router is to keep a mapping; it may choose others.
const LIFE: u32 = 3600;

/// The shortest time after which one is asked for again, whatever the router says.
const SOONEST: Duration = Duration::from_secs(60);

/// How long a router that gave none is left alone.
const PAUSE: Duration = Duration::from_secs(600);

/// Ports that a router is asked for.
const MOST: usize = 4;

/// A router is near: what it has not answered within two seconds it does not.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};

/// Time to give everything back: as long as a router has to answer.
const GOODBYE: Duration = Duration::from_secs(2);

/// See the [module documentation](self). Idle until ports are wanted.
#[derive(Debug)]
pub(crate) struct Mapper {
    wanted: watch::Sender<Ports>,
    mapped: mpsc::Receiver<Mapped>,
    task: JoinSet<()>,
    /// What the task is begun with.
    parts: Option<(watch::Receiver<Ports>, mpsc::Sender<Mapped>)>,
}

impl Mapper {
    pub(crate) fn new() -> Self {
        let (wanted, asked) = watch::channel(Ports::new());
        let (told, mapped) = mpsc::channel(1);
        Self { wanted, mapped, task: JoinSet::new(), parts: Some((asked, told)) }
    }

    /// These are wanted, and no others.
    pub(crate) fn want(&mut self, ports: Ports) {
        if !ports.is_empty()
            && let Some((asked, told)) = self.parts.take()
        {
            self.task.spawn(keep(asked, told));
        }
        self.wanted.send_replace(ports);
    }

    /// What is mapped from now on. Pending for ever while nothing changes. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Mapped {
        match self.mapped.recv().await {
            Some(mapped) => mapped,
            None => std::future::pending().await,
        }
    }

    /// Gives everything back.
    pub(crate) async fn close(self) {
        let Self { wanted, mapped, mut task, .. } = self;
        drop((wanted, mapped));
        let ended = async {
            while let Some(ended) = task.join_next().await {
                if let Err(error) = ended {
                    resume(error);
                }
            }
        };
        if timeout(GOODBYE, ended).await.is_err() {
            tracing::debug!("the router does not take its ports back");
        }
    }
}

/// What this machine's router does when it is asked for a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Router {
    /// It leads ports here, from this address.
    Leads {
        /// The router.
        gateway: IpAddr,
        /// Where the port was, which was given back.
        outside: SocketAddr,
    },
    /// It leads none.
    Refuses {
        /// The router.
        gateway: IpAddr,
        /// Why not, or that it does not answer.
        why: String,
    },
    /// This machine has a public address, is in no network, or its system does not tell which router is next.
    None,
}

/// Asks the router for a port for a moment. Within some seconds.
pub async fn look_at_router() -> Router {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let led = interfaces.into_iter().find_map(|interface| match interface.ip() {
        IpAddr::V4(local) if is_translated(local.into()) => Some((local, gateway::of(local)?)),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    let Some((local, gateway)) = led else { return Router::None };
    let refuses = |why: String| Router::Refuses { gateway: gateway.into(), why };
    // A port that is free here, so that nobody gets what is another's.
    let socket = match UdpSocket::bind((local, 0)).await.and_then(|socket| socket.local_addr()) {
        Ok(SocketAddr::V4(address)) => address,
        Ok(SocketAddr::V6(_)) => return Router::None,
        Err(error) => return refuses(error.to_string()),
    };
    match ask((Over::Quic, socket), gateway, None).await {
        Ok(held) => {
            let outside = held.outside;
            drop(held.mapping.try_drop().await);
            Router::Leads { gateway: gateway.into(), outside }
        }
        Err(why) => refuses(why),
    }
}

/// A port of the router.
struct Held {
    port: (Over, SocketAddrV4),
    mapping: PortMapping,
    outside: SocketAddr,
    /// When it is asked for again.
    due: Instant,
}

async fn keep(mut wanted: watch::Receiver<Ports>, told: mpsc::Sender<Mapped>) {
    let (mut held, mut last): (Vec<Held>, Mapped) = (Vec::new(), Mapped::new());
    loop {
        let ports = wanted.borrow_and_update().clone();
        let (kept, gone): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| ports.contains(&held.port));
        held = kept;
        // The router of a network that we have left is out of reach.
        let in_reach = |held: &Held| gateway::of(*held.port.1.ip()).is_some();
        let gone = give_back(gone.into_iter().filter(in_reach));
        if timeout(GOODBYE, gone).await.is_err() {
            tracing::debug!("the router does not take its ports back");
        }
        let led = |port: (Over, SocketAddrV4)| gateway::of(*port.1.ip()).map(|gateway| (port, gateway));
        let most = ports.len().min(MOST);
        for (port, gateway) in ports.into_iter().filter_map(led).take(MOST) {
            let now = Instant::now();
            let known = held.iter().position(|held| held.port == port);
            if known.is_some_and(|known| held[known].due > now) {
                continue;
            }
            let before = known.map(|known| held.swap_remove(known).mapping);
            let asked = tokio::select! {
                asked = ask(port, gateway, before) => asked,
                () = told.closed() => return give_back(held).await,
            };
            match asked {
                Ok(mapped) => held.push(mapped),
                Err(why) => tracing::debug!(%gateway, why, "the router leads no port here"),
            }
        }
        let mut mapped: Mapped = held.iter().map(|held| (held.port.0, held.outside)).collect();
        mapped.sort_unstable();
        if mapped != last {
            last.clone_from(&mapped);
            if told.send(mapped).await.is_err() {
                break;
            }
        }
        let again = (held.len() < most).then(|| Instant::now() + PAUSE);
        let next = held.iter().map(|held| held.due).chain(again).min();
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { break },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {},
        }
    }
    give_back(held).await;
}

async fn give_back(held: impl IntoIterator<Item = Held>) {
    let given_back = held.into_iter().map(|held| held.mapping.try_drop());
    for given in futures::future::join_all(given_back).await {
        if let Err((error, _)) = given {
            tracing::debug!(%error, "the router keeps a port until its time is over");
        }
    }
}

/// Asks for a port, or for one that is there already; why there is none.
async fn ask(
    port: (Over, SocketAddrV4),
    gateway: Ipv4Addr,
    before: Option<PortMapping>,
) -> Result<Held, String> {
    let (over, local) = port;
    let protocol = match over {
        Over::Quic => InternetProtocol::Udp,
        Over::Tcp => InternetProtocol::Tcp,
    };
    let inside = NonZeroU16::new(local.port()).ok_or("there is no port yet")?;
    // The same as before, or the one inside, if it is free.
    let outside = before.as_ref().map_or(inside, PortMapping::external_port);
    let options = PortMappingOptions {
        external_port: Some(outside),
        lifetime_seconds: Some(LIFE),
        timeout_config: Some(PATIENCE),
    };
    let renewed = match before {
        Some(mut mapping) => mapping.renew().await.is_ok().then_some(mapping),
        None => None,
    };
    let mapping = match renewed {
        Some(mapping) => mapping,
        None => {
            let client = IpAddr::from(*local.ip());
            PortMapping::new(gateway.into(), client, protocol, inside, options)
                .await
                .map_err(|error| error.to_string())?
        }
    };
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
        PortMappingType::NatPmp => match natpmp::external_address(gateway.into(), Some(PATIENCE)).await {
            Ok(ip) => ip.into(),
            Err(error) => {
                drop(mapping.try_drop().await);
                return Err(error.to_string());
            }
        },
    };
    let outside = SocketAddr::new(ip, mapping.external_port().get());
    if !may_be_mapped(outside) {
        drop(mapping.try_drop().await);
        return Err(format!("it is behind another router itself: its address is {}", outside.ip()));
    }
    let half = Duration::from_secs(u64::from(mapping.lifetime() / 2));
    Ok(Held { port, mapping, outside, due: Instant::now() + half.max(SOONEST) })
}
