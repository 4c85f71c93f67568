//! Devices of people: signed in, and listed.

use mytunnel_keys::id::{ProjectId, PublicKey, Serial, TenantId};

use super::filter::Text;
use super::sql::{Reading, ToValue as _, Writing, params};
use super::{FeedSigner, KeyKind, KeyRow, Store, StoreError, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Refusal, Role};

/// Devices in one answer.
const PAGE: u64 = 1000;

/// A device to be signed in.
#[derive(Debug)]
pub(crate) struct NewDevice {
    pub(crate) serial: Serial,
    pub(crate) subject: PublicKey,
    pub(crate) tenant: TenantId,
    /// Only this project, or all of the tenant's.
    pub(crate) project: Option<ProjectId>,
    /// Account id; none for the person at this machine.
    pub(crate) account: Option<String>,
    pub(crate) actor: Party,
    pub(crate) label: String,
    pub(crate) not_after: u64,
    /// When whoever signs it in had proved who they are.
    pub(crate) proven_at: Option<u64>,
}

/// A device that was signed in.
#[derive(Debug)]
pub(crate) struct DeviceAdded {
    pub(crate) key: KeyRow,
    /// The change that relays must have applied for its budget to hold, if it has one.
    pub(crate) epoch: Option<u64>,
}

/// A device that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceRow {
    pub(crate) serial: Serial,
    pub(crate) label: String,
    pub(crate) email: Option<String>,
    pub(crate) issued_at: u64,
    pub(crate) not_after: Option<u64>,
}

impl Store {
    /// Signs a device in. The same key of the same account gets a new life instead of a second row.
    pub(crate) async fn add_device(
        &self,
        device: NewDevice,
        now: u64,
    ) -> Result<Result<DeviceAdded, Refusal>, StoreError> {
        self.publishing(move |writing, signer| writing.add_device(signer, device, now)).await
    }

    /// Devices of a tenant that stand, or of one account of it.
    pub(crate) async fn devices(
        &self,
        tenant: TenantId,
        account: Option<String>,
        now: u64,
    ) -> Result<Vec<DeviceRow>, StoreError> {
        self.engine
            .read(move |reading| {
                let text = devices(&tenant, account.as_deref(), now);
                reading.all(text.sql(), text.params(), |row| {
                    Ok(DeviceRow {
                        serial: column::serial(row, 0)?,
                        label: row.get(1)?,
                        email: row.get(2)?,
                        issued_at: row.get(3)?,
                        not_after: row.get(4)?,
                    })
                })
            })
            .await
    }
}

impl Writing<'_> {
    fn add_device(
        &self,
        signer: &FeedSigner,
        device: NewDevice,
        now: u64,
    ) -> Result<Result<DeviceAdded, Refusal>, StoreError> {
        let there = self.key_of(&device.subject)?;
        let mut shared = None;
        if let Some(id) = &device.account {
            // It may have been deleted since the request was admitted.
            let Some(account) = self.account_by_id(id)? else {
                return Ok(Err(Refusal::not_found("account")));
            };
            let others = self.standing_devices(id, there.as_ref().map(|key| &key.serial), now)?;
            if let Err(refusal) = authority::may_add_device(others) {
                return Ok(Err(refusal));
            }
            shared = authority::shares_budget(account.role).then_some(account.id);
        }
        let mut row = match there {
            Some(there) => {
                let renewed = authority::may_renew_device(&there, device.account.as_deref(), &device.tenant);
                if let Err(refusal) = renewed {
                    return Ok(Err(refusal));
                }
                self.change(
                    "UPDATE keys SET issued_at = $1, not_after = $2, label = $3, proven_at = $4 WHERE serial = $5",
                    params![now, device.not_after, device.label, device.proven_at, there.serial.as_bytes()],
                )?;
                KeyRow { issued_at: now, not_after: Some(device.not_after), label: device.label, ..there }
            }
            None => {
                let row = authority::device(&device, now);
                self.add_key(&row)?;
                row
            }
        };
        let before = row.budget_cents;
        if let Some(account) = shared {
            row.budget_cents = self.account_budget(&account)?;
        }
        // One that had expired is in no relay's snapshot.
        let told = before.is_some() || row.budget_cents.is_some();
        if told {
            let change = self.tell_budget(&row.serial, row.budget_cents)?;
            self.publish(signer, vec![change], now)?;
        }
        self.audit(&Entry {
            at: now,
            tenant: Some(row.tenant.clone()),
            actor: device.actor,
            act: Act::DeviceAdd,
            subject: Party::Key(KeyKind::User, row.serial),
            project: row.project.clone(),
            detail: row.budget_cents.map(|cents| format!("{cents} cents a month")).unwrap_or_default(),
        })?;
        let epoch = if told { Some(self.head()?.feed.epoch) } else { None };
        Ok(Ok(DeviceAdded { key: row, epoch }))
    }

    /// Somebody is a member from here on: their devices share the narrowest budget that one of them has. Who is an owner
    /// again keeps on each device what they shared.
    pub(super) fn share_budgets(
        &self,
        signer: &FeedSigner,
        account: &str,
        role: Role,
        now: u64,
    ) -> Result<(), StoreError> {
        if !authority::shares_budget(role) {
            return self.forget_account_budget(account).map(drop);
        }
        let budgets: Vec<Option<u64>> = self.all(
            "SELECT b.cents FROM keys k JOIN budgets b ON b.serial = k.serial
             WHERE k.account = $1 AND k.revoked_at IS NULL AND k.not_after > $2",
            params![account, now],
            column::only,
        )?;
        match authority::narrowest_budget(budgets) {
            Some(cents) => self.set_account_budget(signer, account, Some(cents), now),
            None => Ok(()),
        }
    }
}

impl Reading<'_> {
    /// Devices of an account that stand, but for one.
    fn standing_devices(&self, account: &str, but: Option<&Serial>, now: u64) -> Result<u64, StoreError> {
        self.one(
            "SELECT count(*) FROM keys
             WHERE account = $1 AND revoked_at IS NULL AND not_after > $2 AND serial <> $3",
            params![account, now, but.map(|serial| serial.as_bytes().to_vec()).unwrap_or_default()],
            column::only,
        )
    }
}

/// Devices that stand, by the account or in the order in which they were made.
pub(super) fn devices(tenant: &TenantId, account: Option<&str>, now: u64) -> Text {
    Text::new(
        "SELECT k.serial, k.label, a.email, k.issued_at, k.not_after
         FROM keys k LEFT JOIN accounts a ON a.id = k.account
         WHERE k.kind = 'user' AND k.tenant = ? AND k.revoked_at IS NULL AND k.not_after > ?",
        params![tenant.as_str(), now],
    )
    .and_if(" AND k.account = ?", account.map(|account| account.to_value()))
    .and(" ORDER BY k.issued_at, k.serial LIMIT ?", params![PAGE])
}
