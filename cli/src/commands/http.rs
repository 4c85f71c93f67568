//! `mytunnel http PORT`: the short form of a share that agents are told.

use crate::commands::share;
use crate::context::Context;
use crate::failure::Failure;

/// Share a local web server: `mytunnel http 3000 --name preview`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port of the local server, or host:port, or a URL
    #[arg(value_name = "PORT")]
    target: String,

    #[command(flatten)]
    options: share::Options,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    share::share(&args.target, &args.options, context)
}
