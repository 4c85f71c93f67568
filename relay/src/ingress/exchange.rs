//! One request in flight: its places at the tunnel and at the visitor's address, and the pipe it uses. All are given
//! back when it is dropped, however it ends.

use std::{
    mem,
    net::IpAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{Either, ready},
};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};

use super::{
    Shared,
    body::{Granted, RequestBody},
    deadline::Stage,
    head::{self, Visitor},
    limits::{AddressSeat, Limits},
    pool::{Offer, PATIENCE},
    seats::{Bounds, NoSeat, Seat},
    upstream::{Answered, Lost, Speech, Upstream, guard},
    visit::Visit,
};
use crate::{
    access_log::Entry,
    route::{Pipe, PipeError, Tunnel},
    traces::Trace,
};

/// A place for one request at the visitor's address. Held until the response is handed over completely; the
/// connection counts as idle from then on.
#[derive(Debug)]
pub(crate) struct Turn {
    visit: Arc<Visit>,
    entered: bool,
    sender: Option<Box<Sender>>,
    entry: Option<Arc<Entry>>,
}

/// Whose request it is, where a proxy has the connection.
#[derive(Debug)]
struct Sender {
    visitor: Visitor,
    seat: Option<AddressSeat>,
}

impl Turn {
    pub(super) fn take(
        visit: &Arc<Visit>,
        headers: &HeaderMap,
        shared: &Shared,
        entry: Option<Arc<Entry>>,
    ) -> Self {
        let limit = shared.limits.requests_per_address;
        let sender = visit.visitor().behind(&shared.proxies, headers).map(|visitor| {
            let seat = shared.senders.connect(visitor.ip(), limit);
            Box::new(Sender { visitor, seat })
        });
        let entered = sender.is_none() && visit.address().enter(limit);
        let turn = Self { entered, visit: Arc::clone(visit), sender, entry };
        if let Some(entry) = &turn.entry {
            entry.set_visitor(turn.visitor().ip());
        }
        turn
    }

    /// A place for a page of the relay's own, where the visitor may leave it untaken beside others; `sender` is whose request
    /// it answers, if a proxy has the connection. Such pages have as many places again as requests, so that there is one for
    /// the page that says that there is no place.
    pub(super) fn of_page(visit: &Arc<Visit>, sender: Option<IpAddr>, shared: &Shared) -> Option<Self> {
        let limit = shared.limits.requests_per_address.saturating_mul(2);
        let sender = match sender {
            Some(ip) => {
                let seat = Some(shared.senders.connect(ip, limit)?);
                Some(Box::new(Sender { visitor: Visitor::new(ip, visit.visitor().is_secure()), seat }))
            }
            None => None,
        };
        let entered = sender.is_none();
        if entered && !visit.address().enter(limit) {
            return None;
        }
        visit.enter(Stage::Responding);
        Some(Self { entered, visit: Arc::clone(visit), sender, entry: None })
    }

    /// Whose request it is, if a proxy has the connection.
    pub(super) fn sender(&self) -> Option<IpAddr> {
        self.sender.as_ref().map(|sender| sender.visitor.ip())
    }

    /// More of the answer's body went out.
    pub(crate) fn count(&self, bytes: u64) {
        if let Some(entry) = &self.entry {
            entry.count(bytes);
        }
    }

    /// The answer's body does not go out to its end.
    pub(crate) fn note_cut(&self) {
        if let Some(entry) = &self.entry {
            entry.cut();
        }
    }

    /// Its trace, if it has one.
    pub(crate) fn trace(&self) -> Option<&Trace> {
        self.entry.as_ref()?.trace()
    }

    /// Whose request it is.
    pub(crate) fn visitor(&self) -> &Visitor {
        self.sender.as_ref().map_or(self.visit.visitor(), |sender| &sender.visitor)
    }

    pub(crate) fn visit(&self) -> &Visit {
        &self.visit
    }

    /// Whether the address has a place for it.
    pub(crate) fn is_entered(&self) -> bool {
        self.sender.as_ref().map_or(self.entered, |sender| sender.seat.is_some())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.visit.leave(self.entered, self.sender.take().and_then(|sender| sender.seat));
        self.visit.enter(Stage::Idle);
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Exchange {
    tunnel: Arc<Tunnel>,
    visit: Arc<Visit>,
    seat: Option<Seat>,
    upstream: Option<Box<Upstream>>,
    /// Its pipe, or the one that it opens, is among the busy ones.
    busy: bool,
    keep: usize,
    pooled: bool,
}

impl Exchange {
    /// Takes a place at the tunnel. There is no pipe yet.
    pub(crate) fn enter(tunnel: &Arc<Tunnel>, visit: &Arc<Visit>, limits: &Limits) -> Result<Self, NoSeat> {
        visit.turn_to_another();
        let seat = tunnel.seats().enter(visit, Bounds::of_requests(limits))?;
        Ok(Self {
            tunnel: Arc::clone(tunnel),
            visit: Arc::clone(visit),
            seat: Some(seat),
            upstream: None,
            busy: false,
            keep: limits.idle_pipes_per_tunnel,
            pooled: false,
        })
    }

    pub(crate) fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }

    /// Whether the pipe in use has carried requests before.
    pub(crate) fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// Where it is told that the server has taken the connection, of a fresh pipe of a tunnel that others stand beside.
    pub(crate) fn accepted(&self) -> Option<&Arc<Granted>> {
        self.upstream.as_ref()?.accepted().filter(|_| !self.pooled)
    }

    /// Takes a pipe: a kept one if `fresh` does not forbid it, else a new one.
    pub(crate) async fn connect(
        &mut self,
        fresh: bool,
        speech: Speech,
        limits: &Limits,
    ) -> Result<(), Unconnected> {
        self.upstream = match fresh || speech == Speech::Http2 {
            true => {
                self.tunnel.pool().enter();
                None
            }
            false => kept(&self.tunnel, &self.visit).await?,
        };
        self.busy = true;
        self.pooled = self.upstream.is_some();
        if self.upstream.is_none() {
            let lane = self.tunnel.source().take_lane();
            let is_lane = lane.is_some();
            let pipe = match lane {
                Some(lane) => lane,
                None => open(&self.tunnel, &self.visit).await?,
            };
            // Where there are others to turn to, it is worth to know.
            let accepted = self.tunnel.is_accompanied().then(Arc::default);
            let pipe = Answered::new(pipe, self.tunnel.life()).accepting(accepted);
            let mut opening = pin!(Upstream::new((pipe, is_lane), speech, limits));
            let opened = guard(&self.visit, |cx| opening.as_mut().poll(cx)).await?;
            self.upstream = Some(opened.map_err(|_| Lost::Broken)?);
        }
        Ok(())
    }

    /// Sends `request` on the pipe and waits for the head of the response. (No `async fn`: that would keep the request in the
    /// future beside the one of the pipe, which has it.)
    pub(crate) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, Lost>> {
        let traffic = self.tunnel.traffic();
        let sent = match &mut self.upstream {
            Some(upstream) => {
                let head = head::length(request.headers()) + request.uri().path().len() as u64;
                traffic.count_request(head);
                Either::Left(upstream.send(request, &self.visit))
            }
            None => Either::Right(ready(Err(Lost::Unsent(Box::new(request), None)))),
        };
        sent.inspect(|answered| {
            if let Ok(response) = answered {
                traffic.count_response(head::length(response.headers()));
            }
        })
    }

    /// The next frame of the response's body.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(None) };
        upstream.poll_frame(body, cx)
    }

    /// Takes the pipe out after a 101. The places stay taken until the exchange is dropped.
    pub(crate) async fn take_pipe(&mut self) -> Option<(Answered, Bytes)> {
        let upstream = self.upstream.take()?;
        self.leave();
        upstream.into_pipe().await
    }

    /// The pipe was found dead; those kept beside it are older.
    pub(crate) fn discard_pool(&mut self) {
        self.upstream = None;
        self.tunnel.pool().clear();
        self.leave();
    }

    fn leave(&mut self) {
        if mem::take(&mut self.busy) {
            self.tunnel.pool().leave();
        }
    }
}

/// A kept pipe, or one that comes back in time.
async fn kept(tunnel: &Tunnel, visit: &Visit) -> Result<Option<Box<Upstream>>, Lost> {
    let mut waiting = match tunnel.pool().take() {
        Offer::Kept(upstream) => return Ok(Some(upstream)),
        Offer::Open => return Ok(None),
        Offer::Wait(waiting) => waiting,
    };
    let mut late = pin!(sleep(PATIENCE));
    let given = guard(visit, |cx| match waiting.poll(cx) {
        Poll::Ready(given) => Poll::Ready(Some(given)),
        Poll::Pending => late.as_mut().poll(cx).map(|()| None),
    });
    Ok(given.await?.unwrap_or_else(|| waiting.give_up()))
}

async fn open(tunnel: &Tunnel, visit: &Visit) -> Result<Pipe, Unconnected> {
    let mut opening = tunnel.source().open();
    Ok(guard(visit, |cx| opening.as_mut().poll(cx)).await??)
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(mut upstream) = self.upstream.take()
            && (upstream.is_lane() || !self.tunnel.source().has_lane())
            && upstream.park()
        {
            self.busy = false;
            self.tunnel.pool().put(upstream, Instant::now(), self.keep);
        }
        self.leave();
        if let Some(seat) = mem::take(&mut self.seat) {
            self.tunnel.seats().leave(seat);
        }
    }
}

/// Why there is no pipe.
#[derive(Debug)]
pub(crate) enum Unconnected {
    Pipe(PipeError),
    Lost(Lost),
}

impl From<PipeError> for Unconnected {
    fn from(error: PipeError) -> Self {
        Self::Pipe(error)
    }
}

impl From<Lost> for Unconnected {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}
