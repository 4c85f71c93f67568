//! Proofs of who somebody is: what was proven and how long that counts, sessions that live of it, and guesses.

use std::fmt;
use std::str::FromStr;

use mytunnel_keys::error::Code;

use super::Refusal;
use super::people::{Person, UnknownWord};

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
/// Wrong second factors of one account, and for how long they count, in seconds.
pub(crate) const MFA_TRIES: u64 = 5;
const MFA_WINDOW: u64 = 15 * 60;

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
    use super::super::Role;
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
