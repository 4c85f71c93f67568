//! Visitors who speak HTTP/2.

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt as _;
use h2::{
    Ping, PingPong, Reason, RecvStream, SendStream,
    client::{self, ResponseFuture, SendRequest},
    ext::Protocol,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use mytunnel_relay::{ingress::Limits, route::Tunnel};
use rustls::version::TLS13;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    house::{House, ON_THE_WAY, Origin, ok, read_head, read_request, within},
    tls,
};

/// A visitor's connection, driven beside the test.
struct Http2 {
    sender: SendRequest<Bytes>,
    pings: PingPong,
    driver: JoinSet<Result<(), h2::Error>>,
}

impl Http2 {
    async fn on(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self::with(stream, &client::Builder::new()).await
    }

    async fn with(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        builder: &client::Builder,
    ) -> Self {
        let (sender, mut connection) = within(builder.handshake(stream)).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Self { sender, pings, driver }
    }

    /// Speaks it at once, in clear text.
    async fn plain(house: &House) -> Self {
        Self::on(TcpStream::connect(house.address).await.unwrap()).await
    }

    async fn open(&mut self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        self.sender = within(self.sender.clone().ready()).await.unwrap();
        self.sender.send_request(request, end).unwrap()
    }

    async fn ask(&mut self, request: Request<()>) -> Response<String> {
        let (response, _) = self.open(request, true).await;
        text(within(response).await.unwrap()).await
    }

    async fn get(&mut self, path: &str) -> Response<String> {
        self.ask(get(path)).await
    }

    /// The relay has read all that was sent, and done about it what it does at once: the second answer comes after what
    /// the first turn of its task has written.
    async fn settled(&mut self) {
        for _ in 0..2 {
            within(self.pings.ping(Ping::opaque())).await.unwrap();
        }
    }

    /// How the connection ended.
    async fn ended(mut self) -> Result<(), h2::Error> {
        drop(self.sender);
        within(self.driver.join_next()).await.unwrap().unwrap()
    }
}

fn get(path: &str) -> Request<()> {
    request(Method::GET, path)
}

fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://demo.tun.test{path}")).body(()).unwrap()
}

async fn text(response: Response<RecvStream>) -> Response<String> {
    let (head, body) = response.into_parts();
    Response::from_parts(head, String::from_utf8(all(body).await.unwrap().0).unwrap())
}

async fn all(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = within(body.data()).await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, within(body.trailers()).await?))
}

fn error(response: &Response<String>) -> (u16, Option<&str>) {
    let code = response.headers().get("x-mytunnel-error").map(|code| code.to_str().unwrap());
    (response.status().as_u16(), code)
}

async fn empty(tunnel: &Tunnel) {
    within(async {
        while tunnel.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_connection_carries_many_requests_at_once() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    let mut visitor = Http2::plain(&house).await;
    let mut open = Vec::new();
    for number in 0..50 {
        open.push(visitor.open(get(&format!("/{number}?q={number}")), true).await.0);
    }
    for (number, response) in open.into_iter().enumerate() {
        let seen = text(within(response).await.unwrap()).await;
        assert_eq!(seen.status(), StatusCode::OK);
        let seen = seen.into_body();
        assert!(seen.starts_with(&format!("GET /{number}?q={number} HTTP/1.1\r\n")), "{seen}");
        assert!(seen.contains("host: demo.tun.test\r\n") && seen.contains("x-forwarded-for: 127.0.0.1\r\n"));
        assert!(seen.contains("x-forwarded-proto: http\r\n"), "{seen}");
    }
    empty(&tunnel).await;
    house.close().await;
}

#[tokio::test]
async fn browsers_get_it_over_tls() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    let config = tls::config(&house, &[&TLS13], &[b"h2", b"http/1.1"]);
    let stream = tls::handshake(&house, "demo.tun.test", config).await.unwrap().stream.into_inner();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut visitor = Http2::on(stream).await;
    let seen = visitor.get("/").await.into_body();
    assert!(seen.contains("x-forwarded-proto: https\r\n"), "{seen}");
    // A browser that has the certificate for both asks for the other name on the same connection.
    house.share("other", &Origin::saying("the other"));
    let other = Request::builder().uri("https://other.tun.test/").body(()).unwrap();
    assert_eq!(visitor.ask(other).await.body(), "the other");
}

#[tokio::test]
async fn cookies_are_one_field_again_and_the_host_is_the_authority() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    let mut visitor = Http2::plain(&house).await;
    let mut with_cookies = get("/");
    for number in 0..150 {
        with_cookies.headers_mut().append("cookie", format!("c{number}=1").parse().unwrap());
    }
    with_cookies.headers_mut().insert("host", "DEMO.tun.test".parse().unwrap());
    let seen = visitor.ask(with_cookies).await.into_body();
    assert!(seen.contains("cookie: c0=1; c1=1; c2=1;") && seen.contains("; c149=1\r\n"), "{seen}");
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    let mut visitor = Http2::plain(&house).await;
    let with = |name: &'static str, values: &[&str]| {
        let mut request = request(Method::POST, "/");
        for value in values {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request
    };
    for bad in [
        with("host", &["other.tun.test"]),
        with("host", &["demo.tun.test", "demo.tun.test"]),
        with("host", &["demo.tun.test:81"]),
        with("content-length", &["0", "0"]),
        Request::builder().uri("http://user@demo.tun.test/").body(()).unwrap(),
    ] {
        let shown = format!("{bad:?}");
        assert_eq!(error(&visitor.ask(bad).await), (400, Some("BAD_REQUEST")), "{shown}");
    }
    let fields = (0..101).fold(get("/"), |mut request, number| {
        request.headers_mut().append("x-field", number.to_string().parse().unwrap());
        request
    });
    assert_eq!(error(&visitor.ask(fields).await), (431, Some("BAD_REQUEST")));
    for method in [Method::TRACE, Method::CONNECT] {
        let mut request = request(method, "/");
        if request.method() == Method::CONNECT {
            *request.uri_mut() = "demo.tun.test:80".parse().unwrap();
        }
        assert_eq!(error(&visitor.ask(request).await), (405, Some("BAD_REQUEST")));
    }
    // A length that is not kept is an error of HTTP/2 itself.
    assert_eq!(visitor.get("/").await.status(), StatusCode::OK);
    let (response, mut body) = visitor.open(with("content-length", &["3"]), false).await;
    body.send_data(Bytes::from_static(b"four"), true).unwrap();
    assert!(within(response).await.is_err());
    empty(&tunnel).await;
}

/// A request with the fields of every request for `demo` and `fields`, byte by byte: no client makes these.
fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let always = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "demo.tun.test")];
    let mut block = Vec::new();
    for (name, value) in always.iter().chain(fields) {
        // A literal field that enters no table (RFC 7541 §6.2.2).
        block.extend([0, u8::try_from(name.len()).unwrap()]);
        block.extend(name.as_bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value.as_bytes());
    }
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend(&length[1..]);
    bytes.extend([1, 0x5, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes
}

/// What comes of stream 1: the code of a reset or of the connection's end, or `None` for the head of a response.
async fn outcome(stream: &mut TcpStream) -> Option<u32> {
    loop {
        let mut head = [0; 9];
        within(stream.read_exact(&mut head)).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        within(stream.read_exact(&mut payload)).await.unwrap();
        match (head[3], head[8]) {
            (1, 1) => return None,
            (3, 1) => return Some(u32::from_be_bytes(payload.try_into().unwrap())),
            (7, 0) => return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
            _ => {}
        }
    }
}

#[tokio::test]
async fn fields_that_would_change_a_request_in_http_1_do_not_get_that_far() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    const PROTOCOL_ERROR: u32 = 1;
    const COMPRESSION_ERROR: u32 = 9;
    for bad in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("Content-Length", "5"),
        ("x-field", "a\r\nhost: other"),
        ("x-field\r\nhost", "other"),
        ("content-length", "5"),
        ("content-length", "+0"),
        (":path", "/again"),
        (":authority", "other.tun.test"),
        (":method", "GET"),
    ] {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        stream.write_all(&headers(&[bad])).await.unwrap();
        let outcome = outcome(&mut stream).await;
        assert!(matches!(outcome, Some(PROTOCOL_ERROR | COMPRESSION_ERROR)), "{bad:?}: {outcome:?}");
    }
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(&headers(&[("x-field", "fine")])).await.unwrap();
    assert_eq!(outcome(&mut stream).await, None);
    empty(&tunnel).await;
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        let head = read_head(&mut pipe).await.unwrap().to_ascii_lowercase();
        assert!(
            head.contains("transfer-encoding: chunked\r\n") && head.contains("te: trailers\r\n"),
            "{head}"
        );
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            body.push(pipe.read_u8().await.unwrap());
        }
        let body = String::from_utf8(body).unwrap();
        assert_eq!(body, "5\r\nhello\r\n0\r\nx-sum: 9\r\n\r\n");
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\nConnection: close\r\n\
            Keep-Alive: timeout=5\r\n\r\n5\r\nworld\r\n0\r\ngrpc-status: 0\r\n\r\n";
        pipe.write_all(answer.as_bytes()).await.unwrap();
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut visitor = Http2::plain(&house).await;
    let mut call = request(Method::POST, "/service/Method");
    call.headers_mut().insert("te", "trailers".parse().unwrap());
    // What is not announced is not passed on.
    call.headers_mut().insert("trailer", "x-sum, host".parse().unwrap());
    let (response, mut body) = visitor.open(call, false).await;
    body.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "9".parse().unwrap());
    trailers.insert("host", "other.tun.test".parse().unwrap());
    body.send_trailers(trailers).unwrap();
    let response = within(response).await.unwrap();
    assert!(!response.headers().contains_key("connection") && !response.headers().contains_key("keep-alive"));
    let (bytes, trailers) = all(response.into_body()).await.unwrap();
    assert_eq!(bytes, b"world");
    assert_eq!(trailers.unwrap().get("grpc-status").unwrap(), "0");
    empty(&tunnel).await;
}

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
    let limits = Limits { stall_timeout: Duration::from_millis(300), ..Limits::default() };
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
        drop(all(from).await);
    }
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
        House::limited(Limits { idle_timeout: Duration::from_millis(100), ..Limits::default() }).await;
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
