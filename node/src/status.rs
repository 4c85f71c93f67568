//! What a node is up to, at one moment.

use std::time::Duration;

use mytunnel_keys::id::{TunnelId, TunnelKind, TunnelName};

use crate::{
    carrier::Carrier,
    direct::nat::Nat,
    share::{Closed, Path},
};

/// A snapshot; see [`crate::Node::status`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The relay; of two, the one that is preferred and reached.
    pub relay: RelayStatus,
    /// Every share, in the order of their making.
    pub tunnels: Vec<TunnelStatus>,
    /// Other nodes with which a private share is open: who reaches ours, and whose we reach.
    pub peers: Vec<PeerStatus>,
    /// Pipes that are open, those in reserve included.
    pub pipes: usize,
    /// What kind of router there is, where that is looked at ([`crate::Config::look_at_nat`]) and known.
    pub nat: Option<Nat>,
}

impl Status {
    /// Of a node at two relays: the first that is reached is the one that is shown, and what either carries is up.
    pub(crate) fn of_both(first: &Self, second: &Self) -> Self {
        let shown = if first.relay.connected { first } else { second };
        let tunnels = first.tunnels.iter().map(|tunnel| {
            let other = second.tunnels.iter().find(|other| other.name == tunnel.name);
            other.filter(|other| other.online && !tunnel.online).unwrap_or(tunnel).clone()
        });
        Self {
            relay: shown.relay.clone(),
            tunnels: tunnels.collect(),
            peers: first.peers.iter().chain(&second.peers).cloned().collect(),
            pipes: first.pipes + second.pipes,
            nat: first.nat.or(second.nat),
        }
    }
}

/// How the node is connected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStatus {
    /// Whether a session stands.
    pub connected: bool,
    /// The relay's peer id, while connected.
    pub peer: Option<String>,
    /// The address it was reached at, while connected.
    pub address: Option<String>,
    /// What carries the connection, while connected.
    pub carrier: Option<Carrier>,
    /// Round trip, once it is known.
    pub rtt: Option<Duration>,
    /// What came of the last try to reach it, while it is not connected.
    pub trouble: Option<String>,
    /// Why it lets this node in no more, for good.
    pub refused: Option<Closed>,
    /// Seconds by which the relay's clock was ahead of ours when it welcomed us last.
    pub clock_offset: i64,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Its peer id.
    pub id: String,
    /// How it is connected.
    pub path: Path,
    /// Round trip, once it is known.
    pub rtt: Option<Duration>,
    /// Why this path.
    pub reason: String,
    /// Paths that stand, this one among them.
    pub paths: usize,
}

/// One share.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelStatus {
    /// Its id, once it was registered.
    pub id: Option<TunnelId>,
    /// The public name.
    pub name: TunnelName,
    /// What it carries.
    pub kind: TunnelKind,
    /// Where it leads, as a person would write it.
    pub target: String,
    /// Where visitors reach it, once it was registered.
    pub urls: Vec<String>,
    /// Whether visitors reach it.
    pub online: bool,
    /// How their traffic comes in.
    pub path: Path,
    /// When the credential ends, in Unix seconds, once it is known.
    pub expires_at: Option<u64>,
    /// Nodes that serve the name, this one among them.
    pub backends: u16,
}
