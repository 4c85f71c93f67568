//! The second factor: enrolment in two steps, of which the first keeps nothing; switching off; recovery codes.

use data_encoding::BASE32_NOPAD;
use mytunnel_keys::api;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::totp::{self, TypedCode};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, Person};
use crate::http::ApiError;
use crate::random::{self, NoRandomness};
use crate::shared::Shared;
use crate::store::{CodeError, EnableError, NewFactor};

/// A set of recovery codes, and what the store keeps of it.
struct RecoveryCodes {
    shown: Vec<String>,
    hashes: Vec<[u8; 32]>,
}

impl Shared {
    /// Shows the secret for an authenticator. Nothing is kept: the secret follows from the account and the time.
    pub(crate) fn enrol(&self, caller: &Caller) -> Result<api::MfaEnrolment, ApiError> {
        let person = authority::in_session(caller)?;
        let now = self.clock.now();
        authority::fresh(person, now)?;
        let secret = self.vault.enrolment(&person.id, now);
        let picture = totp::picture(&secret, &person.email, self.issuer.cluster().as_str())
            .map_err(|error| ApiError::Internal(error.into()))?;
        Ok(api::MfaEnrolment {
            secret_base32: picture.secret_base32,
            otpauth_uri: picture.otpauth_uri,
            qr_svg: picture.qr_svg,
        })
    }

    /// Switches the second factor on, for a code that shows that the authenticator has the secret.
    pub(crate) async fn enrol_verify(
        &self,
        caller: &Caller,
        proof: api::MfaProof,
    ) -> Result<api::MfaEnabled, ApiError> {
        let person = authority::in_session(caller)?;
        let now = self.clock.now();
        let shown = Zeroizing::new(proof.secret_base32.trim().trim_end_matches('=').to_ascii_uppercase());
        let typed = Zeroizing::new(BASE32_NOPAD.decode(shown.as_bytes()).unwrap_or_default());
        let confirmable = self.vault.confirmable(&person.id, now);
        let secret = confirmable.iter().find(|secret| bool::from(secret.as_slice().ct_eq(&typed)));
        let secret = secret.ok_or_else(|| {
            ApiError::bad_request(
                "secret_base32: this is not the secret of an enrolment of the last minutes; begin it again",
            )
        })?;
        let step = match TypedCode::read(&Zeroizing::new(proof.code)) {
            Some(TypedCode::Digits(digits)) => totp::matching_step(secret, &digits, now),
            Some(TypedCode::Recovery(_)) | None => None,
        };
        let codes = self.new_recovery_codes(&person.id)?;
        let new =
            NewFactor { secret: self.vault.seal(&person.id, secret)?, step, recovery_codes: codes.hashes };
        match self.store.enable_second_factor(person.clone(), new, now).await? {
            Ok(()) => Ok(api::MfaEnabled { status: "enabled".to_owned(), recovery_codes: codes.shown }),
            Err(EnableError::On) => {
                let message =
                    "the second factor is on already; switch it off first, or renew the recovery codes";
                Err(ApiError::bad_request(message))
            }
            Err(EnableError::Code(error)) => Err(self.refused_code(person, error).await),
        }
    }

    /// Switches the second factor off: for a code, or for a sign-in with one minutes ago.
    pub(crate) async fn disable_mfa(
        &self,
        caller: &Caller,
        proof: api::MfaCode,
    ) -> Result<api::MfaStatus, ApiError> {
        let person = authority::in_session(caller)?;
        let now = self.clock.now();
        let code = proof.code.map(Zeroizing::new).map(|code| TypedCode::read(&code));
        if code.is_none() {
            authority::fresh_second(person, now)?;
        }
        let disabled =
            self.store.disable_second_factor(self.vault.clone(), person.id.clone(), code, now).await?;
        match disabled {
            Ok(()) => Ok(api::MfaStatus { status: "disabled".to_owned() }),
            Err(error) => Err(self.refused_code(person, error).await),
        }
    }

    /// Replaces the recovery codes: for a code, or for a sign-in with one minutes ago.
    pub(crate) async fn renew_recovery_codes(
        &self,
        caller: &Caller,
        proof: api::MfaCode,
    ) -> Result<api::RecoveryCodes, ApiError> {
        let person = authority::in_session(caller)?;
        let (vault, id, now) = (self.vault.clone(), person.id.clone(), self.clock.now());
        let code = proof.code.map(Zeroizing::new).map(|code| TypedCode::read(&code));
        if code.is_none() {
            authority::fresh_second(person, now)?;
        }
        let fresh = self.new_recovery_codes(&person.id)?;
        match self.store.renew_recovery_codes(vault, id, code, fresh.hashes, now).await? {
            Ok(()) => Ok(api::RecoveryCodes { recovery_codes: fresh.shown }),
            Err(error) => Err(self.refused_code(person, error).await),
        }
    }

    fn new_recovery_codes(&self, account: &str) -> Result<RecoveryCodes, NoRandomness> {
        let shown = totp::new_recovery_codes()?;
        let hashes = shown.iter().map(|code| self.vault.recovery_hash(account, &random::as_read(code)));
        Ok(RecoveryCodes { hashes: hashes.collect(), shown })
    }

    async fn refused_code(&self, person: &Person, error: CodeError) -> ApiError {
        if error == CodeError::Wrong {
            let party = Party::Account(person.email.clone());
            let entry = Entry {
                at: self.clock.now(),
                tenant: Some(person.tenant.clone()),
                actor: party.clone(),
                act: Act::MfaRefused,
                subject: party,
                project: None,
                detail: String::new(),
            };
            self.note_refusal(entry).await;
        }
        error.into()
    }
}
