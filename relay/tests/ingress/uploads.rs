//! Uploads: waited for, but not for ever.

use std::time::Duration;

use mytunnel_relay::ingress::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use crate::house::{House, Origin, Visitor, ok, read_request, within};

const HOST: &str = "Host: demo.tun.test\r\n";

const GRACE: Duration = Duration::from_millis(150);

async fn strict_house(origin: &std::sync::Arc<Origin>) -> House {
    let limits = Limits { upload_rate: 10_000, upload_grace: GRACE, ..Limits::default() };
    let house = House::limited(limits).await;
    house.share("demo", origin);
    house
}

#[tokio::test]
async fn an_upload_that_trickles_is_408() {
    let house = strict_house(&Origin::echo()).await;
    for (start, drop_of_it) in [
        ("Content-Length: 1000000\r\n\r\n", "x"),
        ("Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        // What belongs to the framing alone is no progress at all.
        ("Transfer-Encoding: chunked\r\n\r\n1;", "x"),
    ] {
        let visitor = house.visitor().await;
        let (reading, mut writing) = visitor.stream.into_inner().into_split();
        writing.write_all(format!("POST / HTTP/1.1\r\n{HOST}{start}").as_bytes()).await.unwrap();
        let trickle = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            loop {
                ticks.tick().await;
                if writing.write_all(drop_of_it.as_bytes()).await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        let mut answer = Visitor::new(tokio::io::join(reading, tokio::io::sink()));
        let reply = tokio::select! {
            reply = answer.reply() => reply,
            () = trickle => unreachable!(),
        };
        assert_eq!(reply.error(), (408, Some("BAD_REQUEST")), "{start:?}");
    }
}

#[tokio::test]
async fn a_server_that_thinks_for_long_costs_its_visitor_nothing() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        while read_request(&mut pipe).await.is_some() {
            tokio::time::sleep(GRACE * 3).await;
            pipe.write_all(ok("thought").as_bytes()).await.unwrap();
        }
    });
    let house = strict_house(&origin).await;
    for body in ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"] {
        let reply = house.ask(format!("POST / HTTP/1.1\r\n{HOST}{body}")).await;
        assert_eq!(reply.text(), "thought", "{body:?}");
    }
}

/// Whoever answers first does not wait for the rest: the two may talk for as long as they like.
#[tokio::test]
async fn a_conversation_is_no_upload() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        crate::house::read_head(&mut pipe).await.unwrap();
        pipe.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await.unwrap();
        let mut chunk = [0; 6];
        pipe.read_exact(&mut chunk).await.unwrap();
        pipe.write_all(b"late").await.unwrap();
        let mut rest = Vec::new();
        drop(pipe.read_to_end(&mut rest).await);
    });
    let house = strict_house(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send(format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n")).await;
    assert_eq!(visitor.head().await.status, 200);
    tokio::time::sleep(GRACE * 3).await;
    visitor.send("1\r\nx\r\n").await;
    let mut late = [0; 4];
    within(visitor.stream.read_exact(&mut late)).await.unwrap();
    assert_eq!(&late, b"late");
}
