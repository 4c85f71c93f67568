//! Nodes that come over WebSockets, and whoever looks like one.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

/// A relay that takes WebSockets, also in the clear.
async fn lab(change: impl FnOnce(&mut Config)) -> Lab {
    Lab::start_with(|config| {
        config.https = Some(any_port());
        config.console = "console.test".to_owned();
        change(config);
    })
    .await
}

/// Asks for a WebSocket, with these further lines; the status.
async fn ask(lab: &Lab, host: &str, lines: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(lab.relay.addrs().http.unwrap()).await.unwrap();
    let request = format!(
        "GET /.mytunnel/node HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
    }
    let status = String::from_utf8(head).unwrap()["HTTP/1.1 ".len()..][..3].to_owned();
    (stream, status)
}

#[tokio::test]
async fn a_node_over_a_websocket_is_served_and_told_of_the_end() {
    let lab = lab(|_| {}).await;
    let mut node = Node::serve(&lab.addr("/ws"), &child(1), "web", 1).await;
    assert!(!lab.tunnel("web").is_closed());
    let (told, ()) = tokio::join!(node.hear(), lab.relay.shutdown());
    assert!(matches!(told, Some(ToNode::Goodbye { .. })), "{told:?}");
    node.closed().await;
}

#[tokio::test]
async fn only_the_consoles_host_takes_them_and_no_page_of_a_browser() {
    let lab = lab(|_| {}).await;
    assert_eq!(ask(&lab, "console.test", "").await.1, "101");
    for host in ["tun.example", "web.tun.example", "other.test"] {
        assert_eq!(ask(&lab, host, "").await.1, "404", "{host}");
    }
    assert_eq!(ask(&lab, "console.test", "Origin: https://console.test\r\n").await.1, "403");
    assert_eq!(ask(&lab, "console.test", "Content-Length: 1\r\n").await.1, "400");
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn http2_opens_none() {
    let lab = lab(|_| {}).await;
    let stream = TcpStream::connect(lab.relay.addrs().http.unwrap()).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let mut running = JoinSet::new();
    running.spawn(async move { drop(connection.await) });
    let mut sender = sender.ready().await.unwrap();
    let plain = http::Request::get("http://console.test/.mytunnel/node").body(()).unwrap();
    let mut extended = http::Request::builder().method("CONNECT").uri("http://console.test/.mytunnel/node");
    extended.extensions_mut().unwrap().insert(h2::ext::Protocol::from_static("websocket"));
    for (request, status, ends) in [(plain, 400, true), (extended.body(()).unwrap(), 405, false)] {
        sender = sender.ready().await.unwrap();
        let (response, _to) = sender.send_request(request, ends).unwrap();
        assert_eq!(timeout(SOON, response).await.unwrap().unwrap().status(), status);
    }
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn who_comes_by_a_trusted_proxy_counts_at_its_own_address() {
    let lab = lab(|config| {
        config.trusted_proxies = ["127.0.0.1".parse().unwrap()].into_iter().collect();
        config.limits.strangers.per_address = 1;
        // Nobody leaves for want of a word.
        config.limits.transport.handshake = SOON * 10;
    })
    .await;
    let from = async |address: &str| {
        let lines = format!("X-Forwarded-For: 192.0.2.66, {address}\r\n");
        let (stream, status) = ask(&lab, "console.test", &lines).await;
        assert_eq!(status, "101");
        stream
    };
    let mut other = from("203.0.113.9").await;
    let (mut first, mut second) = (from("203.0.113.7").await, from("203.0.113.7").await);
    let mut bytes = [[0; 1]; 3];
    let [a, b, c] = &mut bytes;
    let first_ends = timeout(SOON, async {
        tokio::select! {
            _ = first.read(a) => true,
            _ = second.read(b) => false,
            read = other.read(c) => panic!("it has a place: {read:?}"),
        }
    })
    .await
    .expect("one of the two has none");
    let left = if first_ends { &second } else { &first };
    for stays in [left, &other] {
        let read = stays.try_read(&mut [0; 1]);
        assert!(read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
    lab.relay.shutdown().await;
}
