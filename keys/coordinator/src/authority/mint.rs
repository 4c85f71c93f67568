//! May this child be made, and with which rights?

use mytunnel_keys::error::Code;
use mytunnel_keys::id::{NamePattern, ProjectId, Scopes, Serial};

use super::{MAX_BUDGET, MAX_TTL, MIN_TTL, Refusal, stands};
use crate::store::{KeyKind, KeyRow, Project};

/// Patterns that a mint may name.
const MAX_HOSTS: usize = 8;

/// A child as asked for.
#[derive(Debug, Clone)]
pub(crate) struct MintRequest {
    pub(crate) project: Option<ProjectId>,
    pub(crate) ttl: u64,
    /// None: as the parent has them.
    pub(crate) scopes: Option<Scopes>,
    /// Empty: as the parent has them.
    pub(crate) hosts: Vec<NamePattern>,
    pub(crate) bound: bool,
    /// The child whose tunnels this one takes over.
    pub(crate) replaces: Option<Serial>,
    /// Cents that it may cost in a month, beside what its parent may.
    pub(crate) budget: Option<u64>,
}

/// What a child gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) project: ProjectId,
    pub(crate) hosts: Vec<NamePattern>,
    pub(crate) scopes: Scopes,
    pub(crate) not_after: u64,
    pub(crate) budget: Option<u64>,
}

/// What the store knows that bears on a mint.
#[derive(Debug)]
pub(crate) struct MintFacts<'a> {
    pub(crate) parent: &'a KeyRow,
    /// The project that the request names, if it exists.
    pub(crate) project: Option<&'a Project>,
    /// The key that the request wants to replace, if it exists.
    pub(crate) replaced: Option<&'a KeyRow>,
    /// Bytes that the name patterns of a certificate may take.
    pub(crate) room: usize,
}

/// May the parent make this child?
pub(crate) fn may_mint(facts: &MintFacts<'_>, request: &MintRequest, now: u64) -> Result<Grant, Refusal> {
    let parent = facts.parent;
    stands(parent, now)?;
    let project = match parent.kind {
        KeyKind::Master => own_project(parent, request)?,
        KeyKind::User => project_of_device(parent, facts.project, request)?,
        KeyKind::Child => {
            return Err(Refusal::new(Code::ScopeDenied, "a child key cannot mint keys"));
        }
        KeyKind::Relay => return Err(Refusal::new(Code::ScopeDenied, "a relay cannot mint keys")),
    };
    if !(MIN_TTL..=MAX_TTL).contains(&request.ttl) {
        let message = format!("a key lives {MIN_TTL} to {MAX_TTL} seconds, not {}", request.ttl);
        return Err(Refusal::new(Code::BadRequest, message));
    }
    if request.replaces.is_some() {
        may_replace(facts.replaced, parent, &project)?;
    }
    Ok(Grant {
        project,
        hosts: narrower_hosts(parent, &request.hosts, facts.room)?,
        scopes: narrower_scopes(parent, request.scopes)?,
        not_after: (now + request.ttl).min(parent.not_after.unwrap_or(u64::MAX)),
        budget: narrower_budget(parent, request.budget)?,
    })
}

fn own_project(master: &KeyRow, request: &MintRequest) -> Result<ProjectId, Refusal> {
    let own = master.project.clone().ok_or_else(Refusal::unknown_key)?;
    if request.project.as_ref().is_some_and(|wanted| *wanted != own) {
        let message = format!("this master key belongs to {own}");
        return Err(Refusal::new(Code::ProjectMismatch, message));
    }
    Ok(own)
}

fn project_of_device(
    device: &KeyRow,
    project: Option<&Project>,
    request: &MintRequest,
) -> Result<ProjectId, Refusal> {
    let Some(wanted) = request.project.as_ref().or(device.project.as_ref()) else {
        return Err(Refusal::new(Code::BadRequest, "name the project that the key is for"));
    };
    if device.project.as_ref().is_some_and(|own| own != wanted) {
        return Err(Refusal::new(Code::ProjectMismatch, "this device may act in another project only"));
    }
    if device.project.is_some() {
        return Ok(wanted.clone());
    }
    let found = project.filter(|found| found.tenant == device.tenant);
    match found {
        Some(found) if found.deleted_at.is_none() => Ok(found.id.clone()),
        Some(_) | None => Err(Refusal::not_found("project")),
    }
}

/// A child takes over from its sibling in the same project only.
fn may_replace(replaced: Option<&KeyRow>, parent: &KeyRow, project: &ProjectId) -> Result<(), Refusal> {
    let sibling =
        replaced.filter(|old| old.parent == Some(parent.serial) && old.project.as_ref() == Some(project));
    sibling.map(drop).ok_or_else(|| Refusal::not_found("key to replace"))
}

fn narrower_scopes(parent: &KeyRow, wanted: Option<Scopes>) -> Result<Scopes, Refusal> {
    let scopes = wanted.unwrap_or(parent.scopes);
    if scopes.is_empty() {
        return Err(Refusal::new(Code::BadRequest, "a key needs at least one scope"));
    }
    let most = parent.scopes.with_asked();
    if !scopes.is_subset(most) {
        let message = format!("the parent allows \"{most}\" only");
        return Err(Refusal::new(Code::ScopeDenied, message));
    }
    Ok(scopes)
}

fn narrower_hosts(parent: &KeyRow, wanted: &[NamePattern], room: usize) -> Result<Vec<NamePattern>, Refusal> {
    if wanted.is_empty() {
        return Ok(parent.hosts.clone());
    }
    // A text of CBOR takes its length and up to two bytes more.
    let length: usize = wanted.iter().map(|pattern| pattern.as_str().len() + 2).sum();
    if wanted.len() > MAX_HOSTS || length > room {
        let message = format!("at most {MAX_HOSTS} name patterns, which together take {room} bytes");
        return Err(Refusal::new(Code::BadRequest, message));
    }
    let too_wide = wanted.iter().find(|pattern| !parent.hosts.iter().any(|own| pattern.narrower_than(own)));
    if let Some(pattern) = too_wide {
        return Err(Refusal::new(Code::ScopeDenied, format!("the parent does not allow the name {pattern}")));
    }
    Ok(wanted.to_vec())
}

/// What a child uses is charged to its parent too, so that one without a budget of its own has its parent's.
fn narrower_budget(parent: &KeyRow, wanted: Option<u64>) -> Result<Option<u64>, Refusal> {
    let Some(cents) = wanted else { return Ok(None) };
    if !(1..=MAX_BUDGET).contains(&cents) {
        let message = format!("budget_cents: a budget is 1 to {MAX_BUDGET} cents a month");
        return Err(Refusal::new(Code::BadRequest, message));
    }
    match parent.budget_cents {
        Some(own) if cents > own => {
            Err(Refusal::new(Code::ScopeDenied, format!("the parent may cost {own} cents a month only")))
        }
        Some(_) | None => Ok(Some(cents)),
    }
}

/// The key of a mint request is there already: the same request again, or a stranger's.
pub(crate) fn minted_before(parent: &KeyRow, there: KeyRow, now: u64) -> Result<KeyRow, Refusal> {
    if there.parent != Some(parent.serial) {
        return Err(Refusal::new(
            Code::BadRequest,
            "this public key belongs to another key; make a new pair",
        ));
    }
    stands(parent, now)?;
    stands(&there, now)?;
    Ok(there)
}
