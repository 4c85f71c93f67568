//! The process that holds a user's sessions: one owner of the swarm, the rooms and the seats; clients come by a socket.
//!
//! A session lives in memory, and is gone with the daemon, unless somebody wants it kept: then it is on disk, too, and
//! the next daemon goes on with it. It is started on demand and ends by itself when it holds no session and nobody asks it
//! anything.

mod bounds;
mod control;
mod discovery;
mod files;
mod joining;
mod keeper;
mod keeping;
mod links;
mod net;
mod passages;
mod queue;
mod session;
mod shown;
mod verbs;
mod wire;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    swarm::{ConnectionId, SwarmEvent},
};
use mytunnel_carrier::{stream::Opener, transport};
use mytunnel_keys::secret::Seed;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Request, Trouble},
    clock::Now,
    content::{MemberId, SessionId, Why},
    crowd::{Strangers, Tries},
    era::{self, Era},
    limits, room,
    store::StoreError,
    ways::Ways,
};
use control::Control;
use discovery::Discovery;
pub use discovery::{NoMulticast, Window, hears_itself, windows};
use keeper::Keeper;
use keeping::{Found, Machine};
use net::{Behaviour, BehaviourEvent};
use passages::{Passages, Via};
use queue::Outbound;
use session::{Session, Side};

/// Events of tasks that wait for the owner.
const EVENTS: usize = 256;
/// How many of them it takes at once.
const AT_ONCE: usize = 16;
/// How long a daemon that is told to stop says goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a daemon is started with.
#[derive(Debug)]
pub struct Config {
    /// Its directory, the owner's alone; the socket is in there.
    pub dir: PathBuf,
    /// Where it listens for peers; port 0 for any. Empty: where the one did with whose sessions it goes on, or everywhere.
    pub listen: Vec<SocketAddr>,
    /// How long it stays when there is nothing to do.
    pub linger: Duration,
    /// What makes ways past the network, where something does.
    pub ways: Option<Arc<dyn Ways>>,
}

/// Why a daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another one runs there.
    #[error("another daemon of this user runs already")]
    Running,
    /// Its directory or socket cannot be used.
    #[error("cannot use {}", path.display())]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// The transport could not be made.
    #[error("cannot set up the transport")]
    Transport(#[from] transport::SecurityError),
    /// What is kept cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No address could be listened on.
    #[error("cannot listen for peers: {0}")]
    Listen(String),
}

/// A connection of a session, by a number that is never used again.
type LinkId = u64;

/// What a client wants, and where the answer goes.
struct Command {
    request: Request,
    reply: oneshot::Sender<Result<serde_json::Value, Trouble>>,
}

struct Link {
    session: SessionId,
    /// At the host's side: whose. At a guest's: the host's.
    member: MemberId,
    outgoing: Outbound,
    via: Via,
}

/// How a guest's host is reached.
struct Way {
    addresses: Vec<Multiaddr>,
    failures: u32,
    next: Duration,
    trying: bool,
}

struct Daemon {
    swarm: Swarm<Behaviour>,
    own: PeerId,
    /// Where it is to listen.
    places: Vec<SocketAddr>,
    sessions: BTreeMap<SessionId, Session>,
    keeper: Keeper,
    era: Era,
    links: HashMap<LinkId, Link>,
    by_member: HashMap<(SessionId, MemberId), LinkId>,
    next_link: LinkId,
    connected: HashMap<PeerId, Vec<Opener>>,
    /// Who waits for a connection to that peer.
    dialling: HashMap<PeerId, Vec<oneshot::Sender<Option<Opener>>>>,
    /// The same, by the attempt, where nobody knows whom it will find.
    dialling_at: HashMap<ConnectionId, oneshot::Sender<Option<Opener>>>,
    passages: Passages,
    discovery: Discovery,
    files: files::Files,
    strangers: Strangers<AbortHandle>,
    /// Places for those who have proved a secret that lets nobody in, while they are told so.
    refusals: Arc<Semaphore>,
    tries: Tries,
    tasks: JoinSet<()>,
    events: mpsc::Sender<links::Event>,
    changed: watch::Sender<u64>,
    begun: Instant,
    beat_at: Duration,
}

/// Runs a daemon until it is stopped or has nothing to do; `ready` is called when clients can come.
///
/// # Errors
/// [`DaemonError`] if it could not start.
pub async fn run(config: Config, ready: impl FnOnce(), stop: CancellationToken) -> Result<(), DaemonError> {
    let (control, linger) = (Control::bind(&config.dir)?, config.linger);
    let (events, mut inbox) = mpsc::channel(EVENTS);
    let (commands, mut asked) = mpsc::channel(EVENTS);
    let (changed, changes) = watch::channel(0);
    let mut daemon = begin(config, events, changed).await?;
    let mut events = Vec::with_capacity(AT_ONCE);
    let busy = control.busy();
    let mut clients = JoinSet::new();
    clients.spawn(control.serve(commands, changes, stop.clone()));
    ready();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut used_at = Instant::now();
    loop {
        // None before the others: whoever sends without an end would have this end hear nobody else.
        tokio::select! {
            () = stop.cancelled() => break,
            Some(Command { request, reply }) = asked.recv() => daemon.on_asked(request, reply),
            _ = inbox.recv_many(&mut events, AT_ONCE) => daemon.on_events(events.drain(..)),
            event = daemon.swarm.select_next_some() => daemon.on_swarm(event),
            Some(ended) = daemon.tasks.join_next() => links::ended(ended),
            Some(done) = daemon.keeper.done() => daemon.on_kept(done),
            _ = ticks.tick() => {
                daemon.tick();
                if daemon.is_idle() && Arc::strong_count(&busy) <= 2 {
                    if used_at.elapsed() >= linger {
                        break;
                    }
                } else {
                    used_at = Instant::now();
                }
            }
        }
    }
    daemon.goodbye(&mut inbox).await;
    daemon.passages.stop().await;
    // Before the next daemon may come.
    daemon.keeper.close().await;
    stop.cancel();
    clients.join_all().await;
    Ok(())
}

/// Listens, and goes on with what is kept.
async fn begin(
    config: Config,
    events: mpsc::Sender<links::Event>,
    changed: watch::Sender<u64>,
) -> Result<Daemon, DaemonError> {
    let run = u64::from_be_bytes(random().map_err(DaemonError::Random)?);
    let (begun, era) = (Instant::now(), Era::of_machine(run, wall()));
    let path = api::kept(&config.dir);
    let mut found = Found::read(path.clone(), &era, now(begun)).await?;
    let mut machine = match found.machine.take() {
        Some(machine) => machine,
        None => Machine::new(&Seed::from_bytes(random().map_err(DaemonError::Random)?)),
    };
    let mut swarm = net::swarm(&machine.seed())?;
    machine.listen(&mut swarm, config.listen).await?;
    let keeper = found.keeper(path, &machine);
    let passages = Passages::new(config.ways, machine.is_everywhere());
    let mut daemon = Daemon::new(swarm, keeper, passages, (era, begun), events, changed);
    daemon.places = machine.places().to_vec();
    daemon.go_on(found);
    Ok(daemon)
}

impl Daemon {
    /// Without a session; `(era, begun)` is what is known of the time when it began.
    fn new(
        swarm: Swarm<Behaviour>,
        keeper: Keeper,
        passages: Passages,
        (era, begun): (Era, Instant),
        events: mpsc::Sender<links::Event>,
        changed: watch::Sender<u64>,
    ) -> Self {
        Self {
            own: *swarm.local_peer_id(),
            swarm,
            places: Vec::new(),
            sessions: BTreeMap::new(),
            files: files::Files::new(keeper.path()),
            keeper,
            era,
            links: HashMap::new(),
            by_member: HashMap::new(),
            next_link: 0,
            connected: HashMap::new(),
            dialling: HashMap::new(),
            dialling_at: HashMap::new(),
            passages,
            discovery: Discovery::default(),
            strangers: Strangers::new(),
            refusals: Arc::new(Semaphore::new(limits::STRANGERS)),
            tries: Tries::default(),
            tasks: JoinSet::new(),
            events,
            changed,
            begun,
            beat_at: Duration::ZERO,
        }
    }

    fn now(&self) -> Now {
        now(self.begun)
    }

    /// No session is open, or waits for its last words to be sent or to be read.
    fn is_idle(&self) -> bool {
        let now = self.now();
        let is_done = |session: &Session| session.is_over() && !session.is_unread(now);
        self.keeper.is_idle()
            && self.passages.is_idle()
            && self.keeper.resting().next().is_none()
            && self.sessions.values().all(is_done)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`SwarmEvent` is non-exhaustive; the rest is not ours"
    )]
    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => self.on_stream(event),
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id: Some(peer), error } => {
                tracing::debug!(%peer, %error, "not reached");
                // Through a way; who dials the peer's addresses may still find it.
                if self.passages.was_dialled(connection_id) {
                    self.passages.gone(connection_id);
                } else {
                    self.tell_dialler(peer, None);
                }
                // An attempt at an address may fail behind the point where it knows whom it met.
                drop(self.dialling_at.remove(&connection_id));
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id: None, error } => {
                tracing::debug!(%error, "nobody was reached");
                if let Some(found) = self.dialling_at.remove(&connection_id) {
                    // Who waited may have given up.
                    let _ = found.send(None);
                }
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                tracing::debug!(%address, "listening");
                self.on_listening(listener_id, &address);
            }
            _ => {}
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        self.tries.tick(now.steady);
        self.swarm.behaviour_mut().bounds.know(members(&self.sessions));
        self.strangers.retain(|stranger| !stranger.is_finished());
        let beat = now.steady.saturating_sub(self.beat_at) >= limits::BEAT;
        if beat {
            self.beat_at = now.steady;
        }
        self.show_codes(now);
        self.tick_passages(now);
        self.keeper.tick(now.steady);
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.tick_session(id, now, beat);
        }
    }

    fn tick_session(&mut self, id: SessionId, now: Now, beat: bool) {
        // The number of an attempt is on disk before it is made.
        let may_come_back = self.is_kept(id);
        let is_busy = self.files.is_busy(id);
        let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.is_over()) else { return };
        match &mut session.side {
            Side::Host(room) => {
                self.files.tick(id, |id| room.members.get(&id).is_some_and(room::Member::is_in));
                if is_busy {
                    room.touch(now);
                }
                room.tick(now);
                if beat {
                    room.beat();
                }
            }
            Side::Guest(seat, way) => {
                if is_busy {
                    seat.touch(now);
                }
                seat.tick(now);
                if seat.is_silent(now) {
                    self.cut(id, crate::content::HOST, now);
                } else if seat.away_since.is_some() && may_come_back && !way.trying && way.next <= now.steady
                {
                    self.come_back(id);
                } else if beat && seat.away_since.is_none() {
                    seat.beat();
                }
            }
        }
        self.flush(id);
    }

    /// Tells every peer that this end is over, behind what it has not read yet, and lets that be read.
    async fn goodbye(&mut self, inbox: &mut mpsc::Receiver<links::Event>) {
        let now = self.now();
        self.files.stop();
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            match self.sessions.get_mut(&id) {
                Some(session) if session.is_kept() => self.rest(id),
                Some(Session { side: Side::Host(room), .. }) => room.close(Why::Stopped, now),
                Some(Session { side: Side::Guest(seat, _), .. }) => seat.leave(now),
                None => {}
            }
            self.flush(id);
        }
        self.strangers.drain().for_each(|stranger| stranger.abort());
        let read = async {
            // Every session is closed, and its links end when its members have all.
            while !self.links.is_empty() || !self.keeper.is_idle() {
                tokio::select! {
                    Some(done) = self.keeper.done() => self.on_kept(done),
                    Some(event) = inbox.recv() => self.on_events([event]),
                    event = self.swarm.select_next_some() => self.on_swarm(event),
                    Some(ended) = self.tasks.join_next() => links::ended(ended),
                }
            }
            while !self.tasks.is_empty() {
                tokio::select! {
                    Some(ended) = self.tasks.join_next() => links::ended(ended),
                    _ = self.swarm.select_next_some() => {}
                    Some(_) = inbox.recv() => {}
                }
            }
        };
        if tokio::time::timeout(GOODBYE, read).await.is_err() {
            tracing::debug!("left before every peer had read the goodbye");
        }
        self.links.clear();
        self.tasks.shutdown().await;
    }
}

/// The machines of everybody who is in a session that is held here.
fn members(sessions: &BTreeMap<SessionId, Session>) -> HashSet<PeerId> {
    let open = sessions.values().filter(|session| !session.is_over());
    let machines = open.flat_map(|session| -> Vec<PeerId> {
        match &session.side {
            Side::Host(room) => room.present().map(|(_, member)| member.peer).collect(),
            Side::Guest(seat, _) => vec![seat.host],
        }
    });
    machines.collect()
}

fn now(begun: Instant) -> Now {
    Now { wall: wall(), steady: era::BEGIN + begun.elapsed() }
}

fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Random bytes of the system.
fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
