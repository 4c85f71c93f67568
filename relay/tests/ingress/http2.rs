//! Visitors who speak HTTP/2: what they ask, and what becomes of it.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use rustls::version::TLS13;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    house::{House, Origin, read_head, within},
    http2_visitor::{Http2, all, empty, error, get, request, text},
    tls,
};

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
async fn whose_cookies_are_too_many_is_asked_to_delete_them_and_nobody_else() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    let mut visitor = Http2::plain(&house).await;
    let with = |name: &'static str, count: usize| {
        (0..count).fold(get("/"), |mut request, number| {
            let value = format!("junk{number}={}", "x".repeat(3500));
            request.headers_mut().append(name, value.parse().unwrap());
            request
        })
    };
    let clears = |reply: &http::Response<String>| {
        reply.headers().get("clear-site-data").map(|value| value.to_str().unwrap().to_owned())
    };
    let bomb = visitor.ask(with("cookie", 40)).await;
    assert_eq!(error(&bomb), (431, Some("BAD_REQUEST")));
    assert_eq!(clears(&bomb).as_deref(), Some("\"cookies\""));
    let other = visitor.ask(with("x-cookie", 40)).await;
    assert_eq!((error(&other), clears(&other)), ((431, Some("BAD_REQUEST")), None));
    assert_eq!(visitor.ask(with("cookie", 10)).await.status(), 200, "the connection goes on");
    assert_eq!(tunnel.traffic().requests(), 1);
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
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    frames(&ALWAYS.into_iter().chain(fields).collect::<Vec<_>>())
}

type Field<'a> = (&'a [u8], &'a [u8]);

const ALWAYS: [Field<'static>; 4] =
    [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"demo.tun.test")];

fn frames(fields: &[Field<'_>]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal field that enters no table (RFC 7541 §6.2.2).
        block.extend([0, u8::try_from(name.len()).unwrap()]);
        block.extend(*name);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(*value);
    }
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend(&length[1..]);
    bytes.extend([1, 0x5, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The stream or the connection was ended, with this code.
    Reset(u32),
    Status(u16),
}

/// What comes of a request for `demo` with `fields`, each in the place of the one that every request has.
pub(crate) async fn answer_to(house: &House, fields: &[Field<'_>]) -> Outcome {
    let usual = ALWAYS.into_iter().filter(|(name, _)| fields.iter().all(|(other, _)| other != name));
    let (pseudo, plain): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| name.starts_with(b":"));
    let all: Vec<Field<'_>> = usual.chain(pseudo).chain(plain).collect();
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(&frames(&all)).await.unwrap();
    loop {
        let (kind, number, payload) = frame(&mut stream).await;
        match (kind, number) {
            // The status stands first, by its number in the static table (RFC 7541 appendix A).
            (1, 1) => {
                return Outcome::Status(match payload[0] {
                    0x88 => 200,
                    0x8c => 400,
                    _ => 0,
                });
            }
            (3, 1) => return Outcome::Reset(u32::from_be_bytes(payload.try_into().unwrap())),
            (7, 0) => return Outcome::Reset(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
            _ => {}
        }
    }
}

/// The next frame: its kind, the last byte of its stream's number, and what it carries.
async fn frame(stream: &mut TcpStream) -> (u8, u8, Vec<u8>) {
    let mut head = [0; 9];
    within(stream.read_exact(&mut head)).await.unwrap();
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    within(stream.read_exact(&mut payload)).await.unwrap();
    (head[3], head[8], payload)
}

/// What comes of stream 1: the code of a reset or of the connection's end, or `None` for the head of a response.
async fn outcome(stream: &mut TcpStream) -> Option<u32> {
    loop {
        let (kind, number, payload) = frame(stream).await;
        match (kind, number) {
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
