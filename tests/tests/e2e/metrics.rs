//! What a relay tells a scraper: of one that joined a coordinator, at an address of its own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::PATIENCE;
use mytunnel_tests::wire::Connection;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::apart::{ANY, owned};

/// Samples by their names, labels and all.
async fn scrape(at: SocketAddr) -> Result<HashMap<String, f64>> {
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {at}\r\n\r\n");
    let (head, text) = Connection::open(at).await?.exchange(request.as_bytes()).await?;
    ensure!(head.status == 200, "{}", head.text);
    ensure!(
        head.field("content-type")
            .is_some_and(|form| form.starts_with("application/openmetrics-text; version=1.0.0"))
    );
    let text = String::from_utf8(text)?;
    ensure!(text.ends_with("# EOF\n"), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

/// Scrapes until this holds.
async fn until(
    at: SocketAddr,
    holds: impl Fn(&HashMap<String, f64>) -> bool,
) -> Result<HashMap<String, f64>> {
    let mut last = HashMap::new();
    let held = async {
        loop {
            last = scrape(at).await?;
            if holds(&last) {
                return anyhow::Ok(());
            }
        }
    };
    let outcome = timeout(PATIENCE, held).await;
    outcome.with_context(|| format!("{last:?}"))??;
    Ok(last)
}

fn is(samples: &HashMap<String, f64>, name: &str, wanted: f64) -> bool {
    samples.get(name).is_some_and(|value| (value - wanted).abs() < 0.5)
}

async fn joined() -> Result<(Lab, mytunnel_tests::process::Running, SocketAddr)> {
    let (mut lab, coordinator, url, join) = owned().await?;
    let more = ["--coordinator", &url, "--join", &join, "--metrics", "127.0.0.1:0"];
    lab.start_relay_with(&ANY, &more).await?;
    let at = lab.ready["metrics"].as_str().context("where its metrics are")?.parse()?;
    Ok((lab, coordinator, at))
}

#[tokio::test]
async fn a_relay_that_joined_a_coordinator_tells_what_it_does_and_is_at_rest_afterwards() -> Result<()> {
    let (lab, _coordinator, at) = joined().await?;
    let origin = Origin::start().await?;
    let (_node, _) = lab.node(&origin.address.port().to_string(), "seen").await?;
    let calm = until(at, |now| is(now, "mytunnel_relay_tunnels{kind=\"http\"}", 1.0)).await?;
    ensure!(
        is(&calm, "mytunnel_relay_nodes", 1.0) && calm["mytunnel_relay_limit{of=\"nodes\"}"] > 1.0,
        "{calm:?}"
    );
    let open = "mytunnel_visitors{of=\"connections\"}";
    let at_rest = calm[open];

    // Visitors in the middle of an upload are there at once, and gone when it is done.
    let mut uploading = Vec::new();
    for _ in 0..20 {
        let mut visitor = Connection::open(lab.http).await?;
        let head = format!(
            "POST /upload HTTP/1.1\r\nhost: {}\r\ncontent-length: 3\r\nconnection: close\r\n\r\n",
            lab.host("seen")
        );
        visitor.send(head.as_bytes()).await?;
        uploading.push(visitor);
    }
    until(at, |now| is(now, "mytunnel_visitors{of=\"requests\"}", 20.0)).await?;
    for mut visitor in uploading {
        let (head, body) = visitor.exchange(b"abc").await?;
        ensure!(head.status == 200 && body == b"3", "{}", head.text);
    }
    until(at, |now| {
        is(now, "mytunnel_visitors{of=\"requests\"}", 0.0)
            && now.get(open).is_some_and(|open| *open <= at_rest)
    })
    .await?;

    for _ in 0..10 {
        ensure!(lab.get("seen", "/1k").await?.0.status == 200);
    }
    ensure!(lab.get("nobody", "/").await?.0.status == 404);
    let cause = "mytunnel_relay_refusals_total{cause=\"NOT_FOUND\"}";
    let told = until(at, |now| {
        is(now, cause, 1.0) && now.get("mytunnel_relay_requests_total").is_some_and(|count| *count >= 30.0)
    })
    .await?;
    ensure!(told["mytunnel_relay_bytes_total{to=\"visitors\"}"] >= 10.0 * 1024.0, "{told:?}");
    for waits in told.keys().filter(|name| name.ends_with("_waiting") && !name.contains("lanes")) {
        ensure!(is(&told, waits, 0.0), "{waits}: {told:?}");
    }
    for lost in [
        "mytunnel_relay_turned_away_total",
        "mytunnel_relay_access_log_lines_lost_total",
        "mytunnel_relay_expelled",
    ] {
        ensure!(is(&told, lost, 0.0), "{lost}: {told:?}");
    }
    Ok(())
}

#[tokio::test]
async fn no_page_of_another_host_reads_the_metrics_and_no_other_path_is_there() -> Result<()> {
    let (_lab, _coordinator, at) = joined().await?;
    for (request, status) in [
        (format!("GET /metrics HTTP/1.1\r\nhost: evil.example:{}\r\n\r\n", at.port()), 403),
        ("GET /metrics HTTP/1.1\r\nhost: 192.0.2.1\r\n\r\n".to_owned(), 403),
        ("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 404),
        ("POST /metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n".to_owned(), 405),
        ("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 200),
    ] {
        let (head, _) = Connection::open(at).await?.exchange(request.as_bytes()).await?;
        ensure!(head.status == status, "{request}: {}", head.text);
    }
    Ok(())
}

/// A server that begins an answer without end (`/long`), one that never goes on (`/quiet`), or agrees to another protocol in which it
/// has nothing to say.
async fn server() -> Result<(SocketAddr, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, mut tasks) = (listener.local_addr()?, JoinSet::new());
    tasks.spawn(async move {
        let mut visits = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            visits.spawn(async move {
                let (mut visitor, mut line) = (BufReader::new(stream), String::new());
                visitor.read_line(&mut line).await?;
                while visitor.read_line(&mut String::new()).await? > 2 {}
                let head = match line.starts_with("GET /ws ") {
                    true => "101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket",
                    false => "200 OK\r\ncontent-length: 1000000000000",
                };
                visitor.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).await?;
                while line.starts_with("GET /long ") {
                    visitor.write_all(&[0; 64 * 1024]).await?;
                }
                std::future::pending::<Result<()>>().await
            });
        }
    });
    Ok((address, tasks))
}

/// A relay with its metrics and these limits, and where they are.
async fn limited(limits: &str) -> Result<(Lab, SocketAddr)> {
    let mut lab = Lab::empty(std::path::Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let file = lab.path("relay.toml");
    std::fs::write(&file, format!("[limits]\n{limits}"))?;
    let more = ["--config", file.to_str().context("a path in UTF-8")?, "--metrics", "127.0.0.1:0"];
    lab.start_relay_with(&ANY, &more).await?;
    let code = lab.ready["setup_code"].as_str().context("a setup code")?.to_owned();
    lab.own(&lab.server(), &code).await?;
    let at = lab.ready["metrics"].as_str().context("where its metrics are")?.parse()?;
    Ok((lab, at))
}

#[tokio::test]
async fn each_way_in_which_a_visitor_is_cut_short_is_counted_as_that() -> Result<()> {
    let (lab, at) = limited(
        "download_rate = 100000000\ndownload_grace = '1s'\nresponse_timeout = '3s'\nping_interval = '1s'\nping_timeout = '1s'\n",
    )
    .await?;
    let (address, _server) = server().await?;
    let (_node, _) = lab.node(&address.port().to_string(), "cut").await?;
    let cuts = |of: &str| format!("mytunnel_relay_cuts_total{{for=\"{of}\"}}");
    let calm = scrape(at).await?;
    for of in ["slow", "half_closed", "silent"] {
        ensure!(is(&calm, &cuts(of), 0.0), "{of}: {calm:?}");
    }
    let host = lab.host("cut");

    // Takes less than it has to.
    let mut slow = Connection::open(lab.http).await?;
    slow.send(format!("GET /long HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await?;
    ensure!(slow.head().await?.status == 200);
    until(at, |now| is(now, &cuts("slow"), 1.0)).await?;

    // Has nothing more to say, and neither has the server.
    let mut half = BufReader::new(TcpStream::connect(lab.http).await?);
    let upgrade =
        format!("GET /ws HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    half.write_all(upgrade.as_bytes()).await?;
    let mut status = [0; 12];
    timeout(PATIENCE, half.read_exact(&mut status)).await??;
    ensure!(&status == b"HTTP/1.1 101", "{status:?}");
    half.shutdown().await?;
    until(at, |now| is(now, &cuts("half_closed"), 1.0)).await?;

    // Speaks HTTP/2, and answers no ping: SETTINGS, and the head of one request.
    let mut silent = TcpStream::connect(lab.http).await?;
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    let mut head = vec![0x82, 0x86, 0x04, 6];
    head.extend(b"/quiet");
    head.extend([0x41, u8::try_from(host.len())?]);
    head.extend(host.as_bytes());
    silent.write_all(&[0, 0, u8::try_from(head.len())?, 1, 5, 0, 0, 0, 1]).await?;
    silent.write_all(&head).await?;
    until(at, |now| is(now, &cuts("silent"), 1.0)).await?;

    for of in ["slow", "half_closed", "silent"] {
        ensure!(is(&scrape(at).await?, &cuts(of), 1.0), "{of}");
    }
    drop((slow, half, silent));
    until(at, |now| is(now, "mytunnel_visitors{of=\"requests\"}", 0.0)).await?;
    Ok(())
}

#[tokio::test]
async fn what_waits_is_seen_while_it_waits_and_is_gone_afterwards() -> Result<()> {
    let (lab, at) = limited("").await?;
    let origin = Origin::start().await?;
    let target = origin.address.port().to_string();

    // Passwords, each another one, from networks enough for nobody to be kept from guessing.
    let gated = ["share", &target, "--name", "gated", "--basic", "ann:correct horse", "--json"];
    let mut gated = lab.spawn(&gated)?;
    gated.event("ready").await?;
    let (to, host, waiting) = (lab.http, lab.host("gated"), "mytunnel_relay_gate_guesses_waiting");
    let mut guesses = JoinSet::new();
    for number in 0..40_u8 {
        let host = host.clone();
        guesses.spawn(async move {
            let from = IpAddr::from(Ipv4Addr::new(127, 0, 9, number + 1));
            let mut visitor = Connection::open_from(from, to).await?;
            // `ann:co` and two letters that are other ones each time.
            let (first, second) = (char::from(b'a' + number / 8), char::from(b'a' + number % 8));
            let guess = format!("Basic YW5uOmNv{first}WF{second}");
            let request = format!("GET /1k HTTP/1.1\r\nhost: {host}\r\nauthorization: {guess}\r\n\r\n");
            let (head, _) = visitor.exchange(request.as_bytes()).await?;
            ensure!(matches!(head.status, 401 | 429 | 503), "{}", head.text);
            anyhow::Ok(())
        });
    }
    until(at, |now| now.get(waiting).is_some_and(|count| *count > 0.5)).await?;
    while let Some(guess) = guesses.join_next().await {
        guess??;
    }
    until(at, |now| is(now, waiting, 0.0)).await?;

    // Datagrams for a node that does not take them, and a connection to its other port.
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let tcp = server.local_addr()?.port().to_string();
    let mut ports = Vec::new();
    let mut nodes = Vec::new();
    for (kind, target) in [("tcp", &tcp), ("udp", &target)] {
        let mut node = lab.spawn(&[kind, target.as_str(), "--json"])?;
        let ready = node.event("ready").await?;
        let url = ready["url"].as_str().context("a URL")?;
        let port: u16 = url.rsplit_once(':').context("a port")?.1.parse()?;
        ports.push(SocketAddr::from(([127, 0, 0, 1], port)));
        nodes.push(node);
    }
    let visitor = TcpStream::connect(ports[0]).await?;
    let sender = UdpSocket::bind("127.0.0.1:0").await?;
    sender.connect(ports[1]).await?;
    sender.send(b"?").await?;
    let open = |of: &str| format!("mytunnel_visitors{{of=\"{of}\"}}");
    until(at, |now| is(now, &open("tcp"), 1.0) && is(now, &open("udp"), 1.0)).await?;
    nodes[1].stand_still().await?;
    let waiting = "mytunnel_relay_datagram_bytes_waiting";
    let is_waiting = async {
        while scrape(at).await?.get(waiting).is_none_or(|bytes| *bytes < 0.5) {
            for _ in 0..100 {
                sender.send(&[0; 8000]).await?;
            }
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, is_waiting).await.context("nothing waits")??;
    drop(visitor);
    for node in nodes {
        node.kill().await?;
    }
    until(at, |now| is(now, waiting, 0.0) && is(now, &open("tcp"), 0.0) && is(now, &open("udp"), 0.0))
        .await?;
    Ok(())
}
