//! Uploads: streamed, never taken for whole when they are not, and waited for, but not for ever.

use std::time::Duration;

use mytunnel_relay::ingress::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    sync::{mpsc, watch},
};

use crate::house::{
    House, ON_THE_WAY, Origin, Visitor, field, ok, read_chunk, read_head, read_request, within,
};

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

#[tokio::test(start_paused = true)]
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
#[tokio::test(start_paused = true)]
async fn a_conversation_is_no_upload() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_head(&mut pipe).await.unwrap();
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

#[tokio::test]
async fn an_upload_that_breaks_off_is_not_completed() {
    let (seen, mut sees) = mpsc::channel::<Result<usize, std::io::ErrorKind>>(1);
    let origin = Origin::new(move |_, pipe| {
        let seen = seen.clone();
        async move {
            let mut pipe = BufReader::new(pipe);
            let head = read_head(&mut pipe).await.unwrap();
            let mut body = vec![0; 10];
            let outcome = if head.to_ascii_lowercase().contains("chunked") {
                let mut read = 0;
                loop {
                    match read_chunk(&mut pipe).await {
                        Ok(Some(chunk)) => read += chunk.len(),
                        Ok(None) => break Ok(read),
                        Err(error) => break Err(error.kind()),
                    }
                }
            } else {
                pipe.read_exact(&mut body).await.map_err(|error| error.kind())
            };
            seen.send(outcome).await.unwrap();
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    for start in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut visitor = house.visitor().await;
        visitor.send(format!("POST / HTTP/1.1\r\n{HOST}{start}")).await;
        drop(visitor);
        assert!(within(sees.recv()).await.unwrap().is_err(), "{start:?}");
    }
}

#[tokio::test]
async fn a_large_upload_streams_and_waits_for_its_reader() {
    const TOTAL: usize = 48 << 20;
    let (start, wait) = watch::channel(false);
    let (began, mut begins) = watch::channel(0);
    let origin = Origin::new(move |number, pipe| {
        let (mut wait, began) = (wait.clone(), began.clone());
        async move {
            let mut pipe = BufReader::new(pipe);
            let head = read_head(&mut pipe).await.unwrap();
            began.send_replace(number);
            if number == 1 {
                wait.wait_for(|start| *start).await.unwrap();
            }
            let length: usize = field(&head, "content-length").unwrap().parse().unwrap();
            let (mut left, mut sum, mut chunk) = (length, 0u64, vec![0; 64 * 1024]);
            while left > 0 {
                let read = pipe.read(&mut chunk).await.unwrap();
                assert!(read > 0);
                sum += chunk[..read].iter().map(|byte| u64::from(*byte)).sum::<u64>();
                left -= read;
            }
            pipe.write_all(ok(&sum.to_string()).as_bytes()).await.unwrap();
        }
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let (held, other) = (house.visitor().await, house.visitor().await);
    let watching = async {
        begins.wait_for(|began| *began == 1).await.unwrap();
        // In the time in which another is read to its end, the one that nobody reads would have come in too.
        assert_eq!(upload(other, TOTAL).await, (3 * TOTAL).to_string());
        let held = tunnel.traffic().bytes_in() - TOTAL as u64;
        assert!(held < ON_THE_WAY as u64, "{held}");
        start.send(true).unwrap();
    };
    let (sum, ()) = within(async { tokio::join!(upload(held, TOTAL), watching) }).await;
    assert_eq!(sum, (3 * TOTAL).to_string());
}

/// Sends so many threes and returns the answer.
async fn upload(visitor: Visitor, total: usize) -> String {
    let (reading, mut writing) = visitor.stream.into_inner().into_split();
    let sending = async move {
        let head = format!("POST / HTTP/1.1\r\n{HOST}Content-Length: {total}\r\n\r\n");
        writing.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![3; 64 * 1024];
        for _ in 0..total / piece.len() {
            writing.write_all(&piece).await.unwrap();
        }
        writing
    };
    let mut answer = Visitor::new(tokio::io::join(reading, tokio::io::sink()));
    let (_writing, reply) = tokio::join!(sending, answer.try_reply());
    reply.unwrap().text().to_owned()
}

#[tokio::test]
async fn an_expectation_is_answered_by_the_server_behind() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        loop {
            let Ok(head) = read_head(&mut pipe).await else { return };
            assert!(head.to_ascii_lowercase().contains("expect: 100-continue"));
            if head.starts_with("POST /no") {
                pipe.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                return;
            }
            pipe.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            let mut body = vec![0; 5];
            pipe.read_exact(&mut body).await.unwrap();
            pipe.write_all(ok(&String::from_utf8(body).unwrap()).as_bytes()).await.unwrap();
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    let request =
        |path| format!("POST {path} HTTP/1.1\r\n{HOST}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let mut visitor = house.visitor().await;
    visitor.send(request("/yes")).await;
    assert_eq!(visitor.head().await.status, 100);
    visitor.send("hello").await;
    assert_eq!(visitor.reply().await.text(), "hello");

    let mut visitor = house.visitor().await;
    visitor.send(request("/no")).await;
    assert_eq!(visitor.reply().await.status, 413);
}

#[tokio::test]
async fn a_server_that_knows_no_expectation_gets_the_body_anyway() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    let mut visitor = house.visitor().await;
    visitor.send(format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")).await;
    assert_eq!(visitor.head().await.status, 100);
    visitor.send("hello").await;
    assert!(visitor.reply().await.text().ends_with("hello"));
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_is_passed_on() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_head(&mut pipe).await.unwrap();
        pipe.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
        let mut rest = Vec::new();
        drop(pipe.read_to_end(&mut rest).await);
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send(format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 1000000\r\n\r\nsome")).await;
    let reply = visitor.head().await;
    assert_eq!(reply.status, 401);
    // Bytes that were on the way do not make the relay reset the connection under its answer.
    visitor.send("x".repeat(200_000)).await;
    assert_eq!(visitor.rest().await.unwrap(), b"no");
    assert_eq!(tunnel.idle_pipes(), 0);
}

#[tokio::test]
async fn a_body_that_is_larger_than_it_may_be_is_413() {
    let origin = Origin::echo();
    let house = House::limited(Limits { body_bytes: 10, ..Limits::default() }).await;
    house.share("demo", &origin);
    let post = |framing: &str| format!("POST / HTTP/1.1\r\n{HOST}{framing}");
    let fits = house.ask(post("Content-Length: 10\r\n\r\n0123456789")).await;
    assert_eq!(fits.status, 200);
    let chunks = "Transfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n4\r\n6789\r\n0\r\n\r\n";
    assert_eq!(house.ask(post(chunks)).await.status, 200);
    let opened = origin.opened();
    let told = house.ask(post("Content-Length: 11\r\n\r\n")).await;
    assert_eq!(told.error(), (413, Some("BAD_REQUEST")), "before any of it was sent");
    assert_eq!(told.field("connection"), Some("close"));
    assert_eq!(origin.opened(), opened, "nothing of it reaches the tunnel");
    let untold = "Transfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n5\r\n6789a\r\n0\r\n\r\n";
    assert_eq!(house.ask(post(untold)).await.error(), (413, Some("BAD_REQUEST")));
    assert_eq!(house.ask(post("\r\n")).await.status, 200);
}
