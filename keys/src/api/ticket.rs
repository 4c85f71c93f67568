//! Tickets: one private share for somebody without an account.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::MintAnswer;
use crate::id::{ProjectId, PublicKey, TunnelName};

/// `POST /tickets`, signed by a master key or a device. The ticket's secret is made by the caller and stays with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTicket {
    /// [`TicketSecret::digest`](crate::secret::TicketSecret::digest).
    #[serde(with = "crate::bytes")]
    pub digest: [u8; 32],
    /// The private share that it is for.
    pub name: TunnelName,
    /// The project. A device must name one; a master key has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// Seconds in which it has to be used: 60 to 86400.
    pub within: u64,
    /// Seconds that the guest's key lives from then on: 60 to 86400.
    pub ttl: u64,
}

/// A ticket. Never its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// By which it is withdrawn.
    pub id: String,
    /// The private share that it is for.
    pub name: TunnelName,
    /// The project.
    pub project: ProjectId,
    /// Nonce of the key that made it, and whose child the guest's key becomes.
    pub parent: String,
    /// When it was made.
    pub created_at: u64,
    /// When it can be used no longer.
    pub expires_at: u64,
    /// Seconds that the guest's key lives once it is used.
    pub ttl: u64,
    /// Nonce of the guest's key, once it is used.
    pub used_by: Option<String>,
    /// It was not used, and whoever made it may let nobody in at this moment: the key was revoked, or the project deleted.
    #[serde(default)]
    pub void: bool,
}

/// Answer of `GET /tickets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tickets {
    /// Those that are open, or were a short while ago.
    pub tickets: Vec<Ticket>,
}

/// `POST /tickets/redeem`, which needs no credential. The guest's pair is made by the guest.
#[derive(Clone, Serialize, Deserialize)]
pub struct RedeemTicket {
    /// The ticket's text.
    pub ticket: String,
    /// The guest's public key; the same key again, while the ticket can be used, gives the same answer.
    pub public_key: PublicKey,
}

impl fmt::Debug for RedeemTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedeemTicket").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

/// Answer to [`RedeemTicket`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketRedeemed {
    /// The guest's key.
    #[serde(flatten)]
    pub key: MintAnswer,
    /// What it reaches.
    pub name: TunnelName,
    /// Whose ticket it was: the address of a person, or the name of a device or a project.
    pub from: String,
}
