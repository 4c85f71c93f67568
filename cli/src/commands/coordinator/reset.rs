//! `mytunnel coordinator reset-password`: a link to a new password, made by whoever may read the coordinator's keys.

use std::path::PathBuf;

use mytunnel_coordinator::{Clock, Coordinator};
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::places::default_data_dir;
use crate::server;

/// Make a one-time link to a new password, at the coordinator's own machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works whether the coordinator runs or not: the link is made with accounts.key of its data directory. It is good for an
hour, once, and the second factor of the account stays. Where it is used, the audit log says so.")]
pub(crate) struct Args {
    /// Address of the account
    #[arg(long, value_name = "EMAIL")]
    email: String,

    /// Directory of the database and the keys [default: ~/.local/share/mytunnel]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// URL at which people reach the coordinator; without it the bare code is printed
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let data = match &args.data {
        Some(data) => data.clone(),
        None => default_data_dir(&context.env)?,
    };
    let server = args.public_url.as_deref().map(server::parse).transpose()?;
    let token = Coordinator::reset_token(&data, &args.email, &Clock::system())?;
    let url = server.map(|server| format!("{}/#/reset?token={}", server.base(), token.as_str()));
    context.report.object(&json!({"email": args.email, "token": token.as_str(), "url": url}));
    context.report.line(url.as_deref().unwrap_or(token.as_str()));
    context.report.note(format_args!("Sets a new password for {} within an hour, once.", args.email));
    Ok(())
}
