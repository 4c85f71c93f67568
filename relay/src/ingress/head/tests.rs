use super::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn visitor() -> Visitor {
    Visitor::new("192.0.2.7".parse().unwrap(), false)
}

fn sent(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = map(fields);
    headers.insert(HOST, HeaderValue::from_static("demo.localhost:8080"));
    to_node(&mut headers, &visitor(), false);
    headers
}

fn answered(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = map(fields);
    to_visitor(StatusCode::OK, &mut headers, false).unwrap();
    headers
}

#[test]
fn the_relay_says_who_asks() {
    let headers = sent(&[]);
    assert_eq!(headers["forwarded"], "for=192.0.2.7;host=\"demo.localhost:8080\";proto=http");
    assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], "demo.localhost:8080");
    assert_eq!(headers["host"], "demo.localhost:8080");

    let mut headers = map(&[("host", "a")]);
    to_node(&mut headers, &Visitor::new("2001:db8::1".parse().unwrap(), true), false);
    assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";host=\"a\";proto=https");
    assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
    assert_eq!(headers["x-forwarded-proto"], "https");

    // Said anew for another host on the same connection.
    let visitor = visitor();
    for host in ["one.localhost", "one.localhost", "two.localhost", "one.localhost"] {
        let mut headers = map(&[("host", host)]);
        to_node(&mut headers, &visitor, false);
        assert_eq!(headers["forwarded"], format!("for=192.0.2.7;host=\"{host}\";proto=http"));
    }

    let mapped = Visitor::new("::ffff:192.0.2.7".parse().unwrap(), false);
    assert_eq!(mapped.address, "192.0.2.7");
}

#[test]
fn what_a_visitor_says_about_itself_is_dropped() {
    let lies = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-forwarded-user", "root"),
        ("x-forwarded-email", "root@example.com"),
        ("x-forwarded-prefix", "/"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("x-auth-request-user", "root"),
        ("x-mtk-name", "a"),
        ("x-mytunnel-error", "a"),
        ("remote-user", "root"),
        ("x-remote-user", "root"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("x_forwarded_for", "6.6.6.6"),
        ("any_thing", "a"),
        ("proxy-authorization", "Basic xxx"),
    ];
    let headers = sent(&lies);
    for (name, value) in lies {
        let kept = headers.get_all(name.parse::<HeaderName>().unwrap()).iter().any(|kept| kept == value);
        assert!(!kept, "{name}: {value}");
    }
    assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
}

#[test]
fn fields_for_one_hop_end_here() {
    let headers = sent(&[
        ("connection", "keep-alive, X-Hop"),
        ("connection", "x-second"),
        ("x-hop", "1"),
        ("x-second", "2"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("upgrade", "websocket"),
        ("authorization", "Bearer a"),
        ("cookie", "a=b"),
        ("x-end-to-end", "1"),
    ]);
    for gone in ["connection", "x-hop", "x-second", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    for kept in ["authorization", "cookie", "x-end-to-end", "host"] {
        assert!(headers.contains_key(kept), "{kept}");
    }
    assert_eq!(sent(&[("te", "trailers")])["te"], "trailers");
}

#[test]
fn connection_cannot_list_what_frames_or_routes() {
    let headers = sent(&[
        ("connection", "host, content-length, cookie, transfer-encoding, x-forwarded-for"),
        ("content-length", "5"),
        ("cookie", "a=b"),
    ]);
    for kept in ["host", "content-length", "cookie", "x-forwarded-for"] {
        assert!(headers.contains_key(kept), "{kept}");
    }
}

#[test]
fn upgrades_are_recognised_and_passed_on() {
    let request = |fields: &[(&str, &str)]| {
        let mut request = Request::new(());
        *request.headers_mut() = map(fields);
        request
    };
    let socket = request(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("host", "a")]);
    let wanted = |fields: &[(&str, &str)]| wanted_upgrade(&request(fields), false);
    let websocket = HeaderValue::from_static("websocket");
    assert_eq!(wanted_upgrade(&socket, false), Some(websocket.clone()));
    assert_eq!(wanted_upgrade(&socket, true), None);
    assert_eq!(wanted(&[("upgrade", "websocket")]), None);
    assert_eq!(wanted(&[("connection", "upgrade")]), None);
    for other in
        ["h2c", "H2C", "h2c-14", "HTTP/2.0", "TLS/1.0", "websocket, h2c", "h2c, \u{ff}", "websocket h2c", ""]
    {
        let asked = [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", other)];
        assert_eq!(wanted(&asked), None, "{other:?}");
    }
    for fields in [["websocket", "h2c"], ["h2c", "websocket"], ["websocket", "websocket"]] {
        let asked = fields.map(|protocol| ("upgrade", protocol));
        assert_eq!(wanted(&[("connection", "upgrade"), asked[0], asked[1]]), None, "{fields:?}");
    }
    assert!(wanted(&[("connection", "upgrade"), ("upgrade", "SPDY/3.1")]).is_some());
    assert!(!sent(&[("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA")]).contains_key("http2-settings"));
    for (said, is_that) in [("WebSocket", true), ("h2c", false), ("websocket, h2c", false)] {
        assert_eq!(is_switched_to(&websocket, &map(&[("upgrade", said)])), is_that, "{said:?}");
    }
    assert!(!is_switched_to(&websocket, &map(&[])));
    assert!(!is_switched_to(&websocket, &map(&[("upgrade", "websocket"), ("upgrade", "h2c")])));

    let (mut parts, ()) = socket.into_parts();
    to_node(&mut parts.headers, &visitor(), true);
    assert_eq!(parts.headers["connection"], "upgrade");
    assert_eq!(parts.headers["upgrade"], "websocket");

    let mut headers =
        map(&[("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "x")]);
    to_visitor(StatusCode::SWITCHING_PROTOCOLS, &mut headers, false).unwrap();
    assert_eq!(headers["connection"], "upgrade");
    assert_eq!(headers["upgrade"], "websocket");
}

#[test]
fn responses_reach_their_own_visitor_only() {
    let headers = answered(&[
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2,h2c"),
        ("clear-site-data", "\"cookies\""),
        ("set-cookie", "a=1; Path=/"),
        ("set-cookie", "b=2; Domain=tun.example; Path=/"),
        ("set-cookie", "__Host-mtk_gate=evil"),
        ("server", "origin"),
        ("x-accel-buffering", "no"),
    ]);
    for gone in ["connection", "x-hop", "keep-alive", "transfer-encoding", "upgrade", "clear-site-data"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; Path=/", "b=2; Path=/"]);
    assert_eq!(headers["server"], "origin");
    assert!(headers.contains_key("x-accel-buffering"));
}

#[test]
fn a_response_with_two_framings_is_refused() {
    let mut headers = map(&[("content-length", "5"), ("transfer-encoding", "chunked")]);
    assert_eq!(to_visitor(StatusCode::OK, &mut headers, false), Err(AmbiguousResponse));
}

#[test]
fn a_response_coding_that_nobody_takes_off_is_refused() {
    let coded = |coding: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_str(coding).unwrap());
        to_visitor(StatusCode::OK, &mut headers, false)
    };
    assert_eq!(coded("Chunked"), Ok(()));
    assert_eq!(coded("gzip"), Err(AmbiguousResponse));
    assert_eq!(coded("gzip, chunked"), Err(AmbiguousResponse));
}

#[test]
fn nobody_but_the_relay_says_that_the_relay_answers() {
    let headers = answered(&[("x-mytunnel-error", "KEY_REVOKED"), ("x-error", "theirs")]);
    assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-error"]);
}

#[test]
fn trailers_to_a_visitor_say_nothing_that_the_head_is_judged_by() {
    let mut trailers = map(&[
        ("grpc-status", "0"),
        ("digest", "sha-256=x"),
        ("set-cookie", "a=b; domain=localhost"),
        ("content-length", "7"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("strict-transport-security", "max-age=1; includeSubDomains"),
        ("x-mytunnel-error", "NOT_FOUND"),
    ]);
    trailers_to_visitor(&mut trailers);
    let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["digest", "grpc-status"]);
}
