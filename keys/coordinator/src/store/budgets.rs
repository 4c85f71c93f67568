//! What keys may cost: set by their owners, or given to a child at its birth.

use mytunnel_keys::feed::Change;
use mytunnel_keys::id::Serial;
use mytunnel_keys::usage::Month;

use super::sql::{Reading, Writing, params};
use super::{FeedSigner, KeyRow, Store, StoreError, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, Refusal, Role};

/// A budget that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BudgetSet {
    pub(crate) serial: Serial,
    /// The change that relays must have applied for it to be true everywhere.
    pub(crate) epoch: u64,
}

impl Store {
    /// Sets what the key with that nonce may cost in a month; none for no limit, 0 to freeze it.
    pub(crate) async fn set_budget(
        &self,
        caller: Caller,
        nonce: String,
        cents: Option<u64>,
        now: u64,
    ) -> Result<Result<BudgetSet, Refusal>, StoreError> {
        self.publishing(move |writing, signer| writing.set_budget(signer, &caller, &nonce, cents, now)).await
    }

    /// What all devices of the account have cost in a month, if they have one budget and the key is one of them.
    pub(crate) async fn shared_spend(&self, key: &KeyRow, month: Month) -> Result<Option<u64>, StoreError> {
        let Some(account) = shared_by(key).filter(|_| key.budget_cents.is_some()) else { return Ok(None) };
        let account = account.to_owned();
        let spent = self.engine.read(move |reading| reading.account_spent(&account, month)).await?;
        Ok(Some(spent))
    }
}

impl Writing<'_> {
    fn set_budget(
        &self,
        signer: &FeedSigner,
        caller: &Caller,
        nonce: &str,
        cents: Option<u64>,
        now: u64,
    ) -> Result<Result<BudgetSet, Refusal>, StoreError> {
        let Some(key) = self.key_by_nonce(nonce)? else { return Ok(Err(Refusal::not_found("key"))) };
        if let Err(refusal) = authority::may_set_budget(caller, &key) {
            return Ok(Err(refusal));
        }
        let detail = cents.map_or_else(|| "no limit".to_owned(), |cents| format!("{cents} cents a month"));
        let changed = match shared_by(&key) {
            Some(account) if self.account_budget(account)? == cents => None,
            Some(account) => {
                self.set_account_budget(signer, account, cents, now)?;
                Some(format!("{detail} for the account's devices together"))
            }
            None if key.budget_cents == cents => None,
            None => {
                let change = self.tell_budget(&key.serial, cents)?;
                self.publish(signer, vec![change], now)?;
                Some(detail)
            }
        };
        if let Some(detail) = changed {
            self.audit(&Entry {
                at: now,
                tenant: Some(key.tenant.clone()),
                actor: caller.party(),
                act: Act::KeyBudget,
                subject: Party::Key(key.kind, key.serial),
                project: key.project.clone(),
                detail,
            })?;
        }
        Ok(Ok(BudgetSet { serial: key.serial, epoch: self.head()?.feed.epoch }))
    }

    /// Sets what a member's devices may cost together, and tells it of each that stands, or whose children may.
    pub(super) fn set_account_budget(
        &self,
        signer: &FeedSigner,
        account: &str,
        cents: Option<u64>,
        now: u64,
    ) -> Result<(), StoreError> {
        match cents {
            Some(cents) => self.change(
                "INSERT INTO account_budgets (account, cents) VALUES ($1, $2)
                 ON CONFLICT (account) DO UPDATE SET cents = excluded.cents",
                params![account, cents],
            )?,
            None => self.forget_account_budget(account)?,
        };
        let devices = self.all(
            "SELECT serial FROM keys WHERE account = $1 AND not_after > $2
               AND (revoked_at IS NULL OR (revoked_at > $3 AND cascaded_at IS NULL))",
            params![account, now, now.saturating_sub(authority::TREE_LIFE)],
            |row| column::serial(row, 0),
        )?;
        let changes = devices.iter().map(|device| self.tell_budget(device, cents));
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        if !changes.is_empty() {
            self.publish(signer, changes, now)?;
        }
        Ok(())
    }

    pub(super) fn forget_account_budget(&self, account: &str) -> Result<usize, StoreError> {
        self.change("DELETE FROM account_budgets WHERE account = $1", params![account])
    }

    /// Keeps what a key may cost; what relays are to be told is for the caller to publish.
    pub(super) fn tell_budget(&self, serial: &Serial, cents: Option<u64>) -> Result<Change, StoreError> {
        self.change(
            "INSERT INTO budgets (serial, cents, told) VALUES ($1, $2, 1)
             ON CONFLICT (serial) DO UPDATE SET cents = excluded.cents, told = 1",
            params![serial.as_bytes(), cents],
        )?;
        Ok(Change::Budget { serial: *serial, standing: authority::standing_of(cents) })
    }

    /// Gives a new child its budget.
    pub(super) fn add_budget(&self, serial: &Serial, cents: u64) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO budgets (serial, cents, told) VALUES ($1, $2, 0)",
            params![serial.as_bytes(), cents],
        )?;
        Ok(())
    }
}

impl Reading<'_> {
    /// What the devices of an account may cost together, in cents.
    pub(super) fn account_budget(&self, account: &str) -> Result<Option<u64>, StoreError> {
        self.first("SELECT cents FROM account_budgets WHERE account = $1", params![account], column::only)
    }

    pub(super) fn account_spent(&self, account: &str, month: Month) -> Result<u64, StoreError> {
        let spent = self.first(
            "SELECT spent FROM account_spend WHERE account = $1 AND month = $2",
            params![account, month.number()],
            column::only,
        )?;
        Ok(spent.unwrap_or(0))
    }

    /// The account whose devices pay together for that key, if it is one of them.
    pub(super) fn sharing(&self, serial: &Serial) -> Result<Option<String>, StoreError> {
        let found: Option<(String, Role)> = self.first(
            "SELECT k.account, a.role FROM keys k JOIN accounts a ON a.id = k.account WHERE k.serial = $1",
            params![serial.as_bytes()],
            |row| Ok((row.get(0)?, column::parsed(row, 1)?)),
        )?;
        Ok(found.filter(|(_, role)| authority::shares_budget(*role)).map(|(account, _)| account))
    }
}

/// The account whose devices have one budget together, if the key is one of them.
fn shared_by(key: &KeyRow) -> Option<&str> {
    key.account.as_deref().filter(|_| key.role.is_some_and(authority::shares_budget))
}

/// How keys stand that an owner has given a budget, or taken it away from, while they may be used, or what they minted may.
pub(super) fn in_force(reading: &Reading<'_>, now: u64) -> Result<Vec<Change>, StoreError> {
    reading.all(
        "SELECT b.serial, b.cents FROM budgets b JOIN keys k ON k.serial = b.serial
         WHERE b.told = 1 AND coalesce(k.not_after, $1) >= $1
           AND (k.revoked_at IS NULL OR (k.revoked_at > $2 AND k.cascaded_at IS NULL))",
        params![now, now.saturating_sub(authority::TREE_LIFE)],
        |row| {
            let standing = authority::standing_of(row.get(1)?);
            Ok(Change::Budget { serial: column::serial(row, 0)?, standing })
        },
    )
}
