use mytunnel_keys::id::TunnelKind;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::serve::tests::{Relay, SOON, TUNNEL, greeting, pipe_with, service_of};

async fn pipe_to(target: SocketAddr) -> Relay {
    let mut relay = pipe_with(Patience::default());
    relay.table.insert(TUNNEL, service_of(TunnelKind::Udp, &target.to_string()));
    relay.send(&[TUNNEL.as_slice(), &greeting(Transport::Datagrams)].concat()).await;
    assert_eq!(relay.status().await, PipeStatus::Connected as u8);
    relay
}

async fn server() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

impl Relay {
    async fn tell(&mut self, datagram: &[u8]) {
        datagram::write(&mut self.pipe, datagram).await.unwrap();
    }

    async fn hear(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let more = timeout(SOON, datagram::read(&mut self.pipe, &mut bytes)).await.expect("silence").unwrap();
        more.then_some(bytes)
    }
}

#[tokio::test]
async fn datagrams_go_both_ways_one_by_one() {
    let (server, address) = server().await;
    let mut relay = pipe_to(address).await;
    let large = vec![7; 9000];
    for sent in [b"one".as_slice(), b"", &large] {
        relay.tell(sent).await;
        let mut bytes = vec![0; 65_536];
        let (length, from) = timeout(SOON, server.recv_from(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(&bytes[..length], sent);
        server.send_to(&bytes[..length], from).await.unwrap();
        assert_eq!(relay.hear().await.as_deref(), Some(sent));
    }
    relay.pipe.shutdown().await.unwrap();
    let mut rest = Vec::new();
    relay.pipe.read_to_end(&mut rest).await.unwrap();
    assert!(relay.ended().await.is_ok());
}

#[tokio::test]
async fn a_server_that_comes_up_late_is_found() {
    let (server, address) = server().await;
    drop(server);
    let mut relay = pipe_to(address).await;
    relay.tell(b"lost").await;
    // The system says that nobody listens, on the next call.
    relay.tell(b"lost too").await;
    let server = UdpSocket::bind(address).await.unwrap();
    let mut bytes = [0; 16];
    let heard = async {
        loop {
            relay.tell(b"found").await;
            if let Ok(received) = timeout(std::time::Duration::from_millis(20), server.recv(&mut bytes)).await
            {
                return received.unwrap();
            }
        }
    };
    assert!(timeout(SOON, heard).await.expect("never heard") > 0);
}

#[tokio::test]
async fn what_takes_no_datagrams_is_no_peer() {
    for target in ["unix:/run/x", "https://localhost:1"] {
        assert!(matches!(Peer::new(&Target::parse(target).unwrap()), Err(DialError::NoServer)));
    }
}
