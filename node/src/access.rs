//! A private share of another node, as it is reached from here.

mod datagrams;
mod streams;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mytunnel_carrier::greeting::{Greeting, Transport};
use mytunnel_keys::{
    id::{TunnelId, TunnelName},
    wire::peer::Carries,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use crate::lasting::pump::Outcome;
use crate::{
    lasting::{
        flow::{Limits, MOST_PATIENCE},
        pump::{self, Purpose, Route},
    },
    share::{Closed, Path},
};

/// What happens to an access, in order. More may be added.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessEvent {
    /// There is a way to the share. Comes again after [`AccessEvent::Reconnecting`].
    Ready(Reached),
    /// How the other node is reached, and how far it is.
    Path {
        /// Through a relay, or directly.
        path: Path,
        /// Round trip to the other node.
        rtt: Duration,
        /// Why this path.
        reason: String,
    },
    /// There is no way for now; the node is at it. What is open waits. Comes with every try.
    Reconnecting {
        /// The number of the try, from 0.
        attempt: u32,
        /// What went wrong.
        reason: String,
    },
    /// It is over. Nothing comes after it.
    Closed(Closed),
}

/// A share that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reached {
    /// The tunnel's id.
    pub tunnel_id: TunnelId,
    /// Its name.
    pub name: TunnelName,
    /// What it carries.
    pub carries: Carries,
    /// The node that shares it, by its peer id.
    pub peer: String,
    /// How it is reached.
    pub path: Path,
}

/// A private share that is held in reach for as long as this handle lives.
///
/// Events that nobody fetches are dropped from the oldest on; the latest ones, and so the end, are always there.
#[derive(Debug)]
pub struct Access {
    name: TunnelName,
    events: broadcast::Receiver<AccessEvent>,
    routes: watch::Receiver<Option<Arc<Route>>>,
    over: bool,
    ending: CancellationToken,
    _wanted: DropGuard,
}

impl Access {
    /// The longest that a connection waits for a path.
    pub const MOST_PATIENCE: Duration = MOST_PATIENCE;

    pub(crate) fn new(
        name: TunnelName,
        events: broadcast::Receiver<AccessEvent>,
        routes: watch::Receiver<Option<Arc<Route>>>,
        wanted: DropGuard,
    ) -> Self {
        Self { name, events, routes, over: false, ending: CancellationToken::new(), _wanted: wanted }
    }

    /// The share's name.
    pub fn name(&self) -> &TunnelName {
        &self.name
    }

    /// The next event; `None` after [`AccessEvent::Closed`], or when the node is gone. Safe to cancel.
    pub async fn next(&mut self) -> Option<AccessEvent> {
        if self.over {
            return None;
        }
        loop {
            match self.events.recv().await {
                Ok(event) => {
                    self.over = matches!(event, AccessEvent::Closed(_));
                    return Some(event);
                }
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "events of an access were dropped"),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// What leads connections to the share. They wait for a path for `patience`, [`Access::MOST_PATIENCE`] at most.
    pub fn door(&self, reached: &Reached, patience: Duration) -> Door {
        let transport = match reached.carries {
            Carries::Streams | Carries::Web => Transport::Stream,
            Carries::Datagrams => Transport::Datagrams,
        };
        let limits = Limits { patience: patience.min(Self::MOST_PATIENCE), ..Limits::default() };
        let (routes, ending) = (self.routes.clone(), self.ending.clone());
        Door { tunnel: reached.tunnel_id, transport, routes, limits, ending }
    }

    /// Breaks off what is open through the doors of this access, which take nothing more; the other node is told where
    /// there is a way. Their futures end then.
    pub fn break_off(&self) {
        self.ending.cancel();
    }
}

/// Leads connections to a share. They outlive the paths that they take.
#[derive(Debug, Clone)]
pub struct Door {
    tunnel: TunnelId,
    transport: Transport,
    routes: watch::Receiver<Option<Arc<Route>>>,
    limits: Limits,
    ending: CancellationToken,
}

impl Door {
    /// Leads one connection to the share, from who has come (`visitor`) to where he came (`here`), until it is over.
    /// Answers with how it ended, and with the connection, which is to be dropped, or reset if it has not ended well.
    pub async fn carry<L>(&self, local: L, visitor: SocketAddr, here: SocketAddr) -> (Outcome, L)
    where
        L: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let mut stream = [0; 16];
        if let Err(error) = getrandom::fill(&mut stream) {
            tracing::error!(%error, "the system has no random bytes");
            return (Outcome::Broken, local);
        }
        let greeting = Greeting { transport: self.transport, visitor, relay: here }.encode();
        let purpose = Purpose { tunnel: self.tunnel, stream, limits: self.limits };
        pump::open(local, &greeting, purpose, self.routes.clone(), &self.ending).await
    }
}
