//! Use over time.

#[cfg(test)]
mod tests;

use mytunnel_keys::id::{ProjectId, Serial, TenantId};
use mytunnel_keys::usage::Usage;

use super::{HOUR, MAX_TOTAL, User};
use crate::store::feed::STEP;
use crate::store::filter::Text;
use crate::store::sql::{Row, ToValue as _, Writing, params};
use crate::store::{Store, StoreError, column};

/// Length of a span of the picture when it is old, in seconds.
const DAY: u64 = 86_400;
/// Keys in one answer.
const KEYS: u64 = 1000;

/// Which use to show.
#[derive(Debug, Clone)]
pub(crate) struct UsageFilter {
    pub(crate) tenant: TenantId,
    pub(crate) project: Option<ProjectId>,
    /// This key and its children only.
    pub(crate) family: Option<Serial>,
    /// Narrowed further: this key and its children only.
    pub(crate) key: Option<Serial>,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What was used in some time, and what by which key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// By the span, in order: when it begins, what was used, and micro-cents.
    pub(crate) spans: Vec<(u64, Usage, i64)>,
    /// By the key: its serial, and micro-cents of its own use. The dearest first.
    pub(crate) keys: Vec<(Serial, Usage, i64)>,
    /// By the key that minted others: micro-cents of their use.
    pub(crate) payers: Vec<(Serial, Usage, i64)>,
}

impl Store {
    /// What was used, by time and by key.
    pub(crate) async fn usage(&self, filter: UsageFilter) -> Result<Totals, StoreError> {
        self.engine
            .read(move |reading| {
                let read_key = |row: &Row<'_>| Ok((column::serial(row, 0)?, usage(row, 1)?, row.get(5)?));
                let text = summed(&filter, "at", " ORDER BY at");
                let spans = reading
                    .all(text.sql(), text.params(), |row| Ok((row.get(0)?, usage(row, 1)?, row.get(5)?)))?;
                let by = |column, rest| {
                    let text = summed(&filter, column, rest).and(" LIMIT ?", params![KEYS]);
                    reading.all(text.sql(), text.params(), read_key)
                };
                let keys = by("serial", " ORDER BY sum(cost * 1.0) DESC, serial")?;
                let payers = by("payer", " ORDER BY sum(cost * 1.0) DESC, payer")?;
                Ok(Totals { spans, keys, payers })
            })
            .await
    }
}

/// A sum that neither engine refuses, however much was told: of fractions, and at most what a total can be.
fn sum(column: &str) -> String {
    format!(
        "CAST(CASE WHEN sum({column} * 1.0) > {MAX_TOTAL} THEN {MAX_TOTAL} ELSE sum({column} * 1.0) END AS BIGINT)"
    )
}

/// What was used, summed up by a column.
pub(in crate::store) fn summed(filter: &UsageFilter, column: &str, rest: &str) -> Text {
    let UsageFilter { tenant, project, family, key, from, to } = filter;
    let sums = ["bytes_in", "bytes_out", "requests", "tunnel_seconds", "cost"].map(sum).join(", ");
    let text = Text::new("SELECT ", &[])
        .and(&format!("{column}, {sums}"), &[])
        .and(" FROM usage WHERE tenant = ? AND at >= ? AND at < ?", params![tenant.as_str(), *from, *to])
        .and_if(" AND project = ?", project.as_ref().map(|project| project.as_str().to_value()));
    let of = |text: Text, key: &Serial| {
        text.and(" AND (serial = ? OR payer = ?)", params![key.as_bytes(), key.as_bytes()])
    };
    let text = [family, key].into_iter().flatten().fold(text, of);
    text.and(" GROUP BY ", &[]).and(column, &[]).and(rest, &[])
}
impl Writing<'_> {
    /// Draws use into the picture, beside what is there.
    pub(super) fn draw(
        &self,
        serial: &Serial,
        user: &User,
        at: u64,
        used: Usage,
        cost: i64,
    ) -> Result<(), StoreError> {
        self.draw_span(
            &Drawn {
                serial: *serial,
                at,
                payer: user.parent.unwrap_or(*serial),
                tenant: user.tenant.clone(),
                project: user.project.clone(),
                used,
                cost,
            },
            HOUR,
        )
    }

    fn draw_span(&self, drawn: &Drawn, span: u64) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO usage (serial, at, span, payer, tenant, project, bytes_in, bytes_out, requests,
                                tunnel_seconds, cost)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (serial, at, span) DO UPDATE
             SET bytes_in = CASE WHEN usage.bytes_in + excluded.bytes_in > $12 THEN $12
                                 ELSE usage.bytes_in + excluded.bytes_in END,
                 bytes_out = CASE WHEN usage.bytes_out + excluded.bytes_out > $12 THEN $12
                                  ELSE usage.bytes_out + excluded.bytes_out END,
                 requests = CASE WHEN usage.requests + excluded.requests > $12 THEN $12
                                 ELSE usage.requests + excluded.requests END,
                 tunnel_seconds = CASE WHEN usage.tunnel_seconds + excluded.tunnel_seconds > $12 THEN $12
                                       ELSE usage.tunnel_seconds + excluded.tunnel_seconds END,
                 cost = CASE WHEN usage.cost + excluded.cost > $12 THEN $12
                             ELSE usage.cost + excluded.cost END",
            params![
                drawn.serial.as_bytes(),
                drawn.at,
                span,
                drawn.payer.as_bytes(),
                drawn.tenant.as_str(),
                drawn.project.as_ref().map(ProjectId::as_str),
                drawn.used.bytes_in,
                drawn.used.bytes_out,
                drawn.used.requests,
                drawn.used.tunnel_seconds,
                drawn.cost,
                MAX_TOTAL,
            ],
        )?;
        Ok(())
    }

    /// Folds hours before that time into days, some of them; answers how many.
    pub(super) fn fold_hours(&self, before: u64) -> Result<usize, StoreError> {
        let hours = self.all(
            "SELECT serial, at, payer, tenant, project, cost, bytes_in, bytes_out, requests, tunnel_seconds
             FROM usage WHERE span = $1 AND at < $2 ORDER BY at LIMIT $3",
            params![HOUR, before, STEP],
            |row| {
                Ok(Drawn {
                    serial: column::serial(row, 0)?,
                    at: row.get(1)?,
                    payer: column::serial(row, 2)?,
                    tenant: column::parsed(row, 3)?,
                    project: column::maybe_parsed(row, 4)?,
                    cost: row.get(5)?,
                    used: usage(row, 6)?,
                })
            },
        )?;
        let count = hours.len();
        for hour in hours {
            self.change(
                "DELETE FROM usage WHERE serial = $1 AND at = $2 AND span = $3",
                params![hour.serial.as_bytes(), hour.at, HOUR],
            )?;
            self.draw_span(&Drawn { at: hour.at - hour.at % DAY, ..hour }, DAY)?;
        }
        Ok(count)
    }
}

/// A row of the picture.
#[derive(Debug)]
struct Drawn {
    serial: Serial,
    at: u64,
    payer: Serial,
    tenant: TenantId,
    project: Option<ProjectId>,
    used: Usage,
    cost: i64,
}

/// Four columns from `first` on.
pub(super) fn usage(row: &Row<'_>, first: usize) -> Result<Usage, StoreError> {
    Ok(Usage {
        bytes_in: row.get(first)?,
        bytes_out: row.get(first + 1)?,
        requests: row.get(first + 2)?,
        tunnel_seconds: row.get(first + 3)?,
    })
}
