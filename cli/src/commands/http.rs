//! `mytunnel http PORT`: the short form of a share that agents are told.

use crate::commands::share;

/// Share a local web server: `mytunnel http 3000 --name preview`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port of the local server, or host:port, or a URL
    #[arg(value_name = "PORT")]
    pub(crate) target: String,

    #[command(flatten)]
    pub(crate) options: share::Options,
}
