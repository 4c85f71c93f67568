//! Revocation: one row is the truth, and one change in the feed makes it true everywhere.
//!
//! Revoking with the children marks the parent only. A child's own row is never touched: whoever asks about a
//! child reads its parent too, so that a child minted at the same moment is either refused or revoked.

use mytunnel_keys::feed::Change;
use mytunnel_keys::id::{ProjectId, PublicKey, Serial, TenantId, TunnelName};

use super::makers::{MadeBy, MasterLeft};
use super::sql::{Reading, Row, Writing, params};
use super::{FeedSigner, KeyKind, KeyRow, Store, StoreError, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, Reckoning, Refusal};

/// What a revocation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revoked {
    /// Master and user keys that stood until now.
    pub(crate) masters: u64,
    /// Children that stood until now.
    pub(crate) children: u64,
    /// The change that relays must have applied for it to be true everywhere.
    pub(crate) epoch: u64,
    /// The relay, if the key was one.
    pub(crate) relay: Option<PublicKey>,
    /// Master keys that whoever was revoked has made, and that stand on.
    pub(crate) left: Vec<MasterLeft>,
}

/// What goes with a key that is revoked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Along {
    /// Its children.
    pub(crate) children: bool,
    /// The master keys that it made, with their children.
    pub(crate) masters: bool,
}

impl Store {
    /// Revokes the key with that nonce and what goes along; again is harmless.
    pub(crate) async fn revoke(
        &self,
        caller: Caller,
        nonce: String,
        along: Along,
        now: u64,
    ) -> Result<Result<Revoked, Refusal>, StoreError> {
        self.publishing(move |writing, signer| writing.revoke(signer, &caller, &nonce, along, now)).await
    }

    /// Deletes a project of the tenant: its master key, every child and its names go with it. The names are kept from other
    /// tenants until then.
    pub(crate) async fn delete_project(
        &self,
        tenant: TenantId,
        id: ProjectId,
        actor: Party,
        kept_until: u64,
        now: u64,
    ) -> Result<Result<Revoked, Refusal>, StoreError> {
        self.publishing(move |writing, signer| {
            writing.delete_project(signer, (&tenant, &id), actor, kept_until, now)
        })
        .await
    }
}

impl Writing<'_> {
    fn revoke(
        &self,
        signer: &FeedSigner,
        caller: &Caller,
        nonce: &str,
        along: Along,
        now: u64,
    ) -> Result<Result<Revoked, Refusal>, StoreError> {
        let Some(key) = self.key_by_nonce(nonce)? else { return Ok(Err(Refusal::not_found("key"))) };
        let allowed = authority::may_revoke(caller, &key)
            .and_then(|()| if along.masters { authority::may_end_masters(caller) } else { Ok(()) });
        if let Err(refusal) = allowed {
            return Ok(Err(refusal));
        }
        let relay = (key.kind == KeyKind::Relay).then_some(key.subject);
        let reckoning = self.mark_revoked(&key, along.children, caller.party(), now)?;
        let made = self.end_masters(MadeBy::Device(&key.serial), along.masters, &caller.party(), now)?;
        let mut changes: Vec<Change> = reckoning.change.filter(|_| reckoning.news).into_iter().collect();
        changes.extend(made.changes);
        if reckoning.news || !changes.is_empty() {
            self.publish(signer, changes, now)?;
        }
        let (masters, children) = (reckoning.masters + made.masters, reckoning.children + made.children);
        Ok(Ok(Revoked { left: made.left, ..self.revoked(masters, children, relay)? }))
    }

    /// Writes that a key was revoked; what relays are told is for the caller to publish.
    pub(super) fn mark_revoked(
        &self,
        key: &KeyRow,
        cascade: bool,
        actor: Party,
        now: u64,
    ) -> Result<Reckoning, StoreError> {
        let children = if cascade { self.standing_children(key, now)? } else { 0 };
        let reckoning = authority::reckon(key, cascade, children, now);
        if !reckoning.news {
            return Ok(reckoning);
        }
        self.change(
            "UPDATE keys SET revoked_at = coalesce(revoked_at, $1),
                             cascaded_at = CASE WHEN $2 = 1 THEN coalesce(cascaded_at, $1) ELSE cascaded_at END
             WHERE serial = $3",
            params![now, cascade, key.serial.as_bytes()],
        )?;
        self.audit(&Entry {
            at: now,
            tenant: Some(key.tenant.clone()),
            actor,
            act: Act::KeyRevoke,
            subject: Party::Key(key.kind, key.serial),
            project: key.project.clone(),
            detail: if cascade { format!("with {children} children") } else { String::new() },
        })?;
        Ok(reckoning)
    }

    pub(super) fn revoked(
        &self,
        masters: u64,
        children: u64,
        relay: Option<PublicKey>,
    ) -> Result<Revoked, StoreError> {
        Ok(Revoked { masters, children, epoch: self.head()?.feed.epoch, relay, left: Vec::new() })
    }

    /// Children that would stand if the key's own cascade were not to happen.
    fn standing_children(&self, key: &KeyRow, now: u64) -> Result<u64, StoreError> {
        if key.cascaded_at.is_some() {
            return Ok(0);
        }
        self.one(
            "SELECT count(*) FROM keys k LEFT JOIN projects j ON j.id = k.project
             WHERE k.parent = $1 AND k.not_after > $2 AND k.revoked_at IS NULL AND j.deleted_at IS NULL",
            params![key.serial.as_bytes(), now],
            column::only,
        )
    }

    fn delete_project(
        &self,
        signer: &FeedSigner,
        (tenant, id): (&TenantId, &ProjectId),
        actor: Party,
        kept_until: u64,
        now: u64,
    ) -> Result<Result<Revoked, Refusal>, StoreError> {
        let found = self.project(id)?.filter(|project| project.tenant == *tenant);
        let Some(project) = found else { return Ok(Err(Refusal::not_found("project"))) };
        if let Err(refusal) = authority::may_delete_project(&project) {
            return Ok(Err(refusal));
        }
        if project.deleted_at.is_some() {
            return Ok(Ok(self.revoked(0, 0, None)?));
        }
        let (masters, children) =
            (self.standing_in(id, KeyKind::Master, now)?, self.standing_in(id, KeyKind::Child, now)?);
        self.change("UPDATE projects SET deleted_at = $1 WHERE id = $2", params![now, id.as_str()])?;
        let mut changes =
            vec![Change::RevokeProject { project: id.clone(), until: now + authority::PROJECT_LIFE }];
        changes.extend(self.drop_gates(id)?);
        changes.extend(self.drop_domains(id)?);
        self.change("DELETE FROM tunnels WHERE project = $1", params![id.as_str()])?;
        changes.extend(self.give_up(self.drop_names(id)?, tenant, kept_until, now)?);
        self.publish(signer, changes, now)?;
        self.audit(&Entry {
            at: now,
            tenant: Some(tenant.clone()),
            actor,
            act: Act::ProjectDelete,
            subject: Party::Project(id.clone()),
            project: Some(id.clone()),
            detail: format!("with {children} children"),
        })?;
        Ok(Ok(self.revoked(masters, children, None)?))
    }

    fn standing_in(&self, project: &ProjectId, kind: KeyKind, now: u64) -> Result<u64, StoreError> {
        self.one(
            "SELECT count(*) FROM keys k LEFT JOIN keys p ON p.serial = k.parent
             WHERE k.project = $1 AND k.kind = $2 AND coalesce(k.not_after, $3 + 1) > $3
               AND k.revoked_at IS NULL AND p.cascaded_at IS NULL",
            params![project.as_str(), kind.name(), now],
            column::only,
        )
    }

    fn drop_names(&self, project: &ProjectId) -> Result<Vec<TunnelName>, StoreError> {
        self.all("DELETE FROM names WHERE project = $1 RETURNING name", params![project.as_str()], |row| {
            column::parsed(row, 0)
        })
    }
}

impl Writing<'_> {
    /// Revokes every key but that of one relay, also those that this database does not know: it forgot them, or never
    /// heard of them.
    pub(super) fn revoke_all_before(&self, at: u64, but: Option<PublicKey>) -> Result<(), StoreError> {
        let keys = self.change(
            "UPDATE keys SET revoked_at = coalesce(revoked_at, $1), cascaded_at = coalesce(cascaded_at, $1)
             WHERE kind IN ('user', 'master')",
            params![at],
        )?;
        let relays = self.change(
            "UPDATE keys SET revoked_at = $1 WHERE kind = 'relay' AND revoked_at IS NULL AND subject <> $2",
            params![at, but.map_or(Vec::new(), |relay| relay.as_bytes().to_vec())],
        )?;
        self.set_revoked_before(at, at + authority::DEVICE_TTL + authority::REVOKED_GRACE)?;
        self.audit(&Entry {
            at,
            tenant: None,
            actor: Party::System,
            act: Act::KeyRevoke,
            subject: Party::System,
            project: None,
            detail: format!(
                "everything issued before, {keys} keys that are known with all children, and {relays} relays"
            ),
        })
    }
}

/// The revocations that relays must know at this time, from the rows that are the truth.
pub(super) fn in_force(reading: &Reading<'_>, now: u64) -> Result<Vec<Change>, StoreError> {
    let (ended, cut) =
        (now.saturating_sub(authority::REVOKED_GRACE), now.saturating_sub(authority::TREE_LIFE));
    let tree = |row: &Row<'_>| {
        let end: Option<u64> = row.get(1)?;
        let at: u64 = row.get(2)?;
        let until = end.map_or(0, |end| end + authority::REVOKED_GRACE).max(at + authority::TREE_LIFE);
        Ok(Change::RevokeTree { serial: column::serial(row, 0)?, until })
    };
    let mut changes = reading.all(
        "SELECT serial, not_after, cascaded_at FROM keys WHERE cascaded_at > $1",
        params![cut],
        tree,
    )?;
    // Devices live longer than what they mint.
    changes.extend(reading.all(
        "SELECT serial, not_after, cascaded_at FROM keys
         WHERE cascaded_at IS NOT NULL AND not_after > $1 AND cascaded_at <= $2",
        params![ended, cut],
        tree,
    )?);
    changes.extend(reading.all(
        "SELECT serial, not_after FROM keys
         WHERE revoked_at IS NOT NULL AND cascaded_at IS NULL AND not_after > $1",
        params![ended],
        |row| {
            let end: u64 = row.get(1)?;
            Ok(Change::Revoke { serial: column::serial(row, 0)?, until: end + authority::REVOKED_GRACE })
        },
    )?);
    changes.extend(reading.all(
        "SELECT id, deleted_at FROM projects WHERE deleted_at > $1",
        params![now.saturating_sub(authority::PROJECT_LIFE)],
        |row| {
            let at: u64 = row.get(1)?;
            Ok(Change::RevokeProject {
                project: column::parsed(row, 0)?,
                until: at + authority::PROJECT_LIFE,
            })
        },
    )?);
    let before = reading.revoked_before()?.filter(|(_, until)| *until > now);
    changes.extend(before.map(|(at, until)| Change::RevokeBefore { at, until }));
    Ok(changes)
}

impl Writing<'_> {
    pub(super) fn key_by_nonce(&self, nonce: &str) -> Result<Option<KeyRow>, StoreError> {
        let serial: Option<Serial> =
            self.first("SELECT serial FROM keys WHERE nonce = $1", params![nonce], |row| {
                column::serial(row, 0)
            })?;
        match serial {
            Some(serial) => self.key(&serial),
            None => Ok(None),
        }
    }
}
