//! What visitors cost before and between their requests: TLS handshakes, full and resumed, beside nginx in the same run,
//! and the memory of one who is connected and silent.
//!
//! `cargo bench -p mytunnel-tests --bench visitors [-- --seconds 3 --rounds 3 --idle 10000]`
//!
//! nginx and openssl must be on `PATH`; without them the ratios are left out and a line says so.

#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::Running;
use mytunnel_tests::usage;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// Where the tunnel is.
const HOST: &str = "bench.localhost";

/// Handshakes under way.
const AT_ONCE: usize = 16;

struct Subject {
    name: &'static str,
    address: SocketAddr,
    host: String,
    root: CertificateDer<'static>,
    processes: Vec<u32>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value =
        |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let seconds: f64 = value("--seconds").map_or(Ok(3.0), |text| text.parse())?;
    let rounds: usize = value("--rounds").map_or(Ok(3), |text| text.parse())?;
    let idle: usize = value("--idle").map_or(Ok(10_000), |text| text.parse())?;

    let directory = tempfile::tempdir()?;
    let origin = Origin::start().await?;
    let lab = Lab::start(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"))).await?;
    let (_node, _) = lab.node(&origin.address.port().to_string(), "bench").await?;
    let relay = lab.relay.as_ref().and_then(Running::id).context("the relay runs")?;
    let https = lab.ready["https"].as_str().context("the relay has https")?.parse()?;
    let root = CertificateDer::from_pem_file(lab.path("data/local-ca-localhost.pem"))?;
    let own =
        Subject { name: "mytunnel", address: https, host: HOST.to_owned(), root, processes: vec![relay] };
    let nginx = nginx(directory.path()).await;
    let mut subjects = vec![own];
    match &nginx {
        Ok((process, address, root)) => subjects.push(Subject {
            name: "nginx",
            address: *address,
            host: "localhost".to_owned(),
            root: root.clone(),
            processes: usage::tree(process.id().context("nginx runs")?),
        }),
        Err(error) => println!("nginx is missing, no ratios to it: {error:#}"),
    }

    println!("| TLS 1.3 handshakes | subject | per second | server's CPU ms per 1,000 |");
    println!("|---|---|---|---|");
    for resumed in [false, true] {
        let mut rates: Vec<Vec<(f64, f64)>> = subjects.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (subject, rates) in subjects.iter().zip(&mut rates) {
                rates.push(handshakes(subject, resumed, Duration::from_secs_f64(seconds)).await?);
            }
        }
        for (subject, rates) in subjects.iter().zip(rates) {
            let median = |of: fn(&(f64, f64)) -> f64| {
                let mut values: Vec<f64> = rates.iter().map(of).collect();
                values.sort_by(f64::total_cmp);
                values.get(values.len() / 2).copied().unwrap_or_default()
            };
            let kind = if resumed { "resumed" } else { "full" };
            println!("| {kind} | {} | {:.0} | {:.0} |", subject.name, median(|m| m.0), median(|m| m.1));
        }
    }
    println!("| idle visitors, each after one request | bytes of the relay for each |");
    println!("|---|---|");
    let host = HOST;
    println!("| {idle} over HTTP | {} |", resting(relay, lab.http, host, None, idle).await?);
    if let Some(own) = subjects.first() {
        let secure = idle / 2;
        println!("| {secure} over TLS | {} |", resting(relay, own.address, host, Some(own), secure).await?);
    }
    Ok(())
}

fn connector(subject: &Subject, resumed: bool) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(subject.root.clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resumed {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Handshakes a second, and the server's CPU milliseconds for a thousand.
async fn handshakes(subject: &Subject, resumed: bool, duration: Duration) -> Result<(f64, f64)> {
    let cpu = || subject.processes.iter().map(|process| usage::cpu(*process)).sum::<Result<Duration>>();
    // Each has tickets of its own, which a first answer brings.
    let mut connectors = Vec::new();
    for _ in 0..AT_ONCE {
        let connector = connector(subject, resumed)?;
        greet(&connector, subject).await?;
        connectors.push(connector);
    }
    let (before, until, done) = (cpu()?, Instant::now() + duration, Arc::new(AtomicU64::new(0)));
    let mut visitors = JoinSet::new();
    for connector in connectors {
        let done = Arc::clone(&done);
        let (address, name) = (subject.address, ServerName::try_from(subject.host.clone())?);
        visitors.spawn(async move {
            while Instant::now() < until {
                let stream = TcpStream::connect(address).await?;
                let mut stream = connector.connect(name.clone(), stream).await?;
                if resumed {
                    // Tickets come after the handshake, with what is read.
                    let told = stream.get_ref().1.handshake_kind();
                    ensure!(told == Some(rustls::HandshakeKind::Resumed), "{told:?}");
                    ask(&mut stream, "none").await?;
                }
                done.fetch_add(1, Relaxed);
            }
            Ok(())
        });
    }
    while let Some(ended) = visitors.join_next().await {
        ended??;
    }
    let count = done.load(Relaxed) as f64;
    let spent = (cpu()? - before).as_secs_f64();
    Ok((count / duration.as_secs_f64(), spent * 1e6 / count))
}

async fn greet(connector: &TlsConnector, subject: &Subject) -> Result<()> {
    let name = ServerName::try_from(subject.host.clone())?;
    let mut stream = connector.connect(name, TcpStream::connect(subject.address).await?).await?;
    ask(&mut stream, &subject.host).await
}

/// One small request, and its answer.
async fn ask<S: AsyncReadExt + AsyncWriteExt + Unpin>(stream: &mut S, host: &str) -> Result<()> {
    stream.write_all(format!("GET /1k HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    ensure!(stream.read(&mut [0; 16 << 10]).await? > 0, "no answer");
    Ok(())
}

/// Bytes of the relay's memory for each of `count` visitors who were answered once and say nothing more.
async fn resting(
    relay: u32,
    address: SocketAddr,
    host: &str,
    secure: Option<&Subject>,
    count: usize,
) -> Result<u64> {
    let connector = secure.map(|subject| connector(subject, false)).transpose()?;
    let name = ServerName::try_from(host.to_owned())?;
    let before = usage::resident(relay)?;
    let (mut plain, mut encrypted) = (Vec::new(), Vec::new());
    for number in 0..count {
        // Each address has its share of connections.
        let [.., high, low] = u32::try_from(number / 2_000)?.to_be_bytes();
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::from(Ipv4Addr::new(127, 0, high, low.saturating_add(1))), 0))?;
        let mut stream = socket.connect(address).await?;
        match &connector {
            None => {
                ask(&mut stream, host).await?;
                plain.push(stream);
            }
            Some(connector) => {
                let mut stream = connector.connect(name.clone(), stream).await?;
                ask(&mut stream, host).await?;
                encrypted.push(stream);
            }
        }
    }
    let grown = usage::resident(relay)?.saturating_sub(before);
    drop((plain, encrypted));
    Ok(grown / count as u64)
}

/// Starts nginx with a certificate of the same kind, and answers with its root.
async fn nginx(directory: &Path) -> Result<(Running, SocketAddr, CertificateDer<'static>)> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (dir, certificate) = (directory.display(), directory.join("cert.pem"));
    let key = directory.join("key.pem");
    let (certificate_path, key_path) =
        (certificate.to_str().context("UTF-8")?, key.to_str().context("UTF-8")?);
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        key_path,
        "-out",
        certificate_path,
    ];
    let made = tokio::process::Command::new("openssl").args(arguments).output().await?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let configuration = format!(
        "daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/nginx.log crit;
events {{ worker_connections 16384; }}
http {{ access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  ssl_session_cache shared:tls:10m; ssl_protocols TLSv1.3;
  server {{ listen {free} ssl backlog=4096; ssl_certificate {certificate_path}; ssl_certificate_key {key_path};
    location / {{ return 200 well; }} }} }}\n"
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let arguments = ["-p".as_ref(), directory.as_os_str(), "-c".as_ref(), file.as_os_str()];
    let process = Running::start(Path::new("nginx"), arguments, &[], directory)?;
    let started = Instant::now();
    while TcpStream::connect(free).await.is_err() {
        ensure!(started.elapsed() < Duration::from_secs(5), "nginx does not listen: {}", process.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok((process, free, CertificateDer::from_pem_file(certificate)?))
}
