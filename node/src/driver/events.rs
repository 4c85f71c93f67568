//! What happens, passed to the state: the swarm's events, and what sessions tell.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use libp2p::{
    Stream, StreamProtocol, relay,
    swarm::{ConnectionId, SwarmEvent},
};
use mytunnel_carrier::{lane, stream};
use mytunnel_keys::wire::{PIPE_PROTOCOL, ToNode, direct::DIRECT_PROTOCOL};
use tokio::time::Instant;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use super::{
    BehaviourEvent, Connection, Driver,
    dialing::{Failed, Progress},
    session::Event,
    shares::Way,
    welcome::{self, Unwelcome, Welcome},
};
use crate::{
    clock::jitter,
    lanes,
    meeting::line::{Found, Report},
    ping::Finding,
    state::{link::Refusal, tunnels::Grant},
};

impl Driver {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`SwarmEvent` is non-exhaustive; the rest is not ours"
    )]
    pub(super) fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => self.on_stream(event),
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                match self.dialing.failed(connection_id, &error) {
                    Some(failed) => self.on_dial_failed(Some(failed)),
                    None if self.finder.on_dial_failed(connection_id, Instant::now().into_std()) => {
                        tracing::debug!(%connection_id, %error, "no direct path by this dial");
                    }
                    None => self.on_peer_dial_failed(connection_id, &error),
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Circuits(
                relay::client::Event::ReservationReqAccepted { .. },
            )) => {
                self.circuits.on_reserved();
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                tracing::debug!(?reason, "reservation ended");
                self.circuits.on_listener_closed(listener_id, Instant::now().into_std());
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(&address, true),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_listening(&address, false),
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                self.finder.on_closed(connection_id, Instant::now().into_std());
                tracing::debug!(%connection_id, ?cause, "connection closed");
                if self.connections.remove(&connection_id).is_none() {
                    return self.line.tell(Report::Closed(connection_id));
                }
                let reason = match cause {
                    Some(_) => "the connection to the relay broke",
                    None => "the connection to the relay was closed",
                };
                self.link.on_closed(connection_id, reason, Instant::now().into_std());
            }
            _ => {}
        }
    }

    fn on_stream(&mut self, event: stream::Event) {
        match event {
            stream::Event::Opened { peer, connection, endpoint, opener } => {
                let Some((relay, carrier)) = self.dialing.succeeded(connection) else {
                    return self.on_peer_connected(peer, connection, &endpoint, opener);
                };
                let remote = endpoint.get_remote_address();
                let (ip, address) = (mytunnel_carrier::address::ip(remote), remote.to_string());
                let way = Way { address, ip, carrier, rtt: None };
                let name = peer.to_string();
                self.connections.insert(
                    connection,
                    Connection {
                        opener,
                        peer,
                        at: remote.clone(),
                        name,
                        way,
                        lanes: None,
                        belief: None,
                        outgoing: None,
                    },
                );
                self.link.on_connected(connection, relay, carrier, Instant::now().into_std());
            }
            stream::Event::Inbound { connection, protocol, stream, .. } => {
                self.on_inbound(connection, &protocol, stream);
            }
            // The swarm's own event says why.
            stream::Event::Closed { .. } => {}
        }
    }

    /// Only the relay that welcomed us may open pipes.
    fn on_inbound(&mut self, connection: ConnectionId, protocol: &StreamProtocol, stream: Stream) {
        if *protocol == PIPE_PROTOCOL && self.link.current() == Some(connection) {
            self.pipes.open(stream.compat());
        } else if *protocol == DIRECT_PROTOCOL {
            self.on_direct_stream(connection, stream);
        } else {
            self.on_peer_stream(connection, protocol, stream);
        }
    }

    pub(super) fn on_dialing(&mut self, progress: Progress) {
        match progress {
            Progress::LookedUp(lookup) => {
                let dialled = self.dialing.dial(&mut self.swarm, lookup);
                self.on_dial_failed(dialled.err());
            }
            Progress::Reached(relay) => self.link.on_reached(relay, Instant::now().into_std()),
        }
    }

    pub(super) fn on_dial_failed(&mut self, failed: Option<Failed>) {
        if let Some(Failed { relay, carrier, reason }) = failed {
            tracing::debug!(%carrier, reason, "dial failed");
            if reason.is_some() {
                self.trouble.clone_from(&reason);
            }
            self.link.on_dial_failed(relay, carrier, reason, Instant::now().into_std());
        }
    }

    pub(super) fn on_session(&mut self, connection: ConnectionId, event: Event) {
        let now = Instant::now().into_std();
        match event {
            Event::Welcomed(welcome) => {
                let Welcome { trust, not_after, lane_port, clock_offset } = *welcome;
                self.trust(trust);
                self.clock_offset = clock_offset;
                self.believe(connection, not_after, now);
                if let Some(port) = lane_port {
                    self.find_lanes(connection, port);
                }
                let is_idle = self.is_idle();
                self.link.on_welcomed(connection, now, is_idle);
            }
            Event::Unwelcome(Unwelcome::Refused(refusal)) => self.link.on_refused(connection, refusal, now),
            Event::Unwelcome(Unwelcome::FalseRelay(why)) => {
                self.link.on_false_relay(connection, &why.to_string(), now);
            }
            Event::Message(message) => self.on_message(connection, message),
            Event::Ping(Finding::Alive(trip)) => self.on_alive(connection, trip),
            Event::Ping(Finding::Silent) => self.link.on_silent(connection, now),
            Event::Ended(reason) => self.link.on_ended(connection, &reason, now),
        }
    }

    fn on_message(&mut self, connection: ConnectionId, message: ToNode) {
        if self.link.current() != Some(connection) {
            return;
        }
        let now = Instant::now().into_std();
        let refusal = |code, message: String, help: String| Refusal {
            code,
            message: welcome::plain(&message),
            help: welcome::plain(&help),
        };
        match message {
            ToNode::Registered { request, tunnel, name, urls, expires_at, backends } => {
                let urls = urls.iter().map(|url| welcome::plain(url)).collect();
                let grant = Grant { tunnel, name, urls, expires_at };
                self.tunnels.on_registered(request, grant, now, self.unix());
                self.tunnels.on_backends(tunnel, backends);
            }
            ToNode::Backends { tunnel, count } => self.tunnels.on_backends(tunnel, count),
            ToNode::Found { request, peers } => {
                self.line.tell(Report::Found { request, found: Found::Here(peers) });
            }
            ToNode::NotFound { request, code, message, help } => {
                let found = Found::Nowhere(refusal(code, message, help));
                self.line.tell(Report::Found { request, found });
            }
            ToNode::Revoked { serials, code, message } => {
                let refusal = refusal(code, message, code.help().to_owned());
                self.line.tell(Report::Revoked(serials, refusal));
            }
            ToNode::Unwatched { serials } => self.line.tell(Report::Unwatched(serials)),
            ToNode::Refused { request: Some(request), code, message, help } => {
                self.tunnels.on_refused(request, refusal(code, message, help), now, jitter());
            }
            ToNode::Refused { request: None, code, message, help } => {
                self.link.on_refused(connection, refusal(code, message, help), now);
            }
            ToNode::Closed { tunnel, code, message } => {
                let help = code.help().to_owned();
                self.tunnels.on_closed(tunnel, refusal(code, message, help), now, jitter());
            }
            ToNode::Goodbye { code, message } => {
                let help = code.help().to_owned();
                self.link.on_goodbye(connection, refusal(code, message, help), now);
            }
            ToNode::Welcome { .. } => self.on_shown_again(connection, message, now),
        }
    }

    fn on_alive(&mut self, connection: ConnectionId, trip: Duration) {
        self.link.on_alive(connection);
        let Some(entry) = self.connections.get_mut(&connection) else { return };
        let is_first = entry.way.rtt.replace(trip).is_none();
        if is_first && self.link.current() == Some(connection) {
            self.shares.path(&entry.way);
        }
    }

    /// Notes where the lanes of a connection go: to its own address, at the port that the relay told.
    fn find_lanes(&mut self, connection: ConnectionId, port: u16) {
        let (Some(entry), Some(seed)) = (self.connections.get_mut(&connection), &self.lane_seed) else {
            return;
        };
        let (Some(ip), Some(key)) = (entry.way.ip, mytunnel_carrier::public_key(&entry.peer)) else { return };
        match lane::client_config(seed, &key) {
            Ok(config) => {
                entry.lanes = Some(lanes::Way { relay: SocketAddr::new(ip, port), config: Arc::new(config) });
            }
            Err(error) => tracing::debug!(%error, "no lanes"),
        }
    }
}
