//! Answers and WebSockets that their visitors take slowly, or not at all.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, RecvStream, client, ext::Protocol};
use http::Method;
use mytunnel_relay::{ingress::Limits, route::Tunnel};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::interval,
};

use crate::{
    house::{House, Origin, Visitor, get, read_head, read_request, within},
    http2_visitor::{Http2, empty, request},
};

const GRACE: Duration = Duration::from_millis(300);

/// So much a second, however long it stalls in between.
async fn paced(origin: &Arc<Origin>, download_rate: u32, download_grace: Duration) -> (House, Arc<Tunnel>) {
    let house = House::limited(Limits { download_rate, download_grace, ..Limits::default() }).await;
    let tunnel = house.share("demo", origin);
    (house, tunnel)
}

/// No least rate, but no long stalls.
async fn impatient(origin: &Arc<Origin>) -> (House, Arc<Tunnel>) {
    let limits = Limits { download_rate: 0, stall_timeout: GRACE, ..Limits::default() };
    let house = House::limited(limits).await;
    let tunnel = house.share("demo", origin);
    (house, tunnel)
}

/// Sends without end after `head`.
fn endless(head: &'static str) -> Arc<Origin> {
    Origin::new(move |_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_head(&mut pipe).await.unwrap();
        if pipe.write_all(head.as_bytes()).await.is_ok() {
            while pipe.write_all(&[0; 16 * 1024]).await.is_ok() {}
        }
    })
}

const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: y\r\n\r\n";
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: demo.tun.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// One byte at a time, until it is cut off.
async fn byte_by_byte(visitor: &mut Visitor) {
    let mut ticks = interval(Duration::from_millis(5));
    loop {
        ticks.tick().await;
        if !matches!(visitor.stream.read(&mut [0; 1]).await, Ok(1)) {
            return;
        }
    }
}

#[tokio::test]
async fn who_reads_one_byte_at_a_time_is_cut_off() {
    for (request, head) in [(get("/"), LONG), (UPGRADE.to_owned(), SWITCHING)] {
        let (house, tunnel) = paced(&endless(head), 10_000_000, GRACE).await;
        let mut visitor = house.visitor().await;
        visitor.send(request).await;
        visitor.head().await;
        tokio::select! {
            () = byte_by_byte(&mut visitor) => {}
            () = empty(&tunnel) => {}
        }
        empty(&tunnel).await;
        drop(visitor);
        house.close().await;
    }
}

#[tokio::test]
async fn who_reads_nothing_after_a_101_is_reset() {
    for (house, tunnel) in
        [impatient(&endless(SWITCHING)).await, paced(&endless(SWITCHING), 256, GRACE).await]
    {
        let mut visitor = house.visitor().await;
        visitor.send(UPGRADE).await;
        assert_eq!(visitor.head().await.status, 101);
        empty(&tunnel).await;
        assert!(visitor.rest().await.is_err(), "it must not look like the end");
        house.close().await;
    }
}

#[tokio::test]
async fn a_websocket_in_http_2_that_is_not_taken_is_reset() {
    for (house, tunnel) in
        [impatient(&endless(SWITCHING)).await, paced(&endless(SWITCHING), 256, GRACE).await]
    {
        let mut visitor = Http2::plain(&house).await;
        let mut asked = request(Method::CONNECT, "/ws");
        asked.extensions_mut().insert(Protocol::from_static("websocket"));
        let (response, _to) = visitor.open(asked, false).await;
        let mut body = within(response).await.unwrap().into_body();
        // The visitor's window of 64 KiB fills, and nobody makes it larger.
        let ended = loop {
            match within(body.data()).await {
                Some(Ok(_)) => {}
                ended => break ended,
            }
        };
        assert_eq!(ended.unwrap().unwrap_err().reason(), Some(Reason::CANCEL));
        empty(&tunnel).await;
        drop((visitor, body));
        house.close().await;
    }
}

/// Takes what fits into a window of `window` bytes and makes room for as much again, every 20 ms, until it is cut off or
/// `times` are over.
async fn takes(body: &mut RecvStream, window: usize, times: usize) -> Result<(), h2::Error> {
    let mut ticks = interval(Duration::from_millis(20));
    for _ in 0..times {
        ticks.tick().await;
        let mut taken = 0;
        while taken < window {
            let piece = within(body.data()).await.unwrap()?;
            taken += piece.len();
        }
        body.flow_control().release_capacity(taken)?;
    }
    Ok(())
}

async fn with_window(house: &House, window: u32) -> Http2 {
    let mut builder = client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(1 << 20);
    Http2::with(TcpStream::connect(house.address).await.unwrap(), &builder).await
}

#[tokio::test]
async fn a_stream_that_is_taken_too_slowly_is_reset_and_its_neighbour_is_not() {
    let (house, tunnel) = paced(&endless(LONG), 100_000, GRACE).await;
    house.share("other", &Origin::saying("still here"));
    let mut visitor = with_window(&house, 100).await;
    let (response, _) = visitor.open(crate::http2_visitor::get("/"), true).await;
    let mut body = within(response).await.unwrap().into_body();
    // 5,000 bytes a second.
    let ended = takes(&mut body, 100, 2_000).await;
    assert_eq!(ended.unwrap_err().reason(), Some(Reason::CANCEL));
    empty(&tunnel).await;
    let other = http::Request::builder().uri("http://other.tun.test/").body(()).unwrap();
    assert_eq!(visitor.ask(other).await.body(), "still here");
}

#[tokio::test]
async fn who_is_slow_but_fast_enough_stays() {
    let grace = Duration::from_secs(1);
    let (house, tunnel) = paced(&endless(LONG), 1_000, grace).await;
    let mut visitor = with_window(&house, 1_000).await;
    let (response, _) = visitor.open(crate::http2_visitor::get("/"), true).await;
    let mut body = within(response).await.unwrap().into_body();
    // Twice the grace, nearly all of which bytes wait; up to 50,000 a second are taken.
    takes(&mut body, 1_000, 100).await.unwrap();
    assert_eq!(tunnel.in_flight(), 1);
}

#[tokio::test]
async fn exchanges_of_one_connection_share_the_least_rate() {
    let (house, tunnel) = paced(&endless(LONG), 800_000, Duration::from_millis(500)).await;
    let mut visitor = with_window(&house, 8_000).await;
    let mut bodies = Vec::new();
    for _ in 0..16 {
        let (response, _) = visitor.open(crate::http2_visitor::get("/"), true).await;
        bodies.push(within(response).await.unwrap().into_body());
    }
    // 400,000 bytes a second each: half of what one needs, which would have a second; eight times what all need.
    let all = bodies.iter_mut().map(|body| takes(body, 8_000, 100));
    for ended in futures::future::join_all(all).await {
        ended.unwrap();
    }
    assert_eq!(tunnel.in_flight(), 16);
}

/// Only time in which bytes wait counts.
#[tokio::test(start_paused = true)]
async fn events_that_are_far_between_and_quiet_websockets_stay() {
    for (request, head) in [
        (get("/"), "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"),
        (UPGRADE.to_owned(), SWITCHING),
    ] {
        let origin = Origin::new(move |_, pipe| async move {
            let mut pipe = BufReader::new(pipe);
            read_request(&mut pipe).await;
            pipe.write_all(head.as_bytes()).await.unwrap();
            loop {
                tokio::time::sleep(Duration::from_secs(4000)).await;
                if pipe.write_all(b"event").await.is_err() {
                    return;
                }
            }
        });
        let (house, _) = House::with_demo(&origin).await;
        let mut visitor = house.visitor().await;
        visitor.send(request).await;
        visitor.head().await;
        let mut events = [0; 15];
        visitor.stream.read_exact(&mut events).await.unwrap();
    }
}

/// A connection is borne for as long as its socket takes what waits for it.
#[tokio::test]
async fn a_connection_in_http_2_whose_socket_takes_nothing_ends() {
    let (house, tunnel) = paced(&endless(LONG), 256, GRACE).await;
    let mut builder = client::Builder::new();
    builder.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
    let stream = TcpStream::connect(house.address).await.unwrap();
    let (sender, connection) = within(builder.handshake::<_, Bytes>(stream)).await.unwrap();
    let mut connection = Box::pin(connection);
    let mut sender = sender;
    let (response, _) = sender.send_request(crate::http2_visitor::get("/"), true).unwrap();
    let response = tokio::select! {
        response = within(response) => response.unwrap(),
        _ = &mut connection => panic!("it ended too early"),
    };
    // Nobody reads from here on.
    empty(&tunnel).await;
    drop((response, connection));
    house.close().await;
}
