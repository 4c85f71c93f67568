use futures::future::BoxFuture;
use mytunnel_keys::{
    feed::{AddressGate, BasicGate, Gates},
    id::{Cluster, ProjectId, TunnelId, TunnelKind, TunnelName},
};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use super::*;
use crate::route::PipeSource;

/// What becomes of a pipe to a node.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// It has no place for another.
    Busy,
    /// It never comes.
    Hangs,
    /// It comes, and nothing is heard from its target.
    Silent,
    /// Its target takes the connection.
    Answers,
}

#[derive(Debug)]
struct Node {
    manner: Manner,
    far: std::sync::Mutex<Vec<DuplexStream>>,
}

impl PipeSource for Node {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        Box::pin(async {
            let (near, mut far) = duplex(64);
            match self.manner {
                Manner::Busy => return Err(PipeError::Busy),
                Manner::Hangs => std::future::pending().await,
                Manner::Silent => {}
                Manner::Answers => far.write_u8(0).await.map_err(PipeError::Open)?,
            }
            self.far.lock().unwrap().push(far);
            Ok(Box::new(near) as Pipe)
        })
    }
}

fn serve(routes: &Routes, manner: Manner, gates: Option<Gates>) -> Arc<Tunnel> {
    let (cluster, project): (Cluster, ProjectId) = ("tun.test".parse().unwrap(), "proj_a".parse().unwrap());
    let name: TunnelName = "db".parse().unwrap();
    let id = TunnelId::derive(&cluster, &project, &name);
    let node = Arc::new(Node { manner, far: std::sync::Mutex::default() });
    let tunnel = Tunnel::new(id, name, project, TunnelKind::Tcp, node);
    routes.insert(tunnel.gated(gates.map(Arc::new)))
}

async fn visit(routes: &Routes) -> Result<Line, Turned> {
    let errand = Errand {
        routes,
        name: "db",
        visitor: [192, 0, 2, 7].into(),
        greeting: b"it is me",
        patience: Duration::from_secs(5),
        most: Bounds { tunnel: 9, key: None },
    };
    errand.run(|_| true).await
}

#[tokio::test(start_paused = true)]
async fn each_of_several_nodes_has_its_turn_however_long_those_before_it_took() {
    let routes = Routes::new();
    for manner in [Manner::Hangs, Manner::Silent, Manner::Answers] {
        serve(&routes, manner, None);
    }
    let begun = Instant::now();
    let line = visit(&routes).await.expect("the last one answers");
    assert!(line.greeted);
    assert_eq!(begun.elapsed(), 2 * TURN);

    let begun = Instant::now();
    drop(visit(&routes).await.unwrap());
    assert_eq!(begun.elapsed(), Duration::ZERO, "the others rest");
}

#[tokio::test]
async fn a_node_without_room_is_passed_over_and_may_have_some_for_the_next() {
    let routes = Routes::new();
    let full = [(); 2].map(|()| serve(&routes, Manner::Busy, None));
    assert_eq!(visit(&routes).await.unwrap_err(), Turned::Full);
    serve(&routes, Manner::Answers, None);
    let lines: Vec<_> =
        [visit(&routes).await, visit(&routes).await].into_iter().map(Result::unwrap).collect();
    assert!(lines.iter().all(|line| full.iter().all(|full| !Arc::ptr_eq(full, &line.tunnel))));
    assert!(full.iter().all(|full| full.in_flight() == 0));
    routes.remove(&lines[0].tunnel);
    assert_eq!(visit(&routes).await.unwrap_err(), Turned::Full, "they do not rest");
}

#[tokio::test]
async fn addresses_are_looked_at_and_what_a_line_cannot_be_asked_for_shuts_it() {
    let only = |allow: &str| AddressGate { allow: vec![allow.parse().unwrap()], deny: Vec::new() };
    let basic = BasicGate { user: "ann".to_owned(), hash: "$argon2id$x".to_owned(), generation: 1 };
    for (gates, expected) in [
        (Gates { addresses: Some(only("192.0.2.0/24")), ..Gates::default() }, Ok(())),
        (Gates { addresses: Some(only("198.51.100.0/24")), ..Gates::default() }, Err(Turned::Denied)),
        (Gates { basic: Some(basic), ..Gates::default() }, Err(Turned::Denied)),
    ] {
        let routes = Routes::new();
        let tunnel = serve(&routes, Manner::Answers, Some(gates.clone()));
        assert_eq!(visit(&routes).await.map(drop), expected, "{gates:?}");
        assert_eq!(tunnel.traffic().requests(), u64::from(expected.is_ok()), "the node hears of nobody else");
    }
}

#[tokio::test]
async fn another_end_cuts_nobody_until_it_comes_and_other_gates_do() {
    let ending = |ends_at| Some(Arc::new(Gates { ends_at, ..Gates::default() }));
    let routes = Routes::new();
    let tunnel = serve(&routes, Manner::Answers, None);
    let line = visit(&routes).await.unwrap();
    for ends_at in [Some(u64::MAX - 1), Some(u64::MAX), None] {
        tunnel.set_gates(ending(ends_at));
        assert!(!line.cut.is_cancelled(), "{ends_at:?}");
    }
    tunnel.close();
    assert!(line.cut.is_cancelled());

    let tunnel = serve(&routes, Manner::Answers, None);
    let line = visit(&routes).await.unwrap();
    let deny = AddressGate { allow: Vec::new(), deny: vec!["198.51.100.0/24".parse().unwrap()] };
    tunnel.set_gates(Some(Arc::new(Gates { addresses: Some(deny), ..Gates::default() })));
    assert!(line.cut.is_cancelled());
}

#[tokio::test]
async fn the_greeting_is_the_first_that_a_node_hears() {
    let routes = Routes::new();
    let node = Arc::new(Node { manner: Manner::Answers, far: std::sync::Mutex::default() });
    let tunnel = serve(&routes, Manner::Busy, None);
    let (id, name) = (*tunnel.id(), tunnel.name().clone());
    let source = Arc::clone(&node) as Arc<dyn PipeSource>;
    routes.insert(Tunnel::new(id, name, tunnel.project().clone(), TunnelKind::Tcp, source));
    let _line = visit(&routes).await.unwrap();
    let mut heard = [0; 8];
    let mut far = node.far.lock().unwrap().pop().unwrap();
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"it is me");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_a_visitor_does_not_acknowledge_ends_its_connection_in_time_and_waits_here() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (visitor, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (stream, _visitor) = (accepted.unwrap().0, visitor.unwrap());
    let options = |patience| {
        attend_reader(&stream, patience).unwrap();
        let socket = SockRef::from(&stream);
        (socket.keepalive().unwrap(), socket.tcp_user_timeout().unwrap(), socket.tcp_notsent_lowat().unwrap())
    };
    assert_eq!(options(Duration::from_secs(300)), (true, Some(Duration::from_secs(300)), UNSENT));
    assert_eq!(options(Duration::ZERO).1, Some(LEAST_PATIENCE), "zero would be for ever");
}
