//! The names that exist, by the feed: whose each is, and which tunnel it is.

use std::collections::HashMap;

use mytunnel_keys::id::{Cluster, ProjectId, TunnelId, TunnelName};

#[derive(Debug, Default)]
pub(super) struct Names {
    owners: HashMap<TunnelName, (ProjectId, TunnelId)>,
    tunnels: HashMap<TunnelId, TunnelName>,
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

    pub(super) fn free(&mut self, name: &TunnelName) {
        if let Some((_, tunnel)) = self.owners.remove(name) {
            self.tunnels.remove(&tunnel);
        }
    }

    pub(super) fn contains(&self, name: &TunnelName) -> bool {
        self.owners.contains_key(name)
    }

    pub(super) fn owner(&self, name: &TunnelName) -> Option<&ProjectId> {
        self.owners.get(name).map(|(project, _)| project)
    }

    /// The name of a tunnel, whether anybody serves it or not.
    pub(super) fn of(&self, tunnel: &TunnelId) -> Option<&TunnelName> {
        self.tunnels.get(tunnel)
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = TunnelName> {
        self.owners.into_keys()
    }
}
