use mytunnel_carrier::lane;
use mytunnel_keys::{id::TunnelKind, secret::Seed, wire::ToNode};
use tokio::{io::AsyncReadExt, net::TcpListener};
use tokio_rustls::{TlsAcceptor, server::TlsStream as ServerStream};

use super::*;
use crate::{
    Node, Target, TunnelSpec,
    testing::{
        self,
        relay::{Manners, Relay, SOON, TUNNEL, config, exchange},
    },
};

/// A relay's port for lanes.
struct Door {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

type Lane = ServerStream<TcpStream>;

impl Door {
    async fn open(identity: &Seed) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(lane::server_config(identity).unwrap()));
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), acceptor }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    fn way(&self) -> Way {
        let config = lane::client_config(&testing::node(), &testing::relay_seed().public()).unwrap();
        Way { relay: self.listener.local_addr().unwrap(), config: Arc::new(config) }
    }

    /// The next lane, once it has shown the node's key and named its tunnel.
    async fn lane(&self) -> Lane {
        let entered = async {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut lane = self.acceptor.accept(stream).await.unwrap();
            let key = lane::peer_key(lane.get_ref().1.peer_certificates());
            assert_eq!(key, Some(testing::node().public()));
            let mut tunnel = [0; 16];
            lane.read_exact(&mut tunnel).await.unwrap();
            assert_eq!(tunnel, TUNNEL);
            lane
        };
        timeout(SOON, entered).await.expect("no lane comes")
    }

    async fn has_nothing(&self) -> bool {
        timeout(Duration::from_millis(100), self.listener.accept()).await.is_err()
    }
}

/// Lanes being kept for a tunnel to `target`.
struct Kept {
    service: Arc<Service>,
    closed: CancellationToken,
    task: JoinSet<()>,
}

fn kept(way: Way, target: &str) -> Kept {
    let spec = TunnelSpec::new("web".parse().unwrap(), TunnelKind::Http, Target::parse(target).unwrap());
    let service = Arc::new(Service::new(&spec).unwrap());
    let id = TunnelId::from_bytes(TUNNEL);
    let tunnel = Tunnel { id, service: service.clone(), pulses: Pulses::default() };
    let (closed, mut task) = (CancellationToken::new(), JoinSet::new());
    task.spawn(keep(way, tunnel, closed.clone()));
    Kept { service, closed, task }
}

async fn origin() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn a_lane_carries_a_pipe_and_another_takes_its_place() {
    let door = Door::open(&testing::relay_seed()).await;
    let (listener, address) = origin().await;
    let kept = kept(door.way(), &address);
    assert!(door.has_nothing().await, "a quiet tunnel costs the relay nothing");

    kept.service.note_use();
    let (mut first, _second) = (door.lane().await, door.lane().await);
    assert!(door.has_nothing().await);
    first.write_all(b"request").await.unwrap();
    first.flush().await.unwrap();
    let _third = door.lane().await;
    let (mut local, _) = listener.accept().await.unwrap();
    let mut request = [0; 7];
    local.read_exact(&mut request).await.unwrap();
    assert_eq!(&request, b"request");
    local.write_all(b"answer").await.unwrap();
    drop(local);
    let mut answer = Vec::new();
    first.read_to_end(&mut answer).await.expect("a proper end");
    assert_eq!(answer, b"\0answer");
}

#[tokio::test]
async fn an_origin_that_resets_is_no_proper_end_of_a_lane() {
    let door = Door::open(&testing::relay_seed()).await;
    let (listener, address) = origin().await;
    let kept = kept(door.way(), &address);
    kept.service.note_use();
    let mut lane = door.lane().await;
    lane.write_all(b"request").await.unwrap();
    lane.flush().await.unwrap();
    let (mut local, _) = listener.accept().await.unwrap();
    local.read_exact(&mut [0; 7]).await.unwrap();
    local.set_zero_linger().unwrap();
    drop(local);
    let end = timeout(SOON, lane.read_to_end(&mut Vec::new())).await.expect("the lane hangs");
    assert!(end.is_err(), "a truncated answer looks complete");
}

#[tokio::test]
async fn a_relay_with_another_key_gets_no_lane() {
    let door = Door::open(&Seed::from_bytes([99; 32])).await;
    let kept = kept(door.way(), "3000");
    kept.service.note_use();
    let (stream, _) = timeout(SOON, door.listener.accept()).await.unwrap().unwrap();
    assert!(door.acceptor.accept(stream).await.is_err());
}

#[tokio::test]
async fn the_end_of_the_registration_is_the_end_of_its_lanes() {
    let door = Door::open(&testing::relay_seed()).await;
    let mut kept = kept(door.way(), "3000");
    kept.service.note_use();
    let mut lane = door.lane().await;
    kept.closed.cancel();
    timeout(SOON, kept.task.join_next()).await.expect("lanes are kept").unwrap().unwrap();
    // Without a farewell, as everything that is cut.
    assert!(timeout(SOON, lane.read_u8()).await.expect("the lane stands").is_err());
}

#[tokio::test]
async fn a_node_opens_lanes_where_its_relay_says_once_visitors_come() {
    let door = Door::open(&testing::relay_seed()).await;
    let mut manners = Manners::default();
    if let ToNode::Welcome { lane_port, .. } = &mut manners.welcome {
        *lane_port = Some(door.port());
    }
    let relay = Relay::start(manners).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "home").unwrap();
    let node = Node::start(config(vec![relay.address()])).unwrap();
    let target = Target::parse(folder.path().to_str().unwrap()).unwrap();
    let kind = TunnelKind::Http;
    let spec = TunnelSpec::new("web".parse().unwrap(), kind, target);
    let mut share = node.share(spec).await.unwrap();
    timeout(SOON, share.ready()).await.unwrap().unwrap();

    let request = b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
    let (answer, _) = exchange(&mut relay.pipe().await, request).await;
    assert!(answer.ends_with(b"home"));
    let (mut lane, mut waiting) = (door.lane().await, door.lane().await);
    lane.write_all(request).await.unwrap();
    lane.flush().await.unwrap();
    let mut again = Vec::new();
    timeout(SOON, lane.read_to_end(&mut again)).await.unwrap().unwrap();
    assert!(again.ends_with(b"home"));

    // The registration ends, and its lanes with it.
    drop(share);
    assert!(timeout(SOON, waiting.read_u8()).await.expect("the lane stands").is_err());
}
