//! The names that exist, by the feed: whose each is, and which tunnel it is; and those that were given up a while ago.

use std::collections::HashMap;

use mytunnel_keys::id::{Cluster, ProjectId, TenantId, TunnelId, TunnelName};

#[derive(Debug, Default)]
pub(super) struct Names {
    owners: HashMap<TunnelName, (ProjectId, TunnelId)>,
    tunnels: HashMap<TunnelId, TunnelName>,
    /// Names that are nobody's, with who may have them back.
    kept: HashMap<TunnelName, TenantId>,
}

impl Names {
    /// The name is this project's from here on. Answers with the id of its tunnel.
    pub(super) fn set(&mut self, cluster: &Cluster, name: &TunnelName, project: &ProjectId) -> TunnelId {
        self.free(name);
        let tunnel = TunnelId::derive(cluster, project, name);
        self.owners.insert(name.clone(), (project.clone(), tunnel));
        self.tunnels.insert(tunnel, name.clone());
        tunnel
    }

    /// The name is nobody's, and for now to be had by this tenant alone.
    pub(super) fn keep(&mut self, name: &TunnelName, tenant: &TenantId) {
        self.free(name);
        self.kept.insert(name.clone(), tenant.clone());
    }

    pub(super) fn free(&mut self, name: &TunnelName) {
        self.kept.remove(name);
        if let Some((_, tunnel)) = self.owners.remove(name) {
            self.tunnels.remove(&tunnel);
        }
    }

    pub(super) fn contains(&self, name: &TunnelName) -> bool {
        self.owners.contains_key(name) || self.kept.contains_key(name)
    }

    /// Who alone may take a name that is nobody's.
    pub(super) fn kept_for(&self, name: &TunnelName) -> Option<&TenantId> {
        self.kept.get(name)
    }

    pub(super) fn owner(&self, name: &TunnelName) -> Option<&ProjectId> {
        self.owners.get(name).map(|(project, _)| project)
    }

    /// The name of a tunnel, whether anybody serves it or not.
    pub(super) fn of(&self, tunnel: &TunnelId) -> Option<&TunnelName> {
        self.tunnels.get(tunnel)
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = TunnelName> {
        self.owners.into_keys().chain(self.kept.into_keys())
    }
}
