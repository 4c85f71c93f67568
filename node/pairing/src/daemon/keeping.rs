//! How the owner keeps sessions: what has changed is written before anything of it is told, and what is on disk goes on.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use libp2p::Swarm;
use mytunnel_keys::{error::Code, secret::Seed};
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, task::JoinError};
use zeroize::Zeroizing;

use super::{
    Daemon, DaemonError,
    keeper::{Answer, Done, Held, Keeper, OnDisk, Outcome, Stand},
    links,
    net::{self, Behaviour, Ports},
    session::{Session, Side},
};
use crate::{
    api::{Request, Trouble},
    bytes,
    clock::Now,
    content::{MemberId, SessionId},
    era::Era,
    store::{Rows, Store, StoreError},
};

/// All addresses, and any ports.
const EVERYWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
];

/// What makes a machine the same after a restart, while it keeps sessions that are not over: its key, by which peers know
/// it, and where they find it.
#[derive(Serialize, Deserialize)]
pub(super) struct Machine {
    #[serde(with = "bytes")]
    seed: [u8; 32],
    listen: Vec<SocketAddr>,
    ports: Ports,
}

impl Machine {
    pub(super) fn new(seed: &Seed) -> Self {
        Self { seed: *seed.expose(), listen: Vec::new(), ports: Ports::default() }
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(bytes::encode(self))
    }

    pub(super) fn seed(&self) -> Seed {
        Seed::from_bytes(self.seed)
    }

    pub(super) fn places(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Whether it listens wherever it can. Who says where has a firewall to please: ways open nothing else then.
    pub(super) fn is_everywhere(&self) -> bool {
        self.listen == EVERYWHERE
    }

    /// Listens there, or where it did before, or everywhere.
    pub(super) async fn listen(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        at: Vec<SocketAddr>,
    ) -> Result<(), DaemonError> {
        if !at.is_empty() {
            self.listen = at;
        } else if self.listen.is_empty() {
            self.listen = EVERYWHERE.to_vec();
        }
        self.ports = net::listen(swarm, &self.listen, &self.ports).await?;
        Ok(())
    }
}

/// What a process finds when it starts.
#[derive(Default)]
pub(super) struct Found {
    store: Option<Store>,
    pub(super) machine: Option<Machine>,
    sessions: Vec<(SessionId, Session)>,
    disk: OnDisk,
}

impl Found {
    /// Reads what is kept, off the loop. Sessions that are over are read when somebody asks for them.
    pub(super) async fn read(path: PathBuf, era: &Era, now: Now) -> Result<Self, DaemonError> {
        let era = era.clone();
        match tokio::task::spawn_blocking(move || read(&path, &era, now)).await {
            Ok(read) => Ok(read?),
            Err(error) => {
                links::ended(Err(error));
                Ok(Self::default())
            }
        }
    }

    pub(super) fn keeper(&mut self, path: PathBuf, machine: &Machine) -> Keeper {
        Keeper::new(path, machine.to_bytes(), self.store.take(), std::mem::take(&mut self.disk))
    }
}

fn read(path: &Path, era: &Era, now: Now) -> Result<Found, StoreError> {
    if !Store::exists(path) {
        return Ok(Found::default());
    }
    let mut store = Store::open(path)?;
    // What is too old goes.
    store.write(&crate::store::Batch::default(), now.wall)?;
    let (open, over) = (store.sessions(false)?, store.sessions(true)?);
    let damaged =
        || StoreError::Damaged { path: path.to_owned(), detail: "the machine's key is not one".to_owned() };
    let machine = match store.machine()?.filter(|_| !open.is_empty()) {
        Some(state) => Some(bytes::decode(&state).ok_or_else(damaged)?),
        None => None,
    };
    let known = open.iter().chain(&over).copied().collect();
    let mut disk = OnDisk { known, over, ..OnDisk::default() };
    let mut sessions = Vec::new();
    for id in open {
        let Some(rows) = store.read(id)? else { continue };
        // What is wrong with one is no reason for the others not to go on.
        match Session::restored(id, &rows, era, now) {
            Ok(session) => sessions.push((id, session)),
            Err(why) => disk.set_aside(id, why),
        }
    }
    Ok(Found { store: Some(store), machine, sessions, disk })
}

impl Daemon {
    /// Goes on with what was found.
    pub(super) fn go_on(&mut self, found: Found) {
        for (id, session) in found.sessions {
            self.sessions.insert(id, session);
            self.open_door(id);
            self.flush(id);
        }
    }

    /// A client's question: of a session that is over and on disk alone, when it was read.
    pub(super) fn on_asked(&mut self, request: Request, reply: oneshot::Sender<Answer>) {
        let wanted = self.wanted(&request);
        if !wanted.is_empty() {
            self.keeper.fetch(wanted, request, reply);
        } else if matches!(request, Request::Join { keep: true, .. }) && !self.keeper.is_proved() {
            // An invite works once: what would fail behind it fails before.
            self.keeper.prove(request, reply);
        } else {
            self.on_request(request, reply);
        }
    }

    /// Sessions that are or may be meant, and have to be read first.
    fn wanted(&self, request: &Request) -> Vec<SessionId> {
        let mut over = self.keeper.over().iter().copied().filter(|over| !self.sessions.contains_key(over));
        match request.session() {
            Some(named) => {
                self.keeper.resting().chain(over).filter(|session| session.to_string() == named).collect()
            }
            None if self.keeper.resting().next().is_some() => self.keeper.resting().collect(),
            None if self.sessions.is_empty() && request.is_about_one() => over.next().into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// An answer goes when everything that it tells of is on disk.
    pub(super) fn reply(&mut self, answer: Answer, reply: oneshot::Sender<Answer>) {
        self.keep_all();
        let free = self.keeper.hold(None, Held::Reply { answer, reply });
        free.into_iter().for_each(|held| self.release(held));
    }

    /// A guess is granted when that is on disk.
    pub(super) fn grant(&mut self, session: Option<SessionId>, reply: oneshot::Sender<bool>) {
        let granted = session.is_some();
        self.keep_all();
        let held = Held::Grant { session, granted, reply };
        let free = match session {
            Some(_) => self.keeper.hold(session, held),
            None => Some(held),
        };
        free.into_iter().for_each(|held| self.release(held));
    }

    /// Sends something to a member when everything that it tells of is on disk. Whether there is somebody now to whom it goes
    /// counts: what is for one link is for no later one.
    pub(super) fn send(&mut self, session: SessionId, member: MemberId, bytes: Vec<u8>, last: bool) {
        let link = self.by_member.get(&(session, member)).copied();
        let held = Held::Message { session, member, link, bytes, last };
        let free = self.keeper.hold(Some(session), held);
        free.into_iter().for_each(|held| self.release(held));
    }

    fn keep_all(&mut self) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        ids.into_iter().for_each(|id| self.keep(id));
    }

    /// Has written what has changed of a session.
    pub(super) fn keep(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.is_kept()) else { return };
        if session.forgets && session.is_over() {
            session.let_go();
            self.keeper.forget(id);
        } else if let Some(change) = session.change(&self.era) {
            self.keeper.put(id, change);
        }
    }

    /// Whether nothing of a session waits for the disk.
    pub(super) fn is_kept(&self, id: SessionId) -> bool {
        self.keeper.stand(id) == Stand::Written
    }

    fn release(&mut self, held: Held) {
        match held {
            Held::Message { session, member, link, bytes, last } => {
                let to = link.and_then(|link| self.links.get(&link));
                let sent = to.is_none_or(|link| link.outgoing.send(bytes));
                let is_its = self.by_member.get(&(session, member)) == link.as_ref();
                if is_its && (last || !sent) {
                    self.cut(session, member, self.now());
                }
            }
            // Each may have gone.
            Held::Reply { answer, reply } => drop(reply.send(answer)),
            Held::Grant { granted, reply, .. } => drop(reply.send(granted)),
            Held::Ask { request, reply } => self.on_request(*request, reply),
        }
    }

    /// Something comes back from the disk.
    pub(super) fn on_kept(&mut self, done: Result<Done, JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) => return links::ended(Err(error)),
        };
        let now = self.now();
        let Outcome { read, undone, written, released } = self.keeper.finish(done);
        // As a process that was killed and begins anew: peers come back, and say again what has no place.
        for id in &undone {
            self.drop_links(*id);
            let attempt = match self.sessions.remove(id).map(|session| session.side) {
                Some(Side::Guest(seat, _)) => seat.attempt(),
                Some(Side::Host(_)) | None => 0,
            };
            self.keeper.rest(*id, attempt, now.steady);
        }
        let ids: Vec<SessionId> = read.iter().map(|(id, ..)| *id).collect();
        for (id, rows, attempt) in read {
            self.on_read(id, &rows, attempt, now);
        }
        released.into_iter().for_each(|held| self.release(held));
        written.into_iter().chain(undone).chain(ids).for_each(|id| self.flush(id));
    }

    /// A session was read: one that is over, or one that goes on from there.
    fn on_read(&mut self, id: SessionId, rows: &Rows, attempt: Option<u32>, now: Now) {
        if self.sessions.contains_key(&id) {
            return;
        }
        match Session::restored(id, rows, &self.era, now) {
            Ok(mut session) => {
                if let (Side::Guest(seat, _), Some(attempt)) = (&mut session.side, attempt) {
                    seat.set_attempt(attempt);
                }
                // What is over in memory makes room; where all of it is open, one that is over is one more.
                drop(self.room_for_one());
                self.sessions.insert(id, session);
                self.open_door(id);
            }
            Err(why) => self.keeper.set_aside(id, why),
        }
    }

    fn drop_links(&mut self, id: SessionId) {
        self.links.retain(|_, link| link.session != id);
        self.by_member.retain(|(session, _), _| *session != id);
    }

    /// A session that is kept goes on with the next process: its peers see this one away.
    pub(super) fn rest(&mut self, id: SessionId) {
        self.keep(id);
        self.drop_links(id);
    }

    /// The session that is called so and was set aside, and what that means for who asks about it.
    pub(super) fn set_aside(&self, session: Option<&str>) -> Option<(SessionId, Trouble)> {
        let mut aside = self.keeper.unreadable().iter();
        let (id, why) = aside.find(|(id, _)| session == Some(&id.to_string()))?;
        let trouble =
            Trouble::new(Code::PairStore, format!("what is kept of session {id} cannot be used: {why}"))
                .with_help(format!(
                    "It stays on disk; `mytunnel pair close --forget --session {id}` removes it."
                ));
        Some((*id, trouble))
    }

    /// Ends a session of which nothing is to stay on disk, or has done with one that is over.
    pub(super) fn forget(&mut self, id: SessionId) -> Result<(), Trouble> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        if !session.is_kept() {
            return Err(Trouble::new(Code::BadRequest, "nothing of this session is on disk"));
        }
        session.forgets = true;
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests;
