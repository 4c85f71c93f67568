//! Several nodes that serve one name.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mytunnel_tests::{origin::Origin, process::Running, wire::Connection};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};

use crate::lab;

const SOON: Duration = Duration::from_secs(30);

async fn told_of(node: &mut Running, count: u16) -> Result<()> {
    let told = timeout(SOON, node.event("backends")).await.context("a word of others")??;
    assert_eq!(told, json!({"event": "backends", "count": count}));
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_killed_under_load_takes_no_new_request_with_it() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    // Each has a key of its own.
    let (mut first, ready) = lab.node(&target, "pair").await?;
    let (mut second, same) = lab.node(&target, "pair").await?;
    assert_eq!(ready["tunnel_id"], same["tunnel_id"]);
    told_of(&mut first, 2).await?;
    told_of(&mut second, 2).await?;
    let listed = lab.run(&["tunnels", "list", "--json"]).await?.success()?.json()?;
    let rows = listed["tunnels"].as_array().context("tunnels")?;
    assert_eq!((rows.len(), rows[0]["online"].as_bool()), (1, Some(true)), "{listed}");

    let (dead, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let request = format!("GET /1k HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("pair"));
    let mut visitors = JoinSet::new();
    for _ in 0..16 {
        let (dead, served) = (Arc::clone(&dead), Arc::clone(&served));
        let (address, request) = (lab.http, request.clone());
        visitors.spawn(async move {
            let (mut connection, mut after) = (Connection::open(address).await?, 0);
            while after < 50 {
                let late = dead.load(Ordering::SeqCst);
                let answer = connection.exchange(request.as_bytes()).await;
                if late {
                    let (head, body) = answer?;
                    ensure!((head.status, body.len()) == (200, 1024), "{}", head.text);
                    after += 1;
                } else if answer.is_err() {
                    // Cut in the middle of an answer of the one that was killed.
                    connection = Connection::open(address).await?;
                }
                served.fetch_add(1, Ordering::SeqCst);
            }
            anyhow::Ok(())
        });
    }
    timeout(SOON, async {
        while served.load(Ordering::SeqCst) < 300 {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    first.kill().await?;
    dead.store(true, Ordering::SeqCst);
    while let Some(done) = visitors.join_next().await {
        done??;
    }
    told_of(&mut second, 1).await?;
    let listed = lab.run(&["tunnels", "list", "--json"]).await?.success()?.json()?;
    assert_eq!(listed["tunnels"][0]["online"], true, "{listed}");
    Ok(())
}

/// Its kernel keeps the connection, so that nothing tells the relay.
#[tokio::test]
async fn a_node_that_stands_still_is_passed_over_for_another() -> Result<()> {
    /// Far less than the minute that the relay has for an answer.
    const WHOLE: Duration = Duration::from_secs(20);
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let (mut first, _) = lab.node(&target, "pair").await?;
    let (mut second, _) = lab.node(&target, "pair").await?;
    told_of(&mut first, 2).await?;
    told_of(&mut second, 2).await?;
    let request = |method: &str| format!("{method} /1k HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("pair"));
    let mut visitors = Vec::new();
    for _ in 0..16 {
        let mut visitor = Connection::open(lab.http).await?;
        visitor.exchange(request("GET").as_bytes()).await?;
        visitors.push(visitor);
    }
    first.stand_still().await?;
    let since = Instant::now();
    for visitor in &mut visitors {
        visitor.send(request("GET").as_bytes()).await?;
    }
    for visitor in &mut visitors {
        let head = timeout(WHOLE, visitor.head()).await.context("an answer")??;
        ensure!(head.status == 200, "{}", head.text);
        timeout(WHOLE, visitor.body(&head, |_| ())).await??;
    }
    let (all, since) = (since.elapsed(), Instant::now());
    // Whatever comes later, also what must not be sent twice, goes to the other at once.
    for visitor in &mut visitors {
        let answer =
            timeout(WHOLE, visitor.exchange(request("POST").as_bytes())).await.context("an answer")?;
        ensure!(answer?.0.status == 200);
    }
    println!("16 requests had their answers after {all:?}, and 16 more in {:?}", since.elapsed());
    Ok(())
}

/// Real nodes say that they are there, however long their server takes.
#[tokio::test]
async fn nodes_whose_server_takes_its_time_stand_still_for_nobody() -> Result<()> {
    /// Several times as long as it takes to find out that a node stands still.
    const LONG: Duration = Duration::from_secs(4);
    const VISITORS: usize = 8;
    let (lab, listener) = (lab().await?, TcpListener::bind("127.0.0.1:0").await?);
    let target = listener.local_addr()?.port().to_string();
    let got = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&got);
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            connections.spawn(async move {
                let mut lines = BufReader::new(stream).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line.is_empty() {
                        counted.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(LONG).await;
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        lines.get_mut().get_mut().write_all(answer).await?;
                    }
                }
                anyhow::Ok(())
            });
        }
    });
    let (mut first, _) = lab.node(&target, "pair").await?;
    let (mut second, _) = lab.node(&target, "pair").await?;
    told_of(&mut first, 2).await?;
    told_of(&mut second, 2).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("pair"));
    let mut visitors = JoinSet::new();
    for _ in 0..VISITORS {
        let (address, request) = (lab.http, request.clone());
        visitors.spawn(async move { Connection::open(address).await?.exchange(request.as_bytes()).await });
    }
    while let Some(answer) = timeout(SOON, visitors.join_next()).await? {
        let (head, _) = answer??;
        ensure!(head.status == 200, "{}", head.text);
    }
    assert_eq!(got.load(Ordering::SeqCst), VISITORS, "nothing was sent to another");
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_stopped_under_load_costs_nobody_an_answer() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let (mut first, _) = lab.node(&target, "pair").await?;
    let (_second, _) = lab.node(&target, "pair").await?;
    told_of(&mut first, 2).await?;
    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let request = format!("GET /1k HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("pair"));
    let mut visitors = JoinSet::new();
    for _ in 0..8 {
        let (over, served) = (Arc::clone(&over), Arc::clone(&served));
        let (address, request) = (lab.http, request.clone());
        visitors.spawn(async move {
            let mut connection = Connection::open(address).await?;
            while !over.load(Ordering::SeqCst) {
                let (head, body) = connection.exchange(request.as_bytes()).await?;
                ensure!((head.status, body.len()) == (200, 1024), "{}", head.text);
                served.fetch_add(1, Ordering::SeqCst);
            }
            anyhow::Ok(())
        });
    }
    timeout(SOON, async {
        while served.load(Ordering::SeqCst) < 200 {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    let ended = timeout(SOON, first.terminate()).await??;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    over.store(true, Ordering::SeqCst);
    while let Some(done) = visitors.join_next().await {
        done??;
    }
    Ok(())
}

#[tokio::test]
async fn the_revocation_of_ones_key_leaves_the_other() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let child = lab.mint(&["--ttl", "1h"]).await?;
    let (token, serial) = (child["token"].as_str().context("token")?, child["serial"].as_str());
    let (mut first, _) = lab.node_with(token, &target, "pair").await?;
    let (mut second, _) = lab.node(&target, "pair").await?;
    told_of(&mut first, 2).await?;
    told_of(&mut second, 2).await?;
    lab.run(&["keys", "revoke", serial.context("serial")?]).await?.success()?;
    assert_eq!(first.event("closed").await?["code"], "KEY_REVOKED");
    for _ in 0..10 {
        assert_eq!(lab.get("pair", "/1k").await?.0.status, 200);
    }
    told_of(&mut second, 1).await?;
    Ok(())
}

#[tokio::test]
async fn who_wants_a_name_alone_has_it_alone_or_not_at_all() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let (node, _) = lab.node(&target, "solo").await?;
    let (child, other) = (lab.mint(&[]).await?, lab.mint(&[]).await?);
    let (child, other) =
        (child["token"].as_str().context("token")?, other["token"].as_str().context("token")?);
    let alone = ["share", &target, "--name", "solo", "--alone", "--json"];
    let as_key = [("MYTUNNEL_AUTH_TOKEN", child)];
    let refused = lab.run_with(&alone, &as_key).await?;
    let said = refused.json()?;
    assert_eq!((said["code"].as_str(), refused.code), (Some("NAME_TAKEN"), Some(4)), "{said}");
    assert!(said["help"].as_str().is_some_and(|help| help.contains("--alone")), "{said}");

    node.terminate().await?;
    let mut node = lab.spawn_with(&alone, &as_key)?;
    node.event("ready").await?;
    let together = ["share", &target, "--name", "solo", "--json"];
    let refused = lab.run_with(&together, &[("MYTUNNEL_AUTH_TOKEN", other)]).await?;
    let said = refused.json()?;
    assert_eq!((said["code"].as_str(), refused.code), (Some("NAME_TAKEN"), Some(4)), "{said}");
    assert!(said["help"].as_str().is_some_and(|help| help.contains("--alone")), "{said}");
    assert_eq!(lab.get("solo", "/1k").await?.0.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_gate_stands_before_every_node_of_a_name_from_the_next_request_on() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let (mut first, _) = lab.node(&target, "pair").await?;
    let (mut second, _) = lab.node(&target, "pair").await?;
    told_of(&mut first, 2).await?;
    told_of(&mut second, 2).await?;
    // One at each of the two, which have the same load before.
    let open = async |fields: &str| {
        let mut stream = Connection::open(lab.http).await?;
        let request = format!("GET /sse/20/3000 HTTP/1.1\r\nhost: {}\r\n{fields}\r\n", lab.host("pair"));
        stream.send(request.as_bytes()).await?;
        let head = stream.head().await?;
        ensure!(head.status == 200, "{}", head.text);
        anyhow::Ok((stream, head))
    };
    let all = async |fields: &str, status: u16| {
        for _ in 0..12 {
            let request = format!("GET /1k HTTP/1.1\r\nhost: {}\r\n{fields}\r\n", lab.host("pair"));
            let (head, _) = Connection::open(lab.http).await?.exchange(request.as_bytes()).await?;
            ensure!(head.status == status, "{}", head.text);
        }
        anyhow::Ok(())
    };
    let inside = [open("").await?, open("").await?];
    let set = ["tunnels", "auth", "pair", "--user", "ann", "--json"];
    let set =
        lab.run_with(&set, &[("MYTUNNEL_TUNNEL_PASSWORD", "correct horse")]).await?.success()?.json()?;
    ensure!(set["relays"][0]["applied"] == true, "{set}");
    for (mut stream, head) in inside {
        ensure!(
            timeout(SOON, stream.body(&head, |_| ())).await?.is_err(),
            "who came in without it is cut off"
        );
    }
    all("", 401).await?;
    let right = "authorization: Basic YW5uOmNvcnJlY3QgaG9yc2U=\r\n";
    all(right, 200).await?;

    let inside = [open(right).await?, open(right).await?];
    lab.run(&["tunnels", "ip", "pair", "--deny", "127.0.0.1"]).await?.success()?;
    for (mut stream, head) in inside {
        ensure!(
            timeout(SOON, stream.body(&head, |_| ())).await?.is_err(),
            "whose address is denied is cut off"
        );
    }
    all(right, 403).await?;
    lab.run(&["tunnels", "ip", "pair", "--off"]).await?.success()?;

    // It stays with the name, whichever node goes, and before one that comes.
    first.kill().await?;
    told_of(&mut second, 1).await?;
    all("", 401).await?;
    let (mut third, _) = lab.node(&target, "pair").await?;
    told_of(&mut third, 2).await?;
    all("", 401).await?;
    all(right, 200).await
}
