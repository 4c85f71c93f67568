//! Tickets: one private share for one guest, once. A ticket has no right of its own: what counts is what the key that made
//! it may do at the moment in which it is used.

use mytunnel_keys::error::Code;
use mytunnel_keys::id::{ProjectId, Scope, Scopes, TunnelName};

use super::mint::MintRequest;
use super::{Caller, MAX_TTL, MIN_TTL, Refusal, may_revoke, stands};
use crate::store::{KeyRow, TicketRow};

/// How long a ticket is remembered that can be used no longer, in seconds: whoever comes late is told so.
pub(crate) const TICKETS_REMEMBERED: u64 = 3600;
/// Tickets of a tenant, and of one key, that are open or remembered: a key that leaks does not take all.
const MAX_TICKETS: u64 = 1000;
const MAX_TICKETS_OF_KEY: u64 = 100;

/// Tickets that are open or remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptTickets {
    pub(crate) of_tenant: u64,
    /// Made by the key that asks for one more.
    pub(crate) of_key: u64,
}

/// The guest's key, as it would be asked for: it reaches this one name. Its secret stays where it is made.
pub(crate) fn for_guest(project: Option<ProjectId>, name: &TunnelName, ttl: u64) -> MintRequest {
    MintRequest {
        project,
        ttl,
        scopes: Some(Scopes::from_iter([Scope::Private])),
        hosts: vec![name.clone().into()],
        bound: true,
        replaces: None,
        budget: None,
    }
}

/// May one more ticket be made, where there are so many, and the name belongs to `owner` already?
pub(crate) fn may_issue_ticket(
    name: &TunnelName,
    owner: Option<&ProjectId>,
    project: &ProjectId,
    within: u64,
    kept: KeptTickets,
) -> Result<(), Refusal> {
    if !(MIN_TTL..=MAX_TTL).contains(&within) {
        let message =
            format!("within: a ticket can be used for {MIN_TTL} to {MAX_TTL} seconds, not {within}");
        return Err(Refusal::new(Code::BadRequest, message));
    }
    if owner.is_some_and(|owner| owner != project) {
        return Err(Refusal::new(Code::ProjectMismatch, format!("{name} belongs to another project")));
    }
    let full = |whose: &str, most: u64| {
        let message = format!(
            "{whose} has {most} tickets already that are open or ended within the last hour; withdrawing one makes room"
        );
        Err(Refusal::new(Code::RateLimited, message))
    };
    match kept {
        KeptTickets { of_key, .. } if of_key >= MAX_TICKETS_OF_KEY => full("this key", MAX_TICKETS_OF_KEY),
        KeptTickets { of_tenant, .. } if of_tenant >= MAX_TICKETS => full("this tenant", MAX_TICKETS),
        KeptTickets { .. } => Ok(()),
    }
}

/// How a ticket is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redemption {
    /// A key is to be made, if the parent may.
    First,
    /// By the guest who has it already: the answer may have been lost on its way.
    Again(Box<KeyRow>),
}

/// May the ticket be used for the key of which `there` is known?
pub(crate) fn may_redeem(
    ticket: &TicketRow,
    parent: &KeyRow,
    there: Option<KeyRow>,
    now: u64,
) -> Result<Redemption, Refusal> {
    let in_time = now < ticket.expires_at;
    match (ticket.used_by, there) {
        (Some(guest), Some(there)) if there.serial == guest && in_time => {
            stands(parent, now).map_err(not_let_in)?;
            stands(&there, now)?;
            Ok(Redemption::Again(Box::new(there)))
        }
        (Some(_), _) => Err(ticket_used()),
        (None, _) if !in_time => Err(Refusal::new(
            Code::KeyExpired,
            "this ticket came too late: the time in which it could be used is over",
        )),
        (None, Some(_)) => {
            Err(Refusal::new(Code::BadRequest, "this public key belongs to another key; make a new pair"))
        }
        (None, None) => Ok(Redemption::First),
    }
}

pub(crate) fn ticket_there() -> Refusal {
    Refusal::new(Code::BadRequest, "digest: there is a ticket of this secret already; make a new secret")
}

pub(crate) fn ticket_used() -> Refusal {
    Refusal::new(Code::InvalidKey, "this ticket was used already: it lets in once")
}

pub(crate) fn no_such_ticket() -> Refusal {
    Refusal::new(
        Code::InvalidKey,
        "this ticket is not known here: it was withdrawn, ended a while ago, or never was",
    )
}

/// Why a guest is refused whose ticket is good.
pub(crate) fn not_let_in(refusal: Refusal) -> Refusal {
    let message = format!("whoever made this ticket may let nobody in any more: {refusal}");
    Refusal::new(refusal.code, message)
}

/// May the caller withdraw a ticket of that key? Whoever may revoke the key may. Of one that was used there is nothing left to
/// withdraw.
pub(crate) fn may_withdraw_ticket(
    caller: &Caller,
    ticket: &TicketRow,
    parent: &KeyRow,
) -> Result<(), Refusal> {
    // Whoever may not learns nothing of it.
    may_revoke(caller, parent).map_err(|_| Refusal::not_found("ticket"))?;
    match ticket.used_by {
        None => Ok(()),
        Some(guest) => {
            let message = format!("this ticket was used; revoke the guest's key {}", guest.nonce());
            Err(Refusal::new(Code::BadRequest, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_a_tenant_have_so_many_tickets() {
        let (name, project) = ("box".parse().unwrap(), "proj_a".parse().unwrap());
        let may = |of_key, of_tenant| {
            may_issue_ticket(&name, None, &project, MIN_TTL, KeptTickets { of_tenant, of_key }).is_ok()
        };
        assert!(may(MAX_TICKETS_OF_KEY - 1, MAX_TICKETS - 1));
        assert!(!may(MAX_TICKETS_OF_KEY, MAX_TICKETS_OF_KEY) && !may(0, MAX_TICKETS));
    }
}
