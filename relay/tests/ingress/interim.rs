//! What a server says ahead of its answer, and who hears it.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, future::Either};
use h2::client::ResponseFuture;
use http::{Method, Request, Response, StatusCode};
use mytunnel_relay::ingress::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::{
    house::{House, Origin, read_chunk, read_head, within},
    http2_visitor::{Http2, all, error, get, request, text},
};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload; as=style\r\nSet-Cookie: a=b\r\n\
                     X-MyTunnel-Error: NONE\r\nKeep-Alive: timeout=5\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";

/// A server that says `first` and takes its time with the rest until it is told to go on.
fn thoughtful(first: &'static str, rest: &'static str) -> (Arc<Origin>, mpsc::Sender<()>) {
    let (go_on, told) = mpsc::channel(1);
    let told = Arc::new(Mutex::new(told));
    let origin = Origin::new(move |_, pipe| {
        let told = Arc::clone(&told);
        async move {
            let mut pipe = BufReader::new(pipe);
            while read_head(&mut pipe).await.is_ok() {
                pipe.write_all(first.as_bytes()).await.unwrap();
                told.lock().await.recv().await;
                pipe.write_all(rest.as_bytes()).await.unwrap();
                if rest.is_empty() {
                    return;
                }
            }
        }
    });
    (origin, go_on)
}

/// The next interim answer.
async fn interim(response: &mut ResponseFuture) -> Response<()> {
    within(poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap()
}

#[tokio::test]
async fn early_hints_reach_a_visitor_of_http_2_while_the_server_is_at_work() {
    let (origin, go_on) = thoughtful(HINTS, ANSWER);
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = Http2::plain(&house).await;
    // Also on a pipe that is kept.
    for _ in 0..2 {
        let (mut response, _) = visitor.open(get("/"), true).await;
        let hints = interim(&mut response).await;
        assert_eq!(hints.status(), StatusCode::EARLY_HINTS);
        let fields: Vec<_> = hints.headers().iter().map(|(name, value)| (name.as_str(), value)).collect();
        assert_eq!(fields, [("link", &"</a.css>; rel=preload; as=style".parse().unwrap())]);
        assert!((&mut response).now_or_never().is_none(), "the answer is not there yet");
        go_on.send(()).await.unwrap();
        assert_eq!(text(within(response).await.unwrap()).await.body(), "done");
    }
    house.close().await;
}

#[tokio::test]
async fn who_promises_and_then_dies_is_told_of_with_a_page() {
    let (origin, go_on) = thoughtful(HINTS, "");
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = Http2::plain(&house).await;
    let (mut response, _) = visitor.open(request(Method::POST, "/"), true).await;
    assert_eq!(interim(&mut response).await.status(), StatusCode::EARLY_HINTS);
    go_on.send(()).await.unwrap();
    let page = text(within(response).await.unwrap()).await;
    assert_eq!(error(&page), (502, Some("TARGET_UNREACHABLE")));
    house.close().await;
}

/// Clients of HTTP/1.1 that know of no interim answers but 100 take one for the answer (RFC 8297 §3).
#[tokio::test]
async fn early_hints_go_no_further_than_the_relay_where_the_visitor_speaks_http_1() {
    let (origin, go_on) = thoughtful(HINTS, ANSWER);
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    go_on.send(()).await.unwrap();
    visitor.send("GET / HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n").await;
    let reply = visitor.reply().await;
    assert!(reply.head.starts_with("HTTP/1.1 200"), "{reply:?}");
    assert_eq!(reply.text(), "done");
    house.close().await;
}

/// An upload whose visitor waits to be told to go on.
fn waiting() -> Request<()> {
    let mut upload = request(Method::POST, "/");
    upload.headers_mut().insert("expect", "100-continue".parse().unwrap());
    upload
}

#[tokio::test]
async fn who_waits_to_be_told_to_go_on_over_http_2_is_told_when_the_server_says_so() {
    let (told, go_on) = mpsc::channel::<()>(1);
    let go_on = Arc::new(Mutex::new(go_on));
    let origin = Origin::new(move |_, pipe| {
        let go_on = Arc::clone(&go_on);
        async move {
            let mut pipe = BufReader::new(pipe);
            let head = read_head(&mut pipe).await.unwrap();
            assert!(head.to_ascii_lowercase().contains("expect: 100-continue\r\n"), "{head}");
            go_on.lock().await.recv().await;
            pipe.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            assert_eq!(read_chunk(&mut pipe).await.unwrap().unwrap(), b"whole");
            assert_eq!(read_chunk(&mut pipe).await.unwrap(), None);
            pipe.write_all(ANSWER.as_bytes()).await.unwrap();
        }
    });
    let patience = Duration::from_secs(3600);
    let house = House::limited(Limits { continue_patience: patience, ..Limits::default() }).await;
    house.share("demo", &origin);
    let mut visitor = Http2::plain(&house).await;
    let (mut response, mut body) = visitor.open(waiting(), false).await;
    // Nothing is said before the server has: not within two turns of the connection.
    visitor.settled().await;
    assert!(poll_fn(|cx| response.poll_informational(cx)).now_or_never().is_none());
    told.send(()).await.unwrap();
    assert_eq!(interim(&mut response).await.status(), StatusCode::CONTINUE);
    body.send_data(Bytes::from_static(b"whole"), true).unwrap();
    let mut told_again = false;
    let response = within(poll_fn(|cx| {
        told_again |= matches!(response.poll_informational(cx), Poll::Ready(Some(_)));
        response.poll_unpin(cx)
    }));
    assert_eq!(text(response.await.unwrap()).await.body(), "done");
    assert!(!told_again);
    house.close().await;
}

/// A server of gRPC is spoken to in HTTP/2, by a task of its own.
#[tokio::test]
async fn who_waits_to_be_told_to_go_on_with_a_call_of_grpc_is_told_at_once() {
    let origin = Origin::new(|_, pipe| async move {
        let mut connection = h2::server::handshake(pipe).await.unwrap();
        let mut calls = JoinSet::new();
        while let Some(Ok((call, mut respond))) = connection.accept().await {
            assert!(!call.headers().contains_key("expect"));
            calls.spawn(async move {
                assert_eq!(all(call.into_body()).await.unwrap().0, b"whole");
                respond.send_response(Response::new(()), true).unwrap();
            });
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = Http2::plain(&house).await;
    let mut call = waiting();
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let (mut response, mut body) = visitor.open(call, false).await;
    assert_eq!(interim(&mut response).await.status(), StatusCode::CONTINUE);
    body.send_data(Bytes::from_static(b"whole"), true).unwrap();
    assert_eq!(within(response).await.unwrap().status(), StatusCode::OK);
    house.close().await;
}

#[tokio::test]
async fn an_expectation_that_nobody_knows_is_refused_over_http_2_too() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    let mut visitor = Http2::plain(&house).await;
    let mut upload = request(Method::POST, "/");
    upload.headers_mut().insert("expect", "a miracle".parse().unwrap());
    assert_eq!(error(&visitor.ask(upload).await), (400, Some("BAD_REQUEST")));
    house.close().await;
}

/// What a visitor takes back in the middle must not look whole to the server.
#[tokio::test]
async fn an_upload_over_http_2_that_is_taken_back_is_not_completed() {
    let (seen, mut sees) = mpsc::channel(1);
    let origin = Origin::new(move |_, pipe| {
        let seen = seen.clone();
        async move {
            let mut pipe = BufReader::new(pipe);
            let head = read_head(&mut pipe).await.unwrap();
            let is_chunked = head.to_ascii_lowercase().contains("chunked");
            let first = match is_chunked {
                true => Either::Left(read_chunk(&mut pipe).map(|chunk| chunk.unwrap().unwrap())),
                false => Either::Right(async {
                    let mut half = vec![0; 4];
                    pipe.read_exact(&mut half).await.map(|_| half).unwrap()
                }),
            };
            assert_eq!(first.await, b"half");
            seen.send(None).await.unwrap();
            let rest = match is_chunked {
                true => read_chunk(&mut pipe).await.map(|_| ()),
                false => pipe.read_exact(&mut [0; 6]).await.map(|_| ()),
            };
            seen.send(Some(rest.is_err())).await.unwrap();
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = Http2::plain(&house).await;
    for length in [None, Some("10")] {
        for reason in [h2::Reason::CANCEL, h2::Reason::NO_ERROR] {
            let mut upload = request(Method::POST, "/");
            if let Some(length) = length {
                upload.headers_mut().insert("content-length", length.parse().unwrap());
            }
            let (_response, mut body) = visitor.open(upload, false).await;
            body.send_data(Bytes::from_static(b"half"), false).unwrap();
            assert_eq!(within(sees.recv()).await.unwrap(), None);
            body.send_reset(reason);
            assert_eq!(within(sees.recv()).await.unwrap(), Some(true), "{length:?} {reason:?}");
        }
    }
    house.close().await;
}
