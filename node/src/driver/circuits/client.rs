//! libp2p's client of circuits, which hears of no connection that is there only to be asked where we are seen.
//!
//! It has circuits go over the oldest connection that a relay has with us. One that is there to be looked at dies without
//! a word when this machine moves to another network, and nobody asks whether it lives: circuits over it come to nothing for as long as it
//! is held, and they hold it.

use std::{
    collections::HashSet,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    relay::client,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

type Handler = <client::Behaviour as NetworkBehaviour>::ConnectionHandler;

/// See the [module documentation](self).
pub(crate) struct Client {
    inner: client::Behaviour,
    /// Connections that it does not hear of, from their dial to their end.
    unheard: HashSet<ConnectionId>,
}

impl Client {
    pub(crate) fn new(inner: client::Behaviour) -> Self {
        Self { inner, unheard: HashSet::new() }
    }

    /// No circuit leads over this connection, which is about to be dialled.
    pub(crate) fn leave_out(&mut self, connection: ConnectionId) {
        self.unheard.insert(connection);
    }
}

impl NetworkBehaviour for Client {
    type ConnectionHandler = Handler;
    type ToSwarm = client::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.unheard.contains(&connection) {
            return Ok(Handler::Right(dummy::ConnectionHandler));
        }
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`FromSwarm` is non-exhaustive; the rest is of no connection"
    )]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let is_unheard = match &event {
            FromSwarm::ConnectionEstablished(open) => self.unheard.contains(&open.connection_id),
            FromSwarm::AddressChange(change) => self.unheard.contains(&change.connection_id),
            FromSwarm::ConnectionClosed(closed) => self.unheard.remove(&closed.connection_id),
            FromSwarm::DialFailure(failure) => self.unheard.remove(&failure.connection_id),
            _ => false,
        };
        if !is_unheard {
            self.inner.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use futures::StreamExt as _;
    use libp2p::{
        Swarm,
        multiaddr::Protocol,
        swarm::{
            SwarmEvent,
            dial_opts::{DialOpts, PeerCondition},
        },
    };
    use mytunnel_carrier::transport;
    use mytunnel_keys::secret::Seed;
    use tokio::time::timeout;

    use super::*;
    use crate::testing::{crooked::Crooked, relay::SOON};

    async fn until(swarm: &mut Swarm<Client>, is_meant: impl Fn(&SwarmEvent<client::Event>) -> bool) {
        let meant = async { while !is_meant(&swarm.select_next_some().await) {} };
        timeout(SOON, meant).await.expect("it happens in time");
    }

    #[tokio::test]
    async fn no_circuit_leads_over_a_connection_that_is_left_out() {
        let relay = Crooked::start().await;
        let keypair = mytunnel_carrier::keypair(&Seed::from_bytes([7; 32]));
        let (transport, inner) =
            transport::with_circuits(&keypair, &transport::Config::default(), drop).unwrap();
        let config = transport::swarm_config(NonZeroUsize::MIN, SOON);
        let me = keypair.public().to_peer_id();
        let mut swarm = Swarm::new(transport, Client::new(inner), me, config);
        let peer = mytunnel_carrier::peer_id(&crate::testing::relay_seed().public());
        let mut session = None;
        for is_left_out in [true, false] {
            let dial = DialOpts::peer_id(peer).addresses(vec![relay.p2p()]);
            let dial = dial.condition(PeerCondition::Always).build();
            session = Some(dial.connection_id());
            if is_left_out {
                swarm.behaviour_mut().leave_out(dial.connection_id());
            }
            swarm.dial(dial).unwrap();
            until(&mut swarm, |event| matches!(event, SwarmEvent::ConnectionEstablished { .. })).await;
        }
        swarm.listen_on(relay.p2p().with(Protocol::P2pCircuit)).unwrap();
        until(&mut swarm, |event| matches!(event, SwarmEvent::Behaviour(_))).await;
        swarm.close_connection(session.unwrap());
        until(&mut swarm, |event| matches!(event, SwarmEvent::ListenerClosed { .. })).await;
    }
}
