//! `mytunnel login URL`: makes this machine a device of an account.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use mytunnel_keys::api::{self, AcceptInvitation, Device, Me, NewDevice, Setup};
use mytunnel_keys::certificate;
use mytunnel_keys::error::Code;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::ServerUrl;
use mytunnel_keys::trust::{RootFingerprint, Trust, TrustBundle, TrustError};
use serde_json::json;

use crate::api::{Api, As};
use crate::context::{Context, now, random};
use crate::credentials::Login;
use crate::failure::{Failure, chain};
use crate::session::wanted_server;
use crate::sign_in::{self, Access};
use crate::{server, span, vouched};

/// Sign in to a relay; the password is asked for, and the second factor where there is one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel login https://t.example
  mytunnel login 'https://t.example#ca=…'         a relay that vouches for itself prints this address
  mytunnel login http://localhost:8080 --code …   the owner's first login; the relay prints this line
  mytunnel login https://t.example --sign-in google   in a browser, on any machine; connected in the dashboard before

For scripts: --email, MYTUNNEL_PASSWORD or --password-file, and MYTUNNEL_TOTP where the account has a second factor.")]
pub(crate) struct Args {
    /// Address of the relay's console, as the relay prints it [default: MYTUNNEL_SERVER]
    #[arg(value_name = "URL")]
    url: Option<String>,

    /// E-mail address of the account
    #[arg(long, value_name = "EMAIL")]
    email: Option<String>,

    /// Setup code that the relay printed at its last start; makes you the owner
    #[arg(long, value_name = "CODE")]
    code: Option<String>,

    /// Code of an invitation; makes the account that it is for
    #[arg(long, value_name = "CODE", conflicts_with = "code")]
    invite: Option<String>,

    /// Sign in at another provider that the relay knows, in a browser, instead of by the password
    #[arg(long, value_name = "ID", conflicts_with_all = ["email", "code", "invite", "password_file"])]
    sign_in: Option<String>,

    /// File that holds the password, or - for standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// What this machine is called in the list of devices [default: its host name]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
}

const SETUP_HELP: &str = "Each start of the relay prints a new code, and only the last one works; once there is an owner, sign in without one.";
const INVITATION_HELP: &str = "Ask whoever invited you for a new one; with an account, sign in without it.";
const PASSWORD_HELP: &str =
    "Check the e-mail address and the password. On a new relay use the `--code` line that it printed.";

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let Some(server) = wanted_server(context, args.url.as_deref())? else {
        return Err(Failure::usage("which relay?", "Give its address: mytunnel login https://relay.example"));
    };
    if server::is_exposed(&server) {
        context.report.warn(format_args!(
            "{server} is not encrypted: the password can be read on its way. The relay prints an https:// address when it starts."
        ));
    }
    let server = vouched_for(server, context)?;
    let api = Api::new(&server);
    let (email, access) = match &args.sign_in {
        Some(id) => {
            let access = sign_in::by_provider(&api, context, &server, id)?;
            let me: Me = api.get(As::Session(access.token()), "/auth/me")?;
            (me.email, access)
        }
        None => by_password(args, context, &api, &server)?,
    };
    let login = enrol(args, context, &api, server, &email, access.token())
        .map_err(|failure| api.skew().explain(failure));
    access.end(&api);
    let login = login?;
    login.store(&context.config_dir()?)?;
    report(context, &login);
    Ok(())
}

/// Signs in with a password: of an account, of one that an invitation makes, or of the first owner.
fn by_password(
    args: &Args,
    context: &Context,
    api: &Api,
    server: &ServerUrl,
) -> Result<(String, Access), Failure> {
    let new = args.code.is_some() || args.invite.is_some();
    if !new
        && args.email.is_none()
        && std::io::stdin().is_terminal()
        && let Some(others) = sign_in::others(api, server)
    {
        context.report.note(format_args!("You may also sign in {others}."));
    }
    let email = email(args)?;
    let password = sign_in::password(context, args.password_file.as_deref(), new)?;
    let access = sign_in(args, context, api, &email, &password).map_err(|failure| {
        let wrong = !new && failure.code() == Code::InvalidKey;
        match wrong.then(|| sign_in::others(api, server)).flatten() {
            Some(others) => failure.with_help(format!("{PASSWORD_HELP} Or sign in {others}.")),
            None => failure,
        }
    })?;
    Ok((email, access))
}

/// An address without a pin gets the one that this machine knows: of the earlier sign-in there, or of its own relay.
fn vouched_for(server: ServerUrl, context: &Context) -> Result<ServerUrl, Failure> {
    if !server.is_https() || server.pin().is_some() {
        return Ok(server);
    }
    let earlier = Login::load(&context.config_dir()?, Some(&server))?;
    if let Some(pin) = earlier.as_ref().and_then(|login| login.server.pin()) {
        return Ok(server.with_pin(*pin));
    }
    let Some(authority) = vouched::authority(context, &server) else { return Ok(server) };
    context
        .report
        .note(format_args!("A relay of this machine: {} vouches for it.", authority.path.display()));
    Ok(server.with_pin(authority.pin))
}

fn report(context: &Context, login: &Login) {
    let Device { account, tenant, name, serial, expires_at, .. } = &login.device;
    context.report.object(&json!({
        "account": account, "tenant": tenant, "device": name, "serial": serial, "expires_at": expires_at,
        "server": login.server,
    }));
    context.report.line(format_args!("Signed in to {} as {account}.", login.server.base()));
    let life = span::human(expires_at.saturating_sub(now()));
    context.report.note(format_args!("This machine is the device \"{name}\" for {life}."));
}

fn email(args: &Args) -> Result<String, Failure> {
    if let Some(email) = &args.email {
        return Ok(email.trim().to_owned());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is nobody to ask for the e-mail address", "Give it with --email."));
    }
    let asked = || {
        write!(std::io::stderr(), "E-mail: ")?;
        std::io::stderr().flush()?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line.trim().to_owned())
    };
    asked().map_err(|error| {
        Failure::local(format!("cannot ask for the e-mail address: {error}"), "Give it with --email.")
    })
}

fn sign_in(
    args: &Args,
    context: &Context,
    api: &Api,
    email: &str,
    password: &str,
) -> Result<Access, Failure> {
    let (email, password) = (email.to_owned(), password.to_owned());
    let (answer, help) = match args.code.as_deref().map(str::trim) {
        Some("") => return Err(Failure::usage("the setup code is empty", SETUP_HELP)),
        Some(code) => {
            let setup = Setup { code: code.to_owned(), email, password };
            (api.post(As::Anyone, "/auth/setup", &setup), SETUP_HELP)
        }
        None if args.invite.is_some() => {
            let code = args.invite.clone().unwrap_or_default();
            let accepted = AcceptInvitation { code, password };
            (api.post(As::Anyone, "/auth/invitations/accept", &accepted), INVITATION_HELP)
        }
        None => (api.post(As::Anyone, "/auth/login", &api::Login { email, password }), PASSWORD_HELP),
    };
    let answer = answer.map_err(|failure| match failure.code() == Code::InvalidKey {
        true => failure.with_help(help),
        false => failure,
    })?;
    sign_in::complete(api, context, answer)
}

/// Makes a key here and gets it a certificate. A device that is signed in again keeps its key, so that it stays one
/// device; where the server will not have that key any more, it gets a new one.
fn enrol(
    args: &Args,
    context: &Context,
    api: &Api,
    server: ServerUrl,
    email: &str,
    access: &str,
) -> Result<Login, Failure> {
    let earlier = Login::load(&context.config_dir()?, Some(&server))?;
    let kept = earlier.as_ref().filter(|login| login.device.account.eq_ignore_ascii_case(email));
    let ask = |seed: &Seed| -> Result<Device, Failure> {
        let name = args.device.clone().unwrap_or_else(host_name);
        api.post(As::Session(access), "/devices", &NewDevice { public_key: seed.public(), name })
    };
    if let Some(login) = kept {
        match ask(&login.seed) {
            Ok(device) => return check(context, server, login.seed.clone(), device, Some(login.root)),
            Err(failure) if matches!(failure.code(), Code::KeyRevoked | Code::BadRequest) => {}
            Err(failure) => return Err(failure),
        }
    }
    let seed = Seed::from_bytes(random()?);
    let device = ask(&seed)?;
    check(context, server, seed, device, earlier.map(|login| login.root))
}

/// Looks at what came back before anything is kept.
fn check(
    context: &Context,
    server: ServerUrl,
    seed: Seed,
    device: Device,
    seen: Option<RootFingerprint>,
) -> Result<Login, Failure> {
    let wrong = |why: String| {
        Failure::new(Code::InvalidKey, format!("the certificate from {server} is not usable: {why}"))
    };
    let root = root_of(&device.trust).map_err(|error| wrong(chain(&error)))?;
    if seen.is_some_and(|seen| seen != root) {
        context.report.warn(format_args!(
            "{server} has another root key than at the last sign-in; older keys of it are void"
        ));
    }
    let trust = Trust::open(&device.trust, &root).map_err(|error| wrong(chain(&error)))?;
    certificate::verify(&device.certificate, &trust, &seed.public(), now()).map_err(|error| {
        Failure::new(error.code(), format!("the certificate from {server} is not usable: {error}"))
            .with_help("Check this machine's clock (`timedatectl set-ntp true`), then sign in again.")
    })?;
    Ok(Login { server, root, seed, device })
}

/// The root of a server that is seen for the first time: here, and only here, the connection vouches for it.
fn root_of(trust: &[u8]) -> Result<RootFingerprint, TrustError> {
    let nobody = RootFingerprint::from_bytes([0; 16]);
    match TrustBundle::verify(trust, &nobody) {
        Ok(_) => Ok(nobody),
        Err(TrustError::Root { found, .. }) => Ok(found),
        Err(error) => Err(error),
    }
}

fn host_name() -> String {
    let from_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = from_kernel.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(60).collect();
    if name.is_empty() { "this machine".to_owned() } else { name }
}
