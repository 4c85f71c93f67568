//! Gates are set before there is anything to visit, so that it is never a moment open, and changed while visitors come and go.

use std::sync::{Arc, Mutex, PoisonError};

use mytunnel_coordinator::Coordinator;
use mytunnel_keys::api::{NewTunnel, Providers, RelayApplied, SetEnd, SetGate};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{Cluster, ProjectId, PublicKey, TunnelId, TunnelKind, TunnelName};
use serde::Deserialize;

use super::gate::{Asked, Made};
use super::voice::Voice;
use crate::failure::Failure;
use crate::session::Session;

/// Who sets it.
#[derive(Clone)]
pub(super) enum Setter {
    /// Whoever shares, at a coordinator that is there.
    Session(Arc<Mutex<At>>),
    /// The coordinator of this process.
    Here { coordinator: Arc<Coordinator>, device: PublicKey },
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

/// What every answer to a gate has in it.
#[derive(Deserialize)]
struct Answer {
    relays: Vec<RelayApplied>,
    #[serde(default)]
    secret: Option<String>,
}

/// What leads from what stands to what is asked for now: first what is set, then what is taken away, so that in between
/// nobody enters who may enter neither before nor after.
fn steps<'a>(from: &'a [SetGate], to: &'a [SetGate]) -> (Vec<&'a SetGate>, Vec<&'a SetGate>) {
    let same = |one: &SetGate, other: &SetGate| {
        one.path() == other.path() && serde_json::to_value(one).ok() == serde_json::to_value(other).ok()
    };
    let set = to.iter().filter(|gate| !from.iter().any(|stands| same(stands, gate)));
    let dropped = from.iter().filter(|stands| !to.iter().any(|gate| gate.path() == stands.path()));
    (set.collect(), dropped.collect())
}

impl Setter {
    /// Sets all of them for a tunnel that is not open yet.
    pub(super) async fn set_all(
        &self,
        asked: &Asked,
        tunnel: (&TunnelName, TunnelKind),
        voice: &Voice,
    ) -> Result<Made, Failure> {
        let mut made = Made::default();
        for gate in asked.gates() {
            let secret = match self.set(tunnel, gate).await {
                Ok(secret) => secret,
                // The share ends by itself all the same.
                Err(failure) if matches!(gate, SetGate::End(_)) && failure.code() != Code::NameTaken => {
                    voice.warn(format_args!(
                        "the relay does not know of --expires ({}); only this process ends the share",
                        failure.message()
                    ));
                    None
                }
                Err(failure) => return Err(failure),
            };
            made.take(gate, secret);
        }
        Ok(made)
    }

    /// Makes what stands into what is asked for now, while visitors come and go.
    pub(super) async fn change<'a>(
        &self,
        (from, to): (Option<&'a Asked>, Option<&'a Asked>),
        tunnel: (&TunnelName, TunnelKind),
    ) -> Result<Made, Failure> {
        let gates = |asked: Option<&'a Asked>| asked.map(|asked| asked.gates()).unwrap_or_default();
        let (set, dropped) = steps(gates(from), gates(to));
        let mut made = Made::default();
        for gate in set {
            let secret = self.set(tunnel, gate).await?;
            made.take(gate, secret);
        }
        for gate in dropped {
            self.take_away(tunnel.0, gate).await?;
        }
        Ok(made)
    }

    /// Takes the end of a tunnel away.
    pub(super) async fn lift_end(&self, name: &TunnelName) -> Result<(), Failure> {
        let end = SetGate::End(SetEnd { expires_in: 0, tunnel: None });
        self.take_away(name, &end).await
    }

    async fn set(
        &self,
        (name, kind): (&TunnelName, TunnelKind),
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

    async fn take_away(&self, name: &TunnelName, gate: &SetGate) -> Result<(), Failure> {
        match self {
            Self::Here { coordinator, device } => {
                Ok(coordinator.ungate(*device, name.clone(), gate.clone()).await?)
            }
            Self::Session(at) => {
                let (at, name, path) = (Arc::clone(at), name.clone(), gate.path());
                let taking = tokio::task::spawn_blocking(move || {
                    at.lock().unwrap_or_else(PoisonError::into_inner).take_away(&name, path)
                });
                taking.await.map_err(|_| Failure::new(Code::Internal, "the gate could not be taken away"))?
            }
        }
    }
}

impl At {
    fn take_away(&self, name: &TunnelName, path: &str) -> Result<(), Failure> {
        let id = TunnelId::derive(&self.cluster, &self.project, name);
        self.session.delete::<serde_json::Value>(&format!("/tunnels/{id}/{path}")).map(drop)
    }

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
    use mytunnel_keys::api::{SetAuth, SetPin};

    use super::*;

    #[test]
    fn a_change_sets_what_is_new_and_takes_away_what_is_gone() {
        let auth = |password: &str| {
            let password = password.to_owned();
            SetGate::Auth(SetAuth { user: "ann".to_owned(), password, tunnel: None })
        };
        let pin = SetGate::Pin(SetPin { pin: None, tunnel: None });
        let paths = |gates: Vec<&SetGate>| gates.into_iter().map(SetGate::path).collect::<Vec<_>>();
        let walk = |from: &[SetGate], to: &[SetGate]| {
            let (set, dropped) = steps(from, to);
            (paths(set), paths(dropped))
        };
        assert_eq!(walk(&[auth("a"), pin.clone()], &[auth("a"), pin.clone()]), (vec![], vec![]));
        assert_eq!(walk(&[auth("a")], &[auth("b")]), (vec!["auth"], vec![]));
        assert_eq!(walk(&[auth("a")], std::slice::from_ref(&pin)), (vec!["gates/pin"], vec!["auth"]));
        assert_eq!(walk(&[pin], &[]), (vec![], vec!["gates/pin"]));
    }
}
