//! Accounts and their sessions.

use mytunnel_keys::id::TenantId;
use subtle::ConstantTimeEq as _;

use super::column;
use super::meta::SETUP;
use super::projects::PERSONAL;
use super::sql::{Row, params};
use super::{Store, StoreError};
use crate::audit::{Act, Entry, Party};

/// A person who can sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) tenant: TenantId,
    pub(crate) email: String,
    /// PHC string.
    pub(crate) password: String,
}

/// The first owner, as asked for with the setup code.
#[derive(Debug)]
pub(crate) struct NewOwner {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) password: String,
    /// SHA-256 of the code that was typed.
    pub(crate) code: [u8; 32],
}

/// Why nobody became the owner.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SetupError {
    /// There is an owner, or the code is another one.
    #[error("the setup code is wrong or already used")]
    Code,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Is there nobody who can sign in?
    pub(crate) async fn lacks_owner(&self) -> Result<bool, StoreError> {
        self.engine
            .read(|reading| {
                reading.one("SELECT NOT EXISTS (SELECT 1 FROM accounts)", params![], column::only)
            })
            .await
    }

    /// Replaces the setup code.
    pub(crate) async fn set_setup_code(&self, hash: [u8; 32]) -> Result<(), StoreError> {
        self.engine.write(move |writing| writing.set_meta(SETUP, &hash)).await
    }

    /// Does this code make an owner at this moment?
    pub(crate) async fn setup_code_fits(&self, hash: [u8; 32]) -> Result<bool, StoreError> {
        let stored: Option<Vec<u8>> = self.engine.read(|reading| reading.meta(SETUP)).await?;
        Ok(stored.is_some_and(|stored| stored.ct_eq(&hash).into()))
    }

    /// Makes the first owner, once: the code is used up in the same transaction.
    pub(crate) async fn set_up_owner(&self, owner: NewOwner, now: u64) -> Result<Account, SetupError> {
        self.engine
            .write(move |writing| {
                let stored = writing.meta(SETUP)?.ok_or(SetupError::Code)?;
                if !bool::from(stored.ct_eq(&owner.code)) {
                    return Err(SetupError::Code);
                }
                writing.change("DELETE FROM meta WHERE name = $1", params![SETUP])?;
                let tenant = writing.home()?;
                writing.change(
                    "INSERT INTO accounts (id, tenant, email, password, created_at) VALUES ($1, $2, $3, $4, $5)",
                    params![owner.id, tenant.as_str(), owner.email, owner.password, now],
                )?;
                let party = Party::Account(owner.email.clone());
                writing.audit(&Entry {
                    at: now,
                    tenant: Some(tenant.clone()),
                    actor: party.clone(),
                    act: Act::OwnerSetup,
                    subject: party.clone(),
                    project: None,
                    detail: String::new(),
                })?;
                writing.add_home_project(&tenant, PERSONAL.to_owned(), party, now)?;
                Ok(Account { id: owner.id, tenant, email: owner.email, password: owner.password })
            })
            .await
    }

    /// The account with that address.
    pub(crate) async fn account(&self, email: String) -> Result<Option<Account>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.first(
                    "SELECT id, tenant, email, password FROM accounts WHERE email = $1",
                    params![email],
                    account,
                )
            })
            .await
    }

    /// Begins a session: the token's hash is kept, never the token.
    pub(crate) async fn open_session(
        &self,
        account: Account,
        hash: [u8; 32],
        expires_at: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        self.engine
            .write(move |writing| {
                writing.change("DELETE FROM sessions WHERE expires_at <= $1", params![now])?;
                writing.change(
                    "INSERT INTO sessions (hash, account, expires_at) VALUES ($1, $2, $3)",
                    params![hash, account.id, expires_at],
                )?;
                let party = Party::Account(account.email);
                writing.audit(&Entry {
                    at: now,
                    tenant: Some(account.tenant),
                    actor: party.clone(),
                    act: Act::Login,
                    subject: party,
                    project: None,
                    detail: String::new(),
                })
            })
            .await
    }

    /// Whose session that is, if it has not ended.
    pub(crate) async fn session(&self, hash: [u8; 32], now: u64) -> Result<Option<Account>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.first(
                    "SELECT a.id, a.tenant, a.email, a.password FROM sessions s JOIN accounts a ON a.id = s.account
                     WHERE s.hash = $1 AND s.expires_at > $2",
                    params![hash, now],
                    account,
                )
            })
            .await
    }

    /// Ends a session; one that has ended stays so.
    pub(crate) async fn close_session(&self, hash: [u8; 32]) -> Result<(), StoreError> {
        self.engine
            .write(move |writing| {
                writing.change("DELETE FROM sessions WHERE hash = $1", params![hash]).map(drop)
            })
            .await
    }
}

fn account(row: &Row<'_>) -> Result<Account, StoreError> {
    Ok(Account {
        id: row.get(0)?,
        tenant: column::parsed(row, 1)?,
        email: row.get(2)?,
        password: row.get(3)?,
    })
}
