//! Where nodes come in: binds QUIC and TCP, and finds out which addresses that really are.

use std::{net::SocketAddr, time::Duration};

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
        let mut places: Vec<Multiaddr> = Vec::new();
        for place in external.iter().filter_map(|known| Place::beside(known, port, host)) {
            if !places.contains(&place) && places.len() < MOST_PLACES {
                places.push(place);
            }
        }
        for place in places {
            listening.bind(swarm, place).await?;
        }
    }
    let id = *swarm.local_peer_id();
    for addr in &mut listening.addrs {
        addr.push(Protocol::P2p(id));
    }
    Ok(listening)
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
