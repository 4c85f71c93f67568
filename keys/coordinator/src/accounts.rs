//! People: the first owner, sign-in, sessions, second factors, devices.
//!
//! Whoever proved once who they are comes in by [`Shared::identified`](crate::shared::Shared::identified), whatever the
//! proof: it ends in a session or, where the account has a second factor, in a challenge.

mod devices;
mod entry;
mod limits;
mod mail;
mod password;
mod people;
mod second_factor;
mod sessions;
mod sign_in;
mod totp;
mod vault;

use std::net::IpAddr;

use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub(crate) use self::entry::{Entered, SignedIn};
pub(crate) use self::limits::Attempts;
pub(crate) use self::mail::{WAITING, send_links};
pub(crate) use self::password::{HashError, MAX_GATES_WAITING, MAX_WAITING, Passwords};
use self::password::{MAX_PASSWORD, MIN_PASSWORD};
pub(crate) use self::sessions::Renewed;
pub(crate) use self::sign_in::{Begun, Ended, Failed, Page, Trouble};
pub(crate) use self::totp::{TypedCode, matching_step};
pub(crate) use self::vault::{GateSessions, Vault};
use crate::audit::{Act, Entry, Party};
use crate::authority::First;
use crate::http::ApiError;
use crate::random;
use crate::shared::Shared;
use crate::store::{Account, NewOwner, SetupError, Visit};

/// Longest address of an account (RFC 5321).
const MAX_EMAIL: usize = 254;
/// Longest name of a device or project, in characters.
const MAX_LABEL: usize = 100;

/// A setup code as people see it: four groups of four.
pub(crate) fn new_setup_code() -> Result<String, random::NoRandomness> {
    random::bytes().map(|bytes| setup_code(&bytes))
}

/// The setup code that is made of those bytes.
pub(crate) fn setup_code(bytes: &[u8; 16]) -> String {
    let code = random::written(bytes);
    let groups: Vec<&str> = (0..4).map(|group| &code[group * 4..group * 4 + 4]).collect();
    groups.join("-")
}

fn new_account_id() -> Result<String, random::NoRandomness> {
    Ok(format!("acc_{}", random::readable::<16>()?.to_ascii_lowercase()))
}

/// What the store keeps of a setup code.
pub(crate) fn setup_code_hash(code: &str) -> [u8; 32] {
    digest(b"mytunnel set-up code 1\0", random::as_read(code).as_bytes())
}

/// What the store keeps of an access token.
pub(crate) fn access_hash(token: &str) -> [u8; 32] {
    digest(b"mytunnel access token 1\0", token.as_bytes())
}

/// What the store keeps of a refresh token.
pub(crate) fn refresh_hash(token: &str) -> [u8; 32] {
    digest(b"mytunnel refresh token 1\0", token.as_bytes())
}

/// What the store keeps of a challenge token.
pub(crate) fn challenge_hash(token: &str) -> [u8; 32] {
    digest(b"mytunnel challenge token 1\0", token.as_bytes())
}

fn digest(domain: &[u8], secret: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(domain).chain_update(secret).finalize().into()
}

impl Shared {
    /// Makes the first owner and signs them in.
    pub(crate) async fn set_up(&self, setup: api::Setup, visit: Visit) -> Result<Entered, ApiError> {
        let password = Zeroizing::new(setup.password);
        let email = email(&setup.email)?;
        check_password(&password)?;
        let now = self.clock.now();
        let code = setup_code_hash(&setup.code);
        if !self.store.setup_code_fits(code).await? {
            return Err(self.wrong_code(visit.address, "setup code", wrong_code()).await);
        }
        let password = self.passwords.hash(password).await?;
        let id = new_account_id()?;
        let owner = NewOwner { id, email, password, code };
        let account = self.store.set_up_owner(owner, now).await.map_err(|error| match error {
            SetupError::Code => wrong_code(),
            SetupError::Store(error) => error.into(),
        })?;
        self.forget_setup_code();
        self.identified(account, First::Password, visit).await
    }

    /// Signs an account in by its password.
    pub(crate) async fn log_in(&self, login: api::Login, visit: Visit) -> Result<Entered, ApiError> {
        let password = Zeroizing::new(login.password);
        let email = email(&login.email)?;
        let (now, from) = (self.clock.now(), visit.address);
        self.attempts().admit(&email, from, now).map_err(|wait| ApiError::TooMany(wait.0))?;
        let account = self.store.account(email.clone()).await?;
        // Whoever was invited by another provider has none, and takes as long to be refused.
        let stored = account.as_ref().map(|account| account.password.clone());
        let stored = stored.filter(|hash| !hash.is_empty());
        // A longer one fits nothing, and is not worth hashing whole.
        let fits = password.len() <= MAX_PASSWORD && self.passwords.verify(password, stored).await?;
        match account {
            Some(account) if fits => {
                self.attempts().succeed(&email, from, now);
                self.identified(account, First::Password, visit).await
            }
            known => {
                self.note_refused_login(known, from, "").await;
                Err(ApiError::refused(Code::InvalidKey, "e-mail or password is wrong"))
            }
        }
    }

    /// What to say of a code that fits nothing: what it is, or to come back later.
    pub(crate) async fn wrong_code(&self, from: Option<IpAddr>, detail: &str, wrong: ApiError) -> ApiError {
        let counted = self.attempts().wrong_code(from, self.clock.now());
        if let Err(wait) = counted {
            return ApiError::TooMany(wait.0);
        }
        self.note_refused_login(None, from, detail).await;
        wrong
    }

    /// A row for a refused sign-in. What was typed as an address is not written down: it may be a password.
    async fn note_refused_login(&self, account: Option<Account>, from: Option<IpAddr>, detail: &str) {
        let actor = Party::Address(from);
        let entry = Entry {
            at: self.clock.now(),
            tenant: account.as_ref().map(|account| account.tenant.clone()),
            subject: account.map_or(actor.clone(), |account| Party::Account(account.email)),
            actor,
            act: Act::LoginRefused,
            project: None,
            detail: detail.to_owned(),
        };
        self.note_refusal(entry).await;
    }
}

fn wrong_code() -> ApiError {
    ApiError::refused(
        Code::InvalidKey,
        "the setup code is wrong or already used; copy it again from what the server printed at its last start",
    )
}

/// An address in the one form in which accounts are kept.
fn email(typed: &str) -> Result<String, ApiError> {
    let email = typed.trim().to_ascii_lowercase();
    let whole = email.len() <= MAX_EMAIL && email.bytes().all(|byte| byte.is_ascii_graphic());
    let parts = email
        .split_once('@')
        .filter(|(user, domain)| !user.is_empty() && !domain.is_empty() && !domain.contains('@'));
    if !whole || parts.is_none() {
        return Err(ApiError::bad_request("email: this is not an e-mail address"));
    }
    Ok(email)
}

fn check_password(password: &str) -> Result<(), ApiError> {
    if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&password.len()) {
        let message = format!("password: it needs {MIN_PASSWORD} to {MAX_PASSWORD} characters");
        return Err(ApiError::bad_request(message));
    }
    Ok(())
}

/// A name that people gave to a thing: something to read, on one line.
pub(crate) fn label(typed: &str) -> Result<String, ApiError> {
    let label = typed.trim();
    let length = label.chars().count();
    if length == 0 || length > MAX_LABEL || label.chars().any(char::is_control) {
        return Err(ApiError::bad_request(format!("name: it needs 1 to {MAX_LABEL} characters on one line")));
    }
    Ok(label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form() {
        assert_eq!(email(" Ann@Example.ORG ").unwrap(), "ann@example.org");
        for bad in
            ["", "ann", "@b", "a@", "a@b@c", "a b@c", "a@b\n", "ä@b", &format!("a@{}", "b".repeat(300))]
        {
            // A line break at an end is trimmed away; inside it is refused.
            assert_eq!(email(bad).is_err(), bad != "a@b\n", "{bad:?}");
        }
    }

    #[test]
    fn a_set_up_code_is_read_however_it_is_typed() {
        let code = new_setup_code().unwrap();
        assert_eq!(code.len(), 19);
        let typed = code.to_lowercase().replace('-', " ");
        assert_eq!(setup_code_hash(&code), setup_code_hash(&typed));
        assert_ne!(setup_code_hash(&code), setup_code_hash(&new_setup_code().unwrap()));
    }

    #[test]
    fn labels_are_one_readable_line() {
        assert_eq!(label("  Ann's laptop ").unwrap(), "Ann's laptop");
        for bad in ["", "   ", "a\nb", "a\u{7}", &"x".repeat(101)] {
            assert!(label(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn passwords_have_a_length() {
        assert!(check_password("1234567").is_err() && check_password("12345678").is_ok());
        assert!(check_password(&"x".repeat(1025)).is_err());
    }
}
