//! One question to a router: PCP first, then NAT-PMP, then UPnP.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use crab_nat::{
    InternetProtocol, MappingFailure, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig,
    natpmp, pcp,
};
use mytunnel_keys::wire::direct::Over;

use super::{
    gateway,
    keep::{Lead, Lent, Port},
    upnp,
};
use crate::direct::candidates::may_be_mapped;

/// Seconds for which a router is to keep a mapping; it may choose others.
pub(super) const LIFE: u32 = 3600;

/// A router is near: what it has not answered within two seconds it does not.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};

/// Why a router leads no port here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("there is no port yet")]
    NoPort,
    #[error("{0}")]
    No(String),
    /// It does not speak that.
    #[error("{0}")]
    Speechless(String),
    /// It has this address outside, which is no public one.
    #[error("it is behind another router itself: its address is {0}")]
    Behind(IpAddr),
}

/// The routers of this machine's networks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Routers;

/// A port that a router leads here.
#[derive(Debug, Clone)]
pub(super) enum Lease {
    /// By PCP or NAT-PMP.
    Packet(PortMapping),
    /// By UPnP.
    Upnp(upnp::Mapping),
}

impl Lead for Routers {
    type Lease = Lease;

    fn gateway(&self, local: Ipv4Addr) -> Option<Ipv4Addr> {
        gateway::of(local)
    }

    async fn ask(self, port: Port, gateway: Ipv4Addr, before: Option<Lease>) -> Result<Lent<Lease>, String> {
        ask(port, gateway, before).await.map_err(|refused| refused.to_string())
    }

    async fn give_back(self, lease: Lease) {
        match lease {
            Lease::Packet(mapping) => give_back(mapping).await,
            Lease::Upnp(mapping) => upnp::give_back(mapping).await,
        }
    }
}

async fn give_back(mapping: PortMapping) {
    if let Err((error, _)) = mapping.try_drop().await {
        tracing::debug!(%error, "the router keeps a port until its time is over");
    }
}

/// Asks for a port, or for one that is there already; why there is none.
pub(super) async fn ask(
    port: Port,
    gateway: Ipv4Addr,
    before: Option<Lease>,
) -> Result<Lent<Lease>, Refused> {
    let by_upnp = |lent: Lent<upnp::Mapping>| lent.map(Lease::Upnp);
    let before = match before {
        Some(Lease::Upnp(mapping)) => match upnp::again(mapping).await {
            Ok(lent) => return Ok(by_upnp(lent)),
            Err(_) => None,
        },
        Some(Lease::Packet(mapping)) => Some(mapping),
        None => None,
    };
    match ask_by_packet(port, gateway, before).await {
        Ok(lent) => Ok(lent.map(Lease::Packet)),
        // Whoever says no by the one is not asked by the other.
        Err(Refused::Speechless(why)) => {
            upnp::ask(port, gateway).await.map(by_upnp).map_err(|trouble| trouble.after(why))
        }
        Err(refused) => Err(refused),
    }
}

fn is_speechless(error: &MappingFailure) -> bool {
    matches!(
        error,
        MappingFailure::Pcp(
            pcp::Failure::Timeout
                | pcp::Failure::Socket(_)
                | pcp::Failure::UnsupportedVersion(_)
                | pcp::Failure::UnsupportedOpcode
        ) | MappingFailure::NatPmp(
            natpmp::Failure::Timeout
                | natpmp::Failure::Socket(_)
                | natpmp::Failure::UnsupportedVersion(_)
                | natpmp::Failure::UnsupportedOpcode
        )
    )
}

async fn ask_by_packet(
    port: Port,
    gateway: Ipv4Addr,
    before: Option<PortMapping>,
) -> Result<Lent<PortMapping>, Refused> {
    let (over, local) = port;
    let protocol = match over {
        Over::Quic => InternetProtocol::Udp,
        Over::Tcp => InternetProtocol::Tcp,
    };
    let inside = NonZeroU16::new(local.port()).ok_or(Refused::NoPort)?;
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
            PortMapping::new(gateway.into(), client, protocol, inside, options).await.map_err(|error| {
                let why = error.to_string();
                if is_speechless(&error) { Refused::Speechless(why) } else { Refused::No(why) }
            })?
        }
    };
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
        PortMappingType::NatPmp => match natpmp::external_address(gateway.into(), Some(PATIENCE)).await {
            Ok(ip) => ip.into(),
            Err(error) => {
                give_back(mapping).await;
                return Err(Refused::No(error.to_string()));
            }
        },
    };
    let outside = SocketAddr::new(ip, mapping.external_port().get());
    if !may_be_mapped(outside) {
        give_back(mapping).await;
        return Err(Refused::Behind(outside.ip()));
    }
    let life = Duration::from_secs(mapping.lifetime().into());
    Ok(Lent { lease: mapping, outside, life })
}
