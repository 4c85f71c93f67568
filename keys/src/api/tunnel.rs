//! Tunnels, their gates, and the plan that allows gates.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RelayApplied;
use crate::id::{ProjectId, TenantId, TunnelId, TunnelKind, TunnelName};
use crate::network::Network;

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
    /// Names of its gates: `basic`, `oidc`, `pin`, `bearer`, `ip`.
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
    /// Where visitors may come from.
    pub ip: Option<Addresses>,
    /// When it ends, in Unix seconds.
    pub expires_at: Option<u64>,
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

/// Where visitors may come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Who may come; empty for everybody who is not denied.
    pub allow: Vec<Network>,
    /// Who may not, also if allowed.
    pub deny: Vec<Network>,
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
    /// What it will carry; web sites where that is not said.
    #[serde(default = "web")]
    pub kind: TunnelKind,
}

const fn web() -> TunnelKind {
    TunnelKind::Http
}

impl fmt::Debug for SetAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetAuth").finish_non_exhaustive()
    }
}

/// `PUT /tunnels/{id}/gates/pin`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPin {
    /// 6 to 12 digits. Without it the server makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// As in [`SetAuth`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<NewTunnel>,
}

/// `PUT /tunnels/{id}/gates/bearer`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetBearer {
    /// 16 characters at least. Without it the server makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// As in [`SetAuth`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<NewTunnel>,
}

impl fmt::Debug for SetPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetPin").finish_non_exhaustive()
    }
}

impl fmt::Debug for SetBearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetBearer").finish_non_exhaustive()
    }
}

/// `PUT /tunnels/{id}/gates/ip`. A list that is left out or misspelt would let everybody in, so that both must be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAddresses {
    /// Addresses and networks that may come, at most 100; none for everybody who is not denied.
    pub allow: Vec<String>,
    /// Addresses and networks that may not, also if allowed; at most 100.
    pub deny: Vec<String>,
    /// As in [`SetAuth`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<NewTunnel>,
}

/// `PUT /tunnels/{id}/expires`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetEnd {
    /// Seconds from now: whoever asks need not have the server's clock.
    pub expires_in: u64,
    /// As in [`SetAuth`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<NewTunnel>,
}

/// A gate to be set, of any kind: the body of its route.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum SetGate {
    /// A password.
    Auth(SetAuth),
    /// A sign-in.
    EdgeAuth(SetEdgeAuth),
    /// A number.
    Pin(SetPin),
    /// A token.
    Bearer(SetBearer),
    /// Where visitors come from.
    Addresses(SetAddresses),
    /// An end.
    End(SetEnd),
}

impl SetGate {
    /// Where it is put, under `/tunnels/{id}/`.
    pub const fn path(&self) -> &'static str {
        match self {
            Self::Auth(_) => "auth",
            Self::EdgeAuth(_) => "edge-auth",
            Self::Pin(_) => "gates/pin",
            Self::Bearer(_) => "gates/bearer",
            Self::Addresses(_) => "gates/ip",
            Self::End(_) => "expires",
        }
    }

    /// The same for a tunnel that is about to be open.
    #[must_use]
    pub fn for_new(mut self, new: NewTunnel) -> Self {
        let tunnel = match &mut self {
            Self::Auth(SetAuth { tunnel, .. })
            | Self::EdgeAuth(SetEdgeAuth { tunnel, .. })
            | Self::Pin(SetPin { tunnel, .. })
            | Self::Bearer(SetBearer { tunnel, .. })
            | Self::Addresses(SetAddresses { tunnel, .. })
            | Self::End(SetEnd { tunnel, .. }) => tunnel,
        };
        *tunnel = Some(new);
        self
    }
}

/// Answer of `PUT` and `DELETE` under `/tunnels/{id}/gates/` and at `/tunnels/{id}/expires`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateAnswer {
    /// The tunnel.
    pub id: TunnelId,
    /// `pin`, `bearer`, `ip` or `expires`.
    pub gate: String,
    /// Whether it stands.
    pub enabled: bool,
    /// The number or the token, where the server made it: shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// When the tunnel ends, where that was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// What each relay did.
    pub relays: Vec<RelayApplied>,
}

impl fmt::Debug for GateAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, gate, enabled, .. } = self;
        let mut debug = f.debug_struct("GateAnswer");
        debug.field("id", id).field("gate", gate).field("enabled", enabled).finish_non_exhaustive()
    }
}

/// `PUT /tunnels/{id}/edge-auth`. A list that is left out or misspelt would let everybody in, so that all must be
/// there and nothing else may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetEdgeAuth {
    /// Who vouches for visitors, by its id at the relays.
    pub provider: String,
    /// At most 100.
    pub allowed_domains: Vec<String>,
    /// At most 100.
    pub allowed_emails: Vec<String>,
    /// As in [`SetAuth`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<NewTunnel>,
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
