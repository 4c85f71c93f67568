//! Rows of new keys: what each kind of key has from birth.

use mytunnel_keys::id::{NamePattern, PublicKey, Scopes, Serial, TenantId};

use super::mint::{Grant, MintRequest};
use super::{CHILD_STALENESS, DEVICE_STALENESS};
use crate::store::{KeyKind, KeyRow, NewDevice, Project};

/// Tunnels that a person's device may have at a time.
const DEVICE_TUNNELS: u16 = 256;

/// The row of a new device.
pub(crate) fn device(device: &NewDevice, now: u64) -> KeyRow {
    KeyRow {
        serial: device.serial,
        kind: KeyKind::User,
        subject: device.subject,
        tenant: device.tenant.clone(),
        project: device.project.clone(),
        account: device.account.clone(),
        parent: None,
        label: device.label.clone(),
        hosts: vec![NamePattern::any()],
        scopes: Scopes::usual(),
        issued_at: now,
        not_after: Some(device.not_after),
        max_tunnels: DEVICE_TUNNELS,
        max_staleness: DEVICE_STALENESS,
        bound: true,
        replaces: None,
        revoked_at: None,
        cascaded_at: None,
        parent_cascaded_at: None,
        project_deleted_at: None,
        budget_cents: None,
        role: None,
        parent_account: None,
        proven_at: device.proven_at,
    }
}

/// The row of a project's master key.
pub(crate) fn master(serial: Serial, subject: PublicKey, project: &Project) -> KeyRow {
    KeyRow {
        serial,
        kind: KeyKind::Master,
        subject,
        tenant: project.tenant.clone(),
        project: Some(project.id.clone()),
        account: None,
        parent: None,
        label: project.name.clone(),
        hosts: vec![NamePattern::any()],
        scopes: Scopes::usual(),
        issued_at: project.created_at,
        not_after: None,
        max_tunnels: 0,
        max_staleness: CHILD_STALENESS,
        bound: false,
        replaces: None,
        revoked_at: None,
        cascaded_at: None,
        parent_cascaded_at: None,
        project_deleted_at: None,
        budget_cents: None,
        role: None,
        parent_account: None,
        proven_at: None,
    }
}

/// The row of a relay whose certificate lives for `life` seconds.
pub(crate) fn relay(serial: Serial, subject: PublicKey, home: &TenantId, life: u64, now: u64) -> KeyRow {
    KeyRow {
        serial,
        kind: KeyKind::Relay,
        subject,
        tenant: home.clone(),
        project: None,
        account: None,
        parent: None,
        label: String::new(),
        hosts: Vec::new(),
        scopes: Scopes::NONE,
        issued_at: now,
        not_after: Some(now + life),
        max_tunnels: 0,
        max_staleness: CHILD_STALENESS,
        bound: true,
        replaces: None,
        revoked_at: None,
        cascaded_at: None,
        parent_cascaded_at: None,
        project_deleted_at: None,
        budget_cents: None,
        role: None,
        parent_account: None,
        proven_at: None,
    }
}

/// The row of a new child.
pub(crate) fn child(
    parent: &KeyRow,
    subject: PublicKey,
    request: &MintRequest,
    grant: Grant,
    serial: Serial,
    now: u64,
) -> KeyRow {
    KeyRow {
        serial,
        kind: KeyKind::Child,
        subject,
        tenant: parent.tenant.clone(),
        project: Some(grant.project),
        account: None,
        parent: Some(parent.serial),
        label: String::new(),
        hosts: grant.hosts,
        scopes: grant.scopes,
        issued_at: now,
        not_after: Some(grant.not_after),
        max_tunnels: 1,
        max_staleness: CHILD_STALENESS,
        bound: request.bound,
        replaces: request.replaces,
        revoked_at: None,
        cascaded_at: None,
        parent_cascaded_at: None,
        project_deleted_at: None,
        budget_cents: grant.budget,
        role: None,
        parent_account: None,
        proven_at: None,
    }
}

/// The row of the key that a ticket is used for: a child that serves nothing.
pub(crate) fn guest(child: KeyRow, ticket: &str) -> KeyRow {
    KeyRow { label: ticket.to_owned(), max_tunnels: 0, ..child }
}
