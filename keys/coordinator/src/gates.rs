//! Gates before tunnels, tunnels that their owner closes, and the plan that allows gates.

use mytunnel_keys::api;
use mytunnel_keys::feed::Gates;
use mytunnel_keys::id::{PublicKey, TunnelId, TunnelName};
use zeroize::Zeroizing;

use crate::audit::{Act, Party};
use crate::authority::{self, Caller, Plan, Refusal, SetBy};
use crate::http::ApiError;
use crate::shared::Shared;
use crate::store::{GateChange, TunnelRow};

/// The year 9999: whoever gives a later end has not given seconds.
const END_OF_TIME: u64 = 253_402_300_799;

impl Shared {
    /// One tunnel that the caller may see, with what it asks of visitors.
    pub(crate) async fn tunnel(&self, caller: &Caller, id: TunnelId) -> Result<api::Tunnel, ApiError> {
        let (row, gates) = self.gated(caller, id).await?;
        let Gates { basic, sign_in } = gates;
        Ok(api::Tunnel {
            row: self.tunnel_row(row),
            auth: basic.map(|gate| api::Auth { user: gate.user }),
            edge_auth: sign_in.map(|gate| api::EdgeAuth {
                provider: gate.provider,
                allowed_domains: gate.allowed_domains,
                allowed_emails: gate.allowed_emails,
            }),
        })
    }

    /// Asks the visitors of a tunnel for a password, and waits until the relays do.
    pub(crate) async fn set_auth(
        &self,
        caller: &Caller,
        id: TunnelId,
        asked: api::SetAuth,
    ) -> Result<api::AuthAnswer, ApiError> {
        let password = Zeroizing::new(asked.password);
        let user = authority::gate_user(asked.user)?;
        authority::check_gate_password(&password)?;
        // Asked before a core is busy with the hash, and again when it is written.
        let name = match self.gated(caller, id).await {
            Ok((tunnel, _)) => tunnel.name,
            Err(error) => match &asked.tunnel {
                Some(new) if error.is_not_found() => new.name.clone(),
                Some(_) | None => return Err(error),
            },
        };
        let plan = self.store.plan(caller.tenant().clone()).await?;
        let allowed = authority::may_change_password(caller, SetBy::Nobody)
            .and_then(|()| authority::may_ask_for_password(plan, self.clock.now()));
        if let Err(refusal) = allowed {
            return Err(self.refused_gate(caller, &name, refusal).await);
        }
        let hash = self.gate_passwords.hash(password).await?;
        let relays = self.change_gate(caller, id, GateChange::Password { user, hash }, asked.tunnel).await?;
        Ok(api::AuthAnswer { id, auth_enabled: true, relays })
    }

    /// Asks the visitors of a tunnel for a password that a device of this process is about to open.
    pub(crate) async fn ask_for_password(
        &self,
        device: PublicKey,
        name: TunnelName,
        user: String,
        password: String,
    ) -> Result<(), ApiError> {
        let key = self.store.key_of(device).await?.ok_or_else(Refusal::unknown_key)?;
        let project = key.project.clone().unwrap_or_else(|| key.tenant.home_project());
        let id = TunnelId::derive(self.issuer.cluster(), &project, &name);
        let tunnel = Some(api::NewTunnel { project, name });
        let caller = Caller::Key(Box::new(key));
        self.set_auth(&caller, id, api::SetAuth { user, password, tunnel }).await.map(drop)
    }

    /// Asks for no password any more.
    pub(crate) async fn drop_auth(&self, caller: &Caller, id: TunnelId) -> Result<api::AuthAnswer, ApiError> {
        let relays = self.change_gate(caller, id, GateChange::NoPassword, None).await?;
        Ok(api::AuthAnswer { id, auth_enabled: false, relays })
    }

    /// Asks the visitors of a tunnel who they are, and waits until the relays do.
    pub(crate) async fn set_edge_auth(
        &self,
        caller: &Caller,
        id: TunnelId,
        asked: api::SetEdgeAuth,
    ) -> Result<api::EdgeAuthAnswer, ApiError> {
        let gate = authority::sign_in_gate(&asked.provider, &asked.allowed_domains, &asked.allowed_emails)?;
        let relays = self.change_gate(caller, id, GateChange::SignIn(gate), None).await?;
        Ok(api::EdgeAuthAnswer { id, edge_auth_enabled: true, relays })
    }

    /// Asks nobody who they are any more.
    pub(crate) async fn drop_edge_auth(
        &self,
        caller: &Caller,
        id: TunnelId,
    ) -> Result<api::EdgeAuthAnswer, ApiError> {
        let relays = self.change_gate(caller, id, GateChange::NoSignIn, None).await?;
        Ok(api::EdgeAuthAnswer { id, edge_auth_enabled: false, relays })
    }

    /// Closes a tunnel wherever it is served, and waits until it is. Its name and its gates stay, and whoever served it
    /// may do so again.
    pub(crate) async fn close_tunnel(
        &self,
        caller: &Caller,
        id: TunnelId,
    ) -> Result<api::TunnelClosed, ApiError> {
        let now = self.clock.now();
        self.may_change(caller.tenant(), now)?;
        let epoch = self.store.close_tunnel(caller.clone(), id, now).await??;
        self.note_change(caller.tenant(), now);
        Ok(api::TunnelClosed { id, relays: self.confirm(epoch).await? })
    }

    /// The caller's tenant.
    pub(crate) async fn tenant(&self, caller: &Caller) -> Result<api::Tenant, ApiError> {
        let plan = self.store.plan(caller.tenant().clone()).await?;
        Ok(tenant(caller, plan))
    }

    /// Gives the operator's tenant another plan.
    pub(crate) async fn set_plan(
        &self,
        caller: &Caller,
        asked: api::SetPlan,
    ) -> Result<api::Tenant, ApiError> {
        let id = caller.tenant().clone();
        self.operator(caller, "set a plan")?;
        let plan = match (asked.plan, asked.trial_ends_at) {
            (api::PlanName::Pro, None) => Plan::Pro,
            (api::PlanName::Free, None) => Plan::Free,
            (api::PlanName::Trial, Some(until)) if until <= END_OF_TIME => Plan::Trial { until },
            (api::PlanName::Trial, _) => {
                return Err(ApiError::bad_request("trial_ends_at: a trial needs its end, in Unix seconds"));
            }
            (api::PlanName::Pro | api::PlanName::Free, Some(_)) => {
                return Err(ApiError::bad_request("trial_ends_at: only a trial has an end"));
            }
        };
        self.store.set_plan(id, plan, caller.party(), self.clock.now()).await?;
        Ok(tenant(caller, plan))
    }

    async fn change_gate(
        &self,
        caller: &Caller,
        id: TunnelId,
        change: GateChange,
        new: Option<api::NewTunnel>,
    ) -> Result<Vec<api::RelayApplied>, ApiError> {
        let now = self.clock.now();
        self.may_change(caller.tenant(), now)?;
        match self.store.change_gate(caller.clone(), id, change, new, now).await? {
            Ok(epoch) => {
                self.note_change(caller.tenant(), now);
                Ok(self.confirm(epoch).await?)
            }
            Err(refusal) => match self.gated(caller, id).await {
                Ok((tunnel, _)) => Err(self.refused_gate(caller, &tunnel.name, refusal).await),
                Err(_) => Err(refusal.into()),
            },
        }
    }

    async fn gated(&self, caller: &Caller, id: TunnelId) -> Result<(TunnelRow, Gates), ApiError> {
        let reach = authority::reach_of_tunnels(caller)?;
        let found = self.store.tunnel(reach, id).await?;
        Ok(found.ok_or_else(|| Refusal::not_found("tunnel"))?)
    }

    async fn refused_gate(&self, caller: &Caller, name: &TunnelName, refusal: Refusal) -> ApiError {
        let subject = Party::Tunnel(name.to_string());
        self.note_refused_act(caller, Act::GateRefused, subject, &refusal).await;
        refusal.into()
    }
}

fn tenant(caller: &Caller, plan: Plan) -> api::Tenant {
    let name = match plan {
        Plan::Pro => api::PlanName::Pro,
        Plan::Trial { .. } => api::PlanName::Trial,
        Plan::Free => api::PlanName::Free,
    };
    api::Tenant { id: caller.tenant().clone(), plan: name, trial_ends_at: plan.trial_ends_at() }
}
