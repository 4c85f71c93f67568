//! Gates and the plans that allow them: who may change them, and what an allow-list may name.

use mytunnel_keys::error::Code;
use mytunnel_keys::feed::SignInGate;
use mytunnel_keys::id::Serial;

use super::{Caller, DEVICE_STALENESS, Refusal, Role, belongs_to};
use crate::store::{KeyKind, KeyRow};

/// How long relays that were away are told of a tunnel that was closed: as long as the longest of them may serve
/// without news, and more than the difference of clocks.
pub(crate) const CLOSING_LIFE: u64 = DEVICE_STALENESS as u64 + 3600;
/// Longest name of a gate's user, in characters.
const MAX_USER: usize = 64;
/// Shortest and longest password of a gate, in characters and in bytes.
const MIN_PASSWORD: usize = 8;
const MAX_PASSWORD: usize = 1024;
/// Domains, and addresses, in an allow-list.
const MAX_ALLOWED: usize = 100;
/// Longest address and domain (RFC 5321, RFC 1035).
const MAX_EMAIL: usize = 254;
const MAX_DOMAIN: usize = 253;
/// Gates of one tenant, and the length of their allow-lists together, in bytes. Every relay holds them all, and a
/// snapshot of the feed carries them in one frame of 16 MiB.
const MAX_GATES: u64 = 2000;
const MAX_LISTS: u64 = 2 * 1024 * 1024;
/// Who may vouch for visitors.
const PROVIDERS: [&str; 1] = ["google"];

/// What a tenant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Everything.
    Pro,
    /// Everything until this second.
    Trial { until: u64 },
    /// No new password gates.
    Free,
}

impl Plan {
    /// The plan of this name; only a trial has an end.
    pub(crate) fn new(name: &str, trial_ends_at: Option<u64>) -> Option<Self> {
        match (name, trial_ends_at) {
            ("pro", None) => Some(Self::Pro),
            ("free", None) => Some(Self::Free),
            ("trial", Some(until)) => Some(Self::Trial { until }),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pro => "pro",
            Self::Trial { .. } => "trial",
            Self::Free => "free",
        }
    }

    pub(crate) const fn trial_ends_at(self) -> Option<u64> {
        match self {
            Self::Trial { until } => Some(until),
            Self::Pro | Self::Free => None,
        }
    }

    const fn has_passwords(self, now: u64) -> bool {
        match self {
            Self::Pro => true,
            Self::Trial { until } => now < until,
            Self::Free => false,
        }
    }
}

/// May a tenant of this plan set a password gate? What stands stays, and may be taken away, whatever the plan.
pub(crate) fn may_ask_for_password(plan: Plan, now: u64) -> Result<(), Refusal> {
    if plan.has_passwords(now) {
        return Ok(());
    }
    let message = match plan {
        Plan::Trial { .. } => {
            "the trial has ended; a password before a tunnel needs the plan `pro`".to_owned()
        }
        Plan::Pro | Plan::Free => {
            format!("the plan `{}` has no password before a tunnel", plan.name())
        }
    };
    Err(Refusal::new(Code::UpgradeRequired, message))
}

/// What the gates of a tenant come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GatesThere {
    pub(crate) count: u64,
    /// Bytes of their allow-lists.
    pub(crate) lists: u64,
}

/// May a tenant with these gates set one more, or another?
pub(crate) fn has_room_for_gates(there: GatesThere) -> Result<(), Refusal> {
    if there.count < MAX_GATES && there.lists < MAX_LISTS {
        return Ok(());
    }
    let message = format!(
        "there are {MAX_GATES} gates already, or lists of {MAX_LISTS} bytes; take some away that nobody needs"
    );
    Err(Refusal::new(Code::TunnelLimit, message))
}

/// Who has set a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetBy {
    Nobody,
    Owner,
    /// A child of this key.
    ChildOf(Serial),
}

/// As whom the caller sets a password.
pub(crate) fn sets_as(caller: &Caller) -> Option<Serial> {
    match caller {
        Caller::Key(key) if key.kind == KeyKind::Child => key.parent,
        Caller::Key(key) if key.role == Some(Role::Member) => Some(key.serial),
        Caller::Account(_) | Caller::Key(_) => None,
    }
}

/// May the caller set, change or take away the password before a tunnel within its reach? A child, and a device of a
/// member, may ask for one where there is none, and change what its like have set; who holds it could else open what an
/// owner has closed.
pub(crate) fn may_change_password(caller: &Caller, there: SetBy) -> Result<(), Refusal> {
    let key = match caller {
        Caller::Account(_) => return may_change_gates(caller),
        Caller::Key(key) => key,
    };
    if matches!(key.kind, KeyKind::Master | KeyKind::Relay) {
        return may_change_gates(caller);
    }
    match (sets_as(caller), there) {
        (None, _) | (Some(_), SetBy::Nobody) => Ok(()),
        (Some(family), SetBy::ChildOf(parent)) if family == parent => Ok(()),
        (Some(_), SetBy::Owner | SetBy::ChildOf(_)) => {
            let message = "somebody else has set a password before this tunnel; this key cannot change it";
            Err(Refusal::new(Code::ScopeDenied, message))
        }
    }
}

/// May the caller change other gates of the tunnels within its reach?
pub(crate) fn may_change_gates(caller: &Caller) -> Result<(), Refusal> {
    let denied = |message| Err(Refusal::new(Code::ScopeDenied, message));
    let members =
        "only an owner can change a tunnel's gates; a member's device may set a password for what it shares";
    let key = match caller {
        Caller::Account(person) if person.role == Role::Member => return denied(members),
        Caller::Account(_) => return Ok(()),
        Caller::Key(key) => key,
    };
    match key.kind {
        KeyKind::User if key.role == Some(Role::Member) => denied(members),
        KeyKind::User => Ok(()),
        KeyKind::Master => {
            Err(Refusal::new(Code::MasterCannotAct, "a master key cannot change a tunnel's gates"))
        }
        KeyKind::Child => denied("a child key cannot change this gate"),
        KeyKind::Relay => denied("a relay cannot change a tunnel's gates"),
    }
}

/// May the caller touch a tunnel within its reach that this key serves? A member only what is served by devices of their
/// own, and by what those minted.
pub(crate) fn may_touch_tunnel(caller: &Caller, serving: Option<&KeyRow>) -> Result<(), Refusal> {
    let member = match caller {
        Caller::Account(person) => (person.role == Role::Member).then_some(person.id.as_str()),
        Caller::Key(key) if key.role == Some(Role::Member) => {
            Some(key.account.as_deref().unwrap_or_default())
        }
        Caller::Key(_) => None,
    };
    match member {
        Some(account) if !serving.is_some_and(|key| belongs_to(key, account)) => {
            Err(Refusal::new(Code::ScopeDenied, "this tunnel is somebody else's; an owner can do that"))
        }
        Some(_) | None => Ok(()),
    }
}

/// The user's name of a password gate. Both it and the password must fit into the header that browsers send (RFC 7617).
pub(crate) fn gate_user(user: String) -> Result<String, Refusal> {
    let length = user.chars().count();
    if !(1..=MAX_USER).contains(&length) || user.contains(':') || user.chars().any(char::is_control) {
        let message = format!("user: it needs 1 to {MAX_USER} characters, and no colon among them");
        return Err(Refusal::new(Code::BadRequest, message));
    }
    Ok(user)
}

pub(crate) fn check_gate_password(password: &str) -> Result<(), Refusal> {
    let long_enough = password.chars().count() >= MIN_PASSWORD;
    if !long_enough || password.len() > MAX_PASSWORD || password.chars().any(char::is_control) {
        let message = format!(
            "password: it needs {MIN_PASSWORD} characters at least, {MAX_PASSWORD} bytes at most, on one line"
        );
        return Err(Refusal::new(Code::BadRequest, message));
    }
    Ok(())
}

/// A sign-in gate in its one form: lower case, sorted, each entry once.
pub(crate) fn sign_in_gate(
    provider: &str,
    domains: &[String],
    emails: &[String],
) -> Result<SignInGate, Refusal> {
    if !PROVIDERS.contains(&provider) {
        let message = format!("provider: this server knows {}", PROVIDERS.join(", "));
        return Err(Refusal::new(Code::UnsupportedProvider, message));
    }
    Ok(SignInGate {
        provider: provider.to_owned(),
        allowed_domains: all("allowed_domains", domains, domain)?,
        allowed_emails: all("allowed_emails", emails, email)?,
    })
}

fn all(
    field: &str,
    entries: &[String],
    read: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Refusal> {
    let refused = |message: String| Refusal::new(Code::BadRequest, format!("{field}: {message}"));
    if entries.len() > MAX_ALLOWED {
        return Err(refused(format!("at most {MAX_ALLOWED} entries")));
    }
    let mut read_all = Vec::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        // The entry itself is not repeated: it may be long, and what a terminal should not show.
        read_all.push(read(entry).ok_or_else(|| refused(format!("entry {} is none", place + 1)))?);
    }
    read_all.sort_unstable();
    read_all.dedup();
    Ok(read_all)
}

/// One `@`, something before it and a whole domain behind it; all of it printable ASCII.
fn email(typed: &str) -> Option<String> {
    let email = typed.to_ascii_lowercase();
    let (user, host) = email.split_once('@')?;
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"(),:;<>@[\\]".contains(&byte);
    let whole = email.len() <= MAX_EMAIL && (1..=64).contains(&user.len()) && user.bytes().all(plain);
    (whole && domain(host).as_deref() == Some(host)).then_some(email)
}

/// Two labels at least: a top-level domain has no addresses of its own.
fn domain(typed: &str) -> Option<String> {
    let domain = typed.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let whole = domain.len() <= MAX_DOMAIN && domain.contains('.') && domain.split('.').all(label);
    whole.then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(provider: &str, domains: &[&str], emails: &[&str]) -> Result<SignInGate, Refusal> {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        sign_in_gate(provider, &owned(domains), &owned(emails))
    }

    #[test]
    fn only_pro_and_a_trial_that_runs_have_passwords() {
        let now = 1000;
        assert_eq!(may_ask_for_password(Plan::Pro, now), Ok(()));
        assert_eq!(may_ask_for_password(Plan::Trial { until: now + 1 }, now), Ok(()));
        for plan in [Plan::Trial { until: now }, Plan::Free] {
            assert_eq!(may_ask_for_password(plan, now).unwrap_err().code, Code::UpgradeRequired, "{plan:?}");
        }
    }

    #[test]
    fn the_gates_of_a_tenant_fit_into_a_snapshot() {
        let room = |count, lists| has_room_for_gates(GatesThere { count, lists }).is_ok();
        assert!(room(MAX_GATES - 1, MAX_LISTS - 1));
        assert!(!room(MAX_GATES, 0) && !room(0, MAX_LISTS));
        let largest = MAX_ALLOWED * (MAX_EMAIL + MAX_DOMAIN + 2);
        assert!(MAX_LISTS as usize + largest + MAX_GATES as usize * 1024 < 8 * 1024 * 1024);
    }

    #[test]
    fn a_trial_has_an_end_and_no_other_plan_has() {
        for plan in [Plan::Pro, Plan::Trial { until: 9 }, Plan::Free] {
            assert_eq!(Plan::new(plan.name(), plan.trial_ends_at()), Some(plan));
        }
        for (name, end) in [("trial", None), ("pro", Some(9)), ("free", Some(9)), ("gold", None), ("", None)]
        {
            assert_eq!(Plan::new(name, end), None, "{name} {end:?}");
        }
    }

    #[test]
    fn allow_lists_have_one_form() {
        let gate = gate("google", &["Acme.Example", "b.example", "acme.example"], &["Ann@Acme.example"]);
        let gate = gate.unwrap();
        assert_eq!(gate.allowed_domains, ["acme.example", "b.example"]);
        assert_eq!(gate.allowed_emails, ["ann@acme.example"]);
    }

    #[test]
    fn what_is_no_whole_domain_or_address_is_refused() {
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            "example",
            ".example",
            "a.",
            "a..b",
            "-a.b",
            "a-.b",
            "@a.b",
            "*.a.b",
            "a b.c",
            "a.b\n",
            " a.b",
            "b\u{e4}r.example",
            "a.b:80",
            "a_b.c",
            &long,
        ] {
            assert!(gate("google", &[bad], &[]).is_err(), "{bad:?}");
        }
        for bad in [
            "",
            "ann",
            "@a.b",
            "ann@",
            "ann@b",
            "x@evil.example@acme.example",
            "ann@acme.example ",
            "\u{430}nn@acme.example",
            "a,b@acme.example",
            "\"a\"@acme.example",
            "ann@.acme.example",
            "ann@acme.example.",
            "a\0@b.example",
        ] {
            assert!(gate("google", &[], &[bad]).is_err(), "{bad:?}");
        }
        let many = |count: usize| (0..count).map(|at| format!("d{at}.example")).collect::<Vec<_>>();
        assert!(sign_in_gate("google", &many(100), &[]).is_ok());
        assert!(sign_in_gate("google", &many(101), &[]).is_err());
        assert_eq!(gate("github", &[], &[]).unwrap_err().code, Code::UnsupportedProvider);
        assert_eq!(gate("Google", &[], &[]).unwrap_err().code, Code::UnsupportedProvider);
    }

    #[test]
    fn user_and_password_have_their_lengths() {
        for good in ["a", "Ann Ä", &"ä".repeat(64)] {
            assert!(gate_user(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "a:b", "a\nb", &"a".repeat(65)] {
            assert!(gate_user(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(check_gate_password("12345678").is_ok());
        for bad in ["1234567", "1234567\u{7}8", &"x".repeat(1025)] {
            assert!(check_gate_password(bad).is_err(), "{bad:?}");
        }
    }
}
