//! `mytunnel completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::args::Cli;
use crate::context::Context;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  mytunnel completions bash > ~/.local/share/bash-completion/completions/mytunnel"
)]
pub(crate) struct Args {
    /// The shell to complete in
    shell: Shell,
}

pub(crate) fn run(args: &Args, context: &Context) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mytunnel", &mut script);
    let report = context.report;
    report.object(&json!({"shell": args.shell.to_string(), "script": String::from_utf8_lossy(&script)}));
    report.text(&script);
}
