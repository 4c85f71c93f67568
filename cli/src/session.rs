//! A conversation with a coordinator as somebody in particular.

use std::path::Path;

use mytunnel_keys::error::Code;
use mytunnel_keys::id::Serial;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::{ChildToken, MasterToken, Secret, ServerUrl, Token};
use mytunnel_keys::trust::RootFingerprint;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{Api, As, Signer};
use crate::bootstrap;
use crate::context::{Context, now};
use crate::credentials::{self, Login};
use crate::failure::Failure;
use crate::identity::Holder;
use crate::places::ConfigDir;
use crate::{secrets, server};

/// Somebody's key, and the coordinator that knows it.
#[derive(Debug)]
pub(crate) struct Session {
    api: Api,
    signer: Signer,
    server: ServerUrl,
    root: RootFingerprint,
    /// What helps once this key is revoked, where that is known.
    if_revoked: Option<String>,
}

impl Session {
    /// The person who is signed in, at the server of the flag, the environment or the file, else at the last one.
    pub(crate) fn signed_in(context: &Context, flag: Option<&str>) -> Result<Self, Failure> {
        match Self::signed_in_if(context, flag)? {
            Some(session) => Ok(session),
            None => Err(Failure::new(Code::InvalidKey, not_signed_in(context, flag)?)
                .with_help("Sign in with `mytunnel login URL`.")),
        }
    }

    fn signed_in_if(context: &Context, flag: Option<&str>) -> Result<Option<Self>, Failure> {
        let wanted = wanted_server(context, flag)?;
        let Some(login) = Login::load(&context.config_dir()?, wanted.as_ref())? else { return Ok(None) };
        check_login(&login)?;
        Ok(Some(Self::of_login(login)))
    }

    /// The person whose device this is.
    pub(crate) fn of_login(login: Login) -> Self {
        let signer = Signer { seed: login.seed, serial: login.device.serial, cluster: login.device.cluster };
        let if_revoked = Some(sign_in_again(&login.server));
        Self { api: Api::new(&login.server), signer, server: login.server, root: login.root, if_revoked }
    }

    /// The holder of a master key. Nothing but the key is needed: it names its server and that server's root.
    pub(crate) fn of_master(token: MasterToken) -> Result<Self, Failure> {
        let session = Self::of_key(token.seed, token.serial, token.server, token.root)?;
        Ok(Self { if_revoked: Some("Ask the project's owner for a new master key.".to_owned()), ..session })
    }

    /// The holder of a child or device key.
    pub(crate) fn of_child(config: &ConfigDir, token: &ChildToken) -> Result<Self, Failure> {
        let serial = token.claims().serial;
        let seed = match token.secret() {
            Secret::Portable(seed) => seed.clone(),
            Secret::Bound => credentials::load_seed(config, serial)?,
        };
        Self::of_key(seed, serial, token.server().clone(), *token.root())
    }

    /// Whoever shares with a key.
    pub(crate) fn of_holder(holder: &Holder, serial: Serial) -> Result<Self, Failure> {
        Self::of_key(holder.seed.clone(), serial, holder.server.clone(), holder.root)
    }

    fn of_key(seed: Seed, serial: Serial, server: ServerUrl, root: RootFingerprint) -> Result<Self, Failure> {
        let api = Api::new(&server);
        let known = bootstrap::fetch(&api, &server, &root)?;
        let signer = Signer { seed, serial, cluster: known.trust.cluster().clone() };
        Ok(Self { api, signer, server, root, if_revoked: None })
    }

    /// Whoever can be found to act on keys: the person signed in, else the holder of `MTK_MASTER`.
    pub(crate) fn person_or_master(context: &Context, flag: Option<&str>) -> Result<Self, Failure> {
        match Self::signed_in_if(context, flag)? {
            Some(session) => Ok(session),
            None if context.env.master.is_some() => Self::of_master(secrets::master(context, None::<&Path>)?),
            None => Err(Failure::new(Code::InvalidKey, not_signed_in(context, flag)?)
                .with_help("Sign in with `mytunnel login URL`, or set MTK_MASTER.")),
        }
    }

    /// Whoever may act on the key with this text: the person signed in to its server, else its holder.
    pub(crate) fn for_token(context: &Context, token: Token) -> Result<Self, Failure> {
        let config = context.config_dir()?;
        if let Some(login) = Login::load(&config, Some(token.server()))?
            && login.root == *token.root()
            && check_login(&login).is_ok()
        {
            return Ok(Self::of_login(login));
        }
        match token {
            Token::Master(master) => Self::of_master(master),
            Token::Child(child) | Token::User(child) => match Self::of_child(&config, &child) {
                Err(failure) if failure.code() == Code::InvalidKey && is_bound(&child) => {
                    Self::of_its_master(context, &child, failure)
                }
                session => session,
            },
            Token::Relay(_) => Err(Failure::new(Code::InvalidKey, "a join token is used up by joining")
                .with_help("Give the text, serial or id of a key.")),
            Token::Ticket(_) => Err(Failure::new(Code::InvalidKey, "a ticket is no key")
                .with_help("`mytunnel ticket --list` shows the key of the guest who used it; `mytunnel ticket --withdraw ID` ends one that nobody used.")),
        }
    }

    /// The holder of `MTK_MASTER`, where a key's own secret is on another machine.
    fn of_its_master(context: &Context, child: &ChildToken, failure: Failure) -> Result<Self, Failure> {
        if context.env.master.is_some() {
            let master = secrets::master(context, None::<&Path>)?;
            if master.root == *child.root() {
                return Self::of_master(master);
            }
        }
        Err(failure
            .with_help("Revoke it where it was minted, with MTK_MASTER set, or signed in as its owner."))
    }

    /// Refusals in words that fit whoever asks.
    fn told<T>(&self, answer: Result<T, Failure>) -> Result<T, Failure> {
        answer.map_err(|failure| match &self.if_revoked {
            Some(help) if failure.code() == Code::KeyRevoked => failure.with_help(help),
            Some(_) | None => failure,
        })
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.told(self.api.get(As::Key(&self.signer), path))
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.told(self.api.post(As::Key(&self.signer), path, body))
    }

    pub(crate) fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.told(self.api.put(As::Key(&self.signer), path, body))
    }

    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.told(self.api.delete(As::Key(&self.signer), path))
    }

    /// Makes a call that the server may want of the person and not of this device.
    pub(crate) fn ask<T>(&self, call: impl FnOnce(&Api, As<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        self.told(call(&self.api, As::Key(&self.signer)))
    }

    pub(crate) const fn server(&self) -> &ServerUrl {
        &self.server
    }

    pub(crate) const fn root(&self) -> &RootFingerprint {
        &self.root
    }
}

/// The server that flag, environment or file name, in this order.
pub(crate) fn wanted_server(context: &Context, flag: Option<&str>) -> Result<Option<ServerUrl>, Failure> {
    let text = match (flag, &context.env.server) {
        (Some(flag), _) => Some(flag.to_owned()),
        (None, Some(variable)) => Some(variable.clone()),
        (None, None) => context.person_file()?.server,
    };
    text.map(|text| server::parse(&text)).transpose()
}

/// Certificates of devices end; then signing in again is all that is needed.
pub(crate) fn check_login(login: &Login) -> Result<(), Failure> {
    if now() < login.device.expires_at {
        return Ok(());
    }
    Err(Failure::new(
        Code::KeyExpired,
        format!("this device's sign-in at {} has expired", login.server.base()),
    )
    .with_help(sign_in_again(&login.server)))
}

/// What helps whose device is not known any more.
pub(crate) fn sign_in_again(server: &ServerUrl) -> String {
    format!("Sign in again: `mytunnel login {}`.", server.base())
}

fn is_bound(token: &ChildToken) -> bool {
    matches!(token.secret(), Secret::Bound)
}

/// What is wrong where nobody is signed in.
pub(crate) fn not_signed_in(context: &Context, flag: Option<&str>) -> Result<String, Failure> {
    Ok(match wanted_server(context, flag)? {
        Some(server) => format!("this machine is not signed in to {server}"),
        None => "this machine is not signed in to a relay".to_owned(),
    })
}
