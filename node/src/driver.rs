//! The one owner of the swarm and of the node's state: carries events to the state and its commands to the sockets,
//! and decides nothing.
//!
//! Sessions, pipes and look-ups are tasks of the driver's own; when it ends, they end. Commands of the owner come
//! before anything else, then the network, then housekeeping.

mod dialing;
mod ping;
mod pipes;
mod session;
mod shares;
mod welcome;

use std::{collections::HashMap, ops::ControlFlow, panic, sync::Arc, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    PeerId, Stream, StreamProtocol, Swarm,
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent},
};
use mytunnel_carrier::stream::{self, Opener};
use mytunnel_keys::{
    id::TunnelKind,
    wire::{PIPE_PROTOCOL, ToNode, ToRelay},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::{
    serve::table::TableWriter,
    share::{Closed, Share, ShareError, TunnelSpec},
    state::{
        link::{self, Carrier, Link, Refusal},
        tunnels::{self, Grant, Tunnels},
    },
    status::{RelayStatus, Status},
};
pub(crate) use session::Introduction;
use {
    dialing::{Dialing, Failed},
    ping::Finding,
    pipes::Pipes,
    session::{Event, Mailbox, Session, unix_now},
    shares::{Shares, Way},
    welcome::{Expected, Unwelcome, Welcome},
};

/// Messages of sessions that wait for the driver.
const EVENTS: usize = 64;

/// Messages to a relay that wait for its session.
const OUTGOING: usize = 256;

/// How often a node that shuts down looks whether something is under way: what rests for as long has ended.
const REST: Duration = Duration::from_millis(200);

/// Time for the last messages and the connection's end.
const FAREWELL: Duration = Duration::from_secs(1);

/// What this node's connections speak. Pings of the relay are answered; our own are the session's.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) streams: stream::Behaviour,
    pub(crate) ping: libp2p::ping::Behaviour,
}

/// What the owner asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Share(Box<TunnelSpec>, oneshot::Sender<Result<Share, ShareError>>),
    /// Finish what is under way, in this time at most.
    Shutdown(Duration),
}

/// Everything a driver begins with.
pub(crate) struct Parts {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) relays: Vec<crate::relays::RelayAddress>,
    pub(crate) preferred: Carrier,
    pub(crate) introduction: Introduction,
    pub(crate) root: mytunnel_keys::trust::RootFingerprint,
    pub(crate) cluster: mytunnel_keys::id::Cluster,
    pub(crate) most_pipes: usize,
    pub(crate) most_shares: usize,
    pub(crate) instance: [u8; 16],
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) status: watch::Sender<Status>,
}

/// See the [module documentation](self).
pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    link: Link,
    tunnels: Tunnels,
    dialing: Dialing,
    shares: Shares,
    pipes: Pipes,
    connections: HashMap<ConnectionId, Connection>,
    sessions: JoinSet<()>,
    inbox: (mpsc::Sender<(ConnectionId, Event)>, mpsc::Receiver<(ConnectionId, Event)>),
    requests: mpsc::Receiver<Request>,
    status: watch::Sender<Status>,
    introduction: Arc<Introduction>,
    expected: Expected,
    most_shares: usize,
    /// Why no session is to be had.
    refused: Option<Refusal>,
    clock_offset: i64,
}

/// What belongs to one connection.
struct Connection {
    opener: Opener,
    peer: PeerId,
    way: Way,
    /// To the session, once there is one.
    outgoing: Option<mpsc::Sender<ToRelay>>,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let (writer, table) = TableWriter::new();
        let now = Instant::now().into_std();
        Self {
            swarm: parts.swarm,
            link: Link::new(parts.relays.len(), parts.preferred, now),
            tunnels: Tunnels::new(parts.instance),
            dialing: Dialing::new(parts.relays),
            shares: Shares::new(writer),
            pipes: Pipes::new(parts.most_pipes, table),
            connections: HashMap::new(),
            sessions: JoinSet::new(),
            inbox: mpsc::channel(EVENTS),
            requests: parts.requests,
            status: parts.status,
            introduction: Arc::new(parts.introduction),
            expected: Expected { root: parts.root, cluster: parts.cluster, held: None },
            most_shares: parts.most_shares,
            refused: None,
            clock_offset: 0,
        }
    }

    /// Runs until the owner shuts it down or is gone.
    pub(crate) async fn run(mut self) {
        loop {
            if let ControlFlow::Break(grace) = self.step().await {
                return self.finish(grace).await;
            }
        }
    }

    /// Handles whatever comes next. Safe to cancel.
    async fn step(&mut self) -> ControlFlow<Duration> {
        let now = Instant::now();
        let timeouts = [self.link.next_timeout(), self.tunnels.next_timeout(now.into_std(), self.unix())];
        let next = timeouts.into_iter().flatten().min().map(Instant::from_std);
        tokio::select! {
            biased;
            request = self.requests.recv() => match request {
                Some(Request::Share(spec, reply)) => self.share(*spec, reply),
                Some(Request::Shutdown(grace)) => return ControlFlow::Break(grace),
                None => return ControlFlow::Break(Duration::ZERO),
            },
            id = self.shares.dropped() => {
                self.tunnels.remove(id);
                self.shares.end(id, Closed::by_owner());
            },
            Some((connection, event)) = self.inbox.1.recv() => self.on_session(connection, event),
            event = self.swarm.select_next_some() => self.on_swarm(event),
            lookup = self.dialing.looked_up() => match lookup {
                Ok(lookup) => {
                    let dialled = self.dialing.dial(&mut self.swarm, lookup);
                    self.on_dial_failed(dialled.err());
                },
                Err(error) => resume(error),
            },
            () = self.pipes.reap() => {},
            Some(ended) = self.sessions.join_next() => if let Err(error) = ended { resume(error) },
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {},
        }
        self.tick();
        self.obey();
        self.publish();
        ControlFlow::Continue(())
    }

    fn tick(&mut self) {
        let (now, unix) = (Instant::now().into_std(), self.unix());
        if self.link.next_timeout().is_some_and(|at| at <= now) {
            self.link.tick(now, jitter());
        }
        if self.tunnels.next_timeout(now, unix).is_some_and(|at| at <= now) {
            self.tunnels.tick(now, unix);
        }
    }

    fn share(&mut self, spec: TunnelSpec, reply: oneshot::Sender<Result<Share, ShareError>>) {
        let shared = self.may_share(&spec).and_then(|()| {
            let service = Shares::service(&spec)?;
            let id = self.tunnels.add(spec.name.clone(), spec.kind, Instant::now().into_std());
            Ok(self.shares.add(id, spec, service))
        });
        // Whoever asked may have left; dropping the handle then gives the share up.
        drop(reply.send(shared));
    }

    fn may_share(&self, spec: &TunnelSpec) -> Result<(), ShareError> {
        if let Some(refusal) = &self.refused {
            return Err(ShareError::Refused(refusal.clone().into()));
        }
        if spec.kind != TunnelKind::Http {
            return Err(ShareError::Kind(spec.kind));
        }
        if self.tunnels.has(&spec.name) {
            return Err(ShareError::Duplicate(spec.name.clone()));
        }
        if self.shares.len() >= self.most_shares {
            return Err(ShareError::TooMany(self.most_shares));
        }
        Ok(())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`SwarmEvent` is non-exhaustive; the rest is not ours"
    )]
    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => self.on_stream(event),
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                let failed = self.dialing.failed(connection_id, &error);
                self.on_dial_failed(failed);
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                self.connections.remove(&connection_id);
                let reason =
                    cause.map_or_else(|| "the connection was closed".to_owned(), |cause| cause.to_string());
                self.link.on_closed(connection_id, &welcome::plain(&reason), Instant::now().into_std());
            }
            _ => {}
        }
    }

    fn on_stream(&mut self, event: stream::Event) {
        match event {
            stream::Event::Opened { peer, connection, endpoint, opener } => {
                let Some(carrier) = self.dialing.succeeded(connection) else { return };
                let way = Way { address: endpoint.get_remote_address().to_string(), carrier, rtt: None };
                self.connections.insert(connection, Connection { opener, peer, way, outgoing: None });
                self.link.on_connected(connection, carrier, Instant::now().into_std());
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
        }
    }

    fn on_dial_failed(&mut self, failed: Option<Failed>) {
        if let Some(Failed { carrier, reason }) = failed {
            tracing::debug!(%carrier, reason, "dial failed");
            self.link.on_dial_failed(carrier, reason, Instant::now().into_std());
        }
    }

    fn on_session(&mut self, connection: ConnectionId, event: Event) {
        let now = Instant::now().into_std();
        match event {
            Event::Welcomed(welcome) => {
                let Welcome { trust, clock_offset, .. } = *welcome;
                self.expected.held = Some(trust);
                self.clock_offset = clock_offset;
                self.link.on_welcomed(connection, now);
            }
            Event::Unwelcome(Unwelcome::Refused(refusal)) => self.link.on_refused(connection, refusal, now),
            Event::Unwelcome(Unwelcome::FalseRelay(why)) => {
                self.link.on_false_relay(connection, &why.to_string(), now);
            }
            Event::Message(message) => self.on_message(connection, message),
            Event::Ping(Finding::Alive(trip)) => self.on_alive(connection, trip),
            Event::Ping(Finding::Silent) => self.link.on_silent(connection, now),
            Event::Ended(reason) => {
                self.link.on_closed(connection, &reason, now);
                self.swarm.close_connection(connection);
            }
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
            ToNode::Registered { request, tunnel, name, urls, expires_at } => {
                let urls = urls.iter().map(|url| welcome::plain(url)).collect();
                let grant = Grant { tunnel, name, urls, expires_at };
                self.tunnels.on_registered(request, grant, now, self.unix());
            }
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
            ToNode::Welcome { .. } => {}
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

    /// Carries out what the state has decided.
    fn obey(&mut self) {
        while let Some(command) = self.link.next_command() {
            match command {
                link::Command::Dial { relay, carrier } => self.dialing.begin(relay, carrier),
                link::Command::Greet(connection) => self.greet(connection),
                link::Command::Close(connection) => drop(self.swarm.close_connection(connection)),
                link::Command::Online(connection) => {
                    tracing::info!(%connection, "relay session stands");
                    self.tunnels.on_online(Instant::now().into_std());
                }
                link::Command::Offline { attempt, reason } => self.offline(attempt, &reason),
                link::Command::GiveUp(refusal) => {
                    self.tunnels.end_all(&refusal);
                    self.refused = Some(refusal);
                }
            }
        }
        while let Some(command) = self.tunnels.next_command() {
            match command {
                tunnels::Command::Send(message) => self.send(message),
                tunnels::Command::Ready(id, grant) => {
                    // Granted on the current connection, or not at all.
                    let current = self.link.current().and_then(|current| self.connections.get(&current));
                    if let Some(current) = current {
                        self.shares.ready(id, grant, &current.way);
                    }
                }
                tunnels::Command::Waiting { share, attempt, reason } => {
                    self.shares.offline(share, attempt.max(2), &reason);
                }
                tunnels::Command::Expiring { share, expires_at } => self.shares.expiring(share, expires_at),
                tunnels::Command::Ended { share, refusal } => self.shares.end(share, refusal.into()),
            }
        }
    }

    fn greet(&mut self, connection: ConnectionId) {
        let Some(entry) = self.connections.get_mut(&connection) else { return };
        let relay = self.dialing.relays().iter().find(|relay| relay.peer() == entry.peer);
        let Some(relay) = relay.map(|relay| relay.key().clone()) else { return };
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        entry.outgoing = Some(sender);
        let session = Session {
            opener: entry.opener.clone(),
            carrier: entry.way.carrier,
            introduction: Arc::clone(&self.introduction),
            expected: self.expected.clone(),
            relay,
            mailbox: Mailbox { connection, driver: self.inbox.0.clone() },
        };
        self.sessions.spawn(session.run(outgoing));
    }

    fn offline(&mut self, attempt: u32, reason: &str) {
        tracing::debug!(attempt, reason, "no relay session");
        self.tunnels.on_offline();
        for id in self.shares.ids() {
            self.shares.offline(id, attempt, reason);
        }
    }

    fn send(&mut self, message: ToRelay) {
        let Some(connection) = self.link.current() else { return };
        let outgoing = self.connections.get(&connection).and_then(|entry| entry.outgoing.as_ref());
        if outgoing.is_none_or(|outgoing| outgoing.try_send(message).is_err()) {
            // The session has ended, or the relay does not read: its end will be told, and all is sent again.
            self.swarm.close_connection(connection);
        }
    }

    fn current(&self) -> Option<&Connection> {
        self.connections.get(&self.link.current()?)
    }

    /// The time by the relay's clock, which judges our certificate.
    fn unix(&self) -> u64 {
        unix_now().saturating_add_signed(self.clock_offset)
    }

    fn publish(&self) {
        let current = self.current();
        let status = Status {
            relay: RelayStatus {
                connected: current.is_some(),
                peer: current.map(|current| current.peer.to_string()),
                address: current.map(|current| current.way.address.clone()),
                carrier: current.map(|current| current.way.carrier),
                rtt: current.and_then(|current| current.way.rtt),
                clock_offset: self.clock_offset,
            },
            tunnels: self.shares.status(current.is_some()),
            pipes: self.pipes.count(),
        };
        self.status.send_if_modified(|held| {
            let is_news = *held != status;
            *held = status;
            is_news
        });
    }

    /// Lets what is under way end, in `grace` at most; then gives the tunnels back and closes the connection.
    async fn finish(mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.pipes.are_busy();
        loop {
            self.step_until(deadline.min(Instant::now() + REST)).await;
            if Instant::now() >= deadline || !self.pipes.are_busy() {
                break;
            }
        }
        for id in self.shares.ids() {
            self.tunnels.remove(id);
        }
        self.obey();
        let deadline = Instant::now() + FAREWELL;
        self.hang_up().await;
        while !self.connections.is_empty() && Instant::now() < deadline {
            self.step_until(deadline).await;
        }
        for id in self.shares.ids() {
            self.shares.end(id, Closed::by_owner());
        }
    }

    /// Ends the session once it has written what it was given, then the connections.
    async fn hang_up(&mut self) {
        let mut open = Vec::new();
        for (connection, entry) in &mut self.connections {
            open.push(*connection);
            entry.outgoing = None;
        }
        let written = async { while self.sessions.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL / 2, written).await.is_err() {
            tracing::debug!("the relay did not take the last messages in time");
        }
        for connection in open {
            self.swarm.close_connection(connection);
        }
    }

    /// Goes on until `deadline`, or until something has happened.
    async fn step_until(&mut self, deadline: Instant) {
        // A second shutdown changes nothing.
        let _ = timeout_at(deadline, self.step()).await;
    }
}

fn jitter() -> u32 {
    // Without random bytes there is no jitter, which is no reason to stop.
    getrandom::u32().unwrap_or(0)
}

/// A task of ours never ends by anything but its own panic.
fn resume(error: tokio::task::JoinError) {
    if let Ok(reason) = error.try_into_panic() {
        panic::resume_unwind(reason);
    }
}
