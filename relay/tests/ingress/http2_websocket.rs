//! WebSockets as streams of HTTP/2 (RFC 8441).

use std::sync::Arc;

use bytes::Bytes;
use h2::{Reason, RecvStream, ext::Protocol};
use http::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use crate::{
    gates_of_all_kinds::{ANN, github, only, pin, sealed, sealed_for},
    house::{House, Origin, ok, read_head, within},
    http2_visitor::{Http2, all, empty, request},
};

/// A WebSocket for `demo`, as RFC 8441 asks for one.
fn websocket(protocol: &'static str) -> Request<()> {
    let mut request = request(Method::CONNECT, "/ws");
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request.headers_mut().insert("origin", "https://demo.tun.test".parse().unwrap());
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

/// Answers the handshake with `answer`, then echoes.
fn socket(answer: &'static str) -> Arc<Origin> {
    Origin::new(move |_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        let head = read_head(&mut pipe).await.unwrap().to_ascii_lowercase();
        assert!(head.starts_with("get /ws http/1.1\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"));
        let key = crate::house::field(&head, "sec-websocket-key").unwrap();
        assert_eq!(key.len(), 24);
        pipe.write_all(answer.as_bytes()).await.unwrap();
        let mut chunk = vec![0; 4096];
        loop {
            match pipe.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(read) => pipe.write_all(&chunk[..read]).await.unwrap(),
            }
        }
    })
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: y\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello";

async fn exactly(body: &mut RecvStream, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let piece = within(body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    bytes
}

#[tokio::test]
async fn a_websocket_is_one_stream_of_many() {
    let (house, tunnel) = House::with_demo(&socket(SWITCHING)).await;
    house.share("other", &Origin::saying("beside it"));
    let mut visitor = Http2::plain(&house).await;
    // The settings say that it may be asked for.
    let other = || Request::builder().uri("http://other.tun.test/").body(()).unwrap();
    visitor.ask(other()).await;
    assert!(visitor.sender.is_extended_connect_protocol_enabled());
    let (response, mut to) = visitor.open(websocket("websocket"), false).await;
    let response = within(response).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    let mut from = response.into_body();
    assert_eq!(exactly(&mut from, 5).await, b"hello");
    for number in 0..50 {
        let message = format!("message {number}");
        to.send_data(Bytes::from(message.clone()), false).unwrap();
        assert_eq!(exactly(&mut from, message.len()).await, message.as_bytes());
        assert_eq!(visitor.ask(other()).await.body(), "beside it");
    }
    let large = vec![7; 1 << 20];
    to.send_data(Bytes::from(large.clone()), false).unwrap();
    assert_eq!(exactly(&mut from, large.len()).await, large);
    assert_eq!(tunnel.in_flight(), 1);
    to.send_data(Bytes::new(), true).unwrap();
    assert_eq!(all(from).await.unwrap().0, b"");
    empty(&tunnel).await;
    house.close().await;
}

#[tokio::test]
async fn a_server_that_opens_no_websocket_is_not_taken_for_one_that_did() {
    for (answer, status) in
        [(ok("no"), 502), ("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".into(), 403)]
    {
        let (house, tunnel) = House::with_demo(&socket(answer.leak())).await;
        let mut visitor = Http2::plain(&house).await;
        let (response, _to) = visitor.open(websocket("websocket"), false).await;
        assert_eq!(within(response).await.unwrap().status(), status);
        empty(&tunnel).await;
    }
    let (house, _) = House::with_demo(&Origin::echo()).await;
    let mut visitor = Http2::plain(&house).await;
    let (response, _to) = visitor.open(websocket("connect-udp"), false).await;
    assert_eq!(within(response).await.unwrap().status(), 405);
    let mut console = websocket("websocket");
    *console.uri_mut() = "http://console.test/".parse().unwrap();
    let (response, _to) = visitor.open(console, false).await;
    assert_eq!(within(response).await.unwrap().status(), 405);
}

#[tokio::test]
async fn closing_the_tunnel_or_the_relay_ends_a_websocket() {
    for by_relay in [false, true] {
        let (house, tunnel) = House::with_demo(&socket(SWITCHING)).await;
        let mut visitor = Http2::plain(&house).await;
        let (response, _to) = visitor.open(websocket("websocket"), false).await;
        let mut from = within(response).await.unwrap().into_body();
        assert_eq!(exactly(&mut from, 5).await, b"hello");
        if by_relay {
            house.close().await;
        } else {
            tunnel.close();
            empty(&tunnel).await;
        }
        assert_eq!(all(from).await.unwrap().0, b"", "by relay: {by_relay}");
    }
}

/// No body follows a CONNECT (RFC 9113 §8.5): a server that believed in one would take the next visitor's request for it.
#[tokio::test]
async fn a_websocket_that_is_asked_for_with_a_body_smuggles_nothing() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    let mut visitor = Http2::plain(&house).await;
    for (length, status) in [("5", 400), ("0", 502)] {
        let mut asked = websocket("websocket");
        asked.headers_mut().insert("content-length", length.parse().unwrap());
        asked.headers_mut().insert("expect", "100-continue".parse().unwrap());
        let (response, _to) = visitor.open(asked, false).await;
        assert_eq!(within(response).await.unwrap().status(), status, "{length}");
    }
    let seen = visitor.ask(request(Method::GET, "/next")).await.into_body();
    assert!(seen.starts_with("GET /next HTTP/1.1\r\n"), "{seen}");
    empty(&tunnel).await;
    house.close().await;
}

/// A visitor who resets the stream is gone, and so is the connection to the server.
#[tokio::test]
async fn a_visitor_who_resets_the_stream_of_a_websocket_ends_it() {
    let (house, tunnel) = House::with_demo(&socket(SWITCHING)).await;
    let mut visitor = Http2::plain(&house).await;
    let (response, mut to) = visitor.open(websocket("websocket"), false).await;
    let mut from = within(response).await.unwrap().into_body();
    assert_eq!(exactly(&mut from, 5).await, b"hello");
    to.send_reset(Reason::CANCEL);
    empty(&tunnel).await;
    house.close().await;
}

/// A WebSocket for `demo` of whoever has this session.
fn websocket_of(session: &str) -> Request<()> {
    let mut request = websocket("websocket");
    let cookie = session.trim_start_matches("Cookie: ").trim_end();
    request.headers_mut().insert("cookie", cookie.parse().unwrap());
    request
}

/// One that is open, on a connection on which others may be.
async fn opened(visitor: &mut Http2, session: &str) -> (RecvStream, h2::SendStream<Bytes>) {
    let (response, to) = visitor.open(websocket_of(session), false).await;
    let response = within(response).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut from = response.into_body();
    assert_eq!(exactly(&mut from, 5).await, b"hello");
    (from, to)
}

#[tokio::test]
async fn a_websocket_is_cut_by_another_gate_and_the_connection_goes_on() {
    let (house, tunnel) = House::with_demo(&socket(SWITCHING)).await;
    house.share("other", &Origin::saying("beside it"));
    tunnel.set_gates(Some(Arc::new(pin(1))));
    let mut visitor = Http2::plain(&house).await;
    let (response, _to) = visitor.open(websocket("websocket"), false).await;
    assert_eq!(within(response).await.unwrap().status(), 401, "who has not passed opens none");
    let (from, _to) = opened(&mut visitor, &sealed(u64::MAX)).await;
    tunnel.set_gates(Some(Arc::new(pin(2))));
    drop(all(from).await);
    empty(&tunnel).await;
    let other = Request::builder().uri("http://other.tun.test/").body(()).unwrap();
    assert_eq!(visitor.ask(other).await.body(), "beside it");
    let (response, _to) = visitor.open(websocket_of(&sealed(u64::MAX)), false).await;
    assert_eq!(within(response).await.unwrap().status(), 401, "the old session opens nothing more");
}

#[tokio::test]
async fn a_websocket_ends_with_the_session_that_opened_it() {
    let (house, tunnel) = House::with_demo(&socket(SWITCHING)).await;
    tunnel.set_gates(Some(Arc::new(pin(1))));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut visitor = Http2::plain(&house).await;
    let (from, _to) = opened(&mut visitor, &sealed(now + 4)).await;
    drop(all(from).await);
    empty(&tunnel).await;
}

#[tokio::test]
async fn a_list_that_changes_cuts_a_websocket_and_lets_in_whom_it_still_names() {
    let (house, tunnel) = House::with_demo(&socket(SWITCHING)).await;
    let provider = mytunnel_sign_in::Provider::new(github()).unwrap();
    house.sign_in.replace(mytunnel_sign_in::Client::new(vec![provider]).unwrap());
    tunnel.set_gates(Some(only("acme.example")));
    let session = sealed_for("mtk_gate", u64::MAX, ANN);
    let mut visitor = Http2::plain(&house).await;
    let (from, _to) = opened(&mut visitor, &session).await;
    tunnel.set_gates(Some(only("other.example")));
    drop(all(from).await);
    empty(&tunnel).await;
    let (response, _to) = visitor.open(websocket_of(&session), false).await;
    assert_eq!(within(response).await.unwrap().status(), 403);
    tunnel.set_gates(Some(only("acme.example")));
    drop(opened(&mut visitor, &session).await);
}
