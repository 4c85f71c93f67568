//! The feed over real HTTP, from a coordinator that checks each request's proof.

use std::{convert::Infallible, net::SocketAddr, pin::Pin};

use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use mytunnel_keys::{
    certificate,
    feed::{Change, Report},
    presence,
    proof::UnverifiedRequest,
    trust::Trust,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::*;
use crate::testing::{
    cluster,
    coordinator::{Reports, TestCoordinator, unix_now},
    root, seed, serial,
};

const SOON: Duration = Duration::from_secs(10);

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The HTTP side of a coordinator, for the relay whose key is number 150.
struct Server {
    coordinator: TestCoordinator,
    reports: Reports,
    /// How many batches of reports came; those up to the limit are not answered, or with a failure.
    batches: watch::Receiver<usize>,
    addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        Self::start_slow(0).await
    }

    /// One that takes no batch of reports before this many came.
    async fn start_slow(untaken: usize) -> Self {
        let (coordinator, reports) = TestCoordinator::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let (came, batches) = watch::channel(0);
        let served = Arc::new((coordinator.clone(), came, untaken));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let served = Arc::clone(&served);
                let service = service_fn(move |request| answer(Arc::clone(&served), request));
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { coordinator, reports, batches, addr, _tasks: tasks }
    }

    fn client(&self, number: u8) -> RemoteCoordinator {
        let url = format!("http://{}", self.addr).parse().unwrap();
        RemoteCoordinator::new(&[url], seed(number), serial(number), cluster()).unwrap()
    }

    fn impatient_client(&self) -> RemoteCoordinator {
        let url = format!("http://{}", self.addr).parse().unwrap();
        RemoteCoordinator::of(Caller {
            servers: Servers::new(&[url]).unwrap(),
            seed: seed(150),
            serial: serial(150),
            cluster: cluster(),
            report_patience: Duration::from_millis(20),
        })
    }
}

async fn answer(
    served: Arc<(TestCoordinator, watch::Sender<usize>, usize)>,
    request: http::Request<Incoming>,
) -> Result<Answer, Infallible> {
    let (coordinator, came, untaken) = &*served;
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let proof = parts.headers[header::AUTHORIZATION].to_str().unwrap();
    let proof = UnverifiedRequest::parse(proof).unwrap();
    assert!(parts.headers[header::HOST].to_str().unwrap().starts_with("127.0.0.1:"));
    let of = Request { cluster: &cluster(), method: "POST", path: parts.uri.path(), body: &body };
    let known = proof.serial() == serial(150) && proof.verify(&seed(150).public(), &of, unix_now()).is_ok();
    if !known {
        let failure = serde_json::to_vec(&ErrorBody::new(Code::KeyRevoked, "who are you?")).unwrap();
        return Ok(respond(401, Full::from(failure).boxed()));
    }
    Ok(match parts.uri.path() {
        FEED => {
            let link = coordinator.subscribe(wire::decode(&body).unwrap()).await.unwrap();
            let frames = futures::stream::unfold(link.frames, |mut frames| async {
                let frame = frames.recv().await?;
                let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
                Some((Ok(Frame::data(Bytes::from([&length[..], &frame].concat()))), frames))
            });
            let frames: Pin<Box<dyn futures::Stream<Item = _> + Send + Sync>> = Box::pin(frames);
            respond(200, StreamBody::new(frames).boxed())
        }
        REPORTS => {
            came.send_modify(|came| *came += 1);
            if *came.borrow() <= *untaken {
                if came.borrow().is_multiple_of(2) {
                    return Ok(respond(502, Full::from("a proxy's page").boxed()));
                }
                std::future::pending::<()>().await;
            }
            for report in wire::decode::<Vec<Report>>(&body).unwrap() {
                coordinator.reported(report).await;
            }
            respond(204, Full::default().boxed())
        }
        USAGE => {
            let told = coordinator.tell(wire::decode(&body).unwrap()).await.unwrap();
            respond(200, Full::from(wire::encode(&told).unwrap()).boxed())
        }
        RENEW => {
            let joined = coordinator.renew().await.unwrap();
            respond(200, Full::from(serde_json::to_vec(&joined).unwrap()).boxed())
        }
        other => panic!("{other}"),
    })
}

fn respond(status: u16, body: BoxBody<Bytes, Infallible>) -> Answer {
    Response::builder().status(status).body(body).unwrap()
}

fn request() -> Subscribe {
    Subscribe { nonce: [1; 16], addrs: Vec::new(), since: None }
}

/// A coordinator that cannot reach its database.
async fn server_without_a_database() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|_| async {
                let failure = serde_json::to_vec(&ErrorBody::new(Code::Internal, "no database")).unwrap();
                Ok::<_, Infallible>(respond(503, Full::from(failure).boxed()))
            });
            connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (addr, tasks)
}

#[tokio::test]
async fn use_is_told_to_another_coordinator_when_the_first_cannot_take_it() {
    let server = Server::start().await;
    let (broken, _tasks) = server_without_a_database().await;
    let urls = [broken, server.addr].map(|addr| format!("http://{addr}").parse().unwrap());
    let client = RemoteCoordinator::new(&urls, seed(150), serial(150), cluster()).unwrap();
    let tell = |seq| Tell { incarnation: [1; 16], seq, prices: 0, counts: vec![], wants: vec![] };
    for seq in 1..4 {
        assert_eq!(timeout(SOON, client.tell(tell(seq))).await.unwrap().unwrap().seq, seq);
    }
    let alone = RemoteCoordinator::new(&urls[..1], seed(150), serial(150), cluster()).unwrap();
    let refused = timeout(SOON, alone.tell(tell(4))).await.unwrap().unwrap_err();
    assert!(matches!(refused, AuthorityError::Refused { code: Code::Internal, .. }), "{refused}");
}

#[tokio::test]
async fn frames_come_whole_and_reports_go_in_order() {
    let mut server = Server::start().await;
    let client = server.client(150);
    let mut link = client.subscribe(request()).await.unwrap();
    let trust = timeout(SOON, link.frames.recv()).await.unwrap().unwrap();
    assert_eq!(trust, server.coordinator.trust());
    timeout(SOON, link.frames.recv()).await.unwrap().unwrap();

    for epoch in 1..=500 {
        link.reports.send(Report::Applied { epoch, closed: 0 }).await.unwrap();
    }
    for expected in 1..=500 {
        let next =
            |report: &Report| if let Report::Applied { epoch, .. } = report { Some(*epoch) } else { None };
        assert_eq!(server.reports.find(next).await, expected);
    }
    server.coordinator.change(Change::Revoke { serial: serial(1), until: 5 });
    assert!(timeout(SOON, link.frames.recv()).await.unwrap().is_some());
}

#[tokio::test]
async fn reports_that_are_not_taken_do_not_end_the_feed_and_come_later() {
    let mut server = Server::start_slow(5).await;
    let client = server.impatient_client();
    let mut link = client.subscribe(request()).await.unwrap();
    for _ in 0..2 {
        timeout(SOON, link.frames.recv()).await.unwrap().unwrap();
    }
    for epoch in 1..=3 {
        link.reports.send(Report::Applied { epoch, closed: 0 }).await.unwrap();
    }
    timeout(SOON, server.batches.wait_for(|came| *came >= 3)).await.unwrap().unwrap();
    server.coordinator.change(Change::Revoke { serial: serial(1), until: 5 });
    assert!(timeout(SOON, link.frames.recv()).await.unwrap().is_some(), "revocations go on");
    for expected in 1..=3 {
        let next =
            |report: &Report| if let Report::Applied { epoch, .. } = report { Some(*epoch) } else { None };
        assert_eq!(server.reports.find(next).await, expected);
    }
}

#[tokio::test]
async fn a_feed_that_ends_ends_the_link_and_a_dropped_link_ends_the_feed() {
    let server = Server::start().await;
    let client = server.client(150);
    let mut link = client.subscribe(request()).await.unwrap();
    server.coordinator.cut();
    let ended = async { while link.frames.recv().await.is_some() {} };
    timeout(SOON, ended).await.expect("ended in time");

    let link = client.subscribe(request()).await.unwrap();
    drop(link);
    client.tasks.close();
    timeout(SOON, client.tasks.wait()).await.expect("nothing is left behind");
}

#[tokio::test]
async fn a_new_certificate_is_fetched_by_a_signed_request() {
    let server = Server::start().await;
    let joined = server.client(150).renew().await.unwrap();
    let trust = Trust::open(&joined.trust, &root().fingerprint()).unwrap();
    certificate::verify(&joined.certificate, &trust, &seed(150).public(), unix_now()).unwrap();
    let error = server.client(149).renew().await.unwrap_err();
    assert!(matches!(error, AuthorityError::Refused { code: Code::KeyRevoked, .. }), "{error}");
}

#[tokio::test]
async fn a_refusal_keeps_its_code() {
    let server = Server::start().await;
    let error = server.client(149).subscribe(request()).await.unwrap_err();
    let AuthorityError::Refused { code: Code::KeyRevoked, message } = error else { panic!("{error}") };
    assert_eq!(message, "who are you?");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let server = Server::start().await;
    let client = server.client(150);
    drop(server);
    let error = client.subscribe(request()).await.unwrap_err();
    assert!(matches!(error, AuthorityError::Unreachable(_)), "{error}");
}

#[test]
fn hosts_and_ports_are_taken_from_the_address() {
    for (url, socket) in [
        ("https://tun.example", "tun.example:443"),
        ("http://tun.example", "tun.example:80"),
        ("http://tun.example:8080", "tun.example:8080"),
        ("https://[::1]:8443", "[::1]:8443"),
        ("https://[::1]", "[::1]:443"),
    ] {
        let connector = Connector::new(&url.parse().unwrap()).unwrap();
        assert_eq!(connector.socket(), socket);
    }
}

#[test]
fn frames_are_cut_out_of_any_pieces() {
    let frames: [&[u8]; 3] = [b"one", b"", b"three"];
    let mut wire = Vec::new();
    for frame in frames {
        wire.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        wire.extend(frame);
    }
    for size in 1..wire.len() {
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(size) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = next_frame(&mut buffer).unwrap() {
                found.push(frame);
            }
        }
        assert_eq!(found, frames, "in pieces of {size}");
    }
    let mut too_long = BytesMut::from(&(u32::try_from(MAX_FRAME).unwrap() + 1).to_be_bytes()[..]);
    assert!(matches!(next_frame(&mut too_long), Err(Ended::TooLong(_))));
}

#[tokio::test]
async fn a_relay_goes_to_the_next_coordinator_and_stays_there_for_everything() {
    let (first, second) = (Server::start().await, Server::start().await);
    let urls = [&first, &second].map(|server| format!("http://{}", server.addr).parse().unwrap());
    let client = RemoteCoordinator::new(&urls, seed(150), serial(150), cluster()).unwrap();
    let mut link = client.subscribe(request()).await.unwrap();
    timeout(SOON, link.frames.recv()).await.unwrap().unwrap();
    assert_eq!(*first.batches.borrow(), 0);

    // It dies: listener and connections go at once.
    let dead = first.addr;
    drop(first);
    while timeout(SOON, link.frames.recv()).await.unwrap().is_some() {}
    let mut link = client.subscribe(request()).await.unwrap();
    timeout(SOON, link.frames.recv()).await.unwrap().unwrap();
    let mut batches = second.batches.clone();
    link.reports.send(Report::Applied { epoch: 1, closed: 0 }).await.unwrap();
    timeout(SOON, batches.wait_for(|came| *came == 1)).await.unwrap().unwrap();
    client.renew().await.unwrap();

    // The turn comes back to the one that is gone, which costs nothing but the attempt.
    drop(link);
    assert!(tokio::net::TcpStream::connect(dead).await.is_err());
    let mut link = client.subscribe(request()).await.unwrap();
    timeout(SOON, link.frames.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_relay_that_was_revoked_does_not_ask_every_coordinator() {
    let (first, second) = (Server::start().await, Server::start().await);
    let urls = [&first, &second].map(|server| format!("http://{}", server.addr).parse().unwrap());
    let stranger = RemoteCoordinator::new(&urls, seed(151), serial(151), cluster()).unwrap();
    let refused = stranger.subscribe(request()).await;
    assert!(matches!(refused, Err(AuthorityError::Refused { code: Code::KeyRevoked, .. })), "{refused:?}");
}

#[test]
fn a_full_batch_of_the_longest_reports_is_one_message() {
    let label = "a".repeat(60);
    let longest = format!("{label}.{label}.public").parse().unwrap();
    let presence = presence::sign(&seed(1), &serial(1), &longest, &seed(2).public(), u64::from(u32::MAX));
    let batch = vec![Report::Present { presence, at: u64::MAX }; BATCH];
    assert!(wire::encode(&batch).unwrap().len() <= MAX_MESSAGE);
}
