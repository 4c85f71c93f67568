//! What keys may cost: set by their owners, or given to a child at its birth.

use mytunnel_keys::feed::Change;
use mytunnel_keys::id::Serial;

use super::sql::{Reading, Writing, params};
use super::{FeedSigner, Store, StoreError, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, Refusal};

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
        if key.budget_cents != cents {
            self.change(
                "INSERT INTO budgets (serial, cents, told) VALUES ($1, $2, 1)
                 ON CONFLICT (serial) DO UPDATE SET cents = excluded.cents, told = 1",
                params![key.serial.as_bytes(), cents],
            )?;
            let standing = authority::standing_of(cents);
            self.publish(signer, vec![Change::Budget { serial: key.serial, standing }], now)?;
            self.audit(&Entry {
                at: now,
                tenant: Some(key.tenant.clone()),
                actor: caller.party(),
                act: Act::KeyBudget,
                subject: Party::Key(key.kind, key.serial),
                project: key.project.clone(),
                detail: cents.map_or_else(|| "no limit".to_owned(), |cents| format!("{cents} cents a month")),
            })?;
        }
        Ok(Ok(BudgetSet { serial: key.serial, epoch: self.head()?.feed.epoch }))
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

/// How keys stand that an owner has given a budget, or taken it away from, while they may be used.
pub(super) fn in_force(reading: &Reading<'_>, now: u64) -> Result<Vec<Change>, StoreError> {
    reading.all(
        "SELECT b.serial, b.cents FROM budgets b JOIN keys k ON k.serial = b.serial
         WHERE b.told = 1 AND k.revoked_at IS NULL AND coalesce(k.not_after, $1) >= $1",
        params![now],
        |row| {
            let standing = authority::standing_of(row.get(1)?);
            Ok(Change::Budget { serial: column::serial(row, 0)?, standing })
        },
    )
}
