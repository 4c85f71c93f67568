//! WebSocket and other upgrades: bytes both ways after a 101.

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use crate::house::{House, Origin, get, ok, read_head, within};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: demo.tun.test\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Agrees to every upgrade, says `hello`, then echoes.
fn echo() -> std::sync::Arc<Origin> {
    Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        let head = read_head(&mut pipe).await.unwrap().to_ascii_lowercase();
        assert!(
            head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"),
            "{head}"
        );
        assert!(head.contains("sec-websocket-key: x\r\n"));
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: y\r\n\r\nhello";
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

async fn exactly(visitor: &mut crate::house::Visitor, length: usize) -> String {
    let mut bytes = vec![0; length];
    within(visitor.stream.read_exact(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn bytes_go_both_ways_after_the_handshake() {
    let (house, tunnel) = House::with_demo(&echo()).await;
    let mut visitor = house.visitor().await;
    // The first message comes with the request: nothing of it may get lost.
    visitor.send(format!("{UPGRADE}early")).await;
    let head = visitor.head().await;
    assert_eq!(head.status, 101);
    assert_eq!(head.field("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(head.field("upgrade"), Some("websocket"));
    assert_eq!(head.field("sec-websocket-accept"), Some("y"));
    assert_eq!(exactly(&mut visitor, 10).await, "helloearly");
    for number in 0..50 {
        let message = format!("message {number}");
        visitor.send(&message).await;
        assert_eq!(exactly(&mut visitor, message.len()).await, message);
    }
    assert_eq!(tunnel.in_flight(), 1);
    assert!(tunnel.traffic().bytes_in() > 5 && tunnel.traffic().bytes_out() > 10);
    drop(visitor);
    within(async {
        while tunnel.in_flight() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    assert_eq!(tunnel.idle_pipes(), 0);
    house.close().await;
}

#[tokio::test]
async fn a_server_may_decline_and_the_connection_goes_on() {
    let origin = Origin::server(|_| ok("no sockets here"));
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send(UPGRADE).await;
    assert_eq!(visitor.reply().await.text(), "no sockets here");
    assert_eq!(visitor.get("/").await.text(), "no sockets here");
}

#[tokio::test]
async fn http_2_in_clear_text_is_not_an_upgrade_here() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    let request = "GET / HTTP/1.1\r\nHost: demo.tun.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
    let reply = house.ask(request).await;
    let seen = reply.text().to_ascii_lowercase();
    assert!(!seen.contains("upgrade") && !seen.contains("http2-settings"), "{seen}");
}

#[tokio::test]
async fn a_server_is_asked_for_one_protocol_or_for_none() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    for fields in ["Upgrade: websocket\r\nUpgrade: h2c", "Upgrade: websocket, h2c", "Upgrade: HTTP/2.0"] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: demo.tun.test\r\nConnection: Upgrade\r\n{fields}\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
        );
        let seen = house.ask(request).await.text().to_ascii_lowercase();
        assert!(!seen.contains("upgrade") && !seen.contains("http2-settings"), "{fields}: {seen}");
    }
}

#[tokio::test]
async fn a_server_that_turns_to_another_protocol_than_was_asked_for_is_not_let_through() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_head(&mut pipe).await.unwrap();
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        pipe.write_all(answer.as_bytes()).await.unwrap();
        let _ = pipe.read(&mut [0; 1]).await;
    });
    let (house, _) = House::with_demo(&origin).await;
    assert_eq!(house.ask(UPGRADE).await.status, 502);
}

#[tokio::test]
async fn closing_the_tunnel_ends_an_upgraded_connection() {
    let (house, tunnel) = House::with_demo(&echo()).await;
    let mut visitor = house.visitor().await;
    visitor.send(UPGRADE).await;
    assert_eq!(visitor.head().await.status, 101);
    assert_eq!(exactly(&mut visitor, 5).await, "hello");
    tunnel.close();
    visitor.gone().await;
    within(async {
        while tunnel.in_flight() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
}

#[tokio::test]
async fn shutdown_ends_an_upgraded_connection() {
    let (house, _) = House::with_demo(&echo()).await;
    let mut visitor = house.visitor().await;
    visitor.send(UPGRADE).await;
    assert_eq!(visitor.head().await.status, 101);
    house.close().await;
    visitor.gone().await;
}

#[tokio::test]
async fn plain_requests_on_the_same_tunnel_are_not_disturbed() {
    let origin = Origin::server(|_| ok("plain"));
    let (house, _) = House::with_demo(&origin).await;
    assert_eq!(house.ask(get("/")).await.text(), "plain");
}
