//! Visitors who are too many, too slow or silent: each takes the share that it may, and the others do not notice.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::usage;
use mytunnel_tests::wire::{Connection, Head};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A deployment with these lines in `[limits]`.
async fn limited(limits: &str) -> Result<Lab> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let config = lab.path("relay.toml");
    std::fs::write(&config, format!("[limits]\n{limits}"))?;
    let config = config.to_str().context("a path in UTF-8")?.to_owned();
    lab.start_relay_with(&["127.0.0.1:0"; 3], &["--config", &config]).await?;
    let code = lab.ready["setup_code"].as_str().context("a setup code")?.to_owned();
    let server = lab.server();
    lab.own(&server, &code).await?;
    Ok(lab)
}

/// One of the addresses of this machine.
fn address(number: u8) -> IpAddr {
    IpAddr::from(Ipv4Addr::new(127, 0, 7, number))
}

fn get(lab: &Lab, name: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host(name)).into_bytes()
}

/// The head of the answer to a request on a connection of its own, which stays.
async fn ask(lab: &Lab, from: IpAddr, name: &str, path: &str) -> Result<(Head, Connection)> {
    let mut visitor = Connection::open_from(from, lab.http).await?;
    visitor.send(&get(lab, name, path)).await?;
    let head = timeout(PATIENCE, visitor.head()).await.context("an answer in time")??;
    ensure!(head.status < 500 || head.field("x-mytunnel-error").is_some(), "no reason: {}", head.text);
    Ok((head, visitor))
}

/// Asks until the answer is a 200: a place was given back.
async fn served(lab: &Lab, from: IpAddr, name: &str) -> Result<()> {
    let served = async {
        loop {
            // Who is refused before a request has come may find the connection closed.
            if ask(lab, from, name, "/1k").await.is_ok_and(|(head, _)| head.status == 200) {
                return;
            }
        }
    };
    timeout(PATIENCE, served).await.with_context(|| format!("{from} is not served again"))
}

/// What visitors have open: connections and requests, without those of who asks for it.
async fn visitors(lab: &Lab) -> Result<(usize, usize)> {
    scrape(lab, &mut Connection::open(lab.http).await?).await
}

async fn scrape(lab: &Lab, scraper: &mut Connection) -> Result<(usize, usize)> {
    let text = metrics(lab, scraper).await?;
    let count = |of: &str| Ok::<_, anyhow::Error>(sample(&text, &format!("visitors{{of=\"{of}\"}}"))? - 1);
    Ok((count("connections")?, count("requests")?))
}

async fn metrics(lab: &Lab, scraper: &mut Connection) -> Result<String> {
    let request = format!("GET /metrics HTTP/1.1\r\nhost: localhost:{}\r\n\r\n", lab.http.port());
    let (head, text) = scraper.exchange(request.as_bytes()).await?;
    ensure!(head.status == 200, "{}", head.text);
    Ok(String::from_utf8(text)?)
}

fn sample(metrics: &str, name: &str) -> Result<usize> {
    let start = format!("mytunnel_{name} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
    Ok(line.with_context(|| format!("no {name} in {metrics}"))?.parse()?)
}

/// Waits until visitors have no more open than before: `calm` connections, which are those of the programs that share.
async fn empty(lab: &Lab, calm: usize) -> Result<()> {
    // On one connection: the last one would else be there still when it is asked by the next.
    let (mut scraper, mut left) = (Connection::open(lab.http).await?, (0, 0));
    let emptied = async {
        loop {
            left = scrape(lab, &mut scraper).await?;
            if left.0 <= calm && left.1 == 0 {
                return anyhow::Ok(());
            }
        }
    };
    timeout(PATIENCE, emptied)
        .await
        .with_context(|| format!("connections and requests are left: {left:?}"))?
}

fn refused(head: &Head, status: u16) -> Result<()> {
    ensure!(head.status == status, "{}", head.text);
    ensure!(head.field("x-mytunnel-error") == Some("RATE_LIMITED"), "{}", head.text);
    ensure!(head.field("retry-after").is_some(), "{}", head.text);
    Ok(())
}

/// Open files of a process.
fn files(process: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// Lets a process open so many files, by its soft limit.
async fn allow_files(process: u32, needed: u64) -> Result<()> {
    let limits = || -> Result<(u64, u64)> {
        let text = std::fs::read_to_string(format!("/proc/{process}/limits"))?;
        let line = text.lines().find(|line| line.starts_with("Max open files")).context("its limit")?;
        let mut numbers = line.split_whitespace().skip(3).map(|n| n.parse().unwrap_or(u64::MAX));
        Ok((numbers.next().context("soft")?, numbers.next().context("hard")?))
    };
    let (soft, hard) = limits()?;
    if soft < needed {
        ensure!(hard >= needed, "`ulimit -Hn` is {hard}: this test needs {needed} open files; raise it");
        let (process, files) = (process.to_string(), format!("--nofile={hard}:{hard}"));
        let raised = tokio::process::Command::new("prlimit").args(["--pid", &process, &files]).status().await;
        ensure!(
            raised.is_ok_and(|status| status.success()) && limits()?.0 >= needed,
            "`ulimit -n` is {soft}: this test needs {needed} open files; raise it, or install prlimit"
        );
    }
    Ok(())
}

#[tokio::test]
async fn ten_thousand_silent_visitors_cost_little_and_leave_nothing_behind() -> Result<()> {
    const VISITORS: usize = 10_000;
    const AT_ONCE: usize = 50;
    // Of a build without optimisation, which is the larger.
    const EACH: u64 = 32 << 10;
    let lab = limited("idle_timeout = '30m'\n").await?;
    let origin = Origin::start().await?;
    let (_node, _) = lab.node(&origin.address.port().to_string(), "calm").await?;
    let (calm, _) = visitors(&lab).await?;
    let relay = lab.relay.as_ref().and_then(|relay| relay.id()).context("the relay runs")?;
    for process in [relay, std::process::id()] {
        allow_files(process, VISITORS as u64 + 1_000).await?;
    }
    let (to, request) = (lab.http, get(&lab, "calm", "/1k"));
    let visit = |number: usize| {
        // Each address has its share of connections.
        let from = address((number / 2_000) as u8 + 1);
        let request = request.clone();
        async move {
            let mut visitor = Connection::open_from(from, to).await?;
            let (head, _) = visitor.exchange(&request).await?;
            ensure!(head.status == 200, "{}", head.text);
            anyhow::Ok(visitor)
        }
    };
    let crowd = async |count: usize| {
        let (mut visits, mut inside) = (JoinSet::new(), Vec::new());
        for number in 0..count {
            if visits.len() == AT_ONCE
                && let Some(visited) = visits.join_next().await
            {
                inside.push(visited??);
            }
            visits.spawn(visit(number));
        }
        while let Some(visited) = visits.join_next().await {
            inside.push(visited??);
        }
        anyhow::Ok(inside)
    };

    // What the first ones bring about once is not counted for the rest.
    let first = crowd(AT_ONCE * 4).await?;
    let (before, open) = (usage::resident(relay)?, files(relay)?);
    drop(first);
    let inside = crowd(VISITORS).await?;
    ensure!(files(relay)? >= VISITORS, "they are all there");
    ensure!(visitors(&lab).await?.0 >= VISITORS, "and are counted");
    let each = usage::resident(relay)?.saturating_sub(before) / VISITORS as u64;
    ensure!(each < EACH, "{each} bytes for each silent visitor");

    let begun = Instant::now();
    let (head, _) = ask(&lab, address(99), "calm", "/1k").await?;
    ensure!(head.status == 200, "{}", head.text);
    ensure!(begun.elapsed() < Duration::from_secs(2), "served after {:?}", begun.elapsed());

    drop(inside);
    let gone = async {
        while files(relay)? > open {
            lab.get("calm", "/1k").await?;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, gone).await.context("their connections are closed")??;
    empty(&lab, calm).await
}

#[tokio::test]
async fn an_address_takes_its_share_and_others_do_not_notice() -> Result<()> {
    let lab = limited("visitors_per_address = 30\nrequests_per_address = 20\n").await?;
    let origin = Origin::start().await?;
    let (_node, _) = lab.node(&origin.address.port().to_string(), "busy").await?;
    let (calm, _) = visitors(&lab).await?;
    let (flood, other) = (address(1), address(2));
    let mut inside = Vec::new();
    for _ in 0..20 {
        let (head, visitor) = ask(&lab, flood, "busy", "/sse/1000/1000").await?;
        ensure!(head.status == 200, "{}", head.text);
        inside.push(visitor);
    }
    let mut turned = Vec::new();
    for _ in 0..10 {
        let (head, visitor) = ask(&lab, flood, "busy", "/1k").await?;
        refused(&head, 429)?;
        turned.push(visitor);
    }
    // Its connections are all taken: who is one too many is told so before it says anything.
    let mut outside = Connection::open_from(flood, lab.http).await?;
    refused(&outside.head().await?, 503)?;
    for _ in 0..20 {
        let (head, _) = ask(&lab, other, "busy", "/1k").await?;
        ensure!(head.status == 200, "{}", head.text);
    }
    ensure!(visitors(&lab).await?.1 >= 20, "its streams are counted as requests under way");
    drop((inside, turned, outside));
    served(&lab, flood, "busy").await?;
    empty(&lab, calm).await
}

#[tokio::test]
async fn half_open_and_slow_visitors_end_in_time_and_give_their_places_back() -> Result<()> {
    let limits = "visitors_per_address = 6\nhead_timeout = '2s'\nidle_timeout = '2s'\nresponse_timeout = '2s'\n\
                  stall_timeout = '2s'\n";
    let lab = limited(limits).await?;
    let origin = Origin::start().await?;
    let (_node, _) = lab.node(&origin.address.port().to_string(), "patient").await?;
    let (calm, _) = visitors(&lab).await?;
    let https: SocketAddr = lab.ready["https"].as_str().context("the relay has https")?.parse()?;
    let (slow, host) = (address(1), lab.host("patient"));
    let said = [
        (lab.http, String::new()),
        // The head of a TLS record that is to hold a hello.
        (https, "\u{16}\u{3}\u{1}\u{2}".to_owned()),
        (lab.http, format!("GET /1k HTTP/1.1\r\nhost: {host}\r\nx-slow: ")),
        (lab.http, format!("POST /upload HTTP/1.1\r\nhost: {host}\r\ncontent-length: 10\r\n\r\nhalf")),
        (lab.http, format!("GET /1k HTTP/1.1\r\nhost: {host}\r\n\r\n")),
    ];
    let mut held = Vec::new();
    for (to, said) in said {
        let mut visitor = Connection::open_from(slow, to).await?;
        visitor.send(said.as_bytes()).await?;
        held.push(visitor);
    }
    let (head, stalled) = ask(&lab, slow, "patient", "/bytes/1073741824").await?;
    ensure!(head.status == 200, "{}", head.text);

    let (head, _) = ask(&lab, address(2), "patient", "/1k").await?;
    ensure!(head.status == 200, "{}", head.text);
    let mut answers = Vec::new();
    for visitor in &mut held {
        answers.push(timeout(PATIENCE, visitor.rest()).await.context("its time is over")?);
    }
    let [silent, hello, head, body, idle] = &answers[..] else { anyhow::bail!("five of them") };
    for nothing in [silent, hello, head] {
        ensure!(!nothing.contains("200 OK"), "{nothing}");
    }
    ensure!(body.starts_with("HTTP/1.1 408 ") && body.contains("x-mytunnel-error: BAD_REQUEST"), "{body}");
    ensure!(idle.starts_with("HTTP/1.1 200 "), "{idle}");
    // Who takes nothing of its answer is still connected at its own end: its place tells.
    let mut again = Vec::new();
    let all = async {
        while again.len() < 6 {
            if let Ok((head, visitor)) = ask(&lab, slow, "patient", "/sse/500/1000").await
                && head.status == 200
            {
                again.push(visitor);
            }
        }
    };
    timeout(PATIENCE, all).await.context("every place was given back")?;
    let text = metrics(&lab, &mut Connection::open(lab.http).await?).await?;
    for (cut, is_counted) in [("head", true), ("stalled", true), ("silent", false)] {
        let counted = sample(&text, &format!("relay_cuts_total{{for=\"{cut}\"}}"))?;
        ensure!((counted > 0) == is_counted, "{counted} were cut as {cut}");
    }
    drop((stalled, again, held));
    empty(&lab, calm).await
}

#[tokio::test]
async fn the_tunnels_of_one_key_share_its_requests_and_another_key_has_its_own() -> Result<()> {
    let lab = limited("requests_per_key = 2\n").await?;
    let origin = Origin::start().await?;
    let target = origin.address.port().to_string();
    let mut own = Vec::new();
    for name in ["one", "two"] {
        let mut node = lab.spawn(&["share", &target, "--name", name, "--json"])?;
        node.event("ready").await?;
        own.push(node);
    }
    let (_other, _) = lab.node(&target, "other").await?;
    let (calm, _) = visitors(&lab).await?;
    let visitor = address(1);
    let (first, held) = ask(&lab, visitor, "one", "/sse/1000/1000").await?;
    let (second, kept) = ask(&lab, visitor, "two", "/sse/1000/1000").await?;
    ensure!((first.status, second.status) == (200, 200), "{}\n{}", first.text, second.text);
    for name in ["one", "two"] {
        refused(&ask(&lab, visitor, name, "/1k").await?.0, 503)?;
    }
    ensure!(ask(&lab, visitor, "other", "/1k").await?.0.status == 200);
    drop((held, kept));
    served(&lab, visitor, "two").await?;
    empty(&lab, calm).await
}

#[tokio::test]
async fn requests_in_a_second_are_counted_over_all_tunnels_of_a_key() -> Result<()> {
    let lab = limited("requests_per_second_per_key = 1\n").await?;
    let origin = Origin::start().await?;
    let target = origin.address.port().to_string();
    let mut own = Vec::new();
    for name in ["one", "two"] {
        let mut node = lab.spawn(&["share", &target, "--name", name, "--json"])?;
        node.event("ready").await?;
        own.push(node);
    }
    let (_other, _) = lab.node(&target, "other").await?;
    let visitor = address(1);
    // Within one second, which two requests in a row are sooner or later.
    let both = async {
        loop {
            let first = ask(&lab, visitor, "one", "/1k").await?.0;
            let second = ask(&lab, visitor, "two", "/1k").await?.0;
            if first.status == 200 && second.status != 200 {
                return anyhow::Ok(second);
            }
        }
    };
    let second = timeout(PATIENCE, both).await.context("the key has only one")??;
    refused(&second, 429)?;
    let served_together = async {
        loop {
            let (one, other) =
                (ask(&lab, visitor, "one", "/1k").await?.0, ask(&lab, visitor, "other", "/1k").await?.0);
            if (one.status, other.status) == (200, 200) {
                return anyhow::Ok(());
            }
        }
    };
    timeout(PATIENCE, served_together).await.context("another key has its own")??;
    served(&lab, visitor, "two").await
}

#[tokio::test]
async fn what_is_no_request_is_told_so_and_counted() -> Result<()> {
    let lab = crate::lab().await?;
    let mut visitor = Connection::open(lab.http).await?;
    visitor.send(b"GET / HTTP/1.1\r\nhost: a.localhost\r\nA B: 1\r\n\r\n").await?;
    let head = timeout(PATIENCE, visitor.head()).await.context("an answer in time")??;
    ensure!(head.status == 400 && head.field("x-mytunnel-error") == Some("BAD_REQUEST"), "{}", head.text);
    let text = metrics(&lab, &mut Connection::open(lab.http).await?).await?;
    ensure!(sample(&text, "relay_refusals_total{cause=\"BAD_REQUEST\"}")? == 1);
    Ok(())
}

/// A wrong password of `ann`, another for each number.
fn guess(digits: &str) -> String {
    // In base64 each of these groups is `aa` and one more letter, by the digit.
    let groups: String = digits.chars().map(|digit| format!("YWF{digit}")).collect();
    format!("Basic YW5uOmNv{groups}")
}

#[tokio::test]
async fn passwords_without_end_are_refused_with_a_reason_while_another_tunnel_serves() -> Result<()> {
    let (lab, origin) = (crate::lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let (_open, _) = lab.node(&target, "open").await?;
    let arguments = ["share", &target, "--name", "gated", "--basic", "ann:correct horse", "--json"];
    let mut gated = lab.spawn(&arguments)?;
    gated.event("ready").await?;
    let (calm, _) = visitors(&lab).await?;

    let (to, host) = (lab.http, lab.host("gated"));
    let mut flood = JoinSet::new();
    for number in 0..64_u8 {
        let host = host.clone();
        flood.spawn(async move {
            let mut statuses = Vec::new();
            let mut visitor = Connection::open_from(address(100 + number), to).await?;
            loop {
                // Each of them another password, from another address.
                let guess = guess(&format!("{number:03}{:02}", statuses.len()));
                let request = format!("GET /1k HTTP/1.1\r\nhost: {host}\r\nauthorization: {guess}\r\n\r\n");
                let (head, _) = visitor.exchange(request.as_bytes()).await?;
                ensure!(matches!(head.status, 401 | 429 | 503), "{}", head.text);
                ensure!(head.field("x-mytunnel-error").is_some(), "{}", head.text);
                statuses.push(head.status);
                if statuses.len() == 12 {
                    return Ok(statuses);
                }
            }
        });
    }
    let (mut checked, mut served) = (0, 0);
    while !flood.is_empty() {
        ensure!(lab.get("open", "/1k").await?.0.status == 200, "the open tunnel");
        served += 1;
        while let Some(ended) = flood.try_join_next() {
            checked += ended??.iter().filter(|status| **status == 401).count();
        }
    }
    ensure!(served > 1, "the open tunnel was held up until the flood was over");
    ensure!(checked > 0, "no password was checked: that was no flood of them");
    empty(&lab, calm).await
}
