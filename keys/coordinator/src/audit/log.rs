//! Reading the log, and following its chain.

use data_encoding::HEXLOWER;
use mytunnel_keys::api;
use mytunnel_keys::id::ProjectId;

use super::Row;
use crate::authority::{self, Caller};
use crate::delegation::Nonce;
use crate::http::ApiError;
use crate::shared::Shared;
use crate::store::{AuditFilter, Followed, StoreError};

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
    /// Heads that were sent and are no row's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
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

    /// Follows the whole chain. Whoever rewrote the log from some row on, and made the chain fit again, is found by
    /// heads that relays were told before.
    pub(crate) async fn verify_audit(
        &self,
        caller: &Caller,
        witnessed: api::AuditWitness,
    ) -> Result<Verdict, ApiError> {
        self.operator(caller, "verify the audit log")?;
        let heads = witnessed.heads.iter().map(|head| head_of(head)).collect::<Result<_, _>>()?;
        let Followed { chain, broken_at, missing } = self.store.verify_audit(heads).await?;
        // In the order in which they were sent, which is that of their time.
        let missing = witnessed
            .heads
            .into_iter()
            .filter(|head| head_of(head).is_ok_and(|head| missing.contains(&head)));
        let missing: Vec<String> = missing.collect();
        let ok = broken_at.is_none() && missing.is_empty();
        Ok(Verdict { ok, entries: chain.seq, head: HEXLOWER.encode(&chain.hash), broken_at, missing })
    }
}

fn head_of(text: &str) -> Result<[u8; 32], ApiError> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| {
        ApiError::bad_request("heads: each is the hash of a row, 64 digits of hex in lower case")
    })
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
