//! The private shares that this node keeps in reach: who is told what, and which connection belongs to which of them.

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{PeerId, swarm::ConnectionId};
use mytunnel_carrier::{public_key, stream::Opener};
use mytunnel_keys::{
    id::{PublicKey, TunnelId, TunnelName},
    trust::{CLOCK_SKEW, Trust},
    wire::{
        ToRelay,
        peer::{Answer, Carries, Hello, VERSION},
    },
};
use tokio::{
    sync::{broadcast, watch},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::hosting::MOST_SILENCES;
use crate::{
    access::{Access, AccessEvent, Reached},
    lasting::pump::Route,
    peers::{
        acquaint::{self, NoAnswer},
        rights::{self, FalseHost, Own},
    },
    share::{Closed, Path},
    state::{
        link::Refusal,
        reach::{Command, Reach},
    },
    status::PeerStatus,
};

/// Events that wait for the owner of an access.
const EVENTS: usize = 64;

/// What became of a greeting on a connection.
pub(super) type Greeted = (ConnectionId, Result<Answer, NoAnswer>);

/// What happens of itself.
pub(super) enum Happened {
    /// The handle of an access was dropped.
    Dropped(AccessId),
    Greeted(Greeted),
}

/// Numbers an access within its node.
pub(super) type AccessId = u64;

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Reaching {
    entries: BTreeMap<AccessId, Entry>,
    next: AccessId,
    /// Questions to the relay under way.
    asked: HashMap<u32, AccessId>,
    requests: u32,
    connections: HashMap<ConnectionId, Held>,
    dials: HashMap<ConnectionId, AccessId>,
    greetings: JoinSet<Greeted>,
    given_up: FuturesUnordered<BoxFuture<'static, AccessId>>,
}

#[derive(Debug)]
struct Entry {
    name: TunnelName,
    reach: Reach,
    events: broadcast::Sender<AccessEvent>,
    routes: watch::Sender<Option<Arc<Route>>>,
    is_over: bool,
}

/// A connection of an access.
#[derive(Debug)]
struct Held {
    access: AccessId,
    peer: PeerId,
    opener: Opener,
    /// Once the other end has shown that it is the one.
    welcomed: Option<Welcomed>,
    rtt: Option<Duration>,
    /// Pings in a row that were not answered in time.
    silences: u32,
}

#[derive(Debug)]
struct Welcomed {
    tunnel: TunnelId,
    carries: Carries,
    /// The second in which its certificate ends for us.
    until: u64,
}

/// What the driver is to do.
pub(super) enum Act {
    Send(ToRelay),
    /// Dial this peer through the relay, and answer with [`Reaching::on_dialling`] or [`Reaching::on_dial_failed`].
    Dial(AccessId, PeerId),
    Close(ConnectionId),
    /// Ask the other end again and again whether it is there.
    Ping(ConnectionId, Opener),
}

/// What an access is judged by.
pub(super) struct Grounds<'a> {
    pub(super) own: &'a Own,
    pub(super) trust: Option<&'a Trust>,
    pub(super) unix: u64,
}

impl Reaching {
    /// Keeps a share in reach from now on, and makes the owner's handle.
    pub(super) fn add(&mut self, name: TunnelName, is_online: bool, now: Instant) -> Access {
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
        let reach = Reach::new(is_online, now);
        self.entries.insert(id, Entry { name, reach, events, routes, is_over: false });
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

    /// An access is not wanted any more; its connections are to be closed.
    pub(super) fn remove(&mut self, id: AccessId) -> Vec<ConnectionId> {
        self.entries.remove(&id);
        self.asked.retain(|_, access| *access != id);
        self.connections_of(id)
    }

    /// The credential has ended, or was refused for good.
    pub(super) fn end_all(&mut self, refusal: &Refusal) {
        for entry in self.entries.values_mut() {
            entry.close(refusal.clone());
        }
    }

    pub(super) fn on_online(&mut self, now: Instant) {
        self.asked.clear();
        for entry in self.entries.values_mut() {
            entry.reach.on_online(now);
        }
    }

    /// No session with a relay stands.
    pub(super) fn on_offline(&mut self, attempt: u32, reason: &str, now: Instant) {
        self.asked.clear();
        for entry in self.entries.values_mut() {
            entry.reach.on_offline(now);
            if entry.routes.borrow().is_none() && attempt > 1 {
                entry.tell(AccessEvent::Reconnecting { attempt, reason: reason.to_owned() });
            }
        }
    }

    /// The relay's answer to a question.
    pub(super) fn on_found(&mut self, request: u32, found: Found, now: Instant, jitter: u32) {
        let Some(id) = self.asked.remove(&request) else { return };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match found {
            Found::Here(peers) => entry.reach.on_found(peers, now, jitter),
            Found::Nowhere(refusal) => entry.reach.on_not_found(refusal, now, jitter),
        }
    }

    /// A dial of ours is under way.
    pub(super) fn on_dialling(&mut self, access: AccessId, connection: ConnectionId) {
        self.dials.insert(connection, access);
    }

    /// A dial came to nothing, which was under way or could not even begin.
    pub(super) fn on_dial_failed(&mut self, dial: Dial, reason: &str, now: Instant, jitter: u32) {
        let access = match dial {
            Dial::UnderWay(connection) => self.dials.remove(&connection),
            Dial::NotBegun(access) => Some(access),
        };
        if let Some(entry) = access.and_then(|access| self.entries.get_mut(&access)) {
            entry.reach.on_dial_failed(reason, now, jitter);
        }
    }

    /// A connection stands. `false` if it is none that was dialled for an access.
    pub(super) fn on_connected(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        opener: &Opener,
        now: Instant,
    ) -> bool {
        let Some(access) = self.dials.remove(&connection) else { return false };
        let Some(entry) = self.entries.get_mut(&access) else { return false };
        let held = Held { access, peer, opener: opener.clone(), welcomed: None, rtt: None, silences: 0 };
        self.connections.insert(connection, held);
        entry.reach.on_connected(connection, now);
        true
    }

    pub(super) fn on_closed(&mut self, connection: ConnectionId, now: Instant, jitter: u32) {
        let Some(held) = self.connections.remove(&connection) else { return };
        if let Some(entry) = self.entries.get_mut(&held.access) {
            entry
                .routes
                .send_if_modified(|route| route.take_if(|route| route.connection == connection).is_some());
            entry.reach.on_closed(connection, now, jitter);
        }
    }

    /// The other end has answered our greeting, or has not.
    pub(super) fn on_greeted(
        &mut self,
        (connection, answer): Greeted,
        grounds: &Grounds<'_>,
        now: Instant,
        jitter: u32,
    ) {
        let Some(held) = self.connections.get_mut(&connection) else { return };
        let Some(entry) = self.entries.get_mut(&held.access) else { return };
        let reach = &mut entry.reach;
        match answer {
            Ok(Answer::Refused { code, message, help }) => {
                let plain = super::welcome::plain;
                let refusal = Refusal { code, message: plain(&message), help: plain(&help) };
                reach.on_refused(connection, refusal, now, jitter);
            }
            Ok(Answer::Welcome { version, certificate, tunnel, carries }) => {
                match grounds.judge(version, &certificate, held.peer, &entry.name, &tunnel) {
                    Ok(until) => {
                        held.welcomed = Some(Welcomed { tunnel, carries, until });
                        reach.on_welcomed(connection);
                    }
                    Err(false_host) => {
                        tracing::warn!(name = %entry.name, %false_host, "a relay led to another node");
                        reach.on_false_host(connection, &false_host.to_string(), now, jitter);
                    }
                }
            }
            Err(none) => reach.on_false_host(connection, &none.to_string(), now, jitter),
        }
    }

    /// When [`Self::tick`] is to be called.
    pub(super) fn next_timeout(&self, now: Instant, unix: u64) -> Option<Instant> {
        let reaches = self.entries.values().filter_map(|entry| entry.reach.next_timeout());
        let ends = self
            .connections
            .values()
            .filter_map(|held| held.welcomed.as_ref())
            .map(|welcomed| now + Duration::from_secs(welcomed.until.saturating_sub(unix).min(30)));
        reaches.chain(ends).min()
    }

    /// The time has come; these connections are to be closed.
    pub(super) fn tick(&mut self, now: Instant, unix: u64, jitter: u32) -> Vec<ConnectionId> {
        for entry in self.entries.values_mut() {
            entry.reach.tick(now, jitter);
        }
        let over = |held: &Held| held.welcomed.as_ref().is_some_and(|welcomed| welcomed.until <= unix);
        self.connections.iter().filter(|(_, held)| over(held)).map(|(connection, _)| *connection).collect()
    }

    /// The round trip to a peer is known.
    pub(super) fn on_alive(&mut self, connection: ConnectionId, trip: Duration) {
        let Some(held) = self.connections.get_mut(&connection) else { return };
        held.silences = 0;
        if held.rtt.replace(trip).is_none()
            && let Some(entry) = self.entries.get(&held.access)
        {
            let reason = PeerStatus::RELAYED.to_owned();
            entry.tell(AccessEvent::Path { path: Path::Relayed, rtt: trip, reason });
        }
    }

    /// A ping was not answered in time; whether that has gone on for too long.
    pub(super) fn is_silent(&mut self, connection: ConnectionId) -> bool {
        self.connections.get_mut(&connection).is_some_and(|held| {
            held.silences += 1;
            held.silences > MOST_SILENCES
        })
    }

    /// What is to be done, until there is nothing.
    pub(super) fn next_act(&mut self, certificate: &[u8]) -> Option<Act> {
        let (id, command) = self.next_command()?;
        Some(match command {
            Command::Find => {
                let request = self.requests;
                self.requests = self.requests.wrapping_add(1);
                self.asked.insert(request, id);
                let name = self.entries.get(&id)?.name.clone();
                Act::Send(ToRelay::Find { request, name })
            }
            Command::Dial(key) => Act::Dial(id, mytunnel_carrier::peer_id(&key)),
            Command::Greet(connection) => {
                let held = self.connections.get(&connection)?;
                let name = self.entries.get(&id)?.name.clone();
                let (opener, hello) = (
                    held.opener.clone(),
                    Hello { version: VERSION, certificate: certificate.to_vec(), name },
                );
                self.greetings.spawn(async move { (connection, acquaint::greet(&opener, &hello).await) });
                return self.next_act(certificate);
            }
            Command::Close(connection) => Act::Close(connection),
            Command::Stand(connection) => {
                let held = self.connections.get(&connection)?;
                self.entries.get(&id)?.stand(connection, held);
                Act::Ping(connection, held.opener.clone())
            }
            Command::Away { attempt, reason } => {
                self.entries.get(&id)?.tell(AccessEvent::Reconnecting { attempt, reason });
                return self.next_act(certificate);
            }
            Command::GiveUp(refusal) => {
                self.entries.get_mut(&id)?.close(refusal);
                return self.next_act(certificate);
            }
        })
    }

    pub(super) fn status(&self) -> impl Iterator<Item = PeerStatus> {
        self.connections
            .values()
            .filter(|held| held.welcomed.is_some())
            .map(|held| PeerStatus::relayed(held.peer.to_string(), held.rtt))
    }

    fn next_command(&mut self) -> Option<(AccessId, Command)> {
        self.entries.iter_mut().find_map(|(id, entry)| Some((*id, entry.reach.next_command()?)))
    }

    fn connections_of(&self, id: AccessId) -> Vec<ConnectionId> {
        let of_it = self.connections.iter().filter(|(_, held)| held.access == id);
        of_it.map(|(connection, _)| *connection).collect()
    }
}

/// A dial that failed.
pub(super) enum Dial {
    UnderWay(ConnectionId),
    NotBegun(AccessId),
}

/// What the relay says about a name.
pub(super) enum Found {
    Here(Vec<PublicKey>),
    Nowhere(Refusal),
}

impl Grounds<'_> {
    /// Until when the other end is believed.
    fn judge(
        &self,
        version: u16,
        certificate: &[u8],
        peer: PeerId,
        name: &TunnelName,
        tunnel: &TunnelId,
    ) -> Result<u64, FalseHost> {
        if version != VERSION {
            return Err(FalseHost::Version(version));
        }
        // Without a relay's welcome there was no way, and the key of a connection of ours is sound.
        let (Some(trust), Some(key)) = (self.trust, public_key(&peer)) else { return Err(FalseHost::Rights) };
        let claims = rights::of_host(certificate, &key, name, tunnel, trust, self.own, self.unix)?;
        Ok(claims.not_after.saturating_add(CLOCK_SKEW))
    }
}

impl Entry {
    fn tell(&self, event: AccessEvent) {
        // The owner may have left; he will be noticed by `dropped`.
        let _ = self.events.send(event);
    }

    /// This connection leads to the share.
    fn stand(&self, connection: ConnectionId, held: &Held) {
        let Some(welcomed) = &held.welcomed else { return };
        let route = Route { peer: held.peer, connection, opener: held.opener.clone() };
        self.routes.send_replace(Some(Arc::new(route)));
        self.tell(AccessEvent::Ready(Reached {
            tunnel_id: welcomed.tunnel,
            name: self.name.clone(),
            carries: welcomed.carries,
            peer: held.peer.to_string(),
            path: Path::Relayed,
        }));
    }

    fn close(&mut self, refusal: Refusal) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.tell(AccessEvent::Closed(Closed::from(refusal)));
            // Streams that wait for a way wait no longer.
            (self.routes, _) = watch::channel(None);
        }
    }
}
