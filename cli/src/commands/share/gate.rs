//! What a share asks of its visitors: set before there is anything to visit, so that it is never a moment open.

use std::sync::{Arc, Mutex, PoisonError};

use mytunnel_coordinator::Coordinator;
use mytunnel_keys::api::{
    NewTunnel, Providers, RelayApplied, SetAddresses, SetAuth, SetBearer, SetEdgeAuth, SetEnd, SetGate,
    SetPin,
};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{Cluster, ProjectId, PublicKey, TunnelId, TunnelKind, TunnelName};
use serde::Deserialize;

use super::flags::{AddressFlags, GateFlags};
use crate::context::Context;
use crate::failure::Failure;
use crate::report::Report;
use crate::secrets;
use crate::session::Session;

/// The relay ends a share by its own clock a little later than the share does: then it has ended calmly already.
const LATER: u64 = 2;

/// What visitors are asked for, and until when.
#[derive(Debug, Clone)]
pub(super) struct Asked(Vec<SetGate>);

/// Who sets it.
pub(super) enum Setter {
    /// Whoever shares, at a coordinator that is there.
    Session(Arc<Mutex<At>>),
    /// The coordinator of this process.
    Here { coordinator: Arc<Coordinator>, device: PublicKey },
}

/// Gates to be set, and by whom.
pub(super) struct Gates {
    pub(super) asked: Asked,
    pub(super) setter: Setter,
}

/// Where a share is about to be.
#[derive(Debug)]
pub(super) struct At {
    pub(super) session: Session,
    pub(super) project: ProjectId,
    pub(super) cluster: Cluster,
    /// Relays that the share may choose.
    pub(super) relays: Vec<PublicKey>,
}

/// What was made where nothing was given, to be told once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) pin: Option<String>,
    pub(super) bearer: Option<String>,
}

/// What every answer to a gate has in it.
#[derive(Deserialize)]
struct Answer {
    relays: Vec<RelayApplied>,
    #[serde(default)]
    secret: Option<String>,
}

impl Asked {
    /// Reads the flags, and secrets from elsewhere where they are not there. Nothing if nothing is asked.
    pub(super) fn read(
        flags: &GateFlags,
        expires: Option<u64>,
        context: &Context,
    ) -> Result<Option<Self>, Failure> {
        let mut gates = Vec::new();
        let AddressFlags { allow_ip, deny_ip } = &flags.addresses;
        if !(allow_ip.is_empty() && deny_ip.is_empty()) {
            let text = |networks: &[mytunnel_keys::network::Network]| {
                networks.iter().map(ToString::to_string).collect()
            };
            let (allow, deny) = (text(allow_ip), text(deny_ip));
            gates.push(SetGate::Addresses(SetAddresses { allow, deny, tunnel: None }));
        }
        if let Some(flag) = &flags.basic {
            gates.push(SetGate::Auth(password(flag, context)?));
        }
        if let Some(flag) = &flags.pin {
            let pin = secrets::pin(context, flag.as_deref())?;
            gates.push(SetGate::Pin(SetPin { pin: pin.map(|pin| (*pin).clone()), tunnel: None }));
        }
        if let Some(flag) = &flags.bearer {
            let token = secrets::tunnel_token(context, flag.as_deref())?;
            gates.push(SetGate::Bearer(SetBearer {
                token: token.map(|token| (*token).clone()),
                tunnel: None,
            }));
        }
        if let Some(provider) = flags.provider() {
            let (allowed_domains, allowed_emails) = allowed(&flags.allow);
            let provider = provider.to_owned();
            let asked = SetEdgeAuth { provider, allowed_domains, allowed_emails, tunnel: None };
            gates.push(SetGate::EdgeAuth(asked));
        }
        if let Some(seconds) = expires {
            let expires_in = seconds.saturating_add(LATER);
            gates.push(SetGate::End(SetEnd { expires_in, tunnel: None }));
        }
        Ok((!gates.is_empty()).then_some(Self(gates)))
    }

    /// What a relay can ask for without reading anything, and what is left for who ends TLS. Where visitors come from is looked
    /// at by both.
    pub(super) fn split(self) -> (Option<Self>, Vec<SetGate>) {
        let blind = |gate: &SetGate| matches!(gate, SetGate::Addresses(_) | SetGate::End(_));
        let at_relay: Vec<_> = self.0.iter().filter(|gate| blind(gate)).cloned().collect();
        let here = self.0.into_iter().filter(|gate| !matches!(gate, SetGate::End(_))).collect();
        ((!at_relay.is_empty()).then_some(Self(at_relay)), here)
    }
}

/// What begins with `@` is a domain. What neither may be is for the server to say.
pub(crate) fn allowed(allow: &[String]) -> (Vec<String>, Vec<String>) {
    let (domains, emails): (Vec<&String>, Vec<&String>) =
        allow.iter().partition(|entry| entry.starts_with('@'));
    let domains = domains.iter().map(|domain| domain[1..].to_owned()).collect();
    (domains, emails.into_iter().cloned().collect())
}

/// Reads `USER[:PASSWORD]`, and the password from elsewhere where it is not there.
fn password(flag: &str, context: &Context) -> Result<SetAuth, Failure> {
    let (user, password) = flag.split_once(':').map_or((flag, None), |(user, rest)| (user, Some(rest)));
    if user.is_empty() {
        return Err(Failure::usage("--basic needs a user name", "Write --basic USER."));
    }
    let password = secrets::tunnel_password(context, None, password.map(|text| ("--basic", text)))?;
    Ok(SetAuth { user: user.to_owned(), password: (*password).clone(), tunnel: None })
}

impl Gates {
    /// Sets all of them for a tunnel that is not open yet.
    pub(super) async fn set(
        &self,
        name: &TunnelName,
        kind: TunnelKind,
        report: Report,
    ) -> Result<Made, Failure> {
        let mut made = Made::default();
        for gate in &self.asked.0 {
            let secret = match self.setter.set(name, kind, gate).await {
                Ok(secret) => secret,
                // The share ends by itself all the same.
                Err(failure) if matches!(gate, SetGate::End(_)) && failure.code() != Code::NameTaken => {
                    report.warn(format_args!(
                        "the relay does not know of --expires ({}); only this process ends the share",
                        failure.message()
                    ));
                    None
                }
                Err(failure) => return Err(failure),
            };
            match gate {
                SetGate::Pin(_) => made.pin = secret,
                SetGate::Bearer(_) => made.bearer = secret,
                SetGate::Auth(_) | SetGate::EdgeAuth(_) | SetGate::Addresses(_) | SetGate::End(_) => {}
            }
        }
        Ok(made)
    }
}

impl Setter {
    async fn set(
        &self,
        name: &TunnelName,
        kind: TunnelKind,
        gate: &SetGate,
    ) -> Result<Option<String>, Failure> {
        match self {
            Self::Here { .. } if matches!(gate, SetGate::EdgeAuth(_)) => {
                let message = "the relay that is started for one share has nobody to sign visitors in with";
                Err(Failure::new(Code::UnsupportedProvider, message).with_help(
                    "Sign in to a relay whose relay.toml has [[sign_in]], with `mytunnel login URL`, or use --pin.",
                ))
            }
            Self::Here { coordinator, device } => {
                Ok(coordinator.gate_ahead(*device, (name.clone(), kind), gate.clone()).await?)
            }
            Self::Session(at) => {
                let (at, gate, name) = (Arc::clone(at), gate.clone(), name.clone());
                let setting = tokio::task::spawn_blocking(move || {
                    at.lock().unwrap_or_else(PoisonError::into_inner).set(gate, name, kind)
                });
                setting.await.map_err(|_| Failure::new(Code::Internal, "the gate could not be set"))?
            }
        }
    }
}

/// Takes the end of a tunnel away.
pub(super) async fn lift_end(at: Arc<Mutex<At>>, name: TunnelName) -> Result<(), Failure> {
    let lifting = tokio::task::spawn_blocking(move || {
        let at = at.lock().unwrap_or_else(PoisonError::into_inner);
        let id = TunnelId::derive(&at.cluster, &at.project, &name);
        at.session.delete::<serde_json::Value>(&format!("/tunnels/{id}/expires")).map(drop)
    });
    lifting.await.map_err(|_| Failure::new(Code::Internal, "the end could not be taken away"))?
}

impl At {
    fn set(&self, gate: SetGate, name: TunnelName, kind: TunnelKind) -> Result<Option<String>, Failure> {
        if let SetGate::EdgeAuth(asked) = &gate {
            offered(&self.session, &asked.provider)?;
        }
        let id = TunnelId::derive(&self.cluster, &self.project, &name);
        let path = format!("/tunnels/{id}/{}", gate.path());
        let asked = gate.for_new(NewTunnel { project: self.project.clone(), name, kind });
        let answer: Answer = self.session.put(&path, &asked)?;
        let silent = answer.relays.iter().find(|relay| !relay.applied && self.relays.contains(&relay.id));
        match silent {
            None => Ok(answer.secret),
            Some(relay) => {
                let message = format!("relay {} has not confirmed the gate; nothing was shared", relay.id);
                Err(Failure::new(Code::RelayUnreachable, message).with_help("Try again in a moment."))
            }
        }
    }
}

/// Whether visitors can sign in with this provider: what is set for one that nobody can use lets nobody in.
fn offered(session: &Session, provider: &str) -> Result<(), Failure> {
    let Providers { providers } = session.get("/auth/providers")?;
    // An issuer is for the server to find.
    if provider.contains("://") || providers.iter().any(|known| known.id == provider) {
        return Ok(());
    }
    let ids: Vec<&str> = providers.iter().map(|known| known.id.as_str()).collect();
    let there = match ids.as_slice() {
        [] => "it has none at all".to_owned(),
        ids => format!("it has {}", ids.join(", ")),
    };
    let message = format!("{} has no sign-in with `{provider}`; {there}", session.server().base());
    Err(Failure::new(Code::UnsupportedProvider, message).with_help(
        "Its operator adds it to relay.toml as [[sign_in]], with SERVER/.mytunnel/callback registered at the provider.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    fn read(flags: &GateFlags, expires: Option<u64>) -> Vec<String> {
        let report = Report::new(true, true);
        let context = Context { env: Environment::default(), report };
        let asked = Asked::read(flags, expires, &context).unwrap();
        asked.map_or_else(Vec::new, |asked| {
            let bodies = asked
                .0
                .iter()
                .map(|gate| format!("{} {}", gate.path(), serde_json::to_string(gate).unwrap()));
            bodies.collect()
        })
    }

    #[test]
    fn flags_become_the_gates_that_they_name() {
        assert_eq!(read(&GateFlags::default(), None), Vec::<String>::new());
        let flags = GateFlags {
            pin: Some(None),
            bearer: Some(Some("sixteen-letters-or-more".to_owned())),
            addresses: AddressFlags { allow_ip: vec!["10.0.0.0/8".parse().unwrap()], deny_ip: vec![] },
            google: true,
            allow: vec!["@acme.example".to_owned(), "ann@b.example".to_owned()],
            ..GateFlags::default()
        };
        assert_eq!(
            read(&flags, Some(60)),
            [
                r#"gates/ip {"allow":["10.0.0.0/8"],"deny":[]}"#,
                "gates/pin {}",
                r#"gates/bearer {"token":"sixteen-letters-or-more"}"#,
                r#"edge-auth {"provider":"google","allowed_domains":["acme.example"],"allowed_emails":["ann@b.example"]}"#,
                r#"expires {"expires_in":62}"#,
            ]
        );
    }

    #[test]
    fn where_tls_ends_here_the_relay_is_left_what_it_can_see() {
        let flags = GateFlags {
            pin: Some(None),
            addresses: AddressFlags { allow_ip: vec!["10.0.0.0/8".parse().unwrap()], deny_ip: vec![] },
            ..GateFlags::default()
        };
        let context = Context { env: Environment::default(), report: Report::new(true, true) };
        let asked = Asked::read(&flags, Some(60), &context).unwrap().unwrap();
        let paths = |gates: &[SetGate]| gates.iter().map(SetGate::path).collect::<Vec<_>>();
        let (at_relay, here) = asked.split();
        assert_eq!(paths(&at_relay.unwrap().0), ["gates/ip", "expires"]);
        assert_eq!(paths(&here), ["gates/ip", "gates/pin"]);
    }

    #[test]
    fn domains_begin_with_an_at_and_addresses_have_it_inside() {
        let (domains, emails) =
            allowed(&["@acme.example".to_owned(), "ann@b.example".to_owned(), "c".to_owned()]);
        assert_eq!(domains, ["acme.example"]);
        assert_eq!(emails, ["ann@b.example", "c"]);
    }
}
