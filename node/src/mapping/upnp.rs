//! One question to a router by UPnP (Internet Gateway Device, versions 1 and 2), for those that speak neither PCP nor NAT-PMP.
//!
//! Anybody in a network may answer a search with the address of a document to fetch, and a document with the address of a service to call. Here
//! answers count from the default route's gateway alone, and only what lies on its own address is fetched or called: who forges that address can
//! choose which document of the router this machine fetches, and no more. It is asked alone at first, so that nobody else is shown the port at
//! which an answer is waited for. Documents are small and plain, all of it has an end, and a port is kept only if the router says
//! itself that it will end.

mod description;
mod exchange;
mod search;
mod soap;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use mytunnel_keys::wire::direct::Over;
use tokio::time::Instant;

use self::{description::Service, soap::Fault};
use super::{
    ask::{LIFE, Refused},
    keep::{Lent, Port},
};
use crate::direct::candidates::may_be_mapped;

/// Other ports that are tried where somebody has the one that was wanted.
const OTHERS: usize = 2;

/// After this time nothing more is tried; what is under way has [`exchange::PATIENCE`].
const BOUND: Duration = Duration::from_secs(8);

/// A port that a router leads here.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    service: Service,
    port: Port,
    outside: u16,
    /// The router's address, once it has been told.
    ip: Option<Ipv4Addr>,
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
    #[error(
        "it does not say that it would lead a port for a time alone, and nobody would take it back after a crash"
    )]
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
    let (local, until) = (*port.1.ip(), Instant::now() + BOUND);
    let place = search::description(local, gateway).await?;
    let text = exchange::get(local, &place).await?;
    let mut first = None;
    // A router with several ways out has a service for each; those that are not connected refuse.
    for service in description::services(&text, &place) {
        match lend(service, port, until).await {
            Ok(lent) => return Ok(lent),
            Err(trouble) => _ = first.get_or_insert(trouble),
        }
        if Instant::now() >= until {
            break;
        }
    }
    Err(first.unwrap_or(Trouble::NoService))
}

/// Asks for one more life of a port.
pub(super) async fn again(mapping: Mapping) -> Result<Lent<Mapping>, Trouble> {
    add(&mapping).await?;
    match whole(mapping.clone()).await {
        // It leads here as before, and says so no more.
        Err(Trouble::Fault(fault)) => mapping.lent().ok_or(Trouble::Fault(fault)),
        told => told,
    }
}

/// Gives a port back.
pub(super) async fn give_back(mapping: Mapping) {
    let Mapping { service, port: (over, local), outside, .. } = &mapping;
    let outside = outside.to_string();
    let arguments = [("NewRemoteHost", ""), ("NewExternalPort", &outside), ("NewProtocol", protocol(*over))];
    if let Err(error) = soap::call(*local.ip(), service, "DeletePortMapping", &arguments).await {
        tracing::debug!(%error, "the router keeps a port until its time is over");
    }
}

async fn lend(service: Service, port: Port, until: Instant) -> Result<Lent<Mapping>, Trouble> {
    let mut mapping = Mapping { service, port, outside: port.1.port(), ip: None };
    for left in (0..=OTHERS).rev() {
        match add(&mapping).await {
            Ok(()) => break,
            Err(Trouble::Fault(fault)) if fault.is_taken() && left > 0 && Instant::now() < until => {
                mapping.outside = any_port()?;
            }
            Err(trouble) => {
                // It may have done it and not have said so in time.
                if matches!(&trouble, Trouble::Fault(fault) if fault.is_unheard()) {
                    give_back(mapping).await;
                }
                return Err(trouble);
            }
        }
    }
    let lent = match ends(&mapping).await {
        true => whole(mapping.clone()).await,
        false => Err(Trouble::ForEver),
    };
    if lent.is_err() {
        give_back(mapping).await;
    }
    lent
}

/// Whether the router says that the port will end by itself. Many take a lease and forget it.
async fn ends(Mapping { service, port: (over, local), outside, .. }: &Mapping) -> bool {
    let outside = outside.to_string();
    let arguments = [("NewRemoteHost", ""), ("NewExternalPort", &outside), ("NewProtocol", protocol(*over))];
    let told = soap::call(*local.ip(), service, "GetSpecificPortMappingEntry", &arguments).await;
    let left = told.ok().and_then(|answer| answer.value("NewLeaseDuration")?.parse::<u32>().ok());
    left.is_some_and(|left| (1..=LIFE).contains(&left))
}

async fn add(Mapping { service, port: (over, local), outside, .. }: &Mapping) -> Result<(), Trouble> {
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
async fn whole(mut mapping: Mapping) -> Result<Lent<Mapping>, Trouble> {
    let local = *mapping.port.1.ip();
    let told = soap::call(local, &mapping.service, "GetExternalIPAddress", &[]).await?;
    let ip = told.value("NewExternalIPAddress").and_then(|ip| ip.parse::<Ipv4Addr>().ok());
    let ip = ip.ok_or(Fault::Nonsense)?;
    mapping.ip = Some(ip);
    mapping.lent().ok_or(Trouble::Behind(ip))
}

impl Mapping {
    /// As what is offered to others, if anybody could come there.
    fn lent(self) -> Option<Lent<Self>> {
        let outside = SocketAddr::V4(SocketAddrV4::new(self.ip?, self.outside));
        let life = Duration::from_secs(LIFE.into());
        may_be_mapped(outside).then_some(Lent { lease: self, outside, life })
    }
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
