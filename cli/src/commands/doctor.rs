//! `mytunnel doctor`: what may keep this machine from sharing, each with its remedy.

use std::time::{Duration, Instant};

use mytunnel_carrier::websocket::{self, Proxies};
use mytunnel_keys::error::Code;
use mytunnel_node::{
    Carrier, Closed, Config as NodeConfig, Nat, Node, RelayAddress, RelayStatus, Router, Status, Target,
    look_at_router,
};
use serde::Serialize;
use serde_json::json;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::bootstrap::{self, Found};
use crate::commands::share::Access;
use crate::context::{Context, now};
use crate::embedded::is_local;
use crate::failure::{Failure, chain};
use crate::identity::{self, Holder, Identity};
use crate::inspect::told::printable;
use crate::report::{Report, Style};
use crate::runtime::block_on;
use crate::span;

/// Time for one look at the network.
const PATIENCE: Duration = Duration::from_secs(6);

/// Time for a last answer behind the dial of a WebSocket.
const SLACK: Duration = Duration::from_secs(2);

/// The look at the way that goes through proxies.
const HTTPS: &str = "relay over https";

/// A key that ends within this time is worth a word.
const SOON: u64 = 3 * 86_400;

/// Find out what keeps this machine from sharing, and how to mend it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mytunnel doctor         clock, names, relay by each way, router, key
  mytunnel doctor 3000    and whether anything listens on port 3000")]
pub(crate) struct Args {
    /// What you want to share: 3000, host:port, http(s)://…, unix:/path, a folder or a file
    target: Option<String>,

    #[command(flatten)]
    access: Access,
}

/// What came of one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// One look.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    name: &'static str,
    pub(crate) state: State,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) help: String,
}

impl Check {
    pub(crate) fn new(name: &'static str, state: State, message: impl Into<String>) -> Self {
        Self { name, state, message: message.into(), help: String::new() }
    }

    pub(crate) fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, State::Ok, message)
    }

    pub(crate) fn failed(name: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..Self::new(name, State::Failed, message) }
    }

    pub(crate) fn warning(name: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { help: help.into(), ..Self::new(name, State::Warning, message) }
    }

    pub(crate) fn of(name: &'static str, failure: &Failure) -> Self {
        Self::failed(name, failure.message(), failure.help())
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let mut checks = Vec::new();
    match identity::resolve(&args.access, None, context) {
        Err(failure) => checks.push(Check::of("key", &failure)),
        Ok(Identity::Nobody) => checks.push(Check::new(
            "key",
            State::Skipped,
            "not signed in anywhere, and no key: a share runs a relay of its own, for visitors on this machine",
        )),
        Ok(Identity::Key(holder)) => of_holder(*holder, context, &mut checks)?,
    }
    if let Some(target) = &args.target {
        checks.push(block_on(async { Ok::<_, Failure>(target_answers(target).await) })?);
    }
    tell(&checks, "keeps this machine from sharing", context.report)
}

/// Everything that has to do with the relay of a key.
fn of_holder(holder: Holder, context: &Context, checks: &mut Vec<Check>) -> Result<(), Failure> {
    let key = life(holder.expires_at, now());
    let has_ended = key.state == State::Failed;
    checks.push(key);
    let found = match bootstrap::fetch_or_recall(&context.config_dir()?, &holder.server, &holder.root) {
        Ok(found) => found,
        Err(failure) => {
            checks.push(Check::of("coordinator", &failure));
            return Ok(());
        }
    };
    checks.push(match &found.outage {
        None => Check::ok("coordinator", format!("{} answers", holder.server.base())),
        Some(outage) => Check::warning(
            "coordinator",
            format!("{}; what was known of it before is used", outage.message()),
            outage.help(),
        ),
    });
    checks.push(match found.skew.complaint() {
        None if found.outage.is_some() => {
            Check::new("clock", State::Skipped, "there is nobody to compare it with")
        }
        None => Check::ok("clock", "agrees with the coordinator's"),
        Some(complaint) => Check::failed("clock", complaint, "Set it: timedatectl set-ntp true"),
    });
    let more = block_on(async {
        let mut more = names(&found).await;
        let proxies = context.env.proxies();
        more.extend(proxies.as_ref().err().map(|failure| Check::of("proxy", failure)));
        if has_ended {
            more.push(Check::new("relay", State::Skipped, "not tried: it lets in no key that has expired"));
        } else {
            more.extend(carriers(&holder, &found, &proxies.unwrap_or_else(|_| Proxies::none())).await);
        }
        more.push(router(look_at_router().await));
        Ok::<_, Failure>(more)
    })?;
    checks.extend(more);
    Ok(())
}

fn life(expires_at: u64, now: u64) -> Check {
    match expires_at.checked_sub(now) {
        None => Check::failed(
            "key",
            format!("it expired {}", span::ago(now - expires_at)),
            "Mint another one, or sign in again with `mytunnel login`.",
        ),
        Some(left) if left < SOON && left > span::MAX_TTL => Check::warning(
            "key",
            format!("it expires in {}", span::human(left)),
            "Sign in again with `mytunnel login` before then.",
        ),
        Some(left) => Check::ok("key", format!("good for {}", span::human(left))),
    }
}

/// Whether visitors find the relay, under any name.
async fn names(found: &Found) -> Vec<Check> {
    let cluster = found.known.trust.cluster();
    let domain = cluster.as_str();
    if is_local(cluster) {
        return vec![Check::new("dns", State::Skipped, format!("{domain} is this machine"))];
    }
    let mut checks = Vec::new();
    for (name, host) in [("dns", domain.to_owned()), ("dns wildcard", format!("mytunnel-doctor.{domain}"))] {
        let addresses = timeout(PATIENCE, lookup_host((host.as_str(), 443))).await;
        checks.push(match addresses {
            Ok(Ok(addresses)) => {
                let all: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
                Check::ok(name, format!("{host} is {}", all.join(", ")))
            }
            Ok(Err(error)) => Check::failed(
                name,
                format!("{host} is not found: {error}"),
                format!("The relay's operator adds a record for {domain} and one for *.{domain}; or this machine's name server is at fault."),
            ),
            Err(_) => Check::failed(name, format!("no word about {host}"), "Check this machine's name server."),
        });
    }
    checks
}

/// Whether a relay is reached by each of the ways there are.
async fn carriers(holder: &Holder, found: &Found, proxies: &Proxies) -> Vec<Check> {
    let relays = &found.known.bootstrap.relays;
    if relays.is_empty() {
        return vec![Check::failed(
            "relay",
            format!("{} has no relay that is up", holder.server.base()),
            "Start one, or wait until it has reached its coordinator.",
        )];
    }
    let relays: Vec<RelayAddress> = relays
        .iter()
        .filter_map(|relay| RelayAddress::parse(&relay.peer_id.to_string(), &relay.addrs).ok())
        .collect();
    let over = |carrier| relays.iter().filter_map(|relay| relay.only(carrier)).collect::<Vec<_>>();
    let mut ways = vec![
        ("relay over tcp", over(Carrier::Tcp), PATIENCE),
        ("relay over udp", over(Carrier::Quic), PATIENCE),
    ];
    let websockets = over(Carrier::WebSocket);
    // A relay without HTTPS takes none.
    if !websockets.is_empty() {
        ways.push((HTTPS, websockets, websocket::Dialer::PATIENCE + SLACK));
    }
    let mut outcomes = Vec::new();
    for (name, addresses, patience) in ways {
        outcomes.push((name, reach(holder, found, (addresses, proxies.clone()), patience).await));
    }
    let any = outcomes.iter().any(|(_, outcome)| !matches!(outcome, Err(Unreached::Not(_))));
    let refused = outcomes.iter().find_map(|(_, outcome)| match outcome {
        Err(Unreached::Refused(refusal)) => Some(refusal.clone()),
        Ok(_) | Err(Unreached::Not(_)) => None,
    });
    let mut checks: Vec<_> =
        outcomes.into_iter().map(|(name, outcome)| verdict(name, outcome, any)).collect();
    if let Some(Closed { message, help, .. }) = refused {
        checks.push(Check::failed("relay", format!("it lets this key in no more: {message}"), help));
        return checks;
    }
    if is_local(found.known.trust.cluster()) {
        checks.push(Check::new("nat", State::Skipped, "the relay is this machine"));
    } else if any {
        checks.push(nat(look_at_nat(holder, found, (relays, proxies.clone())).await));
    }
    checks
}

/// One way is enough; UDP alone is often blocked.
fn verdict(name: &'static str, outcome: Result<String, Unreached>, any: bool) -> Check {
    let message = match outcome {
        Ok(message) => return Check::ok(name, message),
        // The way is there: what is wrong has a line of its own.
        Err(Unreached::Refused(_)) => return Check::ok(name, "answers, and lets nobody in with this key"),
        Err(Unreached::Not(message)) => message,
    };
    match message {
        message if any => {
            Check::warning(name, message, "Another way works, and is used. A firewall may stop this one.")
        }
        message if name == HTTPS => Check::failed(
            name,
            message,
            "Let this machine out to the relay's port of HTTPS (443), or name the proxy that leads there: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT.",
        ),
        message => Check::failed(
            name,
            message,
            "Let this machine out to the relay's port (4001, TCP and UDP), and the relay's firewall let it in.",
        ),
    }
}

/// It keeps nobody from sharing, but private shares from direct paths.
fn nat(nat: Option<Nat>) -> Check {
    match nat {
        Some(Nat::None) => Check::ok("nat", "none: the relay sees this machine where it listens"),
        Some(Nat::PortsKept(ip)) => Check::ok(
            "nat",
            format!("cone, as it seems: the relay sees this machine at {ip}, and at its own ports"),
        ),
        Some(Nat::PortsChanged(seen)) => Check::warning(
            "nat",
            format!(
                "symmetric, most likely: the relay sees this machine at {seen}, which is no port of its own"
            ),
            "Private shares go through the relay where the other end's NAT is not an easier one. Switch PCP, NAT-PMP or UPnP on in the router, or use IPv6.",
        ),
        Some(Nat::NoUdp) => Check::warning(
            "nat",
            "not known: UDP does not get through to the relay",
            "Direct paths of private shares are tried over TCP alone. Let UDP out, to any port.",
        ),
        Some(_) | None => {
            Check::new("nat", State::Skipped, "the relay does not say where it sees this machine")
        }
    }
}

/// Without its help, direct paths of private shares are punched, which does for most.
fn router(router: Router) -> Check {
    let skipped = |help: &str, message: String| Check {
        help: help.to_owned(),
        ..Check::new("router", State::Skipped, message)
    };
    match router {
        Router::Leads { gateway, outside } => {
            Check::ok("router", format!("{gateway} leads ports here, from {}", outside.ip()))
        }
        Router::NotNeeded(ip) => {
            Check::ok("router", format!("none is needed: {ip}, which this machine has, is a public address"))
        }
        Router::Refuses { gateway, why } => skipped(
            "Where `mytunnel status` says \"symmetric NAT here\", switch PCP, NAT-PMP or UPnP on in it.",
            format!("{gateway} leads no ports here: {why}"),
        ),
        Router::Behind { gateway, outside } => skipped(
            "Where `mytunnel status` says \"symmetric NAT here\", only the provider can help, with a public address; without one what is relayed stays relayed.",
            format!(
                "{gateway} would lead ports here, but is behind another router itself: its address is {outside}"
            ),
        ),
        Router::Unknown => skipped(
            "Direct paths are punched, which does for most; ports of a router are asked for on Linux.",
            "this system does not tell which router is next".to_owned(),
        ),
    }
}

fn config(holder: &Holder, found: &Found, (relays, proxies): (Vec<RelayAddress>, Proxies)) -> NodeConfig {
    let cluster = found.known.trust.cluster().clone();
    let mut config =
        NodeConfig::new(holder.seed.clone(), holder.certificate.clone(), cluster, holder.root, relays);
    config.proxies = proxies;
    config
}

/// Connects as a private share would, and looks where the relay sees it.
async fn look_at_nat(holder: &Holder, found: &Found, way: (Vec<RelayAddress>, Proxies)) -> Option<Nat> {
    let mut config = config(holder, found, way);
    config.look_at_nat = true;
    let node = Node::start(config).ok()?;
    let mut status = node.watch_status();
    let known = timeout(PATIENCE, status.wait_for(|status| status.nat.is_some())).await;
    let nat = known.ok().and_then(Result::ok).and_then(|status| status.nat);
    node.shutdown(Duration::ZERO).await;
    nat
}

/// Why there is no session by one way.
enum Unreached {
    /// Nothing answers there, or nothing that is understood.
    Not(String),
    /// The relay has answered, and wants nothing of this key.
    Refused(Closed),
}

/// Connects as a share would, and says how far it is.
async fn reach(
    holder: &Holder,
    found: &Found,
    way: (Vec<RelayAddress>, Proxies),
    patience: Duration,
) -> Result<String, Unreached> {
    if way.0.is_empty() {
        return Err(Unreached::Not("no relay has an address for it".to_owned()));
    }
    let node = Node::start(config(holder, found, way)).map_err(|error| Unreached::Not(chain(&error)))?;
    let mut status = node.watch_status();
    let begun = Instant::now();
    let is_told = |status: &Status| status.relay.connected || status.relay.refused.is_some();
    let told = timeout(patience, status.wait_for(is_told)).await;
    let told = told.map(|told| told.map(|status| status.relay.clone()));
    let outcome = match told {
        Ok(Ok(RelayStatus { refused: Some(refusal), .. })) => Err(Unreached::Refused(refusal)),
        Ok(Ok(RelayStatus { address, .. })) => Ok(format!(
            "connected to {} in {} ms",
            address.as_deref().unwrap_or("it"),
            begun.elapsed().as_millis()
        )),
        Ok(Err(_)) => Err(Unreached::Not("the node stopped".to_owned())),
        Err(_) => Err(Unreached::Not(unreached(patience, node.status().relay.trouble))),
    };
    node.shutdown(Duration::ZERO).await;
    outcome
}

fn unreached(patience: Duration, trouble: Option<String>) -> String {
    let why = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
    format!("no connection within {} s{why}", patience.as_secs())
}

async fn target_answers(text: &str) -> Check {
    let target = match Target::parse(text) {
        Ok(target) => target,
        Err(error) => return Check::of("target", &Failure::from(error)),
    };
    match timeout(PATIENCE, target.probe()).await {
        Ok(Ok(())) => Check::ok("target", format!("{target} answers")),
        Ok(Err(error)) => {
            Check::failed("target", format!("{target}: {}", chain(&error)), Code::TargetUnreachable.help())
        }
        Err(_) => {
            Check::failed("target", format!("{target} does not answer"), Code::TargetUnreachable.help())
        }
    }
}

/// Shows them, and fails where one did: it `hinders`, which is the end of a sentence.
pub(crate) fn tell(checks: &[Check], hinders: &str, report: Report) -> Result<(), Failure> {
    let failed = checks.iter().filter(|check| check.state == State::Failed).count();
    report.object(&json!({"ok": failed == 0, "checks": checks}));
    for check in checks {
        let mark = match check.state {
            State::Ok => "ok     ",
            State::Warning => "warning",
            State::Failed => "FAILED ",
            State::Skipped => "-      ",
        };
        // Some of it is what a server says.
        let message = printable(&check.message);
        report.line(format!("{mark}  {}: {message}", report.styled(Style::Strong, check.name)));
        if !check.help.is_empty() {
            report.line(format!("         {}", printable(&check.help)));
        }
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::local(format!("something {hinders}"), "See above.")),
        count => Err(Failure::local(format!("something {hinders}, in {count} ways"), "See above.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_judged_by_the_time_it_has_left() {
        let state = |expires_at: u64| life(expires_at, 1_000_000).state;
        assert_eq!(state(999_999), State::Failed);
        assert_eq!(state(1_000_000 + 3600), State::Ok, "a child key is short by nature");
        assert_eq!(state(1_000_000 + 2 * 86_400), State::Warning);
        assert_eq!(state(1_000_000 + 30 * 86_400), State::Ok);
    }

    #[test]
    fn a_router_that_leads_nothing_is_no_failure() {
        let gateway = "192.168.1.1".parse().unwrap();
        let refuses = router(Router::Refuses { gateway, why: "no answer".to_owned() });
        assert_eq!(refuses.state, State::Skipped);
        assert!(refuses.message.contains("192.168.1.1") && refuses.help.contains("PCP"));
        let behind = router(Router::Behind { gateway, outside: "100.64.0.9".parse().unwrap() });
        assert_eq!(behind.state, State::Skipped);
        assert!(behind.message.contains("100.64.0.9") && !behind.help.contains("PCP"));
        assert_eq!(router(Router::Unknown).state, State::Skipped);
        let leads = router(Router::Leads { gateway, outside: "192.0.2.1:4000".parse().unwrap() });
        assert_eq!((leads.state, leads.message.contains("192.0.2.1")), (State::Ok, true));
        let public = router(Router::NotNeeded("203.0.113.7".parse().unwrap()));
        assert_eq!((public.state, public.message.contains("203.0.113.7")), (State::Ok, true));
    }

    #[test]
    fn one_way_to_the_relay_is_enough() {
        let no = || Err(Unreached::Not("no connection".to_owned()));
        assert_eq!(verdict("relay over udp", no(), true).state, State::Warning);
        let failed = verdict("relay over udp", no(), false);
        assert_eq!(failed.state, State::Failed);
        assert!(failed.help.contains("4001"));
        assert_eq!(verdict("relay over udp", Ok("connected".to_owned()), true).state, State::Ok);
        let refused = Err(Unreached::Refused(Closed {
            code: Some(Code::KeyRevoked),
            message: "revoked".to_owned(),
            help: "Mint another one.".to_owned(),
        }));
        assert_eq!(verdict("relay over udp", refused, true).state, State::Ok, "it is no firewall's fault");
        let https = verdict(HTTPS, no(), false);
        assert!(https.help.contains("443") && https.help.contains("HTTPS_PROXY"), "{https:?}");
        let why = unreached(PATIENCE, Some("the proxy p.test:3128 answers 407".to_owned()));
        assert_eq!(why, "no connection within 6 s: the proxy p.test:3128 answers 407");
        assert_eq!(unreached(PATIENCE, None), "no connection within 6 s");
    }
}
