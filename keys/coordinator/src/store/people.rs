//! People of a tenant: invited, listed, given a role, removed; their devices and passwords.

use mytunnel_keys::id::{Serial, TenantId};

use super::filter::Text;
use super::revoke::Revoked;
use super::sessions::of_session;
use super::sql::{Reading, Row, ToValue as _, Writing, params};
use super::{Account, FeedSigner, KeyRow, Store, StoreError, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Refusal, Role};

/// Accounts and devices in one answer.
const PAGE: u64 = 1000;

/// Somebody to be asked to join.
#[derive(Debug, Clone)]
pub(crate) struct NewInvitation {
    pub(crate) id: String,
    /// SHA-256 of the code.
    pub(crate) hash: [u8; 32],
    pub(crate) tenant: TenantId,
    pub(crate) email: String,
    pub(crate) role: Role,
    pub(crate) actor: Party,
}

/// An open invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InvitationRow {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) role: Role,
    pub(crate) created_at: u64,
    pub(crate) expires_at: u64,
}

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
    /// Asks somebody to join; an earlier invitation of the same address is void.
    pub(crate) async fn invite(
        &self,
        new: NewInvitation,
        now: u64,
    ) -> Result<Result<(), Refusal>, StoreError> {
        self.engine
            .write(move |writing| {
                writing.change("DELETE FROM invitations WHERE expires_at <= $1", params![now])?;
                let taken: u64 = writing.one(
                    "SELECT count(*) FROM accounts WHERE email = $1",
                    params![new.email],
                    column::only,
                )?;
                let open = writing.one(
                    "SELECT count(*) FROM invitations WHERE tenant = $1",
                    params![new.tenant.as_str()],
                    column::only,
                )?;
                if let Err(refusal) = authority::may_invite(taken > 0, open) {
                    return Ok(Err(refusal));
                }
                writing.change(
                    "INSERT INTO invitations (id, hash, tenant, email, role, created_at, expires_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)
                     ON CONFLICT (email) DO UPDATE SET id = excluded.id, hash = excluded.hash,
                         tenant = excluded.tenant, role = excluded.role, created_at = excluded.created_at,
                         expires_at = excluded.expires_at",
                    params![
                        new.id,
                        new.hash,
                        new.tenant.as_str(),
                        new.email,
                        new.role.name(),
                        now,
                        now + authority::INVITATION_LIFE,
                    ],
                )?;
                writing.audit(&invitation_entry(
                    &new.tenant,
                    new.email,
                    new.actor,
                    Act::InvitationCreate,
                    now,
                ))?;
                Ok(Ok(()))
            })
            .await
    }

    /// Open invitations of a tenant.
    pub(crate) async fn invitations(
        &self,
        tenant: TenantId,
        now: u64,
    ) -> Result<Vec<InvitationRow>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.all(
                    "SELECT id, email, role, created_at, expires_at FROM invitations
                     WHERE tenant = $1 AND expires_at > $2 ORDER BY created_at, id",
                    params![tenant.as_str(), now],
                    |row| {
                        Ok(InvitationRow {
                            id: row.get(0)?,
                            email: row.get(1)?,
                            role: column::parsed(row, 2)?,
                            created_at: row.get(3)?,
                            expires_at: row.get(4)?,
                        })
                    },
                )
            })
            .await
    }

    /// Takes an invitation back; says whether there was one.
    pub(crate) async fn withdraw(
        &self,
        tenant: TenantId,
        id: String,
        actor: Party,
        now: u64,
    ) -> Result<bool, StoreError> {
        self.engine
            .write(move |writing| {
                let email: Option<String> = writing.first(
                    "DELETE FROM invitations WHERE id = $1 AND tenant = $2 RETURNING email",
                    params![id, tenant.as_str()],
                    column::only,
                )?;
                let Some(email) = email else { return Ok(false) };
                writing.audit(&invitation_entry(&tenant, email, actor, Act::InvitationDelete, now))?;
                Ok(true)
            })
            .await
    }

    /// The address that a code was made for, if it is open.
    pub(crate) async fn invited(&self, code: [u8; 32], now: u64) -> Result<Option<String>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.first(
                    "SELECT email FROM invitations WHERE hash = $1 AND expires_at > $2",
                    params![code, now],
                    column::only,
                )
            })
            .await
    }

    /// Makes the account that an invitation is for; the invitation is used up by that. None if it is not open.
    pub(crate) async fn join(
        &self,
        code: [u8; 32],
        id: String,
        password: String,
        now: u64,
    ) -> Result<Option<Account>, StoreError> {
        self.engine
            .write(move |writing| {
                let found = writing.first(
                    "DELETE FROM invitations WHERE hash = $1 AND expires_at > $2 RETURNING tenant, email, role",
                    params![code, now],
                    |row| {
                        let tenant: TenantId = column::parsed(row, 0)?;
                        Ok((tenant, row.get::<String>(1)?, column::parsed::<Role>(row, 2)?))
                    },
                )?;
                let Some((tenant, email, role)) = found else { return Ok(None) };
                writing.change(
                    "INSERT INTO accounts (id, tenant, email, password, role, created_at, password_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $6)",
                    params![id, tenant.as_str(), email, password, role.name(), now],
                )?;
                let account = Account { id, tenant, email, password, role };
                let actor = Party::Account(account.email.clone());
                writing.audit(&of_session(&account, Act::AccountCreate, actor, role.name().to_owned(), now))?;
                Ok(Some(account))
            })
            .await
    }

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

    /// Gives an account of a tenant another role.
    pub(crate) async fn set_role(
        &self,
        tenant: TenantId,
        id: String,
        role: Role,
        actor: Party,
        now: u64,
    ) -> Result<Result<AccountRow, Refusal>, StoreError> {
        self.engine
            .write(move |writing| {
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
                    let detail = role.name().to_owned();
                    writing.audit(&of_session(&account, Act::AccountRole, actor, detail, now))?;
                }
                let row = writing.one(
                    "SELECT id, email, role, created_at, totp_secret IS NOT NULL, last_login_at FROM accounts
                     WHERE id = $1",
                    params![account.id],
                    account_row,
                )?;
                Ok(Ok(row))
            })
            .await
    }

    /// Deletes an account of a tenant: its sessions end, and its devices are revoked with what they minted.
    pub(crate) async fn delete_account(
        &self,
        tenant: TenantId,
        id: String,
        actor: Party,
        now: u64,
    ) -> Result<Result<Revoked, Refusal>, StoreError> {
        self.publishing(move |writing, signer| writing.delete_account(signer, &tenant, &id, &actor, now))
            .await
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
        Ok(Ok(self.revoked(devices, children, None)?))
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

fn invitation_entry(tenant: &TenantId, email: String, actor: Party, act: Act, now: u64) -> Entry {
    Entry {
        at: now,
        tenant: Some(tenant.clone()),
        actor,
        act,
        subject: Party::Account(email),
        project: None,
        detail: String::new(),
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
