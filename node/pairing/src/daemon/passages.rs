//! How the owner uses ways past the network ([`crate::ways`]): one for each session whose host has one, with a door of its own
//! on the loopback, so that who comes by it is told from who is on this machine; and at a guest one where the addresses of
//! its host lead nowhere.

mod anew;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::transport::ListenerId,
    swarm::{ConnectionId, dial_opts::PeerCondition},
};
use mytunnel_carrier::{address, stream::Opener};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Daemon, links, net,
    session::{Session, Side},
};
use crate::{
    api::{GrantedTicket, RelayGrant},
    clock::Now,
    content::{HOST, MemberId, SessionId},
    link::Ticket,
    ways::{Line, Pass, Stand, State, WayKey, Ways},
};

/// How long the way of a guest that has not come in stays, so that whoever tries again is not told that the ticket was used.
const RETRY: Duration = Duration::from_secs(120);
/// Such ways at once.
const EARLY: usize = 4;
/// How long ways take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(1_500);

/// What a session has of a way: kept with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Passport {
    pub(super) pass: Pass,
    /// Of what it is, for a person: the share's name, its server, the key's id. A guest knows nothing of that.
    pub(super) about: BTreeMap<String, String>,
}

/// By what a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Network,
    Way,
}

/// A way that is being made or stands. It ends when this is dropped.
struct Passage {
    stand: watch::Receiver<Stand>,
    listener: Option<ListenerId>,
    /// How often it has begun anew since it stood.
    tries: u32,
    /// When it does so next.
    again: Option<Duration>,
    _stop: DropGuard,
}

/// That of a guest that has not come in yet.
struct Early {
    ticket: Ticket,
    passage: Passage,
    until: Duration,
}

/// All of them.
pub(super) struct Passages {
    ways: Option<Arc<dyn Ways>>,
    direct: bool,
    tasks: JoinSet<()>,
    of: BTreeMap<SessionId, Passage>,
    /// The one that was asked for last is the last.
    early: Vec<Early>,
    /// Doors whose port is not known yet.
    doors: HashMap<ListenerId, SessionId>,
    /// Connections that were dialled through a way.
    dialled: HashSet<ConnectionId>,
    /// The addresses of doors.
    inner: HashMap<ListenerId, Multiaddr>,
}

/// For whom a guest needs a way.
#[derive(Debug)]
pub(super) enum Wanted {
    Join(Ticket),
    Back(SessionId),
}

impl Passages {
    /// See [`Line::direct`].
    pub(super) fn new(ways: Option<Arc<dyn Ways>>, direct: bool) -> Self {
        Self {
            ways,
            direct,
            tasks: JoinSet::new(),
            of: BTreeMap::new(),
            early: Vec::new(),
            doors: HashMap::new(),
            dialled: HashSet::new(),
            inner: HashMap::new(),
        }
    }

    /// Whether there can be any.
    pub(super) const fn are_there(&self) -> bool {
        self.ways.is_some()
    }

    /// Nobody who could not come in may try again by the same way.
    pub(super) const fn is_idle(&self) -> bool {
        self.early.is_empty()
    }

    /// Whether it is that of a door: nobody is told to come there.
    pub(super) fn is_inner(&self, address: &Multiaddr) -> bool {
        self.inner.values().any(|inner| inner == address)
    }

    pub(super) fn was_dialled(&self, connection: ConnectionId) -> bool {
        self.dialled.contains(&connection)
    }

    pub(super) fn gone(&mut self, connection: ConnectionId) {
        self.dialled.remove(&connection);
    }

    /// Starts one, and has clients hear of every change of it.
    fn start(
        &mut self,
        make: impl FnOnce(&dyn Ways, Line) -> futures::future::BoxFuture<'static, ()>,
        changed: &watch::Sender<u64>,
    ) -> Option<Passage> {
        let ways = self.ways.clone()?;
        let (sender, stand) = watch::channel(Stand::default());
        let stop = CancellationToken::new();
        let line = Line { direct: self.direct, stand: sender, stop: stop.clone() };
        let mut made = make(ways.as_ref(), line);
        let (mut seen, changed) = (stand.clone(), changed.clone());
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = &mut made => break,
                    told = seen.changed() => match told {
                        Ok(()) => changed.send_modify(|count| *count += 1),
                        // It ends, and says no more.
                        Err(_) => { made.await; break }
                    },
                }
            }
            changed.send_modify(|count| *count += 1);
        });
        Some(Passage { stand, listener: None, tries: 0, again: None, _stop: stop.drop_guard() })
    }

    /// Takes what has ended.
    pub(super) fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            links::ended(ended);
        }
    }

    /// Ends all of them.
    pub(super) async fn stop(&mut self) {
        self.of.clear();
        self.early.clear();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                links::ended(ended);
            }
        };
        if timeout(GOODBYE, all).await.is_err() {
            tracing::debug!("a way was broken off");
        }
        self.tasks.shutdown().await;
    }
}

impl Daemon {
    /// Begins the way of a session that has none yet; answers with the tickets that lead to the one it has.
    pub(super) fn take_grant(&mut self, id: SessionId, relay: Option<RelayGrant>) -> VecDeque<GrantedTicket> {
        let Some(RelayGrant { key, about, tickets, .. }) = relay.filter(|_| self.passages.are_there()) else {
            return VecDeque::new();
        };
        let Some(session @ Session { side: Side::Host(_), .. }) = self.sessions.get_mut(&id) else {
            return VecDeque::new();
        };
        if let (None, Some(key)) = (&session.passport, key) {
            session.passport = Some(Passport { pass: Pass::Key(key), about: about.clone() });
            self.open_door(id);
        }
        let has = self.sessions.get(&id).and_then(|session| session.passport.as_ref());
        // A ticket for another share would lead elsewhere.
        if has.is_some_and(|has| has.about.get("name") == about.get("name")) {
            tickets.into()
        } else {
            VecDeque::new()
        }
    }

    /// See [`Session::tickets_to_withdraw`].
    pub(super) fn tickets_to_withdraw(&mut self, id: SessionId) -> Vec<String> {
        self.sessions.get_mut(&id).map(Session::tickets_to_withdraw).unwrap_or_default()
    }

    /// Opens the door for a way of a session of this host, if it has one.
    pub(super) fn open_door(&mut self, id: SessionId) {
        let Some(Session { side: Side::Host(_), passport: Some(_), .. }) = self.sessions.get(&id) else {
            return;
        };
        let is_there = self.passages.of.contains_key(&id) || self.passages.doors.values().any(|of| *of == id);
        if is_there || !self.passages.are_there() {
            return;
        }
        let [_, tcp] = address::listen_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        match self.swarm.listen_on(tcp) {
            Ok(listener) => drop(self.passages.doors.insert(listener, id)),
            Err(error) => tracing::warn!(%error, "no door for who comes by a way"),
        }
    }

    /// A listener has its address; if it is a door, its way begins.
    pub(super) fn on_listening(&mut self, listener: ListenerId, at: &Multiaddr) {
        let Some(id) = self.passages.doors.remove(&listener) else { return };
        self.passages.inner.insert(listener, at.clone());
        let (Some((target, _)), Some(Pass::Key(key))) =
            (address::socket(at), self.sessions.get(&id).and_then(Session::pass).cloned())
        else {
            self.close_door(listener);
            return;
        };
        self.swarm.behaviour_mut().bounds.lead(at.clone());
        let serve = |ways: &dyn Ways, line: Line| ways.serve(key, target, line);
        match self.passages.start(serve, &self.changed) {
            Some(passage) => {
                self.passages.of.insert(id, Passage { listener: Some(listener), ..passage });
            }
            None => self.close_door(listener),
        }
    }

    fn close_door(&mut self, listener: ListenerId) {
        if let Some(at) = self.passages.inner.remove(&listener) {
            self.swarm.behaviour_mut().bounds.lead_no_more(&at);
        }
        self.swarm.remove_listener(listener);
    }

    /// A guest needs a way: the one that stands, or one that begins now.
    pub(super) fn detour(&mut self, wanted: Wanted, reply: oneshot::Sender<watch::Receiver<Stand>>) {
        let now = self.now();
        let stand = match wanted {
            Wanted::Join(ticket) => self.detour_to_join(ticket, now),
            Wanted::Back(id) => self.detour_back(id),
        };
        if let Some(stand) = stand {
            // Who wanted it may have given up.
            let _ = reply.send(stand);
        }
    }

    fn detour_to_join(&mut self, ticket: Ticket, now: Now) -> Option<watch::Receiver<Stand>> {
        let until = now.steady + RETRY;
        let passages = &mut self.passages;
        let mut pass = Pass::Ticket(WayKey::new(ticket.text().to_owned().into()));
        if let Some(at) = passages.early.iter().position(|early| early.ticket == ticket) {
            let mut early = passages.early.remove(at);
            let (is_over, key) = {
                let stand = early.passage.stand.borrow();
                (stand.state == State::Closed && stand.passes, stand.key.clone())
            };
            if !is_over {
                early.until = until;
                let stand = early.passage.stand.clone();
                passages.early.push(early);
                return Some(stand);
            }
            // What was got for the ticket is good for another try.
            pass = key.map_or(pass, Pass::Key);
        }
        if passages.early.len() >= EARLY {
            passages.early.remove(0);
        }
        let passage = passages.start(|ways, line| ways.reach(pass, line), &self.changed)?;
        let stand = passage.stand.clone();
        passages.early.push(Early { ticket, passage, until });
        Some(stand)
    }

    fn detour_back(&mut self, id: SessionId) -> Option<watch::Receiver<Stand>> {
        if let Some(passage) = self.passages.of.get(&id) {
            return Some(passage.stand.clone());
        }
        let pass = self.sessions.get(&id)?.pass()?.clone();
        let passage = self.passages.start(|ways, line| ways.reach(pass, line), &self.changed)?;
        let stand = passage.stand.clone();
        self.passages.of.insert(id, passage);
        Some(stand)
    }

    /// A guest has come in with a ticket: the way that it came by, or may come back by, is its session's from here on.
    pub(super) fn settle(&mut self, id: SessionId, ticket: &Ticket) {
        let at = self.passages.early.iter().position(|early| early.ticket == *ticket);
        if let Some(at) = at {
            let Early { passage, .. } = self.passages.early.remove(at);
            self.passages.of.insert(id, passage);
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            let pass = Pass::Ticket(WayKey::new(ticket.text().to_owned().into()));
            session.passport = Some(Passport { pass, about: BTreeMap::new() });
        }
        self.note_keys();
    }

    /// It was told no: nobody tries that again.
    pub(super) fn give_up(&mut self, ticket: &Ticket) {
        self.passages.early.retain(|early| early.ticket != *ticket);
    }

    /// Reaches a peer through the local end of a way.
    pub(super) fn dial_through(
        &mut self,
        at: SocketAddr,
        peer: PeerId,
        found: oneshot::Sender<Option<Opener>>,
    ) {
        let [_, tcp] = address::listen_on(at);
        let options = net::to_peer(peer, PeerCondition::Always, vec![tcp]);
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.passages.dialled.insert(connection);
                self.dialling_at.insert(connection, found);
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "cannot be dialled through a way");
                // Dropped: it is not reached.
                drop(found);
            }
        }
    }

    /// By what somebody has come, or was reached.
    pub(super) fn via(&self, connection: ConnectionId) -> Via {
        let is_way =
            self.passages.was_dialled(connection) || self.swarm.behaviour().bounds.came_by_way(connection);
        if is_way { Via::Way } else { Via::Network }
    }

    /// Ways of sessions that are over end; what guests got for their tickets is kept.
    pub(super) fn tick_passages(&mut self, now: Now) {
        self.passages.reap();
        self.passages.early.retain(|early| early.until > now.steady);
        let is_over = |id: &SessionId| self.sessions.get(id).is_none_or(Session::is_over);
        let over: Vec<SessionId> = self.passages.of.keys().filter(|id| is_over(id)).copied().collect();
        for id in over {
            if let Some(Passage { listener: Some(listener), .. }) = self.passages.of.remove(&id) {
                self.close_door(listener);
            }
        }
        self.begin_anew(now);
        self.note_keys();
    }

    fn note_keys(&mut self) {
        let mut noted = Vec::new();
        for (id, passage) in &self.passages.of {
            let Some(key) = passage.stand.borrow().key.clone() else { continue };
            let passport = self.sessions.get_mut(id).and_then(|session| session.passport.as_mut());
            if let Some(passport) = passport.filter(|passport| matches!(passport.pass, Pass::Ticket(_))) {
                passport.pass = Pass::Key(key);
                noted.push(*id);
            }
        }
        for id in noted {
            self.flush(id);
        }
    }

    /// What is known of the way of a session; nothing where it has none.
    pub(super) fn shown_way(&self, id: SessionId) -> Value {
        let Some(passport) = self.sessions.get(&id).and_then(|session| session.passport.as_ref()) else {
            return Value::Null;
        };
        let mut shown = json!({ "state": "unused", "why": "", "help": "", "paths": [] });
        if let Some(passage) = self.passages.of.get(&id) {
            let stand = passage.stand.borrow();
            let paths = stand.paths.iter().map(|path| {
                json!({
                    "path": if path.direct { "direct" } else { "relayed" },
                    "reason": path.reason,
                    "rtt_ms": path.rtt.map(|rtt| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX)),
                })
            });
            let state = match stand.state {
                State::Opening => "opening",
                State::Open => "open",
                State::Closed => "closed",
            };
            let (why, help) = (&stand.why, &stand.help);
            shown = json!({ "state": state, "why": why, "help": help, "paths": paths.collect::<Vec<_>>() });
        } else if matches!(self.sessions.get(&id), Some(Session { side: Side::Host(_), .. })) {
            shown["state"] = if self.passages.are_there() { "opening" } else { "closed" }.into();
        }
        for (name, value) in &passport.about {
            shown[name] = value.clone().into();
        }
        shown
    }

    /// The ticket in the link by which a member came, which its key in the way's relay is listed under.
    pub(super) fn ticket_of(&self, id: SessionId, member: MemberId) -> Option<&str> {
        let session = self.sessions.get(&id)?;
        let Side::Host(room) = &session.side else { return None };
        session.tickets.get(&room.members.get(&member)?.invite).map(String::as_str)
    }

    /// Says of each member by what it is connected: to this machine, if that is its host.
    pub(super) fn show_ways(&self, id: SessionId, shown: &mut Value) {
        shown["relay"] = self.shown_way(id);
        let is_guest = matches!(self.sessions.get(&id), Some(Session { side: Side::Guest(..), .. }));
        for member in shown["members"].as_array_mut().into_iter().flatten() {
            let number = member["id"].as_u64().and_then(|number| MemberId::try_from(number).ok());
            let link = number.and_then(|number| self.by_member.get(&(id, number)));
            let via = link.and_then(|link| self.links.get(link)).map(|link| match link.via {
                Via::Network => "network",
                Via::Way => "relay",
            });
            if !is_guest || number == Some(HOST) {
                member["via"] = via.into();
            }
            if !is_guest {
                member["ticket"] = number.and_then(|number| self.ticket_of(id, number)).into();
            }
        }
    }
}

#[cfg(test)]
mod tests;
