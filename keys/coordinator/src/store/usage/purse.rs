//! Purses: what one budget still has. A key has its own; the devices of a member have one together.

use mytunnel_keys::id::Serial;
use mytunnel_keys::usage::{MICRO, Month};

use super::{MAX_TOTAL, Telling};
use crate::store::sql::{Writing, params};
use crate::store::{StoreError, column};

/// A budget in micro-cents, and what has gone of it beside what the process that tells holds for the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Purse {
    pub(super) budget: u64,
    /// By what was told.
    pub(super) spent: u64,
    /// Granted to other processes, or for other keys of the same purse, and not told yet.
    pub(super) others: u64,
}

impl Writing<'_> {
    /// What pays for a key, if there is a limit. Holds off everybody else who would lease of it, until this is through.
    pub(super) fn purse(
        &self,
        telling: &Telling,
        key: &Serial,
        month: Month,
    ) -> Result<Option<Purse>, StoreError> {
        match self.sharing(key)? {
            Some(account) => self.shared_purse(telling, key, &account, month),
            None => self.own_purse(telling, key, month),
        }
    }

    fn own_purse(&self, telling: &Telling, key: &Serial, month: Month) -> Result<Option<Purse>, StoreError> {
        self.change("UPDATE budgets SET told = told WHERE serial = $1", params![key.as_bytes()])?;
        let budget: Option<Option<u64>> =
            self.first("SELECT cents FROM budgets WHERE serial = $1", params![key.as_bytes()], column::only)?;
        let Some(cents) = budget.flatten() else { return Ok(None) };
        let spent = self.first(
            "SELECT spent FROM spend WHERE serial = $1 AND month = $2",
            params![key.as_bytes(), month.number()],
            column::only,
        )?;
        let others = self.one(
            "SELECT CAST(coalesce(sum(held), 0) AS BIGINT) FROM leases WHERE serial = $1 AND incarnation <> $2",
            params![key.as_bytes(), telling.incarnation],
            column::only,
        )?;
        Ok(Some(Purse { budget: cents.saturating_mul(MICRO), spent: spent.unwrap_or(0), others }))
    }

    fn shared_purse(
        &self,
        telling: &Telling,
        key: &Serial,
        account: &str,
        month: Month,
    ) -> Result<Option<Purse>, StoreError> {
        self.change("UPDATE account_budgets SET cents = cents WHERE account = $1", params![account])?;
        let Some(cents) = self.account_budget(account)? else { return Ok(None) };
        let others = self.one(
            "SELECT CAST(coalesce(sum(held), 0) AS BIGINT) FROM leases
             WHERE account = $1 AND (serial <> $2 OR incarnation <> $3)",
            params![account, key.as_bytes(), telling.incarnation],
            column::only,
        )?;
        let spent = self.account_spent(account, month)?;
        Ok(Some(Purse { budget: cents.saturating_mul(MICRO), spent, others }))
    }

    /// Charges a key's month, and that of the account whose device it is.
    pub(super) fn spend(&self, key: &Serial, month: Month, cost: u64) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO spend (serial, month, spent) VALUES ($1, $2, $3)
             ON CONFLICT (serial, month) DO UPDATE
             SET spent = CASE WHEN spend.spent + excluded.spent > $4 THEN $4 ELSE spend.spent + excluded.spent END",
            params![key.as_bytes(), month.number(), cost.min(MAX_TOTAL), MAX_TOTAL],
        )?;
        self.change(
            "INSERT INTO account_spend (account, month, spent)
             SELECT account, $1, $2 FROM keys WHERE serial = $3 AND account IS NOT NULL
             ON CONFLICT (account, month) DO UPDATE
             SET spent = CASE WHEN account_spend.spent + excluded.spent > $4 THEN $4
                              ELSE account_spend.spent + excluded.spent END",
            params![month.number(), cost.min(MAX_TOTAL), key.as_bytes(), MAX_TOTAL],
        )?;
        Ok(())
    }

    /// Takes back what was charged.
    pub(super) fn unspend(&self, key: &Serial, month: u32, cost: u64) -> Result<(), StoreError> {
        self.change(
            "UPDATE spend SET spent = CASE WHEN spent > $1 THEN spent - $1 ELSE 0 END
             WHERE serial = $2 AND month = $3",
            params![cost, key.as_bytes(), month],
        )?;
        self.change(
            "UPDATE account_spend SET spent = CASE WHEN spent > $1 THEN spent - $1 ELSE 0 END
             WHERE account = (SELECT account FROM keys WHERE serial = $2) AND month = $3",
            params![cost, key.as_bytes(), month],
        )?;
        Ok(())
    }
}
