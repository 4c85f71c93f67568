//! What somebody waits for who types `mytunnel share FOLDER` on a machine without any relay: the URL, then the first
//! byte of the first page; and what the process then holds.
//!
//! `cargo bench -p mytunnel-tests --bench first_url [-- --starts 10]`

#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mytunnel_tests::process::Running;
use mytunnel_tests::usage;
use mytunnel_tests::wire::Connection;

/// One start.
struct Start {
    url: Duration,
    first_byte: Duration,
    resident: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value =
        |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let starts: usize = value("--starts").map_or(Ok(10), |text| text.parse())?;

    let directory = tempfile::tempdir()?;
    std::fs::create_dir(directory.path().join("site"))?;
    std::fs::write(directory.path().join("site/index.html"), "<h1>hello</h1>")?;
    let mut all = Vec::new();
    for _ in 0..starts.max(1) {
        all.push(start(directory.path()).await?);
    }
    let milliseconds = |of: fn(&Start) -> Duration| spread(all.iter().map(|s| of(s).as_secs_f64() * 1e3));
    println!("URL after the process was started: {} ms", milliseconds(|start| start.url));
    println!("first byte after the request was sent: {} ms", milliseconds(|start| start.first_byte));
    let resident = spread(all.iter().map(|start| start.resident as f64 / f64::from(1 << 20)));
    println!("resident memory then: {resident} MiB");
    Ok(())
}

async fn start(directory: &Path) -> Result<Start> {
    let home = directory.join("home");
    let environment = [
        ("HOME", home.as_os_str()),
        ("MYTUNNEL_CONFIG_DIR", home.as_os_str()),
        ("MYTUNNEL_AUTH_TOKEN", "".as_ref()),
    ];
    let program = Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"));
    let started = Instant::now();
    let mut share = Running::start(program, ["share", "site"], &environment, directory)?;
    let url = share.line().await?;
    let elapsed = started.elapsed();

    let authority = url.strip_prefix("http://").with_context(|| format!("not a URL: {url}"))?;
    let port = authority.rsplit(':').next().context("a port")?;
    let mut visitor = Connection::open(format!("127.0.0.1:{port}").parse()?).await?;
    let sent = Instant::now();
    visitor.send(format!("GET / HTTP/1.1\r\nhost: {authority}\r\n\r\n").as_bytes()).await?;
    let head = visitor.head().await?;
    let first_byte = sent.elapsed();
    ensure!(head.status == 200, "{}", head.text);
    visitor.body(&head, |_| ()).await?;
    let resident = usage::resident(share.id().context("it runs")?)?;
    ensure!(share.terminate().await?.code == Some(0), "it ends when it is told to");
    Ok(Start { url: elapsed, first_byte, resident })
}

/// Median, and in brackets the least and the most.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (least, most) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0));
    let median = values.get(values.len() / 2).copied().unwrap_or(0.0);
    format!("{median:.1} ({least:.1} to {most:.1})")
}
