//! Relays, the audit log, and what a program must know before it can ask anything.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::{Cluster, ProjectId, PublicKey},
    token::ServerUrl,
    trust::RootFingerprint,
};

/// Answer of `GET /bootstrap`, which needs no credential. The reader checks `trust` against the root that its token
/// names, or that it already knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The base domain.
    pub cluster: Cluster,
    /// The trust bundle.
    #[serde(with = "crate::bytes")]
    pub trust: Vec<u8>,
    /// Relays that are connected.
    pub relays: Vec<RelayAddress>,
    /// Where visitors reach tunnels without TLS, as `host:port` or `:port`.
    pub http: Option<String>,
    /// Where visitors reach tunnels with TLS.
    pub https: Option<String>,
}

/// Answer of `GET /console`, which needs no credential: what the coordinator's own pages put into a master key and into
/// the commands that they show. Whoever holds a key has all of it from that key, and believes nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    /// The base domain.
    pub cluster: Cluster,
    /// Where people and keys reach the coordinator, as `mytunnel login` takes it.
    pub url: ServerUrl,
    /// Fingerprint of the root key.
    pub root: RootFingerprint,
    /// Nobody can sign in before the first owner is made with the setup code.
    pub lacks_owner: bool,
}

/// Where nodes reach a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayAddress {
    /// The relay.
    pub peer_id: PublicKey,
    /// Multiaddresses, the best first.
    pub addrs: Vec<String>,
}

/// `POST /relay/join`.
#[derive(Clone, Serialize, Deserialize)]
pub struct RelayJoin {
    /// The relay's public key.
    pub public_key: PublicKey,
    /// The one-time secret of the join token.
    #[serde(with = "crate::bytes")]
    pub secret: [u8; 32],
}

impl fmt::Debug for RelayJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayJoin").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

/// Answer to [`RelayJoin`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayJoined {
    /// The relay's certificate.
    #[serde(with = "crate::bytes")]
    pub certificate: Vec<u8>,
    /// The trust bundle.
    #[serde(with = "crate::bytes")]
    pub trust: Vec<u8>,
}

/// Answer of `POST /relays/join-tokens`.
#[derive(Clone, Serialize, Deserialize)]
pub struct JoinToken {
    /// The text of the token, shown once.
    pub token: String,
    /// When it ends.
    pub expires_at: u64,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// A relay as its operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayRow {
    /// The relay.
    pub id: PublicKey,
    /// Multiaddresses.
    pub addrs: Vec<String>,
    /// Whether it follows the feed.
    pub connected: bool,
    /// The last epoch that it confirmed.
    pub epoch: u64,
}

/// Answer of `GET /relays`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relays {
    /// Every relay of the cluster.
    pub relays: Vec<RelayRow>,
}

/// One act in the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Number in the log.
    pub seq: u64,
    /// When.
    pub at: u64,
    /// Who: an address of an account, or a kind of key and its nonce.
    pub actor: String,
    /// What, as `key.minted`.
    pub act: String,
    /// On what.
    pub subject: String,
    /// In which project.
    pub project: Option<ProjectId>,
    /// Hex of the chained hash of this entry.
    pub hash: String,
}

/// Body of `POST /audit/verify`: what the log ended with at some times, as somebody else kept it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditWitness {
    /// Hashes of entries, in hex; a relay keeps them in its `audit-witness` file.
    pub heads: Vec<String>,
}

/// Answer of `GET /audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLog {
    /// Entries, the newest first.
    pub entries: Vec<AuditEntry>,
    /// Hash of the newest entry of the whole log.
    pub head: String,
}
