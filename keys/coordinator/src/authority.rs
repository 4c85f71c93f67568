//! Who may do what: decisions, and nothing but decisions.
//!
//! Every rule of delegation is here, as functions of what the store knows and of `now`. A master key mints and
//! revokes the children of its own project and does nothing else; a child mints nothing; rights only ever get
//! narrower; anybody may revoke the key that they hold.

mod devices;
mod domains;
mod gates;
mod identities;
mod mint;
mod people;
mod proofs;
mod rows;
mod tickets;

use std::fmt;

use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Change;
use mytunnel_keys::id::{ProjectId, Serial, TenantId, TunnelKind, TunnelName};
use mytunnel_keys::usage::Standing;

pub(crate) use self::devices::{
    DEVICE_TTL, may_add_device, may_renew_device, narrowest_budget, shares_budget,
};
pub(crate) use self::domains::{
    After, Doubts, Holder, LOOK_AGAIN, Look, Shown, after_look, domain, has_room_for_domains,
    may_change_domains, may_see_domains, record_name, record_value, shown,
};
pub(crate) use self::gates::{
    CLOSING_LIFE, GateKind, GatesThere, Plan, SetBy, addresses, check_gate_password, check_pin, check_token,
    end_of_life, gate_user, has_room_for_gates, may_change_gate, may_gate_live, may_have_gate,
    may_stand_before, may_touch_tunnel, pin, sets_as, sign_in_list,
};
pub(crate) use self::identities::{
    CODE_LIFE, MAX_SIGN_INS, Newcomer, NoEntry, NoLink, SIGN_IN_LIFE, may_enter, may_join, may_link,
    may_unlink,
};
pub(crate) use self::mint::{Grant, MintFacts, MintRequest, may_mint, minted_before};
pub(crate) use self::people::{
    INVITATION_LIFE, Person, RESET_LIFE, Role, in_session, may_add_relays, may_change_people,
    may_change_role, may_invite, may_leave, may_make_projects, own_account,
};
pub(crate) use self::proofs::{
    CHALLENGE_LIFE, FRESH, Failures, First, MAX_SESSIONS, Proven, Rotation, SESSION_IDLE, SESSION_LIFE,
    Second, fresh, fresh_second, may_sign_in_device, rotation,
};
pub(crate) use self::rows::{child, device, guest, master, relay};
pub(crate) use self::tickets::{
    KeptTickets, Redemption, TICKETS_REMEMBERED, for_guest, may_issue_ticket, may_redeem,
    may_withdraw_ticket, no_such_ticket, not_let_in, ticket_there, ticket_used,
};
use crate::audit::Party;
use crate::store::{KeyKind, KeyRow, Maker, Project};

/// Shortest life of a child, in seconds.
pub(crate) const MIN_TTL: u64 = 60;
/// Longest life of a child, in seconds. Relays refuse a longer one even if the issuer signed it.
pub(crate) const MAX_TTL: u64 = 24 * 3600;
/// Life of a relay's certificate, in seconds, unless the operator sets another. Nodes have no feed: they believe a relay
/// that was revoked for as long, which is thus no longer than a child lives. Relays renew it at half of its life, so that
/// a coordinator may be away for twelve hours before one ends; service without it ends far earlier.
pub(crate) const RELAY_TTL: u64 = 24 * 3600;
/// How old a relay's knowledge may be for it to serve a child, in seconds.
pub(crate) const CHILD_STALENESS: u32 = 60;
/// The same for a person's device.
pub(crate) const DEVICE_STALENESS: u32 = 3600;
/// How long relays must know a cascade: a child of the revoked key may live that long, and clocks differ.
pub(crate) const TREE_LIFE: u64 = MAX_TTL + 300;
/// How long relays must know that a project was deleted: a device may be for it alone.
pub(crate) const PROJECT_LIFE: u64 = DEVICE_TTL + REVOKED_GRACE;
/// The largest budget of a month, in cents.
pub(crate) const MAX_BUDGET: u64 = 1_000_000_000;
/// How long beyond a key's own end relays must know that it was revoked, in seconds.
pub(crate) const REVOKED_GRACE: u64 = 300;

/// A request that was understood and refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn unknown_key() -> Self {
        Self::new(Code::InvalidKey, "this key is not known here")
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Who asks, proven by a session or by a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A person with a session.
    Account(Person),
    /// A key that signed the request.
    Key(Box<KeyRow>),
}

impl Caller {
    /// How the audit log names them.
    pub(crate) fn party(&self) -> Party {
        match self {
            Self::Account(account) => Party::Account(account.email.clone()),
            Self::Key(key) => Party::Key(key.kind, key.serial),
        }
    }

    /// Who it is that makes something which outlives them.
    pub(crate) fn maker(&self) -> Maker {
        match self {
            Self::Account(person) => Maker { account: Some(person.id.clone()), device: None },
            Self::Key(key) => Maker { account: key.account.clone(), device: Some(key.serial) },
        }
    }

    pub(crate) const fn tenant(&self) -> &TenantId {
        match self {
            Self::Account(account) => &account.tenant,
            Self::Key(key) => &key.tenant,
        }
    }
}

/// What a caller may see and change in listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) tenant: TenantId,
    /// One project only.
    pub(crate) project: Option<ProjectId>,
    /// This key and its children only.
    pub(crate) family: Option<Serial>,
}

/// Since when a key is revoked, by itself, with its parent or with its project.
pub(crate) fn revoked_at(key: &KeyRow) -> Option<u64> {
    [key.revoked_at, key.parent_cascaded_at, key.project_deleted_at].into_iter().flatten().min()
}

/// Does the key stand at this moment?
pub(crate) fn stands(key: &KeyRow, now: u64) -> Result<(), Refusal> {
    if revoked_at(key).is_some() {
        return Err(Refusal::new(Code::KeyRevoked, format!("this {} key was revoked", key.kind.name())));
    }
    if key.not_after.is_some_and(|end| end <= now) {
        return Err(Refusal::new(Code::KeyExpired, format!("this {} key has expired", key.kind.name())));
    }
    Ok(())
}

/// May the tenant have one more project, under a name that `named` would have already?
pub(crate) fn may_create_project(named: Option<&Project>, count: u64, most: u64) -> Result<(), Refusal> {
    if let Some(there) = named {
        let message = format!("there is a project of that name already: {}", there.id);
        return Err(Refusal::new(Code::NameTaken, message));
    }
    if count >= most {
        return Err(Refusal::new(Code::BadRequest, format!("a tenant has at most {most} projects")));
    }
    Ok(())
}

/// May the project end? The tenant's own may not: devices serve in it, and they are not issued for a project that
/// could end with it.
pub(crate) fn may_delete_project(project: &Project) -> Result<(), Refusal> {
    if project.id == project.tenant.home_project() {
        let message = "this project holds what your devices share; it cannot be deleted";
        return Err(Refusal::new(Code::BadRequest, message));
    }
    Ok(())
}

/// The master key of a new project is there already: the same request again, or a stranger's key.
pub(crate) fn created_before(named: Option<Project>, key: &KeyRow) -> Result<(Project, Serial), Refusal> {
    match named {
        Some(project) if key.kind == KeyKind::Master && key.project.as_ref() == Some(&project.id) => {
            Ok((project, key.serial))
        }
        Some(_) | None => {
            Err(Refusal::new(Code::BadRequest, "this public key belongs to another key; make a new pair"))
        }
    }
}

/// May a relay with this key be enrolled? One that is there may be given a new life, unless it was revoked.
pub(crate) fn may_enroll(there: Option<&KeyRow>) -> Result<(), Refusal> {
    match there {
        Some(key) if key.kind != KeyKind::Relay => {
            Err(Refusal::new(Code::BadRequest, "this public key belongs to another key; make a new pair"))
        }
        Some(key) if key.revoked_at.is_some() => {
            Err(Refusal::new(Code::KeyRevoked, "this relay was revoked; make a new key pair"))
        }
        Some(_) | None => Ok(()),
    }
}

/// May a key ask for a new certificate, as far as its own state goes? A relay may though its own has ended, because it
/// may have been switched off for long: the request proved its key, and only revoking it ends that right.
pub(crate) fn may_ask_renewal(key: &KeyRow, now: u64) -> Result<(), Refusal> {
    match key.kind {
        KeyKind::Relay if revoked_at(key).is_none() => Ok(()),
        KeyKind::Relay => Err(Refusal::new(Code::KeyRevoked, "this relay was revoked; make a new key pair")),
        KeyKind::User | KeyKind::Master | KeyKind::Child => stands(key, now),
    }
}

/// The enrolled relay behind a key, if its certificate may have a new life.
pub(crate) fn renewable_relay(key: Option<KeyRow>, now: u64) -> Result<KeyRow, Refusal> {
    let relay = key.filter(|key| key.kind == KeyKind::Relay).ok_or_else(Refusal::unknown_key)?;
    may_ask_renewal(&relay, now)?;
    Ok(relay)
}

/// Has a relay's certificate hardly begun the life that it would get? Then it is issued once more as it is: a relay that
/// asks again and again, because answers are lost or because it means harm, leaves nothing behind.
pub(crate) fn has_new_life(relay: &KeyRow, life: u64, now: u64) -> bool {
    let age = now.checked_sub(relay.issued_at);
    age.is_some_and(|age| age < life / 10) && relay.not_after == Some(relay.issued_at + life)
}

/// May the key have a tunnel of that name and kind now, by what is known here? Asked of what relays report, with some
/// time for a report on its way.
pub(crate) fn may_have_tunnel(key: &KeyRow, name: &TunnelName, kind: TunnelKind, now: u64) -> bool {
    let serves = matches!(key.kind, KeyKind::User | KeyKind::Child) && key.max_tunnels > 0;
    let in_time = key.not_after.is_none_or(|end| now < end + REVOKED_GRACE);
    let scopes = if key.kind == KeyKind::User { key.scopes.with_asked() } else { key.scopes };
    let in_reach = scopes.contains(kind.scope()) && key.hosts.iter().any(|host| host.matches(name));
    serves && in_time && in_reach && revoked_at(key).is_none()
}

/// May a node with this key be at a relay? Asked when a relay shows that it is, with the same time.
pub(crate) fn may_be_served(key: &KeyRow, now: u64) -> bool {
    let serves = matches!(key.kind, KeyKind::User | KeyKind::Child);
    let in_time = key.not_after.is_none_or(|end| now < end + REVOKED_GRACE);
    serves && in_time && revoked_at(key).is_none()
}

/// The enrolled relay behind a key, if it may follow the feed.
pub(crate) fn standing_relay(key: Option<KeyRow>, now: u64) -> Result<KeyRow, Refusal> {
    let relay = key.filter(|key| key.kind == KeyKind::Relay).ok_or_else(Refusal::unknown_key)?;
    stands(&relay, now)?;
    Ok(relay)
}

pub(crate) fn no_such_join_token() -> Refusal {
    Refusal::new(Code::InvalidKey, "this join token was used, has expired, or never was")
}

pub(crate) fn too_many_join_tokens() -> Refusal {
    Refusal::new(Code::RateLimited, "too many join tokens are open; use them, or wait until they end")
}

/// The tenant that the caller may administer: its projects, people, keys, budgets and log. Owners may, and their devices.
pub(crate) fn may_administer(caller: &Caller, what: &str) -> Result<TenantId, Refusal> {
    let denied = |message: String| Err(Refusal::new(Code::ScopeDenied, message));
    match caller {
        Caller::Account(person) => match person.role {
            Role::Owner => Ok(person.tenant.clone()),
            Role::Member => denied(format!("only an owner can {what}")),
        },
        Caller::Key(key) => match key.kind {
            KeyKind::User if key.project.is_none() => match key.role {
                Some(Role::Owner) => Ok(key.tenant.clone()),
                Some(Role::Member) | None => denied(format!("only an owner can {what}")),
            },
            KeyKind::User => denied(format!("this device may act in one project only; it cannot {what}")),
            KeyKind::Master => {
                Err(Refusal::new(Code::MasterCannotAct, format!("a master key cannot {what}")))
            }
            KeyKind::Child => denied(format!("a child key cannot {what}")),
            KeyKind::Relay => denied(format!("a relay cannot {what}")),
        },
    }
}

/// May the caller say what that key may cost? Whoever administers the tenant may, but nobody that of the key by which
/// they ask: a key's holder would raise it.
pub(crate) fn may_set_budget(caller: &Caller, target: &KeyRow) -> Result<(), Refusal> {
    let tenant = may_administer(caller, "set budgets")?;
    if target.tenant != tenant || target.kind == KeyKind::Relay {
        return Err(Refusal::not_found("key"));
    }
    match caller {
        Caller::Key(key) if key.serial == target.serial => {
            let message = "a key cannot set its own budget: use another device, or the dashboard";
            Err(Refusal::new(Code::ScopeDenied, message))
        }
        Caller::Key(_) | Caller::Account(_) => Ok(()),
    }
}

/// How a key of that budget stands with the relays.
pub(crate) const fn standing_of(cents: Option<u64>) -> Standing {
    match cents {
        None => Standing::Free,
        Some(0) => Standing::Frozen,
        Some(_) => Standing::Limited,
    }
}

/// Which keys the caller may list: all of the tenant, or itself with its children.
pub(crate) fn reach_of_keys(caller: &Caller) -> Result<Reach, Refusal> {
    let tenant = caller.tenant().clone();
    match caller {
        Caller::Account(_) => Ok(Reach { tenant, project: None, family: None }),
        Caller::Key(key) => match key.kind {
            KeyKind::User => Ok(Reach { tenant, project: key.project.clone(), family: None }),
            KeyKind::Master | KeyKind::Child => {
                Ok(Reach { tenant, project: key.project.clone(), family: Some(key.serial) })
            }
            KeyKind::Relay => Err(Refusal::new(Code::ScopeDenied, "a relay cannot list keys")),
        },
    }
}

/// The project to list: the caller's own, or the one that was asked for.
pub(crate) fn narrowed(
    own: Option<ProjectId>,
    wanted: Option<ProjectId>,
) -> Result<Option<ProjectId>, Refusal> {
    match (own, wanted) {
        (Some(own), Some(wanted)) if own != wanted => {
            Err(Refusal::new(Code::ProjectMismatch, "this key sees its own project only"))
        }
        (own, wanted) => Ok(own.or(wanted)),
    }
}

/// Which tunnels the caller may list. A master key has nothing to do with tunnels.
pub(crate) fn reach_of_tunnels(caller: &Caller) -> Result<Reach, Refusal> {
    if let Caller::Key(key) = caller
        && key.kind == KeyKind::Master
    {
        return Err(Refusal::new(Code::MasterCannotAct, "a master key cannot read tunnels"));
    }
    reach_of_keys(caller)
}

/// May the caller revoke that key? A member may revoke devices of their own and what those minted. Relays belong to the
/// tenant that operates the coordinator.
pub(crate) fn may_revoke(caller: &Caller, target: &KeyRow) -> Result<(), Refusal> {
    let allowed = match caller {
        Caller::Account(person) => {
            target.tenant == person.tenant && (person.role == Role::Owner || belongs_to(target, &person.id))
        }
        Caller::Key(key) if key.serial == target.serial => true,
        Caller::Key(key) => match key.kind {
            KeyKind::User => {
                let in_reach =
                    target.tenant == key.tenant && (key.project.is_none() || key.project == target.project);
                let own = |account: &str| belongs_to(target, account);
                // A device without an account is that of the person at this machine, for one project.
                in_reach && (key.role != Some(Role::Member) || key.account.as_deref().is_some_and(own))
            }
            KeyKind::Master => target.parent == Some(key.serial),
            KeyKind::Child | KeyKind::Relay => false,
        },
    };
    // Whoever may not revoke it learns nothing of it.
    if allowed { Ok(()) } else { Err(Refusal::not_found("key")) }
}

/// May the caller end master keys beside the device or the account that made them? They are the tenant's.
pub(crate) fn may_end_masters(caller: &Caller) -> Result<(), Refusal> {
    may_administer(caller, "revoke master keys").map(drop)
}

/// Is it a device of that account, or minted by one?
fn belongs_to(key: &KeyRow, account: &str) -> bool {
    [&key.account, &key.parent_account].into_iter().flatten().any(|owner| owner == account)
}

/// What a revocation changes, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reckoning {
    /// Is anything new to be written?
    pub(crate) news: bool,
    /// Keys other than children that stop standing.
    pub(crate) masters: u64,
    /// Children that stop standing.
    pub(crate) children: u64,
    /// What the relays are told.
    pub(crate) change: Option<Change>,
}

/// Works a revocation out: `children` of the key stand at this moment and go with it.
pub(crate) fn reckon(key: &KeyRow, cascade: bool, children: u64, now: u64) -> Reckoning {
    let serial = key.serial;
    let stood = u64::from(stands(key, now).is_ok());
    let parent = matches!(key.kind, KeyKind::Master | KeyKind::User);
    let is_child = key.kind == KeyKind::Child;
    let own_end = key.not_after.map(|end| end + REVOKED_GRACE);
    let change = if cascade && parent {
        // It covers the key itself too. Relays never see a master key, which has no end of its own.
        let until = own_end.unwrap_or(0).max(now + TREE_LIFE);
        key.cascaded_at.is_none().then_some(Change::RevokeTree { serial, until })
    } else {
        own_end.filter(|_| key.revoked_at.is_none()).map(|until| Change::Revoke { serial, until })
    };
    Reckoning {
        news: key.revoked_at.is_none() || (cascade && key.cascaded_at.is_none()),
        masters: if is_child { 0 } else { stood },
        children: children + if is_child { stood } else { 0 },
        change,
    }
}

#[cfg(test)]
mod tests;
