//! What a connection and a UDP visitor have in common: their places, and the way to the node.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use mytunnel_carrier::{
    greeting::{Greeting, Transport},
    splice::Watch,
};
use mytunnel_keys::id::{TunnelId, TunnelKind, TunnelName};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{House, Wanted};
use crate::{
    gate,
    ingress::{AddressSeat, Answered, NoSeat, Seat},
    route::{Lookup, Pipe, PipeError, Tunnel},
    traffic::{Pause, Traffic},
};

/// Where visitors of one port are led.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) house: Arc<House>,
    name: TunnelName,
    tunnel: TunnelId,
    kind: TunnelKind,
    /// The address of the port.
    relay: SocketAddr,
}

/// Why a visitor is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Turned {
    #[error("no node serves the tunnel")]
    Away,
    #[error("the tunnel's gates do not let the visitor in")]
    Denied,
    #[error("the tunnel's budget is spent")]
    Spent,
    #[error("there are too many visitors")]
    Full,
    #[error("the node cannot be reached")]
    Broken,
}

/// A visitor's places among all and among those of its address.
#[derive(Debug)]
pub(super) struct Place {
    _among_all: OwnedSemaphorePermit,
    _of_address: AddressSeat,
}

/// A visitor's place at the tunnel, and the way to its node.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) node: Answered,
    pub(super) tunnel: Arc<Tunnel>,
    /// Ends it: the tunnel was closed, or has other gates.
    pub(super) cut: CancellationToken,
    seat: Option<Seat>,
}

impl Way {
    pub(super) fn new(house: Arc<House>, wanted: &Wanted, relay: SocketAddr) -> Self {
        let Wanted { tunnel, name, kind, .. } = wanted.clone();
        Self { house, name, tunnel, kind, relay }
    }

    /// A place for one more visitor of this address.
    pub(super) fn place(&self, visitor: SocketAddr) -> Option<Place> {
        let places = if self.kind == TunnelKind::Udp { &self.house.udp } else { &self.house.tcp };
        let among_all = Arc::clone(&places.all).try_acquire_owned().ok()?;
        let of_address = places.addresses.connect(visitor.ip(), self.house.limits.visitors_per_address)?;
        Some(Place { _among_all: among_all, _of_address: of_address })
    }

    /// The first payload of a visitor's pipe.
    pub(super) fn greeting(&self, visitor: SocketAddr, relay: Option<SocketAddr>) -> Vec<u8> {
        let transport = if self.kind == TunnelKind::Udp { Transport::Datagrams } else { Transport::Stream };
        Greeting { transport, visitor, relay: relay.unwrap_or(self.relay) }.encode()
    }

    /// Leads a visitor to the tunnel's node, for which it waits while it is away.
    pub(super) async fn lead(&self, visitor: SocketAddr) -> Result<Line, Turned> {
        let until = Instant::now() + self.house.patience;
        let mut tunnel =
            self.live(self.house.routes.wait_live(self.name.as_str(), self.house.patience).await)?;
        loop {
            match self.open(&tunnel, visitor, until).await {
                Err(None) => {
                    let left = until.checked_duration_since(Instant::now()).ok_or(Turned::Away)?;
                    tunnel = self.live(self.house.routes.wait_other(&tunnel, left).await)?;
                }
                Err(Some(turned)) => return Err(turned),
                Ok(line) => return Ok(line),
            }
        }
    }

    /// The tunnel that this port is for, and no other that has its name now.
    fn live(&self, found: Lookup) -> Result<Arc<Tunnel>, Turned> {
        match found {
            Lookup::Live(tunnel) if *tunnel.id() == self.tunnel && tunnel.kind() == self.kind => Ok(tunnel),
            Lookup::Live(_) | Lookup::Away | Lookup::Ended | Lookup::Unknown => Err(Turned::Away),
        }
    }

    /// Without a reason in the error, the node has just left.
    async fn open(
        &self,
        tunnel: &Arc<Tunnel>,
        visitor: SocketAddr,
        until: Instant,
    ) -> Result<Line, Option<Turned>> {
        let cut = CancellationToken::new();
        let seat = tunnel.seats().enter_line(&cut, self.house.limits.visitors_per_tunnel);
        let seat = seat.map_err(|none| (none == NoSeat::Full).then_some(Turned::Full))?;
        // Its gates are looked at with a seat taken: from then on a change cuts it.
        let mut line = Opening { tunnel: Arc::clone(tunnel), cut, seat: Some(seat) };
        if !gate::admits_line(tunnel.gates().as_deref(), visitor.ip()) {
            return Err(Some(Turned::Denied));
        }
        if !tunnel.traffic().ready().await {
            return Err(Some(Turned::Spent));
        }
        let pipe: Pipe = match tunnel.source().take_lane() {
            Some(lane) => lane,
            None => match timeout_at(until, tunnel.source().open()).await {
                Ok(Ok(pipe)) => pipe,
                Ok(Err(PipeError::Gone)) => return Err(None),
                Ok(Err(PipeError::Busy)) => return Err(Some(Turned::Full)),
                Ok(Err(PipeError::Open(_))) | Err(_) => return Err(Some(Turned::Broken)),
            },
        };
        tunnel.traffic().count_request(0);
        Ok(Line {
            node: Answered::new(pipe),
            tunnel: Arc::clone(tunnel),
            cut: line.cut.clone(),
            seat: line.seat.take(),
        })
    }
}

/// A seat that is given back when nothing comes of it.
struct Opening {
    tunnel: Arc<Tunnel>,
    cut: CancellationToken,
    seat: Option<Seat>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.tunnel.seats().leave(seat);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.tunnel.seats().leave(seat);
        }
    }
}

/// Counts what passes, and holds it up while the tunnel's budget is being filled.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    traffic: &'a Traffic,
    pause: Pause,
}

impl<'a> Meter<'a> {
    pub(super) fn of(tunnel: &'a Tunnel) -> Self {
        Self { traffic: tunnel.traffic(), pause: Pause::default() }
    }
}

impl Watch for Meter<'_> {
    // The pipe is the node's end: what goes up from it goes out to the visitor.
    fn up(&mut self, bytes: usize) {
        self.traffic.count_out(bytes as u64);
    }

    fn down(&mut self, bytes: usize) {
        self.traffic.count_in(bytes as u64);
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.traffic.poll_ready(&mut self.pause, cx)
    }
}
