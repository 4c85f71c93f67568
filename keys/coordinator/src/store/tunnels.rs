//! Names and tunnels, as the relays report them.
//!
//! A name belongs to the project that registered it first. The first report of it to arrive decides, and the
//! feed tells every relay.

use mytunnel_keys::api::NewTunnel;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::{Change, Gates};
use mytunnel_keys::id::{Cluster, ProjectId, Serial, TenantId, TunnelId, TunnelKind, TunnelName};

use super::filter::Text;
use super::sql::{Reading, Row, ToValue as _, Writing, params};
use super::{KeyRow, Store, StoreError, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, REVOKED_GRACE, Reach, Refusal};
use crate::live::Holder;

/// Names that one project may own. A registration beyond it works, but reserves nothing.
const MAX_NAMES: u64 = 10_000;
/// Names that a sweep looks at in one go.
const NAMES: u64 = 500;
/// A tunnel that comes back within so many seconds with the same key gets no second row in the audit log.
const SAME_USE: u64 = 60;

/// A tunnel that came up on a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Up {
    pub(crate) tunnel: TunnelId,
    pub(crate) name: TunnelName,
    pub(crate) project: ProjectId,
    pub(crate) serial: Serial,
    pub(crate) kind: TunnelKind,
}

/// A tunnel that was registered at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TunnelRow {
    pub(crate) id: TunnelId,
    pub(crate) name: TunnelName,
    pub(crate) project: ProjectId,
    pub(crate) kind: TunnelKind,
    /// The key that served it last.
    pub(crate) serial: Serial,
    /// Names of its gates.
    pub(crate) gates: Vec<&'static str>,
}

/// A name that was not registered for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnusedName {
    pub(crate) name: TunnelName,
    pub(crate) project: ProjectId,
    /// Whether the key that served it last may still do so.
    pub(crate) key_lives: bool,
}

impl Store {
    /// Takes reports of tunnels that came up, and answers who serves each; none for one that does not fit its
    /// key, or whose name is another project's.
    pub(crate) async fn tunnels_up(&self, ups: Vec<Up>, now: u64) -> Result<Vec<Option<Holder>>, StoreError> {
        self.publishing(move |writing, signer| {
            let mut changes = Vec::new();
            let mut holders = Vec::with_capacity(ups.len());
            for up in &ups {
                holders.push(writing.tunnel_up(up, &mut changes, now)?);
            }
            writing.publish(signer, changes, now)?;
            Ok(holders)
        })
        .await
    }

    /// A page of the tunnels within a caller's reach, by name, from behind `after`.
    pub(crate) async fn tunnels(
        &self,
        reach: Reach,
        after: Option<(TunnelName, TunnelId)>,
        limit: u64,
    ) -> Result<Vec<TunnelRow>, StoreError> {
        self.engine
            .read(move |reading| {
                let text = page(&reach, after.as_ref(), limit);
                reading.all(text.sql(), text.params(), tunnel)
            })
            .await
    }

    /// Notes that tunnels are up which nobody has noted since `before`, by a key that may serve them still.
    pub(crate) async fn keep_tunnels(
        &self,
        tunnels: Vec<(TunnelId, Serial)>,
        before: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        self.engine
            .write(move |writing| {
                for (tunnel, serial) in tunnels {
                    writing.change(
                        "UPDATE tunnels SET seen_at = $1, serial = $2 WHERE id = $3 AND seen_at < $4
                           AND EXISTS (SELECT 1 FROM keys k WHERE k.serial = $2 AND k.revoked_at IS NULL
                                       AND k.not_after > $1)",
                        params![now, serial.as_bytes(), tunnel.to_string(), before],
                    )?;
                }
                Ok(())
            })
            .await
    }

    /// Names behind `after` in their order, a page, of which those are told that have neither gates nor domains and whose tunnels
    /// nobody has registered since `before`; and where the next page begins.
    pub(crate) async fn unused_names(
        &self,
        after: Option<TunnelName>,
        before: u64,
        now: u64,
    ) -> Result<(Vec<UnusedName>, Option<TunnelName>), StoreError> {
        let ended_before = now.saturating_sub(REVOKED_GRACE);
        let after = after.map(|name| name.to_string()).unwrap_or_default();
        let rows = self
            .engine
            .read(move |reading| {
                reading.all(
                    "SELECT n.name, n.project, CASE WHEN k.revoked_at IS NULL AND k.not_after > $1 THEN 1 ELSE 0 END,
                            CASE WHEN coalesce(t.seen_at, n.created_at) < $2 AND b.tunnel IS NULL AND o.tunnel IS NULL
                                  AND NOT EXISTS (SELECT 1 FROM tunnel_gates g WHERE g.tunnel = t.id AND g.kind <> 'end')
                                  AND NOT EXISTS (SELECT 1 FROM domains d WHERE d.tunnel = t.id)
                                 THEN 1 ELSE 0 END
                     FROM names n LEFT JOIN tunnels t ON t.project = n.project AND t.name = n.name
                     LEFT JOIN keys k ON k.serial = t.serial LEFT JOIN basic_gates b ON b.tunnel = t.id
                     LEFT JOIN oidc_gates o ON o.tunnel = t.id WHERE n.name > $3 ORDER BY n.name LIMIT $4",
                    params![ended_before, before, after, NAMES],
                    |row| {
                        let unused: bool = row.get(3)?;
                        let name = UnusedName {
                            name: column::parsed(row, 0)?,
                            project: column::parsed(row, 1)?,
                            key_lives: row.get(2)?,
                        };
                        Ok((name, unused))
                    },
                )
            })
            .await?;
        let more = rows.len() as u64 >= NAMES;
        let next = rows.last().filter(|_| more).map(|(last, _)| last.name.clone());
        Ok((rows.into_iter().filter_map(|(name, unused)| unused.then_some(name)).collect(), next))
    }

    /// Frees those of the names that were not registered again since `before` and got neither a gate nor a domain.
    pub(crate) async fn free_names(
        &self,
        names: Vec<UnusedName>,
        before: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        self.publishing(move |writing, signer| {
            let mut changes = Vec::new();
            for UnusedName { name, project, .. } in names {
                let of_name = params![project.as_str(), name.as_str(), before];
                let back: bool = writing.one(
                    "SELECT EXISTS (SELECT 1 FROM tunnels WHERE project = $1 AND name = $2 AND (seen_at >= $3
                       OR id IN (SELECT tunnel FROM basic_gates) OR id IN (SELECT tunnel FROM oidc_gates)
                       OR EXISTS (SELECT 1 FROM tunnel_gates g WHERE g.tunnel = tunnels.id AND g.kind <> 'end')
                       OR EXISTS (SELECT 1 FROM domains d WHERE d.tunnel = tunnels.id)))",
                    of_name,
                    column::only,
                )?;
                if !back {
                    let of_name = params![project.as_str(), name.as_str()];
                    // The end that a tunnel had is no reason to keep its name.
                    let ended = writing.all(
                        "DELETE FROM tunnel_gates WHERE tunnel IN
                         (SELECT id FROM tunnels WHERE project = $1 AND name = $2) RETURNING tunnel",
                        of_name,
                        |row| column::parsed(row, 0),
                    )?;
                    let opened = |tunnel| Change::Gates { tunnel, gates: Gates::default() };
                    changes.extend(ended.into_iter().map(opened));
                    writing.change("DELETE FROM tunnels WHERE project = $1 AND name = $2", of_name)?;
                    writing.change("DELETE FROM names WHERE project = $1 AND name = $2", of_name)?;
                    changes.push(Change::NameFreed { name });
                }
            }
            writing.publish(signer, changes, now)
        })
        .await
    }
}

/// The tunnels within a caller's reach. Whichever index their order wants is read first, and not each project's tunnels.
fn within(reach: &Reach) -> Text {
    Text::new(
        "SELECT t.id, t.name, t.project, t.kind, t.serial, b.username, o.provider, p.kind, r.kind, a.kind
         FROM tunnels t CROSS JOIN projects j
         LEFT JOIN basic_gates b ON b.tunnel = t.id LEFT JOIN oidc_gates o ON o.tunnel = t.id
         LEFT JOIN tunnel_gates p ON p.tunnel = t.id AND p.kind = 'pin'
         LEFT JOIN tunnel_gates r ON r.tunnel = t.id AND r.kind = 'bearer'
         LEFT JOIN tunnel_gates a ON a.tunnel = t.id AND a.kind = 'ip'
         WHERE j.id = t.project AND j.tenant = ? AND j.deleted_at IS NULL",
        params![reach.tenant.as_str()],
    )
    .and_if(" AND t.project = ?", reach.project.as_ref().map(|project| project.as_str().to_value()))
    .and_if(" AND t.serial = ?", reach.family.as_ref().map(|serial| serial.as_bytes().to_value()))
}

/// A page of them, by name.
pub(super) fn page(reach: &Reach, after: Option<&(TunnelName, TunnelId)>, limit: u64) -> Text {
    let (name, id) = after.map(|(name, id)| (name.to_string(), id.to_string())).unwrap_or_default();
    within(reach)
        .and(" AND (t.name, t.id) > (?, ?)", params![name, id])
        .and(" ORDER BY t.name, t.id LIMIT ?", params![limit])
}

impl Reading<'_> {
    /// A tunnel, if it is within a caller's reach.
    pub(super) fn tunnel(&self, reach: &Reach, id: &TunnelId) -> Result<Option<TunnelRow>, StoreError> {
        let text = within(reach).and(" AND t.id = ?", params![id.to_string()]);
        self.first(text.sql(), text.params(), tunnel)
    }
}

impl Writing<'_> {
    fn tunnel_up(&self, up: &Up, changes: &mut Vec<Change>, now: u64) -> Result<Option<Holder>, StoreError> {
        let Some(key) = self.holder_of(up, now)? else {
            tracing::warn!(serial = %up.serial.nonce(), "a relay reported a tunnel that does not fit its key");
            return Ok(None);
        };
        let claim = self.claim(up, &key.tenant, now)?;
        // The relay hears whose it is by the feed and closes the tunnel.
        if matches!(claim, Claim::Taken | Claim::Kept) {
            return Ok(None);
        }
        let last: Option<(Serial, u64, TunnelKind)> = self.first(
            "SELECT serial, seen_at, kind FROM tunnels WHERE id = $1",
            params![up.tunnel.to_string()],
            |row| Ok((column::serial(row, 0)?, row.get(1)?, column::parsed(row, 2)?)),
        )?;
        let is_new_kind = last.is_none_or(|(_, _, kind)| kind != up.kind);
        if matches!(claim, Claim::New) || (matches!(claim, Claim::Owned) && is_new_kind) {
            changes.push(up.owned());
        }
        self.put_tunnel(up, now)?;
        let same_use = last.is_some_and(|(serial, seen, _)| serial == up.serial && now < seen + SAME_USE);
        if !same_use {
            self.audit(&Entry {
                at: now,
                tenant: Some(key.tenant),
                actor: Party::Key(key.kind, up.serial),
                act: Act::TunnelUp,
                subject: Party::Tunnel(up.name.to_string()),
                project: Some(up.project.clone()),
                detail: String::new(),
            })?;
        }
        Ok(Some(Holder { serial: key.serial, parent: key.parent }))
    }

    /// Makes the tunnel that a key is about to open, so that its gates are there before it is. Answers with what relays
    /// must know.
    pub(super) fn reserve(
        &self,
        cluster: &Cluster,
        caller: &Caller,
        id: &TunnelId,
        new: NewTunnel,
        now: u64,
    ) -> Result<Result<(TunnelRow, Vec<Change>), Refusal>, StoreError> {
        // A session opens no tunnels.
        let Caller::Key(key) = caller else { return Ok(Err(Refusal::not_found("tunnel"))) };
        let NewTunnel { project, name, kind } = new;
        if TunnelId::derive(cluster, &project, &name) != *id {
            let message = "tunnel: this is not what the id is made of";
            return Ok(Err(Refusal::new(Code::BadRequest, message)));
        }
        let up = Up { tunnel: *id, name, project, serial: key.serial, kind };
        let Some(holder) = self.holder_of(&up, now)? else {
            return Ok(Err(Refusal::new(Code::ScopeDenied, "this key may not open that tunnel")));
        };
        let claim = self.claim(&up, &holder.tenant, now)?;
        match claim {
            Claim::New | Claim::Owned | Claim::TooMany => {}
            Claim::Taken => {
                return Ok(Err(Refusal::new(Code::NameTaken, "the name belongs to another project")));
            }
            Claim::Kept => {
                let message = "another account gave this name up a short while ago";
                return Ok(Err(Refusal::new(Code::NameTaken, message)));
            }
        }
        // One that is there, beyond the caller's reach, stays as it is.
        let there: bool = self.one(
            "SELECT EXISTS (SELECT 1 FROM tunnels WHERE id = $1)",
            params![id.to_string()],
            column::only,
        )?;
        if !there {
            self.put_tunnel(&up, now)?;
        }
        let is_news = matches!(claim, Claim::New) || (matches!(claim, Claim::Owned) && !there);
        let changes = is_news.then(|| up.owned()).into_iter().collect();
        let Up { tunnel: id, name, project, serial, kind } = up;
        Ok(Ok((TunnelRow { id, name, project, kind, serial, gates: Vec::new() }, changes)))
    }

    fn put_tunnel(&self, up: &Up, now: u64) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO tunnels (id, project, name, kind, serial, created_at, seen_at)
             VALUES ($1, $2, $3, $4, $5, $6, $6)
             ON CONFLICT (id) DO UPDATE
             SET kind = excluded.kind, serial = excluded.serial, seen_at = excluded.seen_at",
            params![
                up.tunnel.to_string(),
                up.project.as_str(),
                up.name.as_str(),
                up.kind.as_str(),
                up.serial.as_bytes(),
                now
            ],
        )?;
        Ok(())
    }

    /// The key behind a report, if it may have that tunnel in that project now: a relay is believed no further.
    fn holder_of(&self, up: &Up, now: u64) -> Result<Option<KeyRow>, StoreError> {
        let Some(key) = self.key(&up.serial)? else { return Ok(None) };
        let project = self.project(&up.project)?.filter(|project| project.deleted_at.is_none());
        let fits = project.is_some_and(|project| {
            project.tenant == key.tenant && key.project.as_ref().is_none_or(|own| *own == project.id)
        });
        let may = fits && authority::may_have_tunnel(&key, &up.name, up.kind, now);
        Ok(may.then_some(key))
    }

    fn claim(&self, up: &Up, tenant: &TenantId, now: u64) -> Result<Claim, StoreError> {
        if let Some(owner) = self.owner_of(&up.name)? {
            return Ok(if owner == up.project { Claim::Owned } else { Claim::Taken });
        }
        let count: u64 = self.one(
            "SELECT count(*) FROM names WHERE project = $1",
            params![up.project.as_str()],
            column::only,
        )?;
        if count >= MAX_NAMES {
            return Ok(Claim::TooMany);
        }
        if !self.take_kept(&up.name, tenant)? {
            return Ok(Claim::Kept);
        }
        self.change(
            "INSERT INTO names (name, project, created_at) VALUES ($1, $2, $3)",
            params![up.name.as_str(), up.project.as_str(), now],
        )?;
        Ok(Claim::New)
    }
}

impl Reading<'_> {
    /// The project that a name belongs to.
    pub(super) fn owner_of(&self, name: &TunnelName) -> Result<Option<ProjectId>, StoreError> {
        self.first("SELECT project FROM names WHERE name = $1", params![name.as_str()], |row| {
            column::parsed(row, 0)
        })
    }
}

impl Up {
    /// What relays are told of its name.
    fn owned(&self) -> Change {
        Change::Name { name: self.name.clone(), project: self.project.clone(), kind: Some(self.kind) }
    }
}

enum Claim {
    New,
    Owned,
    Taken,
    /// Another tenant had it a while ago.
    Kept,
    TooMany,
}

fn tunnel(row: &Row<'_>) -> Result<TunnelRow, StoreError> {
    let mut gates = Vec::new();
    for (index, name) in ["basic", "oidc", "pin", "bearer", "ip"].into_iter().enumerate() {
        if row.get::<Option<String>>(5 + index)?.is_some() {
            gates.push(name);
        }
    }
    Ok(TunnelRow {
        id: column::parsed(row, 0)?,
        name: column::parsed(row, 1)?,
        project: column::parsed(row, 2)?,
        kind: column::parsed(row, 3)?,
        serial: column::serial(row, 4)?,
        gates,
    })
}
