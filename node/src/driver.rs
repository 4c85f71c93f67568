//! The one owner of the swarm and of the node's state: carries events to the state and its commands to the sockets,
//! and decides nothing.
//!
//! Sessions, pipes and look-ups are tasks of the driver's own; when it ends, they end. Commands of the owner come
//! before anything else, then the network, then housekeeping.

mod belief;
mod circuits;
mod commands;
mod dialing;
mod direct;
mod ending;
mod events;
mod networks;
mod peers;
mod pipes;
mod session;
mod shares;
mod welcome;

use std::{collections::HashMap, ops::ControlFlow, sync::Arc, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    swarm::{ConnectionId, NetworkBehaviour},
};
use mytunnel_carrier::{
    pong,
    stream::{self, Opener},
};
use mytunnel_keys::{
    id::{Cluster, TunnelKind},
    secret::Seed,
    trust::RootFingerprint,
    wire::ToRelay,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    carrier::Carrier,
    clock::{jitter, unix_now},
    direct::{Finder, gate},
    lanes,
    mapping::Mapper,
    meeting::line::{LineEnd, Report},
    relays::RelayAddress,
    serve::{
        pulse::Pulses,
        table::{Kept, TableWriter},
    },
    share::{Closed, Share, ShareError, TunnelSpec},
    state::{
        belief::Belief,
        link::{Link, Refusal},
        tunnels::{Tunnels, Wanted},
    },
    status::{RelayStatus, Status},
    tasks::resume,
};
use {
    circuits::Circuits,
    dialing::Dialing,
    pipes::Pipes,
    session::Event,
    shares::{Shares, Way},
    welcome::Expected,
};
pub(crate) use {circuits::Client, session::Introduction, welcome::plain};

/// Messages of sessions that wait for the driver.
const EVENTS: usize = 64;

/// Messages to a relay that wait for its session.
const OUTGOING: usize = 256;

/// What this node's connections speak. Pings of the relay are answered; our own are the session's.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    /// Before all others: whom it refuses, they do not hear of.
    pub(crate) gate: gate::Behaviour,
    pub(crate) streams: stream::Behaviour,
    pub(crate) pong: pong::Behaviour,
    pub(crate) circuits: Client,
}

/// What the owner asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// What it is, and what answers.
    Share(Box<TunnelSpec>, Arc<Kept>, oneshot::Sender<Result<Share, ShareError>>),
    /// Finish what is under way, in this time at most, and end after the private sessions.
    Shutdown(Duration),
}

/// Everything a driver begins with.
pub(crate) struct Parts {
    pub(crate) swarm: Swarm<Behaviour>,
    /// Peers whom the swarm dials, as their machines answer over TCP.
    pub(crate) reached: mpsc::Receiver<PeerId>,
    pub(crate) seed: Seed,
    pub(crate) relays: Vec<RelayAddress>,
    pub(crate) preferred: Carrier,
    pub(crate) introduction: Arc<Introduction>,
    pub(crate) root: RootFingerprint,
    pub(crate) cluster: Cluster,
    pub(crate) most_pipes: usize,
    pub(crate) most_shares: usize,
    pub(crate) lanes: bool,
    /// Whether direct paths to other nodes are looked for.
    pub(crate) direct: bool,
    /// Whether to look at once what kind of router there is.
    pub(crate) look_at_nat: bool,
    pub(crate) instance: [u8; 16],
}

/// See the [module documentation](self).
pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    link: Link,
    tunnels: Tunnels,
    dialing: Dialing,
    shares: Shares,
    pipes: Pipes,
    pulses: Pulses,
    circuits: Circuits,
    /// To the owner of private sessions.
    line: LineEnd,
    /// Looks for paths to other nodes that lead past the relay.
    finder: Finder,
    look_at_nat: bool,
    /// Asks this machine's router for ports.
    mapper: Mapper,
    probes: JoinSet<direct::Probe>,
    lanes: JoinSet<()>,
    /// The secret that lanes show, if there are to be lanes.
    lane_seed: Option<Seed>,
    connections: HashMap<ConnectionId, Connection>,
    sessions: JoinSet<()>,
    mailbox: mpsc::Sender<Letter>,
    inbox: mpsc::Receiver<Letter>,
    requests: mpsc::Receiver<Request>,
    status: watch::Sender<Status>,
    introduction: Arc<Introduction>,
    expected: Expected,
    most_shares: usize,
    /// Why no session is to be had.
    refused: Option<Refusal>,
    clock_offset: i64,
    /// What came of the last try to reach the relay.
    trouble: Option<String>,
}

type Letter = (ConnectionId, Event);

/// What belongs to one connection.
struct Connection {
    opener: Opener,
    peer: PeerId,
    /// Where the relay was reached.
    at: Multiaddr,
    /// The peer's id as text, which takes long to make.
    name: String,
    way: Way,
    /// Where lanes go, once the relay has told.
    lanes: Option<lanes::Way>,
    /// How long the relay is believed, once it has welcomed us.
    belief: Option<Belief>,
    /// To the session, once there is one.
    outgoing: Option<mpsc::Sender<ToRelay>>,
}

impl Driver {
    pub(crate) fn new(
        parts: Parts,
        line: LineEnd,
        requests: mpsc::Receiver<Request>,
        status: watch::Sender<Status>,
    ) -> Self {
        let (writer, table) = TableWriter::new();
        let (mailbox, inbox) = mpsc::channel(EVENTS);
        let pulses = Pulses::default();
        let now = Instant::now().into_std();
        let me = *parts.swarm.local_peer_id();
        Self {
            swarm: parts.swarm,
            link: Link::new(parts.relays.len(), parts.preferred, now),
            tunnels: Tunnels::new(parts.instance),
            dialing: Dialing::new(parts.relays, parts.reached),
            shares: Shares::new(writer),
            pipes: Pipes::new(parts.most_pipes, table, pulses.clone()),
            pulses,
            circuits: Circuits::default(),
            line,
            finder: Finder::new(me, parts.direct),
            look_at_nat: parts.look_at_nat,
            mapper: Mapper::new(),
            probes: JoinSet::new(),
            lanes: JoinSet::new(),
            lane_seed: parts.lanes.then_some(parts.seed),
            connections: HashMap::new(),
            sessions: JoinSet::new(),
            mailbox,
            inbox,
            requests,
            status,
            introduction: parts.introduction,
            expected: Expected { root: parts.root, cluster: parts.cluster, held: None },
            most_shares: parts.most_shares,
            refused: None,
            clock_offset: 0,
            trouble: None,
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
        let tunnels = self.tunnels.next_timeout(now.into_std(), self.unix());
        let timeouts = [
            self.link.next_timeout(),
            tunnels,
            self.belief_ends(),
            self.reservation_timeout(),
            self.finder.next_timeout(),
        ];
        let next = timeouts.into_iter().flatten().min().map(Instant::from_std);
        let is_behind = self.line.is_behind();
        tokio::select! {
            biased;
            request = self.requests.recv() => match request {
                Some(Request::Share(spec, kept, reply)) => self.share(*spec, kept, reply),
                Some(Request::Shutdown(grace)) => return ControlFlow::Break(grace),
                None => return ControlFlow::Break(Duration::ZERO),
            },
            id = self.shares.dropped() => {
                self.tunnels.remove(id);
                self.end_share(id, Closed::by_owner());
            },
            order = self.line.next() => if let Some(order) = order { self.on_order(order) },
            Some((connection, event)) = self.inbox.recv(), if !is_behind => self.on_session(connection, event),
            event = self.swarm.select_next_some(), if !is_behind => self.on_swarm(event),
            progress = self.dialing.progress() => match progress {
                Ok(progress) => self.on_dialing(progress),
                Err(error) => resume(error),
            },
            () = self.pipes.reap() => {},
            heard = self.finder.next() => match heard {
                Ok(heard) => self.on_finder(heard),
                Err(error) => resume(error),
            },
            mapped = self.mapper.next() => {
                self.finder.on_mapped(mapped, Instant::now().into_std());
            },
            Some(looked_up) = self.probes.join_next() => match looked_up {
                Ok(probe) => self.probe(probe),
                Err(error) => resume(error),
            },
            Some(ended) = self.sessions.join_next() => if let Err(error) = ended { resume(error) },
            Some(ended) = self.lanes.join_next() => if let Err(error) = ended { resume(error) },
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {},
        }
        self.tick();
        self.obey();
        self.obey_finder();
        self.publish();
        ControlFlow::Continue(())
    }

    fn tick(&mut self) {
        let (now, unix) = (Instant::now().into_std(), self.unix());
        self.leave_unbelieved(now);
        if self.link.next_timeout().is_some_and(|at| at <= now) {
            let is_idle = self.is_idle();
            self.link.tick(now, jitter(), is_idle);
        }
        if self.tunnels.next_timeout(now, unix).is_some_and(|at| at <= now) {
            self.tunnels.tick(now, unix);
        }
        self.keep_reservation();
        self.tick_finder();
    }

    /// Whether nothing is in flight, nor was since this was asked the last time.
    fn is_idle(&self) -> bool {
        !self.pulses.are_busy() && !self.finder.is_relaying()
    }

    fn share(
        &mut self,
        spec: TunnelSpec,
        kept: Arc<Kept>,
        reply: oneshot::Sender<Result<Share, ShareError>>,
    ) {
        let shared = self.may_share(&spec).map(|()| {
            let id = self.tunnels.add(Wanted::from(&spec), Instant::now().into_std());
            if spec.kind == TunnelKind::Private {
                self.line.tell(Report::Shared(spec.name.clone(), Arc::clone(kept.service())));
            }
            self.shares.add(id, spec, kept)
        });
        // Whoever asked may have left; dropping the handle then gives the share up.
        drop(reply.send(shared));
    }

    fn may_share(&self, spec: &TunnelSpec) -> Result<(), ShareError> {
        if let Some(refusal) = &self.refused {
            return Err(ShareError::Refused(refusal.clone().into()));
        }
        if self.tunnels.has(&spec.name) {
            return Err(ShareError::Duplicate(spec.name.clone()));
        }
        if self.shares.len() >= self.most_shares {
            return Err(ShareError::TooMany(self.most_shares));
        }
        Ok(())
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
                peer: current.map(|current| current.name.clone()),
                address: current.map(|current| current.way.address.clone()),
                carrier: current.map(|current| current.way.carrier),
                rtt: current.and_then(|current| current.way.rtt),
                trouble: self.trouble.clone().filter(|_| current.is_none()),
                refused: self.refused.clone().map(Closed::from),
                clock_offset: self.clock_offset,
            },
            tunnels: self.shares.status(current.is_some()),
            peers: Vec::new(),
            pipes: self.pipes.count(),
            nat: self.look_at_nat.then(|| self.finder.nat(Instant::now().into_std())).flatten(),
        };
        self.status.send_if_modified(|held| {
            let is_news = *held != status;
            *held = status;
            is_news
        });
    }
}
