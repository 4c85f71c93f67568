//! Gates before tunnels, tunnels that their owner closes, and the plan that allows gates.

use data_encoding::BASE64URL_NOPAD;
use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use mytunnel_keys::feed::Gates;
use mytunnel_keys::id::{PublicKey, TunnelId, TunnelKind, TunnelName};
use zeroize::Zeroizing;

use crate::audit::{Act, Party};
use crate::authority::{self, Caller, GateKind, Plan, Refusal};
use crate::http::ApiError;
use crate::random::{self, NoRandomness};
use crate::shared::Shared;
use crate::store::{GateChange, NewGate, TunnelRow};

/// The year 9999: whoever gives a later end has not given seconds.
const END_OF_TIME: u64 = 253_402_300_799;

impl Shared {
    /// One tunnel that the caller may see, with what it asks of visitors.
    pub(crate) async fn tunnel(&self, caller: &Caller, id: TunnelId) -> Result<api::Tunnel, ApiError> {
        let (row, gates) = self.gated(caller, id).await?;
        let Gates { basic, sign_in, pin: _, bearer: _, addresses, ends_at } = gates;
        Ok(api::Tunnel {
            row: self.tunnel_row(row),
            auth: basic.map(|gate| api::Auth { user: gate.user }),
            edge_auth: sign_in.map(|gate| api::EdgeAuth {
                provider: gate.provider,
                allowed_domains: gate.allowed_domains,
                allowed_emails: gate.allowed_emails,
            }),
            ip: addresses.map(|gate| api::Addresses { allow: gate.allow, deny: gate.deny }),
            expires_at: ends_at,
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
        let hash = self.hash(caller, id, GateKind::Basic, password, asked.tunnel.as_ref()).await?;
        let gate = NewGate::Password { user, hash };
        let relays = self.change_gate(caller, id, GateChange::Set(gate), asked.tunnel).await?;
        Ok(api::AuthAnswer { id, auth_enabled: true, relays })
    }

    /// Asks for no password any more.
    pub(crate) async fn drop_auth(&self, caller: &Caller, id: TunnelId) -> Result<api::AuthAnswer, ApiError> {
        let relays = self.change_gate(caller, id, GateChange::Drop(GateKind::Basic), None).await?;
        Ok(api::AuthAnswer { id, auth_enabled: false, relays })
    }

    /// Asks the visitors of a tunnel who they are, and waits until the relays do.
    pub(crate) async fn set_edge_auth(
        &self,
        caller: &Caller,
        id: TunnelId,
        asked: api::SetEdgeAuth,
    ) -> Result<api::EdgeAuthAnswer, ApiError> {
        let providers = self.sign_in.providers();
        let known = providers.iter().map(|provider| (provider.id(), provider.issuer()));
        let (domains, emails) = (&asked.allowed_domains, &asked.allowed_emails);
        let gate = authority::sign_in_list(known, &asked.provider, domains, emails)?;
        let change = GateChange::Set(NewGate::SignIn(gate));
        let relays = self.change_gate(caller, id, change, asked.tunnel).await?;
        Ok(api::EdgeAuthAnswer { id, edge_auth_enabled: true, relays })
    }

    /// Asks nobody who they are any more.
    pub(crate) async fn drop_edge_auth(
        &self,
        caller: &Caller,
        id: TunnelId,
    ) -> Result<api::EdgeAuthAnswer, ApiError> {
        let relays = self.change_gate(caller, id, GateChange::Drop(GateKind::SignIn), None).await?;
        Ok(api::EdgeAuthAnswer { id, edge_auth_enabled: false, relays })
    }

    /// Ends the sessions of everybody who has signed in before a tunnel, at every relay.
    pub(crate) async fn end_visits(
        &self,
        caller: &Caller,
        id: TunnelId,
    ) -> Result<api::EdgeAuthAnswer, ApiError> {
        let relays = self.change_gate(caller, id, GateChange::EndSessions, None).await?;
        Ok(api::EdgeAuthAnswer { id, edge_auth_enabled: true, relays })
    }

    /// Asks the visitors of a tunnel for a number, which is made here if there is none.
    pub(crate) async fn set_pin(
        &self,
        caller: &Caller,
        id: TunnelId,
        asked: api::SetPin,
    ) -> Result<api::GateAnswer, ApiError> {
        let given = asked.pin.map(Zeroizing::new);
        let (pin, made) = given_or(given, made_pin)?;
        authority::check_pin(&pin)?;
        let hash = self.hash(caller, id, GateKind::Pin, pin, asked.tunnel.as_ref()).await?;
        let answer = self.set_gate(caller, id, NewGate::Pin { hash }, asked.tunnel).await?;
        Ok(api::GateAnswer { secret: made, ..answer })
    }

    /// Lets programs in that show a token, which is made here if there is none.
    pub(crate) async fn set_bearer(
        &self,
        caller: &Caller,
        id: TunnelId,
        asked: api::SetBearer,
    ) -> Result<api::GateAnswer, ApiError> {
        let given = asked.token.map(Zeroizing::new);
        let (token, made) = given_or(given, made_token)?;
        authority::check_token(&token)?;
        let hash = self.hash(caller, id, GateKind::Bearer, token, asked.tunnel.as_ref()).await?;
        let answer = self.set_gate(caller, id, NewGate::Bearer { hash }, asked.tunnel).await?;
        Ok(api::GateAnswer { secret: made, ..answer })
    }

    /// Lets visitors in by where they come from.
    pub(crate) async fn set_addresses(
        &self,
        caller: &Caller,
        id: TunnelId,
        asked: api::SetAddresses,
    ) -> Result<api::GateAnswer, ApiError> {
        let gate = authority::addresses(&asked.allow, &asked.deny)?;
        self.set_gate(caller, id, NewGate::Addresses(gate), asked.tunnel).await
    }

    /// Gives a tunnel an end.
    pub(crate) async fn set_end(
        &self,
        caller: &Caller,
        id: TunnelId,
        asked: api::SetEnd,
    ) -> Result<api::GateAnswer, ApiError> {
        let at = authority::end_of_life(asked.expires_in, self.clock.now())?;
        let answer = self.set_gate(caller, id, NewGate::End(at), asked.tunnel).await?;
        Ok(api::GateAnswer { expires_at: Some(at), ..answer })
    }

    /// Takes a gate away, or an end.
    pub(crate) async fn drop_gate(
        &self,
        caller: &Caller,
        id: TunnelId,
        kind: GateKind,
    ) -> Result<api::GateAnswer, ApiError> {
        let relays = self.change_gate(caller, id, GateChange::Drop(kind), None).await?;
        Ok(answer(id, kind, false, relays))
    }

    /// Sets a gate of a tunnel that a device of this process is about to open. Answers the number or the token, if it was
    /// made here.
    pub(crate) async fn gate_ahead(
        &self,
        device: PublicKey,
        (name, kind): (TunnelName, TunnelKind),
        gate: api::SetGate,
    ) -> Result<Option<String>, ApiError> {
        let key = self.store.key_of(device).await?.ok_or_else(Refusal::unknown_key)?;
        let project = key.project.clone().unwrap_or_else(|| key.tenant.home_project());
        let id = TunnelId::derive(self.issuer.cluster(), &project, &name);
        let caller = &Caller::Key(Box::new(key));
        let secret = match gate.for_new(api::NewTunnel { project, name, kind }) {
            api::SetGate::Auth(asked) => self.set_auth(caller, id, asked).await.map(|_| None)?,
            api::SetGate::EdgeAuth(asked) => self.set_edge_auth(caller, id, asked).await.map(|_| None)?,
            api::SetGate::Pin(asked) => self.set_pin(caller, id, asked).await?.secret,
            api::SetGate::Bearer(asked) => self.set_bearer(caller, id, asked).await?.secret,
            api::SetGate::Addresses(asked) => self.set_addresses(caller, id, asked).await?.secret,
            api::SetGate::End(asked) => self.set_end(caller, id, asked).await?.secret,
        };
        Ok(secret)
    }

    /// Takes a gate of a tunnel away that a device of this process has set.
    pub(crate) async fn ungate(
        &self,
        device: PublicKey,
        name: &TunnelName,
        gate: &api::SetGate,
    ) -> Result<(), ApiError> {
        let key = self.store.key_of(device).await?.ok_or_else(Refusal::unknown_key)?;
        let project = key.project.clone().unwrap_or_else(|| key.tenant.home_project());
        let id = TunnelId::derive(self.issuer.cluster(), &project, name);
        let kind = match gate {
            api::SetGate::Auth(_) => GateKind::Basic,
            api::SetGate::EdgeAuth(_) => GateKind::SignIn,
            api::SetGate::Pin(_) => GateKind::Pin,
            api::SetGate::Bearer(_) => GateKind::Bearer,
            api::SetGate::Addresses(_) => GateKind::Addresses,
            api::SetGate::End(_) => GateKind::End,
        };
        self.drop_gate(&Caller::Key(Box::new(key)), id, kind).await.map(drop)
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
        if self.gated(caller, id).await.is_ok() {
            let holders = self.followers.live().holders(&id);
            authority::may_gate_live(caller, GateKind::End, holders.into_iter())?;
        }
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

    /// Hashes what visitors will have to show. Whether the caller may set it is asked before a core is busy with that, and
    /// again when it is written.
    async fn hash(
        &self,
        caller: &Caller,
        id: TunnelId,
        kind: GateKind,
        secret: Zeroizing<String>,
        new: Option<&api::NewTunnel>,
    ) -> Result<String, ApiError> {
        let name = match self.gated(caller, id).await {
            Ok((tunnel, _)) => tunnel.name,
            Err(error) => match new {
                Some(new) if error.is_not_found() => {
                    let opened = self.may_open(caller, &id, kind, new, self.clock.now());
                    if let Err(refusal) = opened {
                        return Err(self.refused_gate(caller, &new.name, refusal).await);
                    }
                    new.name.clone()
                }
                Some(_) | None => return Err(error),
            },
        };
        let plan = self.store.plan(caller.tenant().clone()).await?;
        let allowed = authority::may_change_gate(caller, kind, &[])
            .and_then(|()| authority::may_have_gate(kind, plan, self.clock.now()));
        if let Err(refusal) = allowed {
            return Err(self.refused_gate(caller, &name, refusal).await);
        }
        Ok(self.gate_passwords.hash(secret).await?)
    }

    /// May the caller open the tunnel of this id that it describes, with such a gate? By what is known without a look at the
    /// store, which is asked when it is written.
    fn may_open(
        &self,
        caller: &Caller,
        id: &TunnelId,
        kind: GateKind,
        new: &api::NewTunnel,
        now: u64,
    ) -> Result<(), Refusal> {
        // A session opens no tunnels.
        let Caller::Key(key) = caller else { return Err(Refusal::not_found("tunnel")) };
        if TunnelId::derive(self.issuer.cluster(), &new.project, &new.name) != *id {
            return Err(Refusal::new(Code::BadRequest, "tunnel: this is not what the id is made of"));
        }
        authority::may_stand_before(kind, new.kind)?;
        match authority::may_have_tunnel(key, &new.name, new.kind, now) {
            true => Ok(()),
            false => Err(Refusal::new(Code::ScopeDenied, "this key may not open that tunnel")),
        }
    }

    async fn set_gate(
        &self,
        caller: &Caller,
        id: TunnelId,
        gate: NewGate,
        new: Option<api::NewTunnel>,
    ) -> Result<api::GateAnswer, ApiError> {
        let kind = gate.kind();
        let relays = self.change_gate(caller, id, GateChange::Set(gate), new).await?;
        Ok(answer(id, kind, true, relays))
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
        // Of what is elsewhere, or is not the key's to serve, nobody learns whether it is served.
        let is_own = |new: &api::NewTunnel| {
            matches!(caller, Caller::Key(key) if key.project.as_ref() == Some(&new.project))
                && self.may_open(caller, &id, change.kind(), new, now).is_ok()
        };
        if new.as_ref().is_some_and(is_own) || self.gated(caller, id).await.is_ok() {
            let holders = self.followers.live().holders(&id);
            authority::may_gate_live(caller, change.kind(), holders.into_iter())?;
        }
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

fn answer(id: TunnelId, kind: GateKind, enabled: bool, relays: Vec<api::RelayApplied>) -> api::GateAnswer {
    let gate = if kind == GateKind::End { "expires" } else { kind.name() };
    api::GateAnswer { id, gate: gate.to_owned(), enabled, secret: None, expires_at: None, relays }
}

/// What was given, or what is made; with what to tell of it once.
pub(crate) fn given_or(
    given: Option<Zeroizing<String>>,
    make: impl FnOnce() -> Result<Zeroizing<String>, NoRandomness>,
) -> Result<(Zeroizing<String>, Option<String>), ApiError> {
    if let Some(given) = given {
        return Ok((given, None));
    }
    let made = make()?;
    let told = made.as_str().to_owned();
    Ok((made, Some(told)))
}

/// A number for people to type.
pub(crate) fn made_pin() -> Result<Zeroizing<String>, NoRandomness> {
    random::bytes().map(|bytes| authority::pin(&bytes))
}

/// A token for programs.
pub(crate) fn made_token() -> Result<Zeroizing<String>, NoRandomness> {
    random::bytes::<32>().map(|bytes| Zeroizing::new(BASE64URL_NOPAD.encode(&bytes)))
}

fn tenant(caller: &Caller, plan: Plan) -> api::Tenant {
    let name = match plan {
        Plan::Pro => api::PlanName::Pro,
        Plan::Trial { .. } => api::PlanName::Trial,
        Plan::Free => api::PlanName::Free,
    };
    api::Tenant { id: caller.tenant().clone(), plan: name, trial_ends_at: plan.trial_ends_at() }
}
