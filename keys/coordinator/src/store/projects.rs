//! Projects: the namespaces that tunnel names belong to.

use mytunnel_keys::id::{ProjectId, PublicKey, Serial, TenantId};

use super::sql::{Reading, Row, Writing, params};
use super::{Maker, Store, StoreError, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Refusal};

/// Projects of one tenant that are not deleted.
const MAX_PROJECTS: u64 = 1000;

/// What people see the tenant's own project called.
pub(super) const PERSONAL: &str = "personal";

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    pub(crate) id: ProjectId,
    pub(crate) tenant: TenantId,
    pub(crate) name: String,
    pub(crate) created_at: u64,
    pub(crate) deleted_at: Option<u64>,
}

/// A project to be made, with its master key.
#[derive(Debug)]
pub(crate) struct NewProject {
    pub(crate) id: ProjectId,
    pub(crate) tenant: TenantId,
    pub(crate) name: String,
    pub(crate) master: PublicKey,
    pub(crate) serial: Serial,
    pub(crate) actor: Party,
    pub(crate) maker: Maker,
}

impl Reading<'_> {
    pub(super) fn project(&self, id: &ProjectId) -> Result<Option<Project>, StoreError> {
        self.first(
            "SELECT id, tenant, name, created_at, deleted_at FROM projects WHERE id = $1",
            params![id.as_str()],
            project,
        )
    }

    fn project_named(&self, tenant: &TenantId, name: &str) -> Result<Option<Project>, StoreError> {
        self.first(
            "SELECT id, tenant, name, created_at, deleted_at FROM projects
             WHERE tenant = $1 AND name = $2 AND deleted_at IS NULL",
            params![tenant.as_str(), name],
            project,
        )
    }
}

impl Store {
    /// Makes a project and its master key, together. The same request again gives the same project.
    pub(crate) async fn create_project(
        &self,
        new: NewProject,
        now: u64,
    ) -> Result<Result<(Project, Serial), Refusal>, StoreError> {
        self.engine.write(move |writing| writing.create_project(new, now)).await
    }

    /// Projects of the tenant that are not deleted, by name.
    pub(crate) async fn projects(&self, tenant: TenantId) -> Result<Vec<Project>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.all(
                    "SELECT id, tenant, name, created_at, deleted_at FROM projects
                     WHERE tenant = $1 AND deleted_at IS NULL ORDER BY name",
                    params![tenant.as_str()],
                    project,
                )
            })
            .await
    }

    /// The tenant's project of that name; `fresh` is it if there was none.
    pub(crate) async fn project_or_new(
        &self,
        tenant: TenantId,
        name: &'static str,
        fresh: ProjectId,
        now: u64,
    ) -> Result<Project, StoreError> {
        self.engine
            .write(move |writing| {
                if let Some(there) = writing.project_named(&tenant, name)? {
                    return Ok(there);
                }
                let made =
                    Project { id: fresh, tenant, name: name.to_owned(), created_at: now, deleted_at: None };
                writing.add_project(&made, Party::System)?;
                Ok(made)
            })
            .await
    }
}

impl Writing<'_> {
    fn create_project(
        &self,
        new: NewProject,
        now: u64,
    ) -> Result<Result<(Project, Serial), Refusal>, StoreError> {
        let named = self.project_named(&new.tenant, &new.name)?;
        if let Some(there) = self.key_of(&new.master)? {
            return Ok(authority::created_before(named, &there));
        }
        let count = self.one(
            "SELECT count(*) FROM projects WHERE tenant = $1 AND deleted_at IS NULL",
            params![new.tenant.as_str()],
            column::only,
        )?;
        if let Err(refusal) = authority::may_create_project(named.as_ref(), count, MAX_PROJECTS) {
            return Ok(Err(refusal));
        }
        let made =
            Project { id: new.id, tenant: new.tenant, name: new.name, created_at: now, deleted_at: None };
        self.add_project(&made, new.actor)?;
        self.add_key(&authority::master(new.serial, new.master, &made))?;
        self.note_maker(&new.serial, &new.maker)?;
        Ok(Ok((made, new.serial)))
    }

    /// Makes the project in which devices serve that are signed in. It has no master key: they mint for it.
    pub(super) fn add_home_project(
        &self,
        tenant: &TenantId,
        name: String,
        actor: Party,
        now: u64,
    ) -> Result<(), StoreError> {
        let made = Project {
            id: tenant.home_project(),
            tenant: tenant.clone(),
            name,
            created_at: now,
            deleted_at: None,
        };
        self.add_project(&made, actor)
    }

    /// Gives every tenant that people sign in to the project that older databases lack.
    pub(super) fn add_missing_home_projects(&self, now: u64) -> Result<(), StoreError> {
        let tenants: Vec<TenantId> =
            self.all("SELECT DISTINCT tenant FROM accounts", params![], |row| column::parsed(row, 0))?;
        for tenant in tenants {
            if self.project(&tenant.home_project())?.is_some() {
                continue;
            }
            let mut name = PERSONAL.to_owned();
            let mut number = 1;
            // People may have given that name to a project of theirs, and scripts know it by it.
            while self.project_named(&tenant, &name)?.is_some() {
                number += 1;
                name = format!("{PERSONAL} {number}");
            }
            self.add_home_project(&tenant, name, Party::System, now)?;
        }
        Ok(())
    }

    fn add_project(&self, made: &Project, actor: Party) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO projects (id, tenant, name, created_at) VALUES ($1, $2, $3, $4)",
            params![made.id.as_str(), made.tenant.as_str(), made.name, made.created_at],
        )?;
        self.audit(&Entry {
            at: made.created_at,
            tenant: Some(made.tenant.clone()),
            actor,
            act: Act::ProjectCreate,
            subject: Party::Project(made.id.clone()),
            project: Some(made.id.clone()),
            detail: String::new(),
        })
    }
}

fn project(row: &Row<'_>) -> Result<Project, StoreError> {
    Ok(Project {
        id: column::parsed(row, 0)?,
        tenant: column::parsed(row, 1)?,
        name: row.get(2)?,
        created_at: row.get(3)?,
        deleted_at: row.get(4)?,
    })
}
