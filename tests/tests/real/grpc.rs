//! gRPC of every kind through a tunnel, between a client and a server of Google's making: in the clear and with TLS.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::process::Running;
use tokio::process::Command;

use crate::{lab, output};

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/grpc_peer.py");

fn python() -> Result<String> {
    std::env::var("MYTUNNEL_TEST_GRPC").context("set MYTUNNEL_TEST_GRPC to what .ci/grpc prints")
}

/// A server of calls, and its port.
async fn server(arguments: &[&str]) -> Result<(Running, String)> {
    let all = [&[PEER], arguments].concat();
    let mut server = Running::start(Path::new(&python()?), all, &[], Path::new("."))?;
    let port = server.line().await?;
    Ok((server, port))
}

async fn called(http: std::net::SocketAddr, host: &str) -> Result<()> {
    let address = http.to_string();
    let told = output(Command::new(python()?).args([PEER, "call", &address, host])).await?;
    ensure!(told == "ok\n", "{told}");
    Ok(())
}

#[tokio::test]
async fn calls_of_every_kind_reach_a_server_in_the_clear() -> Result<()> {
    let lab = lab().await?;
    let (_server, port) = server(&["serve"]).await?;
    let (node, _) = lab.node(&port, "rpc").await?;
    called(lab.http, &lab.host("rpc")).await?;
    // Where nobody listens the client is told so in its own terms.
    node.terminate().await?;
    let (_node, _) = lab.node("9", "rpc").await?;
    let failed = called(lab.http, &lab.host("rpc")).await.err().context("it cannot be called")?;
    ensure!(format!("{failed:#}").contains("UNAVAILABLE"), "{failed:#}");
    Ok(())
}

#[tokio::test]
async fn calls_of_every_kind_reach_a_server_under_another_name() -> Result<()> {
    let lab = lab().await?;
    let (_server, port) = server(&["serve"]).await?;
    let child = lab.mint(&["--ttl", "1h"]).await?;
    let token = child["token"].as_str().context("a child has a token")?;
    let arguments = ["share", &port, "--name", "rpc", "--host-header", "rpc.internal:50051", "--json"];
    let mut node = lab.spawn_with(&arguments, &[("MYTUNNEL_AUTH_TOKEN", token)])?;
    node.event("ready").await?;
    called(lab.http, &lab.host("rpc")).await
}

#[tokio::test]
async fn calls_of_every_kind_reach_a_server_with_tls() -> Result<()> {
    let lab = lab().await?;
    let (certificate, key) = (lab.path("cert.pem"), lab.path("key.pem"));
    let (certificate, key) =
        (certificate.to_str().context("a path in UTF-8")?, key.to_str().context("a path in UTF-8")?);
    let openssl = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        key,
        "-out",
        certificate,
    ];
    output(Command::new("openssl").args(openssl)).await?;
    let (_server, port) = server(&["serve-tls", certificate, key]).await?;
    let (_node, _) = lab.node(&format!("https://localhost:{port}"), "rpc").await?;
    called(lab.http, &lab.host("rpc")).await
}
