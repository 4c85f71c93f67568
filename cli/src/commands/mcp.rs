//! `mytunnel mcp`: what `mytunnel pair` does, as tools for an agent, over standard input and output.
//!
//! The server holds no session: they are the daemon's, so that one that is started anew goes on where the other was.
//! What needs a person (comparing words, approving) is no tool.

mod answers;
mod compat;
mod desk;
mod files;
mod forms;
mod schema;
mod server;
mod tools;

use std::sync::Arc;

use clap::ValueEnum;
use rmcp::ServiceExt as _;
use rmcp::transport::stdio;

use self::desk::{Desk, Places};
use self::server::Server;
use crate::commands::pair::client::Client;
use crate::commands::pair::files::{inbox, own_folder};
use crate::commands::pair::start::user_name;
use crate::context::Context;
use crate::environment::Environment;
use crate::failure::{Failure, chain};
use crate::runtime::{StopSignals, block_on_and_leave};

/// Serve the tools of `mytunnel pair` to an agent (MCP, on standard input and output)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  claude mcp add pair -- mytunnel mcp
  mytunnel mcp --compat tunnel-mcp      the names and fields of tunnel-mcp, for agents that know those

Comparing words and approving are for a person: in a form, where the agent's client shows such (MCP elicitation), or at the
command line: `mytunnel pair verify`, `approve`, `deny`.")]
pub(crate) struct Args {
    /// Offer the tools of another server by their names
    #[arg(long, value_enum, value_name = "SERVER")]
    compat: Option<Compat>,

    /// The agent's name in sessions [default: your user name]
    #[arg(long)]
    name: Option<String>,

    /// What runs here, such as claude-code
    #[arg(long, default_value = "")]
    agent: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compat {
    /// `tunnel_open`, `tunnel_join` and the others
    TunnelMcp,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let name = args.name.clone().unwrap_or_else(|| user_name(context, "agent"));
    let places = Places { folder: own_folder(context).ok(), inbox: inbox(context).ok() };
    // It is asked from other threads, for as long as the agent lives.
    let own = Context { env: Environment::of_process(), report: context.report };
    let desk = Arc::new(Desk::new(Client::of(context)?, own, (name, args.agent.clone()), places));
    let tools = match args.compat {
        Some(Compat::TunnelMcp) => compat::tools(),
        None => tools::tools(),
    };
    // A question to the daemon that is under way would keep the process.
    block_on_and_leave(async {
        let mut signals = StopSignals::install()?;
        let trouble = |error: String| Failure::local(format!("the agent's side failed: {error}"), "");
        let serving = async {
            let running = Server::new(Arc::clone(&desk), tools).serve(stdio()).await;
            let running = running.map_err(|error| trouble(chain(&error)))?;
            running.waiting().await.map(drop).map_err(|error| trouble(chain(&error)))
        };
        let ended = tokio::select! {
            ended = serving => ended,
            () = signals.next() => Ok(()),
        };
        let settled = tokio::task::spawn_blocking(move || desk.settle()).await;
        ended.and(settled.map_err(|error| trouble(chain(&error))))
    })
}
