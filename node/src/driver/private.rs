//! Private shares, at both ends: what happens on circuits, passed to who it concerns, and what is to be done, carried out.
//!
//! Certificates of other nodes are judged by the clock of this machine: a relay that lied about the time could make an ended
//! one good again.

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::ConnectedPoint,
    multiaddr::Protocol,
    swarm::{ConnectionId, DialError},
};
use mytunnel_carrier::stream::Opener;
use mytunnel_keys::{
    id::TunnelName,
    wire::peer::{LEG_PROTOCOL, PEER_PROTOCOL},
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Driver, circuits,
    hosting::Heard,
    jitter, ping,
    reaching::{Act, Dial, Found, Grounds, Happened},
    session::{Mailbox, unix_now},
};
use crate::{access::Access, carrier::Carrier, share::ShareError};

/// Accesses at once.
const MOST_ACCESSES: usize = 64;

impl Driver {
    pub(super) fn access(&mut self, name: TunnelName, reply: oneshot::Sender<Result<Access, ShareError>>) {
        let access = if let Some(refusal) = &self.refused {
            Err(ShareError::Refused(refusal.clone().into()))
        } else if self.reaching.len() >= MOST_ACCESSES {
            Err(ShareError::TooMany(MOST_ACCESSES))
        } else {
            Ok(self.reaching.add(name, self.link.current().is_some(), Instant::now().into_std()))
        };
        // Whoever asked may have left; dropping the handle then gives the access up.
        drop(reply.send(access));
    }

    /// A connection stands that is not one with a relay that we dialled.
    pub(super) fn on_peer_connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        opener: Opener,
    ) {
        let now = Instant::now().into_std();
        if self.reaching.on_connected(connection, peer, &opener, now) {
            return;
        }
        let is_guest = endpoint.is_listener() && endpoint.is_relayed() && self.shares.has_private();
        if !is_guest || !self.hosting.on_connected(connection, peer, opener, now) {
            self.swarm.close_connection(connection);
        }
    }

    pub(super) fn on_peer_closed(&mut self, connection: ConnectionId) {
        self.hosting.on_closed(connection);
        self.reaching.on_closed(connection, Instant::now().into_std(), jitter());
    }

    pub(super) fn on_peer_dial_failed(&mut self, connection: ConnectionId, error: &DialError) {
        tracing::debug!(%error, "no circuit");
        let reason = if matches!(error, DialError::WrongPeerId { .. }) {
            "the relay led to another node"
        } else {
            "the other node cannot be reached through the relay at the moment"
        };
        self.reaching.on_dial_failed(Dial::UnderWay(connection), reason, Instant::now().into_std(), jitter());
    }

    /// A guest has opened a stream. Nobody else may.
    pub(super) fn on_peer_stream(
        &mut self,
        connection: ConnectionId,
        protocol: &StreamProtocol,
        stream: Stream,
    ) {
        if !self.hosting.is_guest(connection) {
            return;
        }
        if *protocol == PEER_PROTOCOL {
            self.hosting.on_greeting(connection, stream);
        } else if *protocol == LEG_PROTOCOL {
            self.hosting.on_leg(connection, stream);
        }
    }

    /// A guest has said something for the first time on a stream.
    pub(super) fn on_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Hello(connection, hello, stream) => {
                let (unix, shares) = (unix_now(), &self.shares);
                let find = |name: &TunnelName| shares.private(name);
                let me = (&self.own, self.introduction.certificate.as_slice());
                let trust = self.expected.held.as_ref();
                let is_new = self.hosting.on_hello(connection, (hello, stream), me, trust, find, unix);
                if is_new && let Some(opener) = self.hosting.opener(connection) {
                    self.ping_peer(connection, opener);
                }
            }
            Heard::Leg(connection, opening, stream) => {
                let shares = &self.shares;
                self.hosting.on_opening(connection, opening, stream, |name| shares.private(name));
            }
            Heard::Nothing(connection) => tracing::debug!(%connection, "a stream without a word"),
        }
    }

    pub(super) fn on_reaching(&mut self, happened: Happened) {
        let greeted = match happened {
            Happened::Greeted(greeted) => greeted,
            Happened::Dropped(id) => {
                for connection in self.reaching.remove(id) {
                    self.swarm.close_connection(connection);
                }
                return;
            }
        };
        let grounds = Grounds { own: &self.own, trust: self.expected.held.as_ref(), unix: unix_now() };
        self.reaching.on_greeted(greeted, &grounds, Instant::now().into_std(), jitter());
    }

    pub(super) fn on_found(&mut self, request: u32, found: Found) {
        self.reaching.on_found(request, found, Instant::now().into_std(), jitter());
    }

    /// The relay has shown a trust bundle, which may be a newer one.
    pub(super) fn judge_guests_again(&mut self) {
        let Some(trust) = &self.expected.held else { return };
        for connection in self.hosting.judge_again(trust, unix_now()) {
            self.swarm.close_connection(connection);
        }
    }

    /// When [`Self::tick_private`] has something to do.
    pub(super) fn next_private_timeout(&self) -> Option<std::time::Instant> {
        let (now, unix) = (Instant::now().into_std(), unix_now());
        let timeouts = [
            self.reaching.next_timeout(now, unix),
            self.hosting.next_timeout(now, unix),
            self.circuits
                .next_timeout()
                .filter(|_| self.shares.has_private() && self.link.current().is_some()),
        ];
        timeouts.into_iter().flatten().min()
    }

    pub(super) fn tick_private(&mut self) {
        let (now, unix) = (Instant::now().into_std(), unix_now());
        let mut over = self.reaching.tick(now, unix, jitter());
        over.extend(self.hosting.overdue(now, unix));
        for connection in over {
            self.swarm.close_connection(connection);
        }
        if self.shares.has_private()
            && let Some(relay) = self.relay_address()
        {
            self.circuits.keep(&mut self.swarm, relay, now);
        }
    }

    /// Carries out what the accesses want.
    pub(super) fn obey_private(&mut self) {
        let introduction = std::sync::Arc::clone(&self.introduction);
        while let Some(act) = self.reaching.next_act(&introduction.certificate) {
            match act {
                Act::Send(message) => self.send(message),
                Act::Close(connection) => drop(self.swarm.close_connection(connection)),
                Act::Dial(access, peer) => {
                    let dialled = match self.relay_address() {
                        Some((_, relay)) => circuits::dial(&mut self.swarm, peer, relay),
                        None => Err("there is no connection to the relay".to_owned()),
                    };
                    match dialled {
                        Ok(connection) => self.reaching.on_dialling(access, connection),
                        Err(reason) => {
                            let now = Instant::now().into_std();
                            self.reaching.on_dial_failed(Dial::NotBegun(access), &reason, now, jitter());
                        }
                    }
                }
                Act::Ping(connection, opener) => self.ping_peer(connection, opener),
            }
        }
    }

    /// The connection with the relay, and the address that leads to it.
    fn relay_address(&self) -> Option<(ConnectionId, Multiaddr)> {
        let connection = self.link.current()?;
        let current = self.connections.get(&connection)?;
        let mut address = current.at.clone();
        if !matches!(address.iter().last(), Some(Protocol::P2p(_))) {
            address.push(Protocol::P2p(current.peer));
        }
        Some((connection, address))
    }

    fn ping_peer(&mut self, connection: ConnectionId, opener: Opener) {
        let mailbox = Mailbox { connection, driver: self.mailbox.clone() };
        self.pings.spawn(async move {
            // Ends with the connection, or with the driver.
            let _ = ping::run(&opener, Carrier::Tcp, &mailbox).await;
        });
    }

    /// A peer has answered a ping.
    pub(super) fn on_peer_alive(&mut self, connection: ConnectionId, trip: std::time::Duration) {
        self.reaching.on_alive(connection, trip);
        self.hosting.on_alive(connection, trip);
    }

    /// A peer answers no pings: what is left of the connection is of no use.
    pub(super) fn on_peer_silent(&mut self, connection: ConnectionId) {
        if self.reaching.is_silent(connection) || self.hosting.is_silent(connection) {
            self.swarm.close_connection(connection);
        }
    }
}
