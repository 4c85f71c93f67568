//! mytunnel against the bare origin and against nginx as a plain reverse proxy, measure by measure in one run, so
//! that only ratios count and a noisy machine disturbs all alike.
//!
//! `cargo bench -p mytunnel-tests --bench versus_nginx [-- --seconds 4 --rounds 3 --only keep-alive-64]`
//!
//! nginx must be on `PATH`; without it the ratios are left out and the first line says so.

#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use mytunnel_tests::compare::{self, Subject};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::load::Work;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::Running;
use mytunnel_tests::usage;

const MEASURES: [(&str, Work, usize); 10] = [
    ("keep-alive-1", Work::KeepAlive, 1),
    ("keep-alive-64", Work::KeepAlive, 64),
    ("keep-alive-256", Work::KeepAlive, 256),
    ("new-connections-16", Work::NewConnection, 16),
    ("download-1", Work::Download, 1),
    ("download-8", Work::Download, 8),
    ("upload-1", Work::Upload, 1),
    ("upload-8", Work::Upload, 8),
    ("websocket-1", Work::WebSocket, 1),
    ("websocket-16", Work::WebSocket, 16),
];

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--origin") {
        let origin = Origin::start().await?;
        println!("{}", origin.address);
        return std::future::pending().await;
    }
    let value =
        |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let seconds: f64 = value("--seconds").map_or(Ok(4.0), |text| text.parse())?;
    let rounds: usize = value("--rounds").map_or(Ok(3), |text| text.parse())?;
    let only = value("--only");

    let directory = tempfile::tempdir()?;
    let mut origin = Running::start(&std::env::current_exe()?, ["--origin"], &[], directory.path())?;
    let address: SocketAddr = origin.line().await?.parse()?;
    let lab = Lab::start(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"))).await?;
    let (node, _) = lab.node(&address.port().to_string(), "bench").await?;
    let relay = lab.relay.as_ref().and_then(Running::id).context("the relay runs")?;
    let node = node.id().context("the node runs")?;
    let nginx = nginx(directory.path(), address).await;
    let mut subjects =
        vec![Subject { name: "direct", address, host: address.to_string(), processes: vec![] }];
    match &nginx {
        Ok((process, address)) => {
            let processes = usage::tree(process.id().context("nginx runs")?);
            subjects.push(Subject { name: "nginx", address: *address, host: address.to_string(), processes });
        }
        Err(error) => println!("nginx is missing, no ratios to it: {error:#}"),
    }
    subjects.push(Subject {
        name: "mytunnel",
        address: lab.http,
        host: lab.host("bench"),
        processes: vec![relay, node],
    });

    println!("idle memory: relay {:.1} MiB, node {:.1} MiB", mebibytes(relay)?, mebibytes(node)?);
    let measures = MEASURES.iter().filter(|(name, ..)| only.as_ref().is_none_or(|only| only == name));
    compare::print(measures, &subjects, "nginx", rounds, Duration::from_secs_f64(seconds)).await?;
    let peak = |process| usage::resident_peak(process).map(|bytes| bytes as f64 / (1 << 20) as f64);
    println!("peak memory: relay {:.1} MiB, node {:.1} MiB", peak(relay)?, peak(node)?);
    Ok(())
}

/// Starts nginx as a reverse proxy with kept upstream connections and no buffering.
async fn nginx(directory: &Path, origin: SocketAddr) -> Result<(Running, SocketAddr)> {
    // nginx can't take port 0: a free one is found and given back to it.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let dir = directory.display();
    let configuration = format!(
        "daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/nginx.log crit;
events {{ worker_connections 16384; }}
http {{ access_log off; client_max_body_size 0; keepalive_requests 100000000; keepalive_timeout 300s;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  map $http_upgrade $upgrade {{ default upgrade; '' ''; }}
  upstream origin {{ server {origin}; keepalive 512; keepalive_requests 100000000; }}
  server {{ listen {free} backlog=4096; location / {{
    proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Host $host;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrade;
    proxy_request_buffering off; proxy_buffering off; proxy_buffer_size 64k; proxy_buffers 8 64k;
    proxy_busy_buffers_size 128k; }} }} }}\n"
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let arguments = ["-p".as_ref(), directory.as_os_str(), "-c".as_ref(), file.as_os_str()];
    let process = Running::start(Path::new("nginx"), arguments, &[], directory)?;
    let started = tokio::time::Instant::now();
    while tokio::net::TcpStream::connect(free).await.is_err() {
        anyhow::ensure!(
            started.elapsed() < Duration::from_secs(5),
            "nginx does not listen: {}",
            process.stderr()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok((process, free))
}

fn mebibytes(process: u32) -> Result<f64> {
    Ok(usage::resident(process)? as f64 / (1 << 20) as f64)
}
