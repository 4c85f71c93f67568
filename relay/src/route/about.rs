//! What is known of names, whether a node serves them here or not: whose they are, what they carry, what stands before them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
};

use mytunnel_keys::{
    feed::Gates,
    id::{ProjectId, TenantId, TunnelKind, TunnelName},
};

use super::Routes;

/// For whom something is done that all share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Customer {
    Tenant(TenantId),
    /// Whose project it is was not seen here.
    Of(ProjectId),
}

/// What is known, by name.
#[derive(Debug, Default)]
pub(super) struct Book(RwLock<HashMap<Box<str>, About>>);

#[derive(Debug, Default)]
struct About {
    owner: Option<ProjectId>,
    /// Whose project that is: as its last node here has shown. Of names that were never served here it is not known.
    tenant: Option<TenantId>,
    /// What it carries, or did when it was last served: where TLS ends behind the relay, the relay must not end it in the
    /// node's place while that is away.
    kind: Option<TunnelKind>,
    gates: Option<Arc<Gates>>,
}

impl Book {
    fn look<T>(&self, label: &str, look: impl FnOnce(&About) -> Option<T>) -> Option<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(label).and_then(look)
    }

    fn change(&self, label: &str, change: impl FnOnce(&mut About)) {
        change(self.0.write().unwrap_or_else(PoisonError::into_inner).entry(label.into()).or_default());
    }

    pub(super) fn forget(&self, label: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(label);
    }
}

impl Routes {
    /// Notes whose a name is.
    pub fn note_owner(&self, name: &TunnelName, owner: &ProjectId) {
        let label = name.as_str();
        if self.owner(label).as_ref() != Some(owner) {
            self.0.about.change(label, |about| {
                (about.owner, about.tenant) = (Some(owner.clone()), None);
            });
        }
    }

    /// The project that a name belongs to, as far as is known.
    pub fn owner(&self, label: &str) -> Option<ProjectId> {
        self.0.about.look(label, |about| about.owner.clone())
    }

    /// Notes whose a name is, and whose project that is.
    pub(crate) fn note_tenant(&self, name: &TunnelName, owner: &ProjectId, tenant: TenantId) {
        self.0.about.change(name.as_str(), |about| {
            (about.owner, about.tenant) = (Some(owner.clone()), Some(tenant));
        });
    }

    /// For whom a name is served, as far as is known.
    pub(crate) fn customer(&self, label: &str) -> Option<Customer> {
        self.0.about.look(label, |about| match &about.tenant {
            Some(tenant) => Some(Customer::Tenant(tenant.clone())),
            None => about.owner.clone().map(Customer::Of),
        })
    }

    /// Notes what stands before a name, whether a node serves it here or not. A live tunnel stays as it is.
    pub fn note_gates(&self, name: &TunnelName, gates: Option<Arc<Gates>>) {
        if gates.is_some() || self.known_gates(name.as_str()).is_some() {
            self.0.about.change(name.as_str(), |about| about.gates = gates);
        }
    }

    /// What stands before a name, as far as is known, also while its node is away.
    pub fn known_gates(&self, label: &str) -> Option<Arc<Gates>> {
        self.0.about.look(label, |about| about.gates.clone())
    }

    pub(super) fn note_kind(&self, label: &str, kind: TunnelKind) {
        if self.known_kind(label) != Some(kind) {
            self.0.about.change(label, |about| about.kind = Some(kind));
        }
    }

    /// What a name carries, or did when it was last served, as far as is known.
    pub fn known_kind(&self, label: &str) -> Option<TunnelKind> {
        self.0.about.look(label, |about| about.kind)
    }

    /// Whether TLS for this name ends behind the relay, also while its node is away.
    pub fn is_passed_through(&self, label: &str) -> bool {
        self.known_kind(label) == Some(TunnelKind::Tls)
    }

    /// Wakes who waits to hear of names, after many were noted at once.
    pub(crate) fn note_heard(&self) {
        if self.0.is_partial.load(Ordering::Acquire) {
            self.0.changed.notify_waiters();
        }
    }

    /// Completes when there is nothing more to be heard of what a name carries: it is known, or the table is whole.
    pub(crate) async fn heard_of(&self, label: &str) {
        loop {
            // Made before looking: a change between the two is not missed.
            let changed = self.0.changed.notified();
            if self.known_kind(label).is_some() || !self.0.is_partial.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }
}
