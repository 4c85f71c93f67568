//! Tenants and their plans.

use mytunnel_keys::id::TenantId;

use super::sql::{Reading, params};
use super::{Store, StoreError};
use crate::audit::{Act, Entry, Party};
use crate::authority::Plan;

impl Store {
    /// The plan of a tenant.
    pub(crate) async fn plan(&self, tenant: TenantId) -> Result<Plan, StoreError> {
        self.engine.read(move |reading| reading.plan_of(&tenant)).await
    }

    /// Gives a tenant another plan. Nothing that it has is taken away.
    pub(crate) async fn set_plan(
        &self,
        tenant: TenantId,
        plan: Plan,
        actor: Party,
        now: u64,
    ) -> Result<(), StoreError> {
        self.engine
            .write(move |writing| {
                if writing.plan_of(&tenant)? == plan {
                    return Ok(());
                }
                writing.change(
                    "UPDATE tenants SET plan = $1, trial_ends_at = $2 WHERE id = $3",
                    params![plan.name(), plan.trial_ends_at(), tenant.as_str()],
                )?;
                writing.audit(&Entry {
                    at: now,
                    tenant: Some(tenant),
                    subject: actor.clone(),
                    actor,
                    act: Act::PlanSet,
                    project: None,
                    detail: plan.name().to_owned(),
                })
            })
            .await
    }
}

impl Reading<'_> {
    pub(super) fn plan_of(&self, tenant: &TenantId) -> Result<Plan, StoreError> {
        let (name, trial_ends_at): (String, Option<u64>) = self.one(
            "SELECT plan, trial_ends_at FROM tenants WHERE id = $1",
            params![tenant.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Plan::new(&name, trial_ends_at).ok_or(StoreError::Malformed("plan"))
    }
}
