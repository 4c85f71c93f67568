//! Bodies: at once, whole or not at all, and never piled up.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    sync::{Notify, mpsc},
};

use crate::house::{House, ON_THE_WAY, Origin, get, read_chunk, read_head, read_request, within};

const HOST: &str = "Host: demo.tun.test\r\n";

#[tokio::test]
async fn each_event_of_a_stream_arrives_before_the_next_is_made() {
    let (go, mut wait) = mpsc::channel::<()>(1);
    let wait = Arc::new(tokio::sync::Mutex::new(Some(std::mem::replace(&mut wait, mpsc::channel(1).1))));
    let origin = Origin::new(move |_, pipe| {
        let wait = wait.clone();
        async move {
            let mut wait = wait.lock().await.take().unwrap();
            let mut pipe = BufReader::new(pipe);
            read_request(&mut pipe).await;
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            pipe.write_all(head.as_bytes()).await.unwrap();
            let mut number = 0;
            while wait.recv().await.is_some() {
                number += 1;
                let event = format!("data: {number}\n\n");
                pipe.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
            }
            pipe.write_all(b"0\r\n\r\n").await.unwrap();
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    visitor.send(get("/events")).await;
    // The head comes before any event exists.
    assert_eq!(visitor.head().await.field("content-type"), Some("text/event-stream"));
    for number in 1..=20 {
        go.send(()).await.unwrap();
        let event = within(read_chunk(&mut visitor.stream)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(event).unwrap(), format!("data: {number}\n\n"));
    }
    drop(go);
    assert_eq!(within(read_chunk(&mut visitor.stream)).await.unwrap(), None);
}

/// A server that sends `start` and hangs up.
fn cut_off(start: &'static str) -> Arc<Origin> {
    Origin::new(move |_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_request(&mut pipe).await;
        pipe.write_all(start.as_bytes()).await.unwrap();
    })
}

#[tokio::test]
async fn a_truncated_body_never_looks_complete() {
    for start in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let (house, tunnel) = House::with_demo(&cut_off(start)).await;
        let mut visitor = house.visitor().await;
        visitor.send(get("/")).await;
        assert!(within(visitor.try_reply()).await.is_err(), "{start:?}");
        visitor.gone().await;
        within(async {
            while tunnel.in_flight() > 0 {
                tokio::task::yield_now().await
            }
        })
        .await;
        assert_eq!(tunnel.idle_pipes(), 0);
    }
}

#[tokio::test]
async fn a_truncated_body_resets_a_visitor_of_http_1_0() {
    let (house, _) =
        House::with_demo(&cut_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"))
            .await;
    let mut visitor = house.visitor().await;
    visitor.send(format!("GET / HTTP/1.0\r\n{HOST}\r\n")).await;
    let mut body = Vec::new();
    let end = within(visitor.stream.read_to_end(&mut body)).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_body_that_ends_with_its_pipe_is_whole() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_request(&mut pipe).await;
        pipe.write_all(b"HTTP/1.0 200 OK\r\n\r\nall of it").await.unwrap();
        pipe.shutdown().await.unwrap();
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).await.unwrap();
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    for _ in 0..2 {
        assert_eq!(visitor.get("/").await.text(), "all of it");
    }
    assert_eq!((origin.opened(), tunnel.idle_pipes()), (2, 0));
}

#[tokio::test]
async fn a_body_that_ends_with_a_reset_of_its_pipe_is_not_whole() {
    let (house, _) = House::with_demo(&cut_off("HTTP/1.0 200 OK\r\n\r\nhalf of it")).await;
    let mut visitor = house.visitor().await;
    visitor.send(get("/")).await;
    assert!(within(visitor.try_reply()).await.is_err());
    visitor.gone().await;
}

#[tokio::test]
async fn a_large_download_streams_and_a_stalled_one_holds_little() {
    const TOTAL: usize = 64 << 20;
    let (progress, sent) = tokio::sync::watch::channel(0usize);
    let origin = Origin::new(move |number, pipe| {
        let progress = progress.clone();
        async move {
            let mut pipe = BufReader::new(pipe);
            while read_request(&mut pipe).await.is_some() {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n");
                pipe.write_all(head.as_bytes()).await.unwrap();
                let piece = vec![7; 64 * 1024];
                for _ in 0..TOTAL / piece.len() {
                    if pipe.write_all(&piece).await.is_err() {
                        return;
                    }
                    if number == 1 {
                        progress.send_modify(|sent| *sent += piece.len());
                    }
                }
            }
        }
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut stalled = house.visitor().await;
    stalled.send(get("/")).await;
    let head = stalled.head().await;
    assert_eq!(head.status, 200);
    // In the time in which another gets everything, the one that takes nothing would have got it too.
    let other = house.ask(get("/")).await;
    assert_eq!(other.body.len(), TOTAL);
    assert!(other.body.iter().all(|byte| *byte == 7));
    let held = *sent.borrow();
    assert!(held < ON_THE_WAY, "{held}");
    assert!(tunnel.traffic().bytes_out() < (TOTAL + ON_THE_WAY) as u64);

    let mut rest = vec![0; TOTAL];
    within(stalled.stream.read_exact(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        read_head(&mut pipe).await.unwrap();
        while read_chunk_lenient(&mut pipe).await {}
        let trailer = read_head_or_line(&mut pipe).await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n";
        let body = format!("{head}{:x}\r\n{trailer}\r\n0\r\nx-end: bye\r\n\r\n", trailer.len());
        pipe.write_all(body.as_bytes()).await.unwrap();
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    let fields = "Transfer-Encoding: chunked\r\nTrailer: x-sum\r\nTE: trailers\r\nConnection: TE\r\n";
    // What the relay alone may say is not smuggled in behind the body either.
    let lies = "x-forwarded-for: 6.6.6.6\r\nremote-user: root\r\nx_y: 1\r\n";
    visitor
        .send(format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n3\r\nabc\r\n0\r\n{lies}x-sum: 7\r\n\r\n"))
        .await;
    visitor.head().await;
    let trailer = within(read_chunk(&mut visitor.stream)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(trailer).unwrap(), "x-sum: 7");
    assert!(!read_chunk_lenient(&mut visitor.stream).await);
    assert_eq!(read_head_or_line(&mut visitor.stream).await, "x-end: bye");
}

/// One chunk, without what follows the last one.
async fn read_chunk_lenient<R: tokio::io::AsyncRead + Unpin>(stream: &mut BufReader<R>) -> bool {
    let mut line = String::new();
    within(tokio::io::AsyncBufReadExt::read_line(stream, &mut line)).await.unwrap();
    let size = usize::from_str_radix(line.trim(), 16).unwrap();
    if size > 0 {
        let mut chunk = vec![0; size + 2];
        within(stream.read_exact(&mut chunk)).await.unwrap();
    }
    size > 0
}

async fn read_head_or_line<R: tokio::io::AsyncRead + Unpin>(stream: &mut BufReader<R>) -> String {
    within(read_head(stream)).await.unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_end_of_a_tunnels_body_is_not_taken_for_a_refusal() {
    const END: &str = "HTTP/1.1 400 Bad Request\r\n";
    let seen = Arc::new(Notify::new());
    let first_is_seen = Arc::clone(&seen);
    let origin = Origin::new(move |_, pipe| {
        let seen = Arc::clone(&first_is_seen);
        async move {
            let mut pipe = BufReader::new(pipe);
            read_request(&mut pipe).await;
            let start = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n>", END.len() + 1);
            pipe.write_all(start.as_bytes()).await.unwrap();
            seen.notified().await;
            pipe.write_all(END.as_bytes()).await.unwrap();
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = house.visitor().await;
    // The next request has begun by the time the last bytes of the body come.
    visitor.send(format!("{}GET /next HTTP/1.1\r\n", get("/"))).await;
    assert_eq!(visitor.head().await.status, 200);
    let mut body = [0; 1 + END.len()];
    within(visitor.stream.read_exact(&mut body[..1])).await.unwrap();
    seen.notify_one();
    within(visitor.stream.read_exact(&mut body[1..])).await.unwrap();
    assert_eq!(std::str::from_utf8(&body[1..]), Ok(END));
}
