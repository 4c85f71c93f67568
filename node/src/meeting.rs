//! Private sessions, at both ends: who reaches what is shared here, what is reached of others, and over which path.
//!
//! One task owns them, above the lines to the relays, so that a stream may go on over whichever line leads to its peer. The
//! driver of each line [reports](line::Report) what happens there and carries out what is [ordered](line::Order).
//!
//! Certificates of other nodes are judged by the clock of this machine: a relay that lied about the time could make an ended
//! one good again.

mod accesses;
mod events;
mod hosting;
pub(crate) mod line;
mod met;

use std::{
    collections::{HashMap, VecDeque},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use libp2p::{PeerId, swarm::ConnectionId};
use mytunnel_keys::{id::TunnelName, trust::Trust};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    access::Access,
    clock::unix_now,
    driver::Introduction,
    lasting::flow::Limits,
    peers::rights::Own,
    ping::Finding,
    serve::{pulse::Pulses, table::Service},
    share::ShareError,
    state::link::Refusal,
    status::PeerStatus,
    tasks::resume,
};
use accesses::Accesses;
use hosting::Hosting;
use line::{LineEnd, LineId, Order, Report, UNDER_WAY};
use met::Met;

/// How often an owner that ends looks whether something is under way: what rests for as long has ended.
const REST: Duration = Duration::from_millis(200);

/// How often it looks whether what was broken off has ended, and for how long.
const LOOK: Duration = Duration::from_millis(20);
const FAREWELL: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Access(TunnelName, oneshot::Sender<Result<Access, ShareError>>),
    /// Let what is under way end, in this time at most, and break off the rest.
    Finish(Duration),
}

/// What the owner begins with.
pub(crate) struct Parts {
    pub(crate) local: PeerId,
    pub(crate) introduction: Arc<Introduction>,
    /// What our certificate says of us.
    pub(crate) own: Own,
    pub(crate) most_streams: usize,
    /// Time that streams to our shares wait for a path at most.
    pub(crate) patience: Duration,
}

/// What certificates of other nodes are judged by, and the one that they are shown.
pub(crate) struct Grounds<'a> {
    own: &'a Own,
    certificate: &'a [u8],
    trust: Option<&'a Trust>,
    unix: u64,
}

/// See the [module documentation](self).
pub(crate) struct Meeting {
    introduction: Arc<Introduction>,
    own: Own,
    /// The newest bundle that a relay has shown.
    trust: Option<Trust>,
    lines: Vec<Line>,
    connections: HashMap<ConnectionId, Connection>,
    accesses: Accesses,
    hosting: Hosting,
    met: Met,
    /// Why no session with a relay is to be had.
    refused: Option<Refusal>,
    requests: mpsc::Receiver<Request>,
    reports: mpsc::Receiver<(LineId, Report)>,
    orders: VecDeque<(LineId, Order)>,
    pings: JoinSet<()>,
    mailbox: mpsc::Sender<(ConnectionId, Finding)>,
    findings: mpsc::Receiver<(ConnectionId, Finding)>,
    pulses: Pulses,
    peers: watch::Sender<Vec<PeerStatus>>,
}

/// What is known of a connection with another node.
struct Connection {
    line: LineId,
    is_pinged: bool,
}

/// What is known of a line.
struct Line {
    orders: mpsc::Sender<Order>,
    /// What is shared privately through it.
    shared: HashMap<TunnelName, Arc<Service>>,
}

impl Meeting {
    /// The owner, and the ends for the drivers of so many lines.
    pub(crate) fn new(
        parts: Parts,
        count: usize,
        requests: mpsc::Receiver<Request>,
        peers: watch::Sender<Vec<PeerStatus>>,
    ) -> (Self, Vec<LineEnd>) {
        let (telling, reports) = mpsc::channel(UNDER_WAY);
        let (mut lines, mut ends) = (Vec::new(), Vec::new());
        for line in 0..count {
            let (sender, orders) = mpsc::channel(UNDER_WAY);
            lines.push(Line { orders: sender, shared: HashMap::new() });
            ends.push(LineEnd { line, reports: telling.clone(), orders, waiting: VecDeque::new() });
        }
        let (mailbox, findings) = mpsc::channel(UNDER_WAY);
        let pulses = Pulses::default();
        let limits = Limits { patience: parts.patience, ..Limits::default() };
        let meeting = Self {
            introduction: parts.introduction,
            own: parts.own,
            trust: None,
            lines,
            connections: HashMap::new(),
            accesses: Accesses::new(parts.local, count),
            hosting: Hosting::new(parts.most_streams, limits, pulses.clone()),
            met: Met::default(),
            refused: None,
            requests,
            reports,
            orders: VecDeque::new(),
            pings: JoinSet::new(),
            mailbox,
            findings,
            pulses,
            peers,
        };
        (meeting, ends)
    }

    /// Runs until it is to finish, or its owner is gone.
    pub(crate) async fn run(mut self) {
        loop {
            if let ControlFlow::Break(grace) = self.step().await {
                return self.finish(grace).await;
            }
        }
    }

    /// Handles whatever comes next. Safe to cancel.
    async fn step(&mut self) -> ControlFlow<Duration> {
        self.give_orders().await;
        let (now, unix) = (Instant::now(), unix_now());
        let timeouts = [
            self.accesses.next_timeout(now.into_std(), unix),
            self.hosting.next_timeout(now.into_std(), unix),
            self.met.next_timeout(),
        ];
        let next = timeouts.into_iter().flatten().min().map(Instant::from_std);
        tokio::select! {
            biased;
            request = self.requests.recv() => match request {
                Some(Request::Access(name, reply)) => self.access(name, reply),
                Some(Request::Finish(grace)) => return ControlFlow::Break(grace),
                None => return ControlFlow::Break(Duration::ZERO),
            },
            Some((line, report)) = self.reports.recv() => self.on_report(line, report),
            Some((connection, finding)) = self.findings.recv() => self.on_finding(connection, finding),
            heard = self.hosting.next() => match heard {
                Ok(heard) => self.on_heard(heard),
                Err(error) => resume(error),
            },
            happened = self.accesses.next() => match happened {
                Ok(happened) => self.on_happened(happened),
                Err(error) => resume(error),
            },
            Some(ended) = self.pings.join_next() => if let Err(error) = ended { resume(error) },
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {},
        }
        self.tick();
        self.obey();
        self.watch();
        self.publish();
        ControlFlow::Continue(())
    }

    /// Drivers always take orders. Safe to cancel: what was not given is given the next time.
    async fn give_orders(&mut self) {
        while let Some((line, _)) = self.orders.front() {
            let permit = match self.lines.get(*line) {
                Some(line) => line.orders.reserve().await.ok(),
                None => None,
            };
            // A driver that is gone has closed its connections.
            if let (Some((_, order)), Some(permit)) = (self.orders.pop_front(), permit) {
                permit.send(order);
            }
        }
    }

    fn publish(&self) {
        let peers: Vec<PeerStatus> = self.hosting.status().chain(self.accesses.status()).collect();
        self.peers.send_if_modified(|held| {
            let is_news = *held != peers;
            *held = peers;
            is_news
        });
    }

    /// Lets what is under way end, in `grace` at most, then breaks off what other nodes have open, so that they need not wait
    /// for a path to us.
    async fn finish(mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.pulses.are_busy();
        loop {
            self.step_until(deadline.min(Instant::now() + REST)).await;
            if Instant::now() >= deadline || !self.pulses.are_busy() {
                break;
            }
        }
        let deadline = Instant::now() + FAREWELL;
        self.hosting.break_off();
        while self.hosting.has_streams() && Instant::now() < deadline {
            self.step_until(deadline.min(Instant::now() + LOOK)).await;
        }
    }

    /// Goes on until `deadline`, or until something has happened.
    async fn step_until(&mut self, deadline: Instant) {
        // A second end changes nothing.
        let _ = timeout_at(deadline, self.step()).await;
    }
}
