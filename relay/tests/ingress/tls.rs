//! HTTPS with certificates of the relay's own authority.

use std::{io, sync::Arc};

use mytunnel_keys::feed::{AddressGate, Gates};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::house::{House, Origin, Visitor, get, read_request, within};

const HTTP: &[u8] = b"http/1.1";

pub(crate) fn config(
    house: &House,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&[u8]],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(house.ca.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

pub(crate) async fn handshake(
    house: &House,
    name: &'static str,
    config: ClientConfig,
) -> io::Result<Visitor<TlsStream<TcpStream>>> {
    let tcp = TcpStream::connect(house.secure).await.unwrap();
    let name = ServerName::try_from(name).unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.map(Visitor::new)
}

#[tokio::test]
async fn both_versions_of_tls_lead_to_the_tunnel() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    for version in [&TLS12, &TLS13] {
        for protocols in [&[HTTP][..], &[]] {
            let mut visitor =
                handshake(&house, "demo.tun.test", config(&house, &[version], protocols)).await.unwrap();
            let agreed = visitor.stream.get_ref().get_ref().1.alpn_protocol();
            assert_eq!(agreed, (!protocols.is_empty()).then_some(HTTP));
            for _ in 0..2 {
                let reply = visitor.get("/").await;
                assert!(reply.text().contains("x-forwarded-proto: https\r\n"), "{}", reply.text());
                assert!(reply.text().contains(";proto=https\r\n"));
            }
        }
    }
    house.close().await;
}

#[tokio::test]
async fn where_nothing_is_in_the_clear_visitors_are_led_to_tls_and_cookies_stay_there() {
    use http_body_util::{BodyExt as _, Empty};
    let console: mytunnel_relay::ingress::ConsoleService = Arc::new(|_| {
        let body = Empty::new().map_err(|never| match never {}).boxed();
        Box::pin(std::future::ready(http::Response::new(body)))
    });
    let house = House::over_tls(Some(console)).await;
    let cookies =
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nSet-Cookie: c=d; Secure\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::server(|_| cookies.to_owned());
    house.share("demo", &origin);
    let port = house.secure.port();
    for host in ["demo.tun.test", "demo.tun.test:80", "console.test"] {
        let reply =
            house.ask(format!("POST /a?b HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n")).await;
        let to = format!("https://{}:{port}/a?b", host.trim_end_matches(":80"));
        assert_eq!((reply.status, reply.field("location")), (308, Some(to.as_str())), "{host}");
    }
    assert_eq!(house.ask("GET / HTTP/1.1\r\nHost: none.tun.test\r\n\r\n").await.status, 404);
    assert_eq!(origin.opened(), 0, "nothing of it reached the node");

    let mut visitor = handshake(&house, "demo.tun.test", config(&house, &[&TLS13], &[HTTP])).await.unwrap();
    let reply = visitor.get("/").await;
    assert_eq!(reply.fields("set-cookie"), ["a=b; Path=/; Secure", "c=d; Secure"]);
    assert_eq!(reply.field("strict-transport-security"), None, "that is for the tunnel's owner to say");
    let mut visitor = handshake(&house, "console.test", config(&house, &[&TLS13], &[HTTP])).await.unwrap();
    visitor.send("GET / HTTP/1.1\r\nHost: console.test\r\n\r\n").await;
    let reply = visitor.reply().await;
    assert_eq!(reply.field("strict-transport-security"), Some("max-age=31536000"));
}

#[tokio::test]
async fn a_name_that_does_not_exist_has_no_certificate() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    assert!(handshake(&house, "nobody.tun.test", config(&house, &[&TLS13], &[HTTP])).await.is_err());
    assert!(handshake(&house, "example.com", config(&house, &[&TLS13], &[HTTP])).await.is_err());
    assert!(handshake(&house, "console.test", config(&house, &[&TLS13], &[HTTP])).await.is_ok());
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_here_is_refused() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    assert!(
        handshake(&house, "demo.tun.test", config(&house, &[&TLS13], &[b"mytunnel-lane/1"])).await.is_err()
    );
    assert!(handshake(&house, "demo.tun.test", config(&house, &[&TLS13], &[b"gopher"])).await.is_err());
}

#[tokio::test]
async fn plain_text_on_the_tls_port_is_not_answered_with_a_page() {
    let (house, _) = House::with_demo(&Origin::echo()).await;
    let mut visitor = Visitor::new(TcpStream::connect(house.secure).await.unwrap());
    visitor.send(get("/")).await;
    let rest = visitor.rest().await.unwrap_or_default();
    assert!(!rest.starts_with(b"HTTP/"), "{rest:?}");
}

#[tokio::test]
async fn a_truncated_body_ends_without_a_farewell() {
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = tokio::io::BufReader::new(pipe);
        read_request(&mut pipe).await;
        pipe.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await.unwrap();
    });
    let (house, _) = House::with_demo(&origin).await;
    let mut visitor = handshake(&house, "demo.tun.test", config(&house, &[&TLS13], &[HTTP])).await.unwrap();
    visitor.send("GET / HTTP/1.0\r\nHost: demo.tun.test\r\n\r\n").await;
    assert!(visitor.rest().await.is_err());
}

#[tokio::test]
async fn the_host_of_a_request_says_whom_it_is_for_and_not_the_name_in_the_hello() {
    let (house, demo) = House::with_demo(&Origin::saying("demo")).await;
    let other = house.share("other", &Origin::saying("other"));
    let deny = AddressGate { allow: vec!["192.0.2.0/24".parse().unwrap()], deny: vec![] };
    let to = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut visitor = handshake(&house, "demo.tun.test", config(&house, &[&TLS13], &[HTTP])).await.unwrap();
    for (host, status, text) in
        [("other.tun.test", 200, "other"), ("demo.tun.test", 200, "demo"), ("nobody.tun.test", 404, "")]
    {
        visitor.send(to(host)).await;
        let reply = visitor.reply().await;
        assert_eq!(reply.status, status, "{host}");
        assert!(text.is_empty() || reply.text() == text, "{host}: {}", reply.text());
    }
    // And it is that one's gates that are asked.
    other.set_gates(Some(Arc::new(Gates { addresses: Some(deny.clone()), ..Gates::default() })));
    visitor.send(to("other.tun.test")).await;
    assert_eq!(visitor.reply().await.error(), (403, Some("ADDRESS_DENIED")));
    other.set_gates(None);
    demo.set_gates(Some(Arc::new(Gates { addresses: Some(deny), ..Gates::default() })));
    visitor.send(to("other.tun.test")).await;
    assert_eq!(visitor.reply().await.text(), "other");
    visitor.send(to("demo.tun.test")).await;
    assert_eq!(visitor.reply().await.error(), (403, Some("ADDRESS_DENIED")));
}

#[tokio::test]
async fn what_is_no_name_of_ours_is_nobody_whether_it_is_a_name_or_not() {
    let (house, demo) = House::with_demo(&Origin::saying("demo")).await;
    for (host, status) in [
        ("demo.tun.test.", 200),
        ("DEMO.TUN.TEST", 200),
        // Punycode: a form of a name as good as any, and here nobody's.
        ("xn--dmo-dma.tun.test", 404),
        ("XN--DMO-DMA.tun.test", 404),
        ("xn--.tun.test", 404),
        ("xn--\u{e9}.tun.test", 400),
        ("d\u{e9}mo.tun.test", 400),
        ("demo\u{3002}tun.test", 400),
        ("demo%2etun.test", 400),
        ("demo..tun.test", 400),
        (".tun.test", 400),
        ("-.tun.test", 404),
        ("_demo.tun.test", 404),
        ("*.tun.test", 400),
        ("tun.test", 404),
        ("127.0.0.1", 404),
        ("0x7f.1", 404),
        ("[::1]", 404),
        ("[::1", 400),
        ("demo.tun.test:", 200),
        ("demo.tun.test:65536", 400),
        ("demo.tun.test:+80", 400),
        ("demo.tun.test demo.tun.test", 400),
        ("", 400),
    ] {
        let reply = house.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(reply.status, status, "{host:?}");
    }
    assert_eq!(demo.traffic().requests(), 3);
}

/// A client hello for `demo.tun.test`, with other bytes in the place of that name.
fn hello(house: &House, name: &[u8; 13]) -> Vec<u8> {
    let demo = ServerName::try_from("demo.tun.test").unwrap();
    let config = Arc::new(config(house, &[&TLS13], &[HTTP]));
    let mut hello = Vec::new();
    rustls::ClientConnection::new(config, demo).unwrap().write_tls(&mut hello).unwrap();
    let at = hello.windows(13).position(|part| part == b"demo.tun.test").unwrap();
    hello[at..at + 13].copy_from_slice(name);
    hello
}

#[tokio::test]
async fn a_hello_for_what_is_no_name_of_ours_gets_no_certificate() {
    /// The record of a handshake, which a server's hello comes in.
    const HANDSHAKE: u8 = 22;
    let (house, _) = House::with_demo(&Origin::echo()).await;
    for (name, has) in [
        (b"demo.tun.test", true),
        (b"DEMO.tun.test", true),
        (b"xn--a.tun.tes", false),
        (b"d\xe9mo.tun.test".first_chunk().unwrap(), false),
        (b"de\0o.tun.test", false),
        (b"de o.tun.test", false),
        (b"demo..un.test", false),
        (b".emo.tun.test", false),
        (b"*.mo.tun.test", false),
        (b"demo.tun.tes.", false),
        (b"127.000.00.01", false),
        (b"[::1].tun.tes", false),
        (b"demo_tun_test", false),
    ] {
        let mut stream = TcpStream::connect(house.secure).await.unwrap();
        stream.write_all(&hello(&house, name)).await.unwrap();
        let answer = within(stream.read_u8()).await.ok();
        assert_eq!(answer == Some(HANDSHAKE), has, "{:?}: {answer:?}", String::from_utf8_lossy(name));
    }
    assert_eq!(house.ask(get("/")).await.status, 200, "and everybody else is served");
}
