//! Bodies: at once, whole or not at all, and never piled up.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    sync::mpsc,
};

use crate::house::{House, Origin, get, read_chunk, read_head, read_request, within};

const HOST: &str = "Host: demo.tun.test\r\n";

#[tokio::test]
async fn each_event_of_a_stream_arrives_before_the_next_is_made() {
    let (go, mut wait) = mpsc::channel::<()>(1);
    let wait =
        std::sync::Arc::new(tokio::sync::Mutex::new(Some(std::mem::replace(&mut wait, mpsc::channel(1).1))));
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
fn cut_off(start: &'static str) -> std::sync::Arc<Origin> {
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

/// How much may be between a sender and a receiver that does not read: buffers of the kernel, of the ingress in both
/// directions, of the pipe.
const ON_THE_WAY: usize = 16 << 20;

#[tokio::test]
async fn a_large_download_streams_and_a_stalled_one_holds_little() {
    let (progress, mut sent) = tokio::sync::watch::channel(0usize);
    let origin = Origin::new(move |_, pipe| {
        let progress = progress.clone();
        async move {
            let mut pipe = BufReader::new(pipe);
            while read_request(&mut pipe).await.is_some() {
                let total = 64 << 20;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n");
                pipe.write_all(head.as_bytes()).await.unwrap();
                let piece = vec![7; 64 * 1024];
                for _ in 0..total / piece.len() {
                    if pipe.write_all(&piece).await.is_err() {
                        return;
                    }
                    progress.send_modify(|sent| *sent += piece.len());
                }
            }
        }
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let mut stalled = house.visitor().await;
    stalled.send(get("/")).await;
    let head = stalled.head().await;
    assert_eq!(head.status, 200);
    // The origin stops by itself: nobody takes the bytes on the way for good.
    let held = within(async {
        loop {
            let before = *sent.borrow_and_update();
            if tokio::time::timeout(std::time::Duration::from_millis(300), sent.changed()).await.is_err() {
                return before;
            }
        }
    })
    .await;
    assert!(held < ON_THE_WAY, "{held}");
    assert!(tunnel.traffic().bytes_out() < ON_THE_WAY as u64);

    let other = house.ask(get("/")).await;
    assert_eq!(other.body.len(), 64 << 20);
    assert!(other.body.iter().all(|byte| *byte == 7));
    let mut rest = vec![0; 64 << 20];
    within(stalled.stream.read_exact(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn a_large_upload_streams_and_waits_for_its_reader() {
    let (start, wait) = tokio::sync::watch::channel(false);
    let origin = Origin::new(move |_, pipe| {
        let mut wait = wait.clone();
        async move {
            let mut pipe = BufReader::new(pipe);
            let head = read_head(&mut pipe).await.unwrap();
            wait.wait_for(|start| *start).await.unwrap();
            let length: usize = crate::house::field(&head, "content-length").unwrap().parse().unwrap();
            let (mut left, mut sum, mut chunk) = (length, 0u64, vec![0; 64 * 1024]);
            while left > 0 {
                let read = pipe.read(&mut chunk).await.unwrap();
                assert!(read > 0);
                sum += chunk[..read].iter().map(|byte| u64::from(*byte)).sum::<u64>();
                left -= read;
            }
            pipe.write_all(crate::house::ok(&sum.to_string()).as_bytes()).await.unwrap();
        }
    });
    let (house, tunnel) = House::with_demo(&origin).await;
    let visitor = house.visitor().await;
    let total = 48usize << 20;
    let (mut reading, mut writing) = visitor.stream.into_inner().into_split();
    let sending = async move {
        let head = format!("POST / HTTP/1.1\r\n{HOST}Content-Length: {total}\r\n\r\n");
        writing.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![3; 64 * 1024];
        for _ in 0..total / piece.len() {
            writing.write_all(&piece).await.unwrap();
        }
        writing
    };
    let watching = async {
        let mut before = u64::MAX;
        while tunnel.traffic().bytes_in() != before || before == 0 {
            before = tunnel.traffic().bytes_in();
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        assert!(before < ON_THE_WAY as u64, "{before}");
        start.send(true).unwrap();
        let mut text = String::new();
        let mut buffered = BufReader::new(&mut reading);
        let head = read_head(&mut buffered).await.unwrap();
        let length: u64 = crate::house::field(&head, "content-length").unwrap().parse().unwrap();
        buffered.take(length).read_to_string(&mut text).await.unwrap();
        assert_eq!(text, (3 * total as u64).to_string());
    };
    within(async { tokio::join!(sending, watching) }).await;
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
            pipe.write_all(crate::house::ok(&String::from_utf8(body).unwrap()).as_bytes()).await.unwrap();
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
