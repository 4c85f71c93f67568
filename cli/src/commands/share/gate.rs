//! The password that a share asks for: set before there is anything to visit, so that it is never a moment open.

use std::sync::{Arc, Mutex, PoisonError};

use mytunnel_coordinator::Coordinator;
use mytunnel_keys::api::{AuthAnswer, NewTunnel, SetAuth};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{Cluster, ProjectId, PublicKey, TunnelId, TunnelName};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::failure::Failure;
use crate::secrets;
use crate::session::Session;

/// What visitors are asked for.
#[derive(Debug, Clone)]
pub(super) struct Password {
    user: String,
    password: Zeroizing<String>,
}

/// Who sets it.
pub(super) enum Gate {
    /// Whoever shares, at a coordinator that is there.
    Session { password: Password, at: Arc<Mutex<At>> },
    /// The coordinator of this process.
    Here { password: Password, coordinator: Arc<Coordinator>, device: PublicKey },
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

impl Password {
    /// Reads `USER[:PASSWORD]`, and the password from elsewhere where it is not there.
    pub(super) fn read(flag: &str, context: &Context) -> Result<Self, Failure> {
        let (user, password) = flag.split_once(':').map_or((flag, None), |(user, rest)| (user, Some(rest)));
        if user.is_empty() {
            return Err(Failure::usage("--basic needs a user name", "Write --basic USER."));
        }
        let password = secrets::tunnel_password(context, None, password.map(|text| ("--basic", text)))?;
        Ok(Self { user: user.to_owned(), password })
    }
}

impl Gate {
    /// Sets it for a tunnel that is not open yet.
    pub(super) async fn set(&self, name: &TunnelName) -> Result<(), Failure> {
        match self {
            Self::Here { password: Password { user, password }, coordinator, device } => {
                let asked =
                    coordinator.ask_for_password(*device, name.clone(), user.clone(), (**password).clone());
                Ok(asked.await?)
            }
            Self::Session { password, at } => {
                let (at, password, name) = (Arc::clone(at), password.clone(), name.clone());
                let setting = tokio::task::spawn_blocking(move || {
                    at.lock().unwrap_or_else(PoisonError::into_inner).set(&password, name)
                });
                setting.await.map_err(|_| Failure::new(Code::Internal, "the password could not be set"))?
            }
        }
    }
}

impl At {
    fn set(&self, Password { user, password }: &Password, name: TunnelName) -> Result<(), Failure> {
        let id = TunnelId::derive(&self.cluster, &self.project, &name);
        let tunnel = Some(NewTunnel { project: self.project.clone(), name });
        let asked = SetAuth { user: user.clone(), password: (**password).clone(), tunnel };
        let answer: AuthAnswer = self.session.put(&format!("/tunnels/{id}/auth"), &asked)?;
        let silent = answer.relays.iter().find(|relay| !relay.applied && self.relays.contains(&relay.id));
        match silent {
            None => Ok(()),
            Some(relay) => {
                let message =
                    format!("relay {} has not confirmed the password; nothing was shared", relay.id);
                Err(Failure::new(Code::RelayUnreachable, message).with_help("Try again in a moment."))
            }
        }
    }
}
