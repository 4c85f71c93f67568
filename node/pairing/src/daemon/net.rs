//! The daemon's end of the network: QUIC and TCP as every peer of ours has them, and a bound on who may connect.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    StreamProtocol, Swarm, connection_limits,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use mytunnel_carrier::{address, stream, transport};
use mytunnel_keys::secret::Seed;

use super::{DaemonError, bounds};

/// The protocol of pairing, on a stream of its own.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/mytunnel/pair/1");

/// Connections of one peer: as many as it may make attempts in a minute, and some.
const PER_PEER: u32 = 16;
/// How long a listener takes to tell its addresses.
const TELLING: Duration = Duration::from_secs(1);
/// A connection without a stream ends after this.
const QUIET: Duration = Duration::from_secs(10);

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    /// Before the streams, which then never hear of who is refused.
    pub(super) bounds: bounds::Behaviour,
    limits: connection_limits::Behaviour,
    streams: stream::Behaviour,
}

pub(super) fn swarm(seed: &Seed) -> Result<Swarm<Behaviour>, DaemonError> {
    let keypair = mytunnel_carrier::keypair(seed);
    let transport = transport::transport(&keypair, &transport::Config::default())?;
    let connections =
        connection_limits::ConnectionLimits::default().with_max_established_per_peer(Some(PER_PEER));
    let behaviour = Behaviour {
        bounds: bounds::Behaviour::new(),
        limits: connection_limits::Behaviour::new(connections),
        streams: stream::Behaviour::new(stream::Config::accepting([PROTOCOL])),
    };
    let config = transport::swarm_config(NonZeroUsize::MIN.saturating_add(3), QUIET);
    Ok(Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config))
}

/// Listens, and waits until every listener has told an address.
#[expect(clippy::wildcard_enum_match_arm, reason = "`SwarmEvent` is non-exhaustive; the rest is not ours")]
pub(super) async fn listen(swarm: &mut Swarm<Behaviour>, sockets: &[SocketAddr]) -> Result<(), DaemonError> {
    let mut pending = Vec::new();
    for socket in sockets {
        for address in address::listen_on(*socket) {
            match swarm.listen_on(address) {
                Ok(listener) => pending.push(listener),
                Err(error) => tracing::debug!(%error, "not listening"),
            }
        }
    }
    let mut reason = "no address was given".to_owned();
    let told = async {
        while !pending.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, .. } => pending.retain(|id| *id != listener_id),
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                    pending.retain(|id| *id != listener_id);
                    reason = error.to_string();
                }
                _ => {}
            }
        }
    };
    // A machine without a network has nothing to tell; it may have later.
    if tokio::time::timeout(TELLING, told).await.is_err() {
        return Ok(());
    }
    if swarm.listeners().next().is_none() { Err(DaemonError::Listen(reason)) } else { Ok(()) }
}
