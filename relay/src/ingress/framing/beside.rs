//! For fuzzers: the second pair of eyes beside the first. Both read the same bytes, and what hyper serves is what the scanner
//! has counted; a message that only one of them sees is a request that was smuggled.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use http::{Method, Request, Response, Version, header::CONNECTION, header::UPGRADE};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Chunk, Position, Scanner, State};
use crate::ingress::{limits::Limits, visitor};

/// Messages, as one of the two reads them.
#[derive(Debug, Default)]
struct Read {
    heads: usize,
    /// How long the body of each was that has come to its end.
    whole: Vec<u64>,
    /// Whether all of them leave the connection as it was.
    is_plain: bool,
}

/// Reads bytes of a visitor both ways. Returns whether both have read at least one message to its end.
#[doc(hidden)]
pub fn beside_hyper(data: &[u8]) -> bool {
    let limits = Limits::default();
    let (ours, seen) = by_scanner(data, limits.head_bytes);
    let theirs = by_hyper(&data[..seen], &limits);
    assert!(theirs.heads <= ours.heads, "hyper serves what was not counted: {theirs:?} {ours:?}");
    assert!(ours.whole.starts_with(&theirs.whole), "bodies end elsewhere: {theirs:?} {ours:?}");
    if theirs.is_plain {
        assert_eq!((theirs.heads, &theirs.whole), (ours.heads, &ours.whole), "hyper misses what was counted");
    }
    !theirs.whole.is_empty()
}

/// What the scanner makes of them, and how many it has seen before it objects.
fn by_scanner(data: &[u8], max_line: usize) -> (Read, usize) {
    let (mut scanner, mut read) = (Scanner::new(max_line), Read::default());
    let mut length = 0;
    for (at, byte) in data.iter().enumerate() {
        let (heads, was_in_body) = (scanner.heads(), scanner.position() == Position::Body);
        let is_content = matches!(scanner.state, State::Length(_) | State::Chunked(Chunk::Data(_)));
        if scanner.scan(&[*byte]).is_err() {
            return (read, at);
        }
        length += u64::from(is_content);
        if scanner.heads() > heads {
            (read.heads, length) = (read.heads + 1, 0);
        }
        if scanner.position() != Position::Body && (was_in_body || scanner.heads() > heads) {
            read.whole.push(length);
        }
    }
    (read, data.len())
}

fn by_hyper(data: &[u8], limits: &Limits) -> Read {
    let read = Arc::new(Mutex::new(Read { is_plain: true, ..Read::default() }));
    let service = service_fn({
        let read = Arc::clone(&read);
        move |request: Request<Incoming>| serve(Arc::clone(&read), request)
    });
    let (over, woken) = (Arc::default(), Arc::new(Woken::default()));
    let io = TokioIo::new(Wire { left: data.to_vec(), over: Arc::clone(&over) });
    let mut connection = pin!(visitor::http1(limits).serve_connection(io, service));
    let waker = Waker::from(Arc::clone(&woken));
    loop {
        match connection.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(ended) => {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                read.is_plain = false;
                drop(ended);
                return std::mem::take(&mut read);
            }
            Poll::Pending if woken.0.swap(false, Ordering::SeqCst) => {}
            Poll::Pending => {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                // Stopped for another reason than that it waits for more.
                read.is_plain &= over.load(Ordering::SeqCst);
                return std::mem::take(&mut read);
            }
        }
    }
}

async fn serve(
    read: Arc<Mutex<Read>>,
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    {
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        read.heads += 1;
        let headers = request.headers();
        read.is_plain &= request.version() == Version::HTTP_11
            && request.method() != Method::CONNECT
            && !headers.contains_key(CONNECTION)
            && !headers.contains_key(UPGRADE);
    }
    let (mut body, mut length) = (request.into_body(), 0);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => length += frame.data_ref().map_or(0, |data| data.len() as u64),
            Err(_) => std::future::pending().await,
        }
    }
    read.lock().unwrap_or_else(PoisonError::into_inner).whole.push(length);
    Ok(Response::new(Empty::new()))
}

/// Gives its bytes, then nothing for ever; takes whatever is written.
struct Wire {
    left: Vec<u8>,
    over: Arc<AtomicBool>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            self.over.store(true, Ordering::SeqCst);
            return Poll::Pending;
        }
        let count = self.left.len().min(to.remaining());
        to.put_slice(&self.left[..count]);
        self.left.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
