//! Accounts: who can sign in.

use mytunnel_keys::id::TenantId;
use subtle::ConstantTimeEq as _;

use super::column;
use super::meta::SETUP;
use super::projects::PERSONAL;
use super::sql::{Reading, Row, Writing, params};
use super::{Store, StoreError};
use crate::audit::{Act, Entry, Party};
use crate::authority::Role;

/// A person who can sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) tenant: TenantId,
    pub(crate) email: String,
    /// PHC string.
    pub(crate) password: String,
    pub(crate) role: Role,
}

/// What stands in place of a password where a restore took every way in: no hash, so no password fits.
const LOCKED: &str = "!";

impl Account {
    /// Does only whoever has the coordinator's keys open it again?
    pub(crate) fn is_locked(&self) -> bool {
        self.password == LOCKED
    }
}

impl Writing<'_> {
    /// Takes every way into every account: who was removed since, and what was found out since, is not known.
    pub(super) fn lock_accounts(&self, now: u64) -> Result<(), StoreError> {
        self.change("DELETE FROM identities", params![])?;
        // A link that is made from this moment on is newer.
        self.change(
            "UPDATE accounts SET password = $1, password_at = $2 WHERE deleted_at IS NULL",
            params![LOCKED, now.saturating_sub(1)],
        )
        .map(drop)
    }
}

/// The columns of an [`Account`].
macro_rules! select_account {
    ($rest:literal) => {
        concat!("SELECT id, tenant, email, password, role FROM accounts ", $rest)
    };
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
        self.engine.read(|reading| reading.lacks_owner()).await
    }

    /// Replaces the setup code, unless there is an owner by now: another coordinator may have made one. Answers whether it
    /// was replaced.
    pub(crate) async fn set_setup_code(&self, hash: [u8; 32]) -> Result<bool, StoreError> {
        self.engine
            .write(move |writing| {
                let lacks_owner = writing.lacks_owner()?;
                if lacks_owner {
                    writing.set_meta(SETUP, &hash)?;
                }
                Ok(lacks_owner)
            })
            .await
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
                if !bool::from(stored.ct_eq(&owner.code)) || !writing.lacks_owner()? {
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
                Ok(Account { id: owner.id, tenant, email: owner.email, password: owner.password, role: Role::Owner })
            })
            .await
    }

    /// The account with that address.
    pub(crate) async fn account(&self, email: String) -> Result<Option<Account>, StoreError> {
        self.engine.read(move |reading| reading.account_by_email(&email)).await
    }
}

impl Reading<'_> {
    fn lacks_owner(&self) -> Result<bool, StoreError> {
        self.one("SELECT NOT EXISTS (SELECT 1 FROM accounts)", params![], column::only)
    }

    pub(super) fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
        self.first(select_account!("WHERE email = $1 AND deleted_at IS NULL"), params![email], account)
    }

    pub(super) fn account_by_id(&self, id: &str) -> Result<Option<Account>, StoreError> {
        self.first(select_account!("WHERE id = $1 AND deleted_at IS NULL"), params![id], account)
    }
}

fn account(row: &Row<'_>) -> Result<Account, StoreError> {
    Ok(Account {
        id: row.get(0)?,
        tenant: column::parsed(row, 1)?,
        email: row.get(2)?,
        password: row.get(3)?,
        role: column::parsed(row, 4)?,
    })
}
