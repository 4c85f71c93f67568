//! `mytunnel eval mint`: a short-lived key for a script or an agent, made with a project's master key.

use std::path::PathBuf;

use clap::Subcommand;
use mytunnel_keys::error::Code;
use mytunnel_keys::id::ProjectId;

use crate::context::Context;
use crate::failure::Failure;
use crate::mint::{self, MintOptions};
use crate::secrets;
use crate::session::Session;

/// Make short-lived keys with a master key, for scripts and agents
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: EvalCommand,
}

#[derive(Debug, Subcommand)]
enum EvalCommand {
    Mint(MintArgs),
}

/// Mint a child key with MTK_MASTER
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  export MTK_MASTER=mtk_master_…
  eval \"$(mytunnel eval mint --ttl 1h --output-env)\"
  mytunnel http 3000 --name preview

The key is bound to this machine: its secret stays in a file here, and the printed text is
of no use elsewhere. --portable puts the secret into the text.")]
struct MintArgs {
    /// Id of the master key's project; checked if given
    #[arg(long, value_name = "PROJECT", value_parser = project_id)]
    project: Option<ProjectId>,

    /// File that holds the master key, or - for standard input [default: MTK_MASTER]
    #[arg(long, value_name = "FILE")]
    master_file: Option<PathBuf>,

    #[command(flatten)]
    options: MintOptions,
}

/// A master key does not see the names of projects.
fn project_id(text: &str) -> Result<ProjectId, String> {
    let why = "give the project by its id, proj_…; `mytunnel projects list` shows them";
    text.parse().map_err(|_| why.to_owned())
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let EvalCommand::Mint(args) = &args.command;
    let master = secrets::master(context, args.master_file.as_deref())?;
    let own = master.project.clone();
    if args.project.as_ref().is_some_and(|wanted| *wanted != own) {
        let message = format!("this master key belongs to project {own}");
        return Err(Failure::new(Code::ProjectMismatch, message)
            .with_help("Leave --project out, or set MTK_MASTER to the key of that project."));
    }
    let session = Session::of_master(master)?;
    let minted = mint::mint(context, &session, &args.options, Some(own))?;
    mint::print(context, &args.options, &minted);
    Ok(())
}
