//! What goes on on one relayed connection, whichever end of the conversation we are.

use std::time::Instant;

use libp2p::PeerId;
use mytunnel_carrier::stream::Opener;
use mytunnel_keys::wire::direct::Candidate;

use super::{
    answering::Answering,
    asking::{Asking, Command, Outcome},
    candidates::Reason,
    talk::Talk,
};

/// A connection that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// It is a direct path to a peer.
    Direct(Reason),
    /// It belongs to this module, or is of no use; nobody else is to hear of it.
    Ours,
    /// It leads through a relay.
    Relayed,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: PeerId,
    pub(super) opener: Opener,
    pub(super) role: Role,
    pub(super) talk: Option<Talk>,
    /// What both ends have offered last.
    pub(super) ours: Vec<Candidate>,
    pub(super) theirs: Vec<Candidate>,
    /// Why it is not direct, as was told last.
    pub(super) told: &'static str,
}

#[derive(Debug)]
pub(super) enum Role {
    Asks(Asking),
    Answers(Answering),
}

impl Role {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::Asks(asking) => asking.next_timeout(),
            Self::Answers(answering) => answering.next_timeout(),
        }
    }

    pub(super) fn next_command(&mut self) -> Option<Command> {
        match self {
            Self::Asks(asking) => asking.next_command(),
            Self::Answers(answering) => answering.next_command(),
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Asks(asking) => asking.outcome(),
            Self::Answers(answering) => answering.outcome(),
        }
    }

    pub(super) fn is_gathering(&self) -> bool {
        match self {
            Self::Asks(asking) => asking.is_gathering(),
            Self::Answers(answering) => answering.is_gathering(),
        }
    }

    pub(super) fn on_gathered(&mut self, now: Instant) {
        match self {
            Self::Asks(asking) => asking.on_gathered(now),
            Self::Answers(answering) => answering.on_gathered(),
        }
    }

    /// A direct path stands, which the node that reaches the share is glad of.
    pub(super) fn on_direct(&mut self) {
        if let Self::Asks(asking) = self {
            asking.on_direct();
        }
    }
}
