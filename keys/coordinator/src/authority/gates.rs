//! Gates and the plans that allow them: who may change them.

mod written;

use mytunnel_keys::error::Code;
use mytunnel_keys::id::{Serial, TunnelKind};

pub(crate) use self::written::{
    addresses, check_gate_password, check_pin, check_token, end_of_life, gate_user, pin, sign_in_list,
};

use super::{Caller, DEVICE_STALENESS, Refusal, Role, belongs_to};
use crate::live::Holder;
use crate::store::{KeyKind, KeyRow};

/// How long relays that were away are told of a tunnel that was closed: as long as the longest of them may serve
/// without news, and more than the difference of clocks.
pub(crate) const CLOSING_LIFE: u64 = DEVICE_STALENESS as u64 + 3600;
/// Gates of one tenant, and the length of their allow-lists together, in bytes. Every relay holds them all, and a
/// snapshot of the feed carries them in one frame of 16 MiB.
const MAX_GATES: u64 = 2000;
const MAX_LISTS: u64 = 2 * 1024 * 1024;

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

/// What a visitor has to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GateKind {
    Basic,
    SignIn,
    Pin,
    Bearer,
    Addresses,
    /// Nothing to pass, but the second at which there is nothing any more.
    End,
}

impl GateKind {
    /// What it is called, in the database too.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::SignIn => "oidc",
            Self::Pin => "pin",
            Self::Bearer => "bearer",
            Self::Addresses => "ip",
            Self::End => "end",
        }
    }

    /// The kind of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = [Self::Basic, Self::SignIn, Self::Pin, Self::Bearer, Self::Addresses, Self::End];
        all.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether a right token is let through in its place.
    const fn is_for_people(self) -> bool {
        match self {
            Self::Basic | Self::SignIn | Self::Pin => true,
            Self::Bearer | Self::Addresses | Self::End => false,
        }
    }

    const fn needs_plan(self) -> bool {
        match self {
            Self::Basic | Self::Pin | Self::Bearer | Self::Addresses => true,
            Self::SignIn | Self::End => false,
        }
    }
}

/// May a tenant of this plan set such a gate? What stands stays, and may be taken away, whatever the plan.
pub(crate) fn may_have_gate(kind: GateKind, plan: Plan, now: u64) -> Result<(), Refusal> {
    if !kind.needs_plan() || plan.has_passwords(now) {
        return Ok(());
    }
    let what = match kind {
        GateKind::Pin => "a PIN",
        GateKind::Bearer => "a token",
        GateKind::Addresses => "a list of addresses",
        GateKind::Basic | GateKind::SignIn | GateKind::End => "a password",
    };
    let message = match plan {
        Plan::Trial { .. } => format!("the trial has ended; {what} before a tunnel needs the plan `pro`"),
        Plan::Pro | Plan::Free => format!("the plan `{}` has not {what} before a tunnel", plan.name()),
    };
    Err(Refusal::new(Code::UpgradeRequired, message))
}

/// May such a gate stand before a tunnel of this kind? Of visitors whose bytes a relay does not read nothing can be asked: what
/// they cannot show would keep them all out.
pub(crate) fn may_stand_before(kind: GateKind, tunnel: TunnelKind) -> Result<(), Refusal> {
    let what = match kind {
        GateKind::Addresses | GateKind::End => return Ok(()),
        GateKind::Basic => "a password",
        GateKind::SignIn => "a sign-in",
        GateKind::Pin => "a PIN",
        GateKind::Bearer => "a token",
    };
    match tunnel {
        TunnelKind::Http => Ok(()),
        TunnelKind::Tcp | TunnelKind::Udp | TunnelKind::Private | TunnelKind::Tls => {
            let message = format!(
                "the relay cannot ask visitors of a {} tunnel for {what}: it would keep all of them out; their addresses \
                 and an end can be set",
                tunnel.as_str()
            );
            Err(Refusal::new(Code::BadRequest, message))
        }
    }
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

/// Who has set a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetBy {
    Owner,
    /// A child of this key.
    ChildOf(Serial),
}

/// As whom the caller sets a gate.
pub(crate) fn sets_as(caller: &Caller) -> Option<Serial> {
    match caller {
        Caller::Key(key) if key.kind == KeyKind::Child => key.parent,
        Caller::Key(key) if key.role == Some(Role::Member) => Some(key.serial),
        Caller::Account(_) | Caller::Key(_) => None,
    }
}

/// May the caller set, change or take away such a gate of a tunnel within its reach that has these? A child, and a device
/// of a member, may set one where there is none, and change what its like have set; who holds it could else open what an
/// owner has closed.
pub(crate) fn may_change_gate(
    caller: &Caller,
    kind: GateKind,
    there: &[(GateKind, SetBy)],
) -> Result<(), Refusal> {
    let denied = |message| Err(Refusal::new(Code::ScopeDenied, message));
    let key = match caller {
        Caller::Account(person) if person.role == Role::Member => {
            return denied(
                "only an owner can change a tunnel's gates; a member's device may set them for what it shares",
            );
        }
        Caller::Account(_) => return Ok(()),
        Caller::Key(key) => key,
    };
    match key.kind {
        KeyKind::Master => {
            return Err(Refusal::new(Code::MasterCannotAct, "a master key cannot change a tunnel's gates"));
        }
        KeyKind::Relay => return denied("a relay cannot change a tunnel's gates"),
        KeyKind::User | KeyKind::Child => {}
    }
    let Some(family) = sets_as(caller) else { return Ok(()) };
    // A token is let through in place of what people are asked for: who sets it makes another way in.
    let concerned = |other: GateKind| other == kind || (kind == GateKind::Bearer && other.is_for_people());
    match there.iter().any(|(other, by)| concerned(*other) && *by != SetBy::ChildOf(family)) {
        true => denied("somebody else has set a gate before this tunnel; this key cannot change it"),
        false => Ok(()),
    }
}

const ANOTHERS: &str = "this tunnel is somebody else's; an owner can do that";

/// May the caller set such a gate while these serve the tunnel? Whoever may set gates for its like alone is not to ask the
/// visitors of others for anything, and ends nobody's tunnel but its own: it could stand before one, or end it, with one call.
pub(crate) fn may_gate_live(
    caller: &Caller,
    kind: GateKind,
    mut serving: impl Iterator<Item = Holder>,
) -> Result<(), Refusal> {
    let (Caller::Key(key), Some(family)) = (caller, sets_as(caller)) else { return Ok(()) };
    let own = |holder: &Holder| holder.serial == key.serial;
    let alike = |holder: &Holder| own(holder) || (kind != GateKind::End && holder.parent == Some(family));
    if serving.all(|holder| alike(&holder)) {
        return Ok(());
    }
    Err(match key.kind {
        KeyKind::Child => {
            Refusal::new(Code::NameTaken, "another key serves this name at the moment; nothing was changed")
        }
        KeyKind::User | KeyKind::Master | KeyKind::Relay => Refusal::new(Code::ScopeDenied, ANOTHERS),
    })
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
            Err(Refusal::new(Code::ScopeDenied, ANOTHERS))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::written::{MAX_ALLOWED, MAX_DOMAIN, MAX_EMAIL};
    use super::*;

    const ALL: [GateKind; 6] = [
        GateKind::Basic,
        GateKind::SignIn,
        GateKind::Pin,
        GateKind::Bearer,
        GateKind::Addresses,
        GateKind::End,
    ];

    #[test]
    fn only_before_web_sites_stands_what_visitors_have_to_show() {
        for kind in ALL {
            assert_eq!(may_stand_before(kind, TunnelKind::Http), Ok(()));
            for tunnel in TunnelKind::ALL.into_iter().filter(|tunnel| *tunnel != TunnelKind::Http) {
                let is_shown = !matches!(kind, GateKind::Addresses | GateKind::End);
                assert_eq!(may_stand_before(kind, tunnel).is_err(), is_shown, "{kind:?} {tunnel:?}");
            }
        }
    }

    #[test]
    fn only_pro_and_a_trial_that_runs_have_all_gates() {
        let now = 1000;
        for kind in ALL {
            assert_eq!(may_have_gate(kind, Plan::Pro, now), Ok(()));
            assert_eq!(may_have_gate(kind, Plan::Trial { until: now + 1 }, now), Ok(()));
            let free = matches!(kind, GateKind::SignIn | GateKind::End);
            for plan in [Plan::Trial { until: now }, Plan::Free] {
                let refused = may_have_gate(kind, plan, now).err().map(|refusal| refusal.code);
                assert_eq!(refused, (!free).then_some(Code::UpgradeRequired), "{plan:?} {kind:?}");
            }
        }
    }

    #[test]
    fn a_gate_is_stored_under_its_name() {
        for kind in ALL {
            assert_eq!(GateKind::named(kind.name()), Some(kind));
        }
        assert_eq!(GateKind::named("x"), None);
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
}
