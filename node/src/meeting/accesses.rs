//! The private shares that this node keeps in reach: which answer, connection and greeting belongs to which of them.

mod entry;
mod path;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::pending,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId,
    multiaddr::Protocol,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use mytunnel_carrier::stream::Opener;
use mytunnel_keys::{
    id::{PublicKey, Serial, TunnelName},
    trust::Trust,
    wire::peer::{Answer, Hello, VERSION},
};
use tokio::{
    sync::{broadcast, watch},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    Grounds,
    line::{Connected, Found, LineId, Order},
};
use crate::{
    access::Access,
    direct::Side,
    peers::acquaint::{self, NoAnswer},
    state::{link::Refusal, reach::Command},
    status::PeerStatus,
};
use entry::Entry;

/// Events that wait for the owner of an access.
const EVENTS: usize = 64;

/// Time in which a relay that restarts is back: until then it may be the one that knows a name.
const RESTART: Duration = Duration::from_secs(5);

/// Numbers an access within its node.
pub(super) type AccessId = u64;

/// What became of a greeting on a connection.
pub(super) type Greeted = (AccessId, ConnectionId, Result<Answer, NoAnswer>);

/// What happens of itself.
pub(super) enum Happened {
    /// The handle of an access was dropped.
    Dropped(AccessId),
    Greeted(Greeted),
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Act {
    Order(LineId, Order),
    Close(ConnectionId),
    /// Close it unless a guest has come over it.
    Part(ConnectionId),
    /// Ask the other end again and again whether it is there.
    Ping(ConnectionId, Opener),
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Accesses {
    local: PeerId,
    lines: Vec<LineState>,
    entries: BTreeMap<AccessId, Entry>,
    next: AccessId,
    /// Questions to relays under way.
    asked: HashMap<u32, (AccessId, LineId)>,
    requests: u32,
    dials: HashMap<ConnectionId, AccessId>,
    /// Direct connections that stand, for accesses that begin later.
    direct: HashMap<ConnectionId, (LineId, Connected)>,
    greetings: JoinSet<Greeted>,
    given_up: FuturesUnordered<BoxFuture<'static, AccessId>>,
    acts: VecDeque<Act>,
}

/// How a line stands with its relay.
#[derive(Debug, Clone)]
enum LineState {
    Connecting,
    Online(Multiaddr),
    /// Tries have failed.
    Away {
        since: Instant,
    },
    /// No session is to be had.
    Refused {
        since: Instant,
    },
}

impl LineState {
    fn is_online(&self) -> bool {
        matches!(self, Self::Online(_))
    }

    /// When its relay counts as one that does not come back, if nothing changes.
    fn is_gone_at(&self) -> Option<Instant> {
        match self {
            Self::Away { since } => Some(*since + RESTART),
            Self::Refused { since } => Some(*since),
            Self::Connecting | Self::Online(_) => None,
        }
    }
}

impl Accesses {
    pub(super) fn new(local: PeerId, lines: usize) -> Self {
        Self {
            local,
            lines: vec![LineState::Connecting; lines],
            entries: BTreeMap::new(),
            next: 0,
            asked: HashMap::new(),
            requests: 0,
            dials: HashMap::new(),
            direct: HashMap::new(),
            greetings: JoinSet::new(),
            given_up: FuturesUnordered::new(),
            acts: VecDeque::new(),
        }
    }

    /// Keeps a share in reach from now on, and makes the owner's handle.
    pub(super) fn add(&mut self, name: TunnelName, now: Instant) -> Access {
        let id = self.next;
        self.next += 1;
        let (events, receiver) = broadcast::channel(EVENTS);
        let (routes, best) = watch::channel(None);
        let wanted = CancellationToken::new();
        let given_up = wanted.clone();
        self.given_up.push(Box::pin(async move {
            given_up.cancelled().await;
            id
        }));
        let access = Access::new(name.clone(), receiver, best, wanted.drop_guard());
        self.entries.insert(id, Entry::new(name, &self.lines, events, routes, now));
        access
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What happens next. Pending for ever while there is nothing. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Happened, JoinError> {
        tokio::select! {
            Some(id) = self.given_up.next() => Ok(Happened::Dropped(id)),
            Some(greeted) = self.greetings.join_next() => greeted.map(Happened::Greeted),
            else => pending().await,
        }
    }

    /// An access is not wanted any more. Connections that no other access has any use for.
    pub(super) fn remove(&mut self, id: AccessId) -> Vec<ConnectionId> {
        self.asked.retain(|_, (access, _)| *access != id);
        let Some(entry) = self.entries.remove(&id) else { return Vec::new() };
        entry.paths.into_keys().filter(|connection| !self.holds(*connection)).collect()
    }

    /// The credential has ended, or was refused for good.
    pub(super) fn end_all(&mut self, refusal: &Refusal) {
        for entry in self.entries.values_mut() {
            entry.close(refusal.clone());
        }
    }

    /// A session stands with the relay that this address leads to.
    pub(super) fn on_online(&mut self, line: LineId, relay: Multiaddr, now: Instant, jitter: u32) {
        self.set(line, LineState::Online(relay));
        for entry in self.entries.values_mut() {
            let over = entry.on_online(line, now, jitter);
            self.acts.extend(over.into_iter().map(Act::Close));
        }
    }

    /// Whether a session stands with any relay.
    pub(super) fn is_online(&self) -> bool {
        self.lines.iter().any(LineState::is_online)
    }

    /// No session stands on a line.
    pub(super) fn on_offline(&mut self, line: LineId, attempt: u32, reason: &str, now: Instant) {
        let state = match self.lines.get(line) {
            Some(held @ (LineState::Away { .. } | LineState::Refused { .. })) => held.clone(),
            _ if attempt > 1 => LineState::Away { since: now },
            _ => LineState::Connecting,
        };
        self.set(line, state);
        let is_alone = !self.is_online();
        for entry in self.entries.values_mut() {
            entry.on_offline(line, now);
            if is_alone {
                entry.on_all_offline(attempt, reason);
            }
        }
    }

    /// No session is to be had on a line.
    pub(super) fn on_refused(&mut self, line: LineId, now: Instant) {
        self.set(line, LineState::Refused { since: now });
        for entry in self.entries.values_mut() {
            entry.on_offline(line, now);
        }
    }

    /// Whether none is to be had on any line.
    pub(super) fn is_refused(&self) -> bool {
        self.lines.iter().all(|line| matches!(line, LineState::Refused { .. }))
    }

    fn set(&mut self, line: LineId, state: LineState) {
        self.asked.retain(|_, (_, asked)| *asked != line);
        if let Some(held) = self.lines.get_mut(line) {
            *held = state;
        }
    }

    /// A relay's answer to a question.
    pub(super) fn on_found(&mut self, request: u32, found: Found, now: Instant, jitter: u32) {
        let Some((id, line)) = self.asked.remove(&request) else { return };
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.on_found(line, found, now, jitter);
        }
    }

    /// A dial came to nothing.
    pub(super) fn on_dial_failed(
        &mut self,
        (line, dial): (LineId, ConnectionId),
        reason: &str,
        now: Instant,
        jitter: u32,
    ) {
        if let Some(entry) = self.dials.remove(&dial).and_then(|id| self.entries.get_mut(&id)) {
            entry.on_dial_failed((line, Some(dial)), reason, now, jitter);
        }
    }

    /// A connection stands. `false` if no access has any use for it.
    pub(super) fn on_connected(&mut self, line: LineId, connected: &Connected, now: Instant) -> bool {
        let dialled = self.dials.remove(&connected.connection).and_then(|id| self.entries.get_mut(&id));
        if let Some(entry) = dialled {
            entry.on_connected(line, connected, now);
            return true;
        }
        false
    }

    /// A direct connection stands, whichever end has dialled it. `false` if no access has any use for it.
    pub(super) fn on_direct(&mut self, line: LineId, connected: &Connected, certificate: &[u8]) -> bool {
        self.direct.insert(connected.connection, (line, connected.clone()));
        let all: Vec<AccessId> = self.entries.keys().copied().collect();
        let greeted = all.into_iter().filter(|id| self.greet_directly(*id, line, connected, certificate));
        greeted.count() > 0
    }

    /// Greets on a direct connection; whether the access has any use for it.
    fn greet_directly(
        &mut self,
        id: AccessId,
        line: LineId,
        connected: &Connected,
        certificate: &[u8],
    ) -> bool {
        let Some(entry) =
            self.entries.get_mut(&id).filter(|entry| !entry.paths.contains_key(&connected.connection))
        else {
            return false;
        };
        if !entry.on_direct(line, connected) {
            return false;
        }
        let (opener, hello) = (connected.opener.clone(), hello(entry, certificate));
        self.greetings
            .spawn(async move { (id, opener.connection(), acquaint::greet(&opener, &hello).await) });
        true
    }

    pub(super) fn on_closed(&mut self, connection: ConnectionId, now: Instant, jitter: u32) {
        self.direct.remove(&connection);
        for entry in self.entries.values_mut() {
            entry.on_closed(connection, now, jitter);
        }
    }

    /// Whether any access may go over this connection.
    pub(super) fn holds(&self, connection: ConnectionId) -> bool {
        self.entries.values().any(|entry| entry.paths.contains_key(&connection))
    }

    /// The other end has answered our greeting, or has not.
    pub(super) fn on_greeted(
        &mut self,
        (id, connection, answer): Greeted,
        grounds: &Grounds<'_>,
        now: Instant,
        jitter: u32,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.on_greeted(connection, answer, grounds, (now, jitter))
            && let Some(path) = entry.paths.get(&connection)
        {
            self.acts.push_back(Act::Ping(connection, path.opener.clone()));
            // There may be a direct connection with it already, which another access or a guest has brought.
            let peer = path.peer;
            let standing = self.direct.values().filter(|(_, connected)| connected.peer == peer);
            for (line, connected) in standing.cloned().collect::<Vec<_>>() {
                self.greet_directly(id, line, &connected, grounds.certificate);
            }
        } else if entry.drop_unwelcomed(connection) && !self.holds(connection) {
            // No search has asked for it, so that none closes it.
            self.acts.push_back(Act::Part(connection));
        }
    }

    /// Why a connection still leads through a relay.
    pub(super) fn on_why(&mut self, connection: ConnectionId, why: &'static str) {
        for entry in self.entries.values_mut() {
            entry.on_why(connection, why);
        }
    }

    /// The round trip over a connection is known.
    pub(super) fn on_alive(&mut self, connection: ConnectionId, trip: Duration, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.on_alive(connection, trip, now);
        }
    }

    /// A ping was not answered in time; whether that has gone on for too long.
    pub(super) fn is_silent(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let mut is_dead = false;
        for entry in self.entries.values_mut() {
            is_dead |= entry.is_silent(connection, now);
        }
        is_dead
    }

    /// When [`Self::tick`] is to be called.
    pub(super) fn next_timeout(&self, now: Instant, unix: u64) -> Option<Instant> {
        let timeouts = self.entries.values().filter_map(|entry| entry.next_timeout(now, unix));
        let ends = self.entries.values().filter_map(|entry| entry.gives_up(&self.lines, now));
        timeouts.chain(ends.map(|(at, _)| at)).min()
    }

    /// The time has come.
    pub(super) fn tick(&mut self, now: Instant, unix: u64, jitter: u32) {
        for entry in self.entries.values_mut() {
            self.acts.extend(entry.tick(now, unix, jitter).into_iter().map(Act::Close));
            entry.conclude(&self.lines, now);
        }
    }

    /// The trust has changed: hosts whose certificates hold no longer are left.
    pub(super) fn judge_again(&mut self, trust: &Trust, unix: u64, (now, jitter): (Instant, u32)) {
        for entry in self.entries.values_mut() {
            let over = entry.judge_again(trust, unix, (now, jitter));
            self.acts.extend(over.into_iter().map(Act::Close));
        }
    }

    /// A relay says that this certificate counts no longer: whoever has shown it is left.
    pub(super) fn on_revoked(&mut self, serial: Serial, refusal: &Refusal, (now, jitter): (Instant, u32)) {
        for entry in self.entries.values_mut() {
            let over = entry.on_revoked(serial, refusal, (now, jitter));
            self.acts.extend(over.into_iter().map(Act::Close));
        }
    }

    /// The certificates that those have shown who are reached.
    pub(super) fn certificates(&self) -> impl Iterator<Item = (Serial, (PeerId, &[u8]))> {
        self.entries.values().flat_map(Entry::certificates)
    }

    /// What is to be done, until there is nothing.
    pub(super) fn next_act(&mut self, certificate: &[u8], now: Instant, jitter: u32) -> Option<Act> {
        loop {
            if let Some(act) = self.acts.pop_front() {
                return Some(act);
            }
            if let Some((line, opener)) = self.entries.values_mut().find_map(Entry::seek) {
                return Some(Act::Order(line, Order::Seek(opener, Side::Reaches)));
            }
            let wanted = |(id, entry): (&AccessId, &mut Entry)| Some((*id, entry.next_command()?));
            let (id, (line, command)) = self.entries.iter_mut().find_map(wanted)?;
            self.obey((id, line), command, certificate, (now, jitter));
        }
    }

    fn obey(
        &mut self,
        (id, line): (AccessId, LineId),
        command: Command,
        certificate: &[u8],
        (now, jitter): (Instant, u32),
    ) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match command {
            Command::Find => {
                let request = self.requests;
                self.requests = self.requests.wrapping_add(1);
                self.asked.insert(request, (id, line));
                self.acts.push_back(Act::Order(line, Order::Find { request, name: entry.name.clone() }));
            }
            Command::Dial(key) => match circuit(&key, self.local, self.lines.get(line)) {
                Ok(options) => {
                    self.dials.insert(options.connection_id(), id);
                    entry.on_dialling(line, options.connection_id());
                    self.acts.push_back(Act::Order(line, Order::Dial(Box::new(options))));
                }
                Err(reason) => entry.on_dial_failed((line, None), reason, now, jitter),
            },
            Command::Greet(connection) => {
                let Some(path) = entry.paths.get(&connection) else { return };
                let (opener, hello) = (path.opener.clone(), hello(entry, certificate));
                self.greetings.spawn(async move { (id, connection, acquaint::greet(&opener, &hello).await) });
            }
            Command::Close(connection) => self.acts.push_back(Act::Close(connection)),
            Command::Away { attempt, reason } => entry.on_away(attempt, reason),
            Command::Nowhere(refusal) => entry.on_nowhere(line, refusal),
        }
    }

    pub(super) fn status(&self) -> impl Iterator<Item = PeerStatus> {
        self.entries.values().filter_map(Entry::status)
    }
}

fn hello(entry: &Entry, certificate: &[u8]) -> Hello {
    Hello { version: VERSION, certificate: certificate.to_vec(), name: entry.name.clone() }
}

/// A dial of this node through a line's relay.
fn circuit(key: &PublicKey, local: PeerId, line: Option<&LineState>) -> Result<DialOpts, &'static str> {
    let peer = mytunnel_carrier::peer_id(key);
    if peer == local {
        return Err("this key serves the name itself: every node needs a key of its own");
    }
    let Some(LineState::Online(relay)) = line else {
        return Err("there is no connection to the relay");
    };
    let through = relay.clone().with(Protocol::P2pCircuit);
    Ok(DialOpts::peer_id(peer).addresses(vec![through]).condition(PeerCondition::Always).build())
}

#[cfg(test)]
mod tests;
