//! The second factor of an account: on, off, and each code good once.

use std::sync::Arc;

use super::sessions::of_session;
use super::sql::{Reading, Writing, params};
use super::{Account, Store, StoreError, column};
use crate::accounts::{TypedCode, Vault, matching_step};
use crate::audit::{Act, Party};
use crate::authority::{Failures, Person, Proven, Second};

/// The second factor as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecondFactor {
    /// Encrypted.
    secret: Option<Vec<u8>>,
    last_step: u64,
    failures: Failures,
}

impl SecondFactor {
    pub(crate) const fn is_on(&self) -> bool {
        self.secret.is_some()
    }
}

/// Why a second factor was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeError {
    /// It is another, or was used before.
    Wrong,
    /// Too many were wrong; come back after so many seconds.
    Wait(u64),
    /// The account has none.
    Off,
}

/// What an account is told about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) account: Account,
    pub(crate) plan: String,
    pub(crate) second_factor: bool,
    pub(crate) recovery_codes: u64,
}

/// A second factor to be switched on: proven by a code of the secret itself.
#[derive(Debug)]
pub(crate) struct NewFactor {
    /// Encrypted.
    pub(crate) secret: Vec<u8>,
    /// The step of the code that proved it; none if the code was wrong.
    pub(crate) step: Option<u64>,
    pub(crate) recovery_codes: Vec<[u8; 32]>,
}

/// Why a second factor was not switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnableError {
    /// There is one.
    On,
    /// The code was not taken.
    Code(CodeError),
}

impl Store {
    /// What an account is at this moment; none if it is gone.
    pub(crate) async fn standing(&self, account: String) -> Result<Option<Standing>, StoreError> {
        self.engine
            .read(move |reading| {
                let Some(account) = reading.account_by_id(&account)? else { return Ok(None) };
                let factor = reading.second_factor(&account.id)?;
                let plan = reading.one(
                    "SELECT plan FROM tenants WHERE id = $1",
                    params![account.tenant.as_str()],
                    column::only,
                )?;
                let recovery_codes = reading.one(
                    "SELECT count(*) FROM recovery_codes WHERE account = $1",
                    params![account.id],
                    column::only,
                )?;
                let second_factor = factor.is_some_and(|factor| factor.is_on());
                Ok(Some(Standing { account, plan, second_factor, recovery_codes }))
            })
            .await
    }

    /// Switches the second factor on. Sessions that began without one end, but for the one that proved it.
    pub(crate) async fn enable_second_factor(
        &self,
        person: Person,
        new: NewFactor,
        now: u64,
    ) -> Result<Result<(), EnableError>, StoreError> {
        self.engine
            .write(move |writing| {
                let Some((account, factor)) = writing.account_and_factor(&person.id)? else {
                    return Ok(Err(EnableError::Code(CodeError::Off)));
                };
                if factor.is_on() {
                    return Ok(Err(EnableError::On));
                }
                if let Err(wait) = factor.failures.may_try(now) {
                    return Ok(Err(EnableError::Code(CodeError::Wait(wait))));
                }
                let Some(step) = new.step.filter(|step| *step > factor.last_step) else {
                    writing.count_failure(&account.id, factor.failures, now)?;
                    return Ok(Err(EnableError::Code(CodeError::Wrong)));
                };
                writing.change(
                    "UPDATE accounts SET totp_secret = $1, totp_step = $2, mfa_failures = 0 WHERE id = $3",
                    params![new.secret, step, account.id],
                )?;
                writing.set_recovery_codes(&account.id, &new.recovery_codes)?;
                writing.end_other_sessions(&account.id, Some(&person.session))?;
                let proven = Proven { second: Some(Second::Totp), ..person.proven };
                writing.change(
                    "UPDATE sessions SET proven = $1 WHERE id = $2",
                    params![proven.to_string(), person.session],
                )?;
                let actor = Party::Account(account.email.clone());
                writing.audit(&of_session(&account, Act::MfaEnable, actor, String::new(), now))?;
                Ok(Ok(()))
            })
            .await
    }

    /// Switches the second factor off: with a code, or without one where the caller has looked at another proof.
    pub(crate) async fn disable_second_factor(
        &self,
        vault: Arc<Vault>,
        account: String,
        code: Option<Option<TypedCode>>,
        now: u64,
    ) -> Result<Result<(), CodeError>, StoreError> {
        self.engine
            .write(move |writing| {
                let account = match writing.prove_again(&vault, &account, code, now)? {
                    Ok(account) => account,
                    Err(error) => return Ok(Err(error)),
                };
                writing.change(
                    "UPDATE accounts SET totp_secret = NULL, mfa_failures = 0 WHERE id = $1",
                    params![account.id],
                )?;
                writing.set_recovery_codes(&account.id, &[])?;
                let actor = Party::Account(account.email.clone());
                writing.audit(&of_session(&account, Act::MfaDisable, actor, String::new(), now))?;
                Ok(Ok(()))
            })
            .await
    }

    /// Replaces the recovery codes, with a code or without one as above.
    pub(crate) async fn renew_recovery_codes(
        &self,
        vault: Arc<Vault>,
        account: String,
        code: Option<Option<TypedCode>>,
        hashes: Vec<[u8; 32]>,
        now: u64,
    ) -> Result<Result<(), CodeError>, StoreError> {
        self.engine
            .write(move |writing| {
                let account = match writing.prove_again(&vault, &account, code, now)? {
                    Ok(account) => account,
                    Err(error) => return Ok(Err(error)),
                };
                writing.set_recovery_codes(&account.id, &hashes)?;
                let actor = Party::Account(account.email.clone());
                writing.audit(&of_session(&account, Act::MfaCodes, actor, String::new(), now))?;
                Ok(Ok(()))
            })
            .await
    }
}

impl Reading<'_> {
    pub(super) fn second_factor(&self, account: &str) -> Result<Option<SecondFactor>, StoreError> {
        self.first(
            "SELECT totp_secret, totp_step, mfa_failures, mfa_failed_since FROM accounts WHERE id = $1",
            params![account],
            |row| {
                let failures = Failures { count: row.get(2)?, since: row.get(3)? };
                Ok(SecondFactor { secret: row.get(0)?, last_step: row.get(1)?, failures })
            },
        )
    }

    pub(super) fn account_and_factor(&self, id: &str) -> Result<Option<(Account, SecondFactor)>, StoreError> {
        Ok(self.account_by_id(id)?.zip(self.second_factor(id)?))
    }
}

impl Writing<'_> {
    /// Takes a code, which is used up by that; a wrong one is counted. What cannot be a code is a wrong one.
    pub(super) fn spend_code(
        &self,
        vault: &Vault,
        account: &str,
        code: Option<&TypedCode>,
        now: u64,
    ) -> Result<Result<Second, CodeError>, StoreError> {
        let Some(factor) = self.second_factor(account)? else { return Ok(Err(CodeError::Off)) };
        let Some(sealed) = &factor.secret else { return Ok(Err(CodeError::Off)) };
        if let Err(wait) = factor.failures.may_try(now) {
            return Ok(Err(CodeError::Wait(wait)));
        }
        let second = match code {
            Some(TypedCode::Digits(digits)) => {
                let secret = vault.open(account, sealed).ok_or(StoreError::Malformed("second factor"))?;
                let step = matching_step(&secret, digits, now).filter(|step| *step > factor.last_step);
                if let Some(step) = step {
                    self.change("UPDATE accounts SET totp_step = $1 WHERE id = $2", params![step, account])?;
                }
                step.map(|_| Second::Totp)
            }
            Some(TypedCode::Recovery(letters)) => {
                let used = self.change(
                    "DELETE FROM recovery_codes WHERE hash = $1 AND account = $2",
                    params![vault.recovery_hash(account, letters), account],
                )?;
                (used > 0).then_some(Second::Recovery)
            }
            None => None,
        };
        let Some(second) = second else {
            self.count_failure(account, factor.failures, now)?;
            return Ok(Err(CodeError::Wrong));
        };
        self.change("UPDATE accounts SET mfa_failures = 0 WHERE id = $1", params![account])?;
        Ok(Ok(second))
    }

    /// The account, if its second factor is on and the code, where one was given, is taken.
    fn prove_again(
        &self,
        vault: &Vault,
        account: &str,
        code: Option<Option<TypedCode>>,
        now: u64,
    ) -> Result<Result<Account, CodeError>, StoreError> {
        let Some((account, factor)) = self.account_and_factor(account)? else {
            return Ok(Err(CodeError::Off));
        };
        if !factor.is_on() {
            return Ok(Err(CodeError::Off));
        }
        let proven = match code {
            Some(code) => self.spend_code(vault, &account.id, code.as_ref(), now)?.map(drop),
            None => Ok(()),
        };
        Ok(proven.map(|()| account))
    }

    fn count_failure(&self, account: &str, failures: Failures, now: u64) -> Result<(), StoreError> {
        let Failures { count, since } = failures.and_one(now);
        self.change(
            "UPDATE accounts SET mfa_failures = $1, mfa_failed_since = $2 WHERE id = $3",
            params![count, since, account],
        )?;
        Ok(())
    }

    fn set_recovery_codes(&self, account: &str, hashes: &[[u8; 32]]) -> Result<(), StoreError> {
        self.change("DELETE FROM recovery_codes WHERE account = $1", params![account])?;
        for hash in hashes {
            self.change(
                "INSERT INTO recovery_codes (hash, account) VALUES ($1, $2)",
                params![hash, account],
            )?;
        }
        Ok(())
    }
}
