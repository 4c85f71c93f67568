use std::{future::poll_fn, net::SocketAddr, pin::Pin, sync::Arc, task::Poll};

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
    carries(&mut house, Proxies::new(&format!("http://ann:secret@{at}"), "").unwrap()).await;
}

#[tokio::test]
async fn who_refuses_is_named_and_what_to_do_is_said() {
    let (house, mut tasks) = (House::open(Some("503 Service Unavailable")).await, JoinSet::new());
    let at = proxy("Basic", &mut tasks).await;
    let by = |proxy: &str, except: &str| Proxies::new(proxy, except).unwrap();
    let failure = async |proxies: Proxies| dial(house.place(), proxies).await.err().unwrap().to_string();
    let refused = failure(by(&format!("http://{at}"), "")).await;
    assert!(refused.contains(&at) && refused.contains("407") && refused.contains("HTTPS_PROXY"), "{refused}");
    for except in ["127.0.0.0/8, other.test", "other.test, .test"] {
        let direct = failure(by(&format!("http://{at}"), except)).await;
        assert!(direct.contains("503"), "{except}: {direct}");
    }
    let socks = failure(by("socks5://192.0.2.1:1080", "")).await;
    assert!(socks.contains("192.0.2.1:1080") && socks.contains("http://HOST:PORT"), "{socks}");
    let none = failure(Proxies::none()).await;
    assert!(none.contains("no relay") && none.contains("503"), "{none}");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_or_is_none_is_told_from_a_relay() {
    let (house, mut tasks) = (House::open(None).await, JoinSet::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let proxies = Proxies::new(&format!("http://ann:secret@{at}"), "").unwrap();
    tasks.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        head(&mut socket).await;
        socket.write_all(b"220 mail.test ESMTP\r\n").await.unwrap();
    });
    for what in ["does not answer as one", "cannot be reached"] {
        let error = dial(house.place(), proxies.clone()).await.err().unwrap();
        assert!(error.to_string().starts_with(&format!("the proxy {at} {what}: ")), "{error}");
        assert!(std::error::Error::source(&error).is_none(), "the last of a chain is what people are shown");
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_says_nothing_is_not_waited_for_without_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let proxies = Proxies::new(&at.to_string(), "").unwrap();
    let error = dial("/dns/relay.test/tcp/443/tls/ws".parse().unwrap(), proxies).await.err().unwrap();
    assert_eq!(error.to_string(), format!("nothing more comes from the proxy {at}"));
}

#[test]
fn what_cannot_be_read_is_not_taken_for_no_proxy() {
    for proxy in [
        "http://ann:pass/word@proxy.test:3128",
        "http://ann:pass#word@proxy.test",
        "http://ann:8#word@proxy.test",
        "http://proxy.test:word",
        "htp://proxy.test",
        "",
        "a b",
    ] {
        assert_eq!(Proxies::new(proxy, "").err(), Some(UnreadableProxy), "{proxy}");
    }
    for proxy in
        ["http://ann:pass%2Fword@proxy.test:3128/", "proxy.test:3128", "http://[::1]", "socks5://proxy.test"]
    {
        assert!(Proxies::new(proxy, "*").is_ok(), "{proxy}");
    }
}

/// A WebSocket whose client writes what it likes.
async fn raw(bytes: &[u8]) -> (Stream<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    theirs.write_all(bytes).await.unwrap();
    (messages::of_server(ours, Vec::new()).await, theirs)
}

/// A masked frame's head and its payload; the mask is zero.
fn frame(first: u8, length: usize, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 127];
    frame.extend((length as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn no_more_is_held_of_a_message_than_anybody_sends() {
    let most = vec![7; messages::PIECE];
    let (mut server, _client) = raw(&frame(0x82, most.len(), &most)).await;
    let mut received = vec![0; most.len()];
    server.read_exact(&mut received).await.unwrap();
    assert_eq!(received, most);
    // Its head alone is enough to refuse it, and so is one byte too many of a message in fragments.
    let too_long = frame(0x82, most.len() + 1, b"");
    let in_fragments = [frame(0x02, most.len(), &most), frame(0x00, 1, b"x")].concat();
    for bytes in [too_long, in_fragments, frame(0x82, usize::MAX, b"")] {
        let (mut server, _client) = raw(&bytes).await;
        let error = server.read(&mut [0; 10]).await.unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_websocket_of_a_client_is_an_error() {
    let unmasked = b"\x82\x01x".as_slice();
    let long_ping = [b"\x89\xfe\x00\x80\0\0\0\0".as_slice(), &[0; 128]].concat();
    let split_ping = b"\x09\x80\0\0\0\0".as_slice();
    let reserved = b"\xc2\x81\0\0\0\0x".as_slice();
    let unknown = b"\x83\x80\0\0\0\0".as_slice();
    let second_begin = b"\x02\x81\0\0\0\0a\x82\x81\0\0\0\0b".as_slice();
    let loose_end = b"\x80\x81\0\0\0\0a".as_slice();
    for bytes in [unmasked, &long_ping, split_ping, reserved, unknown, second_begin, loose_end] {
        let (mut server, _client) = raw(bytes).await;
        assert!(server.read(&mut [0; 10]).await.is_err(), "{bytes:?}");
    }
    let (mut server, client) = raw(&frame(0x82, 10, b"half")).await;
    drop(client);
    assert!(server.read(&mut [0; 10]).await.is_err(), "it ends in the middle");
}

#[tokio::test]
async fn pings_are_answered_and_with_empty_messages_no_end() {
    let said =
        [frame(0x89, 2, b"hi"), frame(0x82, 0, b""), frame(0x02, 0, b""), frame(0x80, 1, b"a")].concat();
    let (mut server, mut client) = raw(&said).await;
    let mut received = [0; 10];
    assert_eq!((server.read(&mut received).await.unwrap(), received[0]), (1, b'a'));
    server.flush().await.unwrap();
    let mut pong = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut client, &mut pong).await.unwrap();
    assert_eq!(&pong, b"\x8a\x02hi");
    client.write_all(&frame(0x88, 0, b"")).await.unwrap();
    assert_eq!(server.read(&mut received).await.unwrap(), 0);
}

#[test]
fn a_connection_that_says_nothing_holds_little() {
    let config = messages::config();
    // The library makes and clears so much for each connection, before anybody has proven anything.
    assert!(config.read_buffer_size <= 16 * 1024, "{config:?}");
    assert!(config.max_write_buffer_size <= 4 * messages::PIECE, "{config:?}");
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

/// One that is handed in.
async fn enter(entrance: &Entrance) -> Result<(), Full> {
    let (ours, _theirs) = tokio::io::duplex(64);
    entrance.enter(Box::new(ours), Vec::new(), ([192, 0, 2, 1], 0).into()).await
}

#[tokio::test(start_paused = true)]
async fn whoever_is_one_too_many_waits_a_moment_and_is_not_taken() {
    let (mut door, entrance) = Door::new();
    door.listen_on(ListenerId::next(), "/ip4/192.0.2.1/tcp/443/tls/ws".parse().unwrap()).unwrap();
    while entrance.has_room() {
        enter(&entrance).await.unwrap();
    }
    assert_eq!(enter(&entrance).await, Err(Full));
    let come_out = async {
        while !matches!(poll_fn(|cx| Pin::new(&mut door).poll(cx)).await, TransportEvent::Incoming { .. }) {}
    };
    let (entered, ()) = tokio::join!(enter(&entrance), come_out);
    assert_eq!(entered, Ok(()));
    drop(door);
    assert!(!entrance.has_room());
    assert_eq!(enter(&entrance).await, Err(Full));
}

#[tokio::test]
async fn where_nobody_listens_any_more_nobody_is_asked_in() {
    let (mut door, entrance) = Door::new();
    let id = ListenerId::next();
    door.listen_on(id, "/ip4/192.0.2.1/tcp/443/tls/ws".parse().unwrap()).unwrap();
    assert!(!door.remove_listener(ListenerId::next()) && entrance.has_room());
    assert!(door.remove_listener(id) && !entrance.has_room());
    assert_eq!(enter(&entrance).await, Err(Full));
}

#[tokio::test]
async fn a_crowd_at_the_door_takes_turns_with_other_ways() {
    let (mut door, entrance) = Door::new();
    door.listen_on(ListenerId::next(), "/ip4/192.0.2.1/tcp/443/tls/ws".parse().unwrap()).unwrap();
    for _ in 0..3 {
        enter(&entrance).await.unwrap();
    }
    let mut turns = Vec::new();
    while turns.len() < 7 {
        turns.push(
            poll_fn(|cx| {
                Poll::Ready(match Pin::new(&mut door).poll(cx) {
                    Poll::Ready(TransportEvent::Incoming { .. }) => "one",
                    Poll::Ready(_) => "news",
                    Poll::Pending => "others",
                })
            })
            .await,
        );
    }
    assert_eq!(turns, ["news", "one", "others", "one", "others", "one", "others"]);
}
