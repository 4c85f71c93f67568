//! The shares of a node: who is told what, and which tunnel id leads to which service.

use std::{collections::BTreeMap, future::pending, net::IpAddr, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use mytunnel_keys::id::{TunnelId, TunnelKind, TunnelName};
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    carrier::Carrier,
    serve::table::{Kept, Service, TableWriter},
    share::{Closed, EVENTS, Path, Ready, Share, ShareEvent, TunnelSpec},
    state::{
        link::Refusal,
        tunnels::{Grant, ShareId, Wanted},
    },
    status::TunnelStatus,
};

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Shares {
    entries: BTreeMap<ShareId, Entry>,
    table: TableWriter,
    given_up: FuturesUnordered<BoxFuture<'static, ShareId>>,
}

#[derive(Debug)]
struct Entry {
    name: TunnelName,
    kind: TunnelKind,
    target: String,
    kept: Arc<Kept>,
    events: broadcast::Sender<ShareEvent>,
    grant: Option<Grant>,
    standing: Standing,
    /// Nodes that serve the name, as the owner was told.
    backends: u16,
    /// Ends the lanes of the registration that stands.
    lanes: Option<DropGuard>,
}

/// How the relay is reached.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) address: String,
    pub(super) ip: Option<IpAddr>,
    pub(super) carrier: Carrier,
    /// Once it is known.
    pub(super) rtt: Option<Duration>,
}

/// What the owner was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    New,
    Online,
    Offline,
}

impl Shares {
    pub(super) fn new(table: TableWriter) -> Self {
        Self { entries: BTreeMap::new(), table, given_up: FuturesUnordered::new() }
    }

    /// Takes a share in, and makes the owner's handle.
    pub(super) fn add(&mut self, id: ShareId, spec: TunnelSpec, kept: Arc<Kept>) -> Share {
        let (events, receiver) = broadcast::channel(EVENTS);
        let wanted = CancellationToken::new();
        let given_up = wanted.clone();
        self.given_up.push(Box::pin(async move {
            given_up.cancelled().await;
            id
        }));
        let share = Share::new(spec.name.clone(), receiver, wanted.drop_guard());
        let entry = Entry {
            name: spec.name,
            kind: spec.kind,
            target: spec.target.to_string(),
            kept,
            events,
            grant: None,
            standing: Standing::New,
            backends: 1,
            lanes: None,
        };
        self.entries.insert(id, entry);
        share
    }

    /// A share whose handle was dropped. Pending for ever while there is none. Safe to cancel.
    pub(super) async fn dropped(&mut self) -> ShareId {
        match self.given_up.next().await {
            Some(id) => id,
            None => pending().await,
        }
    }

    /// Whether anything is shared privately.
    pub(super) fn has_private(&self) -> bool {
        self.entries.values().any(Entry::is_private)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn ids(&self) -> Vec<ShareId> {
        self.entries.keys().copied().collect()
    }

    /// A tunnel stands: its pipes are served from now on, and its owner is told if he does not know.
    pub(super) fn ready(&mut self, id: ShareId, grant: Grant, way: &Way) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        // The relay's pipes lead to what is public, and to nothing else, whatever the relay says.
        if !entry.is_private() {
            self.table.insert(*grant.tunnel.as_bytes(), Arc::clone(entry.kept.service()));
        }
        if let Some(old) = entry.grant.as_ref().filter(|old| old.tunnel != grant.tunnel) {
            self.table.remove(old.tunnel.as_bytes());
        }
        let is_news = entry.standing != Standing::Online || entry.grant.as_ref() != Some(&grant);
        entry.standing = Standing::Online;
        if is_news {
            entry.tell(ShareEvent::Ready(Ready {
                tunnel_id: grant.tunnel,
                name: grant.name.clone(),
                kind: entry.kind,
                urls: grant.urls.clone(),
                expires_at: grant.expires_at,
                relay: way.address.clone(),
                path: Path::Relayed,
            }));
            entry.tell_path(way);
        }
        entry.grant = Some(grant);
    }

    /// What lanes of a tunnel need, and the token that ends them; those of an earlier registration end now.
    pub(super) fn lanes(&mut self, id: ShareId) -> Option<(TunnelId, Arc<Service>, CancellationToken)> {
        let entry = self.entries.get_mut(&id).filter(|entry| !entry.is_private())?;
        let tunnel = entry.grant.as_ref()?.tunnel;
        let closed = CancellationToken::new();
        entry.lanes = Some(closed.clone().drop_guard());
        Some((tunnel, Arc::clone(entry.kept.service()), closed))
    }

    /// A share is not reached. A first try that has not failed yet is no news.
    pub(super) fn offline(&mut self, id: ShareId, attempt: u32, reason: &str) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.lanes = None;
        if attempt == 0 || (attempt == 1 && entry.standing == Standing::New) {
            return;
        }
        entry.standing = Standing::Offline;
        entry.tell(ShareEvent::Reconnecting { attempt, reason: reason.to_owned() });
    }

    /// So many nodes serve the name.
    pub(super) fn backends(&mut self, id: ShareId, count: u16) {
        if let Some(entry) = self.entries.get_mut(&id)
            && std::mem::replace(&mut entry.backends, count) != count
        {
            entry.tell(ShareEvent::Backends { count });
        }
    }

    pub(super) fn expiring(&self, id: ShareId, expires_at: u64) {
        if let Some(entry) = self.entries.get(&id) {
            entry.tell(ShareEvent::Expiring { expires_at });
        }
    }

    /// The round trip of a new connection is known.
    pub(super) fn path(&self, way: &Way) {
        for entry in self.entries.values().filter(|entry| entry.standing == Standing::Online) {
            entry.tell_path(way);
        }
    }

    /// A share is over: what is in flight is cut, unless another line keeps it. Answers with the name, if it was shared privately.
    pub(super) fn end(&mut self, id: ShareId, why: Closed) -> Option<TunnelName> {
        let entry = self.entries.remove(&id)?;
        if let Some(grant) = &entry.grant {
            self.table.remove(grant.tunnel.as_bytes());
        }
        entry.tell(ShareEvent::Closed(why));
        entry.is_private().then_some(entry.name)
    }

    pub(super) fn status(&self, connected: bool) -> Vec<TunnelStatus> {
        self.entries.values().map(|entry| entry.status(connected)).collect()
    }
}

impl Entry {
    fn is_private(&self) -> bool {
        self.kind == TunnelKind::Private
    }

    fn tell(&self, event: ShareEvent) {
        // The owner may have left; he will be noticed by `dropped`.
        let _ = self.events.send(event);
    }

    fn tell_path(&self, way: &Way) {
        if let Some(rtt) = way.rtt {
            let what = if self.is_private() { "private" } else { "public" };
            let reason = format!("{what} share, relay reached over {}", way.carrier);
            self.tell(ShareEvent::Path { path: Path::Relayed, rtt, reason });
        }
    }

    fn status(&self, connected: bool) -> TunnelStatus {
        let grant = self.grant.as_ref();
        TunnelStatus {
            id: grant.map(|grant| grant.tunnel),
            name: self.name.clone(),
            kind: self.kind,
            target: self.target.clone(),
            urls: grant.map(|grant| grant.urls.clone()).unwrap_or_default(),
            online: connected && self.standing == Standing::Online,
            path: Path::Relayed,
            expires_at: grant.map(|grant| grant.expires_at),
            backends: self.backends,
        }
    }
}

impl From<&TunnelSpec> for Wanted {
    fn from(spec: &TunnelSpec) -> Self {
        Self { name: spec.name.clone(), kind: spec.kind, port: spec.port, alone: spec.alone }
    }
}

impl From<Refusal> for Closed {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, help } = refusal;
        Self { code: Some(code), message, help }
    }
}
