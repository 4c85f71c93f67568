//! Who is admitted and what is live: pure bookkeeping with an index for every way in which a right can end.
//!
//! A [`Session`] is an admitted connection, a [`Registration`] a live tunnel of a session. Sessions are found by the
//! serial of their certificate, by its parent and by its project, so that a revocation costs what it ends and not what
//! is live. The rules here are those between live tunnels (who may serve a name beside whom, limits per key, who may
//! take over from whom); what a certificate allows is checked by the caller.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    time::{Duration, Instant},
};

use libp2p::{PeerId, swarm::ConnectionId};
use mytunnel_keys::{
    Verified,
    certificate::Claims,
    error::Code,
    id::{ProjectId, Serial, TenantId, TunnelId, TunnelKind, TunnelName},
    wire::MAX_BACKENDS,
};

use crate::{admit::Bucket, circuits::Pass};

/// Registrations that a session may ask for at once beside twice its tunnels, and how soon it may ask for one more.
const BURST: u32 = 32;
const INTERVAL: Duration = Duration::from_secs(1);

/// An admitted connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) peer: PeerId,
    pub(crate) claims: Verified<Claims>,
    /// The signed bytes, to check again when the trust changes.
    pub(crate) certificate: Box<[u8]>,
    /// The node's word that it is here, for the coordinator.
    pub(crate) presence: Box<[u8]>,
    tunnels: HashSet<TunnelName>,
    requests: Bucket,
}

impl Session {
    pub(crate) fn new(
        peer: PeerId,
        claims: Verified<Claims>,
        certificate: &[u8],
        presence: &[u8],
        now: Instant,
    ) -> Self {
        let requests = Bucket::full(BURST + 2 * u32::from(claims.max_tunnels), INTERVAL, now);
        let (certificate, presence) = (certificate.into(), presence.into());
        Self { peer, claims, certificate, presence, tunnels: HashSet::new(), requests }
    }
}

/// A live tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) id: TunnelId,
    pub(crate) name: TunnelName,
    pub(crate) kind: TunnelKind,
    pub(crate) project: ProjectId,
    pub(crate) tenant: TenantId,
    pub(crate) serial: Serial,
    /// The key that minted it.
    pub(crate) parent: Option<Serial>,
    /// Whose device it is.
    pub(crate) account: Option<[u8; 8]>,
    pub(crate) connection: ConnectionId,
    /// Tells a reconnect of one process from a second process with the same key.
    pub(crate) instance: [u8; 16],
    /// Nobody is to serve the name beside it.
    pub(crate) alone: bool,
    /// Era and epoch that the relay's knowledge had reached.
    pub(crate) since: (u64, u64),
}

/// Tells a registration from others of the same name: a connection serves a name once.
pub(crate) type Place = (TunnelName, ConnectionId);

impl Registration {
    pub(crate) fn place(&self) -> Place {
        (self.name.clone(), self.connection)
    }
}

/// A session that is over, with what was live in it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: PeerId,
    pub(crate) pass: Pass,
    pub(crate) tunnels: Vec<Registration>,
}

/// Why a tunnel cannot stand beside those that are live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) code: Code,
    pub(crate) reason: &'static str,
    /// What to do about it, where the code does not say it.
    pub(crate) help: Option<&'static str>,
}

impl Conflict {
    const fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason, help: None }
    }
}

type Index<K> = HashMap<K, HashSet<ConnectionId>>;

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Registry {
    sessions: HashMap<ConnectionId, Session>,
    /// Each name with those who serve it, of whom there is one at least.
    tunnels: HashMap<TunnelName, Vec<Registration>>,
    by_serial: Index<Serial>,
    by_parent: Index<Serial>,
    by_project: Index<ProjectId>,
}

impl Registry {
    /// Adds a session. A connection has one session in its life.
    pub(crate) fn open(&mut self, connection: ConnectionId, session: Session) {
        let claims = &session.claims;
        self.by_serial.entry(claims.serial).or_default().insert(connection);
        if let Some(parent) = claims.parent {
            self.by_parent.entry(parent).or_default().insert(connection);
        }
        if let Some(project) = &claims.project {
            self.by_project.entry(project.clone()).or_default().insert(connection);
        }
        self.sessions.insert(connection, session);
    }

    /// Ends a session and everything in it; `None` if there was none.
    pub(crate) fn end(&mut self, connection: ConnectionId) -> Option<Ended> {
        let session = self.sessions.remove(&connection)?;
        let Session { peer, claims, tunnels: names, .. } = session;
        unindex(&mut self.by_serial, &claims.serial, connection);
        if let Some(parent) = &claims.parent {
            unindex(&mut self.by_parent, parent, connection);
        }
        if let Some(project) = &claims.project {
            unindex(&mut self.by_project, project, connection);
        }
        let tunnels = names.iter().filter_map(|name| self.take(name, connection)).collect();
        Some(Ended { connection, peer, pass: Pass::of(&claims), tunnels })
    }

    /// Makes a tunnel live, unless it conflicts with another; answers with those that it takes over from, which are
    /// live no longer.
    ///
    /// The session must exist.
    pub(crate) fn register(&mut self, new: Registration) -> Result<Vec<Registration>, Conflict> {
        let displaced = self.displaced_by(&new)?;
        let displaced = displaced.iter().filter_map(|(name, connection)| self.remove(name, *connection));
        let displaced: Vec<_> = displaced.collect();
        if let Some(session) = self.sessions.get_mut(&new.connection) {
            session.tunnels.insert(new.name.clone());
            self.tunnels.entry(new.name.clone()).or_default().push(new);
        }
        Ok(displaced)
    }

    /// Ends one tunnel of a session; `None` if the session has no such tunnel.
    pub(crate) fn unregister(&mut self, connection: ConnectionId, id: &TunnelId) -> Option<Registration> {
        let name = self.by_id(connection, id)?.name.clone();
        self.remove(&name, connection)
    }

    /// A tunnel of a session.
    pub(crate) fn by_id(&self, connection: ConnectionId, id: &TunnelId) -> Option<&Registration> {
        let names = &self.sessions.get(&connection)?.tunnels;
        names.iter().filter_map(|name| self.member(name, connection)).find(|live| live.id == *id)
    }

    /// Ends the tunnel of a session under a name.
    pub(crate) fn remove(&mut self, name: &TunnelName, connection: ConnectionId) -> Option<Registration> {
        let gone = self.take(name, connection)?;
        if let Some(session) = self.sessions.get_mut(&connection) {
            session.tunnels.remove(name);
        }
        Some(gone)
    }

    fn take(&mut self, name: &TunnelName, connection: ConnectionId) -> Option<Registration> {
        let members = self.tunnels.get_mut(name)?;
        let at = members.iter().position(|live| live.connection == connection)?;
        let gone = members.remove(at);
        if members.is_empty() {
            self.tunnels.remove(name);
        }
        Some(gone)
    }

    /// Whether a session may ask for a tunnel at this moment; each call counts.
    pub(crate) fn may_ask(&mut self, connection: ConnectionId, now: Instant) -> bool {
        self.sessions.get_mut(&connection).is_some_and(|session| session.requests.take(now))
    }

    pub(crate) fn session(&self, connection: ConnectionId) -> Option<&Session> {
        self.sessions.get(&connection)
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = (ConnectionId, &Session)> {
        self.sessions.iter().map(|(connection, session)| (*connection, session))
    }

    /// Numbers of sessions and of names that are served.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.sessions.len(), self.tunnels.len())
    }

    /// Who serves a name.
    pub(crate) fn members(&self, name: &TunnelName) -> &[Registration] {
        self.tunnels.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a session serves under a name.
    pub(crate) fn member(&self, name: &TunnelName, connection: ConnectionId) -> Option<&Registration> {
        self.members(name).iter().find(|live| live.connection == connection)
    }

    pub(crate) fn tunnels(&self) -> impl Iterator<Item = &Registration> {
        self.tunnels.values().flatten()
    }

    /// Whether a session has no tunnel.
    pub(crate) fn is_idle(&self, connection: ConnectionId) -> bool {
        self.sessions.get(&connection).is_none_or(|session| session.tunnels.is_empty())
    }

    /// Sessions of this very certificate.
    pub(crate) fn of_serial(&self, serial: &Serial) -> Vec<ConnectionId> {
        members(&self.by_serial, serial)
    }

    /// Sessions of certificates that this key minted.
    pub(crate) fn of_parent(&self, parent: &Serial) -> Vec<ConnectionId> {
        members(&self.by_parent, parent)
    }

    /// Sessions of certificates for this project.
    pub(crate) fn of_project(&self, project: &ProjectId) -> Vec<ConnectionId> {
        members(&self.by_project, project)
    }

    /// Live tunnels in this project that keys serve which are not for it alone.
    pub(crate) fn of_project_by_others(&self, project: &ProjectId) -> impl Iterator<Item = &Registration> {
        let own = |live: &&Registration| {
            live.project == *project
                && self.sessions.get(&live.connection).is_some_and(|session| session.claims.project.is_none())
        };
        self.tunnels().filter(own)
    }

    /// The live tunnels that `new` takes over from.
    fn displaced_by(&self, new: &Registration) -> Result<Vec<Place>, Conflict> {
        let (displaced, beside): (Vec<_>, Vec<_>) =
            self.members(&new.name).iter().partition(|held| self.may_displace(new, held));
        may_join(new, &beside)?;
        let mut displaced: Vec<_> = displaced.into_iter().map(Registration::place).collect();
        let others = self.others_of_key(new, &displaced);
        let limit = self.limit(new.connection);
        if others.len() < limit {
            return Ok(displaced);
        }
        // The key is at its limit: what the same process left behind on another connection makes room.
        let left_behind =
            others.iter().find(|held| held.instance == new.instance && held.connection != new.connection);
        match left_behind {
            Some(held) if others.len() == limit && limit > 0 => {
                displaced.push(held.place());
                Ok(displaced)
            }
            _ if limit == 0 => Err(Conflict {
                help: Some(
                    "Serve it with a key of your own; a ticket's key reaches what its ticket names, and no more.",
                ),
                ..Conflict::new(Code::TunnelLimit, "this key serves nothing: it is a guest's")
            }),
            _ if limit == 1 && others.iter().all(|held| held.name == new.name) => Err(Conflict::new(
                Code::TunnelLimit,
                "this key serves its one tunnel from another process already",
            )),
            _ => Err(Conflict::new(
                Code::TunnelLimit,
                "this key has as many tunnels as it may have at one time",
            )),
        }
    }

    /// Live tunnels of the key that registers, without those that it takes over from.
    fn others_of_key(&self, new: &Registration, displaced: &[Place]) -> Vec<&Registration> {
        let sessions = self.by_serial.get(&new.serial).into_iter().flatten();
        sessions
            .filter_map(|connection| Some((*connection, self.sessions.get(connection)?)))
            .flat_map(|(connection, session)| session.tunnels.iter().map(move |name| (name, connection)))
            .filter(|(name, connection)| {
                !displaced.iter().any(|(gone, of)| (gone, of) == (*name, connection))
            })
            .filter_map(|(name, connection)| self.member(name, connection))
            .collect()
    }

    fn limit(&self, connection: ConnectionId) -> usize {
        self.sessions.get(&connection).map_or(0, |session| session.claims.max_tunnels.into())
    }

    fn may_displace(&self, new: &Registration, held: &Registration) -> bool {
        let reconnect = held.serial == new.serial && held.instance == new.instance;
        held.connection == new.connection || reconnect || self.is_renewal(new, held)
    }

    /// Whether a new key of the same parent was minted to take over from this very holder.
    fn is_renewal(&self, new: &Registration, held: &Registration) -> bool {
        let (Some(to), Some(from)) =
            (self.sessions.get(&new.connection), self.sessions.get(&held.connection))
        else {
            return false;
        };
        to.claims.replaces == Some(from.claims.serial)
            && to.claims.parent.is_some()
            && to.claims.parent == from.claims.parent
            && new.project == held.project
    }
}

/// Whether a node may serve a name beside those who do.
fn may_join(new: &Registration, beside: &[&Registration]) -> Result<(), Conflict> {
    let taken = |reason| Conflict::new(Code::NameTaken, reason);
    if beside.is_empty() {
        return Ok(());
    }
    if beside.iter().any(|held| held.project != new.project) {
        return Err(taken("another node serves this name at the moment"));
    }
    if beside.iter().any(|held| held.kind != new.kind) {
        return Err(taken("another node serves this name at the moment, as another kind of tunnel"));
    }
    if beside.iter().any(|held| !are_kin(new, held)) {
        let help = "Choose another name, or serve this one with keys of one master key, or from devices of one person.";
        return Err(Conflict {
            help: Some(help),
            ..taken("a key of another family serves this name at the moment")
        });
    }
    if new.alone {
        let help = "Stop the other node, choose another name, or serve it together without --alone.";
        return Err(Conflict {
            help: Some(help),
            ..taken("another node serves this name, which was to be served by this one alone")
        });
    }
    if beside.iter().any(|held| held.alone) {
        let help = "Choose another name, or give both this one with --name and without --alone to serve it together.";
        return Err(Conflict { help: Some(help), ..taken("another node serves this name alone") });
    }
    if beside.len() >= MAX_BACKENDS {
        let help = "Stop one of them, or serve more from behind one of them: 16 nodes may serve a name.";
        let reason = "as many nodes serve this name as may at one time";
        return Err(Conflict { help: Some(help), ..Conflict::new(Code::TunnelLimit, reason) });
    }
    Ok(())
}

/// Whether two keys of one project stand for the same: devices of one person, or children of one key. Nobody is to take a part
/// of the visitors of what another serves without a key that this other has a hand in.
fn are_kin(one: &Registration, other: &Registration) -> bool {
    match (one.parent, other.parent) {
        (Some(parent), Some(other)) => parent == other,
        (None, None) => one.serial == other.serial || (one.account.is_some() && one.account == other.account),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn unindex<K: Hash + Eq>(index: &mut Index<K>, key: &K, connection: ConnectionId) {
    if let Some(members) = index.get_mut(key) {
        members.remove(&connection);
        if members.is_empty() {
            index.remove(key);
        }
    }
}

fn members<K: Hash + Eq>(index: &Index<K>, key: &K) -> Vec<ConnectionId> {
    index.get(key).into_iter().flatten().copied().collect()
}

#[cfg(test)]
mod tests;
