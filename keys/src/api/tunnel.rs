//! Tunnels, their gates, and the plan that allows gates.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RelayApplied;
use crate::id::{ProjectId, TenantId, TunnelId, TunnelKind, TunnelName};

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelRow {
    /// Its id.
    pub id: TunnelId,
    /// Its name.
    pub name: TunnelName,
    /// Its project.
    pub project: ProjectId,
    /// What it carries.
    pub kind: TunnelKind,
    /// Where visitors reach it.
    pub url: Option<String>,
    /// Whether a node serves it at this moment.
    pub online: bool,
    /// Names of its gates: `basic`, `oidc`.
    pub gates: Vec<String>,
}

/// Answer of `GET /tunnels`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnels {
    /// Tunnels of the tenant.
    pub tunnels: Vec<TunnelRow>,
    /// What to give as `after` for the page behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Answer of `GET /tunnels/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// What listings say of it.
    #[serde(flatten)]
    pub row: TunnelRow,
    /// Its password gate.
    pub auth: Option<Auth>,
    /// Its sign-in gate.
    pub edge_auth: Option<EdgeAuth>,
}

/// A password gate. Never the password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// The user's name.
    pub user: String,
}

/// A sign-in gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeAuth {
    /// Who vouches for visitors.
    pub provider: String,
    /// Domains of addresses that may enter.
    pub allowed_domains: Vec<String>,
    /// Addresses that may enter. With neither, everybody who can sign in.
    pub allowed_emails: Vec<String>,
}

/// `PUT /tunnels/{id}/auth`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAuth {
    /// 1 to 64 characters without a colon.
    pub user: String,
    /// 8 characters at least.
    pub password: String,
    /// For a tunnel that was never open: what its id is made of. The name is that project's from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<NewTunnel>,
}

/// A tunnel that its caller is about to open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTunnel {
    /// Its project.
    pub project: ProjectId,
    /// Its name.
    pub name: TunnelName,
}

impl fmt::Debug for SetAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetAuth").finish_non_exhaustive()
    }
}

/// `PUT /tunnels/{id}/edge-auth`. A list that is left out or misspelt would let everybody in, so that all must be
/// there and nothing else may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetEdgeAuth {
    /// `google`.
    pub provider: String,
    /// At most 100.
    pub allowed_domains: Vec<String>,
    /// At most 100.
    pub allowed_emails: Vec<String>,
}

/// Answer of `PUT` and `DELETE /tunnels/{id}/auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthAnswer {
    /// The tunnel.
    pub id: TunnelId,
    /// Whether it asks for a password.
    pub auth_enabled: bool,
    /// What each relay did.
    pub relays: Vec<RelayApplied>,
}

/// Answer of `PUT` and `DELETE /tunnels/{id}/edge-auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeAuthAnswer {
    /// The tunnel.
    pub id: TunnelId,
    /// Whether it asks for a sign-in.
    pub edge_auth_enabled: bool,
    /// What each relay did.
    pub relays: Vec<RelayApplied>,
}

/// Answer of `DELETE /tunnels/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelClosed {
    /// The tunnel.
    pub id: TunnelId,
    /// What each relay did.
    pub relays: Vec<RelayApplied>,
}

/// What a tenant has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanName {
    /// Everything.
    Pro,
    /// Everything until a date.
    Trial,
    /// No password gates.
    Free,
}

/// Answer of `GET /tenant` and `PUT /tenant/plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its plan.
    pub plan: PlanName,
    /// When its trial ends or has ended.
    pub trial_ends_at: Option<u64>,
}

/// `PUT /tenant/plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPlan {
    /// The plan.
    pub plan: PlanName,
    /// For a trial, and for nothing else: when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_ends_at: Option<u64>,
}
