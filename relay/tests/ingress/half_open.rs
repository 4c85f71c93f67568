//! Visitors who are gone, or do not answer, without a word.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use h2::client;
use mytunnel_relay::ingress::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    house::{House, Origin, get, read_head, within},
    http2_visitor::{self, Http2, empty},
};

/// Begins an answer, and has no more to say.
fn quiet(head: &'static str) -> Arc<Origin> {
    Origin::new(move |_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_head(&mut pipe).await.unwrap();
        pipe.write_all(head.as_bytes()).await.unwrap();
        let _ = pipe.read(&mut [0; 1]).await;
    })
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const UPGRADE: &str =
    "GET /ws HTTP/1.1\r\nHost: demo.tun.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// The timer that the system runs for the relay's end of a visitor's connection, and when it is due, as the kernel tells them; its
/// table may leave a row out while others come and go.
fn timer(relay: SocketAddr, visitor: SocketAddr) -> Option<(u8, Duration)> {
    let end = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => {
            format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port())
        }
        SocketAddr::V6(_) => panic!("tests listen on IPv4"),
    };
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let row = fields.into_iter().find(|row| row[1] == end(relay) && row[2] == end(visitor))?;
    let (timer, due) = row[5].split_once(':')?;
    let hundredths = u64::from_str_radix(due, 16).ok()?;
    Some((u8::from_str_radix(timer, 16).ok()?, Duration::from_millis(hundredths * 10)))
}

/// What the kernel calls the timer after which it asks a silent peer.
const KEEPALIVE: u8 = 2;

#[tokio::test]
async fn silent_visitors_are_asked_by_the_system_whatever_is_under_way() {
    for (request, head) in [(get("/"), EVENTS), (UPGRADE.to_owned(), SWITCHING)] {
        let (house, _) = House::with_demo(&quiet(head)).await;
        let mut visitor = house.visitor().await;
        visitor.send(request).await;
        visitor.head().await;
        let address = visitor.stream.get_ref().local_addr().unwrap();
        // What was sent last may not be acknowledged yet.
        let due = within(async {
            loop {
                if let Some((KEEPALIVE, due)) = timer(house.address, address) {
                    return due;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(due <= Duration::from_secs(60), "{due:?}");
    }
}

#[tokio::test]
async fn a_connection_in_http_2_that_answers_no_pings_ends() {
    let limits = Limits {
        ping_interval: Duration::from_millis(50),
        ping_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let house = House::limited(limits).await;
    let tunnel = house.share("demo", &quiet(EVENTS));
    let stream = TcpStream::connect(house.address).await.unwrap();
    let (mut sender, connection) = within(client::handshake(stream)).await.unwrap();
    let mut connection = Box::pin(connection);
    let (response, _) = sender.send_request(http2_visitor::get("/"), true).unwrap();
    let response = tokio::select! {
        response = within(response) => response.unwrap(),
        _ = &mut connection => panic!("it ended too early"),
    };
    assert_eq!(tunnel.in_flight(), 1);
    // Nobody reads from here on.
    empty(&tunnel).await;
    drop((response, connection));
    house.close().await;
}

#[tokio::test]
async fn a_connection_in_http_2_that_answers_pings_stays() {
    let interval = Duration::from_millis(20);
    let ping_timeout = Duration::from_secs(1);
    let house = House::limited(Limits { ping_interval: interval, ping_timeout, ..Limits::default() }).await;
    let tunnel = house.share("demo", &quiet(EVENTS));
    let mut visitor = Http2::plain(&house).await;
    let (response, _) = visitor.open(http2_visitor::get("/"), true).await;
    let _body = within(response).await.unwrap().into_body();
    let mut ticks = tokio::time::interval(interval);
    for _ in 0..120 {
        ticks.tick().await;
    }
    visitor.settled().await;
    assert_eq!(tunnel.in_flight(), 1);
}

/// Answers in pieces, each after so many seconds.
fn slow(seconds: [u64; 3]) -> Arc<Origin> {
    Origin::new(move |_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_head(&mut pipe).await.unwrap();
        for (piece, seconds) in
            ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", "abc", "def"].iter().zip(seconds)
        {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            if pipe.write_all(piece.as_bytes()).await.is_err() {
                return;
            }
        }
        let _ = pipe.read(&mut [0; 1]).await;
    })
}

/// As `nc -N` does.
#[tokio::test(start_paused = true)]
async fn who_closes_its_half_along_with_its_request_is_answered_for_as_long_as_anybody() {
    for seconds in [[110, 0, 0], [0, 110, 110]] {
        let (house, _) = House::with_demo(&slow(seconds)).await;
        let mut visitor = house.visitor().await;
        visitor.send(get("/")).await;
        visitor.stream.shutdown().await.unwrap();
        assert_eq!(visitor.try_reply().await.unwrap().text(), "abcdef", "{seconds:?}");
    }
    let (house, _) = House::with_demo(&slow([130, 0, 0])).await;
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    visitor.stream.shutdown().await.unwrap();
    assert_eq!(visitor.try_reply().await.unwrap().status, 504);
}

#[tokio::test(start_paused = true)]
async fn who_closes_its_half_later_is_answered_while_it_goes_on_taking() {
    let (house, _) = House::with_demo(&slow([2, 1, 60])).await;
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    visitor.stream.shutdown().await.unwrap();
    assert_eq!(visitor.try_reply().await.unwrap().text(), "abcdef");
}

/// Whom nothing is sent looks as if it had left.
#[tokio::test(start_paused = true)]
async fn who_closes_later_and_gets_nothing_is_given_up() {
    let (house, tunnel) = House::with_demo(&slow([100, 0, 0])).await;
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(tunnel.in_flight(), 1);
    let left = tokio::time::Instant::now();
    visitor.stream.shutdown().await.unwrap();
    assert!(visitor.try_reply().await.is_err());
    assert!(left.elapsed() < Duration::from_secs(5), "{:?}", left.elapsed());
}

/// Speaks a protocol of its own after a 101: reads to the end, works in silence for so many seconds, and answers.
fn working(seconds: u64) -> Arc<Origin> {
    Origin::new(move |_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_head(&mut pipe).await.unwrap();
        pipe.write_all(SWITCHING.as_bytes()).await.unwrap();
        let mut input = String::new();
        pipe.read_to_string(&mut input).await.unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        if pipe.write_all(format!("{input}, done").as_bytes()).await.is_ok() {
            let _ = pipe.shutdown().await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn who_closes_its_half_after_a_101_is_answered_or_reset() {
    for (seconds, is_borne) in [(15, true), (110, true), (130, false)] {
        let (house, tunnel) = House::with_demo(&working(seconds)).await;
        let mut visitor = house.visitor().await;
        visitor.send(UPGRADE).await;
        assert_eq!(visitor.head().await.status, 101);
        visitor.send("input").await;
        visitor.stream.shutdown().await.unwrap();
        let mut rest = String::new();
        let whole = visitor.stream.read_to_string(&mut rest).await.is_ok();
        assert_eq!(
            (whole, rest.as_str()),
            (is_borne, if is_borne { "input, done" } else { "" }),
            "{seconds}"
        );
        empty(&tunnel).await;
    }
}
