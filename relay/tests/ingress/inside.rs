//! TLS that ends on a node: what a visitor gets through a relay that sees ciphertext only.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use mytunnel_carrier::greeting::Greeting;
use mytunnel_keys::{
    feed::{AddressGate, BearerGate, Gates},
    id::TunnelKind,
};
use mytunnel_relay::{
    ingress::{Certificates, Inside, Limits},
    route::{Routes, Tunnel},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::house::{House, Origin, Visitor, ok, read_request, tunnel, within};

/// A node behind a relay, and everything that went through the relay's hands.
struct Node {
    house: House,
    inside: Arc<Inside>,
    routes: Routes,
    captured: Arc<Mutex<Vec<u8>>>,
    ca: String,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _place: tempfile::TempDir,
}

impl Node {
    async fn start(limits: Limits) -> Self {
        let (house, place, routes) = (House::open().await, tempfile::tempdir().unwrap(), Routes::new());
        let certificates = Certificates::Local(place.path().to_owned());
        let (inside, upkeep) = Inside::open("tun.test", certificates, limits, routes.clone()).unwrap();
        let (inside, stop, mut tasks) = (Arc::new(inside), CancellationToken::new(), JoinSet::new());
        tasks.spawn(upkeep.run(stop.clone()));
        let ca = std::fs::read_to_string(inside.local_ca().unwrap()).unwrap();
        let captured = Arc::new(Mutex::new(Vec::new()));
        let (terminal, capture) = (Arc::clone(&inside), Arc::clone(&captured));
        let pipes = Origin::new(move |_, pipe| {
            let (terminal, capture) = (Arc::clone(&terminal), Arc::clone(&capture));
            async move { drop(carry(pipe, &terminal, &capture).await) }
        });
        house.routes.insert(tunnel("vault", TunnelKind::Tls, &pipes));
        Self { house, inside, routes, captured, ca, stop, tasks, _place: place }
    }

    fn serve(&self, origin: &Arc<Origin>) -> Arc<Tunnel> {
        self.routes.insert(tunnel("vault", TunnelKind::Http, origin))
    }

    async fn visit(&self, protocols: &[&[u8]]) -> Visitor<TlsStream<TcpStream>> {
        Visitor::new(self.connect("vault.tun.test", protocols).await.unwrap())
    }

    async fn connect(
        &self,
        host: &'static str,
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let tcp = TcpStream::connect(self.house.secure).await.unwrap();
        let name = ServerName::try_from(host).unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
    }

    fn was_seen(&self, text: &str) -> bool {
        self.captured.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }

    async fn close(mut self) {
        within(self.inside.drain()).await;
        self.stop.cancel();
        while let Some(ended) = within(self.tasks.join_next()).await {
            ended.unwrap();
        }
        self.house.close().await;
    }
}

/// What a node does with a pipe; both ways are noted down as the relay had them.
async fn carry(mut pipe: DuplexStream, inside: &Inside, captured: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let mut greeting = [0; 28];
    pipe.read_exact(&mut greeting).await?;
    let (greeting, _) = Greeting::decode(&greeting).unwrap().expect("the whole of it");
    let Some(near) = inside.connect(greeting.visitor) else { return Ok(()) };
    let (mut from_relay, mut to_relay) = tokio::io::split(pipe);
    let (mut from_inside, mut to_inside) = tokio::io::split(near);
    let up = copy(&mut from_relay, &mut to_inside, captured);
    let down = copy(&mut from_inside, &mut to_relay, captured);
    tokio::try_join!(up, down).map(drop)
}

async fn copy(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    captured: &Mutex<Vec<u8>>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut chunk).await?;
        captured.lock().unwrap().extend_from_slice(&chunk[..read]);
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..read]).await?;
        to.flush().await?;
    }
}

fn asking(host: &str, path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")
}

#[tokio::test]
async fn the_relay_holds_no_word_of_what_is_asked_and_answered() {
    let node = Node::start(Limits::default()).await;
    node.serve(&Origin::server(|request| ok(&format!("ANSWERED-SECRETLY {request}"))));
    let mut visitor = node.visit(&[b"http/1.1"]).await;
    let from: SocketAddr = visitor.stream.get_ref().get_ref().0.local_addr().unwrap();
    for _ in 0..2 {
        let lie = "X-Forwarded-For: 203.0.113.1\r\nCookie: ASKED-SECRETLY\r\n";
        visitor.send(asking("vault.tun.test", "/HIDDEN-PATH", lie)).await;
        let reply = visitor.reply().await;
        assert_eq!(reply.status, 200);
        assert!(reply.text().starts_with("ANSWERED-SECRETLY GET /HIDDEN-PATH"), "{}", reply.text());
        let told = format!("x-forwarded-for: {}\r\n", from.ip());
        assert!(reply.text().contains(&told), "who the visitor is, the relay says: {}", reply.text());
        assert!(reply.text().contains("x-forwarded-proto: https\r\n"));
    }
    for secret in ["ANSWERED-SECRETLY", "ASKED-SECRETLY", "HIDDEN-PATH", "HTTP/1.1"] {
        assert!(!node.was_seen(secret), "{secret}");
    }
    assert!(node.was_seen("vault.tun.test"), "the name it does see");
    let chain = visitor.stream.get_ref().get_ref().1.peer_certificates().unwrap();
    let authority = CertificateDer::from_pem_slice(node.ca.as_bytes()).unwrap();
    assert_eq!(chain.last(), Some(&authority));
    assert_ne!(node.ca, node.house.ca);
    drop(visitor);
    node.close().await;
}

#[tokio::test]
async fn http2_and_websockets_go_through() {
    let node = Node::start(Limits::default()).await;
    let origin = Origin::new(|_, pipe| async move {
        let mut pipe = tokio::io::BufReader::new(pipe);
        let Some(request) = read_request(&mut pipe).await else { return };
        if !request.contains("upgrade: ") {
            return drop(pipe.write_all(ok("plain").as_bytes()).await);
        }
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        pipe.write_all(head.as_bytes()).await.unwrap();
        let mut word = [0; 4];
        while pipe.read_exact(&mut word).await.is_ok() {
            pipe.write_all(&word.to_ascii_uppercase()).await.unwrap();
        }
    });
    node.serve(&origin);
    let mut visitor = node.visit(&[]).await;
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    visitor.send(asking("vault.tun.test", "/", upgrade)).await;
    assert_eq!(visitor.head().await.status, 101);
    visitor.send("ping").await;
    let mut word = [0; 4];
    within(visitor.stream.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"PING");

    let stream = node.connect("vault.tun.test", &[b"h2"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = within(h2::client::handshake(stream)).await.unwrap();
    let mut running = JoinSet::new();
    running.spawn(async move { drop(connection.await) });
    let mut sender = within(sender.ready()).await.unwrap();
    let request = http::Request::get("https://vault.tun.test/").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    assert_eq!(within(response).await.unwrap().status(), 200);
    drop((visitor, sender, running));
    node.close().await;
}

#[tokio::test]
async fn gates_are_asked_for_on_the_node_and_another_host_is_unknown_there() {
    let node = Node::start(Limits::default()).await;
    let origin = Origin::saying("inside");
    let tunnel = node.serve(&origin);
    let denied = AddressGate { allow: vec![], deny: vec!["127.0.0.0/8".parse().unwrap()] };
    let bearer = BearerGate { hash: "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$x".to_owned(), generation: 1 };
    let mut visitor = node.visit(&[]).await;
    for (gates, status, why) in [
        (Gates { bearer: Some(bearer), ..Gates::default() }, 401, "TOKEN_REQUIRED"),
        (Gates { addresses: Some(denied), ..Gates::default() }, 403, "ADDRESS_DENIED"),
    ] {
        tunnel.set_gates(Some(Arc::new(gates)));
        visitor.send(asking("vault.tun.test", "/", "")).await;
        assert_eq!(visitor.reply().await.error(), (status, Some(why)));
    }
    tunnel.set_gates(None);
    for host in ["other.tun.test", "tun.test", "localhost", "vault.tun.test.example"] {
        visitor.send(asking(host, "/", "")).await;
        assert_eq!(visitor.reply().await.error(), (404, Some("NOT_FOUND")), "{host}");
    }
    assert_eq!(origin.opened(), 0);
    visitor.send("GET / HTTP/1.1\r\nHost: vault.tun.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(visitor.reply().await.status, 400, "framing is as strict as at a relay");
    drop(visitor);
    assert!(node.connect("other.tun.test", &[]).await.is_err(), "there is no certificate for it");
    node.close().await;
}

#[tokio::test]
async fn four_addresses_do_not_keep_everybody_out() {
    let limits = Limits { connections: 16, connections_per_address: 4, ..Limits::default() };
    let node = Node::start(limits).await;
    let connect = |from: &str| node.inside.connect(format!("{from}:4000").parse().unwrap());
    let many = ["192.0.2.1", "198.51.100.1", "203.0.113.1", "[2001:db8::1]"];
    let held: Vec<_> = many.iter().cycle().take(64).filter_map(|from| connect(from)).collect();
    assert!((12..16).contains(&held.len()), "{}", held.len());
    assert!(connect("233.252.0.1").is_some());
    drop(held);
    node.close().await;
}

#[tokio::test]
async fn a_drain_lets_requests_end_and_takes_no_further_ones() {
    let limits = Limits { drain_timeout: Duration::from_secs(10), ..Limits::default() };
    let node = Node::start(limits).await;
    let (release, released) = tokio::sync::watch::channel(false);
    let origin = Origin::new(move |_, pipe| {
        let mut released = released.clone();
        async move {
            let mut pipe = tokio::io::BufReader::new(pipe);
            read_request(&mut pipe).await;
            released.wait_for(|released| *released).await.unwrap();
            drop(pipe.write_all(ok("late").as_bytes()).await);
        }
    });
    let tunnel = node.serve(&origin);
    let mut visitor = node.visit(&[]).await;
    visitor.send(asking("vault.tun.test", "/", "")).await;
    within(async {
        while tunnel.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let inside = Arc::clone(&node.inside);
    let (drained, reply) = tokio::join!(within(inside.drain()), async {
        assert!(node.inside.connect("127.0.0.1:1".parse().unwrap()).is_none());
        release.send_replace(true);
        visitor.reply().await
    });
    let ((), text) = (drained, reply.text().to_owned());
    assert_eq!(text, "late");
    drop(visitor);
    node.close().await;
}
