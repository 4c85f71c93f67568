//! The tunnels that this node serves, as pipes look them up.

use std::{collections::HashMap, sync::Arc, time::Duration};

use mytunnel_keys::{id::TunnelKind, wire::peer::Carries};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{datagrams::Peer, files::Files, rewrite::Rewrite, stream::Stream};
use crate::{
    inspect::Inspector,
    local::Terminal,
    share::TunnelSpec,
    target::{
        Target,
        dial::{DialError, Dialer},
    },
};

/// What answers a tunnel's pipes, until the tunnel is closed.
#[derive(Debug)]
pub(crate) struct Service {
    answer: Answer,
    /// Gets a copy of what passes.
    inspector: Option<Inspector>,
    closed: CancellationToken,
    used: Notify,
}

/// Keeps a service open. A private share has one for all relays, and streams that move from one to the other: it is closed
/// when the last of them has ended it.
#[derive(Debug)]
pub(crate) struct Kept(Arc<Service>);

impl Kept {
    /// # Errors
    /// As [`Service::new`].
    pub(crate) fn new(spec: &TunnelSpec) -> Result<Arc<Self>, DialError> {
        Ok(Arc::new(Self(Arc::new(Service::new(spec)?))))
    }

    pub(crate) const fn service(&self) -> &Arc<Service> {
        &self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The ways to answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Bytes go to a server as they are.
    Origin(Dialer),
    /// Files are served from here.
    Files(Files),
    /// The same, for connections that begin with who sends them.
    Site(Files),
    /// Requests go to a server with another `Host`.
    Rewritten(Rewrite),
    /// Bytes of a TCP connection go to a server.
    Stream(Stream),
    /// Datagrams go to a server.
    Datagrams(Peer),
    /// TLS ends in this process.
    Terminal(Arc<dyn Terminal>),
}

impl Service {
    /// # Errors
    /// When the target cannot be dialled at all, as [`Dialer::new`].
    pub(crate) fn new(spec: &TunnelSpec) -> Result<Self, DialError> {
        let answer = match (spec.kind, &spec.target, &spec.host_header) {
            (TunnelKind::Http, Target::Folder(path), _) => Answer::Files(Files::folder(path)),
            (TunnelKind::Http, Target::File(path), _) => Answer::Files(Files::file(path)),
            (TunnelKind::Http, server, Some(host)) => {
                Answer::Rewritten(Rewrite::new(Dialer::new(server)?, host.clone()))
            }
            (TunnelKind::Http, server, None) => Answer::Origin(Dialer::new(server)?),
            (TunnelKind::Tls, ..) if let Some(terminal) = &spec.terminal => {
                Answer::Terminal(Arc::clone(terminal))
            }
            (TunnelKind::Tcp | TunnelKind::Tls, server, _) => {
                Answer::Stream(Stream::new(Dialer::new(server)?, spec.proxy_protocol))
            }
            (TunnelKind::Udp, server, _) => Answer::Datagrams(Peer::new(server)?),
            (TunnelKind::Private, Target::Folder(path), _) => Answer::Site(Files::folder(path)),
            (TunnelKind::Private, Target::File(path), _) => Answer::Site(Files::file(path)),
            (TunnelKind::Private, server, _) if spec.datagrams => Answer::Datagrams(Peer::new(server)?),
            (TunnelKind::Private, server, _) => Answer::Stream(Stream::new(Dialer::new(server)?, false)),
        };
        let inspector = spec.inspector.clone().filter(|_| spec.kind == TunnelKind::Http);
        Ok(Self { answer, inspector, closed: CancellationToken::new(), used: Notify::new() })
    }

    pub(crate) fn answer(&self) -> &Answer {
        &self.answer
    }

    /// What comes to it as a private share.
    pub(crate) const fn carries(&self) -> Carries {
        match self.answer {
            Answer::Datagrams(_) => Carries::Datagrams,
            Answer::Files(_) | Answer::Site(_) => Carries::Web,
            Answer::Origin(_) | Answer::Rewritten(_) | Answer::Stream(_) | Answer::Terminal(_) => {
                Carries::Streams
            }
        }
    }

    pub(crate) const fn inspector(&self) -> Option<&Inspector> {
        self.inspector.as_ref()
    }

    /// A visitor has come.
    pub(crate) fn note_use(&self) {
        self.used.notify_one();
    }

    /// Returns when a visitor has come since it returned last. For one listener.
    pub(crate) async fn used(&self) {
        self.used.notified().await;
    }

    /// Cuts everything in flight.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Runs `work` until the tunnel is closed; `None` if that came first.
    pub(crate) async fn unless_closed<F: Future>(&self, work: F) -> Option<F::Output> {
        self.closed.run_until_cancelled(work).await
    }
}

type Services = HashMap<[u8; 16], Arc<Service>>;

/// Looks tunnels up by id.
#[derive(Debug, Clone)]
pub(crate) struct Table(watch::Receiver<Services>);

impl Table {
    /// The service of `tunnel`. Waits up to `patience` for it to be put in: a relay may open a pipe before we have
    /// read that the tunnel is registered.
    pub(crate) async fn find(&mut self, tunnel: &[u8; 16], patience: Duration) -> Option<Arc<Service>> {
        let found = |services: &Services| services.get(tunnel).cloned();
        let now = found(&self.0.borrow());
        if now.is_some() {
            return now;
        }
        let later = self.0.wait_for(|services| services.contains_key(tunnel));
        let services = tokio::time::timeout(patience, later).await.ok()?.ok()?;
        found(&services)
    }
}

/// The writing side of a [`Table`].
#[derive(Debug)]
pub(crate) struct TableWriter(watch::Sender<Services>);

impl TableWriter {
    pub(crate) fn new() -> (Self, Table) {
        let (sender, receiver) = watch::channel(Services::new());
        (Self(sender), Table(receiver))
    }

    pub(crate) fn insert(&self, tunnel: [u8; 16], service: Arc<Service>) {
        self.0.send_modify(|services| drop(services.insert(tunnel, service)));
    }

    pub(crate) fn remove(&self, tunnel: &[u8; 16]) {
        self.0.send_modify(|services| drop(services.remove(tunnel)));
    }
}
