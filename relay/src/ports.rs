//! Public ports of TCP and UDP tunnels: which one a tunnel gets, for how long it keeps it, and who comes in there.
//!
//! A tunnel's port follows from its id, so that it is the same after a restart of node or relay, and on every relay; where
//! it is taken, the next free one in the range. While a node is away its port is kept for a while, and visitors wait for it
//! as they do at the ingress.

mod allowance;
mod draining;
mod given_up;
mod line;
mod tcp;
mod udp;

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use mytunnel_keys::{
    error::Code,
    id::{TenantId, TunnelId, TunnelKind, TunnelName},
};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use self::draining::Draining;
use self::{given_up::GivenUp, line::Way};
use crate::{
    access_log::AccessLog,
    crowds::Crowds,
    ingress::{Addresses, Connections},
    route::Routes,
};

/// Ports that are tried before a tunnel is told that none is free.
const TRIES: usize = 128;

/// The ports of a relay, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// The text is no range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write it as FIRST-LAST, such as 20000-29999, each from 1 to 65535")]
pub struct NoRange;

impl PortRange {
    /// Whether a port is one of them.
    pub(crate) const fn has(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// What a relay offers where its operator says nothing.
    pub const DEFAULT: Self = Self { first: 20_000, last: 29_999 };

    fn all(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// Whether a port belongs to it.
    pub fn contains(self, port: u16) -> bool {
        self.all().contains(&port)
    }

    /// The ports to try for a tunnel, the best first.
    fn candidates(self, tunnel: &TunnelId) -> impl Iterator<Item = u16> {
        let [a, b, c, d, ..] = *tunnel.as_bytes();
        let count = u32::from(self.last - self.first) + 1;
        let start = u32::from_be_bytes([a, b, c, d]) % count;
        let at = move |step: u32| u16::try_from(u32::from(self.first) + (start + step) % count).ok();
        (0..count).filter_map(at).take(TRIES)
    }
}

impl FromStr for PortRange {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or(NoRange);
        let (first, last) = (port(first)?, port(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err(NoRange) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Where a relay opens ports for tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicPorts {
    /// The address to listen on.
    pub ip: IpAddr,
    /// The ports.
    pub range: PortRange,
}

/// What visitors of public ports may take from the relay.
#[derive(Debug, Clone)]
pub struct PortLimits {
    /// Connections of all tunnels, and as many UDP visitors. Default 16,384.
    pub visitors: usize,
    /// Connections of one address (IPv6: of one /64), and as many UDP visitors. Default 1,024.
    pub visitors_per_address: u32,
    /// Connections or UDP visitors of one tunnel. Default 2,048.
    pub visitors_per_tunnel: usize,
    /// How long a UDP visitor and its server may be silent. Default 60 s.
    pub udp_idle: Duration,
    /// How long the port of a node that is away is kept. Default 60 s.
    pub kept: Duration,
    /// How long a port that was given up is kept from other tenants. Default 24 h.
    pub given_up: Duration,
}

impl Default for PortLimits {
    fn default() -> Self {
        Self {
            visitors: 16 * 1024,
            visitors_per_address: 1024,
            visitors_per_tunnel: 2048,
            udp_idle: Duration::from_secs(60),
            kept: Duration::from_secs(60),
            given_up: Duration::from_secs(24 * 3600),
        }
    }
}

/// What all ports share.
#[derive(Debug)]
struct House {
    routes: Routes,
    limits: PortLimits,
    /// How long a visitor waits for a node that is away.
    patience: Duration,
    /// Of connections, and apart from them of UDP visitors: whose addresses can be made up.
    tcp: Places,
    udp: Places,
    /// Bytes of datagrams that wait for their pipes.
    queued: Connections,
    access_log: AccessLog,
    draining: Draining,
}

/// Places among all and by address.
#[derive(Debug)]
struct Places {
    all: Connections,
    addresses: Addresses,
}

impl Places {
    fn new(addresses: Addresses) -> Self {
        Self { all: Connections::default(), addresses }
    }
}

/// Bytes of datagrams that may wait in the whole relay.
pub(crate) const QUEUED: usize = 32 << 20;

/// The open ports. Dropping it closes them.
#[derive(Debug)]
pub(crate) struct Ports {
    settings: Option<PublicPorts>,
    house: Arc<House>,
    open: HashMap<TunnelName, Open>,
    given_up: GivenUp,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Open {
    tunnel: TunnelId,
    tenant: TenantId,
    kind: TunnelKind,
    port: u16,
    away_since: Option<Instant>,
    _closed: DropGuard,
}

/// Why a tunnel gets no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPort {
    /// The relay opens none.
    NotHere,
    /// The wanted one is none of the relay's.
    OutOfRange(u16, PortRange),
    /// The wanted one is in use.
    Taken(u16),
    /// The wanted one was another tenant's a while ago.
    Kept(u16),
    /// Other nodes serve the name, at this port.
    Shared(u16),
    /// None is free.
    NoneFree(PortRange),
}

impl NoPort {
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::NotHere | Self::OutOfRange(..) => Code::BadRequest,
            Self::Taken(_) | Self::Kept(_) | Self::Shared(_) => Code::NameTaken,
            Self::NoneFree(_) => Code::TunnelLimit,
        }
    }
}

impl fmt::Display for NoPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHere => f.write_str("this relay opens no ports for TCP and UDP tunnels"),
            Self::OutOfRange(port, range) => {
                write!(f, "port {port} is not one of this relay's: it opens {range}")
            }
            Self::Taken(port) => write!(f, "port {port} is in use at this relay"),
            Self::Kept(port) => {
                write!(f, "port {port} was another account's a short while ago: ask for another, or for none")
            }
            Self::Shared(port) => {
                write!(f, "other nodes serve this name at port {port}: ask for that one, or for none")
            }
            Self::NoneFree(range) => write!(f, "this relay has no free port left in {range}"),
        }
    }
}

/// Whose port it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) tunnel: TunnelId,
    pub(crate) tenant: TenantId,
    pub(crate) name: TunnelName,
    pub(crate) kind: TunnelKind,
    /// Asked for by the node.
    pub(crate) port: Option<u16>,
    /// Other nodes serve the name already.
    pub(crate) shared: bool,
}

impl Ports {
    /// No port is open yet.
    pub(crate) fn new(
        settings: Option<PublicPorts>,
        limits: PortLimits,
        patience: Duration,
        routes: Routes,
        (crowds, access_log, draining): (&Crowds, AccessLog, Draining),
    ) -> Self {
        let [tcp, udp] = [&crowds.tcp, &crowds.udp].map(|held| Places::new(held.clone()));
        let queued = Connections::default();
        let house = House { routes, limits, patience, tcp, udp, queued, access_log, draining };
        let (open, given_up) = (HashMap::new(), GivenUp::default());
        Self { settings, house: Arc::new(house), open, given_up, tasks: JoinSet::new() }
    }

    /// Bytes of datagrams that wait.
    pub(crate) fn queued(&self) -> Connections {
        self.house.queued.clone()
    }

    /// The port of a tunnel that has come up: the one that it had, or a new one.
    pub(crate) fn open(&mut self, wanted: Wanted, now: Instant) -> Result<u16, NoPort> {
        let settings = self.settings.ok_or(NoPort::NotHere)?;
        if let Some(open) = self.open.get_mut(&wanted.name)
            && open.tunnel == wanted.tunnel
            && open.kind == wanted.kind
        {
            if wanted.port.is_none_or(|port| port == open.port) {
                open.away_since = None;
                return Ok(open.port);
            }
            if wanted.shared {
                return Err(NoPort::Shared(open.port));
            }
        }
        // Closed first: what is asked for may be its own.
        self.close(&wanted.name, now);
        let (port, socket) = settings.bind(&wanted, &self.given_up)?;
        self.given_up.take((wanted.kind, port));
        let closed = CancellationToken::new();
        let way = Way::new(Arc::clone(&self.house), &wanted, SocketAddr::new(settings.ip, port));
        match socket {
            Socket::Tcp(listener) => self.tasks.spawn(tcp::serve(listener, way, closed.clone())),
            Socket::Udp(socket) => self.tasks.spawn(udp::serve(socket, way, closed.clone())),
        };
        let Wanted { tunnel, tenant, name, kind, .. } = wanted;
        let _closed = closed.drop_guard();
        self.open.insert(name, Open { tunnel, tenant, kind, port, away_since: None, _closed });
        Ok(port)
    }

    /// The node of a tunnel has left; it may come back.
    pub(crate) fn away(&mut self, name: &TunnelName, now: Instant) {
        if let Some(open) = self.open.get_mut(name) {
            open.away_since.get_or_insert(now);
        }
    }

    /// The tunnel will not come back.
    pub(crate) fn close(&mut self, name: &TunnelName, now: Instant) {
        if let Some(gone) = self.open.remove(name) {
            self.given_up.note((gone.kind, gone.port), &gone.tenant, now);
        }
    }

    /// Closes the ports of nodes that have been away for long, and frees those that were kept for long.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let kept = self.house.limits.kept;
        let is_over =
            |open: &Open| open.away_since.is_some_and(|since| now.saturating_duration_since(since) >= kept);
        for (_, gone) in self.open.extract_if(|_, open| is_over(open)) {
            self.given_up.note((gone.kind, gone.port), &gone.tenant, now);
        }
        self.given_up.sweep(self.house.limits.given_up, now);
        while let Some(ended) = self.tasks.try_join_next() {
            resume(ended);
        }
    }

    /// Closes all of them, and cuts who is there.
    pub(crate) async fn shutdown(&mut self) {
        self.open.clear();
        self.tasks.shutdown().await;
    }
}

/// Passes a panic on; nothing when the task was aborted.
fn resume<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// A socket that is bound.
enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl PublicPorts {
    fn bind(self, wanted: &Wanted, given_up: &GivenUp) -> Result<(u16, Socket), NoPort> {
        let bound = |port: u16| match self.bind_one(wanted.kind, port) {
            Ok(socket) => Some((port, socket)),
            Err(error) => {
                tracing::debug!(port, %error, "port not to be had");
                None
            }
        };
        let kept = |port: u16| given_up.kept_from((wanted.kind, port), &wanted.tenant);
        match wanted.port {
            Some(port) if !self.range.contains(port) => Err(NoPort::OutOfRange(port, self.range)),
            Some(port) if kept(port).is_some() => Err(NoPort::Kept(port)),
            Some(port) => bound(port).ok_or(NoPort::Taken(port)),
            None => {
                let mut ports = self.in_order(wanted, given_up).into_iter();
                ports.find_map(bound).ok_or(NoPort::NoneFree(self.range))
            }
        }
    }

    /// The ports to try: those that are kept for another tenant last, the one that was given up first before the others.
    fn in_order(self, wanted: &Wanted, given_up: &GivenUp) -> Vec<u16> {
        let mut ports: Vec<_> = self.range.candidates(&wanted.tunnel).collect();
        ports.sort_by_key(|port| given_up.kept_from((wanted.kind, *port), &wanted.tenant));
        ports
    }

    fn bind_one(self, kind: TunnelKind, port: u16) -> io::Result<Socket> {
        let address = SocketAddr::new(self.ip, port);
        if kind == TunnelKind::Udp {
            let socket = std::net::UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            return Ok(Socket::Udp(UdpSocket::from_std(socket)?));
        }
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Socket::Tcp(TcpListener::from_std(listener)?))
    }
}

#[cfg(test)]
mod tests;
