//! The body of a request over HTTP/2.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::ingress::visit::Visit;

/// What a visitor sends on a stream. Its window opens again with every piece that is taken.
#[derive(Debug)]
pub struct Received {
    stream: RecvStream,
    /// Bytes to come, where the head says how many.
    length: Option<u64>,
    data_is_over: bool,
    /// Who is to be told to go on, once somebody wants the body (RFC 9110 §10.1.1).
    waits: Option<Arc<Visit>>,
}

impl Received {
    pub(super) fn new(stream: RecvStream, length: Option<u64>, waits: Option<Arc<Visit>>) -> Self {
        Self { stream, length, data_is_over: false, waits }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(visit) = self.waits.take() {
            visit.go_on();
        }
        if !self.data_is_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) => {
                    self.stream.flow_control().release_capacity(piece.len())?;
                    if let Some(length) = &mut self.length {
                        *length = length.saturating_sub(piece.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_is_over = true,
            }
        }
        let trailers: Option<HeaderMap> = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length),
            None if self.is_end_stream() => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}
