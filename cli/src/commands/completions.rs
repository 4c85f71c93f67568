//! `mytunnel completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  mytunnel completions bash > ~/.local/share/bash-completion/completions/mytunnel"
)]
pub(crate) struct Args {
    /// The shell to complete in
    shell: Shell,
}

pub(crate) fn run(args: &Args) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mytunnel", &mut script);
    crate::report::raw(&script);
}
