//! What the relay's swarm does, composed.

use std::time::Duration;

use libp2p::{
    StreamProtocol, connection_limits, connection_limits::ConnectionLimits, identify, identity::Keypair,
    ping, swarm::NetworkBehaviour,
};
use mytunnel_carrier::{pong, stream};
use mytunnel_keys::wire::{AUTH_PROTOCOL, direct::WHEREAMI_PROTOCOL};

use crate::{
    circuits::{self, Admitted},
    server::Limits,
    strangers::{self, Handshakes},
};

/// Interval and patience of the probe that finds nodes which vanished without a word.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_PATIENCE: Duration = Duration::from_secs(10);

/// Everything that the relay's connections speak. The order is that in which a new connection is asked about: limits
/// come first.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) strangers: strangers::Behaviour,
    pub(crate) streams: stream::Behaviour,
    pub(crate) circuits: circuits::Behaviour,
    pub(crate) identify: identify::Behaviour,
    /// Before `ping`, which asks and would answer badly.
    pub(crate) pong: pong::Behaviour,
    pub(crate) ping: ping::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(
        keypair: &Keypair,
        limits: &Limits,
        admitted: &Admitted,
        handshakes: Handshakes,
    ) -> Self {
        let local = keypair.public().to_peer_id();
        let connections = ConnectionLimits::default()
            .with_max_established_incoming(Some(limits.connections))
            .with_max_established_per_peer(Some(limits.connections_per_peer));
        let agent = concat!("mytunnel-relay/", env!("CARGO_PKG_VERSION")).to_owned();
        let identity =
            identify::Config::new("/mytunnel/1".to_owned(), keypair.public()).with_agent_version(agent);
        let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_PATIENCE);
        Self {
            limits: connection_limits::Behaviour::new(connections),
            strangers: strangers::Behaviour::new(limits.strangers, handshakes),
            streams: stream::Behaviour::new(stream::Config::accepting(
                [AUTH_PROTOCOL, WHEREAMI_PROTOCOL].map(StreamProtocol::new),
            )),
            circuits: circuits::Behaviour::new(local, &limits.circuits, admitted),
            identify: identify::Behaviour::new(identity),
            pong: pong::Behaviour::default(),
            ping: ping::Behaviour::new(ping),
        }
    }
}
