//! A share from its start to its end, on a node that other shares may stand on too.

use std::future::pending;
use std::io::IsTerminal as _;
use std::time::Duration;

use mytunnel_keys::error::Code;
use mytunnel_keys::id::{TunnelKind, TunnelName};
use mytunnel_node::inspect::Inspector;
use mytunnel_node::{Closed, Share, ShareEvent, Target, TunnelSpec};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Kind;
use super::base::Base;
use super::board::{Board, Entry, Listed};
use super::end_to_end::{self, EndToEnd};
use super::events::Teller;
use super::gate::{Asked, Made};
use super::inspect::Wish;
use super::plan::{Naming, Plan};
use super::stands::Stands;
use super::trouble::{warn_if_down, warn_of_clock};
use super::voice::Voice;
use crate::context::Context;
use crate::failure::Failure;

/// How long the first connection may take. Once visitors have reached the share, it is never given up.
const FIRST_CONNECTION: Duration = Duration::from_secs(15);
/// Names that are tried where nobody asked for a certain one.
const NAMES: u8 = 8;

/// See the [module](self). What visitors have under way is cut when it is dropped.
pub(crate) struct Job {
    kind: Kind,
    target: Target,
    name: Naming,
    alone: bool,
    host_header: Option<http::HeaderValue>,
    deadline: Option<Instant>,
    /// What visitors are to be asked for at the relay, whenever that changes.
    asked: watch::Receiver<Option<Asked>>,
    stands: Stands,
    wish: Wish,
    inspector: Option<Inspector>,
    end_to_end_wish: Option<end_to_end::Wish>,
    /// Where TLS ends in this process.
    end_to_end: Option<EndToEnd>,
    /// It outlives the loop that follows it: giving it up would cut the requests that may still end.
    share: Option<Share>,
    teller: Teller,
    listed: Listed,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Job {
    /// A share to be; `voice` is made of its name. `asked` are the plan's gates, and those that take their place later.
    pub(crate) fn new(
        mut plan: Plan,
        base: &Base,
        (asked, board): (watch::Receiver<Option<Asked>>, &Board),
        voice: impl FnOnce(Option<&TunnelName>) -> Voice,
        context: &Context,
    ) -> Result<Self, Failure> {
        let name = plan.naming(&base.subject, &base.hosts, context)?;
        let target = plan.kind.described(&plan.target);
        let (first, is_here) = (name.candidate(0), base.embedded.is_some());
        let voice = voice(first.as_ref());
        Ok(Self {
            alone: plan.alone || name.is_one_of_many(),
            listed: board.list(Entry { name: first, target: target.clone(), ..Entry::default() }),
            teller: Teller::new(voice, target, is_here),
            kind: plan.kind,
            target: plan.target,
            name,
            host_header: plan.host_header,
            deadline: plan.lifetime.map(|life| Instant::now() + life),
            asked,
            stands: Stands::default(),
            wish: plan.wish,
            inspector: None,
            end_to_end_wish: plan.end_to_end.take(),
            end_to_end: None,
            share: None,
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
        })
    }

    /// In whose name it speaks.
    pub(crate) const fn voice(&self) -> &Voice {
        self.teller.voice()
    }

    /// Another one was before it, which left what stands: what is asked no more is taken away.
    pub(crate) fn after(self, stands: Stands) -> Self {
        Self { stands, ..self }
    }

    /// Runs until it is over, by its own time, because it was refused, or because `told` says that it is, and why. What
    /// visitors have under way goes on.
    pub(crate) async fn run(
        &mut self,
        base: &Base,
        told: impl Future<Output = &'static str>,
    ) -> Result<&'static str, Failure> {
        let outcome = match self.prepare(base).await {
            Ok(()) => tokio::select! {
                // Who is told to end changes nothing any more: another one may have begun.
                biased;
                why = told => Ok(why),
                outcome = self.until_closed(base) => outcome,
            },
            Err(failure) => Err(failure),
        };
        self.stop.cancel();
        if let Ok(why) = &outcome {
            self.teller.closed(None, why);
        }
        outcome
    }

    /// Lets requests under way end that this process takes itself.
    pub(crate) async fn drain(&self) {
        if let Some(end_to_end) = &self.end_to_end {
            end_to_end.drain().await;
        }
    }

    /// Ends what it has begun.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        self.tasks.shutdown().await;
    }

    /// Makes ready what visitors meet in this process.
    async fn prepare(&mut self, base: &Base) -> Result<(), Failure> {
        let voice = self.teller.voice().clone();
        // Whether anybody takes datagrams shows only in an answer.
        if !matches!(self.kind, Kind::Udp { .. } | Kind::Private { datagrams: true }) {
            let described = self.kind.described(&self.target);
            warn_if_down(self.target.clone(), described, voice.clone(), &mut self.tasks);
        }
        let Some(name) = self.name.candidate(0) else { return Ok(()) };
        let watching =
            self.wish.start(&self.plain(name.clone()), &voice, &self.stop, &mut self.tasks).await?;
        self.inspector = watching.as_ref().map(|watching| watching.inspector.clone());
        let is_end_to_end = self.end_to_end_wish.is_some();
        if let Some(wish) = self.end_to_end_wish.take() {
            if !base.is_secure {
                return Err(Failure::usage(
                    "the relay in this process was started without TLS",
                    "End this process and start it again: with --e2e from the start, its relay takes TLS too.",
                ));
            }
            let (domain, spec) = (base.domain.clone(), self.plain(name.clone()));
            self.end_to_end = Some(wish.open(domain, &spec, &voice, &self.stop, &mut self.tasks).await?);
        }
        let page = watching.and_then(|watching| watching.url);
        self.listed.put(|entry| {
            entry.page = page;
            entry.is_end_to_end = is_end_to_end;
        });
        Ok(())
    }

    /// Runs until the share is over, by its own time or because it was refused.
    async fn until_closed(&mut self, base: &Base) -> Result<&'static str, Failure> {
        let deadline = self.deadline;
        let over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = over => Ok("the time given with --expires is over"),
            failure = self.follow(base) => Err(match &base.if_revoked {
                Some(help) if failure.code() == Code::KeyRevoked => failure.with_help(help),
                Some(_) | None => base.skew.explain(failure),
            }),
        }
    }

    /// Follows the share; a name that is somebody else's is replaced by the next one where nobody asked for it.
    async fn follow(&mut self, base: &Base) -> Failure {
        let mut attempt = 0;
        // A person means it; what starts programs again by itself does not know that there was an end.
        let mut may_lift = self.deadline.is_none() && std::io::stdin().is_terminal();
        loop {
            let Some(name) = self.name.candidate(attempt) else {
                return Failure::new(Code::NameInvalid, "there is no name that this key may use");
            };
            self.listed.put(|entry| entry.name = Some(name.clone()));
            // What visitors are asked for stands before the tunnel does.
            match self.set_gates(base, &name).await {
                Ok(made) => self.teller.made(made),
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
            base.free(&name).await;
            let closed = match base.node.share(self.spec(name.clone())).await {
                Ok(made) => {
                    self.share = Some(made);
                    match self.events(base, &name).await {
                        Ok(closed) => closed,
                        Err(failure) => return failure,
                    }
                }
                Err(error) => return error.into(),
            };
            // Whoever shares it anew, without an end, has not meant the last one for ever.
            let was_ready = self.teller.was_ready();
            if closed.code == Some(Code::NotFound) && !was_ready && std::mem::take(&mut may_lift) {
                match self.lift_end(base, &name).await {
                    Ok(()) => {
                        let voice = self.teller.voice();
                        voice.note("The time that it was given the last time is over; it has no end now.");
                        continue;
                    }
                    Err(failure) => tracing::debug!(error = failure.message(), "the end stays"),
                }
            }
            attempt += 1;
            let next = closed.code == Some(Code::NameTaken) && !was_ready && attempt < NAMES;
            if !next || self.name.candidate(attempt).is_none() {
                self.teller.tell(&ShareEvent::Closed(closed.clone()));
                return closed.into();
            }
        }
    }

    async fn lift_end(&self, base: &Base, name: &TunnelName) -> Result<(), Failure> {
        match &base.setter {
            Some(setter) => setter.lift_end(name).await,
            None => Err(nobody_to_ask()),
        }
    }

    /// Sets them for a tunnel that is not open yet.
    async fn set_gates(&mut self, base: &Base, name: &TunnelName) -> Result<Made, Failure> {
        let made = self.lead(base, name, true).await?;
        Ok(self.end_to_end.as_ref().map_or(made, EndToEnd::made))
    }

    /// Visitors are asked for something else from now on. Where that cannot be set, the share ends: who meant to shut a door
    /// must not be left with an open one.
    async fn change_gates(&mut self, base: &Base, name: &TunnelName) -> Result<(), Failure> {
        let made = self.lead(base, name, false).await?;
        self.teller.gates_changed(&made);
        Ok(())
    }

    /// Leads from what stands at this name to what is asked for.
    async fn lead(&mut self, base: &Base, name: &TunnelName, opens: bool) -> Result<Made, Failure> {
        let asked = self.asked.borrow_and_update().clone();
        let stood = self.stands.of(name);
        if asked.is_none() && stood.is_empty() {
            return Ok(Made::default());
        }
        let setter = base.setter.as_ref().ok_or_else(nobody_to_ask)?;
        self.stands.begin(name, &stood, asked.as_ref());
        let voice = opens.then(|| self.teller.voice());
        let made = setter.change((&stood, asked.as_ref()), voice, (name, self.kind.tunnel())).await?;
        self.stands.confirm(name, asked.as_ref());
        Ok(made)
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
            Kind::Private { datagrams } => spec.datagrams = datagrams,
            Kind::Tls { proxy_protocol } => spec.proxy_protocol = proxy_protocol,
        }
        spec
    }

    /// Tells every event up to the end of the share.
    async fn events(&mut self, base: &Base, name: &TunnelName) -> Result<Closed, Failure> {
        let patience = Instant::now() + FIRST_CONNECTION;
        let mut trouble = "no answer".to_owned();
        loop {
            let Some(share) = self.share.as_mut() else { return Err(stopped()) };
            let event = if self.teller.was_ready() {
                tokio::select! {
                    event = share.next() => event,
                    () = changed(&mut self.asked) => {
                        self.change_gates(base, name).await?;
                        continue;
                    }
                }
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
                        end_to_end.up(ready, self.teller.voice()).await?;
                        end_to_end::web(&mut ready.urls);
                    }
                    if let ShareEvent::Reconnecting { reason, .. } = &event {
                        trouble.clone_from(reason);
                    }
                    if matches!(event, ShareEvent::Ready(_)) && !self.teller.was_ready() {
                        warn_of_clock(&base.node, self.teller.voice());
                    }
                    self.teller.tell(&event);
                    if let Some(url) = self.teller.shown() {
                        self.listed.put(|entry| entry.url = Some(url.to_owned()));
                    }
                }
                None => return Err(stopped()),
            }
        }
    }
}

/// Waits until something else is asked for; for ever where nothing ever will be.
async fn changed(asked: &mut watch::Receiver<Option<Asked>>) {
    if asked.changed().await.is_err() {
        pending().await
    }
}

fn stopped() -> Failure {
    Failure::new(Code::Internal, "the node stopped")
}

fn nobody_to_ask() -> Failure {
    Failure::new(Code::CoordinatorUnreachable, "there is nobody to set gates at")
}

fn unreachable(trouble: &str) -> Failure {
    Failure::new(Code::RelayUnreachable, format!("cannot reach the relay: {trouble}"))
}
