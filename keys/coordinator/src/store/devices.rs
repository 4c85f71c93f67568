//! Devices of people: signed in, and listed.

use mytunnel_keys::feed::Change;
use mytunnel_keys::id::{ProjectId, PublicKey, Serial, TenantId};
use mytunnel_keys::usage::Month;

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
    ) -> Result<Result<KeyRow, Refusal>, StoreError> {
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
    ) -> Result<Result<KeyRow, Refusal>, StoreError> {
        let there = self.key_of(&device.subject)?;
        let mut heirs_to = None;
        if let Some(id) = &device.account {
            // It may have been deleted since the request was admitted.
            let Some(account) = self.account_by_id(id)? else {
                return Ok(Err(Refusal::not_found("account")));
            };
            let others = self.standing_devices(id, there.as_ref().map(|key| &key.serial), now)?;
            if let Err(refusal) = authority::may_add_device(others) {
                return Ok(Err(refusal));
            }
            // Owners set budgets; whoever can lift one does not flee from it.
            heirs_to = (account.role == Role::Member).then_some(account.id);
        }
        let row = match there {
            Some(there) => {
                let renewed = authority::may_renew_device(&there, device.account.as_deref(), &device.tenant);
                if let Err(refusal) = renewed {
                    return Ok(Err(refusal));
                }
                self.change(
                    "UPDATE keys SET issued_at = $1, not_after = $2, label = $3 WHERE serial = $4",
                    params![now, device.not_after, device.label, there.serial.as_bytes()],
                )?;
                KeyRow { issued_at: now, not_after: Some(device.not_after), label: device.label, ..there }
            }
            None => {
                let mut row = authority::device(&device, now);
                self.add_key(&row)?;
                if let Some(account) = heirs_to {
                    row.budget_cents = self.inherit_budget(signer, &row.serial, &account, now)?;
                }
                row
            }
        };
        self.audit(&Entry {
            at: now,
            tenant: Some(row.tenant.clone()),
            actor: device.actor,
            act: Act::DeviceAdd,
            subject: Party::Key(KeyKind::User, row.serial),
            project: row.project.clone(),
            detail: row.budget_cents.map(|cents| format!("{cents} cents a month")).unwrap_or_default(),
        })?;
        Ok(Ok(row))
    }

    /// Gives a new device the narrowest budget of its account's devices, with as much of it gone in this month as of theirs.
    fn inherit_budget(
        &self,
        signer: &FeedSigner,
        serial: &Serial,
        account: &str,
        now: u64,
    ) -> Result<Option<u64>, StoreError> {
        let month = Month::of(now).number();
        let earlier: Vec<(Option<u64>, Option<u64>)> = self.all(
            "SELECT b.cents, s.spent FROM keys k JOIN budgets b ON b.serial = k.serial
                 LEFT JOIN spend s ON s.serial = k.serial AND s.month = $1
             WHERE k.account = $2 AND b.cents IS NOT NULL",
            params![month, account],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let Some(cents) = authority::inherited_budget(earlier.iter().map(|(cents, _)| *cents)) else {
            return Ok(None);
        };
        self.change(
            "INSERT INTO budgets (serial, cents, told) VALUES ($1, $2, 1)",
            params![serial.as_bytes(), cents],
        )?;
        let spent = earlier.iter().filter_map(|(_, spent)| *spent).max();
        self.change(
            "INSERT INTO spend (serial, month, spent) VALUES ($1, $2, $3)",
            params![serial.as_bytes(), month, spent.unwrap_or(0)],
        )?;
        let standing = authority::standing_of(Some(cents));
        self.publish(signer, vec![Change::Budget { serial: *serial, standing }], now)?;
        Ok(Some(cents))
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
