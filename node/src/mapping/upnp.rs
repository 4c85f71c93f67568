//! One question to a router by UPnP (Internet Gateway Device, versions 1 and 2), for those that speak neither PCP nor NAT-PMP.
//!
//! Anybody in a network may answer a search with the address of a document to fetch, and a document with the address of a service to call. Here
//! only the default route's gateway is heard, only what lies on its own address is fetched or called, of each answer 64 KiB are read, and
//! nothing is asked for that would not end by itself.

mod description;
mod exchange;
mod search;
mod soap;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use mytunnel_keys::wire::direct::Over;

use self::{description::Service, soap::Fault};
use super::{
    ask::{LIFE, Refused},
    keep::{Lent, Port},
};
use crate::direct::candidates::may_be_mapped;

/// Other ports that are tried where somebody has the one that was wanted.
const OTHERS: usize = 3;

/// A port that a router leads here.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    service: Service,
    port: Port,
    outside: u16,
}

/// Why a router leads no port by UPnP.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Nothing at the router's address answers a search.
    #[error("it does not answer")]
    Silent,
    #[error("it does not describe itself: {0}")]
    Description(#[from] exchange::ExchangeError),
    #[error("it has no service that leads ports")]
    NoService,
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("it leads ports for ever only, which nobody would take back")]
    ForEver,
    #[error("there is no randomness")]
    NoRandomness,
    /// It has this address outside, which is no public one.
    #[error("its address is {0}")]
    Behind(Ipv4Addr),
}

impl Trouble {
    /// What a router says to who asks for a port, after it has said by PCP and NAT-PMP why it leads none.
    pub(super) fn after(self, why: String) -> Refused {
        match &self {
            Self::Silent => Refused::No(why),
            Self::Behind(outside) => Refused::Behind((*outside).into()),
            Self::Description(_) | Self::NoService | Self::Fault(_) | Self::ForEver | Self::NoRandomness => {
                Refused::No(format!("{why}; by UPnP: {self}"))
            }
        }
    }
}

/// Asks for a port.
pub(super) async fn ask(port: Port, gateway: Ipv4Addr) -> Result<Lent<Mapping>, Trouble> {
    let local = *port.1.ip();
    let place = search::description(local, gateway).await?;
    let text = exchange::get(local, &place).await?;
    let mut last = Trouble::NoService;
    // A router with several ways out has a service for each; those that are not connected refuse.
    for service in description::services(&text, &place) {
        match lend(service, port).await {
            Ok(lent) => return Ok(lent),
            Err(trouble) => last = trouble,
        }
    }
    Err(last)
}

/// Asks for one more life of a port.
pub(super) async fn again(mapping: Mapping) -> Result<Lent<Mapping>, Trouble> {
    add(&mapping).await?;
    whole(mapping).await
}

/// Gives a port back.
pub(super) async fn give_back(mapping: Mapping) {
    let Mapping { service, port: (over, local), outside } = &mapping;
    let outside = outside.to_string();
    let arguments = [("NewRemoteHost", ""), ("NewExternalPort", &outside), ("NewProtocol", protocol(*over))];
    if let Err(error) = soap::call(*local.ip(), service, "DeletePortMapping", &arguments).await {
        tracing::debug!(%error, "the router keeps a port until its time is over");
    }
}

async fn lend(service: Service, port: Port) -> Result<Lent<Mapping>, Trouble> {
    let mut mapping = Mapping { service, port, outside: port.1.port() };
    for _ in 0..OTHERS {
        match add(&mapping).await {
            Ok(()) => return whole(mapping).await,
            Err(Trouble::Fault(fault)) if fault.is_taken() => mapping.outside = any_port()?,
            Err(trouble) => return Err(trouble),
        }
    }
    add(&mapping).await?;
    whole(mapping).await
}

async fn add(Mapping { service, port: (over, local), outside }: &Mapping) -> Result<(), Trouble> {
    let (outside, inside) = (outside.to_string(), local.port().to_string());
    let (client, life) = (local.ip().to_string(), LIFE.to_string());
    let arguments = [
        ("NewRemoteHost", ""),
        ("NewExternalPort", &outside),
        ("NewProtocol", protocol(*over)),
        ("NewInternalPort", &inside),
        ("NewInternalClient", &client),
        ("NewEnabled", "1"),
        ("NewPortMappingDescription", "mytunnel"),
        ("NewLeaseDuration", &life),
    ];
    match soap::call(*local.ip(), service, "AddPortMapping", &arguments).await {
        Ok(_) => Ok(()),
        Err(fault) if fault.wants_for_ever() => Err(Trouble::ForEver),
        Err(fault) => Err(fault.into()),
    }
}

/// What was granted, if it leads here from a public address.
async fn whole(mapping: Mapping) -> Result<Lent<Mapping>, Trouble> {
    let local = *mapping.port.1.ip();
    let told = soap::call(local, &mapping.service, "GetExternalIPAddress", &[]).await;
    let ip = told.and_then(|answer| {
        let ip = answer.value("NewExternalIPAddress").and_then(|ip| ip.trim().parse::<Ipv4Addr>().ok());
        ip.ok_or(Fault::Nonsense)
    });
    let trouble = match ip {
        Ok(ip) => {
            let outside = SocketAddr::V4(SocketAddrV4::new(ip, mapping.outside));
            if may_be_mapped(outside) {
                return Ok(Lent { lease: mapping, outside, life: Duration::from_secs(LIFE.into()) });
            }
            Trouble::Behind(ip)
        }
        Err(fault) => fault.into(),
    };
    give_back(mapping).await;
    Err(trouble)
}

fn protocol(over: Over) -> &'static str {
    match over {
        Over::Quic => "UDP",
        Over::Tcp => "TCP",
    }
}

/// For fuzzers: what a router may send, as an answer to a search and as a document. Neither leads anywhere but to the router. Returns
/// whether anything leads there.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) -> bool {
    let gateway = Ipv4Addr::new(192, 168, 1, 1);
    let told = search::told(data, gateway);
    let from = search::Place::on(gateway, "http://192.168.1.1/x/root.xml");
    let services = from.zip(str::from_utf8(data).ok()).map_or(Vec::new(), |(from, text)| {
        soap::fuzz(text);
        description::services(text, &from)
    });
    let places: Vec<_> = told.into_iter().chain(services.into_iter().map(|service| service.place)).collect();
    assert!(places.iter().all(|place| *place.at.ip() == gateway), "{places:?}");
    !places.is_empty()
}

/// A port that nobody is likely to have.
fn any_port() -> Result<u16, Trouble> {
    /// As many as there are from here on, which are for whoever wants one (RFC 6335).
    const FIRST: u16 = 49_152;
    let random = getrandom::u32().map_err(|_| Trouble::NoRandomness)?;
    let offset = random % u32::from(u16::MAX - FIRST);
    Ok(FIRST + u16::try_from(offset).unwrap_or_default())
}
