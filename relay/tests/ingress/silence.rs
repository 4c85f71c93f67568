//! Nodes that stand still with their connections open, beside others of the same name.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use mytunnel_keys::id::TunnelKind;
use mytunnel_relay::route::{Pipe, PipeError, PipeSource, Tunnel};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    sync::Notify,
};

use crate::house::{House, Origin, get, name, ok, read_request, tunnel, within};

/// A node that is asked whether it is there.
#[derive(Debug)]
struct Node {
    origin: Arc<Origin>,
    /// It does not answer, and neither do its pipes.
    stands_still: AtomicBool,
    asked: AtomicUsize,
    was_asked: Notify,
}

impl PipeSource for Node {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        self.origin.open()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), PipeError>> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.was_asked.notify_one();
            if self.stands_still.load(Ordering::SeqCst) {
                pending::<()>().await;
            }
            Ok(())
        })
    }
}

fn share(house: &House, origin: Arc<Origin>, stands_still: bool) -> (Arc<Node>, Arc<Tunnel>) {
    let id = *tunnel("demo", TunnelKind::Http, &origin).id();
    let stands_still = AtomicBool::new(stands_still);
    let node = Arc::new(Node { origin, stands_still, asked: AtomicUsize::new(0), was_asked: Notify::new() });
    let (source, project) = (Arc::clone(&node) as Arc<dyn PipeSource>, "proj_a".parse().unwrap());
    let tunnel = house.routes.insert(Tunnel::new(id, name("demo"), project, TunnelKind::Http, source));
    (node, tunnel)
}

/// A server that answers with `text` once it is let, and counts what it gets.
fn held(text: &'static str, let_go: &Arc<Notify>, got: &Arc<AtomicUsize>) -> Arc<Origin> {
    let got = Arc::clone(got);
    holding(text, let_go, move |_| _ = got.fetch_add(1, Ordering::SeqCst))
}

/// The same, which notes the path of each request.
fn noting(text: &'static str, let_go: &Arc<Notify>, got: &Arc<Mutex<Vec<String>>>) -> Arc<Origin> {
    let got = Arc::clone(got);
    holding(text, let_go, move |request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        got.lock().unwrap().push(path.to_owned());
    })
}

fn holding(
    text: &'static str,
    let_go: &Arc<Notify>,
    note: impl Fn(&str) + Send + Sync + 'static,
) -> Arc<Origin> {
    let (let_go, note) = (Arc::clone(let_go), Arc::new(note));
    Origin::new(move |_, pipe| {
        let (let_go, note) = (Arc::clone(&let_go), Arc::clone(&note));
        async move {
            let mut pipe = BufReader::new(pipe);
            while let Some(request) = read_request(&mut pipe).await {
                note(&request);
                let_go.notified().await;
                if pipe.write_all(ok(text).as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
}

fn post(path: &str) -> String {
    get(path).replace("GET ", "POST ")
}

async fn until(done: impl Fn() -> bool) {
    within(async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_stands_still_costs_a_request_that_changes_nothing_a_moment_and_later_ones_nothing() {
    let house = House::open().await;
    let (let_go, got) = (Arc::default(), Arc::default());
    let (still, its) = share(&house, held("still", &let_go, &got), true);
    let well = house.share("demo", &Origin::saying("well"));
    for _ in 0..4 {
        let reply = house.ask(get("/")).await;
        assert_eq!((reply.status, reply.text()), (200, "well"), "{reply:?}");
    }
    assert_eq!(still.asked.load(Ordering::SeqCst), 1, "whoever found it out did so for all");
    for _ in 0..10 {
        let reply = house.ask(post("/")).await;
        assert_eq!((reply.status, reply.text()), (200, "well"), "{reply:?}");
    }
    // Alone it is as it was: who comes waits.
    house.routes.remove(&well);
    let before = got.load(Ordering::SeqCst);
    let mut visitor = house.visitor().await;
    visitor.send(post("/")).await;
    until(|| got.load(Ordering::SeqCst) > before).await;
    let_go.notify_waiters();
    let reply = visitor.reply().await;
    assert_eq!((reply.status, reply.text()), (200, "still"), "{reply:?}");
    house.routes.remove(&its);
}

#[tokio::test]
async fn what_may_have_been_begun_is_not_sent_to_another() {
    let house = House::open().await;
    let let_go = Arc::default();
    let [at_still, at_well] = [Arc::<Mutex<Vec<String>>>::default(), Arc::default()];
    let (_still, _) = share(&house, noting("still", &let_go, &at_still), true);
    let _well = house.share("demo", &noting("well", &let_go, &at_well));
    let got = |at: &Arc<Mutex<Vec<String>>>, path: &str| {
        at.lock().unwrap().iter().filter(|got| *got == path).count()
    };
    // Of the first two one is led to each; where the others go depends on whether it has been found out by then.
    let mut visitors = Vec::new();
    for (request, path) in [(post("/1"), "/1"), (post("/2"), "/2"), (get("/3"), "/3"), (get("/4"), "/4")] {
        let mut visitor = house.visitor().await;
        visitor.send(request).await;
        visitors.push(visitor);
        until(|| got(&at_still, path) + got(&at_well, path) > 0).await;
    }
    until(|| ["/3", "/4"].iter().all(|path| got(&at_well, path) == 1)).await;
    assert_eq!(got(&at_still, "/1") + got(&at_still, "/2"), 1);
    let_go.notify_waiters();
    for visitor in &mut visitors {
        assert_eq!(visitor.reply().await.status, 200);
    }
    for path in ["/1", "/2"] {
        assert_eq!(got(&at_still, path) + got(&at_well, path), 1, "{path}");
    }
}

#[tokio::test]
async fn a_server_that_takes_its_time_is_no_node_that_stands_still() {
    let house = House::open().await;
    let (let_go, got) = (Arc::default(), Arc::default());
    let (slow, _) = share(&house, held("slow", &let_go, &got), false);
    let other = Arc::new(AtomicUsize::new(0));
    let _other = house.share("demo", &held("other", &let_go, &other));
    let mut visitors = [house.visitor().await, house.visitor().await];
    for visitor in &mut visitors {
        visitor.send(get("/")).await;
    }
    within(async {
        while slow.asked.load(Ordering::SeqCst) < 2 {
            slow.was_asked.notified().await;
        }
    })
    .await;
    assert_eq!(
        (got.load(Ordering::SeqCst), other.load(Ordering::SeqCst)),
        (1, 1),
        "one each, and it stays so"
    );
    let_go.notify_waiters();
    for visitor in &mut visitors {
        assert_eq!(visitor.reply().await.status, 200);
    }
}

/// Its line may be so full that it does not hear in time that it is asked.
#[tokio::test]
async fn a_node_that_is_heard_on_a_websocket_does_not_stand_still() {
    const UPGRADE: &str =
        "GET /ws HTTP/1.1\r\nHost: demo.tun.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    const SWITCHING: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let house = House::open().await;
    let let_go: Arc<Notify> = Arc::default();
    let [at_busy, at_other] = [Arc::<Mutex<Vec<String>>>::default(), Arc::default()];
    let (note, held) = (Arc::clone(&at_busy), Arc::clone(&let_go));
    let origin = Origin::new(move |_, pipe| {
        let (note, held) = (Arc::clone(&note), Arc::clone(&held));
        async move {
            let mut pipe = BufReader::new(pipe);
            let request = read_request(&mut pipe).await.unwrap();
            if !request.starts_with("GET /ws ") {
                note.lock().unwrap().push(request.split(' ').nth(1).unwrap().to_owned());
                held.notified().await;
                return pipe.write_all(ok("busy").as_bytes()).await.unwrap();
            }
            pipe.write_all(SWITCHING).await.unwrap();
            while let Ok(byte) = pipe.read_u8().await {
                if pipe.write_u8(byte).await.is_err() {
                    return;
                }
            }
        }
    });
    let (_busy, busy) = share(&house, origin, true);
    let mut socket = house.visitor().await;
    socket.send(UPGRADE).await;
    assert_eq!(socket.head().await.status, 101);
    let _other = house.share("demo", &noting("other", &let_go, &at_other));
    let mut visitors = Vec::new();
    while at_busy.lock().unwrap().is_empty() {
        let (mut visitor, path) = (house.visitor().await, format!("/{}", visitors.len()));
        visitor.send(get(&path)).await;
        visitors.push(visitor);
        until(|| at_busy.lock().unwrap().len() + at_other.lock().unwrap().len() == visitors.len()).await;
    }
    // Longer than it takes to find out that nothing at all is heard.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(5) {
        socket.send("?").await;
        assert_eq!(within(socket.stream.read_u8()).await.unwrap(), b'?');
    }
    assert_eq!(
        at_busy.lock().unwrap().len() + at_other.lock().unwrap().len(),
        visitors.len(),
        "nobody moved"
    );
    assert_eq!(busy.in_flight(), 2);
    let_go.notify_waiters();
    for visitor in &mut visitors {
        assert_eq!(visitor.reply().await.status, 200);
    }
}
