//! What is refused at the door, and what is changed on the way through.

use std::time::Duration;

use mytunnel_relay::ingress::Limits;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::house::{House, Origin, get, within};

const HOST: &str = "Host: demo.tun.test\r\n";

#[tokio::test]
async fn ambiguous_framing_is_refused_and_nothing_reaches_the_tunnel() {
    let origin = Origin::echo();
    let (house, _) = House::with_demo(&origin).await;
    for (fields, body) in [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"),
        ("Content-Length: 3, 3\r\n", "abc"),
        ("Content-Length: +3\r\n", "abc"),
        ("Content-Length: 0x3\r\n", "abc"),
        ("Content-Length: 18446744073709551616\r\n", "abc"),
        ("Content-Length:\r\n", "abc"),
        ("Content-Length : 3\r\n", "abc"),
        ("Content-Length: 3\r\n X: y\r\n", "abc"),
        ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: identity\r\n", ""),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding:\r\n\tchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"),
        ("X: a\r\n b\r\n", ""),
        ("X: a\nY: b\r\n", ""),
        ("X: a\rY: b\r\n", ""),
        ("X\0: a\r\n", ""),
        ("X Y: a\r\n", ""),
        (": a\r\n", ""),
    ] {
        let mut visitor = house.visitor().await;
        visitor.send(format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n{body}")).await;
        visitor.send(get("/smuggled")).await;
        let reply = visitor.reply().await;
        assert_eq!(reply.error(), (400, Some("BAD_REQUEST")), "{fields:?}");
        assert!(!reply.body.is_empty(), "{fields:?}");
        let rest = visitor.rest().await.unwrap_or_default();
        assert!(rest.is_empty(), "{fields:?}: {}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(origin.opened(), 0);
}

#[tokio::test]
async fn a_transfer_coding_in_http_1_0_is_refused() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    let request = format!("POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(house.ask(request).await.status, 400);
}

#[tokio::test]
async fn bad_chunks_are_refused_and_end_the_connection() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    for body in [
        "5\nhello\n0\n\n",
        "0x5\r\nhello\r\n",
        "5\r\nhelloX",
        "zz\r\n",
        "5\r\nhello0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
    ] {
        let mut visitor = house.visitor().await;
        visitor.send(format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n")).await;
        visitor.send(body).await;
        assert_eq!(visitor.reply().await.status, 400, "{body:?}");
        assert!(visitor.rest().await.unwrap_or_default().is_empty(), "{body:?}");
    }
}

#[tokio::test]
async fn a_good_request_before_a_bad_one_is_still_answered() {
    let origin = Origin::echo();
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    let bad = format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
    visitor.send(get("/good") + &bad).await;
    assert_eq!(visitor.reply().await.status, 200);
    assert_eq!(visitor.reply().await.error(), (400, Some("BAD_REQUEST")));
    visitor.gone().await;
}

#[tokio::test]
async fn heads_are_limited() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    let many: String = (0..101).map(|number| format!("x-{number}: a\r\n")).collect();
    let too_many = house.ask(format!("GET / HTTP/1.1\r\n{HOST}{many}\r\n")).await;
    assert_eq!(too_many.error(), (431, Some("BAD_REQUEST")));
    assert!(too_many.text().contains("too large"), "{}", too_many.text());
    let long = "a".repeat(65 * 1024);
    let too_long = house.ask(format!("GET / HTTP/1.1\r\n{HOST}X: {long}\r\n\r\n")).await;
    assert_eq!(too_long.error(), (431, Some("BAD_REQUEST")));
    assert_eq!(too_long.field("clear-site-data"), None, "no cookie is to blame");
    let fits = "a".repeat(60 * 1024);
    assert_eq!(house.ask(format!("GET / HTTP/1.1\r\n{HOST}X: {fits}\r\n\r\n")).await.status, 200);
    let path = "a".repeat(70 * 1024);
    assert!(matches!(house.ask(get(&format!("/{path}"))).await.status, 414 | 431));
}

#[tokio::test]
async fn slow_heads_and_idle_connections_are_closed() {
    let limits = Limits {
        head_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(600),
        ..Limits::default()
    };
    let house = House::limited(limits).await;
    house.share("demo", &Origin::saying("hi"));
    let mut silent = house.visitor().await;
    assert!(silent.rest().await.unwrap_or_default().is_empty());
    let mut slow = house.visitor().await;
    slow.send("GET / HT").await;
    slow.gone().await;
    let mut idle = house.visitor().await;
    assert_eq!(idle.get("/").await.text(), "hi");
    idle.gone().await;
    let mut second = house.visitor().await;
    assert_eq!(second.get("/").await.text(), "hi");
    second.send("GET /").await;
    second.gone().await;
}

#[tokio::test]
async fn an_upload_that_stops_is_408() {
    let limits = Limits { response_timeout: Duration::from_millis(40), ..Limits::default() };
    let house = House::limited(limits).await;
    house.share("demo", &Origin::echo());
    let mut visitor = house.visitor().await;
    visitor.send(format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 10\r\n\r\nhalf")).await;
    assert_eq!(visitor.reply().await.status, 408);
    visitor.gone().await;
}

#[tokio::test]
async fn the_tunnel_learns_who_asks_and_nothing_the_visitor_made_up() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    let reply = house
        .ask(
            "GET / HTTP/1.1\r\nHost: demo.tun.test:8080\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\
             Keep-Alive: timeout=5\r\nTE: trailers\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
             X-Forwarded-User: root\r\nX-Auth-Request-Email: root@x\r\nRemote-User: root\r\nX_Forwarded_For: 6.6.6.6\r\n\
             X-Mtk-Name: root\r\nCookie: a=b\r\nAuthorization: Bearer x\r\nX-Kept: yes\r\n\r\n",
        )
        .await;
    let seen = reply.text().to_ascii_lowercase();
    for gone in ["6.6.6.6", "root", "x-hop", "keep-alive", "x_"] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
    for kept in [
        "host: demo.tun.test:8080\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: demo.tun.test:8080\r\n",
        "forwarded: for=127.0.0.1;host=\"demo.tun.test:8080\";proto=http\r\n",
        "cookie: a=b\r\n",
        "authorization: bearer x\r\n",
        "x-kept: yes\r\n",
        "te: trailers\r\n",
    ] {
        assert!(seen.contains(kept), "{kept}: {seen}");
    }
}

#[tokio::test]
async fn a_tunnel_sets_cookies_for_itself_only() {
    let origin = Origin::server(|_| {
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Set-Cookie: a=1; Domain=tun.test; Path=/\r\nSet-Cookie: b=2; Path=/\r\nSet-Cookie: =nameless\r\n\
         Clear-Site-Data: \"cookies\"\r\nServer: origin\r\n\r\n"
            .into()
    });
    let (house, _) = House::with_demo(&origin).await;
    let reply = house.ask(get("/")).await;
    assert_eq!(reply.fields("set-cookie"), ["a=1; Path=/", "b=2; Path=/"]);
    for gone in ["clear-site-data", "x-hop", "keep-alive", "connection"] {
        assert_eq!(reply.field(gone), None, "{gone}");
    }
    assert_eq!(reply.field("server"), Some("origin"));
}

#[tokio::test]
async fn http_1_0_visitors_are_served() {
    let origin = Origin::server(|request| {
        if request.starts_with("GET /chunked") {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".into()
        } else {
            crate::house::ok(request.lines().next().unwrap())
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send(format!("GET / HTTP/1.0\r\n{HOST}\r\n")).await;
    assert_eq!(visitor.reply().await.text(), "GET / HTTP/1.1");
    visitor.gone().await;
    let mut visitor = house.visitor().await;
    visitor.send(format!("GET /chunked HTTP/1.0\r\n{HOST}\r\n")).await;
    let reply = visitor.reply().await;
    assert_eq!((reply.field("transfer-encoding"), reply.text()), (None, "abc"));
    let mut visitor = house.visitor().await;
    for _ in 0..2 {
        visitor.send(format!("GET / HTTP/1.0\r\n{HOST}Connection: keep-alive\r\n\r\n")).await;
        assert_eq!(visitor.reply().await.text(), "GET / HTTP/1.1");
    }
}

#[tokio::test]
async fn a_visitor_that_closes_its_half_still_gets_its_answer() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let origin = Origin::new(move |_, pipe| {
        let mut wait = wait.clone();
        async move {
            let mut pipe = tokio::io::BufReader::new(pipe);
            crate::house::read_request(&mut pipe).await;
            wait.wait_for(|go| *go).await.unwrap();
            pipe.write_all(crate::house::ok("late").as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            drop(pipe.read_to_end(&mut rest).await);
        }
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    visitor.stream.shutdown().await.unwrap();
    within(async {
        while tunnel.in_flight() == 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    // Another visitor's turn, so that the end of this one's stream has been seen.
    assert_eq!(house.ask("GET / HTTP/1.1\r\nHost: x.tun.test\r\n\r\n").await.status, 404);
    go.send(true).unwrap();
    assert_eq!(visitor.reply().await.text(), "late");
    // And its connection is not kept for requests that cannot come.
    let closing = tokio::time::timeout(Duration::from_secs(5), visitor.rest()).await;
    assert!(closing.expect("closed at once").unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_request_at_all_gets_a_page_too() {
    let (house, _) = House::with_demo(&Origin::saying("hi")).await;
    for garbage in
        ["\u{16}\u{3}\u{1}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/7.7\r\n\r\n", "G\0T / HTTP/1.1\r\n\r\n"]
    {
        // Also behind a good request, whose answer must have gone out: then, hyper's own is the next.
        for first in [None, Some(get("/"))] {
            let mut visitor = house.visitor().await;
            if let Some(first) = &first {
                visitor.send(first).await;
                assert_eq!(visitor.reply().await.text(), "hi");
            }
            visitor.send(garbage).await;
            let reply = visitor.reply().await;
            assert_eq!(reply.error(), (400, Some("BAD_REQUEST")), "{garbage:?} {first:?}");
            assert!(reply.text().contains("cannot be understood"), "{garbage:?}: {}", reply.text());
            assert_eq!(visitor.rest().await.unwrap(), b"", "{garbage:?}");
        }
    }
    let target = "a".repeat(70_000);
    let limits = Limits { head_bytes: 128 * 1024, ..Limits::default() };
    let roomy = House::limited(limits).await;
    assert_eq!(roomy.ask(get(&format!("/{target}"))).await.error(), (414, Some("BAD_REQUEST")));
}

#[tokio::test]
async fn whose_cookies_are_too_many_is_asked_to_delete_them_and_nobody_else() {
    let (house, tunnel) = House::with_demo(&Origin::echo()).await;
    let cookies = |count: usize, long: usize| {
        let all: Vec<_> = (0..count).map(|number| format!("junk{number}={}", "x".repeat(long))).collect();
        format!("GET / HTTP/1.1\r\nHost: demo.tun.test\r\nCookie: {}\r\n\r\n", all.join("; "))
    };
    // What a page of a sibling can do to a browser with `Domain=`, for a tunnel and for the console.
    for host in ["demo.tun.test", "console.test"] {
        let bomb = cookies(40, 3500).replace("demo.tun.test", host);
        let mut visitor = house.visitor().await;
        // It may be answered before all of it was sent.
        drop(visitor.stream.write_all(bomb.as_bytes()).await);
        let reply = visitor.reply().await;
        assert_eq!(reply.error(), (431, Some("BAD_REQUEST")), "{host}");
        assert_eq!(reply.field("clear-site-data"), Some("\"cookies\""), "{host}");
        assert!(reply.text().contains("load the page again"), "{}", reply.text());
    }
    let much = house.ask(cookies(10, 3500)).await;
    assert_eq!((much.status, much.field("clear-site-data")), (200, None), "many are nobody's fault");
    let named = get("/").replace("\r\n\r\n", &format!("\r\nX-Cookie: {}\r\n\r\n", "x".repeat(70_000)));
    let mut visitor = house.visitor().await;
    drop(visitor.stream.write_all(named.as_bytes()).await);
    let reply = visitor.reply().await;
    assert_eq!((reply.status, reply.field("clear-site-data")), (431, None));
    assert_eq!(tunnel.traffic().requests(), 1);
}
