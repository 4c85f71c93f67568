//! Signing in as a person: the password, then the second factor where there is one.
//!
//! A command that needs a person's session has it for as long as it runs, and no longer.

mod provider;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use mytunnel_keys::api::{self, LoginAnswer, LoginMfa, Me};
use mytunnel_keys::error::Code;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

pub(crate) use self::provider::{by_provider, others};
use crate::api::{Api, As};
use crate::commands::projects::ServerArgs;
use crate::context::Context;
use crate::credentials::Login;
use crate::failure::Failure;
use crate::secrets;
use crate::session::{Session, not_signed_in, wanted_server};

/// How often somebody at a terminal may mistype the six digits.
const TRIES: u32 = 3;
const CODE_HELP: &str =
    "Set MYTUNNEL_TOTP to the six digits that the authenticator shows, or to a recovery code.";

const PROOF_HELP: &str = "Set MYTUNNEL_PASSWORD, or give a file with --password-file (and MYTUNNEL_TOTP where there is a second factor); then repeat this.";

/// A session that has begun.
pub(crate) struct Access(Zeroizing<String>);

impl Access {
    pub(crate) fn token(&self) -> &str {
        &self.0
    }

    /// Ends the session.
    pub(crate) fn end(self, api: &Api) {
        // One that stays ends by itself; what the command was for is done.
        if let Err(failure) = api.post::<()>(As::Session(&self.0), "/auth/logout", &()) {
            tracing::debug!(failure = failure.message(), "the session was left open");
        }
    }
}

/// What a command takes that needs the person and not only a device of theirs.
#[derive(Debug, clap::Args)]
pub(crate) struct PersonArgs {
    /// File that holds the password, or - for standard input [default: MYTUNNEL_PASSWORD, or it is asked for]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// Prove it by another sign-in of the relay instead of the password
    #[arg(long, value_name = "ID", conflicts_with = "password_file")]
    sign_in: Option<String>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// The account of the device that is signed in here, with a session of its own.
pub(crate) struct Person {
    api: Api,
    access: Access,
}

impl Person {
    /// Asks for the password of the account whose device this is, and begins a session.
    pub(crate) fn sign_in(context: &Context, args: &PersonArgs) -> Result<Self, Failure> {
        let server = args.server.server.as_deref();
        let wanted = wanted_server(context, server)?;
        let Some(login) = Login::load(&context.config_dir()?, wanted.as_ref())? else {
            return Err(Failure::new(Code::InvalidKey, not_signed_in(context, server)?)
                .with_help("Sign in with `mytunnel login URL`."));
        };
        let api = Api::new(&login.server);
        let account = login.device.account;
        if let Some(id) = &args.sign_in {
            let person = Self { access: by_provider(&api, context, &login.server, id)?, api };
            return person.is(&account);
        }
        let password = password(context, args.password_file.as_deref(), false)?;
        let asked = api::Login { email: account, password: password.as_str().to_owned() };
        let answer = api.post(As::Anyone, "/auth/login", &asked)?;
        let access = complete(&api, context, answer)?;
        Ok(Self { api, access })
    }

    /// The same, if it is that account: what was about to be done is not done as somebody else.
    fn is(self, account: &str) -> Result<Self, Failure> {
        let me: Me = self.api.get(As::Session(self.access.token()), "/auth/me")?;
        if me.email.eq_ignore_ascii_case(account) {
            return Ok(self);
        }
        self.end();
        Err(Failure::new(
            Code::InvalidKey,
            format!("this sign-in is {}, and this machine is {account}'s", me.email),
        )
        .with_help("Sign in as the account of this machine; nothing was changed."))
    }

    /// Makes a call as this machine's device and, where the server wants its person, asks for their password and makes
    /// the call once more as them.
    pub(crate) fn step_up<T>(
        session: &Session,
        context: &Context,
        args: &PersonArgs,
        call: impl Fn(&Api, As<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match session.ask(&call) {
            Err(failure) if failure.code() == Code::StepUpRequired => {
                let person =
                    Self::sign_in(context, args).map_err(|other| match other.code() == Code::BadRequest {
                        true => failure.with_help(PROOF_HELP),
                        false => other,
                    })?;
                let done = call(&person.api, As::Session(person.access.token()));
                person.end();
                done.map_err(|failure| match failure.code() == Code::StepUpRequired && args.sign_in.is_some() {
                    true => failure.with_help(
                        "This provider does not say that you proved yourself there just now: use the password instead, or a second factor.",
                    ),
                    false => failure,
                })
            }
            done => done,
        }
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.api.post(As::Session(self.access.token()), path, body)
    }

    /// Ends the session.
    pub(crate) fn end(self) {
        self.access.end(&self.api);
    }
}

/// The password: of a file, of the environment, or asked for; twice where it is a new one.
pub(crate) fn password(
    context: &Context,
    file: Option<&Path>,
    new: bool,
) -> Result<Zeroizing<String>, Failure> {
    if let Some(file) = file {
        return secrets::from_file(file);
    }
    if let Some(password) = &context.env.password {
        return Ok(password.clone());
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|_| {
            Failure::usage(
                "there is nobody to ask for the password",
                "Set MYTUNNEL_PASSWORD, or give a file with --password-file.",
            )
        })
    };
    if !new {
        return ask("Password: ");
    }
    let password = ask("New password: ")?;
    if ask("The same again: ")? == password {
        Ok(password)
    } else {
        Err(Failure::usage("the two passwords differ", "Try again; nothing was changed."))
    }
}

/// Gives the second factor, if one is due.
pub(crate) fn complete(api: &Api, context: &Context, answer: LoginAnswer) -> Result<Access, Failure> {
    let challenge = match answer {
        LoginAnswer::Access { access_token } => return Ok(Access(Zeroizing::new(access_token))),
        LoginAnswer::Mfa { challenge_token, .. } => Zeroizing::new(challenge_token),
    };
    let mut tries = TRIES;
    loop {
        let (code, asked) = match &context.env.totp {
            Some(code) => (code.clone(), false),
            None => (ask_code(context)?, true),
        };
        let body =
            LoginMfa { challenge_token: challenge.as_str().to_owned(), code: code.as_str().to_owned() };
        tries -= 1;
        match api.post(As::Anyone, "/auth/login/mfa", &body) {
            Ok(LoginAnswer::Access { access_token }) => return Ok(Access(Zeroizing::new(access_token))),
            Ok(LoginAnswer::Mfa { .. }) => {
                return Err(Failure::new(Code::MfaInvalid, "the server asks for the second factor again"));
            }
            Err(failure) if failure.code() == Code::MfaInvalid && asked && tries > 0 => {
                context.report.warn(failure.message());
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn ask_code(context: &Context) -> Result<Zeroizing<String>, Failure> {
    let nobody = || {
        Failure::new(Code::MfaRequired, "this account has a second factor, and there is nobody to ask for it")
            .with_help(CODE_HELP)
    };
    if context.report.is_json() || !std::io::stdin().is_terminal() {
        return Err(nobody());
    }
    let prompt = "Six digits of the authenticator (or a recovery code): ";
    rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|_| nobody())
}

/// A line that somebody types, or that a script sends; none at the end of the input.
pub(crate) fn line(prompt: &str) -> std::io::Result<Option<Zeroizing<String>>> {
    if std::io::stdin().is_terminal() {
        write!(std::io::stderr(), "{prompt}")?;
        std::io::stderr().flush()?;
    }
    let mut line = Zeroizing::new(String::new());
    let length = std::io::stdin().read_line(&mut line)?;
    Ok((length > 0).then(|| Zeroizing::new(line.trim().to_owned())))
}
