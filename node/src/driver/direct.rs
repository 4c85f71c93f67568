//! Direct paths to other nodes: what the finder wants, carried out on the swarm, and what the swarm tells, passed to it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use libp2p::{
    Multiaddr, PeerId, Stream,
    core::ConnectedPoint,
    multiaddr::Protocol,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use mytunnel_carrier::{
    address::{self, Transport},
    stream::Opener,
};
use mytunnel_keys::wire::direct::Over;
use tokio::time::Instant;

use super::{Driver, dialing::look_up, networks};
use crate::{
    carrier::Carrier,
    clock::jitter,
    direct::{
        Act, Arrived, Heard,
        candidates::{Dial, Manner},
    },
    meeting::line::{Connected, Report},
};

/// Addresses of one dial that are tried at once: all there can be.
const AT_ONCE: std::num::NonZeroU8 = std::num::NonZeroU8::new(16).expect("16 is not zero");

/// Addresses of the relay over one carrier.
pub(super) struct Probe {
    over: Over,
    relay: PeerId,
    addresses: Vec<Multiaddr>,
}

impl Driver {
    /// Carries out what is needed to find direct paths.
    pub(super) fn obey_finder(&mut self) {
        while let Some(act) = self.finder.next_act() {
            match act {
                Act::Listen => self.listen_for_peers(),
                Act::Map(ports) => self.mapper.want(ports),
                Act::Probe(over) => self.begin_probe(over),
                Act::Dial(peer, dial) => self.dial_directly(peer, &dial),
                Act::Close(connection) => drop(self.swarm.close_connection(connection)),
                Act::Name(peer, machines) => self.swarm.behaviour_mut().gate.name(peer, machines),
                Act::Expect(peer, is_expected) => self.swarm.behaviour_mut().gate.expect(peer, is_expected),
            }
        }
        while let Some((connection, why)) = self.finder.next_news() {
            self.line.tell(Report::Why { connection, why });
        }
    }

    pub(super) fn tick_finder(&mut self) {
        let now = Instant::now().into_std();
        if self.finder.next_timeout().is_some_and(|at| at <= now) {
            self.finder.tick(now, jitter());
        }
    }

    pub(super) fn on_finder(&mut self, heard: Heard) {
        self.finder.on_heard(heard, Instant::now().into_std(), jitter());
    }

    /// A connection stands that is not one with a relay that we dialled to have one.
    pub(super) fn on_peer_connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        opener: Opener,
    ) {
        let now = Instant::now().into_std();
        let (is_relayed, why) = match self.finder.on_connected(peer, &opener, endpoint, now) {
            Arrived::Ours => return,
            Arrived::Direct(reason) => (false, reason.as_str()),
            Arrived::Relayed => (true, self.finder.why_relayed(connection)),
        };
        let is_ours = endpoint.is_dialer();
        self.line.tell(Report::Connected(Connected { peer, connection, opener, is_relayed, is_ours, why }));
    }

    /// The swarm listens at an address, or does so no longer.
    pub(super) fn on_listening(&mut self, at: &Multiaddr, listens: bool) {
        if at.iter().any(|part| part == Protocol::P2pCircuit) {
            return;
        }
        if let Some((at, transport)) = address::socket(at) {
            let over = match transport {
                Transport::Udp => Over::Quic,
                Transport::Tcp => Over::Tcp,
            };
            self.finder.on_networks(networks::of_this_machine());
            self.finder.on_listening(over, at, listens, Instant::now().into_std());
        }
    }

    /// A peer wants to find a direct path.
    pub(super) fn on_direct_stream(&mut self, connection: ConnectionId, stream: Stream) {
        self.finder.on_stream(connection, stream, Instant::now().into_std());
    }

    /// The relay's name was looked up, to be asked where it sees us.
    pub(super) fn probe(&mut self, Probe { over, relay, mut addresses }: Probe) {
        // What is translated is IPv4.
        let is_v4 = |address: &Multiaddr| address::ip(address).is_some_and(|ip| ip.is_ipv4());
        if addresses.iter().any(is_v4) {
            addresses.retain(is_v4);
        }
        let connection = (!addresses.is_empty()).then(|| {
            let options =
                DialOpts::peer_id(relay).addresses(addresses).condition(PeerCondition::Always).build();
            (options.connection_id(), options)
        });
        let dialled = connection.and_then(|(connection, options)| {
            self.swarm.behaviour_mut().circuits.leave_out(connection);
            self.swarm.dial(options).is_ok().then_some(connection)
        });
        self.finder.on_probing(over, dialled, Instant::now().into_std());
    }

    fn listen_for_peers(&mut self) {
        for ip in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
            for address in address::listen_on(SocketAddr::new(ip, 0)) {
                if let Err(error) = self.swarm.listen_on(address) {
                    tracing::debug!(%error, "no direct paths by this family");
                }
            }
        }
    }

    fn begin_probe(&mut self, over: Over) {
        let carrier = match over {
            Over::Quic => Carrier::Quic,
            Over::Tcp => Carrier::Tcp,
        };
        let Some(relay) = self.current().map(|current| current.peer) else {
            return self.finder.on_probing(over, None, Instant::now().into_std());
        };
        let addresses = self.dialing.addresses(relay, carrier);
        self.probes.spawn(async move {
            Probe { over, relay, addresses: look_up(addresses).await.unwrap_or_default() }
        });
    }

    fn dial_directly(&mut self, peer: PeerId, dial: &Dial) {
        tracing::debug!(%peer, ?dial, "dialling a peer directly");
        let of = |address: &SocketAddr| match dial.manner {
            Manner::Quic => {
                Multiaddr::from(address.ip()).with(Protocol::Udp(address.port())).with(Protocol::QuicV1)
            }
            Manner::Tcp | Manner::Punch { .. } => {
                Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
            }
        };
        let options = DialOpts::peer_id(peer)
            .addresses(dial.addresses.iter().map(of).collect())
            .condition(PeerCondition::Always)
            .override_dial_concurrency_factor(AT_ONCE);
        let options = match dial.manner {
            Manner::Quic | Manner::Punch { speaks_first: true } => options,
            Manner::Punch { speaks_first: false } => options.override_role(),
            Manner::Tcp => options.allocate_new_port(),
        };
        let options = options.build();
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => self.finder.on_dialling(connection, peer),
            Err(error) => tracing::debug!(%error, "a peer cannot be dialled directly"),
        }
    }
}
