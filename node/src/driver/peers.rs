//! Other nodes, reached through this line or reaching us: what happens is passed to the owner of private sessions, whose
//! orders are carried out.

use libp2p::{
    Multiaddr, Stream, StreamProtocol,
    multiaddr::Protocol,
    swarm::{ConnectionId, DialError, dial_opts::DialOpts},
};
use mytunnel_keys::{
    trust::Trust,
    wire::{
        ToRelay,
        peer::{LEG_PROTOCOL, PEER_PROTOCOL},
    },
};
use tokio::time::Instant;

use super::Driver;
use crate::{
    meeting::line::{Order, Report, Subject},
    share::Closed,
    state::tunnels::ShareId,
};

impl Driver {
    pub(super) fn on_peer_dial_failed(&mut self, connection: ConnectionId, error: &DialError) {
        tracing::debug!(%error, "no connection to a peer");
        let reason = if matches!(error, DialError::WrongPeerId { .. }) {
            "the relay led to another node"
        } else {
            "the other node cannot be reached through the relay at the moment"
        };
        self.line.tell(Report::DialFailed { connection, reason: reason.to_owned() });
    }

    /// A stream that is no pipe. A relay has no business with them.
    pub(super) fn on_peer_stream(
        &mut self,
        connection: ConnectionId,
        protocol: &StreamProtocol,
        stream: Stream,
    ) {
        let subject = match protocol.as_ref() {
            PEER_PROTOCOL => Subject::Greeting,
            LEG_PROTOCOL => Subject::Leg,
            _ => return,
        };
        if !self.connections.contains_key(&connection) {
            self.line.tell(Report::Stream { connection, subject, stream });
        }
    }

    pub(super) fn on_order(&mut self, order: Order) {
        match order {
            Order::Find { request, name } => self.send(ToRelay::Find { request, name }),
            Order::Watch(certificates) => self.send(ToRelay::Watch { certificates }),
            Order::Unwatch(serials) => self.send(ToRelay::Unwatch { serials }),
            Order::Dial(options) => self.dial_peer(*options),
            Order::Seek(opener, side) => self.finder.meet(opener, side, Instant::now().into_std()),
            Order::Close(connection) => drop(self.swarm.close_connection(connection)),
        }
    }

    fn dial_peer(&mut self, options: DialOpts) {
        let connection = options.connection_id();
        if let Err(error) = self.swarm.dial(options) {
            self.on_peer_dial_failed(connection, &error);
        }
    }

    /// The relay has shown a trust bundle, which may be a newer one.
    pub(super) fn trust(&mut self, trust: Trust) {
        self.line.tell(Report::Trust(Box::new(trust.clone())));
        self.expected.held = Some(trust);
    }

    /// A share is over.
    pub(super) fn end_share(&mut self, id: ShareId, why: Closed) {
        if let Some(name) = self.shares.end(id, why) {
            self.line.tell(Report::Unshared(name));
        }
    }

    /// Other nodes can reach this one through the relay for as long as anything is shared privately.
    pub(super) fn keep_reservation(&mut self) {
        if self.shares.has_private()
            && let Some(relay) = self.relay_address()
        {
            self.circuits.keep(&mut self.swarm, relay, Instant::now().into_std());
        }
    }

    /// When [`Self::keep_reservation`] has something to do.
    pub(super) fn reservation_timeout(&self) -> Option<std::time::Instant> {
        let is_wanted = self.shares.has_private() && self.link.current().is_some();
        self.circuits.next_timeout().filter(|_| is_wanted)
    }

    /// The connection with the relay, and the address that leads to it.
    pub(super) fn relay_address(&self) -> Option<(ConnectionId, Multiaddr)> {
        let connection = self.link.current()?;
        let current = self.connections.get(&connection)?;
        let mut address = current.at.clone();
        if !matches!(address.iter().last(), Some(Protocol::P2p(_))) {
            address.push(Protocol::P2p(current.peer));
        }
        Some((connection, address))
    }
}
