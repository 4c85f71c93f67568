//! New children and devices: looked at, decided and written in one transaction.

use mytunnel_keys::id::{ProjectId, PublicKey, Serial, TenantId};

use super::sql::{Writing, params};
use super::{KeyKind, KeyRow, Store, StoreError};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, MintFacts, MintRequest, Refusal};

/// A device to be signed in.
#[derive(Debug)]
pub(crate) struct NewDevice {
    pub(crate) serial: Serial,
    pub(crate) subject: PublicKey,
    pub(crate) tenant: TenantId,
    /// Only this project, or all of the tenant's.
    pub(crate) project: Option<ProjectId>,
    /// Account id; none for the person at this machine.
    pub(crate) account: Option<String>,
    pub(crate) actor: Party,
    pub(crate) label: String,
    pub(crate) not_after: u64,
}

impl Store {
    /// Makes a child, if the parent's state at this moment allows it. The same public key again gives the same
    /// child, so that a repeated request is harmless.
    pub(crate) async fn mint(
        &self,
        parent: Serial,
        request: MintRequest,
        serial: Serial,
        room: usize,
        now: u64,
    ) -> Result<Result<KeyRow, Refusal>, StoreError> {
        self.engine.write(move |writing| writing.mint(&parent, &request, serial, room, now)).await
    }

    /// Signs a device in. The same key of the same account gets a new life instead of a second row.
    pub(crate) async fn add_device(
        &self,
        device: NewDevice,
        now: u64,
    ) -> Result<Result<KeyRow, Refusal>, StoreError> {
        self.engine.write(move |writing| writing.add_device(device, now)).await
    }
}

impl Writing<'_> {
    fn mint(
        &self,
        parent: &Serial,
        request: &MintRequest,
        serial: Serial,
        room: usize,
        now: u64,
    ) -> Result<Result<KeyRow, Refusal>, StoreError> {
        let Some(parent) = self.key(parent)? else { return Ok(Err(Refusal::unknown_key())) };
        if let Some(there) = self.key_of(&request.subject)? {
            return Ok(authority::minted_before(&parent, there, now));
        }
        let project = match &request.project {
            Some(wanted) => self.project(wanted)?,
            None => None,
        };
        let replaced = match &request.replaces {
            Some(old) => self.key(old)?,
            None => None,
        };
        let facts =
            MintFacts { parent: &parent, project: project.as_ref(), replaced: replaced.as_ref(), room };
        let grant = match authority::may_mint(&facts, request, now) {
            Ok(grant) => grant,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let child = authority::child(&parent, request, grant, serial, now);
        self.add_key(&child)?;
        if let Some(cents) = child.budget_cents {
            self.add_budget(&serial, cents)?;
        }
        self.audit(&Entry {
            at: now,
            tenant: Some(child.tenant.clone()),
            actor: Party::Key(parent.kind, parent.serial),
            act: Act::KeyMint,
            subject: Party::Key(KeyKind::Child, serial),
            project: child.project.clone(),
            detail: String::new(),
        })?;
        Ok(Ok(child))
    }

    fn add_device(&self, device: NewDevice, now: u64) -> Result<Result<KeyRow, Refusal>, StoreError> {
        // It may have been deleted since the request was admitted.
        if let Some(account) = &device.account
            && self.account_by_id(account)?.is_none()
        {
            return Ok(Err(Refusal::not_found("account")));
        }
        let row = match self.key_of(&device.subject)? {
            Some(there) => {
                let renewed = authority::may_renew_device(&there, device.account.as_deref(), &device.tenant);
                if let Err(refusal) = renewed {
                    return Ok(Err(refusal));
                }
                self.change(
                    "UPDATE keys SET issued_at = $1, not_after = $2, label = $3 WHERE serial = $4",
                    params![now, device.not_after, device.label, there.serial.as_bytes()],
                )?;
                KeyRow { issued_at: now, not_after: Some(device.not_after), label: device.label, ..there }
            }
            None => {
                let row = authority::device(&device, now);
                self.add_key(&row)?;
                row
            }
        };
        self.audit(&Entry {
            at: now,
            tenant: Some(row.tenant.clone()),
            actor: device.actor,
            act: Act::DeviceAdd,
            subject: Party::Key(KeyKind::User, row.serial),
            project: row.project.clone(),
            detail: String::new(),
        })?;
        Ok(Ok(row))
    }
}
