use std::sync::Arc;

use tokio::{
    io::{DuplexStream, duplex},
    net::TcpListener,
    task::JoinHandle,
    time::Instant,
};

use super::{
    table::{Service, TableWriter},
    *,
};
use mytunnel_carrier::greeting::{Greeting, Transport};
use mytunnel_keys::id::TunnelKind;

use crate::{share::TunnelSpec, target::Target};

pub(super) const TUNNEL: [u8; 16] = *b"a tunnel's id ..";
pub(super) const SOON: Duration = Duration::from_secs(10);

/// A pipe as the relay holds it, and the node's task at its other end.
pub(super) struct Relay {
    pub(super) pipe: DuplexStream,
    node: JoinHandle<Result<(), PipeError>>,
    pub(super) table: TableWriter,
}

#[expect(clippy::disallowed_methods, reason = "the test joins the task")]
pub(super) fn pipe_with(patience: Patience) -> Relay {
    let (writer, table) = TableWriter::new();
    let (pipe, inner) = duplex(64 * 1024);
    Relay { pipe, node: tokio::spawn(serve(inner, table, patience, Arc::default())), table: writer }
}

fn pipe_to(target: &str) -> Relay {
    let relay = pipe_with(Patience::default());
    relay.table.insert(TUNNEL, service(target));
    relay
}

fn service(target: &str) -> Arc<Service> {
    service_of(TunnelKind::Http, target)
}

pub(super) fn service_of(kind: TunnelKind, target: &str) -> Arc<Service> {
    let spec = TunnelSpec::new("web".parse().unwrap(), kind, Target::parse(target).unwrap());
    Arc::new(Service::new(&spec).unwrap())
}

/// The first payload of a TCP or UDP tunnel's pipe.
pub(super) fn greeting(transport: Transport) -> Vec<u8> {
    let (visitor, relay) = ("192.0.2.7:40000".parse().unwrap(), "198.51.100.1:22".parse().unwrap());
    Greeting { transport, visitor, relay }.encode()
}

impl Relay {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.pipe.write_all(bytes).await.unwrap();
    }

    pub(super) async fn status(&mut self) -> u8 {
        timeout(SOON, self.pipe.read_u8()).await.expect("no status").unwrap()
    }

    pub(super) async fn ended(self) -> Result<(), PipeError> {
        drop(self.pipe);
        timeout(SOON, self.node).await.expect("the pipe goes on").unwrap()
    }
}

pub(super) async fn origin() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn the_target_is_dialled_with_the_first_byte_of_payload() {
    let (listener, address) = origin().await;
    let mut relay = pipe_to(&address);
    relay.send(&TUNNEL).await;
    let early = timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(early.is_err(), "a pipe in reserve must cost the target no connection");

    relay.send(b"hello").await;
    assert_eq!(relay.status().await, PipeStatus::Connected as u8, "the status does not wait for the origin");
    let (mut local, _) = listener.accept().await.unwrap();
    let mut bytes = [0; 5];
    local.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"hello");
    local.write_all(b"and back").await.unwrap();
    drop(local);
    let mut answer = Vec::new();
    relay.pipe.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"and back");
    assert!(relay.ended().await.is_ok());
}

#[tokio::test]
async fn preface_and_payload_may_come_in_any_pieces() {
    let (listener, address) = origin().await;
    let mut relay = pipe_to(&address);
    relay.send(&TUNNEL[..5]).await;
    tokio::task::yield_now().await;
    relay.send(&[&TUNNEL[5..], b"payload".as_slice()].concat()).await;
    let (mut local, _) = listener.accept().await.unwrap();
    let mut bytes = [0; 7];
    local.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"payload");
}

#[tokio::test]
async fn a_target_that_is_down_is_status_1() {
    let (listener, address) = origin().await;
    drop(listener);
    let mut relay = pipe_to(&address);
    relay.send(&TUNNEL).await;
    relay.send(b"hello").await;
    assert_eq!(relay.status().await, PipeStatus::TargetUnreachable as u8);
    assert_eq!(relay.pipe.read(&mut [0]).await.unwrap(), 0, "closed after the status");
    assert!(matches!(relay.ended().await, Err(PipeError::Target(DialError::Connect(_)))));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tunnel_is_status_2() {
    let mut relay = pipe_with(Patience::default());
    relay.send(&TUNNEL).await;
    relay.send(b"hello").await;
    assert_eq!(relay.status().await, PipeStatus::UnknownTunnel as u8);
    assert!(relay.ended().await.is_ok());
}

#[tokio::test]
async fn a_pipe_may_come_before_its_registration() {
    let (_listener, address) = origin().await;
    let mut relay = pipe_with(Patience { registration: SOON, ..Patience::default() });
    relay.send(&TUNNEL).await;
    relay.send(b"hello").await;
    tokio::task::yield_now().await;
    relay.table.insert([0; 16], service(&address));
    relay.table.insert(TUNNEL, service(&address));
    assert_eq!(relay.status().await, PipeStatus::Connected as u8);
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_is_never_used_is_closed() {
    let begun = Instant::now();
    let mut relay = pipe_to("127.0.0.1:1");
    relay.send(&TUNNEL).await;
    assert_eq!(relay.pipe.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(begun.elapsed().as_secs(), Patience::default().first_use.as_secs());
    assert!(matches!(relay.ended().await, Err(PipeError::Idle)));
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_names_no_tunnel_is_closed_sooner() {
    let begun = Instant::now();
    let mut relay = pipe_to("127.0.0.1:1");
    relay.send(&TUNNEL[..15]).await;
    assert_eq!(relay.pipe.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(begun.elapsed().as_secs(), Patience::default().preface.as_secs());
}

#[tokio::test]
async fn a_reserve_pipe_that_the_relay_closes_is_no_failure() {
    let mut relay = pipe_to("127.0.0.1:1");
    relay.send(&TUNNEL).await;
    assert!(relay.ended().await.is_ok());
}

#[tokio::test]
async fn closing_the_tunnel_cuts_what_is_in_flight() {
    let (listener, address) = origin().await;
    let mut relay = pipe_with(Patience::default());
    let service = service(&address);
    relay.table.insert(TUNNEL, service.clone());
    relay.send(&TUNNEL).await;
    relay.send(b"hello").await;
    assert_eq!(relay.status().await, 0);
    let (mut local, _) = listener.accept().await.unwrap();
    service.close();
    local.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(matches!(relay.ended().await, Err(PipeError::TunnelClosed)));
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_a_target() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("origin.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let mut relay = pipe_to(&format!("unix:{}", path.display()));
    relay.send(&TUNNEL).await;
    relay.send(b"hello").await;
    let (mut local, _) = listener.accept().await.unwrap();
    local.write_all(b"from a socket").await.unwrap();
    drop(local);
    let mut answer = Vec::new();
    relay.pipe.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"\0from a socket");
}

#[tokio::test]
async fn garbage_from_the_origin_is_passed_on_unread() {
    let (listener, address) = origin().await;
    let mut relay = pipe_to(&address);
    relay.send(&TUNNEL).await;
    relay.send(b"GET / HTTP/1.1\r\n\r\n").await;
    let (mut local, _) = listener.accept().await.unwrap();
    local.write_all(b"\xff\x00 not HTTP").await.unwrap();
    local.shutdown().await.unwrap();
    let mut answer = Vec::new();
    relay.pipe.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"\0\xff\x00 not HTTP");
}

/// A node holds hundreds of pipes in reserve: what each costs is part of the contract.
#[tokio::test]
async fn a_waiting_pipe_is_small() {
    let (_writer, table) = TableWriter::new();
    let future = serve(duplex(1).0, table, Patience::default(), Arc::default());
    let size = size_of_val(&future);
    assert!(size <= 1024, "{size} bytes");
    drop(future);
}
