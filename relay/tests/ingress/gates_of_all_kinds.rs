//! Numbers, tokens, addresses and ends before a tunnel, as visitors meet them on the wire.

use std::sync::Arc;

use argon2::{Argon2, Params, PasswordHash, PasswordHasher as _};
use data_encoding::BASE64;
use mytunnel_keys::feed::{AddressGate, BasicGate, BearerGate, Gates, PinGate, SessionKey, SignInGate};
use mytunnel_sign_in::{Client, Provider, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt};

use crate::house::{House, Origin, Reply, get, read_request, within};
use crate::http2_visitor::{self, Http2, error};

fn hash(secret: &str) -> String {
    let cheap = Argon2::from(Params::new(8, 1, 1, None).unwrap());
    let hash: PasswordHash = cheap.hash_password_with_salt(secret.as_bytes(), &[7; 16]).unwrap();
    hash.to_string()
}

pub(crate) fn pin(generation: u8) -> Gates {
    let session_key = SessionKey::from_bytes([generation; 32]);
    let gate = PinGate { hash: hash("123456"), generation: generation.into(), session_key };
    Gates { pin: Some(gate), ..Gates::default() }
}

fn bearer() -> Gates {
    let gate = BearerGate { hash: hash("sixteen-letters-or-more"), generation: 1 };
    Gates { bearer: Some(gate), ..Gates::default() }
}

fn addresses(allow: &[&str], deny: &[&str]) -> Gates {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Gates {
        addresses: Some(AddressGate { allow: networks(allow), deny: networks(deny) }),
        ..Gates::default()
    }
}

fn with(fields: &str) -> String {
    format!("GET /page?x=1 HTTP/1.1\r\nHost: demo.tun.test\r\n{fields}\r\n")
}

/// What a browser sends from the page.
fn form(body: &str, fields: &str) -> String {
    format!(
        "POST /.mytunnel/pin?to=%2Fpage%3Fx%3D1 HTTP/1.1\r\nHost: demo.tun.test\r\nOrigin: http://demo.tun.test\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    )
}

fn cookie(reply: &Reply) -> String {
    let set = reply.field("set-cookie").unwrap();
    assert!(set.contains("; Path=/; HttpOnly; SameSite=Lax; Max-Age=43200"), "{set}");
    format!("Cookie: {}\r\n", set.split(';').next().unwrap())
}

#[tokio::test]
async fn a_number_is_asked_for_by_a_page_and_opens_the_way_back_to_where_one_was_going() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    tunnel.set_gates(Some(Arc::new(pin(1))));
    let page = house.ask(with("Accept: text/html\r\n")).await;
    assert_eq!(page.error(), (401, Some("PIN_REQUIRED")));
    assert_eq!(page.field("cache-control"), Some("no-store"));
    let policy = page.field("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(page.text().contains("action=\"/.mytunnel/pin?to=%2Fpage%3Fx%3D1\""), "{}", page.text());
    let api = house.ask(with("Accept: application/json\r\n")).await;
    let body: serde_json::Value = serde_json::from_slice(&api.body).unwrap();
    assert_eq!((api.status, &body["error"]["code"]), (401, &"pin_required".into()));

    assert_eq!(house.ask(form("pin=000000", "Accept: text/html\r\n")).await.status, 401);
    let elsewhere = form("pin=123456", "").replace("Origin: http://demo", "Origin: http://evil");
    assert_eq!(house.ask(elsewhere).await.error(), (403, Some("CROSS_SITE")));
    let big = form(&format!("pin={}", "1".repeat(5000)), "");
    assert_eq!(house.ask(big).await.status, 400);
    assert_eq!(tunnel.traffic().requests(), 0, "nothing of it reaches the node");

    let entered = house.ask(form("pin=123456", "")).await;
    assert_eq!((entered.status, entered.field("location")), (303, Some("/page?x=1")));
    let known = cookie(&entered);
    let passed = house.ask(with(&format!("Cookie: a=b\r\n{known}"))).await;
    assert_eq!(passed.status, 200);
    let seen = passed.text().to_ascii_lowercase();
    assert!(seen.contains("cookie: a=b") && !seen.contains("mtk_"), "{seen}");
    assert_eq!(tunnel.traffic().requests(), 1);

    tunnel.set_gates(Some(Arc::new(pin(2))));
    assert_eq!(house.ask(with(&known)).await.status, 401, "a session is for one setting");
}

#[tokio::test]
async fn tossed_and_doubled_cookies_let_nobody_in_and_keep_nobody_out() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    tunnel.set_gates(Some(Arc::new(pin(1))));
    let known = cookie(&house.ask(form("pin=123456", "")).await);
    let pair = known.trim_start_matches("Cookie: ").trim_end();
    for evil in [
        format!("Cookie: \u{2000}{pair}\r\n"),
        format!("Cookie: {pair}; {pair}\r\n"),
        format!("Cookie: {pair}\r\nCookie: {pair}\r\n"),
        format!("Cookie: {}\r\n", pair.to_ascii_uppercase()),
        format!("Cookie: __Host-{pair}\r\n"),
        format!("Cookie: {}\r\n", pair.replace("mtk_pin", "mtk_gate")),
        format!("Cookie: {}x\r\n", pair),
    ] {
        assert_eq!(house.ask(with(&evil)).await.status, 401, "{evil}");
    }
    let junk = format!("Cookie: \u{2000}mtk_pin=evil; a=\u{e4}\r\n{known}");
    let passed = house.ask(with(&junk)).await;
    assert_eq!(passed.status, 200);
    assert!(!passed.text().contains("evil"), "what looks like ours goes no further either");
}

#[tokio::test]
async fn a_token_lets_programs_in_and_the_page_asks_people() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    tunnel.set_gates(Some(Arc::new(Gates { pin: pin(1).pin, ..bearer() })));
    let passed = house.ask(with("Authorization: Bearer sixteen-letters-or-more\r\n")).await;
    assert_eq!(passed.status, 200);
    assert!(!passed.text().to_ascii_lowercase().contains("authorization"), "{}", passed.text());
    let refused = house.ask(with("Authorization: Bearer sixteen-letters-or-less\r\n")).await;
    assert_eq!(refused.error(), (401, Some("TOKEN_REQUIRED")));
    assert_eq!(refused.field("www-authenticate"), Some("Bearer realm=\"demo\""));
    assert_eq!(house.ask(with("Accept: text/html\r\n")).await.error(), (401, Some("PIN_REQUIRED")));
    assert_eq!(tunnel.traffic().requests(), 1);
}

#[tokio::test]
async fn an_address_is_the_visitors_own_and_not_what_they_say() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    tunnel.set_gates(Some(Arc::new(addresses(&["198.51.100.0/24"], &[]))));
    let lie = with("X-Forwarded-For: 198.51.100.7\r\nForwarded: for=198.51.100.7\r\n");
    assert_eq!(house.ask(lie).await.error(), (403, Some("ADDRESS_DENIED")));
    tunnel.set_gates(Some(Arc::new(addresses(&["127.0.0.0/8"], &[]))));
    assert_eq!(house.ask(with("")).await.status, 200);
    tunnel.set_gates(Some(Arc::new(addresses(&[], &["127.0.0.1"]))));
    assert_eq!(house.ask(with("")).await.status, 403);
    // Behind a proxy that is believed it is whom the proxy speaks for.
    let behind = House::behind(&["127.0.0.1"], mytunnel_relay::ingress::Limits::default(), None).await;
    behind.share("demo", &Origin::echo()).set_gates(Some(Arc::new(addresses(&["198.51.100.0/24"], &[]))));
    assert_eq!(behind.ask(with("X-Forwarded-For: 198.51.100.7\r\n")).await.status, 200);
    assert_eq!(behind.ask(with("X-Forwarded-For: 203.0.113.7\r\n")).await.status, 403);
}

#[tokio::test]
async fn a_tunnel_whose_time_is_over_answers_as_one_that_has_ended() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    let ends = |ends_at| Some(Arc::new(Gates { ends_at: Some(ends_at), ..Gates::default() }));
    tunnel.set_gates(ends(u64::MAX));
    assert_eq!(house.ask(get("/")).await.status, 200);
    tunnel.set_gates(ends(1));
    assert_eq!(house.ask(get("/")).await.error(), (404, Some("NOT_FOUND")));
    assert_eq!(tunnel.traffic().requests(), 1);
}

#[tokio::test]
async fn an_end_that_is_set_moved_or_taken_away_cuts_nobody() {
    let (go, may_end) = tokio::sync::oneshot::channel();
    let may_end = std::sync::Mutex::new(Some(may_end));
    let origin = Origin::new(move |_, pipe| {
        let may_end = may_end.lock().unwrap().take();
        async move {
            let mut pipe = tokio::io::BufReader::new(pipe);
            read_request(&mut pipe).await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
            pipe.write_all(head).await.unwrap();
            may_end.unwrap().await.unwrap();
            pipe.write_all(b"4\r\nlast\r\n0\r\n\r\n").await.unwrap();
        }
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    assert_eq!(visitor.head().await.status, 200);
    for ends_at in [Some(u64::MAX - 1), Some(u64::MAX), None] {
        tunnel.set_gates(Some(Arc::new(Gates { ends_at, ..Gates::default() })));
    }
    tunnel.set_gates(None);
    go.send(()).unwrap();
    let mut body = [0; 24];
    within(visitor.stream.read_exact(&mut body)).await.unwrap();
    assert_eq!(&body, b"5\r\nfirst\r\n4\r\nlast\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_websocket_of_who_has_typed_the_number_ends_with_another_number() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = tokio::io::BufReader::new(pipe);
        let request = read_request(&mut pipe).await.unwrap();
        assert!(!request.contains("mtk_"), "{request}");
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        pipe.write_all(head).await.unwrap();
        drop(tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await);
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    tunnel.set_gates(Some(Arc::new(pin(1))));
    let known = cookie(&house.ask(form("pin=123456", "")).await);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(house.ask(with(upgrade)).await.status, 401);
    let mut socket = house.visitor().await;
    socket.send(with(&format!("{upgrade}{known}"))).await;
    assert_eq!(socket.head().await.status, 101);
    tunnel.set_gates(Some(Arc::new(pin(2))));
    socket.gone().await;
}

/// The session of the page, as the relay seals it, that ends at this second.
pub(crate) fn sealed(ends_at: u64) -> String {
    sealed_for("mtk_pin", ends_at, b"")
}

/// The same under another name, for somebody.
pub(crate) fn sealed_for(name: &str, ends_at: u64, who: &[u8]) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut key = [0; 64];
    key[..32].copy_from_slice(&[1; 32]);
    let mut mac = Hmac::<sha2::Sha256>::new((&key).into());
    let host = "demo.tun.test";
    mac.update(b"mytunnel session at a gate 1\0");
    mac.update(&(host.len() as u64).to_be_bytes());
    mac.update(host.as_bytes());
    mac.update(&ends_at.to_be_bytes());
    mac.update(who);
    let seal = mac.finalize().into_bytes();
    let value =
        data_encoding::BASE64URL_NOPAD.encode(&[seal.as_slice(), &ends_at.to_be_bytes(), who].concat());
    format!("Cookie: {name}={value}\r\n")
}

#[tokio::test]
async fn a_websocket_ends_with_the_session_that_opened_it() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = tokio::io::BufReader::new(pipe);
        drop(read_request(&mut pipe).await.unwrap());
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        pipe.write_all(head).await.unwrap();
        drop(tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await);
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    tunnel.set_gates(Some(Arc::new(pin(1))));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(house.ask(with(&sealed(now))).await.status, 401, "a session that is over");
    let mut socket = house.visitor().await;
    socket.send(with(&format!("{upgrade}{}", sealed(now + 4)))).await;
    assert_eq!(socket.head().await.status, 101);
    socket.gone().await;
    assert_eq!(tunnel.in_flight(), 0);
}

#[tokio::test]
async fn an_answer_without_end_ends_with_the_session_that_asked_for_it() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = tokio::io::BufReader::new(pipe);
        drop(read_request(&mut pipe).await.unwrap());
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n:\n\r\n";
        pipe.write_all(head).await.unwrap();
        drop(tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await);
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    tunnel.set_gates(Some(Arc::new(pin(1))));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut visitor = house.visitor().await;
    visitor.send(with(&sealed(now + 4))).await;
    assert_eq!(visitor.head().await.status, 200);
    visitor.gone().await;
    assert_eq!(tunnel.in_flight(), 0);
}

/// Who has signed in, and may enter from one domain.
pub(crate) fn only(domain: &str) -> Arc<Gates> {
    let gate = SignInGate {
        provider: "github".to_owned(),
        allowed_domains: vec![domain.to_owned()],
        allowed_emails: vec![],
        session_key: SessionKey::from_bytes([1; 32]),
    };
    Arc::new(Gates { sign_in: Some(gate), ..Gates::default() })
}

pub(crate) const ANN: &[u8] = br#"{"subject":"1","email":"ann@acme.example","shown":"ann@acme.example"}"#;

#[tokio::test]
async fn a_list_that_changes_cuts_who_is_inside_and_lets_in_whom_it_still_names() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = tokio::io::BufReader::new(pipe);
        drop(read_request(&mut pipe).await.unwrap());
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        pipe.write_all(head).await.unwrap();
        drop(tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await);
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    house.sign_in.replace(Client::new(vec![Provider::new(github()).unwrap()]).unwrap());
    tunnel.set_gates(Some(only("acme.example")));
    let upgrade =
        format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{}", sealed_for("mtk_gate", u64::MAX, ANN));
    let mut socket = house.visitor().await;
    socket.send(with(&upgrade)).await;
    assert_eq!(socket.head().await.status, 101);

    tunnel.set_gates(Some(only("other.example")));
    socket.gone().await;
    assert_eq!(house.ask(with(&upgrade)).await.error(), (403, Some("ACCESS_DENIED")));
    assert_eq!(tunnel.traffic().requests(), 1, "nothing of it reaches the node");
    tunnel.set_gates(Some(only("acme.example")));
    let mut again = house.visitor().await;
    again.send(with(&upgrade)).await;
    assert_eq!(again.head().await.status, 101, "the session has not ended with the list");
}

/// A server of gRPC, which answers each call with the head that it came with.
fn calls() -> Arc<Origin> {
    Origin::new(|_, pipe| async move {
        let mut connection = h2::server::handshake(pipe).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let seen = format!("{:?}", request.headers());
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            body.send_data(bytes::Bytes::from(seen), true).unwrap();
        }
    })
}

#[tokio::test]
async fn a_server_of_grpc_is_told_who_it_is_and_nobody_else_can_say_so() {
    let (house, tunnel) = House::with_demo(&calls()).await;
    house.sign_in.replace(Client::new(vec![Provider::new(github()).unwrap()]).unwrap());
    tunnel.set_gates(Some(only("acme.example")));
    let mut visitor = Http2::plain(&house).await;
    let call = |cookie: &str| {
        let mut call = http2_visitor::request(http::Method::POST, "/service/Method");
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("x-forwarded-user", "root"),
            ("x_forwarded_email", "root@acme.example"),
        ] {
            call.headers_mut().insert(name, value.parse().unwrap());
        }
        if !cookie.is_empty() {
            call.headers_mut().insert("cookie", cookie.parse().unwrap());
        }
        call
    };
    assert_eq!(error(&visitor.ask(call("")).await), (401, Some("SIGN_IN_REQUIRED")));
    let session = sealed_for("mtk_gate", u64::MAX, ANN);
    let session = session.trim_start_matches("Cookie: ").trim_end();
    let answer = visitor.ask(call(&format!("a=b; {session}"))).await;
    assert_eq!(answer.status(), 200);
    let seen = answer.body();
    assert!(seen.contains(r#""x-forwarded-user": "1""#), "{seen}");
    assert!(seen.contains(r#""x-forwarded-email": "ann@acme.example""#), "{seen}");
    assert!(!seen.contains("root") && !seen.contains("mtk_") && seen.contains("a=b"), "{seen}");
}

pub(crate) fn github() -> Settings {
    Settings {
        id: "github".to_owned(),
        client_id: "us".to_owned(),
        client_secret: "secret".to_owned().into(),
        ..Settings::default()
    }
}

/// What each gate costs a request, beside a tunnel without any, in turns in the same run: `cargo test --release -p mytunnel-relay
/// --test ingress figures -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn figures_of_each_gate() {
    const REQUESTS: u32 = 250;
    const ROUNDS: usize = 40;
    let (house, tunnel) = House::with_demo(&Origin::server(|_| crate::house::ok("well"))).await;
    let addresses = addresses(&["127.0.0.0/8", "10.0.0.0/8", "2001:db8::/32"], &["127.0.0.9"]);
    let session = sealed(u64::MAX);
    let (settings, session_key) = (github(), SessionKey::from_bytes([1; 32]));
    house.sign_in.replace(Client::new(vec![Provider::new(settings).unwrap()]).unwrap());
    let sign_in = SignInGate {
        provider: "github".to_owned(),
        allowed_domains: vec!["acme.example".to_owned()],
        allowed_emails: vec![],
        session_key,
    };
    let signed_in = sealed_for("mtk_gate", u64::MAX, ANN);
    let basic = BasicGate { user: "ann".to_owned(), hash: hash("correct horse"), generation: 1 };
    let password = format!("Authorization: Basic {}\r\n", BASE64.encode(b"ann:correct horse"));
    let token = "Authorization: Bearer sixteen-letters-or-more\r\n".to_owned();
    let cases = [
        ("none", None, String::new()),
        ("addresses", Some(addresses), String::new()),
        ("end", Some(Gates { ends_at: Some(u64::MAX), ..Gates::default() }), String::new()),
        ("basic", Some(Gates { basic: Some(basic), ..Gates::default() }), password),
        ("sign-in", Some(Gates { sign_in: Some(sign_in), ..Gates::default() }), signed_in),
        ("pin", Some(pin(1)), session),
        ("bearer", Some(bearer()), token),
        ("none again", None, String::new()),
    ];
    let mut times = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for ((name, gates, fields), times) in cases.iter().zip(&mut times) {
            tunnel.set_gates(gates.clone().map(Arc::new));
            let mut visitor = house.visitor().await;
            visitor.send(with(fields)).await;
            assert_eq!(visitor.reply().await.status, 200, "{name}");
            let start = std::time::Instant::now();
            for _ in 0..REQUESTS {
                visitor.send(with(fields)).await;
                assert_eq!(visitor.reply().await.status, 200);
            }
            times.push(start.elapsed() / REQUESTS);
        }
    }
    // Of a busy machine the fastest of many rounds says most.
    let fastest = times.iter().map(|times| *times.iter().min().unwrap());
    let none = *times[0].iter().min().unwrap();
    for ((name, ..), each) in cases.iter().zip(fastest) {
        let more = each.as_secs_f64() - none.as_secs_f64();
        println!("{name:10} {each:>8.1?} a request, {:+.1} µs", more * 1e6);
    }
}
