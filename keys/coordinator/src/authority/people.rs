//! People: what they proved, what their role lets them do, and when a second factor counts.

use std::fmt;
use std::str::FromStr;

use mytunnel_keys::error::Code;
use mytunnel_keys::id::TenantId;

use super::{Caller, Refusal, may_administer};
use crate::store::KeyKind;

/// A proof of who somebody is counts as fresh for so many seconds.
pub(crate) const FRESH: u64 = 10 * 60;
/// A session ends so many seconds after the sign-in, however often it was kept alive: 30 days, as a device does.
pub(crate) const SESSION_LIFE: u64 = 30 * 24 * 3600;
/// A session that nobody used for so many seconds has ended: 14 days.
pub(crate) const SESSION_IDLE: u64 = 14 * 24 * 3600;
/// Sessions of one account; one more ends the one that was not used for longest.
pub(crate) const MAX_SESSIONS: u64 = 50;
/// A session is kept alive so many times at most. Every spent token is remembered until the session ends, so that using
/// one again is noticed; this bounds how many there are. At one in ten minutes it is longer than the session may last.
pub(crate) const MAX_ROTATIONS: u64 = 30 * 24 * 6;
/// For so many seconds a spent refresh token is taken for a second tab of the same browser, or for an answer that was
/// lost, and not for theft.
pub(crate) const RACE: u64 = 10;
/// A challenge can be answered for so many seconds.
pub(crate) const CHALLENGE_LIFE: u64 = 5 * 60;
/// An invitation is good for so many seconds: a week.
pub(crate) const INVITATION_LIFE: u64 = 7 * 24 * 3600;
/// Invitations of one tenant that are open at a time.
const MAX_INVITATIONS: u64 = 100;
/// A link to a new password is good for so many seconds.
pub(crate) const RESET_LIFE: u64 = 3600;
/// Wrong second factors of one account, and for how long they count, in seconds.
pub(crate) const MFA_TRIES: u64 = 5;
const MFA_WINDOW: u64 = 15 * 60;

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

/// How somebody proved first who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// By the password of the account.
    Password,
    /// By the word of another provider.
    Provider,
}

/// How they proved it once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// By six digits of the authenticator.
    Totp,
    /// By one of the recovery codes.
    Recovery,
}

/// What was proven at a sign-in; the text has the names of RFC 8176, as far as it has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proven {
    pub(crate) first: First,
    pub(crate) second: Option<Second>,
}

impl fmt::Display for First {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password => "pwd",
            Self::Provider => "oidc",
        })
    }
}

impl FromStr for First {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Password, Self::Provider]
            .into_iter()
            .find(|first| first.to_string() == text)
            .ok_or(UnknownWord)
    }
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Totp => "otp",
            Self::Recovery => "rec",
        })
    }
}

impl fmt::Display for Proven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.second {
            None => self.first.fmt(f),
            Some(second) => write!(f, "{} {second}", self.first),
        }
    }
}

impl FromStr for Proven {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let (first, second) = match text.split_once(' ') {
            None => (text, None),
            Some((first, second)) => (first, Some(second)),
        };
        let second = match second {
            None => None,
            Some(text) => {
                let known = [Second::Totp, Second::Recovery];
                Some(known.into_iter().find(|second| second.to_string() == text).ok_or(UnknownWord)?)
            }
        };
        Ok(Self { first: first.parse()?, second })
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

/// Did this person prove who they are minutes ago?
pub(crate) fn fresh(person: &Person, now: u64) -> Result<(), Refusal> {
    if now < person.auth_time + FRESH {
        return Ok(());
    }
    Err(Refusal::new(Code::StepUpRequired, "this needs a sign-in that is not older than ten minutes"))
}

/// May this person sign a device in, which lasts longer than their session? It must have begun minutes ago; a provider that
/// cannot tell when they proved who they are will do, because there is no other way to sign a device in by it.
pub(crate) fn may_sign_in_device(person: &Person, now: u64) -> Result<(), Refusal> {
    if now < person.began_at + FRESH {
        return Ok(());
    }
    fresh(person, now)
}

/// Did this person give a second factor minutes ago?
pub(crate) fn fresh_second(person: &Person, now: u64) -> Result<(), Refusal> {
    if person.proven.second.is_some() && fresh(person, now).is_ok() {
        return Ok(());
    }
    Err(Refusal::new(
        Code::StepUpRequired,
        "this needs a code of the authenticator, or a sign-in with one that is not older than ten minutes",
    ))
}

/// Wrong second factors of an account, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    /// When the first of them was.
    pub(crate) since: u64,
}

impl Failures {
    /// May one more be tried? If not: in how many seconds.
    pub(crate) fn may_try(self, now: u64) -> Result<(), u64> {
        let current = self.current(now);
        // A clock set back must not lock anybody out for longer than the window.
        if current.count < MFA_TRIES {
            Ok(())
        } else {
            Err((current.since + MFA_WINDOW - now).min(MFA_WINDOW))
        }
    }

    /// One more.
    pub(crate) fn and_one(self, now: u64) -> Self {
        let Self { count, since } = self.current(now);
        Self { count: count + 1, since }
    }

    fn current(self, now: u64) -> Self {
        let counts = self.count > 0 && self.since <= now && now < self.since + MFA_WINDOW;
        if counts { self } else { Self { count: 0, since: now } }
    }
}

/// What becomes of a refresh token that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// It is spent now, and another takes its place.
    Next,
    /// A moment ago it was spent by somebody who holds its successor: an access token, and nothing to go on with, so
    /// that the family has one line only.
    Raced,
    /// It was spent before: two hold the family, one of them stole it. It ends.
    Reused,
    /// It has lasted long enough.
    Over,
}

/// Decides on a refresh token: when it was spent, if it was, when it and its session end, how often that was renewed.
pub(crate) fn rotation(spent_at: Option<u64>, end: u64, rotations: u64, now: u64) -> Rotation {
    match spent_at {
        _ if end <= now => Rotation::Over,
        Some(at) if now < at.saturating_add(RACE) => Rotation::Raced,
        Some(_) => Rotation::Reused,
        None if rotations >= MAX_ROTATIONS => Rotation::Over,
        None => Rotation::Next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn person(proven: &str, auth_time: u64) -> Person {
        Person {
            id: "acc_1".to_owned(),
            tenant: "ten_a".parse().unwrap(),
            email: "a@b.example".to_owned(),
            role: Role::Member,
            session: "ses_1".to_owned(),
            auth_time,
            began_at: auth_time,
            proven: proven.parse().unwrap(),
        }
    }

    #[test]
    fn what_was_proven_reads_back() {
        for text in ["pwd", "oidc", "pwd otp", "oidc rec"] {
            assert_eq!(text.parse::<Proven>().unwrap().to_string(), text);
        }
        for bad in ["", "otp", "pwd ", "pwd pwd", "pwd otp rec"] {
            assert_eq!(bad.parse::<Proven>(), Err(UnknownWord), "{bad:?}");
        }
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

    #[test]
    fn a_second_factor_is_fresh_for_ten_minutes() {
        let code = |proven, auth_time| fresh_second(&person(proven, auth_time), NOW).map_err(|no| no.code);
        assert_eq!(code("pwd otp", NOW - FRESH + 1), Ok(()));
        assert_eq!(code("pwd rec", NOW), Ok(()));
        assert_eq!(code("pwd otp", NOW - FRESH), Err(Code::StepUpRequired));
        assert_eq!(code("pwd", NOW), Err(Code::StepUpRequired));
        assert!(fresh(&person("pwd", NOW - FRESH + 1), NOW).is_ok());
        assert!(fresh(&person("pwd", NOW - FRESH), NOW).is_err());
    }

    #[test]
    fn five_wrong_codes_then_a_wait_whatever_the_clock_does() {
        let mut failures = Failures { count: 0, since: 0 };
        for second in 0..MFA_TRIES {
            assert_eq!(failures.may_try(NOW + second), Ok(()));
            failures = failures.and_one(NOW + second);
        }
        assert_eq!(failures.may_try(NOW + 100), Err(MFA_WINDOW - 100));
        assert_eq!(failures.may_try(NOW + MFA_WINDOW), Ok(()));
        assert_eq!(failures.and_one(NOW + MFA_WINDOW), Failures { count: 1, since: NOW + MFA_WINDOW });
        assert_eq!(failures.may_try(NOW - 5000), Ok(()));
    }

    #[test]
    fn a_refresh_token_is_good_once() {
        let end = NOW + 100;
        assert_eq!(rotation(None, end, 0, NOW), Rotation::Next);
        assert_eq!(rotation(Some(NOW - RACE + 1), end, 1, NOW), Rotation::Raced);
        assert_eq!(rotation(Some(NOW - RACE), end, 1, NOW), Rotation::Reused);
        assert_eq!(rotation(None, NOW, 0, NOW), Rotation::Over);
        assert_eq!(rotation(Some(NOW - 5), NOW, 0, NOW), Rotation::Over);
        assert_eq!(rotation(None, end, MAX_ROTATIONS, NOW), Rotation::Over);
    }
}
