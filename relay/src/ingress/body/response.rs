//! From the relay to a visitor: what a tunnel or the console answers, and the relay's own pages. One enum, so that the hot path
//! boxes nothing.
//!
//! Where other exchanges share the connection, an answer has its places until the visitor has taken it: hyper asks for each piece
//! only when there is room for it, and how that is used here says whether the visitor stalls.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{BodyError, Truncated};
use crate::{
    ingress::{
        exchange::{Exchange, Turn},
        head,
        visit::Visit,
    },
    traffic::Pause,
};

/// From the tunnel, the console or the relay itself to the visitor.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    content: Content,
    /// The end of a piece, see [`Self::keep_last`].
    last: Option<Bytes>,
    /// Whether its end was a good one, once it has come.
    ended: Option<bool>,
}

#[derive(Debug)]
enum Content {
    /// A page of the relay; `None` once it is sent. It has a place where the visitor may leave it untaken beside others.
    Page(Option<Bytes>, Option<Turn>),
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
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    head::trailers_to_visitor(trailers);
                }
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
    pub(crate) const fn empty() -> Self {
        Self::of(Content::Page(None, None))
    }

    /// A page of the relay.
    pub(crate) const fn page(page: Bytes) -> Self {
        Self::of(Content::Page(Some(page), None))
    }

    pub(crate) const fn console(body: BoxBody<Bytes, BodyError>, turn: Turn) -> Self {
        Self::of(Content::Console { body, turn })
    }

    pub(crate) const fn download(download: Download) -> Self {
        Self::of(Content::Download(download))
    }

    const fn of(content: Content) -> Self {
        Self { content, last: None, ended: None }
    }

    /// Bytes of the page, if it is one.
    pub(crate) fn page_length(&self) -> Option<u64> {
        match &self.content {
            Content::Page(page, _) => page.as_ref().map(|page| page.len() as u64),
            Content::Console { .. } | Content::Download(_) => None,
        }
    }

    /// Has a page keep the place that it is `given` until the visitor has taken it. Without one its head has to do.
    pub(crate) fn hold(&mut self, given: impl FnOnce() -> Option<Turn>) {
        if let Content::Page(page @ Some(_), turn) = &mut self.content {
            *turn = given();
            if turn.is_none() {
                *page = None;
            }
        }
    }

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
        self.turn().map(Turn::visit).filter(|visit| visit.is_multiplexed())
    }

    fn turn(&self) -> Option<&Turn> {
        match &self.content {
            Content::Page(_, turn) => turn.as_ref(),
            Content::Console { turn, .. } => Some(turn),
            Content::Download(download) => Some(&download.turn),
        }
    }

    /// With other exchanges on the connection, hyper hands over a whole piece as soon as the visitor has room for one byte of
    /// it, and comes back for the next when there is room for all of it. What may be the last one, and is worth it, comes in two.
    fn keep_last(&mut self, piece: &mut Bytes) {
        if self.multiplexed().is_none() || piece.len() < 2 {
            return;
        }
        // Nor is it the last by its length where trailers follow.
        let may_be_last = piece.len() >= WORTH_A_PIECE && self.content.size_hint().exact().unwrap_or(0) == 0;
        if may_be_last || self.content.is_over() {
            self.last = Some(piece.split_off(piece.len() - 1));
        }
    }
}

/// What a visitor may leave untaken of an exchange that has no place any more: less than this.
const WORTH_A_PIECE: usize = 1024;

impl Content {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Page(page, _) => Poll::Ready(page.take().map(|page| Ok(Frame::data(page)))),
            Self::Console { body, turn } => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame {
                    turn.count(frame.data_ref().map_or(0, |data| data.len() as u64));
                }
                Poll::Ready(frame)
            }
            Self::Download(download) => download.poll_frame(cx),
        }
    }

    /// Whether all of it was handed over.
    fn is_over(&self) -> bool {
        match self {
            Self::Page(page, _) => page.is_none(),
            Self::Console { body, .. } => body.is_end_stream(),
            Self::Download(download) => download.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Page(page, _) => SizeHint::with_exact(page.as_ref().map_or(0, |page| page.len() as u64)),
            Self::Console { body, .. } => body.size_hint(),
            Self::Download(download) => download.size_hint(),
        }
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
        let mut frame = match this.last.take() {
            Some(last) => Poll::Ready(Some(Ok(Frame::data(last)))),
            None => this.content.poll_frame(cx),
        };
        match &frame {
            Poll::Ready(None) => this.ended = Some(true),
            Poll::Ready(Some(Err(_))) => this.ended = Some(false),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        if let Poll::Ready(Some(Ok(frame))) = &mut frame {
            if let Some(piece) = frame.data_mut() {
                this.keep_last(piece);
            }
            this.handed_over(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        // With other exchanges on the connection, hyper is to come back for the end: it does so once the visitor takes all
        // that was handed over, and until then the exchange has its places and can be seen to stall.
        self.multiplexed().is_none() && self.content.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked for before anything was handed over.
        self.content.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // Of a length that was told, nobody asks for the end.
        let is_whole = self.ended.unwrap_or_else(|| self.last.is_none() && self.content.is_over());
        if let Some(turn) = self.turn().filter(|_| !is_whole) {
            turn.note_cut();
        }
    }
}
