//! How things end: a tunnel that is closed, a visitor that leaves, a relay that stops.

use std::time::Duration;

use mytunnel_relay::ingress::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    sync::mpsc,
};

use crate::house::{House, ON_THE_WAY, Origin, get, read_request, within};

/// Starts an endless body, and tells when its reader is gone.
fn endless() -> (std::sync::Arc<Origin>, mpsc::Receiver<()>) {
    let (ended, end) = mpsc::channel(8);
    let origin = Origin::new(move |_, pipe| {
        let ended = ended.clone();
        async move {
            let mut pipe = BufReader::new(pipe);
            read_request(&mut pipe).await;
            pipe.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                .await
                .unwrap();
            let mut rest = Vec::new();
            drop(pipe.read_to_end(&mut rest).await);
            ended.send(()).await.unwrap();
        }
    });
    (origin, end)
}

/// Never answers, and tells when its reader is gone.
fn silent() -> (std::sync::Arc<Origin>, mpsc::Receiver<&'static str>) {
    let (tell, told) = mpsc::channel(8);
    let origin = Origin::new(move |_, pipe| {
        let tell = tell.clone();
        async move {
            let mut pipe = BufReader::new(pipe);
            read_request(&mut pipe).await;
            tell.send("asked").await.unwrap();
            let mut rest = Vec::new();
            drop(pipe.read_to_end(&mut rest).await);
            tell.send("left").await.unwrap();
        }
    });
    (origin, told)
}

#[tokio::test]
async fn closing_a_tunnel_aborts_its_downloads_and_leaves_others_alone() {
    let (origin, mut ended) = endless();
    let (house, tunnel) = House::with_demo(&origin).await;
    house.share("other", &Origin::saying("well"));
    let mut visitors = Vec::new();
    for _ in 0..3 {
        let mut visitor = house.visitor().await;
        visitor.send(get("/")).await;
        assert_eq!(visitor.head().await.status, 200);
        let mut first = [0; 10];
        within(visitor.stream.read_exact(&mut first)).await.unwrap();
        visitors.push(visitor);
    }
    assert_eq!(tunnel.in_flight(), 3);
    tunnel.close();
    for mut visitor in visitors {
        let rest = visitor.rest().await.unwrap_or_default();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
        within(ended.recv()).await.unwrap();
    }
    assert_eq!(house.ask("GET / HTTP/1.1\r\nHost: other.tun.test\r\n\r\n").await.text(), "well");
}

#[tokio::test]
async fn closing_a_tunnel_ends_a_visitor_that_does_not_read() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_request(&mut pipe).await;
        pipe.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
        while pipe.write_all(&[1; 64 * 1024]).await.is_ok() {}
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    assert_eq!(visitor.head().await.status, 200);
    // While another gets as much as can be on the way, this one's way fills up.
    let body = "x".repeat(ON_THE_WAY);
    house.share("other", &Origin::server(move |_| crate::house::ok(&body)));
    let other = house.ask("GET / HTTP/1.1\r\nHost: other.tun.test\r\n\r\n").await;
    assert_eq!(other.body.len(), ON_THE_WAY);
    tunnel.close();
    within(async {
        while tunnel.in_flight() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
}

#[tokio::test]
async fn closing_a_tunnel_answers_who_waits_with_502() {
    let (origin, mut told) = silent();
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    assert_eq!(within(told.recv()).await, Some("asked"));
    tunnel.close();
    assert_eq!(visitor.reply().await.error(), (502, Some("TARGET_UNREACHABLE")));
    assert_eq!(within(told.recv()).await, Some("left"));
}

#[tokio::test]
async fn idle_pipes_end_with_their_tunnel() {
    let (tell, mut told) = mpsc::channel(1);
    let origin = Origin::new(move |_, pipe| {
        let tell = tell.clone();
        async move {
            let mut pipe = BufReader::new(pipe);
            while read_request(&mut pipe).await.is_some() {
                pipe.write_all(crate::house::ok("x").as_bytes()).await.unwrap();
            }
            tell.send(()).await.unwrap();
        }
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    assert_eq!(house.ask(get("/")).await.status, 200);
    within(async {
        while tunnel.idle_pipes() == 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    tunnel.close();
    within(told.recv()).await.unwrap();
    assert_eq!(tunnel.idle_pipes(), 0);
}

#[tokio::test]
async fn a_visitor_that_resets_ends_its_request() {
    let (origin, mut told) = silent();
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    assert_eq!(within(told.recv()).await, Some("asked"));
    visitor.reset();
    assert_eq!(within(told.recv()).await, Some("left"));
    within(async {
        while tunnel.in_flight() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_visitor_that_left_quietly_is_noticed_in_time() {
    let (origin, mut told) = silent();
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    assert_eq!(told.recv().await, Some("asked"));
    drop(visitor);
    assert_eq!(told.recv().await, Some("left"));
}

#[tokio::test]
async fn shutdown_lets_requests_end_and_takes_no_new_ones() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let origin = Origin::new(move |_, pipe| {
        let mut wait = wait.clone();
        async move {
            let mut pipe = BufReader::new(pipe);
            read_request(&mut pipe).await;
            wait.wait_for(|go| *go).await.unwrap();
            pipe.write_all(crate::house::ok("finished").as_bytes()).await.unwrap();
        }
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut idle = house.visitor().await;
    let mut busy = house.visitor().await;
    busy.send(get("/")).await;
    within(async {
        while tunnel.in_flight() == 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    house.shutdown.cancel();
    idle.gone().await;
    go.send(true).unwrap();
    assert_eq!(busy.reply().await.text(), "finished");
    busy.gone().await;
    house.close().await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let (origin, _told) = silent();
    let house =
        House::limited(Limits { drain_timeout: Duration::from_millis(30), ..Limits::default() }).await;
    let tunnel = house.share("demo", &origin);
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    within(async {
        while tunnel.in_flight() == 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    house.close().await;
    visitor.gone().await;
    assert_eq!(tunnel.in_flight(), 0);
}

#[tokio::test]
async fn a_visitor_that_takes_nothing_is_cut_off() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_request(&mut pipe).await;
        pipe.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
        while pipe.write_all(&[1; 64 * 1024]).await.is_ok() {}
    });
    let house =
        House::limited(Limits { stall_timeout: Duration::from_millis(200), ..Limits::default() }).await;
    let tunnel = house.share("demo", &origin);
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    assert_eq!(visitor.head().await.status, 200);
    within(async {
        while tunnel.in_flight() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
}
