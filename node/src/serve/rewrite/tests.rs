use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use mytunnel_keys::id::TunnelKind;

use super::*;
use crate::{
    serve::{self, table::Service},
    share::TunnelSpec,
    target::Target,
};

mod http2;

const SOON: Duration = Duration::from_secs(10);

/// A pipe to a target that wants to be called `dev.local`.
struct Bench {
    pipe: DuplexStream,
    listener: TcpListener,
    node: JoinSet<Result<(), PipeError>>,
}

async fn bench() -> Bench {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let mut spec = TunnelSpec::new("web".parse().unwrap(), TunnelKind::Http, target);
    spec.host_header = Some(HeaderValue::from_static("dev.local"));
    let service = Service::new(&spec).unwrap();
    let (pipe, inner) = duplex(64 * 1024);
    let mut node = JoinSet::new();
    node.spawn(async move {
        serve::serve_lane(inner, &service, Patience::default(), Arc::default(), || ()).await
    });
    Bench { pipe, listener, node }
}

impl Bench {
    async fn send(&mut self, bytes: &[u8]) {
        self.pipe.write_all(bytes).await.unwrap();
    }

    async fn accept(&self) -> TcpStream {
        timeout(SOON, self.listener.accept()).await.expect("the target is not dialled").unwrap().0
    }

    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        timeout(SOON, self.pipe.read_to_end(&mut rest)).await.expect("the pipe stands").unwrap();
        String::from_utf8(rest).unwrap()
    }
}

/// Reads a head.
async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(SOON, stream.read_u8()).await.expect("no head").unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn the_target_sees_its_own_name_and_all_else_as_it_was() {
    let mut bench = bench().await;
    bench
        .send(b"POST /a?b=1 HTTP/1.1\r\nHost: web.example\r\nX-Odd: Value\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    let mut local = bench.accept().await;
    let request = head(&mut local).await;
    assert!(request.starts_with("POST /a?b=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("Host: dev.local\r\n") && !request.contains("web.example"), "{request}");
    assert!(request.contains("X-Odd: Value\r\n"), "{request}");
    let mut body = [0; 4];
    local.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"body");

    // A second request on the same pipe, and the same connection.
    local.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    assert_eq!(bench.pipe.read_u8().await.unwrap(), PipeStatus::Connected as u8);
    assert!(head(&mut bench.pipe).await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(bench.pipe.read_u16().await.unwrap().to_be_bytes(), *b"ok");
    bench.send(b"GET /again HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n").await;
    assert!(head(&mut local).await.contains("Host: dev.local\r\n"));
    local.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert!(bench.rest().await.starts_with("HTTP/1.1 404 Not Found\r\n"));
}

#[tokio::test]
async fn a_target_that_hangs_up_ends_the_pipe_after_its_answer() {
    let mut bench = bench().await;
    bench.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").await;
    let mut local = bench.accept().await;
    head(&mut local).await;
    local.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    drop(local);
    assert!(bench.rest().await.ends_with("\r\n\r\nok"));
}

#[tokio::test]
async fn a_target_that_hangs_up_in_its_answer_is_no_proper_end() {
    let mut bench = bench().await;
    bench.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").await;
    let mut local = bench.accept().await;
    head(&mut local).await;
    local.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
    drop(local);
    bench.rest().await;
    let ended = timeout(SOON, bench.node.join_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(ended, Err(PipeError::Http(_))), "{ended:?}");
}

#[tokio::test]
async fn a_target_that_is_down_is_status_1() {
    let mut bench = bench().await;
    let address = bench.listener.local_addr().unwrap();
    drop(std::mem::replace(&mut bench.listener, TcpListener::bind("127.0.0.1:0").await.unwrap()));
    assert_ne!(bench.listener.local_addr().unwrap(), address);
    bench.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").await;
    assert_eq!(bench.pipe.read_u8().await.unwrap(), PipeStatus::TargetUnreachable as u8);
}

#[tokio::test]
async fn an_upgrade_goes_through_both_ways() {
    let mut bench = bench().await;
    bench
        .send(b"GET /ws HTTP/1.1\r\nHost: web.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let mut local = bench.accept().await;
    let request = head(&mut local).await;
    assert!(
        request.contains("Host: dev.local\r\n") && request.contains("Upgrade: websocket\r\n"),
        "{request}"
    );
    local
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(bench.pipe.read_u8().await.unwrap(), PipeStatus::Connected as u8);
    assert!(head(&mut bench.pipe).await.starts_with("HTTP/1.1 101 "));

    bench.send(b"\x81\x02hi").await;
    let mut frame = [0; 4];
    timeout(SOON, local.read_exact(&mut frame)).await.expect("nothing comes through").unwrap();
    assert_eq!(&frame, b"\x81\x02hi");
    local.write_all(b"\x81\x02ho").await.unwrap();
    timeout(SOON, bench.pipe.read_exact(&mut frame)).await.expect("nothing comes back").unwrap();
    assert_eq!(&frame, b"\x81\x02ho");
    drop(local);
    assert_eq!(bench.rest().await, "");
}

#[tokio::test]
async fn an_event_arrives_when_it_is_sent() {
    let mut bench = bench().await;
    bench.send(b"GET /events HTTP/1.1\r\nHost: web.example\r\n\r\n").await;
    let mut local = bench.accept().await;
    head(&mut local).await;
    local.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await.unwrap();
    bench.pipe.read_u8().await.unwrap();
    head(&mut bench.pipe).await;
    for number in 0..3 {
        let event = format!("data: {number}\n\n");
        local.write_all(event.as_bytes()).await.unwrap();
        let mut seen = String::new();
        while !seen.contains(&event) {
            let byte = timeout(SOON, bench.pipe.read_u8()).await.expect("the event is held back").unwrap();
            seen.push(byte.into());
        }
    }
}
