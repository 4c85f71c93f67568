//! What a connection and a UDP visitor of a port have in common: their places, and which tunnel they are for.

use std::{net::SocketAddr, sync::Arc};

use mytunnel_carrier::greeting::{Greeting, Transport};
use mytunnel_keys::id::{TunnelId, TunnelKind, TunnelName};
use tokio::sync::OwnedSemaphorePermit;

use super::{House, Wanted};
use crate::{
    access_log::{Carried, Session},
    ingress::{AddressSeat, Bounds},
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
}

/// A visitor's places among all and among those of its address.
#[derive(Debug)]
pub(super) struct Place {
    _among_all: OwnedSemaphorePermit,
    _of_address: AddressSeat,
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
