//! Invitations: made, listed, withdrawn, and accepted with a password or by the word of another provider.

use mytunnel_keys::id::TenantId;
use mytunnel_sign_in::Identity;

use super::sessions::of_session;
use super::sign_in::NewLink;
use super::sql::{Writing, params};
use super::{Account, Store, StoreError, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, NoEntry, Refusal, Role};

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
        self.engine.write(move |writing| writing.join(&code, id, password, now)).await
    }

    /// Makes the account that an invitation is for, for whom a provider vouches by that very address: the identity is the
    /// way into it, and there is no password.
    pub(crate) async fn join_by_identity(
        &self,
        code: [u8; 32],
        account: String,
        link: NewLink,
        identity: Identity,
        now: u64,
    ) -> Result<Result<Account, NoEntry>, StoreError> {
        self.engine
            .write(move |writing| {
                let invited: Option<String> = writing.first(
                    "SELECT email FROM invitations WHERE hash = $1 AND expires_at > $2",
                    params![code, now],
                    column::only,
                )?;
                let linked = writing.linked_to(&identity)?.is_some();
                let verified = identity.verified_email.as_deref();
                if let Err(refused) = authority::may_join(invited.as_deref(), verified, linked) {
                    return Ok(Err(refused));
                }
                let Some(account) = writing.join(&code, account, String::new(), now)? else {
                    return Ok(Err(NoEntry::NotInvited));
                };
                writing.add_identity(&account, link, &identity, now)?;
                Ok(Ok(account))
            })
            .await
    }
}

impl Writing<'_> {
    fn join(
        &self,
        code: &[u8; 32],
        id: String,
        password: String,
        now: u64,
    ) -> Result<Option<Account>, StoreError> {
        let found = self.first(
            "DELETE FROM invitations WHERE hash = $1 AND expires_at > $2 RETURNING tenant, email, role",
            params![code, now],
            |row| {
                let tenant: TenantId = column::parsed(row, 0)?;
                Ok((tenant, row.get::<String>(1)?, column::parsed::<Role>(row, 2)?))
            },
        )?;
        let Some((tenant, email, role)) = found else { return Ok(None) };
        self.change(
            "INSERT INTO accounts (id, tenant, email, password, role, created_at, password_at)
             VALUES ($1, $2, $3, $4, $5, $6, $6)",
            params![id, tenant.as_str(), email, password, role.name(), now],
        )?;
        let account = Account { id, tenant, email, password, role };
        let actor = Party::Account(account.email.clone());
        self.audit(&of_session(&account, Act::AccountCreate, actor, role.name().to_owned(), now))?;
        Ok(Some(account))
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
