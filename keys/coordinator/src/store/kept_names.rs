//! Names that were given up with their project. Their visitors come back for a while, with cookies and passwords: another
//! tenant gets such a name only after some time.

use mytunnel_keys::feed::Change;
use mytunnel_keys::id::{TenantId, TunnelName};

use super::sql::{Reading, Writing, params};
use super::{Store, StoreError, column};

/// Names that are kept for one tenant. What it gives up beyond that is free at once.
const MOST: u64 = 10_000;
/// Names that a sweep frees in one transaction.
const STEP: u64 = 500;

impl Store {
    /// Frees the names that were kept for long enough, a step at a time.
    pub(crate) async fn free_kept_names(&self, now: u64) -> Result<(), StoreError> {
        loop {
            let freed = self
                .publishing(move |writing, signer| {
                    let freed: Vec<TunnelName> = writing.all(
                        "DELETE FROM kept_names WHERE name IN
                         (SELECT name FROM kept_names WHERE until <= $1 ORDER BY until, name LIMIT $2) RETURNING name",
                        params![now, STEP],
                        |row| column::parsed(row, 0),
                    )?;
                    let count = freed.len() as u64;
                    let changes = freed.into_iter().map(|name| Change::NameFreed { name }).collect();
                    writing.publish(signer, changes, now)?;
                    Ok(count)
                })
                .await?;
            if freed < STEP {
                return Ok(());
            }
        }
    }
}

impl Writing<'_> {
    /// A tenant gives up names that were its own; answers what relays must know.
    pub(super) fn give_up(
        &self,
        names: Vec<TunnelName>,
        tenant: &TenantId,
        until: u64,
        now: u64,
    ) -> Result<Vec<Change>, StoreError> {
        let kept: u64 = self.one(
            "SELECT count(*) FROM kept_names WHERE tenant = $1",
            params![tenant.as_str()],
            column::only,
        )?;
        let room = if until > now { MOST.saturating_sub(kept) } else { 0 };
        let mut changes = Vec::with_capacity(names.len());
        for (name, at) in names.into_iter().zip(0..) {
            if at >= room {
                changes.push(Change::NameFreed { name });
                continue;
            }
            self.change(
                "INSERT INTO kept_names (name, tenant, until) VALUES ($1, $2, $3)
                 ON CONFLICT (name) DO UPDATE SET tenant = excluded.tenant, until = excluded.until",
                params![name.as_str(), tenant.as_str(), until],
            )?;
            changes.push(Change::NameKept { name, tenant: tenant.clone() });
        }
        Ok(changes)
    }

    /// Takes a name that is nobody's, for a project of that tenant; `false` if it is kept for another.
    pub(super) fn take_kept(&self, name: &TunnelName, tenant: &TenantId) -> Result<bool, StoreError> {
        let kept: Option<TenantId> =
            self.first("SELECT tenant FROM kept_names WHERE name = $1", params![name.as_str()], |row| {
                column::parsed(row, 0)
            })?;
        match kept {
            None => Ok(true),
            Some(kept) if kept != *tenant => Ok(false),
            Some(_) => {
                self.change("DELETE FROM kept_names WHERE name = $1", params![name.as_str()])?;
                Ok(true)
            }
        }
    }
}

impl Reading<'_> {
    /// Every name that is kept.
    pub(super) fn kept_names(&self) -> Result<Vec<Change>, StoreError> {
        self.all("SELECT name, tenant FROM kept_names", params![], |row| {
            Ok(Change::NameKept { name: column::parsed(row, 0)?, tenant: column::parsed(row, 1)? })
        })
    }
}
