//! Certificates that nodes have met in each other, and are told of when they count no longer.
//!
//! A connection between two nodes that does not lead through the relay is not the relay's to cut: its ends have to hear
//! that a key was revoked. A node that names a certificate learns nothing that it did not know, but for this: of other
//! tenants' it is told nothing.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use libp2p::swarm::ConnectionId;
use mytunnel_keys::{
    Verified,
    certificate::{self, Claims},
    error::Code,
    id::{Scope, Serial},
    wire::{MAX_WATCHED, Signed, ToNode},
};

use super::{Admission, Bucket, Command, Now, budgets::FROZEN, news::REVOKED};

/// Certificates that one node may name at once, and how soon it may name one more.
const BURST: u32 = 256;
const INTERVAL: Duration = Duration::from_millis(100);

/// What a node watches.
type Watch = (ConnectionId, Serial);

/// Who watches whom. A watch is found by the serial of the certificate and by its parent's.
#[derive(Debug, Default)]
pub(super) struct Watches {
    of_session: HashMap<ConnectionId, Session>,
    by_serial: HashMap<Serial, HashSet<Watch>>,
}

#[derive(Debug)]
struct Session {
    watched: HashMap<Serial, Verified<Claims>>,
    may: Bucket,
}

/// Whose watches a change concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Concerned {
    serials: HashSet<Serial>,
    all: bool,
}

impl Concerned {
    /// Those of this key and of what it minted.
    pub(super) fn by(&mut self, serial: Serial) {
        self.serials.insert(serial);
    }

    /// Any of them.
    pub(super) fn all(&mut self) {
        self.all = true;
    }
}

impl Watches {
    /// Whether the session may name one more certificate at this moment; each call counts.
    pub(super) fn may_name(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let session = self
            .of_session
            .entry(connection)
            .or_insert_with(|| Session { watched: HashMap::new(), may: Bucket::full(BURST, INTERVAL, now) });
        session.watched.len() < MAX_WATCHED && session.may.take(now)
    }

    fn add(&mut self, connection: ConnectionId, claims: Verified<Claims>) {
        let Some(session) = self.of_session.get_mut(&connection) else { return };
        let watch = (connection, claims.serial);
        for key in keys(&claims) {
            self.by_serial.entry(key).or_default().insert(watch);
        }
        session.watched.insert(claims.serial, claims);
    }

    fn remove(&mut self, (connection, serial): Watch) {
        let Some(session) = self.of_session.get_mut(&connection) else { return };
        if let Some(claims) = session.watched.remove(&serial) {
            self.unindex(connection, &claims);
        }
    }

    /// A session is over.
    pub(super) fn end(&mut self, connection: ConnectionId) {
        let Some(session) = self.of_session.remove(&connection) else { return };
        for claims in session.watched.values() {
            self.unindex(connection, claims);
        }
    }

    fn unindex(&mut self, connection: ConnectionId, claims: &Claims) {
        for key in keys(claims) {
            if let Some(watches) = self.by_serial.get_mut(&key) {
                watches.remove(&(connection, claims.serial));
                if watches.is_empty() {
                    self.by_serial.remove(&key);
                }
            }
        }
    }

    /// The watches that may be concerned, in a fixed order.
    fn concerned(&self, concerned: &Concerned) -> Vec<Watch> {
        let mut watches: Vec<Watch> = if concerned.all {
            let of = |(connection, session): (&ConnectionId, &Session)| {
                session.watched.keys().map(|serial| (*connection, *serial)).collect::<Vec<_>>()
            };
            self.of_session.iter().flat_map(of).collect()
        } else {
            let found = concerned.serials.iter().filter_map(|serial| self.by_serial.get(serial));
            found.flatten().copied().collect()
        };
        watches.sort_unstable();
        watches.dedup();
        watches
    }

    /// Numbers of watches and of the keys by which they are found.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.of_session.values().map(|session| session.watched.len()).sum(), self.by_serial.len())
    }

    fn claims(&self, (connection, serial): &Watch) -> Option<&Claims> {
        Some(self.of_session.get(connection)?.watched.get(serial)?)
    }
}

/// The keys whose end is the certificate's.
fn keys(claims: &Claims) -> impl Iterator<Item = Serial> {
    [Some(claims.serial), claims.parent].into_iter().flatten()
}

impl Admission {
    /// A node has met the holders of these certificates.
    pub(super) fn handle_watch(&mut self, connection: ConnectionId, certificates: &[Signed], now: Now) {
        for certificate in certificates {
            if !self.watches.may_name(connection, now.instant) {
                return tracing::debug!(%connection, "a node watches as many certificates as it may");
            }
            if let Some(claims) = self.watchable(connection, &certificate.0, now) {
                let watch = (connection, claims.serial);
                self.watches.add(connection, claims);
                self.tell_if_over(watch);
            }
        }
    }

    pub(super) fn handle_unwatch(&mut self, connection: ConnectionId, serials: &[Serial]) {
        for serial in serials {
            self.watches.remove((connection, *serial));
        }
    }

    /// Tells those who watch what has come to its end.
    pub(super) fn tell_watchers(&mut self, concerned: &Concerned) {
        for watch in self.watches.concerned(concerned) {
            self.tell_if_over(watch);
        }
    }

    /// What a node that may take part in private shares may know of: certificates of its own tenant.
    fn watchable(&self, connection: ConnectionId, bytes: &[u8], now: Now) -> Option<Verified<Claims>> {
        let own = &self.registry.session(connection)?.claims;
        if !own.scopes.contains(Scope::Private) {
            return None;
        }
        // That the holder has its key was for the node to see.
        let holder = certificate::inspect(bytes).ok()?.peek().subject;
        let claims = certificate::verify(bytes, &self.trust, &holder, now.seconds()).ok()?;
        (claims.tenant == own.tenant).then_some(claims)
    }

    fn tell_if_over(&mut self, watch: Watch) {
        let Some(claims) = self.watches.claims(&watch) else { return };
        let over = match self.revoked.is_revoked(claims) {
            Some(code) => Some((code, REVOKED)),
            None => self.is_frozen(claims).is_err().then_some((Code::BudgetExceeded, FROZEN)),
        };
        if let Some((code, reason)) = over {
            let (connection, serial) = watch;
            self.watches.remove(watch);
            let message = ToNode::Revoked { serial, code, message: reason.to_owned() };
            self.command(Command::Send { connection, message });
        }
    }
}
