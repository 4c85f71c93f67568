//! What the owner of private sessions and the driver of a line to a relay say to each other.
//!
//! A driver always takes orders, and never waits for its reports to be taken: they wait in its [`LineEnd`], and while too
//! many do, it does not look what else happens at its sockets. So neither waits for the other, and nothing is lost.

use std::{collections::VecDeque, future::pending, sync::Arc};

use libp2p::{
    Multiaddr, PeerId, Stream,
    swarm::{ConnectionId, dial_opts::DialOpts},
};
use mytunnel_carrier::stream::Opener;
use mytunnel_keys::{
    id::{PublicKey, Serial, TunnelName},
    trust::Trust,
    wire::Signed,
};
use tokio::sync::mpsc;

use crate::{direct::Side, serve::table::Service, state::link::Refusal};

/// Reports of all lines, and orders of one, that are under way.
pub(super) const UNDER_WAY: usize = 64;

/// Reports that wait in a driver before it leaves its sockets alone.
const MOST_WAITING: usize = 64;

/// Numbers the lines of a node, from 0.
pub(crate) type LineId = usize;

/// What happens on a line.
#[derive(Debug)]
pub(crate) enum Report {
    /// A session with the relay stands, to which this address leads.
    Online(Multiaddr),
    /// None stands. Every try says so again.
    Offline {
        attempt: u32,
        reason: String,
    },
    /// None is to be had.
    Refused(Refusal),
    /// The relay has shown a trust bundle, which may be a newer one.
    Trust(Box<Trust>),
    /// Something is shared privately under this name from now on.
    Shared(TunnelName, Arc<Service>),
    Unshared(TunnelName),
    /// The relay's answer to [`Order::Find`].
    Found {
        request: u32,
        found: Found,
    },
    /// The relay says that certificates count no longer, as [`Order::Watch`] has asked.
    Revoked(Vec<Serial>, Refusal),
    /// It does not watch these for now.
    Unwatched(Vec<Serial>),
    /// A connection stands that is not one with a relay.
    Connected(Connected),
    DialFailed {
        connection: ConnectionId,
        reason: String,
    },
    Closed(ConnectionId),
    /// Why a connection still leads through a relay.
    Why {
        connection: ConnectionId,
        why: &'static str,
    },
    /// The other end of a connection that was reported has opened a stream.
    Stream {
        connection: ConnectionId,
        subject: Subject,
        stream: Stream,
    },
}

/// What the relay says about a name.
#[derive(Debug)]
pub(crate) enum Found {
    Here(Vec<PublicKey>),
    Nowhere(Refusal),
}

/// A connection with another node.
#[derive(Debug, Clone)]
pub(crate) struct Connected {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) opener: Opener,
    /// Whether it leads through a relay.
    pub(crate) is_relayed: bool,
    /// Whether this node has dialled.
    pub(crate) is_ours: bool,
    /// Why it does, or does not.
    pub(crate) why: &'static str,
}

impl Connected {
    /// Whether somebody may be at the other end who wants to reach what this node shares. A circuit that we have dialled is no guest's: its
    /// access was given up meanwhile.
    pub(crate) fn may_be_guests(&self, shares: bool, is_known: bool) -> bool {
        if self.is_relayed { shares && !self.is_ours } else { is_known }
    }
}

/// What a stream of another node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Greeting,
    Leg,
}

/// What a line is to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Ask the relay for the name.
    Find {
        request: u32,
        name: TunnelName,
    },
    Dial(Box<DialOpts>),
    /// Have the relay say when one of these certificates counts no longer, which others have shown us.
    Watch(Vec<Signed>),
    /// They are none of our concern any more.
    Unwatch(Vec<Serial>),
    /// Look for a path past the relay: on this relayed connection both ends have shown who they are.
    Seek(Opener, Side),
    Close(ConnectionId),
}

/// The driver's end of what is said.
#[derive(Debug)]
pub(crate) struct LineEnd {
    pub(super) line: LineId,
    pub(super) reports: mpsc::Sender<(LineId, Report)>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) waiting: VecDeque<Report>,
}

impl LineEnd {
    /// Says what has happened, without waiting.
    pub(crate) fn tell(&mut self, report: Report) {
        self.waiting.push_back(report);
    }

    /// Whether so much waits that nothing more should happen.
    pub(crate) fn is_behind(&self) -> bool {
        self.waiting.len() >= MOST_WAITING
    }

    /// The next order; none when a report was taken instead. Pending for ever while there is neither. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Option<Order> {
        tokio::select! {
            biased;
            Some(order) = self.orders.recv() => Some(order),
            permit = self.reports.reserve(), if !self.waiting.is_empty() => {
                match permit {
                    Ok(permit) => if let Some(report) = self.waiting.pop_front() {
                        permit.send((self.line, report));
                    },
                    Err(_) => self.waiting.clear(),
                }
                None
            }
            else => pending().await,
        }
    }

    /// Whether there is nobody to tell any more.
    pub(crate) fn is_over(&self) -> bool {
        self.reports.is_closed()
    }
}
