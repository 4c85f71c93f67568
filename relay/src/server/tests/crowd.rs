//! Many strangers of one network. Only on Linux has a machine more than one of its own.

use libp2p::multiaddr::Protocol;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, TcpStream},
};

use super::*;

/// Connects from an address of another network of this machine, and says nothing.
async fn silent(to: &Multiaddr, from: [u8; 4]) -> TcpStream {
    let mut parts = to.iter();
    let (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) = (parts.next(), parts.next()) else {
        panic!("{to}")
    };
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect((ip, port).into()).await.unwrap()
}

/// Returns when the relay has ended the connection; what it may have said before is of no interest.
async fn ended(mut stream: TcpStream) {
    let _ = timeout(SOON, stream.read_to_end(&mut Vec::new())).await.expect("ended in time");
}

async fn crowded() -> Lab {
    Lab::start_with(|config| {
        config.limits.strangers.total = 3;
        config.limits.transport.handshake = SOON * 6;
    })
    .await
}

#[tokio::test]
async fn many_half_open_connections_from_one_network_do_not_shut_out_the_others() {
    let lab = crowded().await;
    let mut crowd = Vec::new();
    for _ in 0..3 {
        crowd.push(silent(&lab.tcp(), [127, 0, 9, 1]).await);
    }
    let (_node, answer) = Node::hello(&lab.tcp(), &child(1)).await;
    assert!(matches!(answer, Some(ToNode::Welcome { .. })), "{answer:?}");
    ended(crowd.remove(0)).await;
    lab.relay.shutdown().await;
}

#[tokio::test]
async fn a_connected_stranger_makes_room_too() {
    let lab = crowded().await;
    let mut crowd = Vec::new();
    for number in 1..=3 {
        crowd.push(Node::connect(&lab.tcp(), &child(number)).await);
    }
    lab.until(|status| status.strangers == 3).await;
    let _other = silent(&lab.tcp(), [127, 0, 9, 1]).await;
    crowd[0].closed().await;
    lab.until(|status| status.strangers == 2).await;
}
