//! One exchange over HTTP/2: a stream that brings a request and takes its answer, interim ones before (RFC 9113 §8.1).

use std::{
    error::Error,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use super::{Counts, received::Received, socket::Socket};
use crate::ingress::{
    body::{BodyError, ResponseBody, VisitorBody},
    failure::ERROR_HEADER,
    framing,
    proxy::Proxy,
    visit::Visit,
    visitor::End,
};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response,
    header::{CONTENT_LENGTH, DATE, EXPECT},
};
use http_body::{Body as _, Frame};

/// Why nothing more goes out on a stream. It is reset, if it was not the visitor who did that: nobody takes a part for the
/// whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the visitor has reset the stream: {0}")]
    Reset(Reason),
    #[error(transparent)]
    Connection(#[from] h2::Error),
    #[error("the answer's body failed: {0}")]
    Body(BodyError),
    #[error("the stream takes nothing more")]
    Closed,
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        tracing::debug!(%broken, "an exchange did not come to its end");
        Self::Aborted
    }
}

/// Answers one request; `counts` is told whether a tunnel did. If a WebSocket was opened, it is what is left to do.
pub(super) async fn serve(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    proxy: Proxy,
    visit: Arc<Visit>,
    counts: Arc<Counts>,
) -> Result<Option<Socket>, Broken> {
    let (head, received) = request.into_parts();
    let (body, socket) = if head.method == Method::CONNECT {
        // What follows is no body (RFC 9113 §8.5).
        (VisitorBody::Empty, Some(received))
    } else {
        let waits = head.headers.contains_key(EXPECT).then(|| Arc::clone(&visit));
        (VisitorBody::Http2(Received::new(received, length(&head.headers), waits)), None)
    };
    let response = {
        let mut answering = pin!(proxy.serve(Request::from_parts(head, body)));
        poll_fn(|cx| {
            let answered = answering.as_mut().poll(cx);
            if let Poll::Ready(reason) = respond.poll_reset(cx) {
                return Poll::Ready(Err(Broken::Reset(reason?)));
            }
            for head in visit.interim().take() {
                if let Err(error) = respond.send_informational(head) {
                    tracing::debug!(%error, "an interim answer is left out");
                }
            }
            answered.map(Ok)
        })
        .await?
    };
    counts.answered(!response.headers().contains_key(ERROR_HEADER));
    let (mut head, body) = response.into_parts();
    // A server behind may have no clock (RFC 9110 §6.6.1).
    head.headers.entry(DATE).or_insert_with(now);
    // Of a refused one nothing more is wanted.
    match socket.filter(|_| head.status.is_success()) {
        Some(received) => {
            head.headers.remove(CONTENT_LENGTH);
            let stream = respond.send_response(Response::from_parts(head, ()), false)?;
            Ok(Some(Socket::new(stream, received)))
        }
        None => answer(respond, head, body).await.map(|()| None),
    }
}

async fn answer(
    mut respond: SendResponse<Bytes>,
    mut head: http::response::Parts,
    body: ResponseBody,
) -> Result<(), Broken> {
    if body.is_end_stream() {
        respond.send_response(Response::from_parts(head, ()), true)?;
        return Ok(());
    }
    if let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    let mut stream = respond.send_response(Response::from_parts(head, ()), false)?;
    let poured = pour(body, &mut stream).await;
    if let Err(Broken::Body(error)) = &poured {
        stream.send_reset(reason(&**error));
    }
    poured
}

/// Why a body broke off: as its server said, if that speaks HTTP/2 as well.
fn reason(error: &(dyn Error + 'static)) -> Reason {
    let (mut said, mut source) = (None, Some(error));
    while let Some(error) = source {
        said = said.or_else(|| error.downcast_ref::<h2::Error>()?.reason());
        source = error.source();
    }
    said.filter(|reason| *reason != Reason::NO_ERROR).unwrap_or(Reason::INTERNAL_ERROR)
}

/// Hands `body` over, piece by piece: the next is asked for once the visitor has taken all of the one before.
async fn pour(body: ResponseBody, stream: &mut SendStream<Bytes>) -> Result<(), Broken> {
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| match is_reset(stream, cx) {
            Ok(()) => body.as_mut().poll_frame(cx).map(Ok),
            Err(broken) => Poll::Ready(Err(broken)),
        });
        let Some(frame) = frame.await? else {
            stream.send_data(Bytes::new(), true)?;
            return Ok(());
        };
        match frame.map_err(Broken::Body)?.into_data().map_err(Frame::into_trailers) {
            Ok(piece) => {
                let is_last = body.is_end_stream();
                if !piece.is_empty() {
                    poll_fn(|cx| poll_room(stream, cx)).await?;
                }
                stream.send_data(piece, is_last)?;
                if is_last {
                    return Ok(());
                }
            }
            Err(Ok(trailers)) => {
                stream.send_trailers(trailers)?;
                return Ok(());
            }
            // There is no third kind of frame.
            Err(Err(_)) => {}
        }
    }
}

/// Ready once all that was handed over has been taken, and the visitor's windows have room for more. It is not asked for
/// before there is something to send: room that is held and not used is missing elsewhere on the connection.
pub(super) fn poll_room(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
    is_reset(stream, cx)?;
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(room) => drop(room?),
            None => return Poll::Ready(Err(Broken::Closed)),
        }
    }
    Poll::Ready(Ok(()))
}

/// Whether the visitor wants no more of it; wakes when that happens.
fn is_reset(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Result<(), Broken> {
    match stream.poll_reset(cx) {
        Poll::Ready(reason) => Err(Broken::Reset(reason?)),
        Poll::Pending => Ok(()),
    }
}

/// How long a body is said to be.
fn length(headers: &HeaderMap) -> Option<u64> {
    let said = headers.get(CONTENT_LENGTH)?;
    framing::is_plain(said.as_bytes()).then(|| said.to_str().ok()?.parse().ok()).flatten()
}

fn now() -> HeaderValue {
    HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())).unwrap_or(HeaderValue::from_static(""))
}
