//! Gates are set before there is anything to visit, so that it is never a moment open, and changed while visitors come and go.

use std::sync::{Arc, Mutex, PoisonError};

use mytunnel_coordinator::Coordinator;
use mytunnel_keys::api::{NewTunnel, Providers, RelayApplied, SetEnd, SetGate};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{Cluster, ProjectId, PublicKey, TunnelId, TunnelKind, TunnelName};
use serde::Deserialize;

use super::gate::{Asked, Made};
use super::stands::Gates;
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

impl Setter {
    /// Makes what stands into what is asked for. `opens` is who tells, where the tunnel is not open yet; else visitors come and
    /// go meanwhile.
    pub(super) async fn change(
        &self,
        (from, to): (&Gates, Option<&Asked>),
        opens: Option<&Voice>,
        tunnel: (&TunnelName, TunnelKind),
    ) -> Result<Made, Failure> {
        let steps = from.steps(to, opens.is_some());
        let mut made = Made::default();
        for gate in steps.set {
            let secret = match (self.set(tunnel, gate).await, opens) {
                (Ok(secret), _) => secret,
                // The share ends by itself all the same.
                (Err(failure), Some(voice))
                    if matches!(gate, SetGate::End(_)) && failure.code() != Code::NameTaken =>
                {
                    voice.warn(format_args!(
                        "the relay does not know of --expires ({}); only this process ends the share",
                        failure.message()
                    ));
                    None
                }
                (Err(failure), _) => return Err(failure),
            };
            made.take(gate, secret);
        }
        for gate in steps.drop {
            match self.take_away(tunnel.0, gate).await {
                Err(failure) if failure.code() == Code::NotFound && !from.is_sure() => {}
                taken => taken?,
            }
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
