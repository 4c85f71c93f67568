//! As whom something is shared: the key that was given, the person signed in, or nobody yet.

use mytunnel_keys::certificate;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{ProjectId, Scope};
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::{ChildToken, Secret, ServerUrl};
use mytunnel_keys::trust::RootFingerprint;
use zeroize::Zeroizing;

use crate::commands::projects;
use crate::commands::share::Access;
use crate::context::{Context, random};
use crate::credentials::{self, Login};
use crate::failure::{Failure, chain};
use crate::mint::{self, MintOptions};
use crate::secrets;
use crate::session::{Session, check_login, sign_in_again, wanted_server};

/// Whoever shares.
#[derive(Debug)]
pub(crate) enum Identity {
    /// The holder of a key, at a server that is known.
    Key(Box<Holder>),
    /// Nobody: there is neither key nor sign-in, so this machine is its own relay.
    Nobody,
}

/// A key with its secret, and where it is good.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) seed: Seed,
    pub(crate) certificate: Vec<u8>,
    pub(crate) root: RootFingerprint,
    pub(crate) server: ServerUrl,
    /// Seconds of the Unix epoch.
    pub(crate) expires_at: u64,
    /// What helps once the key is revoked, where that is known.
    pub(crate) if_revoked: Option<String>,
    /// The person on whose behalf it is shared is signed in here.
    pub(crate) is_person: bool,
}

/// The key that a person acts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    /// That of the device, where it will do.
    Device,
    /// One of its own, for this process.
    New,
}

/// Finds out as whom to share. A key wins over a sign-in: it was put there for this one job.
///
/// `scope`: what has to be asked for by name where the identity makes itself a key.
pub(crate) fn resolve(access: &Access, scope: Option<Scope>, context: &Context) -> Result<Identity, Failure> {
    resolve_as(Own::Device, access, scope, context)
}

/// As [`resolve`], for one who may be a node beside another of the same person on this machine: two nodes with one key could
/// not reach each other.
pub(crate) fn resolve_beside(access: &Access, context: &Context) -> Result<Identity, Failure> {
    resolve_as(Own::New, access, None, context)
}

fn resolve_as(
    own: Own,
    access: &Access,
    scope: Option<Scope>,
    context: &Context,
) -> Result<Identity, Failure> {
    if let Some(text) = given_key(access, context)? {
        return of_key(&text, access, context).map(|holder| Identity::Key(Box::new(holder)));
    }
    let wanted = wanted_server(context, access.server.as_deref())?;
    match (Login::load(&context.config_dir()?, wanted.as_ref())?, wanted) {
        (Some(login), _) => {
            check_login(&login)?;
            let holder = match (wanted_project(access.project.as_deref(), context)?, own) {
                (None, Own::Device) => of_login(login),
                (project, _) => in_project(login, project.as_deref(), scope)?,
            };
            Ok(Identity::Key(Box::new(holder)))
        }
        (None, Some(server)) => {
            Err(Failure::new(Code::InvalidKey, format!("this machine is not signed in to {server}"))
                .with_help(format!("Sign in with `mytunnel login {server}`, or set MYTUNNEL_AUTH_TOKEN.")))
        }
        (None, None) if context.env.master.is_some() => Err(Failure::new(
            Code::MasterCannotAct,
            "there is a master key in MTK_MASTER, but no key to share with",
        )),
        (None, None) => match access.project.as_ref().or(context.env.project.as_ref()) {
            Some(project) => Err(no_projects_here(project)),
            None => Ok(Identity::Nobody),
        },
    }
}

/// The relay that a share runs for itself has neither accounts nor projects. Whoever names one means another relay.
fn no_projects_here(project: &str) -> Failure {
    let message = format!("this machine is not signed in to a relay that has a project {project}");
    Failure::new(Code::InvalidKey, message)
        .with_help("Sign in with `mytunnel login URL`, set MYTUNNEL_AUTH_TOKEN, or leave the project away (--project, MYTUNNEL_PROJECT).")
}

/// The text of the key that was given: by flag, file or environment.
fn given_key(access: &Access, context: &Context) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(text) = secrets::from_flag(context, "--token", access.token.as_deref(), "MYTUNNEL_AUTH_TOKEN")
    {
        return Ok(Some(text));
    }
    match &access.token_file {
        Some(path) => secrets::from_file(path).map(Some),
        None => Ok(context.env.auth_token.clone()),
    }
}

/// A server that is named explicitly wins over the one in the key: the coordinator may have moved. The root in the
/// key makes sure that it is still the same.
fn of_key(text: &str, access: &Access, context: &Context) -> Result<Holder, Failure> {
    let token = secrets::acting(text)?;
    check_project(&token, access.project.as_deref().or(context.env.project.as_deref()))?;
    let seed = match token.secret() {
        Secret::Portable(seed) => seed.clone(),
        Secret::Bound => credentials::load_seed(&context.config_dir()?, token.claims().serial)?,
    };
    let moved = match (&access.server, &context.env.server) {
        (None, None) => None,
        // The same place without its pin is no other place.
        (flag, _) => wanted_server(context, flag.as_deref())?
            .filter(|wanted| wanted.pin().is_some() || wanted.base() != token.server().base()),
    };
    Ok(Holder {
        seed,
        certificate: token.certificate().to_vec(),
        root: *token.root(),
        server: moved.unwrap_or_else(|| token.server().clone()),
        expires_at: token.claims().not_after,
        if_revoked: None,
        is_person: false,
    })
}

fn of_login(login: Login) -> Holder {
    Holder {
        if_revoked: Some(sign_in_again(&login.server)),
        seed: login.seed,
        certificate: login.device.certificate,
        root: login.root,
        server: login.server,
        expires_at: login.device.expires_at,
        is_person: true,
    }
}

/// The project that flag, environment or file name, in this order.
pub(crate) fn wanted_project(flag: Option<&str>, context: &Context) -> Result<Option<String>, Failure> {
    match flag.or(context.env.project.as_deref()) {
        Some(wanted) => Ok(Some(wanted.to_owned())),
        None => Ok(context.person_file()?.project),
    }
}

/// A device acts in its account's own project. For another one it makes itself a key, which lives as long as keys
/// may and is gone with the process. Without a project the key is for the account's own.
fn in_project(login: Login, wanted: Option<&str>, scope: Option<Scope>) -> Result<Holder, Failure> {
    let (root, server) = (login.root, login.server.clone());
    let home = home_project(&login)?;
    let session = Session::of_login(login);
    let project = match wanted {
        Some(wanted) => projects::find(&session, wanted)?.id,
        None => home,
    };
    let seed = Seed::from_bytes(random()?);
    let answer = mint::ask(&session, &seed, &MintOptions::for_one_share(scope), Some(project))?;
    Ok(Holder {
        seed,
        certificate: answer.certificate,
        root,
        server,
        expires_at: answer.expires_at,
        if_revoked: None,
        is_person: true,
    })
}

/// The project in which a device serves of which nobody has named another.
pub(crate) fn home_project(login: &Login) -> Result<ProjectId, Failure> {
    let claims = certificate::inspect(&login.device.certificate)
        .map_err(|error| Failure::new(Code::InvalidKey, chain(&error)))?;
    Ok(claims.peek().tenant.home_project())
}

fn check_project(token: &ChildToken, wanted: Option<&str>) -> Result<(), Failure> {
    let (Some(wanted), Some(own)) = (wanted, &token.claims().project) else { return Ok(()) };
    if wanted.parse::<ProjectId>().is_ok_and(|wanted| wanted == *own) {
        return Ok(());
    }
    Err(Failure::new(Code::ProjectMismatch, format!("this key belongs to project {own}, not to {wanted}")))
}
