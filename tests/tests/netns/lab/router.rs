//! A router with a LAN behind it: the kernel's NAT, as one of the kinds that homes and carriers have.

use std::sync::Arc;

use anyhow::Result;

use super::{
    mapper::{Mapper, Speaks},
    namespace::Namespace,
    segment::{Segment, Subnet},
};
use crate::{
    link::Cable,
    nat::{self, Nat},
};

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Router {
    namespace: Arc<Namespace>,
    /// What connects it to its provider.
    pub(crate) wan: Cable,
    lan: Arc<Segment>,
    subnet: Subnet,
    nat: Nat,
}

impl Router {
    pub(super) fn new(
        namespace: Arc<Namespace>,
        wan: Cable,
        lan: Arc<Segment>,
        subnet: Subnet,
        nat: Nat,
    ) -> Result<Self> {
        let mut router = Self { namespace, wan, lan, subnet, nat: nat.clone() };
        router.set(nat)?;
        Ok(router)
    }

    pub(crate) fn nat(&self) -> &Nat {
        &self.nat
    }

    pub(super) fn lan(&self) -> &Arc<Segment> {
        &self.lan
    }

    /// Becomes another NAT, and forgets every mapping.
    pub(crate) fn set(&mut self, nat: Nat) -> Result<()> {
        self.change(nat)?;
        self.namespace.inside(nat::forget_connections)
    }

    /// Becomes another NAT and keeps its mappings, as a firewall whose rules are changed.
    pub(crate) fn change(&mut self, nat: Nat) -> Result<()> {
        self.nat = nat;
        self.namespace.nft(&nat::ruleset(&self.nat, self.wan.location(), self.subnet))?;
        for (key, value) in nat::timeouts(&self.nat) {
            self.namespace.set(key, &value)?;
        }
        self.wan.segment().route(self.subnet, self.wan.location(), self.nat.is_routed())
    }

    /// Leads ports to hosts that ask for them, or is asked in vain.
    pub(crate) fn map_ports(&self, speaks: Speaks, allows: bool) -> Result<Mapper> {
        Mapper::start(Arc::clone(&self.namespace), self.subnet, speaks, allows)
    }

    /// The router starts anew: every mapping is forgotten, and new ones get other ports.
    pub(crate) fn rebind(&mut self) -> Result<()> {
        self.set(self.nat.clone().with_random_ports())
    }

    /// The provider gives another address, upon which every mapping is forgotten.
    pub(crate) fn readdress(&mut self) -> Result<()> {
        let segment = Arc::clone(self.wan.segment());
        self.wan.replug(&segment)?;
        self.set(self.nat.clone())
    }
}
