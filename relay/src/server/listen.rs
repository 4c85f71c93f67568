//! Where nodes come in: binds QUIC and TCP, and finds out which addresses that really are.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _};
use libp2p::{Multiaddr, Swarm, core::transport::ListenerId, multiaddr::Protocol, swarm::SwarmEvent};
use mytunnel_carrier::{Boxed, address, websocket::Place};
use tokio::time::timeout;

use super::StartError;
use crate::behaviour::{Behaviour, BehaviourEvent};

/// Time in which a bound socket is expected to know an address. A machine without any network has none to tell.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is listened on.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    pub(crate) listeners: Vec<ListenerId>,
    /// Bound addresses in the order in which they became known.
    pub(crate) addrs: Vec<Multiaddr>,
    /// Everything else that the swarm had to say meanwhile, for the driver.
    pub(crate) backlog: Vec<SwarmEvent<BehaviourEvent>>,
}

/// Where WebSockets come in: the port of HTTPS, and the host that is asked for there.
pub(super) struct WebSockets<'a> {
    pub(super) port: u16,
    pub(super) host: &'a str,
}

/// Places of WebSockets that are told: of the hosts that the relay is reached at, the first.
const MOST_PLACES: usize = 4;

/// Listens on QUIC and TCP of each socket address, and tells the swarm which addresses are its own. WebSockets are taken at the same
/// hosts.
pub(super) async fn on(
    swarm: &mut Swarm<Boxed<Behaviour>>,
    sockets: &[SocketAddr],
    public: &[Multiaddr],
    websockets: Option<WebSockets<'_>>,
) -> Result<Listening, StartError> {
    let mut listening = Listening::default();
    for socket in sockets {
        let [_, tcp] = address::listen_on(*socket);
        listening.bind(swarm, tcp).await?;
        let port = listening.addrs.last().and_then(tcp_port).unwrap_or(socket.port());
        let [quic, _] = address::listen_on(SocketAddr::new(socket.ip(), port));
        match listening.bind(swarm, quic).await {
            Err(_) if socket.port() == 0 => {
                let [any, _] = address::listen_on(*socket);
                listening.bind(swarm, any).await?;
            }
            bound => bound?,
        }
    }
    while let Some(Some(event)) = swarm.next().now_or_never() {
        listening.take(event);
    }
    // Without these the circuit relay answers that it is not available.
    let external = if public.is_empty() { listening.addrs.clone() } else { public.to_vec() };
    for addr in &external {
        swarm.add_external_address(addr.clone());
    }
    listening.addrs.splice(0..0, public.iter().cloned());
    if let Some(WebSockets { port, host }) = websockets {
        for place in places(&external, port, host) {
            listening.bind(swarm, place).await?;
        }
    }
    let id = *swarm.local_peer_id();
    for addr in &mut listening.addrs {
        addr.push(Protocol::P2p(id));
    }
    Ok(listening)
}

/// Where WebSockets are taken: at hosts that others reach, if the relay knows of any.
fn places(known: &[Multiaddr], port: u16, host: &str) -> Vec<Multiaddr> {
    let is_far = |known: &Multiaddr| {
        address::ip(known).is_none_or(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        })
    };
    let any_far = known.iter().any(is_far);
    let mut places: Vec<Multiaddr> = Vec::new();
    for known in known.iter().filter(|known| !any_far || is_far(known)) {
        let place = Place::beside(known, port, host).filter(|place| !places.contains(place));
        places.extend(place.filter(|_| places.len() < MOST_PLACES));
    }
    places
}

impl Listening {
    /// Listens on an address and waits until it is known which it is.
    async fn bind(&mut self, swarm: &mut Swarm<Boxed<Behaviour>>, addr: Multiaddr) -> Result<(), StartError> {
        let listener = swarm
            .listen_on(addr.clone())
            .map_err(|source| StartError::Listen { addr: addr.clone(), source })?;
        let known = async {
            loop {
                let event = swarm.select_next_some().await;
                if let SwarmEvent::ListenerClosed { listener_id, reason, .. } = event {
                    if listener_id == listener {
                        return Err(StartError::ListenEnded { addr: addr.clone(), source: reason.err() });
                    }
                    continue;
                }
                let known = matches!(&event, SwarmEvent::NewListenAddr { listener_id, .. } if *listener_id == listener);
                self.take(event);
                if known {
                    return Ok(());
                }
            }
        };
        if let Ok(bound) = timeout(PATIENCE, known).await {
            bound?;
        }
        self.listeners.push(listener);
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the swarm's events are many and non-exhaustive")]
    fn take(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => self.addrs.push(address),
            other => self.backlog.push(other),
        }
    }
}

fn tcp_port(addr: &Multiaddr) -> Option<u16> {
    addr.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_only_this_machine_reaches_are_told_where_there_are_no_others() {
        let places = |known: &[&str]| {
            let known: Vec<Multiaddr> = known.iter().map(|known| known.parse().unwrap()).collect();
            let places = places(&known, 443, "relay.test");
            places
                .iter()
                .map(|place| place.to_string().split('/').nth(2).unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let near = ["/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/udp/4001/quic-v1", "/ip6/::1/tcp/4001"];
        assert_eq!(places(&near), ["127.0.0.1", "::1"]);
        let far =
            [&near[..], &["/ip6/fe80::1/tcp/4001", "/ip4/192.0.2.1/tcp/4001", "/dns/relay.test/tcp/4001"]]
                .concat();
        assert_eq!(places(&far), ["192.0.2.1", "relay.test"]);
    }
}
