//! Several nodes of one name: who gets a request, and who gets it instead.

use std::{
    collections::HashMap,
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
    task::JoinSet,
};

use crate::house::{House, Origin, get, name, ok, read_request, tunnel, within};

/// A node whose server takes no connections. As a real one it says so when it is sent something.
#[derive(Debug, Default)]
struct Closed {
    /// Its process dies instead of saying so.
    dies: AtomicBool,
    asked: AtomicUsize,
    tasks: Mutex<JoinSet<()>>,
}

impl PipeSource for Closed {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            let dies = self.dies.load(Ordering::SeqCst);
            self.tasks.lock().unwrap().spawn(async move {
                if dies {
                    drop(far.read_u8().await);
                    return;
                }
                if far.read_u8().await.is_ok() && far.write_u8(1).await.is_ok() {
                    drop(far.read_to_end(&mut Vec::new()).await);
                }
            });
            Ok(Box::new(near) as Pipe)
        })
    }
}

fn closed(house: &House) -> (Arc<Closed>, Arc<Tunnel>) {
    let node = Arc::new(Closed::default());
    let project = "proj_a".parse().unwrap();
    let id = *tunnel("demo", TunnelKind::Http, &Origin::saying("")).id();
    let source = Arc::clone(&node) as Arc<dyn PipeSource>;
    let tunnel = house.routes.insert(Tunnel::new(id, name("demo"), project, TunnelKind::Http, source));
    (node, tunnel)
}

/// A server that never answers `/hold`, and everything else with its name.
fn holding(text: &'static str) -> Arc<Origin> {
    Origin::new(move |_, pipe| async move {
        let mut pipe = BufReader::new(pipe);
        while let Some(request) = read_request(&mut pipe).await {
            if request.starts_with("GET /hold ") {
                pending::<()>().await;
            }
            pipe.write_all(ok(text).as_bytes()).await.unwrap();
        }
    })
}

async fn counts(house: &House, requests: usize) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for _ in 0..requests {
        let reply = house.ask(get("/")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        *counts.entry(reply.text().to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn requests_are_spread_over_the_nodes_of_a_name_by_load() {
    let house = House::open().await;
    let nodes = ["one", "two", "three"].map(|text| house.share("demo", &holding(text)));
    let even = counts(&house, 30).await;
    assert_eq!(even.len(), 3);
    assert!(even.values().all(|count| (8..=12).contains(count)), "{even:?}");

    let mut held = Vec::new();
    for number in 1..=2 {
        let mut visitor = house.visitor().await;
        visitor.send(get("/hold")).await;
        within(async {
            while nodes.iter().map(|node| node.in_flight()).sum::<usize>() < number {
                tokio::task::yield_now().await;
            }
        })
        .await;
        held.push(visitor);
    }
    let free = nodes.iter().position(|node| node.in_flight() == 0).expect("the two went to two nodes");
    let text = ["one", "two", "three"][free];
    assert_eq!(counts(&house, 12).await, HashMap::from([(text.to_owned(), 12)]));
}

#[tokio::test]
async fn when_a_node_dies_under_load_no_request_that_comes_then_fails() {
    let house = House::open().await;
    let origins = ["one", "two", "three"].map(Origin::saying);
    let nodes = origins.each_ref().map(|origin| house.share("demo", origin));
    let dead = Arc::new(AtomicBool::new(false));
    let mut visitors = JoinSet::new();
    for _ in 0..24 {
        let (mut visitor, dead) = (house.visitor().await, Arc::clone(&dead));
        visitors.spawn(async move {
            let mut after = 0;
            while after < 20 {
                let late = dead.load(Ordering::SeqCst);
                visitor.send(get("/")).await;
                let reply = visitor.reply().await;
                if late {
                    assert_eq!(reply.status, 200, "{reply:?}");
                    assert_ne!(reply.text(), "one");
                    after += 1;
                }
            }
        });
    }
    within(async {
        while nodes[0].traffic().requests() < 50 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The table does not hear of it: visitors find out.
    origins[0].kill();
    dead.store(true, Ordering::SeqCst);
    while let Some(done) = within(visitors.join_next()).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_node_that_is_taken_out_loses_nobody_who_comes_then() {
    let house = House::open().await;
    let [one, two] = ["one", "two"].map(|text| house.share("demo", &Origin::saying(text)));
    counts(&house, 4).await;
    house.routes.remove(&one);
    assert_eq!(counts(&house, 6).await, HashMap::from([("two".to_owned(), 6)]));
    house.routes.remove(&two);
    house.share("demo", &Origin::saying("three"));
    assert_eq!(counts(&house, 2).await, HashMap::from([("three".to_owned(), 2)]));
}

#[tokio::test]
async fn a_node_whose_server_is_down_is_passed_over_and_rests() {
    let house = House::open().await;
    let (down, its) = closed(&house);
    let up = house.share("demo", &Origin::echo());
    for number in 0..20 {
        let reply = house.ask(get(&format!("/{number}"))).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let asked = down.asked.load(Ordering::SeqCst);
    assert!((1..20).contains(&asked), "it rests meanwhile: {asked}");

    house.routes.remove(&up);
    let reply = house.ask(get("/")).await;
    assert_eq!(reply.error(), (502, Some("TARGET_UNREACHABLE")), "alone it is as it was");
    house.routes.remove(&its);
}

#[tokio::test]
async fn a_node_that_dies_with_a_request_that_changes_nothing_costs_its_visitor_nothing() {
    let house = House::open().await;
    let (dying, _) = closed(&house);
    dying.dies.store(true, Ordering::SeqCst);
    house.share("demo", &Origin::echo());
    for _ in 0..4 {
        let reply = house.ask(get("/")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert!(dying.asked.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn a_node_that_is_taken_out_with_a_request_that_changes_nothing_costs_its_visitor_nothing() {
    let house = House::open().await;
    for kept in [false, true] {
        let leaving = house.share("demo", &holding("leaving"));
        let staying = house.share("demo", &Origin::saying("staying"));
        if kept {
            counts(&house, 4).await;
        }
        // They are led to one each.
        let mut visitors = [house.visitor().await, house.visitor().await];
        for visitor in &mut visitors {
            visitor.send(get("/hold")).await;
        }
        within(async {
            while leaving.in_flight() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        house.routes.remove(&leaving);
        for visitor in &mut visitors {
            let reply = visitor.reply().await;
            assert_eq!((reply.status, reply.text()), (200, "staying"), "{reply:?}");
        }
        house.routes.remove(&staying);
    }
}

#[tokio::test]
async fn an_upload_that_a_node_does_not_take_goes_to_another_whole() {
    let house = House::open().await;
    for body in [
        "Content-Length: 11\r\n\r\nhello there",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n there\r\n0\r\n\r\n",
    ] {
        let (down, its) = closed(&house);
        let up = house.share("demo", &Origin::echo());
        for _ in 0..2 {
            let reply = house.ask(format!("POST / HTTP/1.1\r\nHost: demo.tun.test\r\n{body}")).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert!(reply.text().ends_with("hello there"), "{reply:?}");
        }
        assert_eq!(down.asked.load(Ordering::SeqCst), 1);
        house.routes.remove(&its);
        house.routes.remove(&up);
    }
}

#[tokio::test]
async fn a_websocket_is_opened_at_a_node_that_takes_it() {
    let house = House::open().await;
    let (down, _) = closed(&house);
    house.share(
        "demo",
        &Origin::new(|_, pipe| async move {
            let mut pipe = BufReader::new(pipe);
            read_request(&mut pipe).await.unwrap();
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
            pipe.write_all(head.as_bytes()).await.unwrap();
            let mut word = [0; 4];
            pipe.read_exact(&mut word).await.unwrap();
            pipe.write_all(&word).await.unwrap();
        }),
    );
    for _ in 0..2 {
        let mut visitor = house.visitor().await;
        visitor
            .send(
                "GET / HTTP/1.1\r\nHost: demo.tun.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            )
            .await;
        assert_eq!(visitor.head().await.status, 101);
        visitor.send("ping").await;
        let mut word = [0; 4];
        within(visitor.stream.read_exact(&mut word)).await.unwrap();
        assert_eq!(&word, b"ping");
    }
    assert_eq!(down.asked.load(Ordering::SeqCst), 1);
}

/// A node whose connection carries as many pipes as it may.
#[derive(Debug, Default)]
struct Crammed {
    asked: AtomicUsize,
}

impl PipeSource for Crammed {
    fn open(&self) -> BoxFuture<'_, Result<Pipe, PipeError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Err(PipeError::Busy) })
    }
}

#[tokio::test]
async fn nodes_without_room_are_passed_over_and_none_is_asked_twice() {
    let house = House::open().await;
    let crammed = [(); 3].map(|()| {
        let node = Arc::new(Crammed::default());
        let like = tunnel("demo", TunnelKind::Http, &Origin::saying(""));
        let source = Arc::clone(&node) as Arc<dyn PipeSource>;
        house.routes.insert(Tunnel::new(
            *like.id(),
            name("demo"),
            like.project().clone(),
            like.kind(),
            source,
        ));
        node
    });
    let asked = || crammed.each_ref().map(|node| node.asked.swap(0, Ordering::SeqCst));
    let reply = house.ask(get("/")).await;
    assert_eq!(reply.error(), (503, Some("RATE_LIMITED")));
    assert_eq!(asked(), [1, 1, 1]);

    let free = house.share("demo", &Origin::echo());
    for _ in 0..4 {
        let reply = house.ask(get("/")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let post = "POST / HTTP/1.1\r\nHost: demo.tun.test\r\nContent-Length: 11\r\n\r\nhello there";
        let reply = house.ask(post).await;
        assert!(reply.status == 200 && reply.text().ends_with("hello there"), "{reply:?}");
    }
    assert!(asked().iter().sum::<usize>() > 0);
    house.routes.remove(&free);
    assert_eq!(house.ask(get("/")).await.error(), (503, Some("RATE_LIMITED")));
    assert_eq!(asked(), [1, 1, 1], "none of them rests: room comes back at any time");
}

#[tokio::test]
async fn a_request_that_kills_servers_reaches_two_nodes_at_most() {
    let house = House::open().await;
    let nodes = [(); 4].map(|()| {
        let (node, _) = closed(&house);
        node.dies.store(true, Ordering::SeqCst);
        node
    });
    let reached = || nodes.iter().map(|node| node.asked.swap(0, Ordering::SeqCst)).sum::<usize>();
    assert_eq!(house.ask(get("/")).await.error().0, 502);
    assert_eq!(reached(), 2, "one repeat, and no more");
    for method in ["PUT", "DELETE", "POST"] {
        let reply = house.ask(format!("{method} / HTTP/1.1\r\nHost: demo.tun.test\r\n\r\n")).await;
        assert_eq!(reply.error().0, 502);
        assert_eq!(reached(), 1, "{method} may have had its effect");
    }
}

/// A node that may be well again is tried by one request, which has to be one that is let in.
#[tokio::test]
async fn who_is_not_let_in_takes_no_trial_of_a_node() {
    const REST: Duration = Duration::from_secs(3);
    let house = House::open().await;
    let (node, its) = closed(&house);
    let well = house.share("demo", &Origin::saying("well"));
    let asked = || node.asked.load(Ordering::SeqCst);
    for tunnel in [&its, &well] {
        tunnel.set_gates(Some(crate::gates::password("correct horse", 1)));
    }
    let right = crate::gates::with_password("demo", "correct horse");
    while asked() == 0 {
        assert_eq!(house.ask(&right).await.text(), "well");
    }
    let since = Instant::now();
    while since.elapsed() < REST + Duration::from_millis(500) {
        assert_eq!(house.ask(get("/")).await.status, 401);
    }
    let before = asked();
    assert_eq!(house.ask(&right).await.text(), "well");
    assert_eq!(asked(), before + 1, "its trial was left for who is let in");
}
