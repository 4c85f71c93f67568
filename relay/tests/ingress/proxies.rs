//! Behind a proxy that the operator named, and what others pretend.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use mytunnel_relay::ingress::{ConsoleService, Limits, VisitorAddress};

use crate::house::{House, Origin, Reply, within};

const PROXY: &[&str] = &["127.0.0.1"];

/// A request as a proxy passes it on.
fn passed_on(host: &str, lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")
}

async fn echoed(proxies: &[&str], lines: &str) -> String {
    let house = House::behind(proxies, Limits::default(), None).await;
    house.share("demo", &Origin::echo());
    let reply = house.ask(passed_on("demo.tun.test", lines)).await;
    assert_eq!(reply.status, 200);
    reply.text().to_owned()
}

#[tokio::test]
async fn the_node_is_told_what_a_trusted_proxy_says() {
    let lines = "X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\
                 X-Forwarded-Host: shop.example\r\nForwarded: for=203.0.113.66\r\n";
    let told = echoed(PROXY, lines).await.to_ascii_lowercase();
    assert!(told.contains("\r\nx-forwarded-for: 192.0.2.7\r\n"), "{told}");
    assert!(told.contains("\r\nx-forwarded-proto: https\r\n"), "{told}");
    assert!(told.contains("\r\nx-forwarded-host: shop.example\r\n"), "{told}");
    assert!(told.contains("\r\nforwarded: for=192.0.2.7;host=\"shop.example\";proto=https\r\n"), "{told}");
    assert!(!told.contains("203.0.113"), "{told}");
}

#[tokio::test]
async fn what_a_trusted_proxy_leaves_out_is_known_from_its_connection() {
    let told = echoed(PROXY, "X-Forwarded-Host: not a host\r\n").await.to_ascii_lowercase();
    assert!(told.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"), "{told}");
    assert!(told.contains("\r\nx-forwarded-proto: http\r\n"), "{told}");
    assert!(told.contains("\r\nx-forwarded-host: demo.tun.test\r\n"), "{told}");
}

#[tokio::test]
async fn anybody_else_is_not_believed() {
    let lines =
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n";
    for proxies in [&[][..], &["10.0.0.0/8"]] {
        let told = echoed(proxies, lines).await.to_ascii_lowercase();
        assert!(told.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"), "{told}");
        assert!(told.contains("\r\nx-forwarded-proto: http\r\n"), "{told}");
        assert!(!told.contains("192.0.2.7") && !told.contains("shop.example"), "{told}");
    }
}

#[tokio::test]
async fn the_console_is_told_the_client_behind_the_proxy() {
    let console: ConsoleService = Arc::new(|request| {
        Box::pin(async move {
            let from = request.extensions().get::<VisitorAddress>().map(|from| from.0.to_string());
            let text = Full::new(Bytes::from(from.unwrap_or_default()));
            http::Response::new(text.map_err(|never| match never {}).boxed())
        })
    });
    let house = House::behind(PROXY, Limits::default(), Some(console)).await;
    let reply = house.ask(passed_on("console.test", "X-Forwarded-For: 192.0.2.7\r\n")).await;
    assert_eq!(reply.text(), "192.0.2.7");
}

#[tokio::test]
async fn one_client_behind_the_proxy_does_not_use_up_the_others_share() {
    let limits = Limits { requests_per_address: 1, connections_per_address: 1, ..Limits::default() };
    let house = House::behind(PROXY, limits, None).await;
    let silent = Origin::new(|_, mut stream| async move {
        let mut reader = tokio::io::BufReader::new(&mut stream);
        while crate::house::read_head(&mut reader).await.is_ok() {}
    });
    let tunnel = house.share("silent", &silent);
    house.share("demo", &Origin::saying("in"));
    let ask = async |from: &str| -> Reply {
        house.ask(passed_on("demo.tun.test", &format!("X-Forwarded-For: {from}\r\n"))).await
    };

    let mut held = house.visitor().await;
    held.send(passed_on("silent.tun.test", "X-Forwarded-For: 192.0.2.1\r\n")).await;
    within(async {
        while tunnel.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ask("192.0.2.1").await.error(), (429, Some("RATE_LIMITED")));
    assert_eq!(ask("192.0.2.2").await.text(), "in");
    held.reset();
    within(async { while ask("192.0.2.1").await.status != 200 {} }).await;
}
