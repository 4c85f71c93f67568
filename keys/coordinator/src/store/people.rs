//! People of a tenant: listed, given a role, removed; their passwords.

use mytunnel_keys::id::{Serial, TenantId};

use super::makers::MadeBy;
use super::revoke::Revoked;
use super::sessions::of_session;
use super::sql::{Reading, Row, Writing, params};
use super::{Account, FeedSigner, KeyRow, Store, StoreError, column};
use crate::audit::{Act, Party};
use crate::authority::{self, Refusal, Role};

/// Accounts in one answer.
const PAGE: u64 = 1000;

/// An account as owners see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountRow {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) role: Role,
    pub(crate) created_at: u64,
    pub(crate) second_factor: bool,
    pub(crate) last_login_at: Option<u64>,
}

impl Store {
    /// Accounts of a tenant.
    pub(crate) async fn accounts(&self, tenant: TenantId) -> Result<Vec<AccountRow>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.all(
                    "SELECT id, email, role, created_at, totp_secret IS NOT NULL, last_login_at FROM accounts
                     WHERE tenant = $1 AND deleted_at IS NULL ORDER BY created_at, id LIMIT $2",
                    params![tenant.as_str(), PAGE],
                    account_row,
                )
            })
            .await
    }

    /// Gives an account of a tenant another role; answers it with the change that relays must have applied.
    pub(crate) async fn set_role(
        &self,
        tenant: TenantId,
        id: String,
        role: Role,
        actor: Party,
        now: u64,
    ) -> Result<Result<(AccountRow, u64), Refusal>, StoreError> {
        self.publishing(move |writing, signer| {
            let Some((account, owners)) = writing.account_in(&tenant, &id)? else {
                return Ok(Err(Refusal::not_found("account")));
            };
            if let Err(refusal) = authority::may_change_role(account.role, role, owners) {
                return Ok(Err(refusal));
            }
            if account.role != role {
                writing.change(
                    "UPDATE accounts SET role = $1 WHERE id = $2",
                    params![role.name(), account.id],
                )?;
                writing.share_budgets(signer, &account.id, role, now)?;
                let detail = role.name().to_owned();
                writing.audit(&of_session(&account, Act::AccountRole, actor, detail, now))?;
            }
            let row = writing.one(
                "SELECT id, email, role, created_at, totp_secret IS NOT NULL, last_login_at FROM accounts
                 WHERE id = $1",
                params![account.id],
                account_row,
            )?;
            Ok(Ok((row, writing.head()?.feed.epoch)))
        })
        .await
    }

    /// Deletes an account of a tenant: its sessions end, and its devices are revoked with what they minted; the master keys
    /// that it made too, if `masters`.
    pub(crate) async fn delete_account(
        &self,
        tenant: TenantId,
        id: String,
        masters: bool,
        actor: Party,
        now: u64,
    ) -> Result<Result<Revoked, Refusal>, StoreError> {
        self.publishing(move |writing, signer| {
            writing.delete_account(signer, &tenant, &id, masters, &actor, now)
        })
        .await
    }

    /// Sets a password where it still is the old one, and ends every other session; says whether it was.
    pub(crate) async fn change_password(
        &self,
        account: Account,
        new: String,
        keep: String,
        now: u64,
    ) -> Result<bool, StoreError> {
        self.engine
            .write(move |writing| {
                let changed = writing.change(
                    "UPDATE accounts SET password = $1, password_at = $2
                     WHERE id = $3 AND password = $4 AND deleted_at IS NULL",
                    params![new, now, account.id, account.password],
                )?;
                if changed > 0 {
                    writing.end_other_sessions(&account.id, Some(&keep))?;
                    let actor = Party::Account(account.email.clone());
                    writing.audit(&of_session(&account, Act::PasswordChange, actor, String::new(), now))?;
                }
                Ok(changed > 0)
            })
            .await
    }

    /// Sets a password by a link that was made at that time, ends every session and unlinks other providers. A link that is older than the
    /// password, because it was used or another way was found, is void.
    pub(crate) async fn reset_password(
        &self,
        email: String,
        made_at: u64,
        new: String,
        actor: Party,
        now: u64,
    ) -> Result<bool, StoreError> {
        self.engine
            .write(move |writing| {
                let Some(account) = writing.account_by_email(&email)? else { return Ok(false) };
                let changed = writing.change(
                    "UPDATE accounts SET password = $1, password_at = $2 WHERE id = $3 AND password_at < $4",
                    params![new, now, account.id, made_at],
                )?;
                if changed > 0 {
                    writing.end_other_sessions(&account.id, None)?;
                    writing.forget_identities(&account.id)?;
                    writing.audit(&of_session(&account, Act::PasswordReset, actor, String::new(), now))?;
                }
                Ok(changed > 0)
            })
            .await
    }
}

impl Writing<'_> {
    /// Unlinks every other way in: whoever had the account for a moment may have linked one of their own.
    fn forget_identities(&self, account: &str) -> Result<(), StoreError> {
        self.change("DELETE FROM sign_in_codes WHERE account = $1", params![account])?;
        self.change("DELETE FROM identities WHERE account = $1", params![account]).map(drop)
    }

    fn delete_account(
        &self,
        signer: &FeedSigner,
        tenant: &TenantId,
        id: &str,
        masters: bool,
        actor: &Party,
        now: u64,
    ) -> Result<Result<Revoked, Refusal>, StoreError> {
        let Some((account, owners)) = self.account_in(tenant, id)? else {
            return Ok(Err(Refusal::not_found("account")));
        };
        if let Err(refusal) = authority::may_leave(account.role, owners) {
            return Ok(Err(refusal));
        }
        let (mut devices, mut children, mut changes) = (0, 0, Vec::new());
        for device in self.devices_of(&account.id)? {
            let reckoning = self.mark_revoked(&device, true, actor.clone(), now)?;
            devices += reckoning.masters;
            children += reckoning.children;
            changes.extend(reckoning.change.filter(|_| reckoning.news));
        }
        let made = self.end_masters(MadeBy::Account(&account.id), masters, actor, now)?;
        children += made.children;
        changes.extend(made.changes);
        if !changes.is_empty() {
            self.publish(signer, changes, now)?;
        }
        self.end_other_sessions(&account.id, None)?;
        self.forget_identities(&account.id)?;
        self.change("DELETE FROM recovery_codes WHERE account = $1", params![account.id])?;
        self.change(
            "UPDATE accounts SET email = id, password = '', totp_secret = NULL, deleted_at = $1 WHERE id = $2",
            params![now, account.id],
        )?;
        let detail = format!("with {devices} devices and {children} children");
        self.audit(&of_session(&account, Act::AccountDelete, actor.clone(), detail, now))?;
        Ok(Ok(Revoked { left: made.left, ..self.revoked(devices + made.masters, children, None)? }))
    }
}

impl Reading<'_> {
    /// An account of the tenant, and how many owners that has.
    fn account_in(&self, tenant: &TenantId, id: &str) -> Result<Option<(Account, u64)>, StoreError> {
        let Some(account) = self.account_by_id(id)?.filter(|account| account.tenant == *tenant) else {
            return Ok(None);
        };
        let owners = self.one(
            "SELECT count(*) FROM accounts WHERE tenant = $1 AND role = 'owner' AND deleted_at IS NULL",
            params![tenant.as_str()],
            column::only,
        )?;
        Ok(Some((account, owners)))
    }

    fn devices_of(&self, account: &str) -> Result<Vec<KeyRow>, StoreError> {
        let serials: Vec<Serial> = self.all(
            "SELECT serial FROM keys WHERE account = $1 AND cascaded_at IS NULL",
            params![account],
            |row| column::serial(row, 0),
        )?;
        let rows = serials.iter().map(|serial| self.key(serial));
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

fn account_row(row: &Row<'_>) -> Result<AccountRow, StoreError> {
    Ok(AccountRow {
        id: row.get(0)?,
        email: row.get(1)?,
        role: column::parsed(row, 2)?,
        created_at: row.get(3)?,
        second_factor: row.get(4)?,
        last_login_at: row.get(5)?,
    })
}
