//! Pipes are kept and used again, and a dead one is noticed.

use std::{sync::Arc, time::Duration};

use mytunnel_relay::ingress::Limits;
use tokio::io::{AsyncWriteExt, BufReader};

use crate::house::{House, Origin, get, ok, read_request, within};

#[tokio::test]
async fn one_pipe_serves_many_requests_and_visitors() {
    let origin = Origin::saying("again");
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    for _ in 0..20 {
        assert_eq!(visitor.get("/").await.text(), "again");
    }
    for _ in 0..5 {
        assert_eq!(house.ask(get("/")).await.text(), "again");
    }
    assert_eq!(origin.opened(), 1);
    assert_eq!(tunnel.traffic().requests(), 25);
    assert_eq!(tunnel.traffic().bytes_out(), 25 * 5);
    assert_eq!((tunnel.in_flight(), tunnel.idle_pipes()), (0, 1));
}

#[tokio::test]
async fn every_kind_of_ending_leaves_the_pipe_usable() {
    let origin = Origin::server(|request| match request.split(' ').nth(1).unwrap() {
        "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".into(),
        "/empty" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
        "/none" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
        "/unchanged" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: \"a\"\r\n\r\n".into(),
        "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n".into(),
        "/early" => {
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
                .into()
        }
        _ => ok("plain"),
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    assert_eq!(visitor.get("/chunked").await.text(), "abc");
    assert_eq!(visitor.get("/empty").await.text(), "");
    assert_eq!(visitor.get("/none").await.status, 204);
    let unchanged = visitor.get("/unchanged").await;
    assert_eq!((unchanged.status, unchanged.field("etag")), (304, Some("\"a\"")));
    visitor.send("HEAD /head HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n").await;
    let head = visitor.head().await;
    assert_eq!((head.status, head.field("content-length")), (200, Some("500")));
    assert_eq!(visitor.get("/early").await.text(), "x");
    visitor.send("POST / HTTP/1.1\r\nHost: demo.tun.test\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(visitor.reply().await.text(), "plain");
    visitor.send("PUT / HTTP/1.1\r\nHost: demo.tun.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    assert_eq!(visitor.reply().await.text(), "plain");
    assert_eq!(visitor.get("/").await.text(), "plain");
    assert_eq!(origin.opened(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::server(|request| ok(request.split(' ').nth(1).unwrap()));
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send([get("/1"), get("/2"), get("/3")].concat()).await;
    for path in ["/1", "/2", "/3"] {
        assert_eq!(visitor.reply().await.text(), path);
    }
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_works() {
    let origin =
        Origin::server(|_| "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".into());
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    for _ in 0..3 {
        let reply = visitor.get("/").await;
        assert_eq!(reply.text(), "ok");
        assert_eq!(reply.field("connection"), None);
    }
    assert_eq!((origin.opened(), tunnel.idle_pipes()), (3, 0));
}

/// A server that answers one request on its first pipe, and then does `after` when the second one arrives.
fn once_then(wait_for_second: bool) -> Arc<Origin> {
    Origin::new(move |number, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        while let Some(request) = read_request(&mut pipe).await {
            let line = request.lines().next().unwrap();
            pipe.write_all(ok(&format!("{number} {line}")).as_bytes()).await.unwrap();
            if number == 1 {
                if wait_for_second {
                    read_request(&mut pipe).await;
                }
                return;
            }
        }
    })
}

#[tokio::test]
async fn a_pipe_that_died_while_idle_costs_nobody_anything() {
    let origin = once_then(false);
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    assert_eq!(visitor.get("/").await.text(), "1 GET / HTTP/1.1");
    visitor.send("POST /form HTTP/1.1\r\nHost: demo.tun.test\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(visitor.reply().await.text(), "2 POST /form HTTP/1.1");
    assert_eq!(origin.opened(), 2);
}

#[tokio::test]
async fn a_pipe_that_dies_with_a_repeatable_request_is_replaced_once() {
    let origin = once_then(true);
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    assert_eq!(visitor.get("/").await.text(), "1 GET / HTTP/1.1");
    assert_eq!(visitor.get("/again").await.text(), "2 GET /again HTTP/1.1");
    assert_eq!(origin.opened(), 2);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice() {
    let origin = once_then(true);
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    assert_eq!(visitor.get("/").await.status, 200);
    visitor.send("POST /pay HTTP/1.1\r\nHost: demo.tun.test\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(visitor.reply().await.error(), (502, Some("TARGET_UNREACHABLE")));
    assert_eq!(origin.opened(), 1);
}

#[tokio::test]
async fn a_dead_server_is_tried_twice_and_no_more() {
    let origin = Origin::new(|number, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_request(&mut pipe).await;
        if number == 1 {
            pipe.write_all(ok("first").as_bytes()).await.unwrap();
            read_request(&mut pipe).await;
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    assert_eq!(visitor.get("/").await.status, 200);
    assert_eq!(visitor.get("/").await.status, 502);
    assert_eq!(origin.opened(), 2);
}

#[tokio::test]
async fn slow_answers_get_as_many_pipes_as_they_need() {
    const AT_ONCE: usize = 150;
    let all_here = Arc::new(tokio::sync::Barrier::new(AT_ONCE));
    let origin = Origin::new(move |_, pipe| {
        let all_here = Arc::clone(&all_here);
        async move {
            let mut pipe = BufReader::new(pipe);
            while read_request(&mut pipe).await.is_some() {
                all_here.wait().await;
                pipe.write_all(ok("at last").as_bytes()).await.unwrap();
            }
        }
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut visitors = Vec::new();
    for _ in 0..AT_ONCE {
        visitors.push(house.visitor().await);
    }
    // The second time the pipes are there.
    for _ in 0..2 {
        for visitor in &mut visitors {
            visitor.send(get("/")).await;
        }
        for visitor in &mut visitors {
            assert_eq!(visitor.reply().await.text(), "at last");
        }
    }
    assert_eq!(origin.opened(), AT_ONCE);
    assert_eq!((tunnel.in_flight(), tunnel.idle_pipes()), (0, AT_ONCE));
}

#[tokio::test(start_paused = true)]
async fn idle_pipes_are_bounded_in_number_and_age() {
    let limits = Limits {
        idle_pipes_per_tunnel: 2,
        pipe_idle_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(600),
        ..Limits::default()
    };
    let origin = Origin::saying("hi");
    let house = House::limited(limits).await;
    let tunnel = house.share("demo", &origin);
    let mut visitors = Vec::new();
    for _ in 0..4 {
        visitors.push(house.visitor().await);
    }
    for visitor in &mut visitors {
        visitor.send(get("/")).await;
    }
    for visitor in &mut visitors {
        assert_eq!(visitor.reply().await.text(), "hi");
    }
    assert!((1..=2).contains(&tunnel.idle_pipes()), "{}", tunnel.idle_pipes());
    tokio::time::advance(Duration::from_secs(40)).await;
    within(async {
        while tunnel.idle_pipes() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
}
