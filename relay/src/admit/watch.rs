//! Certificates that nodes have met in each other, and are told of when they count no longer.
//!
//! A connection between two nodes that does not lead through the relay is not the relay's to cut: its ends have to hear
//! that a key was revoked. A node that names a certificate learns nothing that it did not know, but for this: of other
//! tenants' it is told nothing. What is not watched is said, so that it is asked for again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
    time::{Duration, Instant},
};

use libp2p::swarm::ConnectionId;
use mytunnel_keys::{
    certificate,
    error::Code,
    id::{ProjectId, Scope, Serial, TenantId},
    revocation::Descent,
    wire::{MAX_WATCHED, Signed, ToNode},
};

use super::{Admission, Bucket, Command, Now, budgets::FROZEN, news::REVOKED};

/// Certificates that one node may name at once, and how soon it may name one more: each costs a signature.
const BURST: u32 = 256;
const INTERVAL: Duration = Duration::from_millis(100);

/// Watches of all nodes of one tenant, of some 400 bytes each.
const MOST_OF_TENANT: usize = 16_384;

/// What a node watches.
type Watch = (ConnectionId, Serial);

type Index<K> = HashMap<K, HashSet<Watch>>;

/// Who watches whom. A watch is found by the serial of the certificate, by its parent's and by its project.
#[derive(Debug, Default)]
pub(super) struct Watches {
    sessions: HashMap<ConnectionId, Session>,
    by_key: Index<Serial>,
    by_project: Index<ProjectId>,
    of_tenant: HashMap<TenantId, usize>,
}

#[derive(Debug)]
struct Session {
    tenant: TenantId,
    watched: HashMap<Serial, Descent>,
    may: Bucket,
}

/// Whose watches changes concern.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Concerned {
    keys: HashSet<Serial>,
    projects: HashSet<ProjectId>,
    all: bool,
}

impl Concerned {
    /// Those of this key and of what it minted.
    pub(super) fn key(&mut self, serial: Serial) {
        self.keys.insert(serial);
    }

    pub(super) fn project(&mut self, project: ProjectId) {
        self.projects.insert(project);
    }

    /// Any of them.
    pub(super) fn all(&mut self) {
        self.all = true;
    }
}

impl Watches {
    /// Whether a session may name one more certificate at this moment; each call counts.
    pub(super) fn may_name(&mut self, connection: ConnectionId, tenant: &TenantId, now: Instant) -> bool {
        let session = self.sessions.entry(connection).or_insert_with(|| Session {
            tenant: tenant.clone(),
            watched: HashMap::new(),
            may: Bucket::full(BURST, INTERVAL, now),
        });
        session.may.take(now)
    }

    fn has(&self, (connection, serial): &Watch) -> bool {
        self.sessions.get(connection).is_some_and(|session| session.watched.contains_key(serial))
    }

    /// Watches one more; `false` when there are too many.
    fn add(&mut self, connection: ConnectionId, descent: Descent) -> bool {
        let Some(session) = self.sessions.get_mut(&connection) else { return false };
        let of_tenant = self.of_tenant.entry(session.tenant.clone()).or_default();
        if session.watched.len() >= MAX_WATCHED || *of_tenant >= MOST_OF_TENANT {
            return false;
        }
        let watch = (connection, descent.serial);
        for key in keys(&descent) {
            self.by_key.entry(key).or_default().insert(watch);
        }
        if let Some(project) = &descent.project {
            self.by_project.entry(project.clone()).or_default().insert(watch);
        }
        if session.watched.insert(descent.serial, descent).is_none() {
            *of_tenant += 1;
        }
        true
    }

    fn remove(&mut self, watch: Watch) {
        let Some(session) = self.sessions.get_mut(&watch.0) else { return };
        let Some(descent) = session.watched.remove(&watch.1) else { return };
        let tenant = session.tenant.clone();
        self.forget(&tenant, watch, &descent);
    }

    /// A session is over.
    pub(super) fn end(&mut self, connection: ConnectionId) {
        let Some(Session { tenant, watched, .. }) = self.sessions.remove(&connection) else { return };
        for (serial, descent) in watched {
            self.forget(&tenant, (connection, serial), &descent);
        }
    }

    fn forget(&mut self, tenant: &TenantId, watch: Watch, descent: &Descent) {
        for key in keys(descent) {
            unindex(&mut self.by_key, &key, &watch);
        }
        if let Some(project) = &descent.project {
            unindex(&mut self.by_project, project, &watch);
        }
        if let Some(count) = self.of_tenant.get_mut(tenant) {
            *count -= 1;
            if *count == 0 {
                self.of_tenant.remove(tenant);
            }
        }
    }

    /// The watches that may be concerned, in a fixed order.
    fn concerned(&self, concerned: &Concerned) -> Vec<Watch> {
        let mut watches: Vec<Watch> = if concerned.all {
            let of = |(connection, session): (&ConnectionId, &Session)| {
                session.watched.keys().map(|serial| (*connection, *serial)).collect::<Vec<_>>()
            };
            self.sessions.iter().flat_map(of).collect()
        } else {
            let by_key = concerned.keys.iter().filter_map(|key| self.by_key.get(key));
            let by_project = concerned.projects.iter().filter_map(|project| self.by_project.get(project));
            by_key.chain(by_project).flatten().copied().collect()
        };
        watches.sort_unstable();
        watches.dedup();
        watches
    }

    fn descent(&self, (connection, serial): &Watch) -> Option<&Descent> {
        self.sessions.get(connection)?.watched.get(serial)
    }

    /// Numbers of watches, and of the keys, projects and tenants by which they are found and counted.
    #[cfg(test)]
    pub(super) fn counts(&self) -> [usize; 4] {
        let watched = self.sessions.values().map(|session| session.watched.len()).sum();
        [watched, self.by_key.len(), self.by_project.len(), self.of_tenant.len()]
    }
}

/// The keys whose end is the certificate's.
fn keys(descent: &Descent) -> impl Iterator<Item = Serial> + use<> {
    [Some(descent.serial), descent.parent].into_iter().flatten()
}

fn unindex<K: Hash + Eq>(index: &mut Index<K>, key: &K, watch: &Watch) {
    if let Some(watches) = index.get_mut(key) {
        watches.remove(watch);
        if watches.is_empty() {
            index.remove(key);
        }
    }
}

/// What becomes of a certificate that a node has named.
enum Named {
    Watched(Watch),
    /// It may be asked for again.
    Not(Serial),
    /// It is none of the node's business, or no certificate.
    Nothing,
}

impl Admission {
    /// A node has met the holders of these certificates.
    pub(super) fn handle_watch(&mut self, connection: ConnectionId, certificates: &[Signed], now: Now) {
        let (mut watches, mut not) = (Vec::new(), Vec::new());
        for certificate in certificates.iter().take(MAX_WATCHED) {
            match self.watch(connection, &certificate.0, now) {
                Named::Watched(watch) => watches.push(watch),
                Named::Not(serial) => not.push(serial),
                Named::Nothing => {}
            }
        }
        self.tell_of_ended(watches);
        if !not.is_empty() {
            self.command(Command::Send { connection, message: ToNode::Unwatched { serials: not } });
        }
    }

    pub(super) fn handle_unwatch(&mut self, connection: ConnectionId, serials: &[Serial]) {
        for serial in serials {
            self.watches.remove((connection, *serial));
        }
    }

    /// Tells those who watch what has come to its end.
    pub(super) fn tell_watchers(&mut self, concerned: &Concerned) {
        let watches = self.watches.concerned(concerned);
        self.tell_of_ended(watches);
    }

    /// Watches a certificate of the node's own tenant, if the node takes part in private shares.
    fn watch(&mut self, connection: ConnectionId, bytes: &[u8], now: Now) -> Named {
        let Some(session) = self.registry.session(connection) else { return Named::Nothing };
        let own = &session.claims;
        // That the holder has its key was for the node to see.
        let Ok(shown) = certificate::inspect(bytes) else { return Named::Nothing };
        let (serial, holder) = (shown.peek().serial, shown.peek().subject);
        if !own.scopes.contains(Scope::Private) || shown.peek().tenant != own.tenant {
            return Named::Nothing;
        }
        let watch = (connection, serial);
        if self.watches.has(&watch) {
            return Named::Watched(watch);
        }
        if !self.watches.may_name(connection, &own.tenant, now.instant) {
            return Named::Not(serial);
        }
        match certificate::verify(bytes, &self.trust, &holder, now.seconds()) {
            Ok(claims) if self.watches.add(connection, Descent::from(&*claims)) => Named::Watched(watch),
            Ok(_) | Err(_) => Named::Not(serial),
        }
    }

    /// Tells those whose watches have come to their end: each node in one message for each reason.
    fn tell_of_ended(&mut self, watches: Vec<Watch>) {
        let mut ended: BTreeMap<(ConnectionId, bool), Vec<Serial>> = BTreeMap::new();
        for (connection, serial) in watches {
            let Some(descent) = self.watches.descent(&(connection, serial)) else { continue };
            let is_revoked = self.revoked.revokes(descent).is_some();
            if is_revoked || self.are_frozen(keys(descent)) {
                ended.entry((connection, is_revoked)).or_default().push(serial);
                self.watches.remove((connection, serial));
            }
        }
        for ((connection, is_revoked), serials) in ended {
            let (code, reason) =
                if is_revoked { (Code::KeyRevoked, REVOKED) } else { (Code::BudgetExceeded, FROZEN) };
            let message = ToNode::Revoked { serials, code, message: reason.to_owned() };
            self.command(Command::Send { connection, message });
        }
    }
}
