//! The audit log's rows. Only an operation that acts can write one, in its own transaction.

use std::collections::HashSet;

use mytunnel_keys::id::{ProjectId, TenantId};

use super::filter::Text;
use super::sql::{self, Reading, ToValue as _, Writing, params};
use super::{KeyKind, Store, StoreError, column};
use crate::audit::{Chain, Entry, Row};
use crate::delegation::Nonce;

/// Rows checked in one go.
const PAGE: u64 = 2000;

/// Which rows of the log to show.
#[derive(Debug, Clone)]
pub(crate) struct AuditFilter {
    /// Rows of this tenant.
    pub(crate) tenant: TenantId,
    /// And the rows that belong to no tenant (relays, refused strangers).
    pub(crate) system: bool,
    /// Rows whose actor or subject is the key with this nonce.
    pub(crate) key: Option<Nonce>,
    pub(crate) project: Option<ProjectId>,
    /// Not before this time.
    pub(crate) since: Option<u64>,
    /// Not after this time.
    pub(crate) until: Option<u64>,
    /// Rows before this number only.
    pub(crate) before: Option<u64>,
    pub(crate) limit: u64,
}

impl Writing<'_> {
    /// Appends a row, chained to the last one.
    pub(super) fn audit(&self, entry: &Entry) -> Result<(), StoreError> {
        let last = self.head()?;
        let row = Row::after(last.audit_seq + 1, &last.audit_hash, entry);
        self.change(
            "INSERT INTO audit (seq, at, tenant, actor, act, subject, project, detail, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            params![
                row.seq,
                row.at,
                row.tenant,
                row.actor,
                row.act,
                row.subject,
                row.project,
                row.detail,
                row.hash
            ],
        )?;
        self.change(
            "UPDATE head SET audit_seq = $1, audit_hash = $2 WHERE one = 1",
            params![row.seq, row.hash],
        )?;
        Ok(())
    }
}

impl Reading<'_> {
    pub(super) fn audit_rows_after(&self, seq: u64) -> Result<Vec<Row>, StoreError> {
        self.all(
            "SELECT seq, at, tenant, actor, act, subject, project, detail, hash FROM audit
             WHERE seq > $1 ORDER BY seq LIMIT $2",
            params![seq, PAGE],
            row,
        )
    }
}

impl Store {
    /// Writes a row for an act that changes nothing else, such as a refusal.
    pub(crate) async fn note(&self, entry: Entry) -> Result<(), StoreError> {
        self.engine.write(move |writing| writing.audit(&entry)).await
    }

    /// Rows that fit, the newest first.
    pub(crate) async fn audit(&self, filter: AuditFilter) -> Result<Vec<Row>, StoreError> {
        self.engine.read(move |reading| reading.audit_rows(&filter)).await
    }

    /// What was done in rows behind `first` up to `last`, of this tenant or of none.
    pub(crate) async fn acts_between(
        &self,
        first: u64,
        last: u64,
        tenant: TenantId,
    ) -> Result<Vec<String>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.all(
                    "SELECT DISTINCT act FROM audit
                     WHERE seq > $1 AND seq <= $2 AND (tenant = $3 OR tenant IS NULL)",
                    params![first, last, tenant.as_str()],
                    column::only,
                )
            })
            .await
    }

    /// Follows the whole chain, compares its end with the head, and looks for heads that were seen elsewhere.
    pub(crate) async fn verify_audit(&self, witnessed: HashSet<[u8; 32]>) -> Result<Followed, StoreError> {
        let (mut chain, mut missing) = (Chain::START, witnessed);
        loop {
            // Page by page, so that other readers get their turn.
            let (rows, head) = self
                .engine
                .read(move |reading| {
                    Ok::<_, StoreError>((reading.audit_rows_after(chain.seq)?, reading.head()?))
                })
                .await?;
            if rows.is_empty() {
                let whole = chain == Chain { seq: head.audit_seq, hash: head.audit_hash };
                let broken_at = (!whole).then_some(chain.seq + 1);
                return Ok(Followed { chain, broken_at, missing });
            }
            for row in &rows {
                if !chain.accept(row) {
                    return Ok(Followed { chain, broken_at: Some(row.seq), missing });
                }
                missing.remove(&row.hash);
            }
        }
    }
}

/// What came of following the chain.
#[derive(Debug)]
pub(crate) struct Followed {
    /// How far it holds.
    pub(crate) chain: Chain,
    /// The first row that does not.
    pub(crate) broken_at: Option<u64>,
    /// Heads that were seen elsewhere and are not in it.
    pub(crate) missing: HashSet<[u8; 32]>,
}

impl Reading<'_> {
    fn audit_rows(&self, filter: &AuditFilter) -> Result<Vec<Row>, StoreError> {
        let mut found = Vec::new();
        for text in listing(filter) {
            found.extend(self.all(text.sql(), text.params(), row)?);
        }
        found.sort_by_key(|row| std::cmp::Reverse(row.seq));
        // A key may have acted on itself.
        found.dedup_by_key(|row| row.seq);
        found.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
        Ok(found)
    }
}

/// Texts that find what a filter asks for, each with an index of its own: a page of each, of which the first is the page
/// of all.
pub(super) fn listing(filter: &AuditFilter) -> Vec<Text> {
    let tenant = || filter.tenant.as_str().to_value();
    let own = |text: Text| {
        let or_none = if filter.system { " AND (tenant = ? OR tenant IS NULL)" } else { " AND tenant = ?" };
        text.and(or_none, &[tenant()])
    };
    let mut texts = Vec::new();
    if let Some(nonce) = &filter.key {
        for kind in [KeyKind::User, KeyKind::Master, KeyKind::Child, KeyKind::Relay] {
            let party = format!("{}:{}", kind.name(), nonce.as_str());
            for which in ["actor = ?", "subject = ?"] {
                let text = own(Text::new(START, &[]).and(which, params![party]));
                let project = filter.project.as_ref().map(|project| project.as_str().to_value());
                texts.push(text.and_if(" AND project = ?", project));
            }
        }
    } else if let Some(project) = &filter.project {
        texts.push(own(Text::new(START, &[]).and("project = ?", params![project.as_str()])));
    } else {
        texts.push(Text::new(START, &[]).and("tenant = ?", &[tenant()]));
        if filter.system {
            texts.push(Text::new(START, &[]).and("tenant IS NULL", &[]));
        }
    }
    let narrowed = |text: Text| {
        text.and_if(" AND at >= ?", filter.since.map(|at| at.to_value()))
            .and_if(" AND at <= ?", filter.until.map(|at| at.to_value()))
            .and_if(" AND seq < ?", filter.before.map(|seq| seq.to_value()))
            .and(" ORDER BY seq DESC LIMIT ?", params![filter.limit])
    };
    texts.into_iter().map(narrowed).collect()
}

const START: &str = "SELECT seq, at, tenant, actor, act, subject, project, detail, hash FROM audit WHERE ";

fn row(row: &sql::Row<'_>) -> Result<Row, StoreError> {
    Ok(Row {
        seq: row.get(0)?,
        at: row.get(1)?,
        tenant: row.get(2)?,
        actor: row.get(3)?,
        act: row.get(4)?,
        subject: row.get(5)?,
        project: row.get(6)?,
        detail: row.get(7)?,
        hash: row.get(8)?,
    })
}
