//! What keys may cost, what they have cost, and what relays tell of it.

use std::collections::{BTreeMap, HashMap};

use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{ProjectId, Serial};
use mytunnel_keys::usage::{MAX_COUNTS, MICRO, Month, Tell, Told, Usage};

use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, MAX_BUDGET, Refusal};
use crate::delegation::Nonce;
use crate::http::ApiError;
use crate::shared::Shared;
use crate::store::{KeyRow, StoreError, Totals, UsageFilter};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// Hours are folded into days when they are so old, in seconds.
const HOURS_KEPT: u64 = 35 * DAY;
/// What was leased to a relay is charged when it has not come back for so long, beyond the end of the lease: by then it
/// serves nothing any more.
const SILENT: u64 = 900;
/// Spans in one answer.
const MAX_SPANS: u64 = 10_000;

/// Which use to show.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub(crate) struct UsageQuery {
    pub(crate) project: Option<ProjectId>,
    pub(crate) key: Option<Nonce>,
    /// Unix seconds; the beginning of the month if it is left out.
    pub(crate) from: Option<u64>,
    /// Unix seconds; the present if it is left out.
    pub(crate) to: Option<u64>,
    #[serde(default)]
    pub(crate) by: Span,
}

/// What one point of the picture stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Span {
    Hour,
    #[default]
    Day,
    Month,
}

impl Span {
    /// When the span begins that this time is in.
    fn start(self, at: u64) -> u64 {
        match self {
            Self::Hour => at - at % HOUR,
            Self::Day => at - at % DAY,
            Self::Month => Month::of(at).start(),
        }
    }
}

impl Shared {
    /// The month that counts at this moment.
    pub(crate) fn month(&self) -> Month {
        Month::of(self.clock.now())
    }

    /// Takes what a relay tells, and grants it leases.
    pub(crate) async fn take_usage(&self, relay: &KeyRow, tell: Tell) -> Result<Told, ApiError> {
        if tell.counts.len() > MAX_COUNTS || tell.wants.len() > MAX_COUNTS {
            return Err(ApiError::bad_request(format!("at most {MAX_COUNTS} counts and wants at a time")));
        }
        let relays = self.followers.connected().max(1) as u64;
        let now = self.clock.now();
        let told = self.store.take_usage(relay.serial, tell, self.prices(), relays, now).await?;
        if !told.refused.is_empty() && self.is_stray(relay, now) {
            tracing::warn!(relay = %relay.subject, "a relay tells of the use of keys that it has not served");
            let party = Party::Key(relay.kind, relay.serial);
            self.note_refusal(Entry {
                at: now,
                tenant: Some(self.home.clone()),
                actor: party.clone(),
                act: Act::UsageRefused,
                subject: party,
                project: None,
                detail: format!("use of {} keys that it has not served", told.refused.len()),
            })
            .await;
        }
        Ok(told)
    }

    pub(crate) async fn tidy_usage(&self, now: u64) -> Result<(), StoreError> {
        self.store.tidy_usage(now.saturating_sub(SILENT), now.saturating_sub(HOURS_KEPT), now).await
    }

    /// Sets what a key may cost in a month, and waits until the relays act by it.
    pub(crate) async fn set_budget(
        &self,
        caller: Caller,
        nonce: Nonce,
        asked: api::SetBudget,
    ) -> Result<api::BudgetAnswer, ApiError> {
        let cents = cents(&asked)?;
        let now = self.clock.now();
        // A freeze is never put off.
        if cents != Some(0) {
            self.may_change(caller.tenant(), now)?;
        }
        match self.store.set_budget(caller.clone(), nonce.as_str().to_owned(), cents, now).await? {
            Ok(set) => {
                self.note_change(caller.tenant(), now);
                let relays = self.confirm(set.epoch).await?;
                let token = self.token(authority::reach_of_keys(&caller)?, set.serial).await?;
                Ok(api::BudgetAnswer { token, relays })
            }
            Err(refusal) => {
                let party = caller.party();
                self.note_refused_act(&caller, Act::BudgetRefused, party, &refusal).await;
                Err(refusal.into())
            }
        }
    }

    /// What was used, over time and by key, of what the caller may see.
    pub(crate) async fn usage(
        &self,
        caller: &Caller,
        query: UsageQuery,
    ) -> Result<api::UsageAnswer, ApiError> {
        let reach = authority::reach_of_keys(caller)?;
        let now = self.clock.now();
        let (from, to) = window(&query, now)?;
        let key = match &query.key {
            Some(nonce) => {
                let found = self.store.key_by_nonce(nonce.as_str().to_owned()).await?;
                Some(found.ok_or_else(|| Refusal::not_found("key"))?.serial)
            }
            None => None,
        };
        let project = authority::narrowed(reach.project, query.project)?;
        let filter = UsageFilter { tenant: reach.tenant, project, family: reach.family, key, from, to };
        let totals = self.store.usage(filter).await?;
        let keys = self.usage_keys(&totals).await?;
        Ok(api::UsageAnswer {
            currency: "USD".to_owned(),
            month: Month::of(now),
            total_cents: in_cents(
                totals.spans.iter().fold(0, |sum: i64, (.., cost)| sum.saturating_add(*cost)),
            ),
            points: points(&totals, query.by),
            keys,
        })
    }

    /// Each key with what it has cost, a parent with its children.
    async fn usage_keys(&self, totals: &Totals) -> Result<Vec<api::UsageKey>, ApiError> {
        let mut rows = Vec::new();
        for (serial, used, cost) in merged(totals) {
            let Some(key) = self.store.key(serial).await? else { continue };
            let shared = self.store.shared_spend(&key, self.month()).await?;
            rows.push(api::UsageKey {
                nonce: serial.nonce(),
                name: key.label,
                parent: key.parent.map(|parent| parent.nonce()),
                project: key.project,
                usage: used,
                cents: in_cents(cost),
                budget_cents: key.budget_cents,
                shared_cents: shared.map(|cost| in_cents(cost.cast_signed())),
            });
        }
        Ok(rows)
    }
}

/// The budget that a request names: 0 to the largest, or none.
fn cents(asked: &api::SetBudget) -> Result<Option<u64>, ApiError> {
    let Some(named) = asked.monthly_budget_usd_cents else {
        return Err(ApiError::Unprocessable(
            "monthlyBudgetUsdCents is missing: give a number of cents, or null for no limit",
        ));
    };
    let Some(cents) = named else { return Ok(None) };
    let within = u64::try_from(cents).ok().filter(|cents| *cents <= MAX_BUDGET);
    within.map(Some).ok_or_else(|| {
        ApiError::bad_request(format!("monthlyBudgetUsdCents: a budget is 0 to {MAX_BUDGET} cents, or null"))
    })
}

fn window(query: &UsageQuery, now: u64) -> Result<(u64, u64), ApiError> {
    let from = query.from.unwrap_or_else(|| Month::of(now).start());
    let to = query.to.unwrap_or(now + 1);
    let length = match query.by {
        Span::Hour => HOUR,
        Span::Day => DAY,
        Span::Month => 28 * DAY,
    };
    if from >= to || (to.min(now + DAY) - from.min(now)) / length > MAX_SPANS {
        return Err(ApiError::refused(
            Code::BadRequest,
            "from and to: this is no stretch of time, or too long a one",
        ));
    }
    Ok((query.by.start(from), to))
}

/// Spans as they were asked for, made of those that are kept.
fn points(totals: &Totals, by: Span) -> Vec<api::UsagePoint> {
    let mut points: BTreeMap<u64, (Usage, i64)> = BTreeMap::new();
    for (at, used, cost) in &totals.spans {
        let point = points.entry(by.start(*at)).or_default();
        *point = (point.0.plus(*used), point.1.saturating_add(*cost));
    }
    let point = |(at, (usage, cost))| api::UsagePoint { at, usage, cents: in_cents(cost) };
    points.into_iter().map(point).collect()
}

/// Keys by what they have cost, the dearest first: what a key has used itself, and a parent also what its children have.
fn merged(totals: &Totals) -> Vec<(Serial, Usage, i64)> {
    let mut keys: HashMap<Serial, (Usage, i64)> =
        totals.keys.iter().map(|(serial, used, cost)| (*serial, (*used, *cost))).collect();
    // What a parent pays for has its own use in it.
    keys.extend(totals.payers.iter().map(|(serial, used, cost)| (*serial, (*used, *cost))));
    let mut keys: Vec<_> = keys.into_iter().map(|(serial, (used, cost))| (serial, used, cost)).collect();
    keys.sort_by_key(|(serial, _, cost)| (std::cmp::Reverse(*cost), *serial));
    keys
}

/// Cents with their fractions, for people to read.
#[expect(clippy::cast_precision_loss, reason = "whole micro-cents are exact up to $90 million")]
fn in_cents(micro: i64) -> f64 {
    micro as f64 / MICRO as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_named_or_taken_away_and_never_forgotten() {
        let read = |text: &str| serde_json::from_str::<api::SetBudget>(text);
        let of = |text: &str| cents(&read(text).unwrap()).map_err(|error| error.to_string());
        assert_eq!(of(r#"{"monthlyBudgetUsdCents": 5000}"#), Ok(Some(5000)));
        assert_eq!(of(r#"{"monthlyBudgetUsdCents": 0}"#), Ok(Some(0)));
        assert_eq!(of(r#"{"monthlyBudgetUsdCents": 1000000000}"#), Ok(Some(MAX_BUDGET)));
        assert_eq!(of(r#"{"monthlyBudgetUsdCents": null}"#), Ok(None));
        assert!(of("{}").unwrap_err().contains("missing"));
        assert!(of(r#"{"other": 1}"#).unwrap_err().contains("missing"));
        assert!(of(r#"{"monthlyBudgetUsdCents": 1000000001}"#).is_err());
        assert!(of(r#"{"monthlyBudgetUsdCents": -1}"#).is_err());
        for bad in ["1.5", "\"5\"", "true", "[]", "1e30", "5, \"monthlyBudgetUsdCents\": null"] {
            assert!(read(&format!(r#"{{"monthlyBudgetUsdCents": {bad}}}"#)).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_put_together_as_asked_for() {
        let start = Month::of(1_800_000_000).start();
        let used = |requests| Usage { requests, ..Usage::default() };
        let spans =
            vec![(start, used(1), 500_000), (start + HOUR, used(2), 250_000), (start + DAY, used(4), 1)];
        let totals = Totals { spans, ..Totals::default() };
        let shape = |by| {
            let points = points(&totals, by);
            points
                .iter()
                .map(|point| (point.at - start, point.usage.requests, point.cents))
                .collect::<Vec<_>>()
        };
        assert_eq!(shape(Span::Hour), [(0, 1, 0.5), (HOUR, 2, 0.25), (DAY, 4, 0.000_001)]);
        assert_eq!(shape(Span::Day), [(0, 3, 0.75), (DAY, 4, 0.000_001)]);
        assert_eq!(shape(Span::Month), [(0, 7, 0.750_001)]);
    }
}
