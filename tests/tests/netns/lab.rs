//! A small internet on this machine: public hosts around a core that routes, home routers with NAT, hosts behind them.
//!
//! Everything is made of network namespaces that only this process holds (see [`namespace`]). Nothing is made in the
//! machine's own namespace, and no lab has a way out or to another lab.

mod host;
pub(crate) mod mapper;
pub(crate) mod namespace;
pub(crate) mod proxy;
mod router;
pub(crate) mod segment;

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use anyhow::{Context as _, Result};

pub(crate) use {host::Host, router::Router};
use {
    namespace::Namespace,
    segment::{Segment, Subnet},
};

use crate::{
    link::{Cable, Ports},
    nat::Nat,
};

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Lab {
    internet: Arc<Segment>,
    ports: Arc<Ports>,
    lans: AtomicU8,
    dual: bool,
}

impl Lab {
    /// IPv4 alone.
    pub(crate) fn new() -> Result<Self> {
        Self::with(false)
    }

    /// IPv4, translated, and IPv6, which is not.
    pub(crate) fn dual() -> Result<Self> {
        Self::with(true)
    }

    fn with(dual: bool) -> Result<Self> {
        let internet = Arc::new(Segment::internet(dual)?);
        Ok(Self { internet, ports: Arc::default(), lans: AtomicU8::new(0), dual })
    }

    /// A host with an address of its own on the internet.
    pub(crate) fn host(&self) -> Result<Host> {
        self.host_on(&self.internet)
    }

    /// A home router on the internet.
    pub(crate) fn router(&self, nat: Nat) -> Result<Router> {
        self.router_on(&self.internet, nat)
    }

    /// A host on the LAN of a router.
    pub(crate) fn host_behind(&self, router: &Router) -> Result<Host> {
        self.host_on(router.lan())
    }

    /// A router on the LAN of another, as behind a carrier's NAT.
    pub(crate) fn router_behind(&self, router: &Router, nat: Nat) -> Result<Router> {
        self.router_on(router.lan(), nat)
    }

    /// Moves a host to the LAN of another router, with an address of that one.
    pub(crate) fn roam(&self, host: &mut Host, router: &Router) -> Result<()> {
        host.cable.replug(router.lan())
    }

    fn host_on(&self, segment: &Arc<Segment>) -> Result<Host> {
        let namespace = self.node()?;
        let cable = Cable::plug(&self.ports, &namespace, "eth0", segment)?;
        Ok(Host { namespace, cable })
    }

    fn router_on(&self, segment: &Arc<Segment>, nat: Nat) -> Result<Router> {
        let number = self.lans.fetch_add(1, Ordering::Relaxed);
        let subnet = Subnet::private(number.checked_add(1).context("a lab has 254 LANs")?);
        let namespace = self.node()?;
        let lan = Arc::new(Segment::lan(Arc::clone(&namespace), subnet, self.dual)?);
        let wan = Cable::plug(&self.ports, &namespace, "wan", segment)?;
        Router::new(namespace, wan, lan, subnet, nat)
    }

    fn node(&self) -> Result<Arc<Namespace>> {
        let namespace = Namespace::new()?;
        if self.dual {
            segment::enable_ipv6(&namespace)?;
        }
        Ok(Arc::new(namespace))
    }
}
