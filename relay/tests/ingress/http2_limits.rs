//! What visitors who speak HTTP/2 may take, how long they may wait, and how their connections end.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, task::AtomicWaker};
use h2::{Ping, Reason, RecvStream, client};
use http::{Method, Request, StatusCode};
use mytunnel_relay::ingress::Limits;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf},
    net::{TcpSocket, TcpStream},
};

use crate::{
    house::{House, ON_THE_WAY, Origin, ok, read_head, read_request, within},
    http2_visitor::{Http2, all, empty, get, request, text},
};

/// Sends zeros for as long as anybody takes them.
fn endless() -> Arc<Origin> {
    Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_request(&mut pipe).await;
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
        if pipe.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        while pipe.write_all(&[0; 16 * 1024]).await.is_ok() {}
    })
}

#[tokio::test]
async fn a_stalled_exchange_holds_up_no_other() {
    let (house, tunnel) = House::with_demo(&endless()).await;
    house.share("quick", &Origin::echo());
    let mut builder = client::Builder::new();
    builder.initial_window_size(1000).initial_connection_window_size(1 << 20);
    let mut visitor = Http2::with(TcpStream::connect(house.address).await.unwrap(), &builder).await;
    let (response, _) = visitor.open(get("/"), true).await;
    let stalled = within(response).await.unwrap();
    let quick = || Request::builder().uri("http://quick.tun.test/").body(()).unwrap();
    for _ in 0..20 {
        assert_eq!(visitor.ask(quick()).await.status(), StatusCode::OK);
    }
    assert!(tunnel.traffic().bytes_out() < ON_THE_WAY as u64);
    // Taking it again lets it go on.
    let mut body = stalled.into_body();
    let mut taken = 0;
    while taken < 100_000 {
        let piece = within(body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        taken += piece.len();
    }
    drop(body);
    empty(&tunnel).await;
}

#[tokio::test]
async fn an_exchange_that_is_not_taken_is_reset_after_a_while() {
    let house =
        House::limited(Limits { stall_timeout: Duration::from_millis(200), ..Limits::default() }).await;
    let tunnel = house.share("demo", &endless());
    let mut visitor = Http2::plain(&house).await;
    let (response, _) = visitor.open(get("/"), true).await;
    let mut body = within(response).await.unwrap().into_body();
    // The visitor's window of 64 KiB fills, and nobody makes it larger.
    while let Some(piece) = within(body.data()).await {
        if let Err(error) = piece {
            assert_eq!(error.reason(), Some(Reason::CANCEL));
            empty(&tunnel).await;
            return;
        }
    }
    panic!("it looked complete");
}

#[tokio::test]
async fn the_end_of_an_answer_that_is_not_taken_has_its_place_until_it_is_reset() {
    // Longer than fifty exchanges take on a busy machine: each stalls as soon as its answer has begun.
    let limits = Limits { stall_timeout: Duration::from_secs(2), ..Limits::default() };
    let house = House::limited(limits).await;
    let body: &str = "x".repeat(60_000).leak();
    let tunnel = house.share("demo", &Origin::saying(body));
    let mut builder = client::Builder::new();
    builder.initial_window_size(1);
    let mut visitor = Http2::with(TcpStream::connect(house.address).await.unwrap(), &builder).await;
    let mut open = Vec::new();
    for _ in 0..50 {
        open.push(visitor.open(get("/"), true).await.0);
    }
    let mut bodies = Vec::new();
    for response in open {
        bodies.push(within(response).await.unwrap().into_body());
    }
    visitor.settled().await;
    assert_eq!(tunnel.in_flight(), 50);
    for body in bodies {
        assert!(all_of_the_window(body).await.is_err());
    }
    empty(&tunnel).await;
}

#[tokio::test]
async fn the_relays_own_pages_have_places_until_they_are_taken() {
    for window in [0, 1] {
        let house = House::limited(Limits { requests_per_address: 2, ..Limits::default() }).await;
        house.share("demo", &Origin::saying("hello"));
        let mut builder = client::Builder::new();
        builder.initial_window_size(window);
        let mut visitor = Http2::with(TcpStream::connect(house.address).await.unwrap(), &builder).await;
        let nowhere = || Request::builder().uri("http://nowhere.tun.test/").body(()).unwrap();
        let mut pages = Vec::new();
        for status in [404, 404, 429, 429] {
            let (response, _) = visitor.open(nowhere(), true).await;
            let page = within(response).await.unwrap();
            assert_eq!(page.status(), status);
            pages.push(page.into_body());
        }
        assert_eq!(house.ask(crate::house::get("/")).await.error(), (429, Some("RATE_LIMITED")));
        // Beyond as many again there is nothing to hold.
        let (response, _) = visitor.open(nowhere(), true).await;
        let head = within(response).await.unwrap();
        assert_eq!(head.status(), 429);
        assert_eq!(head.headers()["x-mytunnel-error"], "RATE_LIMITED");
        assert_eq!(all(head.into_body()).await.unwrap().0, b"");

        drop(pages);
        let served = async { while house.ask(crate::house::get("/")).await.status != 200 {} };
        within(served).await;
    }
}

#[tokio::test]
async fn who_asks_for_a_head_gets_no_page() {
    let house = House::open().await;
    let mut visitor = Http2::plain(&house).await;
    let response = visitor.ask(request(Method::HEAD, "/")).await;
    assert_eq!((response.status(), response.body().as_str()), (StatusCode::NOT_FOUND, ""));
    assert_eq!(response.headers()["x-mytunnel-error"], "NOT_FOUND");
}

#[tokio::test]
async fn a_page_of_the_relay_that_is_not_taken_is_reset_after_a_while() {
    let house =
        House::limited(Limits { stall_timeout: Duration::from_millis(200), ..Limits::default() }).await;
    let mut builder = client::Builder::new();
    builder.initial_window_size(0);
    let mut visitor = Http2::with(TcpStream::connect(house.address).await.unwrap(), &builder).await;
    let (response, _) = visitor.open(get("/"), true).await;
    let page = within(response).await.unwrap();
    assert_eq!(page.status(), 404);
    assert_eq!(all_of_the_window(page.into_body()).await.unwrap_err().reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn an_answer_in_one_piece_has_its_place_until_all_of_it_was_taken() {
    let house = House::limited(Limits { stall_timeout: Duration::from_secs(2), ..Limits::default() }).await;
    let known = house.share("demo", &Origin::saying("hello"));
    let chunked = house.share(
        "chunked",
        &Origin::server(|_| {
            let piece = "x".repeat(2000);
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n{piece}\r\n0\r\n\r\n")
        }),
    );
    let mut builder = client::Builder::new();
    builder.initial_window_size(1);
    let mut visitor = Http2::with(TcpStream::connect(house.address).await.unwrap(), &builder).await;
    for (tunnel, host) in [(known, "demo"), (chunked, "chunked")] {
        let request = Request::builder().uri(format!("http://{host}.tun.test/")).body(()).unwrap();
        let (response, _) = visitor.open(request, true).await;
        let body = within(response).await.unwrap().into_body();
        visitor.settled().await;
        assert_eq!(tunnel.in_flight(), 1, "{host}");
        assert!(all_of_the_window(body).await.is_err(), "{host}");
        empty(&tunnel).await;
    }
}

/// A server in HTTP/2 that tells the length of an answer of one piece, and sends trailers behind it.
fn with_trailers() -> Arc<Origin> {
    Origin::new(|_, pipe| async move {
        let mut connection = h2::server::handshake(pipe).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let head = http::Response::builder().header("content-length", "2000").body(()).unwrap();
            let mut body = respond.send_response(head, false).unwrap();
            body.send_data(Bytes::from(vec![b'x'; 2000]), false).unwrap();
            body.send_trailers(http::HeaderMap::from_iter([(
                "grpc-status".parse().unwrap(),
                "0".parse().unwrap(),
            )]))
            .unwrap();
        }
    })
}

#[tokio::test]
async fn an_answer_of_a_told_length_has_its_place_until_its_trailers_were_taken() {
    let house = House::limited(Limits { stall_timeout: Duration::from_secs(2), ..Limits::default() }).await;
    let tunnel = house.share("demo", &with_trailers());
    let mut builder = client::Builder::new();
    builder.initial_window_size(1);
    let mut visitor = Http2::with(TcpStream::connect(house.address).await.unwrap(), &builder).await;
    let mut call = request(Method::POST, "/service/Method");
    call.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    call.headers_mut().insert("te", http::HeaderValue::from_static("trailers"));
    let (response, _) = visitor.open(call, true).await;
    let body = within(response).await.unwrap().into_body();
    visitor.settled().await;
    assert_eq!(tunnel.in_flight(), 1);
    assert!(all_of_the_window(body).await.is_err());
    empty(&tunnel).await;
}

/// A visitor's end of a connection from which nothing is read while it is `deaf`.
struct Deaf {
    stream: TcpStream,
    deaf: Arc<AtomicBool>,
    waker: Arc<AtomicWaker>,
}

impl AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.waker.register(cx.waker());
        if self.deaf.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn answers_that_lie_in_the_relay_have_their_places_until_the_socket_takes_them() {
    const REQUESTS: u32 = 64;
    let house = House::limited(Limits { requests_per_address: REQUESTS, ..Limits::default() }).await;
    let body: &str = "x".repeat(60_000).leak();
    let tunnel = house.share("demo", &Origin::saying(body));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(house.address).await.unwrap();
    let (deaf, waker) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicWaker::new()));
    let stream = Deaf { stream, deaf: Arc::clone(&deaf), waker: Arc::clone(&waker) };
    let mut builder = client::Builder::new();
    // Nothing but the socket holds the relay up.
    let widest = (1 << 31) - 1;
    builder.initial_window_size(widest).initial_connection_window_size(widest);
    let mut visitor = Http2::with(stream, &builder).await;
    visitor.settled().await;
    deaf.store(true, Ordering::SeqCst);
    let mut open = Vec::new();
    for _ in 0..REQUESTS {
        open.push(visitor.open(get("/"), true).await.0);
    }
    // All are over for HTTP.
    within(async {
        while tunnel.traffic().requests() < u64::from(REQUESTS) || tunnel.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(house.ask(crate::house::get("/")).await.error(), (429, Some("RATE_LIMITED")));
    deaf.store(false, Ordering::SeqCst);
    waker.wake();
    for response in open {
        assert_eq!(text(within(response).await.unwrap()).await.body().len(), body.len());
    }
    within(async { while house.ask(crate::house::get("/")).await.status != 200 {} }).await;
}

/// Takes what comes without making room for more.
async fn all_of_the_window(mut body: RecvStream) -> Result<(), h2::Error> {
    while let Some(piece) = within(body.data()).await {
        piece?;
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_without_requests_is_idle_whatever_is_said_on_it() {
    let house =
        House::limited(Limits { idle_timeout: Duration::from_millis(200), ..Limits::default() }).await;
    let mut visitor = Http2::plain(&house).await;
    while visitor.pings.ping(Ping::opaque()).await.is_ok() {}
    within(visitor.driver.join_next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn uploads_are_taken_as_fast_as_the_server_takes_them() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_head(&mut pipe).await.unwrap();
        // Never reads on.
        std::future::pending::<()>().await;
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = Http2::plain(&house).await;
    let (_response, mut body) = visitor.open(request(Method::POST, "/"), false).await;
    let mut sent = 0;
    loop {
        body.reserve_capacity(16 * 1024);
        let mut capacity = pin!(poll_fn(|cx| body.poll_capacity(cx)));
        let mut granted = capacity.as_mut().now_or_never();
        if granted.is_none() {
            visitor.settled().await;
            granted = capacity.now_or_never();
        }
        let Some(granted) = granted else { break };
        let bytes = granted.unwrap().unwrap();
        body.send_data(Bytes::from(vec![0; bytes]), false).unwrap();
        sent += bytes;
        assert!(sent < ON_THE_WAY, "the relay buffers without bound");
    }
    assert!(sent > 64 * 1024);
}

#[tokio::test]
async fn closing_a_tunnel_resets_its_exchanges_and_no_other() {
    let (house, tunnel) = House::with_demo(&endless()).await;
    house.share("other", &Origin::saying("still here"));
    let mut visitor = Http2::plain(&house).await;
    let (response, _) = visitor.open(get("/"), true).await;
    let body = within(response).await.unwrap().into_body();
    tunnel.close();
    assert_eq!(all(body).await.unwrap_err().reason(), Some(Reason::CANCEL));
    let other = Request::builder().uri("http://other.tun.test/").body(()).unwrap();
    assert_eq!(visitor.ask(other).await.body(), "still here");
    empty(&tunnel).await;
}

#[tokio::test]
async fn a_body_that_was_cut_off_does_not_look_whole() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_request(&mut pipe).await;
        pipe.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await.unwrap();
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = Http2::plain(&house).await;
    let (response, _) = visitor.open(get("/"), true).await;
    assert!(all(within(response).await.unwrap().into_body()).await.is_err());
}

#[tokio::test]
async fn shutdown_says_goodbye_and_lets_requests_in_flight_end() {
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go, may_end) = tokio::sync::oneshot::channel();
    let parts = std::sync::Mutex::new(Some((begun, may_end)));
    let origin = Origin::new(move |_, pipe| {
        let parts = parts.lock().unwrap().take();
        async move {
            let mut pipe = BufReader::new(pipe);
            read_request(&mut pipe).await;
            let (begun, may_end) = parts.unwrap();
            begun.send(()).unwrap();
            may_end.await.unwrap();
            pipe.write_all(ok("done").as_bytes()).await.unwrap();
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = Http2::plain(&house).await;
    let (response, _) = visitor.open(get("/"), true).await;
    within(has_begun).await.unwrap();
    house.shutdown.cancel();
    go.send(()).unwrap();
    assert_eq!(text(within(response).await.unwrap()).await.body(), "done");
    house.close().await;
    visitor.ended().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_ends_with_a_goodbye() {
    let house =
        House::limited(Limits { idle_timeout: Duration::from_millis(500), ..Limits::default() }).await;
    house.share("demo", &Origin::echo());
    let mut visitor = Http2::plain(&house).await;
    visitor.get("/").await;
    // A visitor whose settings have come may wait with its first request as long as with the next.
    let silent = Http2::plain(&house).await;
    within(visitor.driver.join_next()).await.unwrap().unwrap().unwrap();
    silent.ended().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_says_nothing_ends() {
    let house =
        House::limited(Limits { head_timeout: Duration::from_millis(100), ..Limits::default() }).await;
    for start in ["", "PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        within(stream.read_to_end(&mut rest)).await.unwrap_or_default();
        assert!(!rest.starts_with(b"HTTP/"), "{rest:?}");
    }
}

#[tokio::test]
async fn taking_back_most_requests_ends_the_connection() {
    let (house, tunnel) = House::with_demo(&endless()).await;
    let mut visitor = Http2::plain(&house).await;
    for _ in 0..100_000 {
        // The relay's own answers make up for nothing.
        let nowhere = Request::builder().uri("http://nobody.tun.test/").body(()).unwrap();
        let Ok(ready) = within(visitor.sender.clone().ready()).await else { break };
        visitor.sender = ready;
        let Ok((page, _)) = visitor.sender.send_request(nowhere, true) else { break };
        if within(page).await.is_err() {
            break;
        }
        let Ok(ready) = within(visitor.sender.clone().ready()).await else { break };
        visitor.sender = ready;
        let Ok((_, mut stream)) = visitor.sender.send_request(get("/"), false) else { break };
        stream.send_reset(Reason::CANCEL);
        tokio::task::yield_now().await;
    }
    // Ended by the relay: the visitor still holds its handle.
    drop(within(visitor.driver.join_next()).await.unwrap().unwrap());
    empty(&tunnel).await;
    house.close().await;
}

#[tokio::test]
async fn pages_of_the_relay_end_no_connection_however_many_they_are() {
    let (house, _) = House::with_demo(&endless()).await;
    let mut visitor = Http2::plain(&house).await;
    let (beside, _stream) = visitor.open(get("/"), true).await;
    let mut beside = within(beside).await.unwrap().into_body();
    for _ in 0..1000 {
        let nowhere = Request::builder().uri("http://nobody.tun.test/").body(()).unwrap();
        let (page, _) = visitor.open(nowhere, true).await;
        assert_eq!(within(page).await.unwrap().status(), StatusCode::NOT_FOUND);
    }
    assert!(within(beside.data()).await.unwrap().is_ok(), "what else is under way goes on");
}

#[tokio::test]
async fn one_connection_has_so_many_exchanges_and_no_more() {
    let house = House::limited(Limits { streams_per_connection: 3, ..Limits::default() }).await;
    let tunnel = house.share("demo", &endless());
    let mut visitor = Http2::plain(&house).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let (response, _) = visitor.open(get("/"), true).await;
        open.push(within(response).await.unwrap());
    }
    assert_eq!(tunnel.in_flight(), 3);
    let fourth = visitor.open(get("/"), true).await.0;
    visitor.settled().await;
    assert_eq!(tunnel.in_flight(), 3);
    drop(open.pop());
    within(fourth).await.unwrap();
    assert_eq!(tunnel.in_flight(), 3);
}
