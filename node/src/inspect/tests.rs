use std::time::Duration;

use mytunnel_keys::{id::TunnelKind, wire::PipeStatus};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};

use super::*;
use crate::{Target, TunnelSpec, serve::table::Service};
use mytunnel_carrier::chunk::Chunk;

const SOON: Duration = Duration::from_secs(10);

/// A server that answers each connection's one request with `answer`, and hands over what it was asked.
async fn origin(answer: &'static [u8], tasks: &mut JoinSet<()>) -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (asked, requests) = mpsc::channel(8);
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.unwrap();
            request.truncate(count);
            asked.send(request).await.unwrap();
            stream.write_all(answer).await.unwrap();
        }
    });
    (address, requests)
}

fn spec(target: &str, inspector: &Inspector) -> TunnelSpec {
    let target = Target::parse(target).unwrap();
    let mut spec = TunnelSpec::new("web".parse().unwrap(), TunnelKind::Http, target);
    spec.inspector = Some(inspector.clone());
    spec
}

/// What a visitor gets for `request` over a pipe of its own.
async fn visit(spec: &TunnelSpec, request: &[u8]) -> Vec<u8> {
    let service = Service::new(spec).unwrap();
    let (mut near, far) = duplex(64 * 1024);
    let mut first = Chunk::take();
    first.push(request);
    let tap = spec.inspector.as_ref().unwrap().tap(far, first.filled(), Kind::Visit);
    let serving =
        crate::serve::answer(tap, first, &service, crate::serve::Patience::default(), Arc::default());
    let reading = async move {
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        answer
    };
    timeout(SOON, async { tokio::join!(serving, reading).1 }).await.unwrap()
}

async fn ended(inspector: &Inspector, count: usize) -> Vec<Exchange> {
    let done = || {
        let all = inspector.find(&Query::default());
        (all.len() == count && all.iter().all(|one| one.ended.is_some())).then_some(all)
    };
    let mut changes = inspector.changes();
    timeout(SOON, changes.wait_for(|_| done().is_some())).await.expect("not recorded").unwrap();
    done().unwrap()
}

#[tokio::test]
async fn a_visit_is_recorded_and_can_be_repeated_and_changed() {
    let mut tasks = JoinSet::new();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    let (address, mut requests) = origin(answer, &mut tasks).await;
    let (inspector, recorder) = Inspector::new(Keep::WHOLE);
    let mut announced = inspector.ended();
    tasks.spawn(recorder.run());
    let spec = spec(&address, &inspector);

    let request = b"POST /a?b HTTP/1.1\r\nHost: web.test\r\nX-Id: 7\r\nContent-Length: 2\r\n\r\nhi";
    let got = visit(&spec, request).await;
    assert_eq!((got[0], &got[1..]), (PipeStatus::Connected as u8, &answer[..]), "what passes is not touched");
    assert_eq!(requests.recv().await.unwrap(), request);
    let id = ended(&inspector, 1).await[0].id;
    let seen = inspector.exchange(id).unwrap();
    assert_eq!((seen.method(), seen.target(), seen.status()), ("POST", "/a?b", Some(200)));
    assert_eq!((&*seen.request_body.kept, &*seen.response_body.kept), (&b"hi"[..], &b"hello"[..]));
    assert_eq!(timeout(SOON, announced.recv()).await.unwrap().unwrap().id, id);

    let replayer = Replayer::new(&spec).unwrap();
    let mut again = Again::of(&seen).unwrap();
    again.target = "/edited".to_owned();
    again.body = b"longer".to_vec();
    let replayed = timeout(SOON, replayer.send(again)).await.unwrap().unwrap();
    let asked = String::from_utf8(requests.recv().await.unwrap()).unwrap();
    assert!(asked.starts_with("POST /edited HTTP/1.1\r\n") && asked.ends_with("\r\n\r\nlonger"), "{asked}");
    assert!(asked.contains("x-id: 7") && asked.contains("content-length: 6"), "{asked}");
    let seen = inspector.exchange(replayed).unwrap();
    assert_eq!((seen.replay_of, seen.status(), seen.trouble), (Some(id), Some(200), None));
    inspector.clear();
    assert_eq!(inspector.find(&Query::default()), []);
}

#[tokio::test]
async fn files_and_a_server_that_is_down_are_recorded_too() {
    let mut tasks = JoinSet::new();
    let (inspector, recorder) = Inspector::new(Keep::WHOLE);
    tasks.spawn(recorder.run());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "text").unwrap();
    let request = b"GET /a.txt HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n";
    visit(&spec(folder.path().to_str().unwrap(), &inspector), request).await;
    let down = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    visit(&spec(&down, &inspector), request).await;
    let all = ended(&inspector, 2).await;
    assert_eq!((all[0].status(), all[0].trouble), (None, Some(Trouble::Unreachable)));
    assert_eq!((all[1].status(), all[1].response_body.length, all[1].trouble), (Some(200), 4, None));
}

#[tokio::test]
async fn a_recorder_that_is_behind_holds_nobody_up() {
    let mut tasks = JoinSet::new();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    let (address, mut requests) = origin(answer, &mut tasks).await;
    let (inspector, recorder) = Inspector::new(Keep::LINES);
    let spec = spec(&address, &inspector);
    let request = b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n";
    // Nobody reads the queue.
    for _ in 0..QUEUE {
        let (_near, far) = duplex(64);
        drop(inspector.tap(far, b"GET / HTTP/1.1\r\n", Kind::Visit));
    }
    let missed = inspector.missed();
    assert!(missed > 0);
    assert!(visit(&spec, request).await.ends_with(b"ok"));
    assert_eq!(requests.recv().await.unwrap(), request);
    assert_eq!(inspector.missed(), missed + 1);

    tasks.spawn(recorder.run());
    let mut changes = inspector.changes();
    timeout(SOON, changes.changed()).await.unwrap().unwrap();
    timeout(SOON, async {
        loop {
            visit(&spec, request).await;
            requests.recv().await.unwrap();
            if inspector.find(&Query::default()).iter().any(|one| one.status() == Some(200)) {
                break;
            }
        }
    })
    .await
    .expect("it does not recover");
}

#[tokio::test]
async fn a_rewritten_host_is_recorded_as_the_visitor_sent_it() {
    let mut tasks = JoinSet::new();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    let (address, mut requests) = origin(answer, &mut tasks).await;
    let (inspector, recorder) = Inspector::new(Keep::WHOLE);
    tasks.spawn(recorder.run());
    let mut spec = spec(&address, &inspector);
    spec.host_header = Some(http::HeaderValue::from_static("app.local"));
    visit(&spec, b"GET /a HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n").await;
    let asked = String::from_utf8(requests.recv().await.unwrap()).unwrap();
    assert!(asked.to_ascii_lowercase().contains("host: app.local"), "{asked}");
    let seen = &ended(&inspector, 1).await[0];
    assert_eq!((seen.target(), seen.status(), seen.trouble), ("/a", Some(200), None));
    let host = exchange::header(&seen.request.as_ref().unwrap().headers, "host");
    assert_eq!(host, Some(&b"web.test"[..]));
}

#[test]
fn there_is_no_copy_where_nobody_looks_and_none_of_what_is_no_web_site() {
    let (inspector, _recorder) = Inspector::new(Keep::WHOLE);
    let mut spec = spec("3000", &inspector);
    assert!(Service::new(&spec).unwrap().inspector().is_some());
    spec.kind = TunnelKind::Tcp;
    assert!(Service::new(&spec).unwrap().inspector().is_none());
    (spec.kind, spec.inspector) = (TunnelKind::Http, None);
    assert!(Service::new(&spec).unwrap().inspector().is_none());
    assert!(Replayer::new(&spec).is_err());
}
