//! What the shares of one process stand on: a node, and a relay beside it where there is none elsewhere.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use mytunnel_keys::id::{Cluster, NamePattern, TunnelName};
use mytunnel_node::{Node, Status};
use tokio::sync::watch;
use tokio::time::timeout;

use super::job::Job;
use super::local;
use super::place::{Place, Spot};
use super::setter::Setter;
use crate::clock::Skew;
use crate::embedded::Embedded;
use crate::failure::Failure;
use crate::report::Report;
use crate::runtime::{GRACE, StopSignals};

/// Time for a share that has ended to be gone, before another takes its name.
const GOING: Duration = Duration::from_secs(5);

/// See the [module](self).
pub(crate) struct Base {
    pub(super) node: Node,
    /// The relay, where it is in this process.
    pub(super) embedded: Option<Embedded>,
    /// Whether visitors can come over TLS, as far as that is known here.
    pub(super) is_secure: bool,
    pub(super) domain: Cluster,
    pub(super) skew: Skew,
    /// Who can set gates.
    pub(super) setter: Option<Setter>,
    pub(super) if_revoked: Option<String>,
    pub(super) subject: String,
    pub(super) hosts: Vec<NamePattern>,
}

impl Base {
    /// Whether the relay is this process's own.
    pub(crate) const fn is_here(&self) -> bool {
        self.embedded.is_some()
    }

    /// Starts the node. `secure`: a relay of its own is to take visitors over TLS too.
    pub(crate) async fn start(spot: Spot, secure: bool, report: Report) -> Result<Self, Failure> {
        let Spot { place, subject, hosts, if_revoked, most: _ } = spot;
        let (embedded, config, skew, setter) = match place {
            Place::Relay { node, skew, gate } => {
                let setter = gate.map(|at| Setter::Session(Arc::new(Mutex::new(*at))));
                (None, *node, skew, setter)
            }
            Place::Here => {
                report.note("No relay is set up: running one here, for visitors on this machine.");
                let (embedded, config) = local::start(secure).await?;
                let (coordinator, device) = (Arc::clone(&embedded.coordinator), config.seed.public());
                (Some(embedded), config, Skew::UNKNOWN, Some(Setter::Here { coordinator, device }))
            }
        };
        let domain = config.cluster.clone();
        match Node::start(config) {
            Ok(node) => {
                let is_secure = secure || embedded.is_none();
                Ok(Self { node, embedded, is_secure, domain, skew, setter, if_revoked, subject, hosts })
            }
            Err(error) => {
                if let Some(embedded) = embedded {
                    embedded.shutdown().await;
                }
                Err(error.into())
            }
        }
    }

    /// What the node is up to, and every change of it.
    pub(crate) fn watch_status(&self) -> watch::Receiver<Status> {
        self.node.watch_status()
    }

    /// Waits until no share of this name is left over from before.
    pub(super) async fn free(&self, name: &TunnelName) {
        let mut status = self.node.watch_status();
        let gone = status.wait_for(|status| status.tunnels.iter().all(|tunnel| tunnel.name != *name));
        // Where it stays, or the node is gone, whoever wants the name is told so in the next moment.
        let _ = timeout(GOING, gone).await;
    }

    /// Lets what visitors have under way end, then gives everything back.
    pub(crate) async fn leave(self, jobs: Vec<Job>, signals: &mut StopSignals, report: Report) {
        let leaving = async {
            join_all(jobs.iter().map(Job::drain)).await;
            self.node.shutdown(GRACE).await;
        };
        signals.leave(2 * GRACE, report, leaving).await;
        join_all(jobs.into_iter().map(Job::end)).await;
        if let Some(embedded) = self.embedded {
            signals.leave(GRACE, report, embedded.shutdown()).await;
        }
    }
}
