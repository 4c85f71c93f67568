//! `mytunnel accounts list|invite|role|remove`: the people of a tenant, for its owners.

use clap::{Subcommand, ValueEnum};
use mytunnel_keys::api::{
    self, Accounts, InvitationCreated, Invitations, NewInvitation, RevokeAnswer, RoleChange,
};
use mytunnel_keys::error::Code;
use serde_json::json;

use crate::commands::keys::{masters_left, relays};
use crate::commands::projects::{ServerArgs, confirmed, somebody_is_there};
use crate::context::{Context, now};
use crate::failure::Failure;
use crate::report::{Style, columns};
use crate::session::Session;
use crate::sign_in::{Person, PersonArgs};
use crate::span;

/// Invite people to your relay, and manage their accounts
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: AccountsCommand,
}

#[derive(Debug, Subcommand)]
enum AccountsCommand {
    /// List accounts and open invitations
    List(ServerArgs),
    /// Invite somebody; the code is shown once
    Invite(InviteArgs),
    /// Make an account an owner or a member
    Role(RoleArgs),
    /// Delete an account: its sessions end, its devices and their keys are revoked
    Remove(RemoveArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// May do everything
    Owner,
    /// Sees everything, and manages what is their own
    Member,
}

#[derive(Debug, clap::Args)]
struct InviteArgs {
    /// Address that the account will have
    email: String,

    /// What it may do
    #[arg(long, value_enum, default_value = "member")]
    role: Role,

    #[command(flatten)]
    person: PersonArgs,
}

#[derive(Debug, clap::Args)]
struct RoleArgs {
    /// Address or id of the account
    account: String,

    /// What it may do
    #[arg(value_enum)]
    role: Role,

    #[command(flatten)]
    person: PersonArgs,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// Address or id of the account, or address of an open invitation
    account: String,

    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,

    /// Revoke the master keys that it made, too, with their children
    #[arg(long)]
    masters: bool,

    #[command(flatten)]
    person: PersonArgs,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
        }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        AccountsCommand::List(args) => list(args, context),
        AccountsCommand::Invite(args) => invite(args, context),
        AccountsCommand::Role(args) => role(args, context),
        AccountsCommand::Remove(args) => remove(args, context),
    }
}

fn list(args: &ServerArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.server.as_deref())?;
    let answer: Accounts = session.get("/accounts")?;
    let open: Invitations = session.get("/invitations")?;
    context.report.object(&json!({"accounts": answer.accounts, "invitations": open.invitations}));
    let heading = ["ACCOUNT", "ROLE", "SECOND FACTOR", "LAST SIGN-IN"].map(str::to_owned).to_vec();
    let row = |account: &api::Account| {
        let factor = if account.mfa_enabled { "on" } else { "off" };
        let last = account.last_login_at.map_or_else(|| "never".to_owned(), span::utc);
        vec![account.email.clone(), account.role.clone(), factor.to_owned(), last]
    };
    let rows: Vec<_> = std::iter::once(heading).chain(answer.accounts.iter().map(row)).collect();
    for (at, line) in columns(&rows).into_iter().enumerate() {
        context.report.line(if at == 0 { context.report.styled(Style::Faint, line) } else { line });
    }
    for invitation in &open.invitations {
        let left = span::human(invitation.expires_at.saturating_sub(now()));
        context
            .report
            .note(format_args!("Invited: {} as {}, for {left} more.", invitation.email, invitation.role));
    }
    Ok(())
}

fn invite(args: &InviteArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.person.server.server.as_deref())?;
    let asked = NewInvitation { email: args.email.clone(), role: args.role.name().to_owned() };
    let made: InvitationCreated =
        Person::step_up(&session, context, &args.person, |api, who| api.post(who, "/invitations", &asked))?;
    context.report.object(&made);
    context.report.line(&made.url);
    let left = span::human(made.expires_at.saturating_sub(now()));
    context.report.note(format_args!(
        "Send this to {} (shown once, good for {left}); or the line for a terminal:\n\n  mytunnel login '{}' --email {} --invite {}\n",
        made.email,
        session.server(),
        made.email,
        made.code,
    ));
    Ok(())
}

fn role(args: &RoleArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::signed_in(context, args.person.server.server.as_deref())?;
    let path = format!("/accounts/{}", find(&session, &args.account)?.id);
    let change = RoleChange { role: args.role.name().to_owned() };
    let changed: api::Account =
        Person::step_up(&session, context, &args.person, |api, who| api.patch(who, &path, &change))?;
    context.report.object(&changed);
    context.report.line(format_args!("{} is {} now.", changed.email, changed.role));
    Ok(())
}

fn remove(args: &RemoveArgs, context: &Context) -> Result<(), Failure> {
    if !args.yes && (context.report.is_json() || !somebody_is_there()) {
        return Err(Failure::usage(
            "removing an account revokes its devices and their keys, and there is nobody to ask",
            "If you mean it, add --yes.",
        ));
    }
    let session = Session::signed_in(context, args.person.server.server.as_deref())?;
    let open: Invitations = session.get("/invitations")?;
    if let Some(invitation) =
        open.invitations.iter().find(|open| open.email.eq_ignore_ascii_case(&args.account))
    {
        session.delete::<()>(&format!("/invitations/{}", invitation.id))?;
        context.report.object(&json!({"withdrawn": invitation.email}));
        context.report.line(format_args!("The invitation of {} is void.", invitation.email));
        return Ok(());
    }
    let account = find(&session, &args.account)?;
    if !args.yes && !confirmed(&account.email)? {
        return Err(Failure::local(
            "nothing was changed",
            "Answer with the account's address, or use --yes.",
        ));
    }
    let path = format!("/accounts/{}?masters={}", account.id, args.masters);
    let answer: RevokeAnswer =
        Person::step_up(&session, context, &args.person, |api, who| api.delete(who, &path))?;
    context.report.object(&answer);
    context.report.line(format_args!(
        "Removed {}, with {} devices{} and {} child keys.",
        account.email,
        answer.revoked_masters,
        if args.masters { " and master keys" } else { "" },
        answer.revoked_children
    ));
    for line in relays(&answer.relays) {
        context.report.note(line);
    }
    if let Some(warning) = masters_left(&answer.masters_left, None) {
        context.report.warn(warning);
    }
    Ok(())
}

fn find(session: &Session, named: &str) -> Result<api::Account, Failure> {
    let all: Accounts = session.get("/accounts")?;
    let named = named.trim();
    let found = all.accounts.into_iter().find(|row| row.id == named || row.email.eq_ignore_ascii_case(named));
    found.ok_or_else(|| {
        Failure::new(Code::NotFound, format!("there is no account {named}"))
            .with_help("`mytunnel accounts list` shows which there are.")
    })
}
