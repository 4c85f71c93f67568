//! What a connection and a UDP visitor of a port have in common: their places, and which tunnel they are for.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use mytunnel_carrier::greeting::{Greeting, Transport};
use mytunnel_keys::id::{TunnelId, TunnelKind, TunnelName};

use super::{House, QUEUED, Wanted};
use crate::{
    access_log::{Carried, Session},
    ingress::{AddressSeat, Bounds, Connected},
    line::{Errand, Line, Turned},
    route::Tunnel,
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
    /// Bytes of its datagrams that wait.
    waiting: Arc<AtomicUsize>,
}

/// A visitor's places among all and among those of its address.
#[derive(Debug)]
pub(super) struct Place {
    _among_all: Connected,
    _of_address: AddressSeat,
}

/// Where bytes of a datagram wait; given back on drop.
#[derive(Debug)]
pub(super) struct Room {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
    _of_network: Connected,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Relaxed);
    }
}

impl Way {
    pub(super) fn new(house: Arc<House>, wanted: &Wanted, relay: SocketAddr) -> Self {
        let Wanted { tunnel, name, kind, .. } = wanted.clone();
        Self { house, name, tunnel, kind, relay, waiting: Arc::default() }
    }

    /// Room for so many bytes of a datagram to wait, while the tunnel's that wait are fewer than may yet, and those of the sender's
    /// network as well.
    pub(super) fn room(&self, visitor: SocketAddr, bytes: usize) -> Option<Room> {
        let queued = &self.house.queued;
        let waiting = self.waiting.load(Relaxed).saturating_add(bytes);
        if waiting > QUEUED.saturating_sub(queued.taken()) {
            return None;
        }
        let _of_network = queued.enter_with(bytes, QUEUED, Some(visitor.ip()))?;
        self.waiting.fetch_add(bytes, Relaxed);
        Some(Room { waiting: Arc::clone(&self.waiting), bytes, _of_network })
    }

    /// A place for one more visitor of this address, beside so many at this port: it gets one while that is fewer than are free, so that
    /// nobody shuts others out at one port, from however many networks.
    pub(super) fn place(&self, visitor: SocketAddr, here: usize) -> Option<Place> {
        let places = if self.kind == TunnelKind::Udp { &self.house.udp } else { &self.house.tcp };
        let most = self.house.limits.visitors;
        if here >= most.saturating_sub(places.all.taken()) {
            return None;
        }
        let among_all = places.all.enter(most, Some(visitor.ip()))?;
        let of_address = places.addresses.connect(visitor.ip(), self.house.limits.visitors_per_address)?;
        Some(Place { _among_all: among_all, _of_address: of_address })
    }

    /// The line of a visitor in the access log, where there is one.
    pub(super) fn session(&self, visitor: SocketAddr) -> Option<Session> {
        let carried = if self.kind == TunnelKind::Udp { Carried::Udp } else { Carried::Tcp };
        let host = || format!("{}:{}", self.name, self.relay.port());
        self.house.access_log.session(carried, visitor.ip(), host)
    }

    /// The first payload of a visitor's pipe.
    pub(super) fn greeting(&self, visitor: SocketAddr, relay: Option<SocketAddr>) -> Vec<u8> {
        let transport = if self.kind == TunnelKind::Udp { Transport::Datagrams } else { Transport::Stream };
        Greeting { transport, visitor, relay: relay.unwrap_or(self.relay) }.encode()
    }

    /// Leads a visitor to the tunnel's node, for which it waits while it is away, with a word of who it is.
    pub(super) async fn lead(&self, visitor: SocketAddr, greeting: &[u8]) -> Result<Line, Turned> {
        let errand = Errand {
            routes: &self.house.routes,
            name: self.name.as_str(),
            visitor: visitor.ip(),
            greeting,
            patience: self.house.patience,
            most: Bounds { tunnel: self.house.limits.visitors_per_tunnel, key: None },
        };
        // This port is for that tunnel, and no other that has its name now.
        errand.run(|tunnel: &Tunnel| *tunnel.id() == self.tunnel && tunnel.kind() == self.kind).await
    }
}
