//! Bodies as they pass through: frames are handed on one by one, uncopied, and only as fast as the other side takes
//! them. One enum per direction, so that the hot path boxes nothing.

use std::{
    error::Error,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    exchange::{Exchange, Turn},
    head, locked,
    visit::Visit,
};
use crate::{route::Tunnel, traffic::Pause};

/// What a body can fail with.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// A body was cut off. The peer's connection is aborted, so that it can't take the part for the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body ended before its end")]
pub(crate) struct Truncated;

/// From the visitor to the node.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    Upload(Upload),
    /// Until the tunnel's server has taken the connection.
    Held(Held),
}

impl RequestBody {
    /// Holds an upload back until `accepted`: it can be taken back and sent elsewhere before.
    pub(crate) fn hold(&mut self, accepted: &Arc<Granted>) -> HeldUpload {
        let held = HeldUpload::default();
        if let Self::Upload(upload) = mem::replace(self, Self::Empty) {
            let hint = upload.size_hint();
            *locked(&held.0) = Some(upload);
            *self = Self::Held(Held { upload: held.clone(), accepted: Arc::clone(accepted), hint });
        }
        held
    }

    /// It goes to this tunnel from here on.
    pub(crate) fn lead_to(&mut self, tunnel: &Arc<Tunnel>) {
        if let Self::Upload(upload) = self {
            upload.tunnel = Arc::clone(tunnel);
        }
    }

    fn release(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Truncated>> {
        if let Self::Held(held) = self {
            ready!(held.accepted.poll(cx));
            *self = Self::Upload(held.upload.take().ok_or(Truncated)?);
        }
        Poll::Ready(Ok(()))
    }
}

/// A request body of which nothing is sent before the tunnel's server has taken the connection.
#[derive(Debug)]
pub(crate) struct Held {
    upload: HeldUpload,
    accepted: Arc<Granted>,
    hint: SizeHint,
}

/// An upload that was held back, for as long as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldUpload(Arc<Mutex<Option<Upload>>>);

impl HeldUpload {
    pub(crate) fn take(&self) -> Option<Upload> {
        locked(&self.0).take()
    }
}

/// A request body that has bytes to come.
#[derive(Debug)]
pub(crate) struct Upload {
    incoming: Incoming,
    visit: Arc<Visit>,
    tunnel: Arc<Tunnel>,
    /// Set when the visitor waits for permission to send (RFC 9110 §10.1.1).
    permission: Option<Permission>,
    pause: Pause,
    received: u64,
}

impl Upload {
    pub(crate) fn new(
        incoming: Incoming,
        visit: Arc<Visit>,
        tunnel: Arc<Tunnel>,
        permission: Option<Permission>,
    ) -> Self {
        visit.begin_upload();
        Self { incoming, visit, tunnel, permission, pause: Pause::default(), received: 0 }
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.visit.upload().end();
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Err(error) = ready!(this.release(cx)) {
            return Poll::Ready(Some(Err(error.into())));
        }
        let Self::Upload(upload) = this else { return Poll::Ready(None) };
        if let Some(permission) = &mut upload.permission {
            ready!(permission.poll(cx));
            upload.permission = None;
        }
        ready!(upload.tunnel.traffic().poll_ready(&mut upload.pause, cx));
        let Poll::Ready(frame) = Pin::new(&mut upload.incoming).poll_frame(cx) else {
            upload.visit.await_upload();
            return Poll::Pending;
        };
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => 0,
        };
        upload.visit.uploaded(bytes);
        upload.received = upload.received.saturating_add(bytes);
        if !upload.visit.may_upload(upload.received) {
            upload.visit.upload().set_too_large();
            return Poll::Ready(Some(Err(Truncated.into())));
        }
        if upload.visit.is_objected() {
            return Poll::Ready(Some(Err(Truncated.into())));
        }
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                upload.tunnel.traffic().count_in(bytes);
                Some(Ok(match frame.into_trailers() {
                    Ok(mut trailers) => {
                        head::trailers_to_node(&mut trailers);
                        Frame::trailers(trailers)
                    }
                    Err(frame) => frame,
                }))
            }
            Some(Err(error)) => {
                upload.visit.upload().set_broken();
                Some(Err(error.into()))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Upload(upload) => upload.incoming.is_end_stream(),
            Self::Held(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Upload(upload) => upload.size_hint(),
            Self::Held(held) => held.hint,
        }
    }
}

/// Holds a request body back until the tunnel's server says 100, or for a second: not every server does, and the
/// visitor's own patience is about as long.
#[derive(Debug)]
pub(crate) struct Permission {
    granted: Arc<Granted>,
    patience: Pin<Box<Sleep>>,
}

#[derive(Debug, Default)]
pub(crate) struct Granted {
    granted: AtomicBool,
    waker: AtomicWaker,
}

const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

impl Granted {
    pub(crate) fn grant(&self) {
        self.granted.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.granted.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Permission {
    pub(crate) fn new(granted: Arc<Granted>) -> Self {
        Self { granted, patience: Box::pin(tokio::time::sleep(CONTINUE_PATIENCE)) }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.granted.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.patience.as_mut().poll(cx)
    }
}

/// From the tunnel, the console or the relay itself to the visitor.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are the large one; a box would cost each an allocation"
)]
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// A page of the relay; `None` once it is sent.
    Page(Option<Bytes>),
    Console {
        body: BoxBody<Bytes, BodyError>,
        turn: Turn,
    },
    Download(Download),
}

/// A response body that has bytes to come. Its places and its pipe are given back when it ends or is dropped.
#[derive(Debug)]
pub(crate) struct Download {
    incoming: Incoming,
    exchange: Exchange,
    turn: Turn,
    /// What had come by the time the head was passed on.
    first: Option<Frame<Bytes>>,
    /// Why it ends, once that is known.
    broken: Option<BodyError>,
    /// The end of the session by which the visitor sees it.
    ends: Option<Pin<Box<Sleep>>>,
    pause: Pause,
}

impl Download {
    /// Looks once for the body's first bytes. A server that went away right after its head is found out here, while
    /// there is still an answer to give in its place. `None` stands for a body that is over already.
    pub(crate) async fn begin(
        mut incoming: Incoming,
        mut exchange: Exchange,
        turn: Turn,
        ends: Option<Instant>,
    ) -> Result<Option<Self>, Truncated> {
        let first = poll_fn(|cx| Poll::Ready(exchange.poll_frame(&mut incoming, cx))).await;
        let first = match first {
            Poll::Ready(Some(Ok(frame))) => Some(frame),
            Poll::Ready(Some(Err(_))) => return Err(Truncated),
            Poll::Ready(None) if exchange.tunnel().is_closed() => return Err(Truncated),
            Poll::Ready(None) => return Ok(None),
            Poll::Pending => None,
        };
        let ends = ends.map(|at| Box::pin(sleep_until(at)));
        Ok(Some(Self { incoming, exchange, turn, first, broken: None, ends, pause: Pause::default() }))
    }

    /// The next frame. An error comes one turn late: hyper drops with it what it has not written yet, and the visitor
    /// would see neither the head nor the part that has come.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let next = ready!(self.poll_next(cx));
        if let Some(Err(error)) = next {
            self.broken = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(next)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Some(Err(Truncated.into())));
        }
        let tunnel = self.exchange.tunnel();
        if tunnel.traffic().poll_ready(&mut self.pause, cx).is_pending() {
            return if tunnel.is_closed() { Poll::Ready(Some(Err(Truncated.into()))) } else { Poll::Pending };
        }
        let next = match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => self.exchange.poll_frame(&mut self.incoming, cx),
        };
        match next {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.exchange.tunnel().traffic().count_out(bytes);
                self.turn.count(bytes);
                Poll::Ready(Some(Ok(frame)))
            }
            // A body that ends with its pipe may have been cut off by whoever closed the tunnel.
            Poll::Ready(None) if self.exchange.tunnel().is_closed() => {
                Poll::Ready(Some(Err(Truncated.into())))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.broken.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.first.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        let mut hint = self.incoming.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(hint.lower().saturating_add(held));
        hint
    }
}

impl ResponseBody {
    /// With other exchanges on the connection, a visitor that takes nothing more of this one shows by nobody asking for
    /// the next piece.
    fn handed_over(&self, bytes: u64) {
        if let Some(visit) = self.multiplexed() {
            visit.take(bytes);
            visit.stall();
        }
    }

    fn taken_again(&self) {
        if let Some(visit) = self.multiplexed() {
            visit.take(0);
        }
    }

    fn multiplexed(&self) -> Option<&Visit> {
        let turn = match self {
            Self::Page(_) => return None,
            Self::Console { turn, .. } => turn,
            Self::Download(download) => &download.turn,
        };
        Some(turn.visit()).filter(|visit| visit.is_multiplexed())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.taken_again();
        let frame = match this {
            Self::Page(page) => Poll::Ready(page.take().map(|page| Ok(Frame::data(page)))),
            Self::Console { body, turn } => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame {
                    turn.count(frame.data_ref().map_or(0, |data| data.len() as u64));
                }
                Poll::Ready(frame)
            }
            Self::Download(download) => download.poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            this.handed_over(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        // With other exchanges on the connection, hyper is to come back for the end: it does so once the visitor takes all
        // that was handed over, and until then the exchange has its places and can be seen to stall.
        match self {
            Self::Page(page) => page.is_none(),
            Self::Console { body, turn } => !turn.visit().is_multiplexed() && body.is_end_stream(),
            Self::Download(download) => !download.turn.visit().is_multiplexed() && download.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Page(page) => SizeHint::with_exact(page.as_ref().map_or(0, |page| page.len() as u64)),
            Self::Console { body, .. } => body.size_hint(),
            Self::Download(download) => download.size_hint(),
        }
    }
}
