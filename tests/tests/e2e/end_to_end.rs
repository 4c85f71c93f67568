//! TLS that ends behind the relay: at a server of one's own, and in the node.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use mytunnel_relay::local_ca::LocalCa;
use mytunnel_relay::route::Routes;
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::lab;

const SOON: Duration = Duration::from_secs(20);
const PASSWORD: &str = "correct horse";

fn https(lab: &Lab) -> Result<SocketAddr> {
    let [_, https, _] = lab.listen_addresses()?;
    Ok(https.parse()?)
}

/// A connection on which only the authority in this file is believed.
async fn connect(to: SocketAddr, host: &str, ca: &Path) -> Result<TlsStream<TcpStream>> {
    connect_trusting(to, host, &std::fs::read(ca).with_context(|| ca.display().to_string())?).await
}

async fn connect_trusting(to: SocketAddr, host: &str, ca: &[u8]) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca)?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(to).await?;
    let name = ServerName::try_from(host.to_owned())?;
    Ok(timeout(SOON, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await??)
}

/// One request, and all of its answer.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    path: &str,
    more: &str,
) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether the memory of the lab's relay holds these bytes anywhere, as the kernel shows it to who has started the process.
fn is_in_memory(lab: &Lab, word: &[u8]) -> Result<bool> {
    let relay = lab.relay.as_ref().and_then(|relay| relay.id()).context("it runs")?;
    let memory = File::open(format!("/proc/{relay}/mem"))?;
    for row in std::fs::read_to_string(format!("/proc/{relay}/maps"))?.lines() {
        let (range, rest) = row.split_once(' ').context("a row")?;
        if !rest.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').context("a range")?;
        let (mut at, end) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        let mut chunk = vec![0; 1 << 20];
        while at < end {
            // What was given back meanwhile, or is the kernel's own, cannot be read.
            let Ok(read @ 1..) = memory.read_at(&mut chunk, at) else { break };
            let read = read.min(usize::try_from(end - at)?);
            let mut rest = &chunk[..read];
            while let Some(found) = rest.iter().position(|byte| *byte == word[0]) {
                rest = &rest[found..];
                if rest.starts_with(word) {
                    return Ok(true);
                }
                rest = &rest[1..];
            }
            // A word may lie across two pieces.
            at += u64::try_from(if read > word.len() { read - word.len() + 1 } else { read })?;
        }
    }
    Ok(false)
}

#[tokio::test]
async fn a_share_end_to_end_shows_its_own_certificate_and_asks_its_visitors_itself() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let arguments =
        ["share", &origin.address.port().to_string(), "--name", "vault", "--e2e", "--basic", "ann", "--json"];
    let mut node = lab.spawn_with(&arguments, &[("MYTUNNEL_TUNNEL_PASSWORD", PASSWORD)])?;
    let ready = node.event("ready").await?;
    let to = https(&lab)?;
    ensure!(
        ready["kind"] == "tls" && ready["url"] == format!("https://vault.localhost:{}", to.port()),
        "{ready}"
    );
    let ca = lab.path("config/e2e/local-ca-localhost.pem");
    let host = "vault.localhost";
    let refused = ask(connect(to, host, &ca).await?, host, "/head", "").await?;
    ensure!(refused.starts_with("HTTP/1.1 401 ") && refused.contains("Basic realm=\"vault\""), "{refused}");
    let right = "authorization: Basic YW5uOmNvcnJlY3QgaG9yc2U=\r\nx-secret: SAID-TO-NOBODY\r\n";
    let answer = ask(connect(to, host, &ca).await?, host, "/head", right).await?;
    ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("SAID-TO-NOBODY"), "{answer}");
    ensure!(!answer.contains("Basic YW5u"), "the password is for the gate: {answer}");
    let other = ask(connect(to, host, &ca).await?, "other.localhost", "/head", right).await?;
    ensure!(other.starts_with("HTTP/1.1 404 "), "{other}");
    // Of what was said the relay had nothing but what it cannot read; of what is said at a share whose TLS ends there it has all.
    for secret in ["SAID-TO-NOBODY", right.split("\r\n").next().context("a line")?] {
        ensure!(!is_in_memory(&lab, secret.as_bytes())?, "the relay knows {secret}");
    }
    let (_open, _) = lab.node(&origin.address.port().to_string(), "open").await?;
    let relays = lab.path("data/local-ca-localhost.pem");
    let mut told = connect(to, "open.localhost", &relays).await?;
    let request = "GET /head HTTP/1.1\r\nhost: open.localhost\r\nx-secret: SAID-TO-THE-RELAY\r\n\r\n";
    told.write_all(request.as_bytes()).await?;
    timeout(SOON, told.read_u8()).await??;
    ensure!(is_in_memory(&lab, b"SAID-TO-THE-RELAY")?, "this cannot tell what a relay knows");
    drop(told);

    // What is said to the relay itself stays there.
    let (moved, _) = lab.get("vault", "/head").await?;
    ensure!(moved.status == 308, "{moved:?}");
    ensure!(connect(to, host, &relays).await.is_err(), "the relay shows a certificate of its own");
    let misled = ask(connect(to, "localhost", &relays).await?, "vault.localhost", "/head", right).await?;
    ensure!(misled.starts_with("HTTP/1.1 421 "), "{misled}");
    Ok(())
}

#[tokio::test]
async fn a_gate_at_the_relay_that_it_cannot_ask_for_lets_nobody_in() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let port = origin.address.port().to_string();
    // While it is a web site the relay can ask, and the gate stays with the name.
    let arguments = ["share", &port, "--name", "vault", "--basic", "ann", "--json"];
    let mut before = lab.spawn_with(&arguments, &[("MYTUNNEL_TUNNEL_PASSWORD", PASSWORD)])?;
    before.event("ready").await?;
    before.terminate().await?;
    let mut node = lab.spawn(&["share", &port, "--name", "vault", "--e2e", "--json"])?;
    node.event("ready").await?;
    let (to, ca) = (https(&lab)?, lab.path("config/e2e/local-ca-localhost.pem"));
    ensure!(connect(to, "vault.localhost", &ca).await.is_err());
    lab.run(&["tunnels", "auth", "vault", "--off"]).await?.success()?;
    let answer = ask(connect(to, "vault.localhost", &ca).await?, "vault.localhost", "/head", "").await?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_relay_that_was_started_anew_ends_no_tls_of_a_node_that_is_away() -> Result<()> {
    let (mut lab, origin) = (lab().await?, Origin::start().await?);
    let mut node =
        lab.spawn(&["share", &origin.address.port().to_string(), "--name", "vault", "--e2e", "--json"])?;
    node.event("ready").await?;
    let known = async {
        loop {
            let listed = lab.run(&["tunnels", "list", "--json"]).await?.success()?.json()?;
            if listed["tunnels"][0]["kind"] == "tls" {
                return anyhow::Ok(());
            }
        }
    };
    timeout(SOON, known).await.context("the tunnel is known in time")??;
    node.kill().await?;
    lab.restart_relay().await?;
    let (to, relays) = (https(&lab)?, lab.path("data/local-ca-localhost.pem"));
    ensure!(connect(to, "localhost", &relays).await.is_ok(), "the console's is the relay's own");
    ensure!(connect(to, "vault.localhost", &relays).await.is_err(), "it answers in the node's place");
    let (moved, _) = lab.get("vault", "/head").await?;
    ensure!(moved.status == 308, "{moved:?}");
    Ok(())
}

#[tokio::test]
async fn a_sign_in_end_to_end_is_refused_before_anything_starts() -> Result<()> {
    let lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let ended = lab.run(&["share", "3000", "--e2e", "--google", "--json"]).await?;
    let told: Value = ended.json()?;
    ensure!(
        ended.code == Some(2) && told["help"].as_str().is_some_and(|help| help.contains("--pin")),
        "{told}"
    );
    Ok(())
}

#[tokio::test]
async fn a_server_with_tls_of_its_own_is_reached_by_name() -> Result<()> {
    let lab = lab().await?;
    let authority = LocalCa::ephemeral("localhost", "localhost", SystemTime::now())?;
    let (ca, routes) = (authority.certificate_pem().to_owned(), Routes::new());
    routes.note_known(&"mine".parse()?, None);
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(authority.resolver(routes));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = listener.local_addr()?.to_string();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // Whoever says nothing only looks whether somebody is there.
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let mut word = [0; 5];
            let _ = stream.read_exact(&mut word).await;
            let _ = stream.write_all(&word.to_ascii_uppercase()).await;
            let _ = stream.shutdown().await;
        }
    });
    let mut node = lab.spawn(&["tls", &target, "--name", "mine", "--json"])?;
    let ready = node.event("ready").await?;
    let to = https(&lab)?;
    ensure!(ready["url"] == format!("tls://mine.localhost:{}", to.port()), "{ready}");
    let mut stream = connect_trusting(to, "mine.localhost", ca.as_bytes()).await?;
    stream.write_all(b"hello").await?;
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await??;
    ensure!(answer == "HELLO", "{answer}");
    Ok(())
}

#[tokio::test]
async fn the_end_of_a_name_that_is_passed_through_cuts_who_is_inside() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let port = origin.address.port().to_string();
    let mut node = lab.spawn(&["share", &port, "--name", "vault", "--e2e", "--json"])?;
    node.event("ready").await?;
    let (to, ca) = (https(&lab)?, lab.path("config/e2e/local-ca-localhost.pem"));
    let mut inside = connect(to, "vault.localhost", &ca).await?;
    let request = b"GET /1k HTTP/1.1\r\nhost: vault.localhost\r\n\r\n";
    inside.write_all(request).await?;
    let mut seen = [0; 12];
    timeout(SOON, inside.read_exact(&mut seen)).await??;
    ensure!(&seen == b"HTTP/1.1 200", "{seen:?}");
    // By the relay alone: the node was not told of an end when it was started.
    let set = async {
        while lab.run(&["tunnels", "expire", "vault", "--in", "5s", "--json"]).await?.code != Some(0) {}
        anyhow::Ok(())
    };
    timeout(SOON, set).await??;
    inside.write_all(request).await?;
    let mut rest = Vec::new();
    ensure!(
        timeout(SOON, inside.read_to_end(&mut rest)).await.context("it stands")?.is_err(),
        "it looks whole"
    );
    ensure!(rest.windows(seen.len()).any(|part| part == seen), "it was cut when the end was set");
    ensure!(connect(to, "vault.localhost", &ca).await.is_err(), "the name is still led to its node");
    Ok(())
}
