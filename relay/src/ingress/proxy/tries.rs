//! The tries to bring a request to a node and its answer back: on a kept pipe, on a fresh one, at another node of the name,
//! and at one that comes back.

use std::{pin::pin, sync::Arc};

use futures::future::{Either, select};
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use mytunnel_keys::wire::{MAX_BACKENDS, PipeStatus};
use tokio::time::Instant;

use super::{
    super::{
        body::{ResponseBody, VisitorBody},
        exchange::{Exchange, Turn, Unconnected},
        failure::Failure,
        forward::{self, Forward, Protocol, Spare},
        host::{self, Destination},
        loops,
        seats::NoSeat,
        upstream::Lost,
    },
    Proxy, Refused, Shared, live, silence,
};
use crate::{
    gate::{self, Passed},
    route::{PipeError, Tunnel},
};

/// How far one try to send a request came.
#[expect(clippy::large_enum_variant, reason = "moved once; a box would cost every request an allocation")]
enum Attempt {
    Answered(Response<Incoming>, Exchange),
    /// The pooled pipe was dead: a fresh one may do.
    Stale,
    /// The node left before anything was sent.
    Gone,
    /// The node's server has got nothing: another node may do. If there is none, this is the answer.
    Refused(Failure),
}

/// Tries to send one request: enough for every node of its name, and for one that comes back meanwhile.
const TRIES: usize = 2 * MAX_BACKENDS;

impl Proxy {
    /// Makes a visitor's request one for the node of `tunnel`, if there is to be another one now.
    pub(super) fn prepare(
        &self,
        tunnel: &Arc<Tunnel>,
        mut request: Request<VisitorBody>,
        protocol: Protocol,
        (passed, turn): (Passed, &Turn),
    ) -> Result<Forward, Refused> {
        let own = &self.shared.domain;
        if loops::is_loop(request.headers(), own) {
            return Err(Failure::Loop.into());
        }
        let now = gate::unix();
        if !self.shared.rates.admit_at(tunnel.name(), now) {
            return Err(Failure::TunnelHasty.into());
        }
        if !tunnel.seats().begin(self.shared.limits.requests_per_second_per_key, now) {
            return Err(Failure::KeyHasty.into());
        }
        if !self.visit.may_upload(request.body().size_hint().lower()) {
            return Err(Failure::BodyTooLarge.into());
        }
        let domain = self.domain_of(&request);
        passed.strip(request.headers_mut());
        if let Some(trace) = turn.trace() {
            trace.lead_on(request.headers_mut(), tunnel);
        }
        loops::mark(request.headers_mut(), own);
        let forward = forward::prepare(request, protocol, tunnel, &self.visit, turn.visitor(), passed);
        Ok(Forward { domain, ..forward })
    }

    /// The domain of a tenant's own that a request came by.
    fn domain_of(&self, request: &Request<VisitorBody>) -> Option<Box<str>> {
        let authority = host::requested(request.uri(), request.headers()).ok()?;
        let Shared { domain, console, .. } = &*self.shared;
        let own = host::destination(&authority.host, domain, console) == Destination::Nowhere;
        own.then(|| Box::from(&*authority.host))
    }

    /// The domain that a request came by may lead elsewhere by now. To be asked once the request has its place, with which
    /// it is cut when that happens later.
    fn check_domain(&self, forward: &Forward, tunnel: &Tunnel) -> Result<(), Failure> {
        let Some(host) = &forward.domain else { return Ok(()) };
        let Shared { routes, domain, console, .. } = &*self.shared;
        match routes.destination(host, domain, console) {
            Destination::Tunnel(name) if *name == *tunnel.name().as_str() => Ok(()),
            Destination::Tunnel(_) => Err(Failure::Away),
            Destination::Console | Destination::Nowhere => Err(Failure::UnknownName),
        }
    }

    pub(super) async fn forward(
        &self,
        mut tunnel: Arc<Tunnel>,
        mut forward: Forward,
        turn: Turn,
    ) -> Result<Response<ResponseBody>, Refused> {
        // Now that it is let in: whom nobody lets in takes no trial of a node that may be well again.
        if let Some(other) = self.shared.routes.settle(&tunnel) {
            forward.lead_to(&other);
            tunnel = other;
        }
        let (mut asked, mut patience) = (Vec::new(), None);
        let mut fresh = false;
        for _ in 0..TRIES {
            let failure = match self.attempt(&tunnel, &mut forward, (&asked, fresh)).await? {
                Attempt::Answered(response, exchange) => {
                    if let Some(trace) = turn.trace() {
                        trace.node_answered(response.status());
                    }
                    return Ok(self.answer(response, exchange, &mut forward, turn).await?);
                }
                Attempt::Stale => {
                    fresh = true;
                    continue;
                }
                Attempt::Gone => None,
                Attempt::Refused(failure) => Some(failure),
            };
            asked.push(Arc::clone(&tunnel));
            tunnel = match (self.shared.routes.another(&asked), failure) {
                (Some(other), _) => other,
                (None, Some(failure)) => return Err(failure.into()),
                (None, None) => {
                    let (now, limits) = (Instant::now(), &self.shared.limits);
                    let until = *patience.get_or_insert(now + limits.away_patience);
                    let left = until.checked_duration_since(now).ok_or(Failure::Away)?;
                    live(Box::pin(self.shared.routes.wait_other(&tunnel, left)).await)?
                }
            };
            fresh = false;
            forward.lead_to(&tunnel);
        }
        Err(Failure::Away.into())
    }

    async fn attempt(
        &self,
        tunnel: &Arc<Tunnel>,
        forward: &mut Forward,
        (asked, fresh): (&[Arc<Tunnel>], bool),
    ) -> Result<Attempt, Refused> {
        let limits = &self.shared.limits;
        // A node that has no room is not to rest, as one is that refuses: room comes back with every answer.
        let mut exchange = match Exchange::enter(tunnel, &self.visit, limits) {
            Ok(exchange) => exchange,
            Err(NoSeat::Closed) => return Ok(Attempt::Gone),
            Err(NoSeat::Full) => return Ok(Attempt::Refused(Failure::TunnelBusy)),
            Err(NoSeat::KeyFull) => return Ok(Attempt::Refused(Failure::KeyBusy)),
        };
        // Other gates may stand there by now, also because it is another registration of the name.
        forward.passed.check(tunnel)?;
        self.check_domain(forward, tunnel)?;
        if !tunnel.traffic().ready().await {
            return Err(Failure::Spent.into());
        }
        if self.stands_still(tunnel, asked).await {
            return Ok(Attempt::Refused(Failure::Broken));
        }
        match exchange.connect(fresh, forward.speech, limits).await {
            Ok(()) => {}
            Err(Unconnected::Pipe(PipeError::Gone)) => {
                tunnel.note_lost();
                forward.passed.check(tunnel)?;
                return Ok(Attempt::Gone);
            }
            Err(Unconnected::Lost(Lost::Cut)) => {
                forward.passed.check(tunnel)?;
                return Ok(Attempt::Gone);
            }
            Err(Unconnected::Pipe(PipeError::Busy)) => return Ok(Attempt::Refused(Failure::TunnelBusy)),
            Err(Unconnected::Lost(Lost::Expired)) => return Err(Failure::Timeout.into()),
            Err(Unconnected::Pipe(PipeError::Open(_)) | Unconnected::Lost(_)) => {
                tunnel.note_refused();
                return Ok(Attempt::Refused(Failure::Broken));
            }
        }
        self.send(tunnel, forward, (asked, exchange)).await
    }

    /// Whether the node, of which that was found out before, still stands still while others are there. It is asked before
    /// anything is sent.
    async fn stands_still(&self, tunnel: &Arc<Tunnel>, asked: &[Arc<Tunnel>]) -> bool {
        tunnel.is_silent()
            && tunnel.is_accompanied()
            && !Box::pin(silence::is_back(tunnel)).await
            && self.shared.routes.has_another(asked, tunnel)
    }

    /// Waits for the answer; none when the node stands still, others are there, and the request may be sent to one of them.
    async fn answer_of(
        tunnel: &Arc<Tunnel>,
        sent: impl Future<Output = Result<Response<Incoming>, Lost>>,
        is_movable: bool,
        may_move: impl Fn() -> bool,
    ) -> Option<Result<Response<Incoming>, Lost>> {
        if !tunnel.is_accompanied() {
            return Some(sent.await);
        }
        let given_up = Box::pin(silence::gives_up(tunnel, is_movable, may_move));
        match select(pin!(sent), given_up).await {
            Either::Left((answered, _)) => Some(answered),
            Either::Right(_) => None,
        }
    }

    /// Sends the request on the pipe of `exchange`.
    async fn send(
        &self,
        tunnel: &Arc<Tunnel>,
        forward: &mut Forward,
        (asked, mut exchange): (&[Arc<Tunnel>], Exchange),
    ) -> Result<Attempt, Refused> {
        let Some(mut request) = forward.request.take() else { return Err(Failure::Broken.into()) };
        let pooled = exchange.is_pooled();
        let spare = match exchange.accepted() {
            Some(accepted) => Some(Spare::until(accepted, &mut request)),
            None => (pooled && forward.repeatable).then(|| Spare::of(&request)),
        };
        let is_movable = forward.has_second_try && spare.is_some();
        let may_move = || self.shared.routes.has_another(asked, tunnel);
        match Self::answer_of(tunnel, exchange.send(*request), is_movable, may_move).await {
            Some(Ok(response)) => {
                tunnel.note_answered();
                Ok(Attempt::Answered(response, exchange))
            }
            Some(Err(lost)) => self.after(lost, (tunnel, forward), (exchange, pooled), spare),
            None => {
                forward.has_second_try = false;
                forward.request = spare.and_then(Spare::again);
                forward.passed.check(tunnel)?;
                exchange.discard_pool();
                Ok(Attempt::Refused(Failure::Broken))
            }
        }
    }

    /// What becomes of a request that got no answer; `pooled` tells that its pipe had been kept.
    fn after(
        &self,
        lost: Lost,
        (tunnel, forward): (&Arc<Tunnel>, &mut Forward),
        (mut exchange, pooled): (Exchange, bool),
        spare: Option<Spare>,
    ) -> Result<Attempt, Refused> {
        match lost {
            Lost::Unsent(request, status) => {
                forward.request = match spare {
                    Some(spare) => spare.again(),
                    None => Some(request),
                };
                if let Some(status) = status {
                    return Ok(passed_over(tunnel, status));
                }
            }
            Lost::Refused(status) => {
                let attempt = passed_over(tunnel, status);
                forward.request = spare.and_then(Spare::again);
                forward.passed.check(tunnel)?;
                return match forward.request {
                    Some(_) => Ok(attempt),
                    None => Err(self.failure(&Lost::Refused(status)).into()),
                };
            }
            // A pipe that is kept may have died before the request.
            Lost::Broken if pooled && forward.repeatable && spare.is_some() => {
                forward.request = spare.and_then(Spare::again);
            }
            // One of several nodes may have died in the middle; what its server dies of must not reach all of the others.
            Lost::Broken if spare.is_some() && std::mem::take(&mut forward.has_second_try) => {
                forward.request = spare.and_then(Spare::again);
                forward.passed.check(tunnel)?;
                return Ok(match tunnel.is_closed() {
                    true => Attempt::Gone,
                    false => Attempt::Refused(Failure::Broken),
                });
            }
            // Its node has left meanwhile, and the table heard of it first.
            Lost::Cut
                if spare.is_some() && tunnel.is_closed() && std::mem::take(&mut forward.has_second_try) =>
            {
                forward.request = spare.and_then(Spare::again);
                forward.passed.check(tunnel)?;
                return Ok(Attempt::Gone);
            }
            lost @ (Lost::Broken | Lost::Cut | Lost::Expired) => {
                forward.passed.check(tunnel)?;
                return Err(self.failure(&lost).into());
            }
        }
        exchange.discard_pool();
        match (pooled, tunnel.is_closed()) {
            (_, true) => Ok(Attempt::Gone),
            (true, false) => Ok(Attempt::Stale),
            (false, false) => {
                tunnel.note_refused();
                Ok(Attempt::Refused(Failure::Broken))
            }
        }
    }

    fn failure(&self, lost: &Lost) -> Failure {
        match lost {
            Lost::Refused(PipeStatus::TargetUnreachable) => Failure::TargetRefused,
            Lost::Refused(PipeStatus::UnknownTunnel | PipeStatus::Connected) => Failure::Away,
            Lost::Expired if self.visit.upload().is_uploading() => Failure::RequestTimeout,
            Lost::Expired => Failure::Timeout,
            Lost::Broken if self.visit.upload().is_too_large() => Failure::BodyTooLarge,
            Lost::Broken if self.visit.upload().is_broken() || self.visit.is_objected() => {
                Failure::BadRequest
            }
            Lost::Broken | Lost::Cut | Lost::Unsent(..) => Failure::Broken,
        }
    }
}

/// The node has no use for the pipe, and its server has got nothing.
fn passed_over(tunnel: &Tunnel, status: PipeStatus) -> Attempt {
    tunnel.note_refused();
    match status {
        PipeStatus::TargetUnreachable => Attempt::Refused(Failure::TargetRefused),
        PipeStatus::UnknownTunnel | PipeStatus::Connected => Attempt::Gone,
    }
}
