//! Domains of a tenant's own that lead to its tunnels.

use serde::{Deserialize, Serialize};

use super::RelayApplied;
use crate::id::{DomainName, ProjectId, TunnelId, TunnelKind, TunnelName};

/// `POST /domains`. The tunnel is named by its id, or by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDomain {
    /// The domain as somebody writes it; Unicode and capital letters are put into the form of the DNS.
    pub domain: String,
    /// Id of the tunnel that it is to lead to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelId>,
    /// Or its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<TunnelName>,
    /// The project that it must belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
}

/// Whether a domain leads to its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainState {
    /// Its tenant has to show first that it is theirs.
    Pending,
    /// It does.
    Verified,
}

/// A record to be made in the DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    /// `TXT` or `CNAME`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name, without a dot at the end.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What it is for, in words.
    pub purpose: String,
}

/// A domain of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// The domain, in the form of the DNS; it is its id in the paths of this API.
    pub domain: DomainName,
    /// The tunnel.
    pub tunnel: TunnelId,
    /// The tunnel's name.
    pub name: TunnelName,
    /// The tunnel's project.
    pub project: ProjectId,
    /// What the tunnel carries, or did when it was last up: of one of kind `tls` the relay has no certificate for the domain.
    #[serde(default)]
    pub kind: Option<TunnelKind>,
    /// Whether it leads there.
    pub state: DomainState,
    /// When it was added, in Unix seconds.
    pub created_at: u64,
    /// Since when it is shown to be the tenant's.
    pub verified_at: Option<u64>,
    /// When its TXT record was looked for last.
    pub checked_at: Option<u64>,
    /// Since when that record is missing, of one that is verified: it leads nowhere after three days.
    pub missing_since: Option<u64>,
    /// Since when its name server does not answer, of a domain that leads to its tunnel. Unix second.
    #[serde(default)]
    pub unknown_since: Option<u64>,
    /// What has to stand in the DNS.
    pub records: Vec<DnsRecord>,
}

/// Answer of `GET /domains`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domains {
    /// All of the tenant.
    pub domains: Vec<Domain>,
}

/// Answer of `POST /domains` and `POST /domains/{domain}/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainAnswer {
    /// The domain as it stands.
    #[serde(flatten)]
    pub domain: Domain,
    /// Why it is not verified, in words, where it was looked for.
    pub missing: Option<String>,
    /// What each relay did; none where nothing has changed.
    pub relays: Vec<RelayApplied>,
}

/// Answer of `DELETE /domains/{domain}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainRemoved {
    /// The domain.
    pub domain: DomainName,
    /// What each relay did; none where it led nowhere.
    pub relays: Vec<RelayApplied>,
}
