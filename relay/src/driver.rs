//! The one owner of the swarm and of the admission state: carries events to the state and its commands to the
//! sockets, and decides nothing.
//!
//! News of the coordinator come before anything else, so that a revocation does not wait behind other work. No node is
//! waited for: each has a task with a short queue, and one whose queue is full is dropped.

mod control;
mod gauges;
mod outlets;
mod reports;
mod telling;
mod whereami;

use std::{
    collections::HashMap,
    fmt, mem,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::StreamExt as _;
use libp2p::{
    PeerId, Stream, Swarm,
    core::transport::ListenerId,
    ping,
    swarm::{ConnectionId, SwarmEvent},
};
use mytunnel_carrier::{
    Boxed, address,
    stream::{self, Opener},
};
use mytunnel_keys::{
    feed::{Accepted, Change},
    usage::Told,
    wire::direct::WHEREAMI_PROTOCOL,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admit::{Admission, Now, Status},
    authority::Authority,
    behaviour::{Behaviour, BehaviourEvent},
    circuits::Admitted,
    feed::News,
    lanes::Directory,
    ports::Ports,
    registry::Place,
    route::{Life, Routes, Tunnel},
    server::Listening,
    tally::Tally,
};
use control::{Control, Said, Utterance};
use gauges::Gauges;
use reports::Reports;
use whereami::WhereAmI;

/// How often the wall clock is looked at: it goes on while the machine sleeps, and may be set.
const LOOK: Duration = Duration::from_secs(1);

/// Time that the coordinator has at the end to take what it was not told yet.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Messages of all nodes that wait for the driver.
const SAID: usize = 1024;

/// Time after the start in which the first word of the coordinator is waited for.
const FIRST_NEWS: Duration = Duration::from_secs(1);

/// See the [module documentation](self).
pub(crate) struct Driver {
    swarm: Swarm<Boxed<Behaviour>>,
    listeners: Vec<ListenerId>,
    /// What the swarm said before there was a driver.
    backlog: Vec<SwarmEvent<BehaviourEvent>>,
    admission: Admission,
    around: Surroundings,
    tunnels: HashMap<Place, Arc<Tunnel>>,
    connections: HashMap<ConnectionId, Connection>,
    controls: JoinSet<ConnectionId>,
    said: (mpsc::Sender<Said>, mpsc::Receiver<Said>),
    reports: Reports,
    gauges: Gauges,
    ports: Ports,
    /// When they are to be read.
    next_reading: Instant,
    /// Nodes that are being told where they are seen.
    whereami: WhereAmI,
    /// What is on its way to the coordinator: one message at most.
    telling: JoinSet<Option<Told>>,
    /// Whether the last message was taken.
    is_heard: bool,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("connections", &self.connections.len())
            .field("tunnels", &self.tunnels.len())
            .finish_non_exhaustive()
    }
}

/// What belongs to one connection.
#[derive(Debug)]
struct Connection {
    peer: PeerId,
    opener: Opener,
    /// Shared by the pipes of all tunnels of the connection.
    places: Arc<Semaphore>,
    /// What is heard of it on the pipes of all its tunnels.
    life: Arc<Life>,
    control: ControlStream,
    /// Where it comes from, unless it is being told that just now.
    from: Option<SocketAddr>,
}

/// The first stream of a connection is its control stream; there is no second.
#[derive(Debug)]
enum ControlStream {
    None,
    Open(Control),
    Over,
}

impl ControlStream {
    fn end(&mut self) -> Option<Control> {
        match mem::replace(self, Self::Over) {
            Self::Open(control) => Some(control),
            Self::None | Self::Over => None,
        }
    }
}

/// What a driver works on beside the swarm and the state.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) admitted: Admitted,
    pub(crate) routes: Routes,
    pub(crate) lanes: Directory,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) pipes_per_connection: usize,
    pub(crate) tally: Tally,
    pub(crate) authority: Arc<dyn Authority>,
}

impl Driver {
    pub(crate) fn new(
        swarm: Swarm<Boxed<Behaviour>>,
        listening: Listening,
        admission: Admission,
        ports: Ports,
        around: Surroundings,
    ) -> Self {
        Self {
            swarm,
            listeners: listening.listeners,
            backlog: listening.backlog,
            admission,
            around,
            tunnels: HashMap::new(),
            connections: HashMap::new(),
            controls: JoinSet::new(),
            said: mpsc::channel(SAID),
            reports: Reports::default(),
            gauges: Gauges::default(),
            ports,
            next_reading: Instant::now(),
            whereami: WhereAmI::default(),
            telling: JoinSet::new(),
            is_heard: true,
        }
    }

    /// Runs until cancelled; then says goodbye to every node, and returns when all control streams are over or
    /// `grace` is.
    pub(crate) async fn run(
        mut self,
        mut news: mpsc::Receiver<News>,
        cancelled: CancellationToken,
        grace: Duration,
    ) {
        let first = cancelled.run_until_cancelled(timeout(FIRST_NEWS, self.first_news(&mut news)));
        if let Some(Err(_)) = first.await {
            tracing::warn!("no word from the coordinator yet; nodes are refused until there is");
        }
        for event in mem::take(&mut self.backlog) {
            self.on_swarm_event(event);
        }
        let alarm = self.gauges.alarm();
        loop {
            let deadline = self.next_timeout();
            tokio::select! {
                // News come first: a revocation does not wait behind anything.
                biased;
                () = cancelled.cancelled() => break,
                Some(news) = news.recv() => self.on_news(news),
                // Somebody waits for the word that a revocation was applied.
                () = self.reports.deliver() => {}
                Some(ended) = self.controls.join_next(), if !self.controls.is_empty() => self.on_control_ended(ended),
                () = alarm.notified() => self.read_gauges(),
                Some(told) = self.telling.join_next(), if !self.telling.is_empty() => self.on_told(told),
                told = self.whereami.next() => self.on_told_where(told),
                () = sleep_until(deadline) => self.on_timeout(),
                event = next_event(&mut self.said.1, &mut self.swarm) => match event {
                    Event::Said(said) => self.on_said(said),
                    Event::Swarm(event) => self.on_swarm_event(event),
                },
            }
            self.carry_out();
            self.tell_what_is_urgent();
            self.publish_status();
        }
        self.say_goodbye(grace).await;
    }

    /// Returns with the first snapshot. Until then nodes wait in the sockets' queues instead of being refused.
    async fn first_news(&mut self, news: &mut mpsc::Receiver<News>) {
        while let Some(news) = news.recv().await {
            let known = matches!(news, News::Accepted(_));
            self.on_news(news);
            self.carry_out();
            if known {
                return;
            }
        }
    }

    async fn say_goodbye(mut self, grace: Duration) {
        for listener in mem::take(&mut self.listeners) {
            self.swarm.remove_listener(listener);
        }
        self.admission.handle_shutdown(now());
        self.carry_out();
        self.ports.shutdown().await;
        if timeout(grace, self.let_go()).await.is_err() {
            tracing::debug!("some nodes did not take their farewell in time");
        }
        self.controls.shutdown().await;
        if timeout(LAST_WORD, self.tell_the_rest()).await.is_err() {
            tracing::warn!("the coordinator did not take the last of what tunnels have used");
        }
    }

    /// Returns when every node has been told and every connection is closed.
    async fn let_go(&mut self) {
        while !(self.controls.is_empty() && self.connections.is_empty()) {
            tokio::select! {
                Some(ended) = self.controls.join_next(), if !self.controls.is_empty() => {
                    if let Ok(connection) = ended {
                        self.swarm.close_connection(connection);
                    }
                }
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
            }
        }
    }

    fn next_timeout(&self) -> Instant {
        let look = self.next_reading.min(Instant::now() + LOOK);
        self.admission.poll_timeout().map_or(look, |at| look.min(Instant::from_std(at)))
    }

    fn on_news(&mut self, news: News) {
        match news {
            // The snapshot that follows makes the state report all that is live.
            News::Linked(link) => self.reports.begin(link),
            News::Trust(trust) => self.admission.handle_trust(trust, now()),
            News::Accepted(accepted) => {
                let budgets = tells_of_budgets(&accepted);
                self.admission.handle_news(accepted, now());
                self.around.admitted.set_news(self.admission.last_news());
                if budgets {
                    self.read_gauges();
                }
            }
            News::ClockOffset(offset) => self.admission.handle_clock_offset(offset),
            News::Lost => self.reports.end(),
            News::Certificate(own) => self.admission.handle_certificate(own, now()),
            News::Expelled => self.admission.handle_expelled(),
        }
    }

    fn on_said(&mut self, said: Said) {
        match said.what {
            Utterance::Message(message) => self.admission.handle_message(said.connection, message, now()),
            Utterance::Garbage => self.admission.handle_garbage(said.connection, now()),
        }
    }

    fn on_control_ended(&mut self, ended: Result<ConnectionId, JoinError>) {
        match ended {
            Ok(connection) => {
                if let Some(known) = self.connections.get_mut(&connection) {
                    known.control.end();
                }
                // Without its control stream a node has no tunnels.
                self.admission.handle_closed(connection, now());
                self.swarm.close_connection(connection);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the swarm's events are many and non-exhaustive")]
    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => self.on_stream_event(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                connection,
                result: Err(ping::Failure::Timeout),
                ..
            })) => {
                tracing::debug!(%connection, "node does not answer");
                self.swarm.close_connection(connection);
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener failed"),
            // One that we gave up ourselves is no longer among them.
            SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. }
                if self.listeners.contains(&listener_id) =>
            {
                tracing::error!(%error, "listener closed");
            }
            _ => {}
        }
    }

    fn on_stream_event(&mut self, event: stream::Event) {
        match event {
            stream::Event::Opened { peer, connection, opener, endpoint } => {
                let places = Arc::new(Semaphore::new(self.around.pipes_per_connection));
                let from = address::socket(endpoint.get_remote_address()).map(|(from, _)| from);
                let control = ControlStream::None;
                let life = Arc::default();
                let known = Connection { peer, opener, places, life, control, from };
                self.connections.insert(connection, known);
                self.admission.handle_connection(connection, peer, now());
            }
            stream::Event::Closed { connection, .. } => {
                self.connections.remove(&connection);
                self.admission.handle_closed(connection, now());
            }
            stream::Event::Inbound { connection, protocol, stream, .. } if protocol == WHEREAMI_PROTOCOL => {
                self.tell_where(connection, stream);
            }
            stream::Event::Inbound { connection, stream, .. } => self.on_control_stream(connection, stream),
        }
    }

    fn on_control_stream(&mut self, connection: ConnectionId, stream: Stream) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        if matches!(known.control, ControlStream::None) {
            let (control, task) = Control::new(connection, stream, self.said.0.clone());
            known.control = ControlStream::Open(control);
            self.controls.spawn(task);
        } else {
            tracing::debug!(%connection, "second control stream reset");
        }
    }
}

/// Whether purses are to be filled anew.
fn tells_of_budgets(news: &Accepted) -> bool {
    match news {
        Accepted::Snapshot { .. } => true,
        Accepted::Delta { changes, .. } => {
            changes.iter().any(|change| matches!(change, Change::Budget { .. }))
        }
        Accepted::Trust { .. } | Accepted::Heartbeat { .. } => false,
        _ => false,
    }
}

/// Nodes and the swarm take turns, so that neither can shut out the other.
#[expect(clippy::large_enum_variant, reason = "it is moved once, and a box per event costs more")]
enum Event {
    Said(Said),
    Swarm(SwarmEvent<BehaviourEvent>),
}

async fn next_event(said: &mut mpsc::Receiver<Said>, swarm: &mut Swarm<Boxed<Behaviour>>) -> Event {
    tokio::select! {
        Some(said) = said.recv() => Event::Said(said),
        event = swarm.select_next_some() => Event::Swarm(event),
    }
}

/// The time on both clocks.
fn now() -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { instant: std::time::Instant::now(), unix }
}
