//! `mytunnel keys create|list|tree|show|revoke|budget`.

mod budget;
mod revoke;
mod view;

pub(crate) use self::revoke::{masters_left, relays};

use clap::Subcommand;
use mytunnel_keys::api::{JoinToken, Projects, Tokens};
use mytunnel_keys::error::Code;
use mytunnel_keys::id::{ProjectId, Serial};
use mytunnel_keys::token::Token;
use serde::Deserialize;

pub(crate) use self::revoke::relays as confirmations;

use crate::commands::projects::{self, ServerArgs};
use crate::context::{Context, now};
use crate::failure::Failure;
use crate::mint::{self, MintOptions};
use crate::session::Session;
use crate::sign_in::{Person, PersonArgs};
use crate::span;

/// Make, see and revoke keys
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a child key, as the person you are signed in as
    Create(CreateArgs),
    /// List the keys that work: whose, until when, what is up with them
    List(ListArgs),
    /// List all keys under the key that made them, also those that ended within a day
    Tree(TreeArgs),
    /// Show one key
    Show(ShowArgs),
    Revoke(revoke::Args),
    Budget(budget::Args),
    /// Make a token with which one relay joins this coordinator, once
    JoinToken(JoinTokenArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Also keys that were revoked or have expired
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct TreeArgs {
    /// Also keys that ended more than a day ago
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Project the key belongs to, by id or name [default: MYTUNNEL_PROJECT, or your only one]
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,

    #[command(flatten)]
    options: MintOptions,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct JoinTokenArgs {
    /// Time in which it has to be used
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span::parse)]
    ttl: u64,

    #[command(flatten)]
    person: PersonArgs,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The key's id, serial or text
    #[arg(value_name = "KEY")]
    key: String,

    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        KeysCommand::Create(args) => create(args, context),
        KeysCommand::List(args) => list(args, context),
        KeysCommand::Tree(args) => tree(args, context),
        KeysCommand::Show(args) => show(args, context),
        KeysCommand::Revoke(args) => revoke::run(args, context),
        KeysCommand::Budget(args) => budget::run(args, context),
        KeysCommand::JoinToken(args) => join_token(args, context),
    }
}

fn create(args: &CreateArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.server.server.as_deref())?;
    let project = project_of_person(context, &session, args.project.as_deref())?;
    let minted = mint::mint(context, &session, &args.options, Some(project))?;
    mint::print(context, &args.options, &minted);
    Ok(())
}

fn join_token(args: &JoinTokenArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.person.server.server.as_deref())?;
    let path = format!("/relays/join-tokens?ttl={}", args.ttl);
    let answer: JoinToken =
        Person::step_up(&session, context, &args.person, |api, who| api.post(who, &path, &()))?;
    context.report.object(&answer);
    context.report.line(&answer.token);
    context.report.note("Start the relay with it: mytunnel relay --domain DOMAIN --join-file FILE");
    Ok(())
}

/// The project that a person means: the one named, else the only one there is.
pub(crate) fn project_of_person(
    context: &Context,
    session: &Session,
    flag: Option<&str>,
) -> Result<ProjectId, Failure> {
    let file = context.person_file()?.project;
    if let Some(wanted) = flag.or(context.env.project.as_deref()).or(file.as_deref()) {
        return Ok(projects::find(session, wanted)?.id);
    }
    let answer: Projects = session.get("/projects")?;
    match answer.projects.as_slice() {
        [project] => Ok(project.id.clone()),
        [] => Err(Failure::usage("there is no project yet", "Create one: mytunnel projects create NAME")),
        several => Err(Failure::usage(
            format!("there are {} projects", several.len()),
            "Say which one with --project or MYTUNNEL_PROJECT.",
        )),
    }
}

/// People see what works; programs get everything with its dates, and choose.
fn list(args: &ListArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::person_or_master(context, args.server.server.as_deref())?;
    let answer = all(&session, args.all)?;
    context.report.object(&answer);
    let now = now();
    let (shown, ended): (Vec<_>, Vec<_>) =
        answer.keys.into_iter().partition(|key| args.all || view::works(key, now));
    for line in view::list(&shown, now) {
        context.report.line(line);
    }
    if !ended.is_empty() {
        context.report.note(format_args!("Not shown: {} that ended lately; --all shows them.", ended.len()));
    }
    Ok(())
}

fn tree(args: &TreeArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::person_or_master(context, args.server.server.as_deref())?;
    let answer = all(&session, args.all)?;
    context.report.object(&answer);
    for line in view::tree(&answer.keys, now()) {
        context.report.line(line);
    }
    Ok(())
}

/// A page of keys; `next` says where the one after it begins.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(flatten)]
    tokens: Tokens,
    next: Option<String>,
}

/// Every key, page by page.
fn all(session: &Session, ended: bool) -> Result<Tokens, Failure> {
    let mut tokens = Tokens { keys: Vec::new() };
    let mut after = String::new();
    loop {
        let page: Page = session.get(&format!("/tokens?all={ended}{after}"))?;
        tokens.keys.extend(page.tokens.keys);
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(tokens),
        }
    }
}

fn show(args: &ShowArgs, context: &Context) -> Result<(), Failure> {
    let (session, nonce) = subject(context, &args.key, args.server.server.as_deref())?;
    let answer: Tokens = session.get("/tokens")?;
    let Some(row) = answer.keys.iter().find(|row| row.nonce == nonce) else {
        return Err(Failure::new(
            Code::NotFound,
            format!("there is no key {nonce}, or it is not yours to see"),
        ));
    };
    context.report.object(row);
    for line in view::one(row, now()) {
        context.report.line(line);
    }
    Ok(())
}

/// Whom to ask about the key that was given as text, serial or id, and its id.
fn subject(context: &Context, key: &str, server: Option<&str>) -> Result<(Session, String), Failure> {
    let key = key.trim();
    if key.starts_with("mtk_") {
        let token = Token::parse(key)?;
        let serial = token.serial();
        let session = Session::for_token(context, token)?;
        let nonce = serial.as_ref().map(Serial::nonce).unwrap_or_default();
        return Ok((session, nonce));
    }
    let nonce = nonce(key)?;
    Ok((Session::person_or_master(context, server)?, nonce))
}

/// The id of a key that was given as text, serial or id.
fn named(key: &str) -> Result<String, Failure> {
    let key = key.trim();
    if !key.starts_with("mtk_") {
        return nonce(key);
    }
    let serial = Token::parse(key)?.serial();
    serial.as_ref().map(Serial::nonce).ok_or_else(|| {
        Failure::new(Code::InvalidKey, "this is a join token or a ticket, and no key")
            .with_help("Give the text, serial or id of a key.")
    })
}

/// The id of a key that was given as serial or id.
pub(crate) fn nonce(text: &str) -> Result<String, Failure> {
    if let Ok(serial) = text.parse::<Serial>() {
        return Ok(serial.nonce());
    }
    if text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    // Never repeat it: it may be most of a secret.
    Err(Failure::new(Code::InvalidKey, "this is neither a key's text (mtk_…), nor its serial, nor its id")
        .with_help("An id is 16 hexadecimal digits; `mytunnel keys list` shows them."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_serial_or_id() {
        assert_eq!(nonce("0123456789ABCDEF").unwrap(), "0123456789abcdef");
        assert_eq!(nonce("0123456789abcdef0011223344556677").unwrap(), "0123456789abcdef");
        let failure = nonce("secret-thing").unwrap_err();
        assert_eq!(failure.exit_code(), 3);
        assert!(!failure.message().contains("secret-thing"));
    }
}
