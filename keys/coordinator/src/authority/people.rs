//! People: who has a session or a device, and what their role lets them do.

use std::str::FromStr;

use mytunnel_keys::error::Code;
use mytunnel_keys::id::TenantId;

use super::{Caller, FRESH, Proven, Refusal, fresh, may_administer};
use crate::store::KeyKind;

/// An invitation is good for so many seconds: a week.
pub(crate) const INVITATION_LIFE: u64 = 7 * 24 * 3600;
/// Invitations of one tenant that are open at a time.
const MAX_INVITATIONS: u64 = 100;
/// A link to a new password is good for so many seconds.
pub(crate) const RESET_LIFE: u64 = 3600;

/// What an account is in its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// May do everything.
    Owner,
    /// Sees, and manages what is their own.
    Member,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
        }
    }
}

/// A stored word that means nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such word")]
pub(crate) struct UnknownWord;

impl FromStr for Role {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Owner, Self::Member].into_iter().find(|role| role.name() == text).ok_or(UnknownWord)
    }
}

/// Somebody with a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) tenant: TenantId,
    pub(crate) email: String,
    pub(crate) role: Role,
    pub(crate) session: String,
    /// When they proved who they are: to a provider perhaps long before the session began.
    pub(crate) auth_time: u64,
    pub(crate) began_at: u64,
    pub(crate) proven: Proven,
}

/// The account that the caller is, by a session or by a device of theirs.
pub(crate) fn own_account(caller: &Caller) -> Result<&str, Refusal> {
    let account = match caller {
        Caller::Account(person) => Some(person.id.as_str()),
        Caller::Key(key) if key.kind == KeyKind::User => key.account.as_deref(),
        Caller::Key(_) => None,
    };
    account.ok_or_else(|| Refusal::new(Code::ScopeDenied, "this is for people who have an account"))
}

/// The person with the session that changes to an account's secrets ask for; a key does not do.
pub(crate) fn in_session(caller: &Caller) -> Result<&Person, Refusal> {
    match caller {
        Caller::Account(person) => Ok(person),
        Caller::Key(_) => {
            Err(Refusal::new(Code::ScopeDenied, "this needs a sign-in with the password, not a key"))
        }
    }
}

/// The tenant whose people the caller may let in, raise or lock out. That takes an owner in person, who proved minutes ago
/// who they are: a device's key lies on a disk and a window stays open, and whoever finds one must not stay by it.
pub(crate) fn may_change_people(caller: &Caller, what: &str, now: u64) -> Result<TenantId, Refusal> {
    let tenant = may_administer(caller, what)?;
    match caller {
        Caller::Account(person) => fresh(person, now)?,
        Caller::Key(_) => return Err(not_in_person(what)),
    }
    Ok(tenant)
}

/// The tenant in which the caller may let a relay join, which stays when they are gone. It takes the same proof; that of
/// minutes ago by which the device itself was signed in will do, because machines are set up by scripts that sign in first.
pub(crate) fn may_add_relays(caller: &Caller, now: u64) -> Result<TenantId, Refusal> {
    let what = "let relays join";
    let tenant = may_administer(caller, what)?;
    match caller {
        Caller::Account(person) => fresh(person, now)?,
        Caller::Key(device) if device.proven_at.is_some_and(|at| now < at + FRESH) => {}
        Caller::Key(_) => return Err(not_in_person(what)),
    }
    Ok(tenant)
}

fn not_in_person(what: &str) -> Refusal {
    let message = format!(
        "a device's key cannot {what}: this needs you in person, by a sign-in that is not older than ten minutes"
    );
    Refusal::new(Code::StepUpRequired, message)
}

/// May the caller make a project, whose master key stays when they are gone? An owner's device may at any time: what it
/// made is known by it, and ended with it if its owner says so.
pub(crate) fn may_make_projects(caller: &Caller, now: u64) -> Result<TenantId, Refusal> {
    let tenant = may_administer(caller, "create a project")?;
    if let Caller::Account(person) = caller {
        fresh(person, now)?;
    }
    Ok(tenant)
}

/// May an account be invited to a tenant where so many invitations are open?
pub(crate) fn may_invite(taken: bool, open: u64) -> Result<(), Refusal> {
    if taken {
        return Err(Refusal::new(Code::NameTaken, "there is an account with this address already"));
    }
    if open >= MAX_INVITATIONS {
        let message =
            format!("{MAX_INVITATIONS} invitations are open; withdraw some, or wait until they end");
        return Err(Refusal::new(Code::RateLimited, message));
    }
    Ok(())
}

/// May an account go from one role to another, where there are so many owners?
pub(crate) fn may_change_role(from: Role, to: Role, owners: u64) -> Result<(), Refusal> {
    if from == Role::Owner && to == Role::Member && owners <= 1 {
        return Err(Refusal::new(
            Code::BadRequest,
            "this is the last owner; make somebody else an owner first",
        ));
    }
    Ok(())
}

/// May an account of that role be deleted, where there are so many owners?
pub(crate) fn may_leave(role: Role, owners: u64) -> Result<(), Refusal> {
    may_change_role(role, Role::Member, owners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back() {
        assert_eq!("owner".parse(), Ok(Role::Owner));
        assert_eq!("admin".parse::<Role>(), Err(UnknownWord));
    }

    #[test]
    fn there_is_always_an_owner_and_never_a_flood_of_invitations() {
        let code = |result: Result<(), Refusal>| result.map_err(|refusal| refusal.code);
        assert_eq!(code(may_change_role(Role::Owner, Role::Member, 1)), Err(Code::BadRequest));
        assert_eq!(code(may_change_role(Role::Owner, Role::Member, 2)), Ok(()));
        assert_eq!(code(may_change_role(Role::Owner, Role::Owner, 1)), Ok(()));
        assert_eq!(code(may_change_role(Role::Member, Role::Owner, 1)), Ok(()));
        assert_eq!(code(may_leave(Role::Owner, 1)), Err(Code::BadRequest));
        assert_eq!(code(may_leave(Role::Member, 1)), Ok(()));
        assert_eq!(code(may_invite(true, 0)), Err(Code::NameTaken));
        assert_eq!(code(may_invite(false, 100)), Err(Code::RateLimited));
        assert_eq!(code(may_invite(false, 99)), Ok(()));
    }
}
