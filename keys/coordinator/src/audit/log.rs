//! Reading the log, and following its chain.

use data_encoding::HEXLOWER;
use mytunnel_keys::api;
use mytunnel_keys::id::ProjectId;

use super::Row;
use crate::authority::{self, Caller};
use crate::delegation::Nonce;
use crate::http::ApiError;
use crate::shared::Shared;
use crate::store::{AuditFilter, StoreError};

/// Rows in one answer, unless the caller says another number.
const DEFAULT_PAGE: u64 = 100;
const MAX_PAGE: u64 = 1000;

/// Which rows a caller wants to see.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub(crate) struct AuditQuery {
    /// Nonce of a key.
    key: Option<Nonce>,
    project: Option<ProjectId>,
    /// Unix seconds.
    since: Option<u64>,
    until: Option<u64>,
    /// Rows with a smaller number only: the last `seq` of the page before.
    before: Option<u64>,
    limit: Option<u64>,
}

/// What came of following the chain.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Verdict {
    /// Is every row what was once written?
    ok: bool,
    /// Rows that are.
    entries: u64,
    /// Hash of the last of them, in hex.
    head: String,
    /// The first row that is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken_at: Option<u64>,
}

impl Shared {
    /// Rows of the log that the caller may see, the newest first.
    pub(crate) async fn audit(&self, caller: &Caller, query: AuditQuery) -> Result<api::AuditLog, ApiError> {
        let tenant = authority::may_administer(caller, "read the audit log")?;
        let filter = AuditFilter {
            system: tenant == self.home,
            tenant,
            key: query.key,
            project: query.project,
            since: query.since,
            until: query.until,
            before: query.before,
            limit: query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE),
        };
        let head = self.store.head().borrow().audit_hash;
        let rows = self.store.audit(filter).await?;
        Ok(api::AuditLog {
            entries: rows.into_iter().map(shown).collect::<Result<_, _>>()?,
            head: HEXLOWER.encode(&head),
        })
    }

    /// Follows the whole chain.
    pub(crate) async fn verify_audit(&self, caller: &Caller) -> Result<Verdict, ApiError> {
        self.operator(caller, "verify the audit log")?;
        let (chain, broken_at) = self.store.verify_audit().await?;
        let head = HEXLOWER.encode(&chain.hash);
        Ok(Verdict { ok: broken_at.is_none(), entries: chain.seq, head, broken_at })
    }
}

fn shown(row: Row) -> Result<api::AuditEntry, StoreError> {
    let project = row.project.map(|id| id.parse()).transpose();
    Ok(api::AuditEntry {
        seq: row.seq,
        at: row.at,
        actor: row.actor,
        act: row.act,
        subject: row.subject,
        project: project.map_err(|_| StoreError::Malformed("project id"))?,
        hash: HEXLOWER.encode(&row.hash),
    })
}
