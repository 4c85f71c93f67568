//! `mytunnel tunnels auth|edge-auth`: what a tunnel asks of its visitors.

use std::path::PathBuf;

use mytunnel_keys::api::{AuthAnswer, EdgeAuthAnswer, SetAuth, SetEdgeAuth};

use super::{Subject, say_where};
use crate::commands::share::allowed;
use crate::context::Context;
use crate::failure::Failure;
use crate::secrets;

/// Ask visitors of a tunnel for a user name and a password, from their next request on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel tunnels auth demo --user ann    asks for the password
  mytunnel tunnels auth demo --off         asks visitors for nothing any more

For scripts: MYTUNNEL_TUNNEL_PASSWORD, or --password-file.")]
pub(super) struct AuthArgs {
    #[command(flatten)]
    subject: Subject,

    /// The user's name
    #[arg(long, value_name = "USER", required_unless_present = "off", conflicts_with = "off")]
    user: Option<String>,

    /// File that holds the password, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["off", "password"])]
    password_file: Option<PathBuf>,

    /// The password; better not here, where others on this machine can see it
    #[arg(long, value_name = "PASSWORD", conflicts_with = "off", hide_short_help = true)]
    password: Option<String>,

    /// Ask for no password any more
    #[arg(long)]
    off: bool,
}

/// Ask visitors of a tunnel to sign in, from their next request on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel tunnels edge-auth demo --google --allow @acme.example --allow ann@b.example
  mytunnel tunnels edge-auth demo --google     everybody with an account there
  mytunnel tunnels edge-auth demo --oidc company --allow @acme.example
  mytunnel tunnels edge-auth demo --end-sessions    whoever is signed in has to sign in again
  mytunnel tunnels edge-auth demo --off        asks nobody who they are any more

A relay without the provider keeps everybody out: its operator adds it to relay.toml as [[sign_in]].")]
pub(super) struct EdgeAuthArgs {
    #[command(flatten)]
    subject: Subject,

    /// Google vouches for visitors
    #[arg(long, required_unless_present_any = ["oidc", "off", "end_sessions"], conflicts_with_all = ["oidc", "off"])]
    google: bool,

    /// A provider of the relay vouches for visitors, by its id or its issuer's address
    #[arg(long, value_name = "ID|ISSUER", conflicts_with = "off")]
    oidc: Option<String>,

    /// Who may enter: an address, or @domain for everybody there; none lets in all who can sign in
    #[arg(long, value_name = "@DOMAIN|EMAIL", conflicts_with = "off")]
    allow: Vec<String>,

    /// Ask for no sign-in any more
    #[arg(long)]
    off: bool,

    /// End the sessions of everybody who has signed in, at every relay, and cut what they have open
    #[arg(long, conflicts_with_all = ["google", "oidc", "allow", "off"])]
    end_sessions: bool,
}

pub(super) fn auth(args: &AuthArgs, context: &Context) -> Result<(), Failure> {
    let (session, tunnel) = args.subject.find(context)?;
    let path = format!("/tunnels/{}/auth", tunnel.id);
    let answer: AuthAnswer = match &args.user {
        None => session.delete(&path)?,
        Some(user) => {
            let flag = args.password.as_deref().map(|text| ("--password", text));
            let password = secrets::tunnel_password(context, args.password_file.as_deref(), flag)?;
            let asked = SetAuth { user: user.clone(), password: (*password).clone(), tunnel: None };
            session.put(&path, &asked)?
        }
    };
    context.report.object(&answer);
    let asks = if answer.auth_enabled { "asks for a password" } else { "asks for no password" };
    context.report.line(format_args!("{} {asks}.", tunnel.name));
    say_where(context, &answer.relays);
    Ok(())
}

pub(super) fn edge_auth(args: &EdgeAuthArgs, context: &Context) -> Result<(), Failure> {
    let (session, tunnel) = args.subject.find(context)?;
    let path = format!("/tunnels/{}/edge-auth", tunnel.id);
    let answer: EdgeAuthAnswer = match (args.off, args.end_sessions) {
        (true, _) => session.delete(&path)?,
        (false, true) => session.delete(&format!("{path}/sessions"))?,
        (false, false) => {
            let (allowed_domains, allowed_emails) = allowed(&args.allow);
            let provider = args.oidc.clone().unwrap_or_else(|| "google".to_owned());
            session.put(&path, &SetEdgeAuth { provider, allowed_domains, allowed_emails, tunnel: None })?
        }
    };
    context.report.object(&answer);
    let asks = match (answer.edge_auth_enabled, args.end_sessions) {
        (true, true) => "asks everybody to sign in again",
        (true, false) => "asks for a sign-in",
        (false, _) => "asks for no sign-in",
    };
    context.report.line(format_args!("{} {asks}.", tunnel.name));
    say_where(context, &answer.relays);
    Ok(())
}
