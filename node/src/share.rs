//! A tunnel as its owner sees it: what is asked for, and what becomes of it.

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderValue;
use mytunnel_keys::{
    error::Code,
    id::{TunnelId, TunnelKind, TunnelName},
};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::DropGuard;

use crate::{
    inspect::Inspector,
    local::Terminal,
    target::{DialError, Target},
};

/// Events that wait for the owner of a share.
pub(crate) const EVENTS: usize = 64;

/// What is to be shared, and under which name.
#[derive(Debug, Clone)]
pub struct TunnelSpec {
    /// The public name.
    pub name: TunnelName,
    /// What the tunnel carries.
    pub kind: TunnelKind,
    /// Where its visitors are led.
    pub target: Target,
    /// A `Host` for the target to see instead of the public one. Costs parsing every request; means nothing for
    /// folders and files.
    pub host_header: Option<HeaderValue>,
    /// Whether the target of a TCP or TLS tunnel is told who the visitor is, by a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// The public port to ask for, of TCP and UDP tunnels. Default: one that stays the same for this name, if it is free.
    pub port: Option<u16>,
    /// Whether no other node is to serve the name: neither beside those that do already, nor beside this one later. Default
    /// false: nodes of one project share a name's visitors.
    pub alone: bool,
    /// Sees a copy of what passes through a web site's tunnel.
    pub inspector: Option<Inspector>,
    /// Whether what a private share leads to takes datagrams, and no connections.
    pub datagrams: bool,
    /// Who takes the visitors of a TLS tunnel in this process, in the place of the target.
    pub terminal: Option<Arc<dyn Terminal>>,
}

impl TunnelSpec {
    /// A tunnel of this kind that leads to `target`, and nothing beside.
    pub fn new(name: TunnelName, kind: TunnelKind, target: Target) -> Self {
        Self {
            name,
            kind,
            target,
            host_header: None,
            proxy_protocol: false,
            port: None,
            alone: false,
            inspector: None,
            datagrams: false,
            terminal: None,
        }
    }
}

/// What happens to a share, in order. More may be added.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShareEvent {
    /// Visitors reach it. Comes again after [`ShareEvent::Reconnecting`].
    Ready(Ready),
    /// How visitors' traffic comes in, and how far the other end is.
    Path {
        /// Through a relay, or directly.
        path: Path,
        /// Round trip to the other end.
        rtt: Duration,
        /// Why this path.
        reason: String,
    },
    /// Visitors do not reach it for now; the node is at it. Comes with every try.
    Reconnecting {
        /// The number of the try, from 1.
        attempt: u32,
        /// What went wrong.
        reason: String,
    },
    /// Other nodes have begun or ceased to serve the name; visitors are spread over all of them. Until then there is this
    /// one alone.
    Backends {
        /// Nodes that serve it, this one among them.
        count: u16,
    },
    /// The credential ends soon, and the share with it.
    Expiring {
        /// When, in Unix seconds.
        expires_at: u64,
    },
    /// It is over. Nothing comes after it.
    Closed(Closed),
}

/// A share that visitors reach.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ready {
    /// The tunnel's id, the same after every reconnect.
    pub tunnel_id: TunnelId,
    /// The public name.
    pub name: TunnelName,
    /// What it carries.
    pub kind: TunnelKind,
    /// Where visitors reach it, the best first.
    pub urls: Vec<String>,
    /// When the credential ends, in Unix seconds.
    pub expires_at: u64,
    /// The address at which the relay was reached.
    pub relay: String,
    /// How visitors' traffic comes in.
    pub path: Path,
}

/// How two ends are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Without a relay in between.
    Direct,
    /// Through a relay.
    Relayed,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Relayed => "relayed",
        })
    }
}

/// Why a share is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Closed {
    /// The contract's code; `None` when the owner closed it.
    pub code: Option<Code>,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl Closed {
    pub(crate) fn by_owner() -> Self {
        Self { code: None, message: "closed".to_owned(), help: String::new() }
    }
}

/// A tunnel that lives for as long as this handle.
///
/// Dropping the handle gives the tunnel up. Events that nobody fetches are dropped from the oldest on; the latest ones,
/// and so the end, are always there.
#[derive(Debug)]
pub struct Share {
    name: TunnelName,
    events: broadcast::Receiver<ShareEvent>,
    over: bool,
    _wanted: DropGuard,
}

impl Share {
    pub(crate) fn new(name: TunnelName, events: broadcast::Receiver<ShareEvent>, wanted: DropGuard) -> Self {
        Self { name, events, over: false, _wanted: wanted }
    }

    /// The public name.
    pub fn name(&self) -> &TunnelName {
        &self.name
    }

    /// The next event; `None` after [`ShareEvent::Closed`], or when the node is gone. Safe to cancel.
    pub async fn next(&mut self) -> Option<ShareEvent> {
        if self.over {
            return None;
        }
        loop {
            match self.events.recv().await {
                Ok(event) => {
                    self.over = matches!(event, ShareEvent::Closed(_));
                    return Some(event);
                }
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "events of a share were dropped"),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Waits until visitors reach it. Events before that are passed over.
    ///
    /// # Errors
    /// Why it is over instead.
    pub async fn ready(&mut self) -> Result<Ready, Closed> {
        loop {
            match self.next().await {
                Some(ShareEvent::Ready(ready)) => return Ok(ready),
                Some(ShareEvent::Closed(closed)) => return Err(closed),
                Some(_) => {}
                None => return Err(Closed::by_owner()),
            }
        }
    }
}

/// Why something is not shared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The target cannot be led to.
    #[error("the target cannot be shared")]
    Target(#[from] DialError),
    /// This node shares something under that name already.
    #[error("this node shares something as {0} already")]
    Duplicate(TunnelName),
    /// The node has as many shares as it may have.
    #[error("this node has {0} shares, which is as many as it may have")]
    TooMany(usize),
    /// The relay has refused the credential for good.
    #[error("{0}")]
    Refused(#[source] Closed),
    /// The node was shut down.
    #[error("the node is shut down")]
    Stopped,
}

impl ShareError {
    /// The contract's code for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Target(_) => Code::TargetUnreachable,
            Self::Duplicate(_) => Code::NameTaken,
            Self::TooMany(_) => Code::TunnelLimit,
            Self::Refused(closed) => closed.code.unwrap_or(Code::Internal),
            Self::Stopped => Code::Internal,
        }
    }
}
