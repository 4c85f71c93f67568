//! People of a tenant: who joins, who is there, who goes; and passwords that change.

use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use zeroize::Zeroizing;

use super::password::MAX_PASSWORD;
use super::{Entered, check_password, digest, email, new_account_id, new_setup_code};
use crate::audit::Party;
use crate::authority::{self, Caller, First, INVITATION_LIFE, Refusal, Role};
use crate::http::ApiError;
use crate::random;
use crate::shared::Shared;
use crate::store::{AccountRow, NewInvitation, Visit};

/// What the store keeps of an invitation's code.
pub(super) fn invitation_hash(code: &str) -> [u8; 32] {
    digest(b"mytunnel invitation 1\0", random::as_read(code).as_bytes())
}

impl Shared {
    /// Asks somebody to join the caller's tenant. The code is shown once.
    pub(crate) async fn invite(
        &self,
        caller: &Caller,
        asked: api::NewInvitation,
    ) -> Result<api::InvitationCreated, ApiError> {
        let now = self.clock.now();
        let tenant = authority::may_change_people(caller, "invite people", now)?;
        let (email, role) = (email(&asked.email)?, role(&asked.role)?);
        let code = new_setup_code()?;
        let id = format!("inv_{}", random::readable::<16>()?.to_ascii_lowercase());
        let hash = invitation_hash(&code);
        let new =
            NewInvitation { id: id.clone(), hash, tenant, email: email.clone(), role, actor: caller.party() };
        self.store.invite(new, now).await??;
        Ok(api::InvitationCreated {
            id,
            email,
            role: role.name().to_owned(),
            url: format!("{}/#/invitation?code={code}", self.public().url.base()),
            code,
            expires_at: now + INVITATION_LIFE,
        })
    }

    /// Open invitations.
    pub(crate) async fn invitations(&self, caller: &Caller) -> Result<api::Invitations, ApiError> {
        let tenant = authority::may_administer(caller, "list invitations")?;
        let rows = self.store.invitations(tenant, self.clock.now()).await?;
        let invitations = rows.into_iter().map(|row| api::Invitation {
            id: row.id,
            email: row.email,
            role: row.role.name().to_owned(),
            created_at: row.created_at,
            expires_at: row.expires_at,
        });
        Ok(api::Invitations { invitations: invitations.collect() })
    }

    /// Takes an invitation back.
    pub(crate) async fn withdraw(&self, caller: &Caller, id: String) -> Result<(), ApiError> {
        let tenant = authority::may_administer(caller, "withdraw invitations")?;
        let there = self.store.withdraw(tenant, id, caller.party(), self.clock.now()).await?;
        if there { Ok(()) } else { Err(Refusal::not_found("invitation").into()) }
    }

    /// Makes the account that an invitation is for, and signs it in.
    pub(crate) async fn accept_invitation(
        &self,
        accepted: api::AcceptInvitation,
        visit: Visit,
    ) -> Result<Entered, ApiError> {
        let password = Zeroizing::new(accepted.password);
        check_password(&password)?;
        let now = self.clock.now();
        let hash = invitation_hash(&Zeroizing::new(accepted.code));
        // Looked at before a password is hashed for nothing.
        if self.store.invited(hash, now).await?.is_none() {
            return Err(self.wrong_code(visit.address, "invitation", no_invitation()).await);
        }
        let password = self.passwords.hash(password).await?;
        let joined = self.store.join(hash, new_account_id()?, password, now).await?;
        let account = joined.ok_or_else(no_invitation)?;
        self.identified(account, First::Password, visit).await
    }

    /// Everybody in the caller's tenant.
    pub(crate) async fn accounts(&self, caller: &Caller) -> Result<api::Accounts, ApiError> {
        let tenant = authority::may_administer(caller, "list accounts")?;
        let rows = self.store.accounts(tenant).await?;
        Ok(api::Accounts { accounts: rows.into_iter().map(shown).collect() })
    }

    /// Gives an account another role.
    pub(crate) async fn set_role(
        &self,
        caller: &Caller,
        id: String,
        asked: api::RoleChange,
    ) -> Result<api::Account, ApiError> {
        let now = self.clock.now();
        let tenant = authority::may_change_people(caller, "change roles", now)?;
        let role = role(&asked.role)?;
        let (row, epoch) = self.store.set_role(tenant, id, role, caller.party(), now).await??;
        self.confirm(epoch).await?;
        Ok(shown(row))
    }

    /// Deletes an account, and waits until the relays know that its devices are revoked.
    pub(crate) async fn delete_account(
        &self,
        caller: &Caller,
        id: String,
        masters: bool,
    ) -> Result<api::RevokeAnswer, ApiError> {
        let now = self.clock.now();
        let tenant = authority::may_change_people(caller, "delete accounts", now)?;
        let deleted = self.store.delete_account(tenant, id, masters, caller.party(), now).await??;
        self.confirmed(deleted).await
    }

    /// Devices: of the whole tenant for owners, else the caller's own.
    pub(crate) async fn devices(&self, caller: &Caller) -> Result<api::Devices, ApiError> {
        let only = match authority::may_administer(caller, "list devices") {
            Ok(_) => None,
            Err(_) => Some(authority::own_account(caller)?.to_owned()),
        };
        let rows = self.store.devices(caller.tenant().clone(), only, self.clock.now()).await?;
        let live = self.followers.live();
        let devices = rows.into_iter().map(|row| api::DeviceRow {
            nonce: row.serial.nonce(),
            name: row.label,
            account: row.email,
            created_at: row.issued_at,
            expires_at: row.not_after,
            live_tunnels: live.count_of(&row.serial),
        });
        Ok(api::Devices { devices: devices.collect() })
    }

    /// Changes the caller's password; every other session of theirs ends.
    pub(crate) async fn change_password(
        &self,
        caller: &Caller,
        change: api::PasswordChange,
        visit: Visit,
    ) -> Result<(), ApiError> {
        let person = authority::in_session(caller)?;
        let (current, new) = (Zeroizing::new(change.current), Zeroizing::new(change.new));
        check_password(&new)?;
        let now = self.clock.now();
        self.attempts().admit(&person.email, visit.address, now).map_err(|wait| ApiError::TooMany(wait.0))?;
        let account = self.store.account(person.email.clone()).await?;
        let account = account.ok_or_else(|| Refusal::not_found("account"))?;
        let fits = current.len() <= MAX_PASSWORD
            && self.passwords.verify(current, Some(account.password.clone())).await?;
        if !fits {
            self.note_refused_login(Some(account), visit.address, "change of the password").await;
            return Err(ApiError::refused(Code::InvalidKey, "current: this is not the password"));
        }
        self.attempts().succeed(&person.email, visit.address, now);
        let new = self.passwords.hash(new).await?;
        if !self.store.change_password(account, new, person.session.clone(), now).await? {
            return Err(ApiError::refused(
                Code::InvalidKey,
                "the password was changed elsewhere at this moment",
            ));
        }
        Ok(())
    }

    /// Asks for a link to a new password. Whether there is such an account is found out after the answer, so that
    /// neither its words nor its time tell.
    pub(crate) fn forgot_password(
        &self,
        asked: &api::ForgotPassword,
        visit: &Visit,
    ) -> Result<bool, ApiError> {
        let email = email(&asked.email)?;
        let now = self.clock.now();
        self.resets().admit(&email, visit.address, now).map_err(|wait| ApiError::TooMany(wait.0))?;
        let Some(mail) = &self.mail else { return Ok(false) };
        if mail.try_send(email).is_err() {
            // The one who asked is told to look into their mail, and asks again.
            tracing::warn!("a link to a new password was not sent: too many wait for the mail command");
        }
        Ok(true)
    }

    /// Sets a new password by a link. Sessions end; the second factor stays, and is due at the next sign-in.
    pub(crate) async fn reset_password(
        &self,
        reset: api::PasswordReset,
        visit: &Visit,
    ) -> Result<(), ApiError> {
        let (token, password) = (Zeroizing::new(reset.token), Zeroizing::new(reset.password));
        check_password(&password)?;
        let void = || {
            let message = "this link to a new password was used, is too old, or never was; ask for another";
            ApiError::refused(Code::InvalidKey, message)
        };
        let now = self.clock.now();
        let (email, made_at) = self.vault.read_reset(&token, now).ok_or_else(void)?;
        let password = self.passwords.hash(password).await?;
        let actor = Party::Address(visit.address);
        let changed = self.store.reset_password(email, made_at, password, actor, now).await?;
        if changed { Ok(()) } else { Err(void()) }
    }
}

fn shown(row: AccountRow) -> api::Account {
    api::Account {
        id: row.id,
        email: row.email,
        role: row.role.name().to_owned(),
        created_at: row.created_at,
        mfa_enabled: row.second_factor,
        last_login_at: row.last_login_at,
    }
}

fn role(typed: &str) -> Result<Role, ApiError> {
    typed.parse().map_err(|_| ApiError::bad_request("role: it is owner or member"))
}

pub(super) fn no_invitation() -> ApiError {
    let message = "this invitation was used, withdrawn, is too old, or never was; ask for another";
    ApiError::refused(Code::InvalidKey, message)
}
