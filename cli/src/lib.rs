//! The command line of mytunnel.
//!
//! [`run`] is the whole program: it parses, resolves settings, does what was asked and returns the exit status.
//! Decisions live in the modules below the commands and are tested without a process; what a command prints, and
//! every way it can fail, goes through `report` and `failure`.

mod api;
mod args;
mod bootstrap;
mod clock;
mod commands;
mod config;
mod context;
mod control;
mod credentials;
mod embedded;
mod environment;
mod failure;
mod files;
mod http_server;
mod identity;
mod inspect;
mod logging;
mod mint;
mod money;
mod names;
mod places;
mod report;
mod runtime;
mod secrets;
mod server;
mod session;
mod settings;
mod sign_in;
mod span;
mod suggestion;
mod vouched;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

use crate::args::{Cli, Command};
use crate::commands::{
    access, accounts, audit, completions, coordinator, dashboard, devices, doctor, domains, eval, http, keys,
    login, man, mcp, mfa, pair, projects, relay, requests, service, share, status, tcp, tenant, ticket, tls,
    trust, tunnels, udp, up, usage,
};
use crate::context::Context;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::report::Report;

/// Runs the program with these arguments, the first being its own name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let env = Environment::of_process();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(mut error) => {
            let commands = Cli::command();
            let common: Vec<String> =
                commands.get_subcommands().map(|one| one.get_name().to_owned()).collect();
            suggestion::sharpen(&mut error, &common);
            suggestion::guess(&mut error, &commands, &args);
            suggestion::translate(&mut error, &commands, &args);
            return not_parsed(&error, &args, &env);
        }
    };
    let report = Report::new(cli.json, env.no_color);
    if let Err(trouble) =
        logging::init(&env, matches!(cli.command, Command::Relay(_) | Command::Coordinator(_)))
    {
        report.warn(trouble);
    }
    match dispatch(&cli.command, &Context { env, report }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Share(args) => share::run(args, context),
        Command::Http(args) => http::run(args, context),
        Command::Tcp(args) => tcp::run(args, context),
        Command::Tls(args) => tls::run(args, context),
        Command::Udp(args) => udp::run(args, context),
        Command::Up(args) => up::run(args, context),
        Command::Access(args) => access::run(args, context),
        Command::Ticket(args) => ticket::run(args, context),
        Command::Pair(args) => pair::run(args, context),
        Command::Mcp(args) => mcp::run(args, context),
        Command::Requests(args) => requests::run(args, context),
        Command::Status(args) => status::run(args, context),
        Command::Doctor(args) => doctor::run(args, context),
        Command::Login(args) => login::run(args, context),
        Command::Mfa(args) => mfa::run(args, context),
        Command::Projects(args) => projects::run(args, context),
        Command::Keys(args) => keys::run(args, context),
        Command::Eval(args) => eval::run(args, context),
        Command::Accounts(args) => accounts::run(args, context),
        Command::Devices(args) => devices::run(args, context),
        Command::Audit(args) => audit::run(args, context),
        Command::Usage(args) => usage::run(args, context),
        Command::Tunnels(args) => tunnels::run(args, context),
        Command::Domains(args) => domains::run(args, context),
        Command::Tenant(args) => tenant::run(args, context),
        Command::Dashboard(args) => dashboard::run(args, context),
        Command::Relay(args) => relay::run(args, context),
        Command::Coordinator(args) => coordinator::run(args, context),
        Command::Man(args) => man::run(args, context),
        Command::Trust(args) => trust::run(args, context),
        Command::Service(args) => service::run(args, context),
        Command::Completions(args) => {
            completions::run(args, context);
            Ok(())
        }
    }
}

/// Help, version, and what could not be understood; the latter as JSON where JSON was asked for.
fn not_parsed(error: &clap::Error, args: &[OsString], env: &Environment) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !asked && args.iter().any(|arg| arg == "--json") {
        let failure = usage_failure(error);
        Report::new(true, env.no_color).failure(&failure);
    } else if let Err(error) = error.print() {
        tracing::debug!(%error, "output was not taken");
    }
    ExitCode::from(if asked { 0 } else { 2 })
}

fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    // What is missing stands in lines of its own, up to an empty one.
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let message = lines.join(" ");
    let message = message.trim_start_matches("error: ");
    let tips: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
    Failure::usage(message, if tips.is_empty() { "See --help.".to_owned() } else { tips.join("; ") })
}
