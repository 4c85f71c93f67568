//! Direct paths to other nodes, past the relay: whom to look for one with, and what stands.
//!
//! Once both ends of a private share have shown each other their certificates on a connection through the relay, they tell each
//! other on it where they may be reached, and dial at the same moment ([`asking`], [`candidates`]). Nothing is told before
//! that, and nothing at all when the owner does not want it. What came of it is a connection like any other, whose
//! handshake has proved the peer that was expected, and on which both ends show their certificates again.
//!
//! Several connections may come of one try. The node that reaches the share keeps the first and closes the others; where
//! each reaches a share of the other, the one with the smaller id does.

mod answering;
mod asking;
pub(crate) mod candidates;
pub(crate) mod gate;
mod mapped;
mod mirror;
pub(crate) mod nat;
mod news;
mod pace;
mod session;
mod talk;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use ipnet::IpNet;
use libp2p::{PeerId, Stream, core::ConnectedPoint, swarm::ConnectionId};
use mytunnel_carrier::{address, stream::Opener};
use mytunnel_keys::wire::direct::{Candidate, MAX_CANDIDATES, Over, Word};
use tokio::task::JoinError;

use crate::mapping::{Mapped, Ports};

use answering::Answering;
use asking::{Asking, Command};
use candidates::{Dial, HEAD_START, Plan, Reason};
use mapped::Outside;
use mirror::Mirror;
use pace::Pace;
pub(crate) use session::Arrived;
use session::{Role, Session};
pub(crate) use talk::Heard;
use talk::{TalkId, Talks};

/// Relayed connections on which a direct path is looked for.
const MOST_SESSIONS: usize = 128;

/// Why a path is relayed while another is being looked for.
const LOOKING: &str = "a direct path is being looked for";

/// The addresses of this machine do not turn up all at once.
const ARRIVING: Duration = Duration::from_secs(1);

/// What the swarm's owner is to do.
#[derive(Debug)]
pub(crate) enum Act {
    /// Listen on ports of the system's choosing, over both carriers.
    Listen,
    /// Ask the router for these ports and for no others, and answer with [`Finder::on_mapped`].
    Map(Ports),
    /// Dial the relay once more from the ports at which we listen, and answer with [`Finder::on_probing`].
    Probe(Over),
    /// Dial a peer, and answer with [`Finder::on_dialling`].
    Dial(PeerId, Dial),
    Close(ConnectionId),
    /// Let a peer in, or do so no longer.
    Expect(PeerId, bool),
    /// From these machines an expected peer may come.
    Name(PeerId, HashSet<IpAddr>),
}

/// Which end of a private share we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that reaches it, and looks for the path.
    Reaches,
    /// The one that shares.
    Shares,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Finder {
    me: PeerId,
    is_wanted: bool,
    /// Until when the addresses at which we listen turn up; none before we do.
    arriving: Option<Instant>,
    interfaces: BTreeSet<(Over, SocketAddr)>,
    networks: Vec<IpNet>,
    outside: Outside,
    mirror: Mirror,
    /// Somebody waits for where we are seen, since we do not listen yet.
    is_owed: bool,
    /// What stands through the relay.
    relayed: HashSet<ConnectionId>,
    sessions: HashMap<ConnectionId, Session>,
    pace: Pace,
    dials: HashMap<ConnectionId, PeerId>,
    /// What is dialled soon, the next first.
    later: VecDeque<(Instant, PeerId, Dial)>,
    standing: HashMap<ConnectionId, PeerId>,
    talks: Talks,
    acts: VecDeque<Act>,
}

impl Finder {
    /// Looks for nothing if it is not wanted, and says so to whoever asks.
    pub(crate) fn new(me: PeerId, is_wanted: bool) -> Self {
        Self {
            me,
            is_wanted,
            arriving: None,
            interfaces: BTreeSet::new(),
            networks: Vec::new(),
            outside: Outside::default(),
            mirror: Mirror::default(),
            is_owed: false,
            relayed: HashSet::new(),
            sessions: HashMap::new(),
            pace: Pace::default(),
            dials: HashMap::new(),
            later: VecDeque::new(),
            standing: HashMap::new(),
            talks: Talks::default(),
            acts: VecDeque::new(),
        }
    }

    /// What is to be done, until there is nothing.
    pub(crate) fn next_act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// When to call [`Self::tick`].
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let sessions = || self.sessions.values();
        let settles = [self.mirror.settles(), self.outside.settles()]
            .into_iter()
            .flatten()
            .filter(|_| sessions().any(|session| session.role.is_gathering()));
        let later = self.later.front().map(|(at, ..)| *at);
        sessions().filter_map(|session| session.role.next_timeout()).chain(settles).chain(later).min()
    }

    /// The time has come. `jitter` is random.
    pub(crate) fn tick(&mut self, now: Instant, jitter: u32) {
        self.outside.tick(now);
        for session in self.sessions.values_mut() {
            match &mut session.role {
                Role::Asks(asking) => asking.tick(now, jitter),
                Role::Answers(answering) => answering.tick(now),
            }
        }
        while self.later.front().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, peer, dial)) = self.later.pop_front()
        {
            let is_looked_for = self.sessions.values().any(|session| session.peer == peer);
            if is_looked_for && !self.stands(&peer) {
                self.acts.push_back(Act::Dial(peer, dial));
            }
        }
        self.obey(now);
    }

    /// What is said next. Pending for ever while there is nothing. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Result<Heard, JoinError> {
        self.talks.next().await
    }

    /// Something was said. `jitter` is random.
    pub(crate) fn on_heard(&mut self, heard: Heard, now: Instant, jitter: u32) {
        match heard {
            Heard::Seen(connection, seen) => self.mirror.on_answer(connection, seen, now),
            Heard::Word(id, word) => self.on_word(id, word, now, jitter),
            Heard::End(id) => {
                if let Some(session) = self.of_talk(id) {
                    session.talk = None;
                    match &mut session.role {
                        Role::Asks(asking) => asking.on_hung_up(now, jitter),
                        Role::Answers(answering) => answering.on_hung_up(),
                    }
                }
            }
        }
        self.obey(now);
    }

    /// Both ends have shown who they are on this relayed connection, which may be gone by now.
    pub(crate) fn meet(&mut self, opener: Opener, side: Side, now: Instant) {
        let (peer, connection) = (opener.peer(), opener.connection());
        let is_new = self.relayed.contains(&connection) && !self.sessions.contains_key(&connection);
        if !is_new || self.sessions.len() >= MOST_SESSIONS {
            return;
        }
        let mut role = match side {
            Side::Reaches if !self.is_wanted => return,
            Side::Reaches => Role::Asks(Asking::new(now)),
            Side::Shares => Role::Answers(Answering::default()),
        };
        if self.stands(&peer) {
            role.on_direct();
        }
        if self.is_wanted {
            self.acts.push_back(Act::Expect(peer, true));
            self.gather(now);
        }
        let (ours, theirs) = (Vec::new(), Vec::new());
        let session = Session { peer, opener, role, talk: None, ours, theirs, told: LOOKING };
        self.sessions.insert(connection, session);
    }

    /// The other end of a connection has begun a conversation. Only who has shown a certificate on it may.
    pub(crate) fn on_stream(&mut self, connection: ConnectionId, stream: Stream, now: Instant) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let Role::Answers(answering) = &mut session.role else { return };
        if answering.on_begun(now) {
            session.talk = self.talks.accept(stream);
            if !self.is_wanted
                && let Some(talk) = session.talk.take()
            {
                talk.say(Word::Declined);
            }
        }
    }

    /// This machine is in these networks.
    pub(crate) fn on_networks(&mut self, networks: Vec<IpNet>) {
        self.networks = networks;
    }

    /// We listen at this address, or do so no longer.
    pub(crate) fn on_listening(&mut self, over: Over, at: SocketAddr, listens: bool, now: Instant) {
        if !candidates::is_reachable(at.ip()) {
            return;
        }
        let told = self.inside();
        let _ =
            if listens { self.interfaces.insert((over, at)) } else { self.interfaces.remove(&(over, at)) };
        self.acts.extend(self.outside.want(&self.interfaces, now).map(Act::Map));
        // An address that is not offered, as those of many container networks are not, changes nothing for anybody.
        let is_news = told != self.inside();
        if is_news && !listens {
            // It was here: what follows is another network.
            self.arriving = self.arriving.map(|until| until.min(now));
        }
        if self.is_owed {
            self.gather(now);
        } else if is_news && self.arriving.is_some_and(|until| until <= now) {
            self.on_change(now);
        }
        self.obey(now);
    }

    /// The router leads from these addresses here.
    pub(crate) fn on_mapped(&mut self, mapped: Mapped, now: Instant) {
        if self.outside.set(mapped) {
            self.look_again(now);
        }
        self.obey(now);
    }

    /// A connection with the relay is being made, or cannot be.
    pub(crate) fn on_probing(&mut self, over: Over, connection: Option<ConnectionId>, now: Instant) {
        self.mirror.on_dialling(over, connection, now);
        self.obey(now);
    }

    /// A peer is being dialled.
    pub(crate) fn on_dialling(&mut self, connection: ConnectionId, peer: PeerId) {
        self.dials.insert(connection, peer);
    }

    /// A dial came to nothing; whether it was one of ours.
    pub(crate) fn on_dial_failed(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let is_probe = self.mirror.on_ended(connection, now);
        self.obey(now);
        is_probe || self.dials.remove(&connection).is_some()
    }

    /// A connection stands that was not dialled to have a relay.
    pub(crate) fn on_connected(
        &mut self,
        peer: PeerId,
        opener: &Opener,
        endpoint: &ConnectedPoint,
        now: Instant,
    ) -> Arrived {
        let connection = opener.connection();
        if self.mirror.on_connected(connection) {
            self.talks.ask(opener.clone());
            return Arrived::Ours;
        }
        self.dials.remove(&connection);
        if endpoint.is_relayed() {
            self.relayed.insert(connection);
            // Whoever comes to us has shown nothing yet.
            if self.is_wanted && endpoint.is_dialer() {
                self.gather(now);
            }
            return Arrived::Relayed;
        }
        let with_peer = || self.sessions.values().filter(|session| session.peer == peer);
        let theirs: Vec<_> = with_peer().flat_map(|session| session.theirs.iter().copied()).collect();
        let is_wanted = with_peer().next().is_some() && !(self.stands(&peer) && self.decides(&peer));
        let remote = address::socket(endpoint.get_remote_address()).filter(|_| is_wanted);
        let Some((remote, _)) = remote else {
            self.acts.push_back(Act::Close(connection));
            return Arrived::Ours;
        };
        self.standing.insert(connection, peer);
        for session in self.sessions.values_mut().filter(|session| session.peer == peer) {
            session.role.on_direct();
        }
        self.obey(now);
        Arrived::Direct(Reason::of(remote, &theirs))
    }

    /// A connection is gone.
    pub(crate) fn on_closed(&mut self, connection: ConnectionId, now: Instant) {
        self.mirror.on_ended(connection, now);
        self.relayed.remove(&connection);
        if let Some(session) = self.sessions.remove(&connection)
            && !self.sessions.values().any(|other| other.peer == session.peer)
        {
            self.acts.push_back(Act::Expect(session.peer, false));
        }
        if let Some(peer) = self.standing.remove(&connection)
            && !self.stands(&peer)
        {
            for session in self.sessions.values_mut().filter(|session| session.peer == peer) {
                if let Role::Asks(asking) = &mut session.role {
                    asking.on_lost(now);
                }
            }
        }
        self.obey(now);
    }

    /// Whether anybody is met through the relay.
    pub(crate) fn is_relaying(&self) -> bool {
        !self.relayed.is_empty()
    }

    fn on_word(&mut self, id: TalkId, word: Word, now: Instant, jitter: u32) {
        let Some(session) = self.of_talk(id) else { return };
        match &mut session.role {
            Role::Asks(asking) => asking.on_word(&word, now, jitter),
            Role::Answers(answering) => answering.on_word(&word, now),
        }
        if let Word::Offer { mut candidates } = word {
            candidates.truncate(MAX_CANDIDATES);
            let machines = candidates.iter().map(|candidate| candidate.address.ip().to_canonical()).collect();
            let peer = session.peer;
            session.theirs = candidates;
            self.acts.push_back(Act::Name(peer, machines));
        }
    }

    /// This machine's addresses are others than before: nothing of what is known holds.
    fn on_change(&mut self, now: Instant) {
        self.later.clear();
        for connection in self.mirror.forget() {
            self.acts.push_back(Act::Close(connection));
        }
        self.look_again(now);
    }

    fn look_again(&mut self, now: Instant) {
        for session in self.sessions.values_mut() {
            if let Role::Asks(asking) = &mut session.role {
                asking.on_change(now);
            }
        }
    }

    /// Finds out where we are seen, as soon as we listen.
    fn gather(&mut self, now: Instant) {
        if self.arriving.is_none() {
            self.arriving = Some(now + ARRIVING);
            self.acts.push_back(Act::Listen);
        }
        let listens = |over| self.interfaces.iter().any(|(listens, _)| *listens == over);
        self.is_owed = !(listens(Over::Quic) && listens(Over::Tcp));
        if !self.is_owed {
            self.acts.extend(self.mirror.gather(now).into_iter().map(Act::Probe));
        }
    }

    /// Carries out what the conversations ask for.
    fn obey(&mut self, now: Instant) {
        while let Some((connection, command)) = self.next_command(now) {
            if command == Command::Gather {
                self.gather(now);
            } else {
                self.carry_out(connection, command, now);
            }
        }
    }

    fn next_command(&mut self, now: Instant) -> Option<(ConnectionId, Command)> {
        let is_gathered = !self.is_owed && !self.mirror.is_busy(now) && self.outside.settles().is_none();
        self.sessions.iter_mut().find_map(|(connection, session)| {
            let mut next = session.role.next_command();
            if next.is_none() && is_gathered {
                session.role.on_gathered(now);
                next = session.role.next_command();
            }
            Some((*connection, next?))
        })
    }

    fn carry_out(&mut self, connection: ConnectionId, command: Command, now: Instant) {
        let (ours, me) = (self.offer(), self.me);
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        match command {
            Command::Gather => {}
            Command::Offer => {
                if let Role::Asks(_) = &session.role {
                    session.talk = self.talks.open(session.opener.clone());
                }
                session.ours.clone_from(&ours);
                if let Some(talk) = &session.talk {
                    talk.say(Word::Offer { candidates: ours });
                }
            }
            Command::Say(word) => {
                if let Some(talk) = &session.talk {
                    talk.say(word);
                }
            }
            Command::Dial => {
                let peer = session.peer;
                let theirs = candidates::believed(&session.theirs, &ours, &self.networks);
                let of_peer = self.dials.values().filter(|dialled| **dialled == peer).count();
                if self.pace.take(peer, (of_peer, self.dials.len()), now) {
                    let Plan { at_once, later } = candidates::plan(&theirs, &ours, me < peer);
                    self.acts.extend(at_once.into_iter().map(|dial| Act::Dial(peer, dial)));
                    self.later.extend(later.into_iter().map(|dial| (now + HEAD_START, peer, dial)));
                }
            }
            Command::HangUp => session.talk = None,
        }
    }

    /// Where we may be reached.
    fn offer(&self) -> Vec<Candidate> {
        candidates::offer(self.interfaces.iter().copied(), self.outside.mapped(), self.mirror.seen())
    }

    /// What of it is this machine's own.
    fn inside(&self) -> Vec<Candidate> {
        candidates::offer(self.interfaces.iter().copied(), [], [])
    }

    fn of_talk(&mut self, id: TalkId) -> Option<&mut Session> {
        self.sessions.values_mut().find(|session| session.talk.as_ref().is_some_and(|talk| talk.id == id))
    }

    fn stands(&self, peer: &PeerId) -> bool {
        self.standing.values().any(|standing| standing == peer)
    }

    /// Whether it is for us to say which of several connections with a peer is kept.
    fn decides(&self, peer: &PeerId) -> bool {
        let has = |asks: bool| {
            let with_peer = |session: &&Session| session.peer == *peer;
            self.sessions
                .values()
                .filter(with_peer)
                .any(|session| matches!(session.role, Role::Asks(_)) == asks)
        };
        has(true) && (!has(false) || self.me < *peer)
    }
}

#[cfg(test)]
mod tests;
