use std::{future::poll_fn, net::SocketAddr, pin::Pin, sync::Arc};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{
    Multiaddr, Transport as _,
    core::{
        Endpoint,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::*;

const OPTIONS: DialOpts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };

/// Lines of a head, without the empty one.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Vec<String> {
    let mut lines = Vec::new();
    let mut stream = BufReader::with_capacity(1, stream);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        match line.trim_end() {
            "" => return lines,
            line => lines.push(line.to_owned()),
        }
    }
}

/// A relay's HTTPS, which answers with this status instead of 101 if there is one.
struct House {
    at: SocketAddr,
    door: Door,
    _tasks: JoinSet<()>,
}

impl House {
    async fn open(refusal: Option<&'static str>) -> Self {
        let signed = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signed.key_pair.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, (door, entrance), mut tasks) = (listener.local_addr().unwrap(), Door::new(), JoinSet::new());
        tasks.spawn(async move {
            loop {
                let (socket, from) = listener.accept().await.unwrap();
                let mut tls = acceptor.accept(socket).await.unwrap();
                assert_eq!(tls.get_ref().1.server_name(), Some("relay.test"));
                let head = head(&mut tls).await;
                assert_eq!(head[0], format!("GET {PATH} HTTP/1.1"));
                let host = format!("host: relay.test:{}", at.port());
                assert!(head.iter().any(|line| line.eq_ignore_ascii_case(&host)), "{head:?}");
                if let Some(refusal) = refusal {
                    tls.write_all(format!("HTTP/1.1 {refusal}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
                    continue;
                }
                let key = head.iter().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
                });
                let answer = format!(
                    "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n\r\n",
                    accept_key(key.unwrap().as_bytes()),
                );
                tls.write_all(answer.as_bytes()).await.unwrap();
                entrance.enter(Box::new(tls), Vec::new(), from).await.unwrap();
            }
        });
        Self { at, door, _tasks: tasks }
    }

    fn place(&self) -> Multiaddr {
        let host = format!("/ip4/127.0.0.1/tcp/{}", self.at.port());
        Place::beside(&host.parse().unwrap(), self.at.port(), "relay.test").unwrap()
    }

    /// The next connection that came in, and where from.
    async fn next(&mut self) -> (Stream<Box<dyn Socket>>, Multiaddr) {
        loop {
            let event = poll_fn(|cx| Pin::new(&mut self.door).poll(cx)).await;
            if let TransportEvent::Incoming { upgrade, send_back_addr, .. } = event {
                return (upgrade.await.unwrap(), send_back_addr);
            }
        }
    }
}

/// A proxy that connects to wherever it is asked, if the request says `word`.
async fn proxy(word: &'static str, tasks: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let head = head(&mut socket).await;
        if !head.iter().any(|line| line.contains(word)) {
            let refused = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
            return socket.write_all(refused).await.unwrap();
        }
        let to = head[0].strip_prefix("CONNECT ").and_then(|rest| rest.strip_suffix(" HTTP/1.1")).unwrap();
        let mut relay = TcpStream::connect(to).await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut socket, &mut relay).await);
    });
    at.to_string()
}

async fn dial(
    to: Multiaddr,
    proxies: Proxies,
) -> Result<Stream<tokio_rustls::client::TlsStream<Box<dyn Socket>>>, DialError> {
    Dialer::new(proxies).unwrap().dial(to, OPTIONS).unwrap().await
}

/// More than fits into any buffer on the way, there and back, and an end.
async fn carries(house: &mut House, proxies: Proxies) {
    house.door.listen_on(ListenerId::next(), house.place()).unwrap();
    let (client, (mut server, from)) = tokio::join!(dial(house.place(), proxies), house.next());
    let mut client = client.unwrap();
    assert!(from.to_string().starts_with("/ip4/127.0.0.1/tcp/"), "{from}");
    let sent: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let echo = async {
        let mut received = vec![0; sent.len()];
        server.read_exact(&mut received).await.unwrap();
        server.write_all(&received).await.unwrap();
        server.flush().await.unwrap();
        server
    };
    let ask = async {
        client.write_all(&sent).await.unwrap();
        client.flush().await.unwrap();
        let mut received = vec![0; sent.len()];
        client.read_exact(&mut received).await.unwrap();
        assert!(received == sent);
        client
    };
    let (mut server, mut client) = tokio::join!(echo, ask);
    client.close().await.unwrap();
    assert_eq!(server.read(&mut [0; 10]).await.unwrap(), 0, "its end is an end");
}

#[tokio::test]
async fn bytes_pass_both_ways_and_end() {
    carries(&mut House::open(None).await, Proxies::none()).await;
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_way_with_what_it_wants_to_know() {
    let (mut house, mut tasks) = (House::open(None).await, JoinSet::new());
    let at = proxy("Basic YW5uOnNlY3JldA==", &mut tasks).await;
    carries(&mut house, Proxies::new(&format!("http://ann:secret@{at}"), "")).await;
}

#[tokio::test]
async fn who_refuses_is_named_and_what_to_do_is_said() {
    let (house, mut tasks) = (House::open(Some("503 Service Unavailable")).await, JoinSet::new());
    let at = proxy("Basic", &mut tasks).await;
    let refused =
        dial(house.place(), Proxies::new(&format!("http://{at}"), "")).await.err().unwrap().to_string();
    assert!(refused.contains(&at) && refused.contains("407") && refused.contains("HTTPS_PROXY"), "{refused}");
    let excepted = Proxies::new(&format!("http://{at}"), "127.0.0.0/8, other.test");
    let direct = dial(house.place(), excepted).await.err().unwrap().to_string();
    assert!(direct.contains("503"), "{direct}");
    let socks =
        dial(house.place(), Proxies::new("socks5://192.0.2.1:1080", "")).await.err().unwrap().to_string();
    assert!(socks.contains("192.0.2.1:1080") && socks.contains("http://HOST:PORT"), "{socks}");
    let none = dial(house.place(), Proxies::none()).await.err().unwrap().to_string();
    assert!(none.contains("no relay") && none.contains("503"), "{none}");
}

#[tokio::test]
async fn text_is_no_bytes_of_a_connection() {
    use futures::SinkExt as _;
    use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

    let (ours, theirs) = tokio::io::duplex(1024);
    let mut server = messages::of_server(ours, Vec::new()).await;
    let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    client.send("hello".into()).await.unwrap();
    assert_eq!(server.read(&mut [0; 10]).await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn whoever_is_one_too_many_is_not_taken() {
    let (_door, entrance) = Door::new();
    let mut others = Vec::new();
    let mut enter = async || {
        let (ours, theirs) = tokio::io::duplex(64);
        others.push(theirs);
        entrance.enter(Box::new(ours), Vec::new(), ([192, 0, 2, 1], 0).into()).await
    };
    for _ in 0..64 {
        enter().await.unwrap();
    }
    assert_eq!(enter().await, Err(Full));
}
