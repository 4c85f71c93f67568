//! Gates before a tunnel: who may go on to its node, and when that changes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use argon2::{Argon2, Params, PasswordHash, PasswordHasher as _};
use data_encoding::BASE64;
use http::{HeaderValue, Method};
use mytunnel_keys::feed::{BasicGate, Gates, SessionKey, SignInGate};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    sync::mpsc,
    task::JoinSet,
};

use crate::house::{House, Origin, Visitor, get, ok, read_request, within};
use crate::http2_visitor::{self, Http2, error};

/// Asks for ann's password; hashed as cheaply as can be.
pub(crate) fn password(password: &str, generation: u64) -> Arc<Gates> {
    hashed(password, generation, Params::new(8, 1, 1, None).unwrap())
}

fn hashed(password: &str, generation: u64, cost: Params) -> Arc<Gates> {
    let hash: PasswordHash =
        Argon2::from(cost).hash_password_with_salt(password.as_bytes(), &[7; 16]).unwrap();
    let basic = BasicGate { user: "ann".to_owned(), hash: hash.to_string(), generation };
    Arc::new(Gates { basic: Some(basic), ..Gates::default() })
}

fn sign_in() -> Arc<Gates> {
    let gate = SignInGate {
        provider: "google".to_owned(),
        allowed_domains: vec![],
        allowed_emails: vec![],
        session_key: SessionKey::from_bytes([8; 32]),
    };
    Arc::new(Gates { sign_in: Some(gate), ..Gates::default() })
}

/// A request for `name` with ann's password.
pub(crate) fn with_password(name: &str, password: &str) -> String {
    let pair = BASE64.encode(format!("ann:{password}").as_bytes());
    format!("GET / HTTP/1.1\r\nHost: {name}.tun.test\r\nAuthorization: Basic {pair}\r\nX-Other: kept\r\n\r\n")
}

async fn ask(visitor: &mut Visitor, request: String) -> crate::house::Reply {
    visitor.send(request).await;
    visitor.reply().await
}

#[tokio::test]
async fn a_gate_counts_from_the_next_request_on_the_same_connection() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    let mut visitor = house.visitor().await;
    assert_eq!(visitor.get("/").await.status, 200);

    tunnel.set_gates(Some(password("correct horse", 1)));
    let refused = visitor.get("/").await;
    assert_eq!(refused.error(), (401, Some("PASSWORD_REQUIRED")));
    assert_eq!(refused.field("www-authenticate"), Some("Basic realm=\"demo\""));
    assert!(refused.text().contains("password"));
    assert_eq!(ask(&mut visitor, with_password("demo", "wrong horse")).await.status, 401);

    let passed = ask(&mut visitor, with_password("demo", "correct horse")).await;
    assert_eq!(passed.status, 200);
    let seen = passed.text().to_ascii_lowercase();
    assert!(seen.contains("x-other: kept") && !seen.contains("authorization"), "{seen}");

    tunnel.set_gates(Some(password("another horse", 2)));
    assert_eq!(ask(&mut visitor, with_password("demo", "correct horse")).await.status, 401);
    tunnel.set_gates(None);
    let open = ask(&mut visitor, with_password("demo", "correct horse")).await;
    assert!(open.text().to_ascii_lowercase().contains("authorization"), "nobody else's header is touched");
}

#[tokio::test]
async fn the_page_is_json_for_who_asks_for_it() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    tunnel.set_gates(Some(password("correct horse", 1)));
    let reply = house.ask("GET / HTTP/1.1\r\nHost: demo.tun.test\r\nAccept: application/json\r\n\r\n").await;
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status, &body["error"]["code"]), (401, &"password_required".into()));
    assert_eq!(reply.field("www-authenticate"), Some("Basic realm=\"demo\""));
    assert_eq!(reply.field("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn nothing_of_a_refused_request_reaches_the_node() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    tunnel.set_gates(Some(password("correct horse", 1)));
    let upload = "POST / HTTP/1.1\r\nHost: demo.tun.test\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(house.ask(upload).await.status, 401);
    assert_eq!(house.ask("GET / HTTP/1.1\r\nHost: DEMO.tun.test.\r\n\r\n").await.status, 401);
    let sneaky = "GET http://demo.tun.test/ HTTP/1.1\r\nHost: other.tun.test\r\n\r\n";
    assert_ne!(house.ask(sneaky).await.status, 200);
    let proxied = with_password("demo", "correct horse").replace("Authorization", "Proxy-Authorization");
    assert_eq!(house.ask(proxied).await.status, 401);
    tunnel.set_gates(Some(sign_in()));
    let reply = house.ask(with_password("demo", "correct horse")).await;
    assert_eq!(reply.error(), (503, Some("SIGN_IN_UNAVAILABLE")));
    assert_eq!(tunnel.traffic().requests(), 0);
}

#[tokio::test]
async fn what_is_open_without_the_gate_ends_with_the_gate() {
    // One answers with an endless body, one upgrades, one never answers.
    let (asked, mut heard) = mpsc::channel(8);
    let origin = Origin::new(move |_, pipe| {
        let asked = asked.clone();
        async move {
            let mut pipe = BufReader::new(pipe);
            let request = read_request(&mut pipe).await.unwrap();
            let head: &[u8] = match request.split(' ').nth(1) {
                Some("/stream") => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
                Some("/ws") => {
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                }
                _ => b"",
            };
            pipe.write_all(head).await.unwrap();
            asked.send(()).await.unwrap();
            let mut rest = Vec::new();
            drop(pipe.read_to_end(&mut rest).await);
        }
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let (mut stream, mut socket, mut waiting) =
        (house.visitor().await, house.visitor().await, house.visitor().await);
    stream.send(get("/stream")).await;
    assert_eq!(stream.head().await.status, 200);
    socket
        .send(get("/ws").replace("\r\n\r\n", "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"))
        .await;
    assert_eq!(socket.head().await.status, 101);
    waiting.send(get("/wait")).await;
    for _ in 0..3 {
        within(heard.recv()).await.unwrap();
    }

    tunnel.set_gates(Some(password("correct horse", 1)));
    assert_eq!(waiting.reply().await.error(), (401, Some("PASSWORD_REQUIRED")));
    socket.gone().await;
    let rest = stream.rest().await.unwrap_or_default();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a body that was cut is not ended");
    // The same setting once more is none, and opening cuts nobody off.
    let mut inside = house.visitor().await;
    inside.send(with_password("demo", "correct horse").replace("GET / ", "GET /stream ")).await;
    assert_eq!(inside.head().await.status, 200);
    tunnel.set_gates(Some(password("correct horse", 1)));
    tunnel.set_gates(None);
    let mut first = [0; 10];
    within(inside.stream.read_exact(&mut first)).await.unwrap();
    assert_eq!(tunnel.in_flight(), 1);
}

#[tokio::test]
async fn a_visitor_who_waits_for_a_node_meets_the_gate_of_the_one_that_comes() {
    let house = House::open().await;
    house.routes.note_known(&crate::house::name("demo"), None);
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    let tunnel = crate::house::tunnel("demo", mytunnel_keys::id::TunnelKind::Http, &Origin::echo());
    house.routes.insert(tunnel.gated(Some(password("correct horse", 1))));
    assert_eq!(visitor.reply().await.status, 401);
}

#[tokio::test]
async fn wrong_passwords_are_limited_by_address_and_tunnel() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    tunnel.set_gates(Some(password("correct horse", 1)));
    let mut visitor = house.visitor().await;
    for number in 0..10 {
        assert_eq!(ask(&mut visitor, with_password("demo", &format!("guess {number}"))).await.status, 401);
    }
    let limited = ask(&mut visitor, with_password("demo", "correct horse")).await;
    assert_eq!(limited.error(), (429, Some("RATE_LIMITED")));
    assert!(limited.field("retry-after").unwrap().parse::<u64>().unwrap() > 100);
    // Another tunnel is another matter.
    let other = house.share("other", &Origin::echo());
    other.set_gates(Some(password("correct horse", 1)));
    assert_eq!(ask(&mut visitor, with_password("other", "correct horse")).await.status, 200);
}

/// Hashes of real cost: ten of them take a core for a third of a second. The one thread that there is for everything else would be that.
#[tokio::test]
async fn a_flood_of_passwords_does_not_hold_up_other_tunnels() {
    // A machine that stands still for a moment spoils one, but not one after the other.
    for round in 1..=3 {
        let (served, flooded) = beside_a_flood_of_passwords().await;
        if served * 2 < flooded {
            break;
        }
        assert!(round < 3, "{served:?} of {flooded:?}");
    }
}

/// How long another tunnel's request took, and the flood.
async fn beside_a_flood_of_passwords() -> (Duration, Duration) {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    tunnel.set_gates(Some(hashed("correct horse", 1, Params::default())));
    house.share("other", &Origin::saying("well"));
    let start = Instant::now();
    let mut flood = JoinSet::new();
    for number in 0..10 {
        let mut visitor = house.visitor().await;
        visitor.send(with_password("demo", &format!("guess {number}"))).await;
        flood.spawn(async move { visitor.reply().await.status });
    }
    let other = house.ask("GET / HTTP/1.1\r\nHost: other.tun.test\r\n\r\n").await;
    assert_eq!(other.text(), "well");
    let served = start.elapsed();
    assert_eq!(flood.join_all().await, [401; 10]);
    assert_eq!(tunnel.traffic().requests(), 0);
    (served, start.elapsed())
}

#[tokio::test]
async fn a_page_that_asks_for_everything_at_once_is_hashed_for_once() {
    let (house, tunnel) = House::with_demo(&Origin::server(|_| ok("well"))).await;
    tunnel.set_gates(Some(hashed("correct horse", 1, Params::default())));
    let mut visitors = Vec::new();
    for _ in 0..100 {
        let mut visitor = house.visitor().await;
        visitor.send(with_password("demo", "correct horse")).await;
        visitors.push(visitor);
    }
    for mut visitor in visitors {
        assert_eq!(visitor.reply().await.status, 200);
    }
}

#[tokio::test]
async fn http2_and_websockets_over_it_and_calls_of_grpc_meet_the_gate() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    tunnel.set_gates(Some(password("correct horse", 1)));
    let mut visitor = Http2::plain(&house).await;
    assert_eq!(error(&visitor.get("/").await), (401, Some("PASSWORD_REQUIRED")));

    let mut socket = http2_visitor::request(Method::CONNECT, "/ws");
    socket.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
    socket.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    assert_eq!(error(&visitor.ask(socket).await).0, 401);

    let mut call = http2_visitor::request(Method::POST, "/service/Method");
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    call.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    assert_eq!(error(&visitor.ask(call).await).0, 401);
    assert_eq!(tunnel.traffic().requests(), 0, "nothing of them reaches the node");

    let mut right = http2_visitor::get("/");
    let pair = format!("Basic {}", BASE64.encode(b"ann:correct horse"));
    right.headers_mut().insert("authorization", HeaderValue::try_from(pair).unwrap());
    let seen = visitor.ask(right).await;
    assert_eq!(seen.status(), 200);
    assert!(!seen.body().contains("authorization"), "{}", seen.body());
}
