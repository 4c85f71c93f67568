//! Projects and keys.

use serde::{Deserialize, Serialize};

use crate::{
    id::{NamePattern, ProjectId, PublicKey, Scopes, Serial},
    token::TokenKind,
};

/// `POST /projects`. The master key's pair is made by the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewProject {
    /// What people call it.
    pub name: String,
    /// Public key of its master key.
    pub master: PublicKey,
}

/// Answer to [`NewProject`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectCreated {
    /// The project.
    #[serde(flatten)]
    pub project: Project,
    /// Serial of the master key.
    pub serial: Serial,
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: u64,
}

/// Answer of `GET /projects`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Projects {
    /// The tenant's projects.
    pub projects: Vec<Project>,
}

/// `POST /mint`, signed by a master key or a device: asks for a child of it. What is left out is as wide as the signer
/// allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mint {
    /// The child's public key; the same key again gives the same child.
    pub public_key: PublicKey,
    /// Seconds the child lives: 60 to 86400.
    pub ttl: u64,
    /// The project. A device must name one; a master key has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// Only these scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// Only names of these patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<NamePattern>,
    /// Only so many cents a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_cents: Option<u64>,
    /// The secret stays on this machine.
    #[serde(default)]
    pub bound: bool,
    /// The live child whose tunnels this one takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Serial>,
}

/// Answer to [`Mint`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MintAnswer {
    /// Serial of the child.
    pub serial: Serial,
    /// Its project.
    pub project: ProjectId,
    /// Its certificate.
    #[serde(with = "crate::bytes")]
    pub certificate: Vec<u8>,
    /// When it ends.
    pub expires_at: u64,
}

/// One key. Never a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// [`Serial::nonce`].
    pub nonce: String,
    /// What kind of key.
    pub kind: TokenKind,
    /// What people call it: a device's or a project's name.
    #[serde(default)]
    pub name: String,
    /// Nonce of the key that minted it.
    pub parent: Option<String>,
    /// Its project; none for a person's key.
    pub project: Option<ProjectId>,
    /// What it may do; empty for a master key, which only mints and revokes.
    pub scopes: Scopes,
    /// Names that it may use; empty means every name.
    #[serde(default)]
    pub hosts: Vec<NamePattern>,
    /// When it was made.
    pub created_at: u64,
    /// When it ends; none for a master key.
    pub expires_at: Option<u64>,
    /// When it was revoked.
    pub revoked_at: Option<u64>,
    /// Tunnels that it serves at this moment.
    pub live_tunnels: u32,
    /// Cents it may cost a month.
    pub budget_cents: Option<u64>,
    /// Cents it has cost this month.
    pub spent_cents: u64,
    /// Cents that all devices of its account have cost this month, where the budget is theirs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_spent_cents: Option<u64>,
    /// Who made it; of a master key, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<MadeBy>,
}

/// Who made a master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    /// Address of the account; none if that was deleted.
    pub account: Option<String>,
    /// Nonce of its device; none if it was done in a browser.
    pub device: Option<String>,
}

/// Answer of `GET /tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Keys of the tenant.
    pub keys: Vec<TokenRow>,
}

/// Answer of `DELETE /tokens/{nonce}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeAnswer {
    /// Master and user keys that were revoked by this call.
    pub revoked_masters: u64,
    /// Child keys that were revoked by this call.
    pub revoked_children: u64,
    /// What each relay did.
    pub relays: Vec<RelayApplied>,
    /// Master keys that the revoked device, or the removed account, has made and that stand on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masters_left: Vec<MasterLeft>,
}

/// A master key that outlives whoever made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterLeft {
    /// [`Serial::nonce`].
    pub nonce: String,
    /// Its project.
    pub project: ProjectId,
    /// What the project is called.
    pub name: String,
    /// When it was made.
    pub created_at: u64,
}

/// Whether a relay has confirmed a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayApplied {
    /// The relay.
    pub id: PublicKey,
    /// Whether it confirmed in time. One that did not ends by itself what it serves.
    pub applied: bool,
    /// Milliseconds until it confirmed.
    pub ms: Option<u64>,
}
