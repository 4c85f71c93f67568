//! TLS that ends behind the relay: whom the name in a hello leads to, and what of it the relay lets through.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use mytunnel_carrier::greeting::Greeting;
use mytunnel_keys::{
    feed::{AddressGate, BasicGate, Gates},
    id::TunnelKind,
};
use mytunnel_relay::{
    ingress::Limits,
    local_ca::LocalCa,
    route::{Routes, Tunnel},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::{
    house::{House, Origin, Visitor, get, name, tunnel, within},
    tls,
};

/// A visitor's address, and the protocol that was agreed on.
type Seen = (SocketAddr, Option<Vec<u8>>);

/// A server that ends TLS behind a tunnel, with certificates that the relay knows nothing of.
struct Sealed {
    origin: Arc<Origin>,
    ca: String,
    /// Who it was told that the visitors are.
    visitors: Arc<Mutex<Vec<Seen>>>,
}

impl Sealed {
    fn new(names: &[&str]) -> Self {
        let authority = LocalCa::ephemeral("tun.test", "node.test", SystemTime::now()).unwrap();
        let ca = authority.certificate_pem().to_owned();
        let routes = Routes::new();
        for label in names {
            routes.note_known(&name(label), None);
        }
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(authority.resolver(routes));
        config.alpn_protocols = vec![b"acme-tls/1".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let visitors = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&visitors);
        let origin = Origin::new(move |_, pipe| {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            async move { drop(serve(pipe, acceptor, &seen).await) }
        });
        Self { origin, ca, visitors }
    }

    fn share(&self, house: &House, label: &str) -> Arc<Tunnel> {
        house.routes.insert(tunnel(label, TunnelKind::Tls, &self.origin))
    }

    fn client(&self, protocols: &[&[u8]]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config
    }

    async fn visit(&self, house: &House, host: &'static str) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(house.secure).await.unwrap();
        let name = ServerName::try_from(host).unwrap();
        within(TlsConnector::from(Arc::new(self.client(&[]))).connect(name, tcp)).await
    }
}

/// Says what it hears, in capitals.
async fn serve(
    mut pipe: DuplexStream,
    acceptor: TlsAcceptor,
    seen: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut greeting = vec![0; 28];
    pipe.read_exact(&mut greeting).await?;
    let (greeting, length) = Greeting::decode(&greeting).unwrap().expect("the whole of it");
    assert_eq!(length, 28);
    let mut stream = acceptor.accept(pipe).await?;
    let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    seen.lock().unwrap().push((greeting.visitor, agreed));
    let mut heard = [0; 5];
    while stream.read_exact(&mut heard).await.is_ok() {
        stream.write_all(&heard.to_ascii_uppercase()).await?;
        stream.flush().await?;
    }
    stream.shutdown().await
}

async fn talk(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    within(stream.read_exact(&mut answer)).await?;
    assert_eq!(&answer, b"HELLO");
    Ok(())
}

/// Until the relay has let go of whoever was there.
async fn left(tunnel: &Tunnel) {
    within(async {
        while tunnel.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn tls_ends_where_the_certificate_is_and_the_server_learns_who_the_visitor_is() {
    let (house, sealed) = (House::open().await, Sealed::new(&["vault"]));
    let tunnel = sealed.share(&house, "vault");
    let mut visitor = sealed.visit(&house, "vault.tun.test").await.unwrap();
    talk(&mut visitor).await.unwrap();
    let from = visitor.get_ref().0.local_addr().unwrap();
    assert_eq!(sealed.visitors.lock().unwrap()[0].0, from);
    assert_eq!((tunnel.in_flight(), tunnel.traffic().requests()), (1, 1));
    visitor.shutdown().await.unwrap();
    assert_eq!(within(visitor.read(&mut [0; 8])).await.unwrap(), 0, "each half ends on its own");
    drop(visitor);
    left(&tunnel).await;
    let traffic = tunnel.traffic();
    assert!(traffic.bytes_in() > 200 && traffic.bytes_out() > 500, "the handshake is counted too");
    // Who trusts the relay's certificates alone finds that this is none of them.
    let config = tls::config(&house, &[&rustls::version::TLS13], &[]);
    assert!(tls::handshake(&house, "vault.tun.test", config).await.is_err());
    house.close().await;
}

#[tokio::test]
async fn every_name_leads_to_its_own_server_and_to_no_other() {
    let house = House::open().await;
    let (one, two) = (Sealed::new(&["one"]), Sealed::new(&["two"]));
    one.share(&house, "one");
    two.share(&house, "two");
    house.share("demo", &Origin::echo());
    talk(&mut one.visit(&house, "one.tun.test").await.unwrap()).await.unwrap();
    talk(&mut two.visit(&house, "TWO.tun.test").await.unwrap()).await.unwrap();
    assert!(one.visit(&house, "two.tun.test").await.is_err(), "the certificate is the other's");
    assert_eq!((one.origin.opened(), two.origin.opened()), (1, 2));
    let own = Sealed::new(&["own"]);
    own.share(&house, "own");
    let domain: mytunnel_keys::id::DomainName = "app.example.com".parse().unwrap();
    house.routes.point(&domain, &"own".parse().unwrap());
    assert!(
        own.visit(&house, "app.example.com").await.is_err(),
        "its server has no certificate for the domain"
    );
    assert_eq!(own.origin.opened(), 1, "and is asked all the same");
    house.routes.point_nowhere(&domain);
    assert!(own.visit(&house, "app.example.com").await.is_err());
    assert_eq!(own.origin.opened(), 1);
    for host in ["a.one.tun.test", "one.tun.test.example", "console.test", "demo.tun.test"] {
        assert!(one.visit(&house, host).await.is_err(), "{host}");
    }
    assert_eq!((one.origin.opened(), two.origin.opened()), (1, 2));
    house.close().await;
}

#[tokio::test]
async fn a_request_in_the_relays_hands_never_reaches_such_a_name() {
    let (house, sealed) = (House::open().await, Sealed::new(&["vault"]));
    sealed.share(&house, "vault");
    house.share("demo", &Origin::echo());
    let config = tls::config(&house, &[&rustls::version::TLS13], &[]);
    let mut visitor = tls::handshake(&house, "demo.tun.test", config).await.unwrap();
    assert_eq!(visitor.get("/").await.status, 200);
    visitor.send("GET / HTTP/1.1\r\nHost: vault.tun.test\r\n\r\n").await;
    assert_eq!(visitor.reply().await.error(), (421, Some("BAD_REQUEST")));

    let asked = "POST /a?b=c HTTP/1.1\r\nHost: vault.tun.test:1\r\nContent-Length: 0\r\n\r\n";
    let moved = house.ask(asked).await;
    let there = format!("https://vault.tun.test:{}/a?b=c", house.secure.port());
    assert_eq!((moved.status, moved.field("location")), (308, Some(there.as_str())));
    assert_eq!(sealed.origin.opened(), 0);
    house.close().await;
}

#[tokio::test]
async fn a_hello_in_single_bytes_arrives_as_it_was_sent() {
    let (house, sealed) = (House::open().await, Sealed::new(&["vault"]));
    let tunnel = sealed.share(&house, "vault");
    let (mut far, near) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("vault.tun.test").unwrap();
    let connector = TlsConnector::from(Arc::new(sealed.client(&[])));
    let bytes = async {
        let mut tcp = TcpStream::connect(house.secure).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        for _ in 0..300 {
            let byte = far.read_u8().await.unwrap();
            tcp.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(tokio::io::copy_bidirectional(&mut far, &mut tcp).await);
    };
    let visit = async {
        let mut stream = connector.connect(name, near).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HELLO");
    };
    within(async { tokio::join!(bytes, visit) }).await;
    left(&tunnel).await;
    house.close().await;
}

#[tokio::test]
async fn what_is_no_hello_costs_no_node_anything() {
    let limits = Limits { head_timeout: Duration::from_millis(300), ..Limits::default() };
    let (house, sealed) = (House::limited(limits).await, Sealed::new(&["vault"]));
    sealed.share(&house, "vault");
    let handshake = |length: u32| {
        // A record of a handshake, and in it a client hello of that length.
        let [_, a, b, c] = length.to_be_bytes();
        [&[22, 3, 1, 0x3f, 0xff, 1, a, b, c][..], &[0; 0x3fff - 4]].concat()
    };
    for (what, bytes) in [
        ("no tls", b"GET / HTTP/1.1\r\nHost: vault.tun.test\r\n\r\n".to_vec()),
        ("too long", handshake(60_000).repeat(4)),
        ("slow", handshake(40)[..9].to_vec()),
        ("silent", Vec::new()),
        ("noise", vec![0x16; 4096]),
    ] {
        let mut visitor = Visitor::new(TcpStream::connect(house.secure).await.unwrap());
        // It may have been cut off before it has sent all.
        drop(visitor.stream.write_all(&bytes).await);
        visitor.gone().await;
        assert_eq!(sealed.origin.opened(), 0, "{what}");
    }
    house.close().await;
}

#[tokio::test]
async fn gates_hold_before_a_byte_reaches_the_node_and_cut_who_is_inside() {
    let (house, sealed) = (House::open().await, Sealed::new(&["vault"]));
    let tunnel = sealed.share(&house, "vault");
    let mut inside = sealed.visit(&house, "vault.tun.test").await.unwrap();
    talk(&mut inside).await.unwrap();
    let deny = AddressGate { allow: vec!["192.0.2.0/24".parse().unwrap()], deny: vec![] };
    let basic = BasicGate { user: "ann".to_owned(), hash: "$argon2id$x".to_owned(), generation: 1 };
    let opened = sealed.origin.opened();
    for gates in [
        Gates { addresses: Some(deny), ..Gates::default() },
        // What the relay cannot ask for without the plaintext is not skipped.
        Gates { basic: Some(basic), ..Gates::default() },
        Gates { ends_at: Some(1), ..Gates::default() },
    ] {
        tunnel.set_gates(Some(Arc::new(gates)));
        left(&tunnel).await;
        assert!(sealed.visit(&house, "vault.tun.test").await.is_err());
    }
    assert!(talk(&mut inside).await.is_err());
    assert_eq!(sealed.origin.opened(), opened);
    tunnel.set_gates(None);
    talk(&mut sealed.visit(&house, "vault.tun.test").await.unwrap()).await.unwrap();
    house.close().await;
}

#[tokio::test]
async fn a_visitor_waits_for_a_node_that_is_away_and_is_never_served_in_its_place() {
    let limits = Limits { away_patience: Duration::from_millis(300), ..Limits::default() };
    let (house, sealed) = (House::limited(limits).await, Sealed::new(&["vault"]));
    let first = sealed.share(&house, "vault");
    let mut inside = sealed.visit(&house, "vault.tun.test").await.unwrap();
    talk(&mut inside).await.unwrap();
    house.routes.remove(&first);
    assert!(talk(&mut inside).await.is_err(), "cut with its tunnel");
    // The relay has a certificate for every name that exists; this one it does not show.
    let config = tls::config(&house, &[&rustls::version::TLS13], &[]);
    assert!(tls::handshake(&house, "vault.tun.test", config).await.is_err());
    assert_eq!(house.ask("GET / HTTP/1.1\r\nHost: vault.tun.test\r\n\r\n").await.status, 308);
    house.routes.retire(&name("vault"));
    let config = tls::config(&house, &[&rustls::version::TLS13], &[]);
    assert!(tls::handshake(&house, "vault.tun.test", config).await.is_err());
    sealed.share(&house, "vault");
    talk(&mut sealed.visit(&house, "vault.tun.test").await.unwrap()).await.unwrap();
    // As a web site it is the relay's again.
    house.share("vault", &Origin::echo());
    let config = tls::config(&house, &[&rustls::version::TLS13], &[]);
    assert!(tls::handshake(&house, "vault.tun.test", config).await.is_ok());
    house.close().await;
}

/// A visitor who trusts the relay's certificates alone.
async fn trusting(house: &House, host: &'static str) -> bool {
    let config = tls::config(house, &[&rustls::version::TLS13], &[]);
    tls::handshake(house, host, config).await.is_ok()
}

#[tokio::test]
async fn a_relay_ends_no_tls_before_it_has_heard_whose_it_is() {
    let limits = Limits { away_patience: Duration::from_millis(300), ..Limits::default() };
    let house = House::starting(limits).await;
    assert!(!trusting(&house, "vault.tun.test").await, "it has a certificate, and does not show it");
    // Served at another relay, as the feed says.
    house.routes.note_known(&name("vault"), Some(TunnelKind::Tls));
    house.routes.note_known(&name("demo"), Some(TunnelKind::Http));
    assert!(!trusting(&house, "vault.tun.test").await);
    assert!(trusting(&house, "demo.tun.test").await, "that one is the relay's to end");
    assert_eq!(house.ask("GET / HTTP/1.1\r\nHost: vault.tun.test\r\n\r\n").await.status, 308);
    house.routes.set_whole();
    assert!(!trusting(&house, "vault.tun.test").await);
    house.close().await;
}

#[tokio::test]
async fn who_comes_before_the_relay_has_heard_waits_and_is_led_to_the_node() {
    let (house, sealed) = (House::starting(Limits::default()).await, Sealed::new(&["vault"]));
    let visit = sealed.visit(&house, "vault.tun.test");
    let serve = async {
        tokio::task::yield_now().await;
        sealed.share(&house, "vault")
    };
    let (visitor, tunnel) = tokio::join!(visit, serve);
    talk(&mut visitor.unwrap()).await.unwrap();
    left(&tunnel).await;
    house.close().await;
}

#[tokio::test]
async fn an_authoritys_look_at_such_a_name_goes_to_its_node() {
    let (house, sealed) = (House::open().await, Sealed::new(&["vault"]));
    sealed.share(&house, "vault");
    let tcp = TcpStream::connect(house.secure).await.unwrap();
    let name = ServerName::try_from("vault.tun.test").unwrap();
    let connector = TlsConnector::from(Arc::new(sealed.client(&[b"acme-tls/1"])));
    let mut looking = within(connector.connect(name, tcp)).await.unwrap();
    talk(&mut looking).await.unwrap();
    assert_eq!(sealed.visitors.lock().unwrap()[0].1.as_deref(), Some(&b"acme-tls/1"[..]));
    drop(looking);
    house.close().await;
}

#[tokio::test]
async fn a_tunnel_has_so_many_connections_and_a_shutdown_waits_for_them_no_longer_than_it_may() {
    let limits =
        Limits { requests_per_tunnel: 1, drain_timeout: Duration::from_millis(300), ..Limits::default() };
    let (house, sealed) = (House::limited(limits).await, Sealed::new(&["vault"]));
    let tunnel = sealed.share(&house, "vault");
    let mut inside = sealed.visit(&house, "vault.tun.test").await.unwrap();
    talk(&mut inside).await.unwrap();
    assert!(sealed.visit(&house, "vault.tun.test").await.is_err());
    house.shutdown.cancel();
    talk(&mut inside).await.unwrap();
    house.close().await;
    assert!(talk(&mut inside).await.is_err());
    assert_eq!(tunnel.in_flight(), 0);
}

#[tokio::test]
async fn an_address_has_so_many_connections_beside_its_requests_and_a_trusted_proxy_has_no_bound() {
    let limits = || Limits { requests_per_address: 2, ..Limits::default() };
    for (proxies, most) in [(&[][..], 2), (&["127.0.0.1"], 4)] {
        let house = House::behind(proxies, limits(), None).await;
        let sealed = Sealed::new(&["vault"]);
        let tunnel = sealed.share(&house, "vault");
        house.share("demo", &Origin::saying("hello"));
        let mut inside = Vec::new();
        for number in 0..4 {
            match sealed.visit(&house, "vault.tun.test").await {
                Ok(mut visitor) => {
                    talk(&mut visitor).await.unwrap();
                    inside.push(visitor);
                }
                Err(_) => assert!(number >= most, "{proxies:?}: connection {number}"),
            }
        }
        assert_eq!((inside.len(), tunnel.in_flight()), (most, most), "{proxies:?}");
        assert_eq!(house.ask(get("/")).await.status, 200, "its requests are not used up");
        drop(inside);
        left(&tunnel).await;
        talk(&mut sealed.visit(&house, "vault.tun.test").await.unwrap()).await.unwrap();
        house.close().await;
    }
}

#[tokio::test]
async fn a_silent_connection_is_ended_in_time() {
    let limits = Limits { tls_idle_timeout: Duration::from_secs(1), ..Limits::default() };
    let (house, sealed) = (House::limited(limits).await, Sealed::new(&["vault"]));
    let tunnel = sealed.share(&house, "vault");
    let mut inside = sealed.visit(&house, "vault.tun.test").await.unwrap();
    talk(&mut inside).await.unwrap();
    assert!(within(inside.read(&mut [0; 8])).await.is_err(), "reset, not ended");
    left(&tunnel).await;
    house.close().await;
}
