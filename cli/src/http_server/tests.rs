use std::net::SocketAddr;

use mytunnel_coordinator::{Config, Endpoints, StoreConfig};
use mytunnel_keys::certificate;
use mytunnel_keys::feed::Subscribe;
use mytunnel_keys::secret::Seed;
use mytunnel_keys::token::ServerUrl;
use mytunnel_relay::ingress::ProxyNetwork;
use mytunnel_relay::{Authority, FeedLink, RemoteCoordinator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::*;

/// Long enough for any machine, short enough for a person.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<F: Future>(work: F) -> F::Output {
    timeout(PATIENCE, work).await.expect("it should not take this long")
}

/// A coordinator in memory, served on this machine.
struct House {
    coordinator: Arc<Coordinator>,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinSet<()>,
}

impl House {
    async fn open(shares: Shares, proxies: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url: ServerUrl = format!("http://{address}").parse().unwrap();
        let config = Config::new(StoreConfig::Memory, "t.example".parse().unwrap(), url.clone());
        let coordinator = Arc::new(Coordinator::open(config).await.unwrap());
        coordinator.set_endpoints(url, Endpoints::default());
        let proxies = proxies.iter().map(|proxy| proxy.parse::<ProxyNetwork>().unwrap()).collect();
        let api = Api { places: Places::new(shares), ..Api::new(Arc::clone(&coordinator), proxies) };
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(api.serve(listener, stop.clone()));
        Self { coordinator, address, stop, serving }
    }

    /// A connection from one of this machine's many addresses.
    async fn connect(&self, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn relay(&self) -> RemoteCoordinator {
        let seed = Seed::from_bytes([7; 32]);
        let enrolled = self.coordinator.enroll_relay(seed.public(), Vec::new()).await.unwrap();
        let serial = certificate::inspect(&enrolled.certificate).unwrap().peek().serial;
        let url = format!("http://{}", self.address).parse().unwrap();
        RemoteCoordinator::new(&[url], seed, serial, "t.example".parse().unwrap()).unwrap()
    }

    async fn close(mut self) {
        self.coordinator.shutdown().await;
        self.stop.cancel();
        within(self.serving.join_next()).await.unwrap().unwrap();
    }
}

async fn follow(relay: &RemoteCoordinator) -> FeedLink {
    let asked = Subscribe { nonce: [1; 16], since: None, addrs: Vec::new() };
    let mut link = within(relay.subscribe(asked)).await.unwrap();
    assert!(within(link.frames.recv()).await.is_some());
    link
}

/// The status of the answer to one request; `None` when the connection ends without any.
async fn status(stream: &mut TcpStream, head: &str) -> Option<u16> {
    // Whoever was turned away may find that out while it writes.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        match within(stream.read_u8()).await {
            Ok(byte) => answer.push(byte),
            Err(_) => return None,
        }
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    within(stream.read_exact(&mut body)).await.unwrap();
    head.split(' ').nth(1).unwrap().parse().ok()
}

const ALIVE: &str = "GET /healthz HTTP/1.1\r\nhost: t.example\r\n\r\n";

#[tokio::test]
async fn a_second_address_is_served_while_the_first_holds_all_that_it_may() {
    let house = House::open(Shares { total: 8, per_address: 3, ..Shares::default() }, &[]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = house.connect("127.0.0.1").await;
        assert_eq!(status(&mut stream, ALIVE).await, Some(200));
        held.push(stream);
    }
    let mut fourth = house.connect("127.0.0.1").await;
    assert_ne!(status(&mut fourth, ALIVE).await, Some(200));
    let mut other = house.connect("127.0.0.2").await;
    assert_eq!(status(&mut other, ALIVE).await, Some(200));

    drop(held);
    within(async { while status(&mut house.connect("127.0.0.1").await, ALIVE).await != Some(200) {} }).await;
    house.close().await;
}

#[tokio::test]
async fn one_too_many_is_told_so() {
    let house = House::open(Shares { total: 0, ..Shares::default() }, &[]).await;
    let mut stream = house.connect("127.0.0.1").await;
    let mut told = String::new();
    within(stream.read_to_string(&mut told)).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("retry-after: 5"), "{told}");
    house.close().await;
}

#[tokio::test]
async fn a_relay_that_follows_takes_no_strangers_place() {
    let one = Shares { total: 1, per_address: 1, reserve: 0, ..Shares::default() };
    let house = House::open(one, &[]).await;
    let relay = house.relay().await;
    let mut feed = follow(&relay).await;

    let mut stranger = house.connect("127.0.0.1").await;
    assert_eq!(status(&mut stranger, ALIVE).await, Some(200));
    assert!(within(feed.frames.recv()).await.is_some(), "the feed goes on");
    house.close().await;
}

#[tokio::test]
async fn a_relay_comes_back_while_strangers_hold_every_place() {
    let one = Shares { total: 1, per_address: 1, ..Shares::default() };
    let house = House::open(one, &[]).await;
    let relay = house.relay().await;
    let feed = follow(&relay).await;
    let mut stranger = house.connect("127.0.0.9").await;
    assert_eq!(status(&mut stranger, ALIVE).await, Some(200));
    let mut crowd = house.connect("127.0.0.8").await;
    assert_ne!(status(&mut crowd, ALIVE).await, Some(200));

    drop(feed);
    let _again = follow(&relay).await;
    house.close().await;
}

#[tokio::test]
async fn a_client_behind_a_trusted_proxy_has_the_share_of_its_own_address() {
    // More tries than one address has, which is 30: by three people behind one proxy.
    async fn refused(stream: &mut TcpStream, headers: &str) -> bool {
        let mut refused = false;
        for account in 0..40 {
            let body = format!(r#"{{"email":"a{account}@b.example","password":"wrong wrong wrong"}}"#);
            let head = format!(
                "POST /api/v1/auth/login HTTP/1.1\r\nhost: t.example\r\n{headers}content-length: {}\r\n\r\n{body}",
                body.len()
            );
            refused |= status(stream, &head).await == Some(429);
        }
        refused
    }
    let house = House::open(Shares::default(), &["127.0.0.1"]).await;
    let mut proxy = house.connect("127.0.0.1").await;
    assert!(refused(&mut proxy, "x-forwarded-for: 192.0.2.66\r\n").await);
    let sign_in = r#"{"email":"a@b.example","password":"wrong wrong wrong"}"#;
    let as_other = |from: &str| {
        format!(
            "POST /api/v1/auth/login HTTP/1.1\r\nhost: t.example\r\nx-forwarded-for: {from}\r\ncontent-length: {}\r\n\r\n{sign_in}",
            sign_in.len()
        )
    };
    assert_eq!(status(&mut proxy, &as_other("192.0.2.66")).await, Some(429));
    assert_eq!(status(&mut proxy, &as_other("192.0.2.67")).await, Some(401));
    // Whoever is no proxy cannot choose an address.
    let mut stranger = house.connect("127.0.0.2").await;
    assert!(refused(&mut stranger, "x-forwarded-for: 192.0.2.68\r\n").await);
    assert_eq!(status(&mut stranger, &as_other("192.0.2.69")).await, Some(429));
    house.close().await;
}

#[tokio::test]
async fn senders_behind_a_proxy_have_a_share_each_and_the_proxy_has_none() {
    let shares = Shares { total: 8, per_address: 1, ..Shares::default() };
    let house = House::open(shares, &["127.0.0.1"]).await;
    let slow = |from: &str| {
        format!(
            "POST /api/v1/auth/login HTTP/1.1\r\nhost: t.example\r\nx-forwarded-for: {from}\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
        )
    };
    let alive = |from: &str| ALIVE.replace("\r\n\r\n", &format!("\r\nx-forwarded-for: {from}\r\n\r\n"));
    let mut held = house.connect("127.0.0.1").await;
    // The server asks for the body: the request is under way.
    assert_eq!(status(&mut held, &slow("192.0.2.1")).await, Some(100));
    let mut line = house.connect("127.0.0.1").await;
    assert_eq!(status(&mut line, &alive("192.0.2.1")).await, Some(429));
    assert_eq!(status(&mut line, &alive("192.0.2.2")).await, Some(200));
    drop(held);
    within(async { while status(&mut line, &alive("192.0.2.1")).await != Some(200) {} }).await;
    house.close().await;
}

#[tokio::test]
async fn answers_that_nobody_takes_end_the_connection() {
    let house = House::open(Shares { per_address: 1, ..Shares::default() }, &[]).await;
    let mut greedy = house.connect("127.0.0.1").await;
    // Far more than the buffers of both sockets hold.
    let asked = "GET /api/v1/openapi.json HTTP/1.1\r\nhost: t.example\r\n\r\n".repeat(1000);
    greedy.write_all(asked.as_bytes()).await.unwrap();
    let mut first = [0; 1];
    greedy.read_exact(&mut first).await.unwrap();
    tokio::time::pause();
    let mut waited = 0;
    while status(&mut house.connect("127.0.0.1").await, ALIVE).await != Some(200) {
        tokio::time::advance(Duration::from_secs(1)).await;
        waited += 1;
        assert!(waited < 300, "the connection is held for ever");
    }
    assert!(waited > 30, "{waited} s are too few for somebody who is slow");
    house.close().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let house = House::open(Shares::default(), &[]).await;
    let mut silent = house.connect("127.0.0.1").await;
    let mut slow = house.connect("127.0.0.1").await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: t").await.unwrap();
    let mut idle = house.connect("127.0.0.1").await;
    assert_eq!(status(&mut idle, ALIVE).await, Some(200));
    tokio::time::pause();
    for stream in [&mut silent, &mut slow, &mut idle] {
        let mut rest = Vec::new();
        // A connection that ends with a reset has ended too.
        let _ = within(stream.read_to_end(&mut rest)).await;
    }
    house.close().await;
}
