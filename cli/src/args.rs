//! The command line as it is typed. What it means, together with environment and files, is for the
//! [`settings`](crate::settings) to say.

use clap::builder::styling::{AnsiColor, Effects, Styles};
use clap::{Parser, Subcommand};

use crate::commands::{
    access, accounts, audit, completions, coordinator, dashboard, devices, doctor, domains, eval, http, keys,
    login, man, mcp, mfa, pair, projects, relay, requests, service, share, status, tcp, tenant, ticket, tls,
    trust, tunnels, udp, up, usage,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  mytunnel share                      this folder, as a web site on this machine's own relay
  mytunnel share 3000                 what listens on port 3000
  mytunnel http 3000 --name preview   the same at a name of your choice
  mytunnel tcp 5432                   a database, or whatever takes TCP connections
  mytunnel up                         all that mytunnel.toml of this folder names
  mytunnel relay --domain t.example   a relay for others, with accounts and keys

Environment:
  MYTUNNEL_AUTH_TOKEN  child key to share with
  MTK_MASTER           master key that mints child keys
  MYTUNNEL_SERVER      address of the relay, where a key does not name it
  MYTUNNEL_PROJECT     project to work in
  MYTUNNEL_PASSWORD    password for login
  MYTUNNEL_TOTP        second factor for login
  MYTUNNEL_TUNNEL_PASSWORD  password that a tunnel asks of visitors
  MYTUNNEL_TUNNEL_PIN       PIN that a tunnel asks of visitors
  MYTUNNEL_TUNNEL_TOKEN     token with which a tunnel lets programs in
  MYTUNNEL_TICKET  ticket for `access`
  MYTUNNEL_PAIR_SECRET  invite for `pair join`
  MYTUNNEL_PAIR_LISTEN  where `pair` listens for peers
  MYTUNNEL_CONFIG_DIR  settings and credentials [default: ~/.config/mytunnel]
  MYTUNNEL_LOG         what to log on stderr: warn, info, debug …
  NO_COLOR             no colours";

/// Share what runs on this machine, through a relay you can run yourself.
#[derive(Debug, Parser)]
#[command(name = "mytunnel", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 100)]
#[command(arg_required_else_help = true, subcommand_required = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Print JSON on stdout and nothing else there
    #[arg(long, global = true, display_order = 900)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Share(share::Args),
    Http(http::Args),
    Tcp(tcp::Args),
    Udp(udp::Args),
    Tls(tls::Args),
    Up(up::Args),
    Access(access::Args),
    Ticket(ticket::Args),
    Pair(pair::Args),
    Mcp(mcp::Args),
    Requests(requests::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    Login(login::Args),
    Mfa(mfa::Args),
    Devices(devices::Args),
    Accounts(accounts::Args),
    Projects(projects::Args),
    Keys(keys::Args),
    Tunnels(tunnels::Args),
    Domains(domains::Args),
    Eval(eval::Args),
    Audit(audit::Args),
    Usage(usage::Args),
    Tenant(tenant::Args),
    Dashboard(dashboard::Args),
    Relay(relay::Args),
    Coordinator(coordinator::Args),
    Service(service::Args),
    Trust(trust::Args),
    Completions(completions::Args),
    Man(man::Args),
}
