//! Budgets and usage.

use serde::{Deserialize, Deserializer, Serialize};

use super::{RelayApplied, TokenRow};
use crate::{
    id::ProjectId,
    usage::{Month, Usage},
};

/// `PUT /tokens/{nonce}/budget`. The member must be there: one that was left out would lift a limit by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetBudget {
    /// Cents that the key may cost in a month; 0 freezes it, null lifts the limit. None if it was left out.
    #[serde(
        rename = "monthlyBudgetUsdCents",
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub monthly_budget_usd_cents: Option<Option<i64>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Answer to [`SetBudget`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetAnswer {
    /// The key as it is now.
    #[serde(flatten)]
    pub token: TokenRow,
    /// What each relay did.
    pub relays: Vec<RelayApplied>,
}

/// Answer of `GET /usage`. Cents have fractions here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageAnswer {
    /// Of all amounts: `USD`.
    pub currency: String,
    /// The present month, UTC.
    pub month: Month,
    /// What all of it has cost.
    pub total_cents: f64,
    /// Over time. Spans in which nothing was used are left out.
    pub points: Vec<UsagePoint>,
    /// By key, the dearest first; a parent has what its children used in its own.
    pub keys: Vec<UsageKey>,
}

/// What was used in one span of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsagePoint {
    /// When it begins.
    pub at: u64,
    /// What was used.
    #[serde(flatten)]
    pub usage: Usage,
    /// What it has cost.
    pub cents: f64,
}

/// What one key has used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageKey {
    /// The key.
    pub nonce: String,
    /// What people call it.
    pub name: String,
    /// Nonce of the key that minted it.
    pub parent: Option<String>,
    /// Its project.
    pub project: Option<ProjectId>,
    /// What was used.
    #[serde(flatten)]
    pub usage: Usage,
    /// What it has cost.
    pub cents: f64,
    /// Cents that it may cost in a month.
    pub budget_cents: Option<u64>,
    /// Cents that all devices of its account have cost in this month, where the budget is theirs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_cents: Option<f64>,
}
