//! `mytunnel relay`: coordinator, relay and ingress in one process, or a relay that joins a coordinator elsewhere.

mod ready;

use std::net::SocketAddr;
use std::path::PathBuf;

use mytunnel_coordinator::Endpoints;
use mytunnel_keys::token::ServerUrl;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::ready::Ready;
use crate::context::Context;
use crate::control::ControlSocket;
use crate::embedded::{Embedded, Plan, RelayPlan};
use crate::failure::Failure;
use crate::runtime::{StopSignals, block_on};
use crate::settings::{AuthoritySettings, RelaySettings};

/// Run a relay: accounts, keys, tunnels and the public web addresses, in one process
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel relay                              on this machine, for trying out
  mytunnel relay --domain t.example           public: t.example and *.t.example point here
  mytunnel relay --config /etc/mytunnel/relay.toml --check

The first start prints a setup code and the command that makes you the owner.")]
pub(crate) struct Args {
    /// Base domain; tunnels are at NAME.DOMAIN [default: localhost]
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) domain: Option<String>,

    /// Directory of the database and the keys [default: ~/.local/share/mytunnel]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Address for HTTP [default: 0.0.0.0:80, on localhost 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) http: Option<SocketAddr>,

    /// Address for HTTPS [default: 0.0.0.0:443, on localhost 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) https: Option<SocketAddr>,

    /// Address for nodes, UDP and TCP [default: 0.0.0.0:4001, on localhost 127.0.0.1:4001]
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) p2p: Option<SocketAddr>,

    /// Host of the API and the sign-in [default: the domain itself]
    #[arg(long, value_name = "HOST")]
    pub(crate) console: Option<String>,

    /// Join the coordinator at URL instead of running one
    #[arg(long, value_name = "URL")]
    pub(crate) coordinator: Option<String>,

    /// Join token of that coordinator; better in a file, others can see it here
    #[arg(long, value_name = "TOKEN", hide_env_values = true)]
    pub(crate) join: Option<String>,

    /// File that holds the join token
    #[arg(long, value_name = "FILE")]
    pub(crate) join_file: Option<PathBuf>,

    /// Read settings from FILE (relay.toml); flags win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Say whether the settings are right, and exit
    #[arg(long)]
    pub(crate) check: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let settings = RelaySettings::resolve(args, context)?;
    if args.check {
        return ready::checked(&settings, context.report);
    }
    match &settings.authority {
        AuthoritySettings::Embedded => block_on(all_in_one(&settings, context)),
        AuthoritySettings::Joined { .. } => todo!(),
    }
}

async fn all_in_one(settings: &RelaySettings, context: &Context) -> Result<(), Failure> {
    let mut signals = StopSignals::install()?;
    let embedded = Embedded::start(Plan {
        cluster: settings.domain.clone(),
        database: Some(settings.data.join("coordinator.db")),
        url: ready::console_url(&settings.console, settings.http.port())?,
        relay: RelayPlan {
            http: vec![settings.http],
            https: Some(settings.https),
            p2p: settings.p2p,
            console: Some(settings.console.clone()),
            data: Some(settings.data.clone()),
        },
    })
    .await?;
    let addrs = embedded.relay.addrs().clone();
    let port = addrs.http.map_or(settings.http.port(), |addr| addr.port());
    let url = ready::console_url(&settings.console, port)?;
    embedded.announce(url.clone(), endpoints(&addrs));
    let ready = Ready { settings, addrs: &addrs, url: &url, setup_code: embedded.coordinator.setup_code() };
    ready.tell(context.report);

    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    answer_status(&ready, context, &stop, &mut tasks);
    signals.next().await;
    stop.cancel();
    context.report.note("Stopping …");
    signals.while_leaving(embedded.shutdown()).await;
    tasks.shutdown().await;
    Ok(())
}

fn endpoints(addrs: &mytunnel_relay::Addrs) -> Endpoints {
    let port = |addr: Option<SocketAddr>| addr.map(|addr| format!(":{}", addr.port()));
    Endpoints { http: port(addrs.http), https: port(addrs.https) }
}

/// Lets `mytunnel status` ask. A relay without it is still a relay.
fn answer_status(ready: &Ready<'_>, context: &Context, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
    let socket = context.config_dir().map_err(|failure| failure.message().to_owned());
    match socket.and_then(|config| ControlSocket::bind(&config.run()).map_err(|error| format!("{error:#}"))) {
        Ok(socket) => {
            let state = ready.status();
            tasks.spawn(socket.serve(move || state.clone(), stop.clone()));
        }
        Err(error) => tracing::warn!(%error, "`mytunnel status` will not know of this relay"),
    }
}

/// An address to listen on, with an answer for the two usual mistakes.
pub(crate) fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.trim_start_matches(':').parse::<u16>() {
        Ok(port) => {
            format!("write the address too: 0.0.0.0:{port} for everybody, 127.0.0.1:{port} for this machine")
        }
        Err(_) => "write it as IP:PORT, such as 0.0.0.0:8080 or [::]:8080".to_owned(),
    })
}
