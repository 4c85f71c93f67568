//! What a cable is plugged into: the internet, where each cable has a subnet of its own and nothing is broadcast to
//! others, or a LAN, which is a bridge.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::{Context as _, Result};

use super::namespace::Namespace;

/// A subnet, by its own part of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    first: u8,
    number: u8,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Segment {
    namespace: Arc<Namespace>,
    kind: Kind,
    next: AtomicU16,
    dual: bool,
}

#[derive(Debug)]
enum Kind {
    Internet,
    Lan(Subnet),
}

/// Where a cable is on its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) subnet: Subnet,
    pub(crate) host: u8,
    pub(crate) dual: bool,
}

impl Subnet {
    /// Addresses that are public anywhere else; no lab has a way out.
    pub(super) fn public(number: u8) -> Self {
        Self { first: 11, number }
    }

    /// Addresses of a LAN.
    pub(super) fn private(number: u8) -> Self {
        Self { first: 10, number }
    }

    pub(crate) fn address(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(self.first, 0, self.number, host)
    }

    /// Both kinds are global: IPv6 needs no translation.
    pub(crate) fn address6(self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2a00, self.first.into(), self.number.into(), 0, 0, 0, 0, host.into())
    }

    pub(crate) fn network(self) -> String {
        format!("{}/24", self.address(0))
    }

    pub(crate) fn network6(self) -> String {
        format!("{}/64", self.address6(0))
    }
}

impl Location {
    pub(crate) fn address(self) -> Ipv4Addr {
        self.subnet.address(self.host)
    }

    pub(crate) fn address6(self) -> Option<Ipv6Addr> {
        self.dual.then(|| self.subnet.address6(self.host))
    }
}

impl Segment {
    pub(super) fn internet(dual: bool) -> Result<Self> {
        let namespace = Namespace::new()?;
        forward(&namespace, dual)?;
        Ok(Self { namespace: Arc::new(namespace), kind: Kind::Internet, next: AtomicU16::new(1), dual })
    }

    /// A bridge in `namespace`, which has the first address on it.
    pub(super) fn lan(namespace: Arc<Namespace>, subnet: Subnet, dual: bool) -> Result<Self> {
        forward(&namespace, dual)?;
        // A bridge without an address of its own takes the lowest of its ports', and another when one comes or goes, which hosts
        // notice only when what they knew is old.
        namespace.ip(&format!(
            "link add lan address 02:00:00:00:{:02x}:01 type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
             addr add {}/24 dev lan\nlink set lan up",
            subnet.number,
            subnet.address(1),
        ))?;
        if dual {
            namespace.ip(&format!("addr add {}/64 dev lan nodad", subnet.address6(1)))?;
        }
        Ok(Self { namespace, kind: Kind::Lan(subnet), next: AtomicU16::new(2), dual })
    }

    /// Where the far ends of cables are.
    pub(crate) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// A place that nobody has had before.
    pub(crate) fn allot(&self) -> Result<Location> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let number = u8::try_from(number).context("a segment has 254 places")?;
        Ok(match self.kind {
            Kind::Internet => Location { subnet: Subnet::public(number), host: 2, dual: self.dual },
            Kind::Lan(subnet) => Location { subnet, host: number, dual: self.dual },
        })
    }

    /// Joins a device, the far end of a cable, to the segment.
    pub(crate) fn home(&self, device: &str, at: Location, hardware: &str) -> Result<()> {
        match self.kind {
            Kind::Lan(_) => self.namespace.ip(&format!("link set {device} master lan\nlink set {device} up")),
            Kind::Internet => {
                // Neighbours are told, not asked for: who is cut off is a silent hole, as on the internet.
                let mut lines = format!(
                    "addr add {}/24 dev {device}\nlink set {device} up\n\
                     neigh replace {} lladdr {hardware} dev {device} nud permanent\n",
                    at.subnet.address(1),
                    at.address(),
                );
                if let Some(address) = at.address6() {
                    lines += &format!(
                        "addr add {}/64 dev {device} nodad\n\
                         neigh replace {address} lladdr {hardware} dev {device} nud permanent\n",
                        at.subnet.address6(1),
                    );
                }
                self.namespace.ip(&lines)
            }
        }
    }

    /// Sends what is for `subnet` to the router at `via`, or does so no longer.
    pub(super) fn route(&self, subnet: Subnet, via: Location, open: bool) -> Result<()> {
        if open {
            self.namespace.ip(&format!("route replace {} via {}", subnet.network(), via.address()))?;
        } else {
            // There may be none.
            drop(self.namespace.ip(&format!("route del {}", subnet.network())));
        }
        if let Some(via) = via.address6() {
            self.namespace.ip(&format!("route replace {} via {via}", subnet.network6()))?;
        }
        Ok(())
    }
}

/// Makes a namespace forward packets.
fn forward(namespace: &Namespace, dual: bool) -> Result<()> {
    namespace.set("ipv4/ip_forward", "1")?;
    if dual {
        enable_ipv6(namespace)?;
        namespace.set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// IPv6 without the second in which an address proves to be the only one.
pub(super) fn enable_ipv6(namespace: &Namespace) -> Result<()> {
    for scope in ["all", "default"] {
        namespace.set(&format!("ipv6/conf/{scope}/disable_ipv6"), "0")?;
        namespace.set(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
    }
    Ok(())
}
