//! Who is asked, and what the relay answers by itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use mytunnel_keys::id::TunnelKind;
use mytunnel_relay::ingress::{ConsoleService, Limits, VisitorAddress};

use crate::house::{House, Origin, get, name, tunnel, within};

#[tokio::test]
async fn a_name_leads_to_its_own_tunnel() {
    let house = House::open().await;
    house.share("one", &Origin::saying("first"));
    house.share("two", &Origin::saying("second"));
    for (host, text) in [
        ("one.tun.test", "first"),
        ("two.tun.test", "second"),
        ("TWO.Tun.Test", "second"),
        ("two.tun.test:8443", "second"),
        ("two.tun.test.", "second"),
    ] {
        let reply = house.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((reply.status, reply.text()), (200, text), "{host}");
        assert!(reply.field("x-mytunnel-error").is_none());
    }
    house.close().await;
}

#[tokio::test]
async fn an_absolute_target_is_passed_on_as_a_path() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    let reply = house.ask("GET http://demo.tun.test/a?b=c HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n").await;
    assert!(reply.text().starts_with("GET /a?b=c HTTP/1.1\r\n"), "{}", reply.text());
    let reply = house.ask("GET http://demo.tun.test HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n").await;
    assert!(reply.text().starts_with("GET / HTTP/1.1\r\n"), "{}", reply.text());
    let reply = house.ask("OPTIONS * HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n").await;
    assert!(reply.text().starts_with("OPTIONS * HTTP/1.1\r\n"), "{}", reply.text());
}

#[tokio::test]
async fn an_unclear_host_is_refused() {
    let (house, _) = House::with_demo(&Origin::saying("no")).await;
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: demo.tun.test\r\nHost: demo.tun.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: demo.tun.test, other.tun.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@demo.tun.test\r\n\r\n",
        "GET http://other.tun.test/ HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n",
    ] {
        let mut visitor = house.visitor().await;
        visitor.send(request).await;
        assert_eq!(visitor.reply().await.error(), (400, Some("BAD_REQUEST")), "{request}");
        visitor.gone().await;
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_404_and_names_no_server() {
    let (house, _) = House::with_demo(&Origin::saying("no")).await;
    house.routes.insert(tunnel("wire", TunnelKind::Tcp, &Origin::saying("no")));
    for host in
        ["nobody.tun.test", "tun.test", "a.demo.tun.test", "demo.other.test", "127.0.0.1", "wire.tun.test"]
    {
        let reply = house.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(reply.error(), (404, Some("NOT_FOUND")), "{host}");
        assert!(reply.field("server").is_none());
    }
    let html = house.ask("GET / HTTP/1.1\r\nHost: x.tun.test\r\nAccept: text/html\r\n\r\n").await;
    assert!(html.text().starts_with("<!doctype html>"));
    let json = house.ask("GET / HTTP/1.1\r\nHost: x.tun.test\r\nAccept: application/json\r\n\r\n").await;
    let error: serde_json::Value = serde_json::from_str(json.text()).unwrap();
    assert_eq!(error["error"]["code"], "not_found");
}

#[tokio::test]
async fn methods_that_would_make_an_open_proxy_are_refused() {
    let (house, _) = House::with_demo(&Origin::saying("no")).await;
    for request in [
        "CONNECT demo.tun.test:80 HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n",
    ] {
        let reply = house.ask(request).await;
        assert_eq!(reply.status, 405, "{request}");
        assert!(reply.field("allow").is_some());
    }
}

#[tokio::test]
async fn the_console_has_its_host_and_the_rest_of_the_connection_goes_on() {
    let console: ConsoleService = Arc::new(|request| {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let from = request.extensions().get::<VisitorAddress>().map(|from| from.0.to_string());
            let from = from.unwrap_or_default();
            let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let text = format!("console {path} {} {from}", String::from_utf8_lossy(&body));
            http::Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed())
        })
    });
    let house = House::with(Limits::default(), Some(console)).await;
    house.share("demo", &Origin::saying("tunnel"));
    let mut visitor = house.visitor().await;
    visitor.send("POST /api HTTP/1.1\r\nHost: console.test:80\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(visitor.reply().await.text(), "console /api hi 127.0.0.1");
    assert_eq!(visitor.get("/").await.text(), "tunnel");
    house.close().await;
}

#[tokio::test]
async fn a_refusing_target_is_502() {
    let (house, _) = House::with_demo(&Origin::answering(1, |_, _| async {})).await;
    let reply = house.ask(get("/")).await;
    assert_eq!(reply.error(), (502, Some("TARGET_UNREACHABLE")));
    assert!(reply.text().contains("local server"), "{}", reply.text());
    let post = "POST / HTTP/1.1\r\nHost: demo.tun.test\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(house.ask(post).await.error(), (502, Some("TARGET_UNREACHABLE")));
}

#[tokio::test]
async fn a_node_that_does_not_know_the_tunnel_counts_as_away() {
    let (house, _) = House::with_demo(&Origin::answering(2, |_, _| async {})).await;
    assert_eq!(house.ask(get("/")).await.status, 503);
    let (house, _) = House::with_demo(&Origin::answering(77, |_, _| async {})).await;
    assert_eq!(house.ask(get("/")).await.status, 502);
}

#[tokio::test]
async fn a_server_that_hangs_up_or_talks_nonsense_is_502() {
    for answer in [
        "",
        "HTTP/1.1 200",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ] {
        let origin = Origin::new(move |_, mut pipe| async move {
            let mut stream = tokio::io::BufReader::new(&mut pipe);
            crate::house::read_head(&mut stream).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut pipe, answer.as_bytes()).await.unwrap();
        });
        let (house, _) = House::with_demo(&origin).await;
        assert_eq!(house.ask(get("/")).await.error(), (502, Some("TARGET_UNREACHABLE")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_request_waits_for_its_node_and_is_served() {
    let house = House::open().await;
    house.routes.note_known(&name("demo"), None);
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    // The request is inside once an unknown name, sent after it on another connection, has been answered.
    assert_eq!(house.ask("GET / HTTP/1.1\r\nHost: x.tun.test\r\n\r\n").await.status, 404);
    house.share("demo", &Origin::saying("back"));
    assert_eq!(visitor.reply().await.text(), "back");
}

#[tokio::test]
async fn a_request_outlives_the_connection_of_its_node() {
    let gone = Origin::saying("old");
    let (house, old) = House::with_demo(&gone).await;
    gone.set_gone(true);
    let mut visitor = house.visitor().await;
    visitor.send("POST / HTTP/1.1\r\nHost: demo.tun.test\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(house.ask("GET / HTTP/1.1\r\nHost: x.tun.test\r\n\r\n").await.status, 404);
    house.share("demo", &Origin::saying("new"));
    assert_eq!(visitor.reply().await.text(), "new");
    house.routes.remove(&old);
    assert!(old.is_closed());
    assert_eq!(house.ask(get("/")).await.text(), "new", "the later registration stays");
}

#[tokio::test]
async fn a_node_that_stays_away_is_503() {
    let limits = Limits { away_patience: Duration::from_millis(20), ..Limits::default() };
    let house = House::limited(limits).await;
    house.routes.note_known(&name("demo"), None);
    let reply = house.ask(get("/")).await;
    assert_eq!(reply.error(), (503, Some("TARGET_UNREACHABLE")));
    assert!(reply.field("retry-after").is_some());

    let gone = Origin::saying("no");
    gone.set_gone(true);
    let registered = house.share("demo", &gone);
    assert_eq!(house.ask(get("/")).await.status, 503);
    house.routes.remove(&registered);
    assert_eq!(house.ask(get("/")).await.status, 503);
    house.routes.forget(&name("demo"));
    assert_eq!(house.ask(get("/")).await.status, 404);
}

#[tokio::test]
async fn forgetting_a_name_ends_the_wait_for_it() {
    let house = House::open().await;
    house.routes.note_known(&name("demo"), None);
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    assert_eq!(house.ask("GET / HTTP/1.1\r\nHost: x.tun.test\r\n\r\n").await.status, 404);
    house.routes.forget(&name("demo"));
    assert_eq!(visitor.reply().await.status, 404);
}

#[tokio::test]
async fn a_silent_server_is_504() {
    let silent = Origin::new(|_, pipe| async move {
        let mut stream = tokio::io::BufReader::new(pipe);
        while crate::house::read_head(&mut stream).await.is_ok() {}
    });
    let limits = Limits { response_timeout: Duration::from_millis(30), ..Limits::default() };
    let house = House::limited(limits).await;
    let tunnel = house.share("demo", &silent);
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    assert_eq!(visitor.reply().await.error(), (504, Some("TARGET_UNREACHABLE")));
    // The connection is still good, and nothing is left behind.
    assert_eq!(visitor.get("/").await.status, 504);
    assert_eq!((tunnel.in_flight(), tunnel.idle_pipes()), (0, 0));
}

#[tokio::test]
async fn places_are_limited_per_tunnel_and_per_address() {
    let silent = Origin::new(|_, pipe| async move {
        let mut stream = tokio::io::BufReader::new(pipe);
        while crate::house::read_head(&mut stream).await.is_ok() {}
    });
    let limits = Limits { requests_per_tunnel: 1, requests_per_address: 2, ..Limits::default() };
    let house = House::limited(limits).await;
    let tunnel = house.share("demo", &silent);
    house.share("other", &silent);
    let mut first = house.visitor().await;
    first.send(get("/")).await;
    within(async {
        while tunnel.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let busy = house.ask(get("/")).await;
    assert_eq!(busy.error(), (503, Some("RATE_LIMITED")));

    let mut second = house.visitor().await;
    second.send("GET / HTTP/1.1\r\nHost: other.tun.test\r\n\r\n").await;
    let full = within(async {
        loop {
            let reply = house.ask("GET / HTTP/1.1\r\nHost: third.tun.test\r\n\r\n").await;
            if reply.status != 404 {
                return reply;
            }
        }
    })
    .await;
    assert_eq!(full.error(), (429, Some("RATE_LIMITED")));
    first.reset();
    second.reset();
    within(async {
        while tunnel.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_visitor_too_many_is_told_so() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let house = House::limited(limits).await;
    house.share("demo", &Origin::saying("in"));
    let mut inside = house.visitor().await;
    assert_eq!(inside.get("/").await.text(), "in");
    let mut outside = house.visitor().await;
    assert_eq!(outside.reply().await.error(), (503, Some("RATE_LIMITED")));
    drop(inside);
    within(async { while house.ask(get("/")).await.status != 200 {} }).await;
}

#[tokio::test]
async fn more_requests_than_may_begin_in_a_second_are_429_until_the_next() {
    let limits = Limits { requests_per_second_per_tunnel: 1, ..Limits::default() };
    let house = House::limited(limits).await;
    house.share("demo", &Origin::saying("in"));
    house.share("other", &Origin::saying("too"));
    let until = async |status: u16| {
        within(async {
            loop {
                let reply = house.ask(get("/")).await;
                if reply.status == status {
                    return reply;
                }
            }
        })
        .await
    };
    let refused = until(429).await;
    assert_eq!((refused.error(), refused.field("retry-after")), ((429, Some("RATE_LIMITED")), Some("1")));
    within(async {
        while house.ask("GET / HTTP/1.1\r\nHost: other.tun.test\r\n\r\n").await.status != 200 {}
    })
    .await;
    assert_eq!(until(200).await.text(), "in");

    let limits = Limits { requests_per_second_per_address: 1, ..Limits::default() };
    let house = House::limited(limits).await;
    house.share("demo", &Origin::saying("in"));
    let mut visitor = house.visitor().await;
    let refused = within(async {
        loop {
            // The connection is not the measure, and stays good.
            let reply = visitor.get("/").await;
            if reply.status != 200 {
                return reply;
            }
        }
    })
    .await;
    assert_eq!((refused.error(), refused.field("retry-after")), ((429, Some("RATE_LIMITED")), Some("1")));
    within(async { while visitor.get("/").await.status != 200 {} }).await;
}

#[tokio::test]
async fn a_tunnel_that_leads_back_to_itself_is_noticed() {
    let house = House::open().await;
    house.share("demo", &Origin::echo());
    let asked =
        house.ask("GET / HTTP/1.1\r\nHost: demo.tun.test\r\ncdn-loop: tun.test, other.test\r\n\r\n").await;
    assert!(
        asked.text().to_lowercase().contains("cdn-loop: tun.test\r\n"),
        "it is marked once more: {}",
        asked.text()
    );
    let round = "GET / HTTP/1.1\r\nHost: demo.tun.test\r\ncdn-loop: tun.test, tun.test\r\ncdn-loop: tun.test,tun.test\r\n\r\n";
    assert_eq!(house.ask(round).await.error(), (508, Some("TARGET_UNREACHABLE")));
}
