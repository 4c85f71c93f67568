//! `mytunnel coordinator`: the authority alone, for relays that join it.

mod backup;
mod reset;
mod stored;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use mytunnel_coordinator::{Config, Coordinator, Endpoints, MetricsToken};
use mytunnel_keys::id::Cluster;
use mytunnel_keys::token::ServerUrl;
use mytunnel_relay::ingress::ProxyNetwork;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::commands::relay::{ask_for_owner, parse_addr};
use crate::config::{self, Cents, CoordinatorFile, PricesFile, RelayLife};
use crate::context::Context;
use crate::control::serve_status;
use crate::embedded::cannot_listen;
use crate::failure::Failure;
use crate::http_server::Api;
use crate::report::Style;
use crate::runtime::{GRACE, StopSignals, block_on};
use crate::{server, settings};
use stored::{Database, Stored};

/// Run the coordinator alone; relays join it with a token
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  mytunnel coordinator --domain t.example --database sqlite:/var/lib/mytunnel/coordinator.db \\
      --public-url https://console.example

It speaks plain HTTP: put TLS in front of it where it is reached from other machines, and name that proxy:
  --trusted-proxy 127.0.0.1

With PostgreSQL its own keys lie in --data:
  mytunnel coordinator --domain t.example --database postgres://mytunnel@db.example/mytunnel \\
      --database-password-file /etc/mytunnel/db-password --data /var/lib/mytunnel --public-url https://console.example

Several coordinators may work on one PostgreSQL database: copy the *.key files of the first to the --data of the others.")]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<CoordinatorCommand>,

    #[command(flatten)]
    stored: Stored,

    /// Base domain of the relays
    #[arg(long, value_name = "DOMAIN", default_value = "localhost")]
    domain: Cluster,

    /// Address of the API
    #[arg(long, value_name = "ADDR", value_parser = parse_addr, default_value = "127.0.0.1:8080")]
    http: SocketAddr,

    /// URL at which people and relays reach the API [default: http://ADDR]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,

    /// Life of a relay's certificate; nodes believe a revoked relay for as long [default: 24h]
    #[arg(long, value_name = "SPAN")]
    relay_certificate: Option<RelayLife>,

    /// Price of a GiB in either direction, in US cents [default: 5]
    #[arg(long, value_name = "CENTS")]
    price_gib: Option<Cents>,

    /// Price of a million requests [default: 0]
    #[arg(long, value_name = "CENTS")]
    price_requests: Option<Cents>,

    /// Price of a tunnel that is up for an hour [default: 1]
    #[arg(long, value_name = "CENTS")]
    price_hour: Option<Cents>,
    /// Program that sends mail, for forgotten passwords: it gets one JSON object on its standard input
    #[arg(long, value_name = "PROGRAM")]
    mail_command: Option<String>,

    /// File with the tables sign_in: who else may vouch for people
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Proxy in front, by address or network; its X-Forwarded-For is believed (may be repeated)
    #[arg(long = "trusted-proxy", value_name = "CIDR")]
    trusted_proxies: Vec<ProxyNetwork>,
}

#[derive(Debug, clap::Subcommand)]
enum CoordinatorCommand {
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    ResetPassword(reset::Args),
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "ready")]
struct Ready<'a> {
    domain: &'a Cluster,
    url: &'a ServerUrl,
    http: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    setup_code: Option<&'a str>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    match &args.command {
        Some(CoordinatorCommand::Backup(args)) => return backup::backup(args, context),
        Some(CoordinatorCommand::Restore(args)) => return backup::restore(args, context),
        Some(CoordinatorCommand::ResetPassword(args)) => return reset::run(args, context),
        None => {}
    }
    let database = &args.stored.database()?;
    let file = match &args.config {
        Some(path) => config::load::<CoordinatorFile>(path)?,
        None => CoordinatorFile::default(),
    };
    let metrics_token = settings::metrics_token(file.metrics_token.as_ref())?;
    let sign_in = config::sign_in(file.sign_in)?;
    let given = args.public_url.as_deref().map(server::parse).transpose()?;
    let servers = file.name_servers.iter().map(|server| server.0).collect();
    block_on(serve(args, database, given, (sign_in, metrics_token, servers), context))
}

async fn serve(
    args: &Args,
    database: &Database,
    given: Option<ServerUrl>,
    (sign_in, metrics_token, name_servers): (
        Arc<mytunnel_sign_in::Client>,
        Option<MetricsToken>,
        Vec<SocketAddr>,
    ),
    context: &Context,
) -> Result<(), Failure> {
    let mut signals = StopSignals::install()?;
    let listener =
        TcpListener::bind(args.http).await.map_err(|error| cannot_listen(&args.http, Some(&error)))?;
    let http = listener.local_addr().map_err(|error| cannot_listen(&args.http, Some(&error)))?;
    let url = match given {
        Some(url) => url,
        None => server::parse(&format!("http://{http}"))?,
    };
    let mut config = Config::new(args.stored.store(database, context)?, args.domain.clone(), url.clone());
    if let Some(life) = args.relay_certificate {
        config.limits.relay_certificate = life.into();
    }
    let (gib, million_requests, tunnel_hour) = (args.price_gib, args.price_requests, args.price_hour);
    config.prices = PricesFile { gib, million_requests, tunnel_hour }.prices();
    config.sign_in = sign_in;
    config.metrics_token = metrics_token;
    config.name_servers = name_servers;
    config.mail_command.extend(args.mail_command.clone());
    let coordinator = Arc::new(Coordinator::open(config).await?);
    coordinator.set_endpoints(url.clone(), Endpoints::default());

    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let api = Api::new(Arc::clone(&coordinator), args.trusted_proxies.iter().copied().collect());
    tasks.spawn(api.serve(listener, stop.clone()));
    let state = serde_json::json!({
        "tunnels": [], "peers": [],
        "servers": [{"role": "coordinator", "domain": args.domain, "url": url, "http": http, "pid": std::process::id()}],
    });
    serve_status(context, move || state.clone(), &stop, &mut tasks);
    let code = coordinator.setup_code();
    let code = code.as_ref().map(|code| code.as_str());
    context.report.object(&Ready { domain: &args.domain, url: &url, http, setup_code: code });
    context.report.line(context.report.styled(Style::Strong, &url));
    context.report.note(format_args!("Coordinator of {}; data in {database}.", args.domain));
    ask_for_owner(context.report, &url, code);

    signals.next().await;
    let leave = async {
        // First the store: it ends the feeds, which the connections are waiting for.
        coordinator.shutdown().await;
        stop.cancel();
        while tasks.join_next().await.is_some() {}
    };
    signals.leave(GRACE, context.report, leave).await;
    Ok(())
}
