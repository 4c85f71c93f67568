//! New children: looked at, decided and written in one transaction.

use mytunnel_keys::id::{PublicKey, Serial};

use super::sql::Writing;
use super::{KeyKind, KeyRow, Store, StoreError};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, MintFacts, MintRequest, Refusal};

impl Store {
    /// Makes a child, if the parent's state at this moment allows it. The same public key again gives the same
    /// child, so that a repeated request is harmless.
    pub(crate) async fn mint(
        &self,
        parent: Serial,
        subject: PublicKey,
        request: MintRequest,
        serial: Serial,
        room: usize,
        now: u64,
    ) -> Result<Result<KeyRow, Refusal>, StoreError> {
        self.engine.write(move |writing| writing.mint(&parent, subject, &request, serial, room, now)).await
    }
}

impl Writing<'_> {
    fn mint(
        &self,
        parent: &Serial,
        subject: PublicKey,
        request: &MintRequest,
        serial: Serial,
        room: usize,
        now: u64,
    ) -> Result<Result<KeyRow, Refusal>, StoreError> {
        let Some(parent) = self.key(parent)? else { return Ok(Err(Refusal::unknown_key())) };
        if let Some(there) = self.key_of(&subject)? {
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
        let child = authority::child(&parent, subject, request, grant, serial, now);
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
}
