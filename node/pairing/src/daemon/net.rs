//! The daemon's end of the network: QUIC and TCP as every peer of ours has them, and a bound on who may connect.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, connection_limits,
    multiaddr::Protocol,
    swarm::{
        NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use mytunnel_carrier::{address, stream, transport};
use mytunnel_keys::secret::Seed;
use serde::{Deserialize, Serialize};

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

/// How a peer is dialled at addresses of its own.
///
/// From a port of its own: libp2p would have the listener's at every address of this machine (`0.0.0.0:P`), which cannot be had
/// once another program has that port at one of them, be it by a connection that ended within the last minute. Nobody here needs
/// to come from where it listens: holes are punched by the node, not by this swarm.
pub(super) fn to_peer(peer: PeerId, condition: PeerCondition, addresses: Vec<Multiaddr>) -> DialOpts {
    DialOpts::peer_id(peer).condition(condition).addresses(addresses).allocate_new_port().build()
}

/// How whoever is at an address is dialled; see [`to_peer`].
pub(super) fn to_whoever(address: Multiaddr) -> DialOpts {
    DialOpts::unknown_peer_id().address(address).allocate_new_port().build()
}

/// The ports that a process had where it was to take any, so that the next one takes them again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports(BTreeMap<String, u16>);

impl Ports {
    /// The same place with the port that it had.
    fn again(&self, wanted: &Multiaddr) -> Multiaddr {
        let Some(port) = self.0.get(&wanted.to_string()) else { return wanted.clone() };
        #[expect(clippy::wildcard_enum_match_arm, reason = "libp2p's list of protocols grows")]
        let had = |part| match part {
            Protocol::Tcp(0) => Protocol::Tcp(*port),
            Protocol::Udp(0) => Protocol::Udp(*port),
            other => other,
        };
        wanted.iter().map(had).collect()
    }

    fn note(&mut self, wanted: &Multiaddr, got: &Multiaddr) {
        if let Some((socket, _)) = address::socket(got) {
            self.0.insert(wanted.to_string(), socket.port());
        }
    }
}

/// Listens, where it may choose at the ports that it had before, and waits until every listener has told an address.
#[expect(clippy::wildcard_enum_match_arm, reason = "`SwarmEvent` is non-exhaustive; the rest is not ours")]
pub(super) async fn listen(
    swarm: &mut Swarm<Behaviour>,
    sockets: &[SocketAddr],
    before: &Ports,
) -> Result<Ports, DaemonError> {
    let (mut pending, mut ports) = (Vec::new(), Ports::default());
    for socket in sockets {
        for address in address::listen_on(*socket) {
            // Another program may have the port by now.
            let listening =
                swarm.listen_on(before.again(&address)).or_else(|_| swarm.listen_on(address.clone()));
            match listening {
                Ok(listener) => pending.push((listener, address)),
                Err(error) => tracing::debug!(%error, "not listening"),
            }
        }
    }
    let mut reason = "no address was given".to_owned();
    let told = async {
        while !pending.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address: got, .. } => {
                    pending
                        .extract_if(.., |(id, _)| *id == listener_id)
                        .for_each(|(_, wanted)| ports.note(&wanted, &got));
                }
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                    pending.retain(|(id, _)| *id != listener_id);
                    reason = error.to_string();
                }
                _ => {}
            }
        }
    };
    // A machine without a network has nothing to tell; it may have later.
    if tokio::time::timeout(TELLING, told).await.is_err() {
        return Ok(ports);
    }
    if swarm.listeners().next().is_none() { Err(DaemonError::Listen(reason)) } else { Ok(ports) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn somebody_elses_socket_at_the_port_where_it_listens_keeps_nobody_from_dialling() {
        let [mut guest, mut host] = [1, 2].map(|seed| swarm(&Seed::from_bytes([seed; 32])).unwrap());
        let local = [([127, 0, 0, 1], 0).into()];
        let own = listen(&mut guest, &local, &Ports::default()).await.unwrap();
        listen(&mut host, &local, &Ports::default()).await.unwrap();
        let is_tcp = |address: &&Multiaddr| address.iter().any(|part| matches!(part, Protocol::Tcp(_)));
        let at = host.listeners().find(is_tcp).unwrap().clone();
        let port = own.0.iter().find(|(address, _)| address.contains("/tcp/")).unwrap().1;
        let _other = std::net::TcpListener::bind(("127.0.0.2", *port)).unwrap();

        let options = to_peer(*host.local_peer_id(), PeerCondition::NotDialing, vec![at.clone()]);
        guest.dial(options).unwrap();
        guest.dial(to_whoever(at)).unwrap();
        let met = async {
            let mut met = 0;
            while met < 2 {
                tokio::select! {
                    event = guest.select_next_some() => match event {
                        SwarmEvent::ConnectionEstablished { .. } => met += 1,
                        SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                        _ => {}
                    },
                    _ = host.select_next_some() => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), met).await.expect("both are met");
    }

    #[test]
    fn a_port_that_was_any_is_the_same_again_and_one_that_was_named_stays() {
        let [quic, tcp] = address::listen_on(([0, 0, 0, 0], 0).into());
        let [_, named] = address::listen_on(([0, 0, 0, 0], 4900).into());
        let [got_quic, got_tcp] = address::listen_on(([192, 168, 1, 7], 5000).into());
        let mut ports = Ports::default();
        ports.note(&quic, &got_quic);
        assert_eq!(ports.again(&quic), "/ip4/0.0.0.0/udp/5000/quic-v1".parse().unwrap());
        assert_eq!(ports.again(&tcp), tcp);
        ports.note(&tcp, &got_tcp);
        ports.note(&named, &named);
        assert_eq!(ports.again(&tcp), "/ip4/0.0.0.0/tcp/5000".parse().unwrap());
        assert_eq!(ports.again(&named), named);
    }
}
