//! Where a public name leads: the table of tunnels, and what the ingress needs from whoever carries one.
//!
//! The table promises the ingress one answer per name, taken under a read lock that is never held across an
//! `.await`: a live tunnel, a name whose node is away (worth waiting for), or nothing. Where several nodes serve a name,
//! the table chooses between them, for each visitor anew. Whoever registers tunnels
//! promises that [`Routes::insert`] and [`Routes::remove`] follow the node's connection, and that a tunnel whose
//! rights ended is [closed](Tunnel::close), which cuts everything in flight.
//!
//! What carries a pipe to the tunnel's local server is hidden behind [`PipeSource`].

mod about;
mod backends;
mod domains;
mod source;
mod standing;

use std::{
    collections::HashMap,
    mem, slice,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mytunnel_keys::{
    feed::Gates,
    id::{ProjectId, TunnelId, TunnelKind, TunnelName},
};
use tokio::{
    sync::{Notify, futures::Notified},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub(crate) use about::Customer;
pub(crate) use backends::Life;

pub use self::source::{Pipe, PipeError, PipeIo, PipeSource};
pub use crate::traffic::Traffic;

use crate::ingress::{Crowd, Pool, Seats, Upstream};
use about::Book;
use backends::{Backends, Health};
use domains::Domains;

/// A registered tunnel: a name, the project it belongs to, and the way to its node. A name that several nodes serve has a
/// tunnel for each of them.
#[derive(Debug)]
pub struct Tunnel {
    id: TunnelId,
    name: TunnelName,
    project: ProjectId,
    kind: TunnelKind,
    source: Arc<dyn PipeSource>,
    gates: RwLock<Option<Arc<Gates>>>,
    closed: CancellationToken,
    traffic: Arc<Traffic>,
    seats: Seats,
    pool: Pool<Box<Upstream>>,
    health: Arc<Health>,
    /// Asks the node whether it is there.
    asking: Mutex<JoinSet<()>>,
}

impl Tunnel {
    /// A tunnel that is not in any table yet.
    pub fn new(
        id: TunnelId,
        name: TunnelName,
        project: ProjectId,
        kind: TunnelKind,
        source: Arc<dyn PipeSource>,
    ) -> Self {
        Self {
            id,
            name,
            project,
            kind,
            source,
            gates: RwLock::default(),
            closed: CancellationToken::new(),
            traffic: Arc::default(),
            seats: Seats::default(),
            pool: Pool::default(),
            health: Arc::default(),
            asking: Mutex::default(),
        }
    }

    /// The same tunnel behind gates.
    #[must_use]
    pub fn gated(self, gates: Option<Arc<Gates>>) -> Self {
        Self { gates: RwLock::new(gates), ..self }
    }

    /// The same, counted by these counts.
    pub(crate) fn counted(self, traffic: Arc<Traffic>) -> Self {
        Self { traffic, ..self }
    }

    /// The same, of a key that has these requests in flight at all its tunnels.
    pub(crate) fn of_key(self, key: Arc<Crowd>) -> Self {
        Self { seats: Seats::of_key(key), ..self }
    }

    /// The same, of a node that is heard on other tunnels, too.
    pub(crate) fn of_node(self, life: &Arc<Life>) -> Self {
        Self { health: Arc::new(Health::of(Arc::clone(life))), ..self }
    }

    /// The tunnel's id, the same after every reconnect.
    pub fn id(&self) -> &TunnelId {
        &self.id
    }

    /// The public name.
    pub fn name(&self) -> &TunnelName {
        &self.name
    }

    /// The project that owns the name.
    pub fn project(&self) -> &ProjectId {
        &self.project
    }

    /// What kind of traffic it takes.
    pub fn kind(&self) -> TunnelKind {
        self.kind
    }

    /// The way to the node.
    pub fn source(&self) -> &dyn PipeSource {
        &*self.source
    }

    /// What visitors have to pass; nothing for an open tunnel.
    pub fn gates(&self) -> Option<Arc<Gates>> {
        self.gates.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts other gates before the tunnel. Whoever came in without having passed them is cut off: requests in flight
    /// and upgraded connections. Another end cuts nobody: when it comes, the tunnel is [closed](Self::close).
    pub fn set_gates(&self, gates: Option<Arc<Gates>>) {
        let ask_others = {
            let mut held = self.gates.write().unwrap_or_else(PoisonError::into_inner);
            let before = mem::replace(&mut *held, gates.clone()).unwrap_or_default();
            gates.is_some_and(|gates| !gates.ask_as(&before))
        };
        // In this order: whoever takes a seat later looks at the new gates first.
        if ask_others {
            self.seats.cut();
        }
    }

    /// Cuts every request, upgrade and pooled pipe of this tunnel, now, and for good. Visitors are treated as those
    /// of a node that is away. The table keeps the entry until [`Routes::remove`] or [`Routes::forget`].
    pub fn close(&self) {
        self.closed.cancel();
        self.seats.close();
        self.pool.close();
    }

    /// Whether the tunnel was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Completes when the tunnel is closed.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Requests and upgraded connections that have not ended.
    pub fn in_flight(&self) -> usize {
        self.seats.taken()
    }

    /// Pipes that wait for a request.
    pub fn idle_pipes(&self) -> usize {
        self.pool.idle()
    }

    /// What went through so far.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(crate) fn seats(&self) -> &Seats {
        &self.seats
    }

    pub(crate) fn pool(&self) -> &Pool<Box<Upstream>> {
        &self.pool
    }
}

/// What a name leads to at this moment.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// A node serves it.
    Live(Arc<Tunnel>),
    /// The name exists, and no node serves it now: [`Routes::wait_live`].
    Away,
    /// The name exists; the right to serve it has ended, so that there is nothing to wait for.
    Ended,
    /// No such name.
    Unknown,
}

/// The table of names. A cheap handle: clones share the table.
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    names: RwLock<HashMap<Box<str>, Entry>>,
    /// What is known of names beside whether they are served.
    about: Book,
    domains: Domains,
    /// There may be names that are not in the table yet.
    is_partial: AtomicBool,
    /// Notified whenever a name becomes live, is retired or forgotten, and when the table has become whole. One for all
    /// names: waiting is rare, and each waiter looks at its own name again.
    changed: Notify,
}

/// A name that exists.
#[derive(Debug)]
enum Entry {
    Live(Backends),
    Away,
    Ended,
}

impl Routes {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty table that does not know yet which names exist: until it is [whole](Self::set_whole), a name that
    /// is not in it is [away](Lookup::Away).
    pub fn partial() -> Self {
        Self(Arc::new(Table { is_partial: AtomicBool::new(true), ..Table::default() }))
    }

    /// Every name that exists is in the table from here on: who waits for another is told that there is none.
    pub fn set_whole(&self) {
        if self.0.is_partial.swap(false, Ordering::Release) {
            self.0.changed.notify_waiters();
        }
    }

    /// Puts a tunnel under its name, beside those of its kind that are there, and wakes who waits for it. Those of another
    /// kind or project are closed.
    pub fn insert(&self, tunnel: Tunnel) -> Arc<Tunnel> {
        let tunnel = Arc::new(tunnel);
        self.note_kind(tunnel.name.as_str(), tunnel.kind);
        self.note_owner(&tunnel.name, &tunnel.project);
        let before = {
            let mut names = self.write();
            let entry = names.entry(tunnel.name.as_str().into()).or_insert(Entry::Away);
            match entry {
                Entry::Live(backends) if backends.fits(&tunnel) => {
                    backends.join(Arc::clone(&tunnel));
                    None
                }
                Entry::Live(_) | Entry::Away | Entry::Ended => {
                    Some(mem::replace(entry, Entry::Live(Backends::of(Arc::clone(&tunnel)))))
                }
            }
        };
        if let Some(Entry::Live(others)) = before {
            others.iter().for_each(|other| other.close());
        }
        self.0.changed.notify_waiters();
        tunnel
    }

    /// Takes this very registration out of the table and closes it; others of the name stay. Without any the name is one
    /// whose node is away. (Ids outlive a reconnect, so an id could not tell two of them apart.)
    pub fn remove(&self, tunnel: &Arc<Tunnel>) {
        if let Some(entry) = self.write().get_mut(tunnel.name.as_str())
            && let Entry::Live(backends) = entry
            && backends.remove(tunnel).is_err()
        {
            *entry = Entry::Away;
        }
        // Nobody is led there any more: who is cut now finds another.
        tunnel.close();
    }

    /// Whether anybody serves the name.
    pub(crate) fn is_served(&self, name: &TunnelName) -> bool {
        matches!(self.read().get(name.as_str()), Some(Entry::Live(_)))
    }

    /// Notes that whoever served a name has lost the right to: until somebody serves it again, its visitors do not
    /// wait, and those that do are told. A live tunnel stays as it is.
    pub fn retire(&self, name: &TunnelName) {
        if let Some(entry @ Entry::Away) = self.write().get_mut(name.as_str()) {
            *entry = Entry::Ended;
        }
        self.0.changed.notify_waiters();
    }

    /// Notes that a name exists, so that its visitors wait for the node instead of being told 404; and what it carries, if
    /// that is known. A live tunnel stays what it is.
    pub fn note_known(&self, name: &TunnelName, kind: Option<TunnelKind>) {
        let label = name.as_str();
        let is_live = {
            let mut names = self.write();
            matches!(names.entry(label.into()).or_insert(Entry::Away), Entry::Live(_))
        };
        if let Some(kind) = kind.filter(|_| !is_live) {
            self.note_kind(label, kind);
        }
    }

    /// Drops a name that exists no longer, with the domains that lead there; live tunnels under it are closed.
    pub fn forget(&self, name: &TunnelName) {
        self.0.domains.forget(name);
        let before = self.write().remove(name.as_str());
        self.0.about.forget(name.as_str());
        if let Some(Entry::Live(backends)) = before {
            backends.iter().for_each(|tunnel| tunnel.close());
        }
        self.0.changed.notify_waiters();
    }

    /// What `label` (the leftmost label of the host, lower case) leads to: any of its nodes.
    pub fn find(&self, label: &str) -> Lookup {
        self.look(label, |backends| Some(backends.any()))
    }

    /// As [`find`](Self::find), for a visitor: the node that is to serve it.
    pub fn lead(&self, label: &str) -> Lookup {
        self.look(label, Backends::lead)
    }

    /// Who is led to this node and let in goes to another after all, if there is one that is to be tried, or if this one has
    /// turned out to be none to go to meanwhile.
    pub(crate) fn settle(&self, led: &Arc<Tunnel>) -> Option<Arc<Tunnel>> {
        if !led.is_accompanied() || led.is_well() {
            return None;
        }
        match self.read().get(led.name.as_str()) {
            Some(Entry::Live(backends)) => {
                backends.lead_in(&[]).filter(|other| is_same(led, other) && !Arc::ptr_eq(led, other)).cloned()
            }
            Some(Entry::Away | Entry::Ended) | None => None,
        }
    }

    /// Another node of the same name that may serve whom those that were `asked` could not, if there is one at this moment.
    pub(crate) fn another(&self, asked: &[Arc<Tunnel>]) -> Option<Arc<Tunnel>> {
        // Whoever has come since is found by who waits.
        let before = asked.last().filter(|before| before.is_accompanied())?;
        match self.read().get(before.name.as_str()) {
            // The name may be another tunnel's by now.
            Some(Entry::Live(backends)) => {
                backends.another(asked).filter(|other| is_same(before, other)).cloned()
            }
            Some(Entry::Away | Entry::Ended) | None => None,
        }
    }

    /// Whether somebody else may be asked than `asked` and this one.
    pub(crate) fn has_another(&self, asked: &[Arc<Tunnel>], tunnel: &Arc<Tunnel>) -> bool {
        let is_past = |other: &Arc<Tunnel>| asked.iter().chain([tunnel]).any(|past| Arc::ptr_eq(past, other));
        match self.read().get(tunnel.name.as_str()) {
            Some(Entry::Live(backends)) => is_same(tunnel, backends.any()) && backends.has_another(is_past),
            Some(Entry::Away | Entry::Ended) | None => false,
        }
    }

    fn look(&self, label: &str, pick: impl FnOnce(&Backends) -> Option<&Arc<Tunnel>>) -> Lookup {
        // Looked at first: once the table is whole, the names of that moment are seen too.
        let partial = self.0.is_partial.load(Ordering::Acquire);
        match self.read().get(label) {
            Some(Entry::Live(backends)) => {
                pick(backends).map_or(Lookup::Away, |tunnel| Lookup::Live(Arc::clone(tunnel)))
            }
            Some(Entry::Away) => Lookup::Away,
            Some(Entry::Ended) => Lookup::Ended,
            None if partial => Lookup::Away,
            None => Lookup::Unknown,
        }
    }

    /// As [`find`](Self::find), but waits up to `patience` while the node is away. A tunnel that is closed and still
    /// in the table counts as away.
    pub async fn wait_live(&self, label: &str, patience: Duration) -> Lookup {
        self.wait(label, &[], patience).await
    }

    /// As [`wait_live`](Self::wait_live) for the name of `before`, a registration that was found dead though the
    /// table may not know yet.
    pub async fn wait_other(&self, before: &Arc<Tunnel>, patience: Duration) -> Lookup {
        self.wait(before.name.as_str(), slice::from_ref(before), patience).await
    }

    async fn wait(&self, label: &str, not: &[Arc<Tunnel>], patience: Duration) -> Lookup {
        let found = tokio::time::timeout(patience, async {
            loop {
                // Made before looking: a change between the two is not missed.
                let changed = self.0.changed.notified();
                match self.look(label, |backends| match not {
                    [] => backends.lead(),
                    not => backends.lead_in(not),
                }) {
                    // It is another tunnel's name by now, and nobody came for that one.
                    Lookup::Live(tunnel) if not.iter().any(|not| !is_same(not, &tunnel)) => {
                        return Lookup::Unknown;
                    }
                    Lookup::Live(tunnel) if !tunnel.is_closed() => return Lookup::Live(tunnel),
                    over @ (Lookup::Unknown | Lookup::Ended) => return over,
                    Lookup::Live(_) | Lookup::Away => changed.await,
                }
            }
        });
        found.await.unwrap_or(Lookup::Away)
    }

    /// Completes with the next change of the table after this call.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    /// Every live tunnel, in no order.
    pub fn live(&self) -> Vec<Arc<Tunnel>> {
        let live = |entry: &Entry| match entry {
            Entry::Live(backends) => backends.iter().cloned().collect(),
            Entry::Away | Entry::Ended => Vec::new(),
        };
        self.read().values().flat_map(live).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Box<str>, Entry>> {
        self.0.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Box<str>, Entry>> {
        self.0.names.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two registrations are of one tunnel.
fn is_same(one: &Tunnel, other: &Tunnel) -> bool {
    (one.id, one.kind) == (other.id, other.kind)
}

#[cfg(test)]
mod tests;
