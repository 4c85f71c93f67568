//! Ports at which this machine's router leads to the node, asked for by PCP (RFC 6887), by NAT-PMP (RFC 6886), or by [`upnp`] where a router
//! speaks no other.
//!
//! The first two are one packet to the router and one back. A mapping ends by itself within an hour of the last time that it was asked for, and
//! is given back when the node shuts down.

mod ask;
mod gateway;
mod keep;
mod upnp;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mytunnel_keys::wire::direct::Over;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    direct::candidates::{is_public, is_translated},
    tasks::resume,
};
use ask::{Refused, Routers, ask};
use keep::{Lead as _, Port, keep};
#[doc(hidden)]
pub use upnp::fuzz;

/// Where the node listens inside, by each carrier.
pub(crate) type Ports = BTreeSet<Port>;

/// Where it is reached from outside.
pub(crate) type Mapped = Vec<(Over, SocketAddr)>;

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
            self.task.spawn(keep(Routers, asked, told));
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
    /// It would, but is behind another router itself, which nobody can ask.
    Behind {
        /// The router.
        gateway: IpAddr,
        /// The address that it has outside.
        outside: IpAddr,
    },
    /// There is none that translates: this machine has a public address.
    NotNeeded(IpAddr),
    /// This machine is in no network, or its system does not tell which router is next.
    Unknown,
}

/// Asks the router for a port for a moment. Within some seconds, or a quarter of a minute where it is slow.
pub async fn look_at_router() -> Router {
    let addresses: Vec<_> =
        if_addrs::get_if_addrs().unwrap_or_default().iter().map(if_addrs::Interface::ip).collect();
    let v4 = || addresses.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
    let led = v4().find_map(|local| is_translated(local.into()).then_some((local, Routers.gateway(local)?)));
    let Some((local, gateway)) = led else {
        return v4()
            .find(|ip| is_public((*ip).into()))
            .map_or(Router::Unknown, |ip| Router::NotNeeded(ip.into()));
    };
    let refuses = |why: String| Router::Refuses { gateway: gateway.into(), why };
    // A port that is free here, so that nobody gets what is another's.
    let socket = match UdpSocket::bind((local, 0)).await.and_then(|socket| socket.local_addr()) {
        Ok(SocketAddr::V4(address)) => address,
        Ok(SocketAddr::V6(_)) => return Router::Unknown,
        Err(error) => return refuses(error.to_string()),
    };
    match ask((Over::Quic, socket), gateway, None).await {
        Ok(lent) => {
            Routers.give_back(lent.lease).await;
            Router::Leads { gateway: gateway.into(), outside: lent.outside }
        }
        Err(Refused::Behind(outside)) => Router::Behind { gateway: gateway.into(), outside },
        Err(refused) => refuses(refused.to_string()),
    }
}
