//! A share from its start to its end.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mytunnel_keys::error::Code;
use mytunnel_keys::id::{Cluster, TunnelKind, TunnelName};
use mytunnel_node::inspect::Inspector;
use mytunnel_node::{
    Closed, DialError, Node, Share, ShareError, ShareEvent, StartError, Status, Target, TunnelSpec,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Kind;
use super::end_to_end::{self, EndToEnd};
use super::events::Teller;
use super::gate::{self, At, Gates, Made, Setter};
use super::inspect::Wish;
use super::local;
use super::plan::{Naming, Place, Plan};
use crate::clock::Skew;
use crate::context::Context;
use crate::control::serve_status;
use crate::failure::{Failure, chain};
use crate::report::Report;
use crate::runtime::{GRACE, StopSignals};

/// How long the first connection may take. Once visitors have reached the share, it is never given up.
const FIRST_CONNECTION: Duration = Duration::from_secs(15);
/// Names that are tried where nobody asked for a certain one.
const NAMES: u8 = 8;
/// Time to find out whether anything listens at the target.
const PROBE: Duration = Duration::from_secs(2);

/// How a share ended when it was not refused.
enum End {
    /// Ctrl-C or SIGTERM.
    Stopped,
    /// Its time, as given on the command line, is over.
    TimeUp,
}

pub(super) async fn run(plan: Plan, context: &Context) -> Result<(), Failure> {
    let mut signals = StopSignals::install()?;
    let (embedded, config, skew, (gates, at)) = match plan.place {
        Place::Relay { node, skew, gate } => {
            let at = gate.map(|at| Arc::new(Mutex::new(*at)));
            let gates = plan.asked.zip(at.clone()).map(|(asked, at)| {
                let setter = Setter::Session(at);
                Gates { asked, setter }
            });
            (None, *node, skew, (gates, at))
        }
        Place::Here => {
            context.report.note("No relay is set up: running one here, for visitors on this machine.");
            let (embedded, config) = local::start(plan.end_to_end.is_some()).await?;
            let (coordinator, device) = (Arc::clone(&embedded.coordinator), config.seed.public());
            let setter = Setter::Here { coordinator, device };
            let gates = plan.asked.map(|asked| Gates { asked, setter });
            (Some(embedded), config, Skew::UNKNOWN, (gates, None))
        }
    };
    let domain = config.cluster.clone();
    let outcome = match Node::start(config) {
        Ok(node) => {
            let job = Job {
                kind: plan.kind,
                target: plan.target,
                name: plan.name,
                alone: plan.alone,
                host_header: plan.host_header,
                deadline: plan.lifetime.map(|life| Instant::now() + life),
                skew,
                embedded: embedded.is_some(),
                if_revoked: plan.if_revoked,
                gates,
                at,
                wish: plan.wish,
                inspector: None,
                end_to_end: None,
            };
            let end_to_end = plan.end_to_end.map(|wish| (wish, domain));
            job.serve(node, end_to_end, &mut signals, context).await
        }
        Err(error) => Err(error.into()),
    };
    if let Some(embedded) = embedded {
        signals.leave(GRACE, context.report, embedded.shutdown()).await;
    }
    outcome
}

struct Job {
    kind: Kind,
    target: Target,
    name: Naming,
    alone: bool,
    host_header: Option<http::HeaderValue>,
    deadline: Option<Instant>,
    skew: Skew,
    /// The relay is in this process.
    embedded: bool,
    if_revoked: Option<String>,
    gates: Option<Gates>,
    /// With whom to take an earlier end away.
    at: Option<Arc<Mutex<At>>>,
    wish: Wish,
    inspector: Option<Inspector>,
    /// Where TLS ends in this process.
    end_to_end: Option<EndToEnd>,
}

impl Job {
    async fn serve(
        mut self,
        node: Node,
        end_to_end: Option<(end_to_end::Wish, Cluster)>,
        signals: &mut StopSignals,
        context: &Context,
    ) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        let stop = CancellationToken::new();
        let target = self.kind.described(&self.target);
        // Whether anybody takes datagrams shows only in an answer.
        if !matches!(self.kind, Kind::Udp { .. }) {
            warn_if_down(self.target.clone(), target.clone(), context.report, &mut tasks);
        }
        let watching = match self.name.candidate(0) {
            Some(name) => self.wish.start(&self.plain(name), context.report, &stop, &mut tasks).await?,
            None => None,
        };
        self.inspector = watching.as_ref().map(|watching| watching.inspector.clone());
        if let (Some((wish, domain)), Some(name)) = (end_to_end, self.name.candidate(0)) {
            let spec = self.plain(name);
            self.end_to_end = Some(wish.open(domain, &spec, context.report, &stop, &mut tasks).await?);
        }
        let (status, page) = (node.watch_status(), watching.and_then(|watching| watching.url));
        let is_web = self.end_to_end.is_some();
        let state = move || described(&status.borrow(), page.as_deref(), is_web);
        serve_status(context, state, &stop, &mut tasks);
        let mut teller = Teller::new(context.report, target, self.embedded);
        // The share outlives the loop that follows it: giving it up would cut the requests that may still end.
        let mut share = None;
        let outcome = tokio::select! {
            () = signals.next() => Ok(End::Stopped),
            outcome = self.until_closed(&node, &mut share, &mut teller) => outcome,
        };
        stop.cancel();
        if let Ok(end) = &outcome {
            teller.closed(
                None,
                match end {
                    End::Stopped => "stopped",
                    End::TimeUp => "the time given with --expires is over",
                },
            );
        }
        let leaving = async {
            if let Some(end_to_end) = &self.end_to_end {
                end_to_end.drain().await;
            }
            node.shutdown(GRACE).await;
        };
        signals.leave(2 * GRACE, context.report, leaving).await;
        tasks.shutdown().await;
        outcome.map(drop)
    }

    /// Runs until the share is over, by its own time or because it was refused.
    async fn until_closed(
        &self,
        node: &Node,
        share: &mut Option<Share>,
        teller: &mut Teller,
    ) -> Result<End, Failure> {
        let over = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => Ok(End::TimeUp),
            failure = self.follow(node, share, teller) => Err(match &self.if_revoked {
                Some(help) if failure.code() == Code::KeyRevoked => failure.with_help(help),
                Some(_) | None => self.skew.explain(failure),
            }),
        }
    }

    /// Follows the share; a name that is somebody else's is replaced by the next one where nobody asked for it.
    async fn follow(&self, node: &Node, share: &mut Option<Share>, teller: &mut Teller) -> Failure {
        let mut attempt = 0;
        // A person means it; what starts programs again by itself does not know that there was an end.
        let mut may_lift = self.deadline.is_none() && std::io::stdin().is_terminal();
        loop {
            let Some(name) = self.name.candidate(attempt) else {
                return Failure::new(Code::NameInvalid, "there is no name that this key may use");
            };
            let spec = self.spec(name.clone());
            // What visitors are asked for stands before the tunnel does.
            match self.set_gates(&spec.name, teller.report()).await {
                Ok(made) => teller.made(made),
                Err(failure) => {
                    attempt += 1;
                    if failure.code() == Code::NameTaken
                        && attempt < NAMES
                        && self.name.candidate(attempt).is_some()
                    {
                        continue;
                    }
                    return failure;
                }
            }
            let closed = match node.share(spec).await {
                Ok(made) => match self.events(share.insert(made), node, teller).await {
                    Ok(closed) => closed,
                    Err(failure) => return failure,
                },
                Err(error) => return error.into(),
            };
            // Whoever shares it anew, without an end, has not meant the last one for ever.
            if closed.code == Some(Code::NotFound) && !teller.was_ready() && std::mem::take(&mut may_lift) {
                match self.lift_end(name).await {
                    Ok(()) => {
                        teller
                            .report()
                            .note("The time that it was given the last time is over; it has no end now.");
                        continue;
                    }
                    Err(failure) => tracing::debug!(error = failure.message(), "the end stays"),
                }
            }
            attempt += 1;
            let next = closed.code == Some(Code::NameTaken) && !teller.was_ready() && attempt < NAMES;
            if !next || self.name.candidate(attempt).is_none() {
                teller.tell(&ShareEvent::Closed(closed.clone()));
                return closed.into();
            }
        }
    }

    async fn lift_end(&self, name: TunnelName) -> Result<(), Failure> {
        match &self.at {
            Some(at) => gate::lift_end(Arc::clone(at), name).await,
            None => Err(Failure::new(Code::NotFound, "there is nobody to ask")),
        }
    }

    async fn set_gates(&self, name: &TunnelName, report: Report) -> Result<Made, Failure> {
        if let Some(gates) = &self.gates {
            let made = gates.set(name, self.kind.tunnel(), report).await?;
            if self.end_to_end.is_none() {
                return Ok(made);
            }
        }
        Ok(self.end_to_end.as_ref().map(EndToEnd::made).unwrap_or_default())
    }

    /// What is behind it, as visitors reach that once nothing is encrypted any more.
    fn plain(&self, name: TunnelName) -> TunnelSpec {
        let kind = if self.kind == Kind::EndToEnd { TunnelKind::Http } else { self.kind.tunnel() };
        let mut spec = TunnelSpec::new(name, kind, self.target.clone());
        spec.host_header.clone_from(&self.host_header);
        spec.inspector.clone_from(&self.inspector);
        spec
    }

    /// What is shared, under this name.
    fn spec(&self, name: TunnelName) -> TunnelSpec {
        let mut spec = TunnelSpec { kind: self.kind.tunnel(), ..self.plain(name) };
        spec.alone = self.alone;
        match self.kind {
            Kind::Http => {}
            Kind::EndToEnd => spec.terminal = self.end_to_end.as_ref().map(EndToEnd::terminal),
            Kind::Tcp { port, proxy_protocol } => {
                spec.port = port;
                spec.proxy_protocol = proxy_protocol;
            }
            Kind::Udp { port } => spec.port = port,
            Kind::Tls { proxy_protocol } => spec.proxy_protocol = proxy_protocol,
        }
        spec
    }

    /// Tells every event up to the end of the share.
    async fn events(&self, share: &mut Share, node: &Node, teller: &mut Teller) -> Result<Closed, Failure> {
        let patience = Instant::now() + FIRST_CONNECTION;
        let mut trouble = "no answer".to_owned();
        loop {
            let event = if teller.was_ready() {
                share.next().await
            } else {
                match timeout_at(patience, share.next()).await {
                    Ok(event) => event,
                    Err(_) => return Err(unreachable(&trouble)),
                }
            };
            match event {
                Some(ShareEvent::Closed(closed)) => return Ok(closed),
                Some(mut event) => {
                    if let (ShareEvent::Ready(ready), Some(end_to_end)) = (&mut event, &self.end_to_end) {
                        end_to_end.up(ready, teller.report()).await?;
                        end_to_end::web(&mut ready.urls);
                    }
                    if let ShareEvent::Reconnecting { reason, .. } = &event {
                        trouble.clone_from(reason);
                    }
                    if matches!(event, ShareEvent::Ready(_)) && !teller.was_ready() {
                        warn_of_clock(node, teller);
                    }
                    teller.tell(&event);
                }
                None => return Err(Failure::new(Code::Internal, "the node stopped")),
            }
        }
    }
}

fn unreachable(trouble: &str) -> Failure {
    Failure::new(Code::RelayUnreachable, format!("cannot reach the relay: {trouble}"))
}

fn warn_of_clock(node: &Node, teller: &Teller) {
    if let Some(complaint) = Skew::of_offset(node.status().relay.clock_offset).complaint() {
        teller.warn(&format!("{complaint}; set it (`timedatectl set-ntp true`), or keys will be refused"));
    }
}

/// Whether anything is there yet is worth knowing, but no reason to wait.
fn warn_if_down(target: Target, name: String, report: Report, tasks: &mut JoinSet<()>) {
    tasks.spawn(async move {
        let outcome = tokio::time::timeout(PROBE, target.probe()).await;
        let why = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => why_down(&error),
            Err(_) => "no answer".to_owned(),
        };
        report.warn(format_args!(
            "nothing answers at {name} yet ({why}); visitors are turned away until it does"
        ));
    });
}

/// In as few words as will do.
fn why_down(error: &DialError) -> String {
    let refused = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::ConnectionRefused;
    if matches!(error, DialError::Connect(cause) if refused(cause)) {
        return "connection refused".to_owned();
    }
    chain(error)
}

fn described(status: &Status, page: Option<&str>, is_web: bool) -> Value {
    let rtt_ms = status.relay.rtt.map(|rtt| (rtt.as_secs_f64() * 1e6).round() / 1e3);
    let tunnels: Vec<Value> = status
        .tunnels
        .iter()
        .map(|tunnel| {
            json!({
                "id": tunnel.id, "name": tunnel.name, "kind": tunnel.kind,
                "url": tunnel.urls.iter().find(|url| !is_web || end_to_end::is_web(url)),
                "target": tunnel.target, "online": tunnel.online, "path": tunnel.path.to_string(),
                "rtt_ms": rtt_ms, "expires_at": tunnel.expires_at, "backends": tunnel.backends, "pid": std::process::id(),
            })
        })
        .collect();
    let peers: Vec<Value> = status
        .relay
        .peer
        .iter()
        .map(|peer| json!({"id": peer, "path": "relayed", "rtt_ms": rtt_ms, "reason": "visitors come in through the relay"}))
        .collect();
    json!({
        "tunnels": tunnels, "peers": peers,
        "inspect": page,
        "relay": {"addr": status.relay.address, "connected": status.relay.connected},
    })
}

impl From<Closed> for Failure {
    fn from(closed: Closed) -> Self {
        let failure = Self::new(closed.code.unwrap_or(Code::Internal), closed.message);
        // Our own words first; the relay's where it says more than the code does.
        match closed.code {
            Some(code) if closed.help.is_empty() || closed.help == code.help() => failure,
            Some(_) | None => failure.with_help(closed.help),
        }
    }
}

impl From<ShareError> for Failure {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other refusal is told in its own words")]
    fn from(error: ShareError) -> Self {
        match error {
            ShareError::Refused(closed) => closed.into(),
            error => Self::new(error.code(), chain(&error)),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(error.code(), chain(&error))
    }
}
