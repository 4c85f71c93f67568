//! Domains of tenants' own. A change is one transaction: the row, its place in the audit log and the change in the feed.
//!
//! Any tenant may ask for any domain; one at a time has it. It leads to a tunnel by the tunnel's name, which is not freed
//! while a domain is there, and goes with the tunnel's project.

use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Change;
use mytunnel_keys::id::{DomainName, ProjectId, TenantId, TunnelId, TunnelKind, TunnelName};

use super::sql::{Reading, Row, Writing, params};
use super::{FeedSigner, Store, StoreError, TunnelRow, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, After, Caller, Doubts, Holder, Look, Reach, Refusal, Shown};

/// Domains that are looked at in one go.
const DUE: u64 = 200;

/// A domain with its tunnel.
macro_rules! select_domain {
    ($rest:literal) => {
        concat!(
            "SELECT d.domain, d.tenant, d.tunnel, t.name, t.project, d.token, d.created_at, d.verified_at,
                    d.checked_at, d.missing_since, d.unknown_since, t.kind
             FROM domains d JOIN tunnels t ON t.id = d.tunnel ",
            $rest
        )
    };
}

/// A domain, as its tenant has asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainRow {
    pub(crate) domain: DomainName,
    pub(crate) tenant: TenantId,
    pub(crate) tunnel: TunnelId,
    pub(crate) name: TunnelName,
    pub(crate) project: ProjectId,
    pub(crate) kind: TunnelKind,
    pub(crate) token: String,
    pub(crate) created_at: u64,
    pub(crate) verified_at: Option<u64>,
    pub(crate) checked_at: u64,
    pub(crate) doubts: Doubts,
}

/// A domain that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewDomainRow {
    pub(crate) domain: DomainName,
    pub(crate) asked: api::NewDomain,
    /// Of a row that is not there yet.
    pub(crate) token: String,
}

/// What stands, and the epoch that relays must have applied, if anything has changed for them.
pub(crate) type Changed = (DomainRow, Option<u64>);

impl Store {
    /// Adds a domain within the caller's reach, or leads one that is there to another tunnel.
    pub(crate) async fn add_domain(
        &self,
        caller: Caller,
        new: NewDomainRow,
        now: u64,
    ) -> Result<Result<Changed, Refusal>, StoreError> {
        self.publishing(move |writing, signer| writing.add_domain(signer, &caller, new, now)).await
    }

    /// Takes what stands in the DNS for a domain of a tenant; answers whose that shows it to be.
    pub(crate) async fn show_domain(
        &self,
        actor: Party,
        tenant: TenantId,
        domain: DomainName,
        found: Vec<String>,
        now: u64,
    ) -> Result<Result<(Changed, Shown), Refusal>, StoreError> {
        self.publishing(move |writing, signer| {
            writing.show_domain(signer, actor, &tenant, &domain, &found, now)
        })
        .await
    }

    /// Takes a domain away; answers the epoch that relays must have applied, if it led anywhere.
    pub(crate) async fn remove_domain(
        &self,
        actor: Party,
        tenant: TenantId,
        domain: DomainName,
        now: u64,
    ) -> Result<Result<Option<u64>, Refusal>, StoreError> {
        self.publishing(move |writing, signer| {
            let Some(row) = writing.domain(&tenant, &domain)? else {
                return Ok(Err(Refusal::not_found("domain")));
            };
            writing.change(
                "DELETE FROM domains WHERE tenant = $1 AND domain = $2",
                params![tenant.as_str(), domain.as_str()],
            )?;
            let gone = row.verified_at.map(|_| Change::DomainGone { domain });
            let epoch = writing.publish_some(signer, gone.into_iter().collect(), now)?;
            writing.audit(&of_domain(actor, Act::DomainRemove, &row, String::new(), now))?;
            Ok(Ok(epoch))
        })
        .await
    }

    /// Domains within a caller's reach, by name.
    pub(crate) async fn domains(&self, reach: Reach) -> Result<Vec<DomainRow>, StoreError> {
        self.engine
            .read(move |reading| {
                let mut rows = reading.all(
                    select_domain!("WHERE d.tenant = $1 ORDER BY d.domain"),
                    params![reach.tenant.as_str()],
                    domain,
                )?;
                rows.retain(|row| reach.project.as_ref().is_none_or(|project| row.project == *project));
                Ok(rows)
            })
            .await
    }

    /// A domain of a tenant.
    pub(crate) async fn domain(
        &self,
        tenant: TenantId,
        domain: DomainName,
    ) -> Result<Option<DomainRow>, StoreError> {
        self.engine.read(move |reading| reading.domain(&tenant, &domain)).await
    }

    /// Domains that are shown and were not looked at since `before`, some of them.
    pub(crate) async fn due_domains(&self, before: u64) -> Result<Vec<DomainRow>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.all(
                    select_domain!("WHERE d.verified_at IS NOT NULL AND d.checked_at <= $1 ORDER BY d.checked_at, d.domain LIMIT $2"),
                    params![before, DUE],
                    domain,
                )
            })
            .await
    }

    /// Takes what a look at the record of a domain that was shown has told.
    pub(crate) async fn look_at_domain(
        &self,
        seen: DomainRow,
        look: Look,
        now: u64,
    ) -> Result<(), StoreError> {
        self.publishing(move |writing, signer| {
            // It may have been removed since, or taken over.
            let there = writing.domain(&seen.tenant, &seen.domain)?;
            let Some(row) = there.filter(|row| row.verified_at.is_some() && row.token == seen.token) else {
                return Ok(());
            };
            match authority::after_look(look, row.doubts, now) {
                After::Keep { checked_at, doubts } => {
                    writing.change(
                        "UPDATE domains SET checked_at = $1, missing_since = $2, unknown_since = $3
                         WHERE tenant = $4 AND domain = $5",
                        params![
                            checked_at,
                            doubts.missing_since,
                            doubts.unknown_since,
                            row.tenant.as_str(),
                            row.domain.as_str()
                        ],
                    )?;
                }
                After::Lose(why) => {
                    writing.unshow(&row.tenant, &row.domain, now)?;
                    writing.publish_some(
                        signer,
                        vec![Change::DomainGone { domain: row.domain.clone() }],
                        now,
                    )?;
                    writing.audit(&of_domain(Party::System, Act::DomainLose, &row, why.to_owned(), now))?;
                }
            }
            Ok(())
        })
        .await
    }
}

impl Writing<'_> {
    fn add_domain(
        &self,
        signer: &FeedSigner,
        caller: &Caller,
        new: NewDomainRow,
        now: u64,
    ) -> Result<Result<Changed, Refusal>, StoreError> {
        let allowed = authority::may_change_domains(caller)
            .and_then(|tenant| authority::reach_of_tunnels(caller).map(|reach| (tenant, reach)));
        let (tenant, reach) = match allowed {
            Ok(allowed) => allowed,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let NewDomainRow { domain, asked, token } = new;
        let tunnel = match self.tunnel_for_domain(signer, &reach, &asked)? {
            Ok(tunnel) => tunnel,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let before = self.domain(&tenant, &domain)?;
        if before.is_none() {
            let count: u64 = self.one(
                "SELECT count(*) FROM domains WHERE tenant = $1",
                params![tenant.as_str()],
                column::only,
            )?;
            if let Err(refusal) = authority::has_room_for_domains(count) {
                return Ok(Err(refusal));
            }
        }
        if let Some(row) = before.as_ref().filter(|row| row.tunnel == tunnel.id) {
            return Ok(Ok((row.clone(), None)));
        }
        self.change(
            "INSERT INTO domains (domain, tenant, tunnel, token, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant, domain) DO UPDATE SET tunnel = excluded.tunnel",
            params![domain.as_str(), tenant.as_str(), tunnel.id.to_string(), token, now],
        )?;
        let Some(row) = self.domain(&tenant, &domain)? else { return Ok(Err(Refusal::not_found("domain"))) };
        let leads = row.verified_at.map(|_| leads(&row));
        let epoch = self.publish_some(signer, leads.into_iter().collect(), now)?;
        self.audit(&of_domain(caller.party(), Act::DomainAdd, &row, format!("to {}", row.name), now))?;
        Ok(Ok((row, epoch)))
    }

    /// The tunnel that a domain is to lead to: one that visitors reach by a host name, and whose name is its project's.
    fn tunnel_for_domain(
        &self,
        signer: &FeedSigner,
        reach: &Reach,
        asked: &api::NewDomain,
    ) -> Result<Result<TunnelRow, Refusal>, StoreError> {
        let owner = |name: &TunnelName| {
            self.first("SELECT project FROM names WHERE name = $1", params![name.as_str()], |row| {
                column::parsed::<ProjectId>(row, 0)
            })
        };
        let id = match (asked.tunnel, &asked.name) {
            (Some(id), None) => Some(id),
            (None, Some(name)) => {
                owner(name)?.map(|project| TunnelId::derive(&signer.cluster, &project, name))
            }
            (Some(_), Some(_)) | (None, None) => {
                let message = "tunnel, name: give one of the two";
                return Ok(Err(Refusal::new(Code::BadRequest, message)));
            }
        };
        let found = match &id {
            Some(id) => self.tunnel(reach, id)?,
            None => None,
        };
        let of_project = |tunnel: &TunnelRow| asked.project.as_ref().is_none_or(|own| *own == tunnel.project);
        let Some(tunnel) = found.filter(of_project) else {
            return Ok(Err(Refusal::not_found("tunnel; it exists once it was open")));
        };
        if !matches!(tunnel.kind, TunnelKind::Http | TunnelKind::Tls) {
            let message = "tunnel: only one of kind http or tls is reached by a host name";
            return Ok(Err(Refusal::new(Code::BadRequest, message)));
        }
        if owner(&tunnel.name)?.as_ref() != Some(&tunnel.project) {
            let message = "tunnel: its name belongs to another project";
            return Ok(Err(Refusal::new(Code::NameTaken, message)));
        }
        Ok(Ok(tunnel))
    }

    fn show_domain(
        &self,
        signer: &FeedSigner,
        actor: Party,
        tenant: &TenantId,
        domain: &DomainName,
        found: &[String],
        now: u64,
    ) -> Result<Result<(Changed, Shown), Refusal>, StoreError> {
        let Some(row) = self.domain(tenant, domain)? else { return Ok(Err(Refusal::not_found("domain"))) };
        let holder = self.holder(domain)?;
        let holds = match &holder {
            None => Holder::Nobody,
            Some(holder) if holder.tenant == *tenant => Holder::Same,
            Some(holder) => Holder::Other(&holder.token),
        };
        let shown = authority::shown(found, &row.token, holds);
        if shown != Shown::Now {
            return Ok(Ok(((row, None), shown)));
        }
        if let Some(holder) = holder {
            self.unshow(&holder.tenant, domain, now)?;
            let why = "another tenant has shown it to be theirs".to_owned();
            self.audit(&of_domain(Party::System, Act::DomainLose, &holder, why, now))?;
        }
        self.change(
            "UPDATE domains SET verified_at = $1, checked_at = $1, missing_since = NULL, unknown_since = NULL
             WHERE tenant = $2 AND domain = $3",
            params![now, tenant.as_str(), domain.as_str()],
        )?;
        let row = DomainRow { verified_at: Some(now), checked_at: now, doubts: Doubts::default(), ..row };
        let epoch = self.publish_some(signer, vec![leads(&row)], now)?;
        self.audit(&of_domain(actor, Act::DomainVerify, &row, format!("leads to {}", row.name), now))?;
        Ok(Ok(((row, epoch), shown)))
    }

    fn unshow(&self, tenant: &TenantId, domain: &DomainName, now: u64) -> Result<(), StoreError> {
        self.change(
            "UPDATE domains SET verified_at = NULL, missing_since = NULL, unknown_since = NULL, checked_at = $1
             WHERE tenant = $2 AND domain = $3",
            params![now, tenant.as_str(), domain.as_str()],
        )?;
        Ok(())
    }

    /// Publishes changes, if there are any; answers the epoch in which they are.
    fn publish_some(
        &self,
        signer: &FeedSigner,
        changes: Vec<Change>,
        now: u64,
    ) -> Result<Option<u64>, StoreError> {
        if changes.is_empty() {
            return Ok(None);
        }
        self.publish(signer, changes, now)?;
        Ok(Some(self.head()?.feed.epoch))
    }

    /// Takes away the domains that lead to a project's tunnels; answers what relays must know.
    pub(super) fn drop_domains(&self, project: &ProjectId) -> Result<Vec<Change>, StoreError> {
        let dropped = self.all(
            "DELETE FROM domains WHERE tunnel IN (SELECT id FROM tunnels WHERE project = $1)
             RETURNING domain, verified_at",
            params![project.as_str()],
            |row| Ok((column::parsed(row, 0)?, row.get::<Option<u64>>(1)?)),
        )?;
        let shown = dropped.into_iter().filter(|(_, verified_at)| verified_at.is_some());
        Ok(shown.map(|(domain, _)| Change::DomainGone { domain }).collect())
    }
}

impl Reading<'_> {
    fn domain(&self, tenant: &TenantId, name: &DomainName) -> Result<Option<DomainRow>, StoreError> {
        self.first(
            select_domain!("WHERE d.tenant = $1 AND d.domain = $2"),
            params![tenant.as_str(), name.as_str()],
            domain,
        )
    }

    /// The row of whoever has shown a domain.
    fn holder(&self, name: &DomainName) -> Result<Option<DomainRow>, StoreError> {
        self.first(
            select_domain!("WHERE d.domain = $1 AND d.verified_at IS NOT NULL"),
            params![name.as_str()],
            domain,
        )
    }

    /// Every domain that leads somewhere.
    pub(super) fn leading(&self) -> Result<Vec<Change>, StoreError> {
        self.all(
            "SELECT d.domain, t.name FROM domains d CROSS JOIN tunnels t
             WHERE t.id = d.tunnel AND d.verified_at IS NOT NULL",
            params![],
            |row| Ok(Change::Domain { domain: column::parsed(row, 0)?, name: column::parsed(row, 1)? }),
        )
    }
}

fn leads(row: &DomainRow) -> Change {
    Change::Domain { domain: row.domain.clone(), name: row.name.clone() }
}

fn of_domain(actor: Party, act: Act, row: &DomainRow, detail: String, now: u64) -> Entry {
    Entry {
        at: now,
        tenant: Some(row.tenant.clone()),
        actor,
        act,
        subject: Party::Domain(row.domain.clone()),
        project: Some(row.project.clone()),
        detail,
    }
}

fn domain(row: &Row<'_>) -> Result<DomainRow, StoreError> {
    Ok(DomainRow {
        domain: column::parsed(row, 0)?,
        tenant: column::parsed(row, 1)?,
        tunnel: column::parsed(row, 2)?,
        name: column::parsed(row, 3)?,
        project: column::parsed(row, 4)?,
        token: row.get(5)?,
        created_at: row.get(6)?,
        verified_at: row.get(7)?,
        checked_at: row.get(8)?,
        kind: column::parsed(row, 11)?,
        doubts: Doubts { missing_since: row.get(9)?, unknown_since: row.get(10)? },
    })
}
