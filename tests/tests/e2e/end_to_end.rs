//! TLS that ends behind the relay: at a server of one's own, and in the node.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
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

/// Passes everything on to the relay, and notes it down.
async fn tap(to: SocketAddr) -> Result<(SocketAddr, Arc<Mutex<Vec<u8>>>, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let captured = Arc::new(Mutex::new(Vec::new()));
    let (capture, mut tasks) = (Arc::clone(&captured), JoinSet::new());
    tasks.spawn(async move {
        let mut copies = JoinSet::new();
        while let Ok((visitor, _)) = listener.accept().await {
            let Ok(relay) = TcpStream::connect(to).await else { continue };
            let (from_visitor, to_visitor) = visitor.into_split();
            let (from_relay, to_relay) = relay.into_split();
            copies.spawn(note(from_visitor, to_relay, Arc::clone(&capture)));
            copies.spawn(note(from_relay, to_visitor, Arc::clone(&capture)));
        }
    });
    Ok((address, captured, tasks))
}

async fn note(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    captured: Arc<Mutex<Vec<u8>>>,
) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        captured.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..read]);
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
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
    let (tapped, captured, _tap) = tap(to).await?;

    let refused = ask(connect(tapped, host, &ca).await?, host, "/head", "").await?;
    ensure!(refused.starts_with("HTTP/1.1 401 ") && refused.contains("Basic realm=\"vault\""), "{refused}");
    let right = "authorization: Basic YW5uOmNvcnJlY3QgaG9yc2U=\r\nx-secret: SAID-TO-NOBODY\r\n";
    let answer = ask(connect(tapped, host, &ca).await?, host, "/head", right).await?;
    ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("SAID-TO-NOBODY"), "{answer}");
    ensure!(!answer.contains("Basic YW5u"), "the password is for the gate: {answer}");
    let other = ask(connect(tapped, host, &ca).await?, "other.localhost", "/head", right).await?;
    ensure!(other.starts_with("HTTP/1.1 404 "), "{other}");
    let captured = captured.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(captured.len() > 2000);
    for secret in ["SAID-TO-NOBODY", "authorization", "HTTP/1.1"] {
        ensure!(!captured.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }

    // What is said to the relay itself stays there.
    let (moved, _) = lab.get("vault", "/head").await?;
    ensure!(moved.status == 308, "{moved:?}");
    let relays = lab.path("data/local-ca-localhost.pem");
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
