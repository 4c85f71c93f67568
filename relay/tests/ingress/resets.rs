//! A server that goes away in the middle: a page as long as nothing has gone to the visitor, a visible break after.

use std::sync::Arc;

use mytunnel_relay::route::Tunnel;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use crate::{
    house::{House, Origin, ok, read_head, read_request, within},
    http2_visitor::{Http2, get},
};

const HOST: &str = "Host: demo.tun.test\r\n";

/// A server that answers with `start` and resets its connection in the same moment; with `warm`, only from the second
/// request on.
fn resetting(start: &'static str, warm: bool) -> Arc<Origin> {
    Origin::new(move |_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        if warm {
            read_request(&mut pipe).await;
            pipe.write_all(ok("warm").as_bytes()).await.unwrap();
        }
        // Of an upload only the head is read: what is left unread makes the system reset the connection.
        if read_head(&mut pipe).await.is_ok() {
            pipe.write_all(start.as_bytes()).await.unwrap();
        }
    })
}

const BEFORE_THE_BODY: [&str; 7] = [
    "",
    "HTTP/1.1 20",
    "HTTP/1.1 200 OK\r\nContent-Le",
    "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n",
    "HTTP/1.0 200 OK\r\n\r\n",
];

const REQUESTS: [(&str, &str); 3] =
    [("GET", "\r\n"), ("POST", "Content-Length: 4\r\n\r\nbody"), ("POST", "Content-Length: 4\r\n\r\n")];

async fn tunnel_is_idle(tunnel: &Tunnel) {
    while tunnel.idle_pipes() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_reset_before_the_body_is_a_page() {
    for start in BEFORE_THE_BODY {
        for (method, rest) in REQUESTS {
            for warm in [false, true] {
                let (house, tunnel) = House::with_demo(&resetting(start, warm)).await;
                let mut visitor = house.visitor().await;
                if warm {
                    visitor.send(format!("POST / HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n")).await;
                    assert_eq!(visitor.reply().await.text(), "warm");
                    within(tunnel_is_idle(&tunnel)).await;
                }
                visitor.send(format!("{method} / HTTP/1.1\r\n{HOST}{rest}")).await;
                let reply = within(visitor.try_reply()).await;
                let case = format!("{start:?} {method} {rest:?} warm: {warm}");
                let reply = reply.unwrap_or_else(|error| panic!("{case}: {error}"));
                // A request that changes nothing is tried again on a new pipe, where this server is warm.
                let again = warm && method == "GET" && !start.contains("\r\n\r\n");
                if again {
                    assert_eq!(reply.text(), "warm", "{case}");
                } else {
                    assert_eq!(reply.error(), (502, Some("TARGET_UNREACHABLE")), "{case}");
                    assert!(!reply.body.is_empty(), "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_reset_within_the_body_shows_what_came_and_breaks() {
    for (start, version) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "1.1"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "1.1"),
        ("HTTP/1.0 200 OK\r\n\r\nhalf", "1.1"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "1.0"),
    ] {
        let (house, _) = House::with_demo(&resetting(start, false)).await;
        let mut visitor = house.visitor().await;
        visitor.send(format!("GET / HTTP/{version}\r\n{HOST}\r\n")).await;
        let head = visitor.head().await;
        assert_eq!(head.status, 200, "{start:?}");
        let rest = visitor.rest().await.unwrap();
        let text = String::from_utf8_lossy(&rest);
        assert!(text.contains("half"), "{start:?}: {text:?}");
        let whole = match head.field("content-length") {
            Some(length) => rest.len() >= length.parse::<usize>().unwrap(),
            None => text.ends_with("0\r\n\r\n"),
        };
        assert!(!whole, "{start:?}: {text:?}");
    }
}

/// Without a length or chunks, only a reset tells a part from the whole.
#[tokio::test]
async fn a_visitor_of_http_1_0_is_reset_with_its_server() {
    for start in
        ["HTTP/1.0 200 OK\r\n\r\nhalf", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
    {
        let (house, _) = House::with_demo(&resetting(start, false)).await;
        let mut visitor = house.visitor().await;
        visitor.send(format!("GET / HTTP/1.0\r\n{HOST}\r\n")).await;
        let mut body = Vec::new();
        let end = within(visitor.stream.read_to_end(&mut body)).await;
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "{start:?}");
    }
}

/// It is there, with what came of it, before it breaks.
#[tokio::test]
async fn an_answer_whose_server_dies_in_it_is_seen_as_far_as_it_came() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        if read_head(&mut pipe).await.is_ok() {
            pipe.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        }
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = Http2::plain(&house).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(visitor.open(get("/"), true).await.0);
    }
    for response in open {
        let mut body = within(response).await.unwrap().into_body();
        assert_eq!(within(body.data()).await.unwrap().unwrap(), "half");
        assert!(within(body.data()).await.unwrap().is_err());
    }
    house.close().await;
}
