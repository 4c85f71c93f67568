//! `mytunnel relay`: coordinator, relay and ingress in one process, or a relay that joins a coordinator elsewhere.

mod check;
mod ready;
mod reload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mytunnel_coordinator::{Coordinator, Endpoints};
use mytunnel_keys::error::Code;
use mytunnel_keys::token::ServerUrl;
use mytunnel_relay::ingress::ProxyNetwork;
use mytunnel_relay::{Addrs, Relay};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::ready::Ready;
use self::reload::{Reload, Running};
use crate::config::Ports;
use crate::context::{Context, now};
use crate::control::serve_status;
use crate::embedded::joined::{self, Joined};
use crate::embedded::{self, Embedded, Plan, RelayPlan};
use crate::failure::{Failure, chain};
use crate::report::Report;
use crate::runtime::{StopSignals, block_on};
use crate::settings::{AuthoritySettings, RelaySettings};

/// More than the relay's own grace times together; what takes longer than that is stuck.
const GRACE: Duration = Duration::from_secs(30);

/// Time in which a coordinator that is up lets the relay follow its feed.
const COORDINATOR: Duration = Duration::from_secs(3);

/// Run a relay: accounts, keys, tunnels and the public web addresses, in one process
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel relay                              on this machine, for trying out
  mytunnel relay --domain t.example --acme me@example.com
                                              public: t.example and *.t.example point here
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

    /// HTTPS with certificates of Let's Encrypt, whose terms you agree to; it writes to EMAIL when something is wrong
    #[arg(long, value_name = "EMAIL")]
    pub(crate) acme: Option<String>,

    /// With --acme: answer DNS at ADDR for _acme-challenge.DOMAIN, whose NS record leads here; one certificate for all names
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) acme_dns: Option<SocketAddr>,

    /// Note down every request of a visitor in FILE, a JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,

    /// Send traces of requests to the OpenTelemetry collector at URL (OTLP over HTTP, such as http://127.0.0.1:4318)
    #[arg(long, value_name = "URL")]
    pub(crate) otlp: Option<String>,

    /// Tell Prometheus what the relay measures at ADDR, over HTTP and without a credential, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) metrics: Option<SocketAddr>,

    /// Address for nodes, UDP and TCP [default: 0.0.0.0:4001, on localhost 127.0.0.1:4001]
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) p2p: Option<SocketAddr>,

    /// Ports for TCP and UDP tunnels, or none [default: 20000-29999]
    #[arg(long, value_name = "FIRST-LAST")]
    pub(crate) ports: Option<Ports>,

    /// Host of the API and the sign-in [default: the domain itself]
    #[arg(long, value_name = "HOST")]
    pub(crate) console: Option<String>,

    /// Join the coordinator at URL instead of running one; repeated for others on the same database
    #[arg(long = "coordinator", value_name = "URL")]
    pub(crate) coordinators: Vec<String>,

    /// Join token of that coordinator; better in a file, others can see it here
    #[arg(long, value_name = "TOKEN", hide_env_values = true)]
    pub(crate) join: Option<String>,

    /// File that holds the join token
    #[arg(long, value_name = "FILE")]
    pub(crate) join_file: Option<PathBuf>,

    /// Proxy in front, by address or network; its X-Forwarded-For is believed (may be repeated)
    #[arg(long = "trusted-proxy", value_name = "CIDR")]
    pub(crate) trusted_proxies: Vec<ProxyNetwork>,

    /// Read settings from FILE (relay.toml); flags win over it. SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Try settings, data directory and ports without starting, tell all that is wrong, and exit
    #[arg(long)]
    pub(crate) check: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let settings = RelaySettings::resolve(args, context)?;
    if args.check {
        return check::run(&settings, context.report);
    }
    match &settings.authority {
        AuthoritySettings::Embedded => block_on(all_in_one(args, &settings, context)),
        AuthoritySettings::Joined { servers, token } => {
            let joined = joined::join(&settings.data, &settings.domain, servers, token.as_ref())?;
            if let Some(outage) = &joined.outage {
                context
                    .report
                    .warn(format_args!("{}; starting with what was known before", outage.message()));
            }
            block_on(member(args, &settings, joined, context))
        }
    }
}

/// Coordinator and relay together.
async fn all_in_one(args: &Args, settings: &RelaySettings, context: &Context) -> Result<(), Failure> {
    let mut signals = StopSignals::install()?;
    let mut reload = Reload::install(args)?;
    let mut embedded = Embedded::start(Plan {
        cluster: settings.domain.clone(),
        database: Some(settings.data.join("coordinator.db")),
        url: ready::console_url(&settings.console, settings.http.port())?,
        limits: settings.limits.coordinator(),
        prices: settings.prices.prices(),
        sign_in: std::sync::Arc::clone(&settings.sign_in),
        mail_command: settings.mail_command.clone(),
        name_servers: settings.name_servers.clone(),
        metrics_token: settings.metrics_token.clone(),
        relay: RelayPlan { console: Some(settings.console.clone()), ..plan(settings) },
    })
    .await?;
    let addrs = embedded.relay.addrs().clone();
    let url = ready::address(&settings.console, &addrs, embedded.relay.local_ca(), settings.acme.is_some())?;
    embedded.coordinator.set_endpoints(url.clone(), endpoints(&addrs));
    let code = embedded.coordinator.setup_code();
    let code = code.as_ref().map(|code| code.as_str());
    let Embedded { relay, coordinator } = &mut embedded;
    let parts = (relay, Some(&**coordinator));
    let outcome = up(settings, parts, (&url, code), (&mut signals, &mut reload), context).await;
    signals.leave(GRACE, context.report, embedded.shutdown()).await;
    outcome
}

/// A relay of a coordinator elsewhere.
async fn member(
    args: &Args,
    settings: &RelaySettings,
    joined: Joined,
    context: &Context,
) -> Result<(), Failure> {
    let mut signals = StopSignals::install()?;
    let mut reload = Reload::install(args)?;
    // Nothing answers for the console here, but visitors sign in at its host.
    let plan = RelayPlan { console: Some(settings.console.clone()), ..plan(settings) };
    let mut relay = embedded::relay(&joined.member, joined.authority, &plan, None).await?;
    let signs = (&mut signals, &mut reload);
    let outcome = up(settings, (&mut relay, None), (&joined.server, None), signs, context).await;
    signals.leave(GRACE, context.report, relay.shutdown()).await;
    outcome
}

fn plan(settings: &RelaySettings) -> RelayPlan {
    RelayPlan {
        http: vec![settings.http],
        https: Some(settings.https),
        p2p: settings.p2p,
        ports: settings.ports,
        acme: settings.acme.clone(),
        access_log: settings.access_log.clone(),
        only_https: settings.only_https,
        passthrough: settings.passthrough,
        traces: settings.traces.clone(),
        metrics: settings.metrics,
        console: None,
        data: Some(settings.data.clone()),
        limits: settings.limits.relay(),
        proxies: settings.proxies.clone(),
        sign_in: std::sync::Arc::clone(&settings.sign_in),
    }
}

/// Says that the relay is up, and waits for a reason to end.
async fn up(
    settings: &RelaySettings,
    (relay, coordinator): (&mut Relay, Option<&Coordinator>),
    (url, setup_code): (&ServerUrl, Option<&str>),
    (signals, reload): (&mut StopSignals, &mut Reload<'_>),
    context: &Context,
) -> Result<(), Failure> {
    until_known(relay).await;
    let ready = Ready { settings, relay, url, setup_code };
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let (state, live) = (ready.status(), relay.status());
    serve_status(context, move || ready::standing(state.clone(), &live.borrow(), now()), &stop, &mut tasks);
    ready.tell(context.report);
    let outcome = loop {
        tokio::select! {
            () = signals.next() => break Ok(()),
            () = reload.heard() => {}
            ended = relay.stopped() => {
                let why = ended.err().map(|error| chain(&error)).unwrap_or_else(|| "a part of it stopped".to_owned());
                break Err(Failure::new(Code::Internal, format!("the relay failed: {why}")));
            }
        }
        reload.act(Running { settings, relay, coordinator }, context).await;
    };
    stop.cancel();
    tasks.shutdown().await;
    outcome
}

/// Waits until the coordinator has let the relay follow its feed, and so tells nodes where it is. A coordinator that is
/// down is not waited for.
async fn until_known(relay: &Relay) {
    let mut status = relay.status();
    if timeout(COORDINATOR, status.wait_for(|status| status.clock_offset.is_some())).await.is_err() {
        tracing::warn!("the coordinator is not heard yet; nodes are not admitted before it is");
    }
}

/// Where visitors find tunnels, for whoever shows a URL.
fn endpoints(addrs: &Addrs) -> Endpoints {
    let port = |addr: Option<SocketAddr>| addr.map(|addr| format!(":{}", addr.port()));
    Endpoints { http: port(addrs.http), https: port(addrs.https) }
}

/// Tells how to become the owner, while there is none.
pub(crate) fn ask_for_owner(report: Report, url: &ServerUrl, setup_code: Option<&str>) {
    if let Some(code) = setup_code {
        report.note("\nThere is no owner yet. Whoever signs in first with this code becomes it:\n");
        // Some shells would read more into the pin.
        let quote = if url.pin().is_some() { "'" } else { "" };
        report.note(format_args!("  mytunnel login {quote}{url}{quote} --code {code}\n"));
        report.note(format_args!("or in a browser:\n\n  {}/#/setup?code={code}\n", url.base()));
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
