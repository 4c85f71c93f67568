//! What an operator finds in the access log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::wire::Connection;
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};
use serde_json::Value;

/// The lines that the relay has written to their end.
fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter(|line| line.ends_with('\n'))
}

/// The first line of the file that is about such a protocol.
async fn line_of(file: &Path, protocol: &str) -> Result<Value> {
    let found = async {
        loop {
            for line in whole_lines(&std::fs::read_to_string(file).unwrap_or_default()) {
                let line: Value = serde_json::from_str(line)?;
                if line["protocol"] == protocol {
                    return anyhow::Ok(line);
                }
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found)
        .await
        .with_context(|| format!("no line of {protocol}"))?
}

#[tokio::test]
async fn who_comes_to_a_port_or_passes_through_has_a_line_once_they_have_left() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let file = lab.path("access.log");
    let flags = ["--access-log", file.to_str().context("a path in UTF-8")?];
    lab.start_relay_with(&["127.0.0.1:0"; 3], &flags).await?;
    let code = lab.ready["setup_code"].as_str().context("a setup code")?.to_owned();
    let server = lab.server();
    lab.own(&server, &code).await?;
    let origin = Origin::start().await?;
    let target = origin.address.to_string();
    let mut port = lab.spawn(&["tcp", &target, "--name", "db", "--json"])?;
    let ready = port.event("ready").await?;
    let url = ready["url"].as_str().context("a URL")?;
    let at: u16 = url.rsplit(':').next().context("a port")?.parse()?;
    let mut visitor = Connection::open((std::net::Ipv4Addr::LOCALHOST, at).into()).await?;
    let (head, _) = visitor.exchange(b"GET /1k HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    ensure!(head.status == 200, "{}", head.text);
    drop(visitor);
    let line = line_of(&file, "TCP").await?;
    ensure!(line["host"] == format!("db:{at}").as_str() && line["visitor"] == "127.0.0.1", "{line}");
    ensure!(line["status"] == 200 && line["bytes_in"].as_u64() == Some(48), "{line}");
    ensure!(line["bytes"].as_u64().is_some_and(|sent| sent > 1024), "{line}");

    let mut passed = lab.spawn(&["tls", &target, "--name", "vault", "--json"])?;
    passed.event("ready").await?;
    // A hello, and the visitor has left: the server behind speaks no TLS.
    let https: std::net::SocketAddr = lab.ready["https"].as_str().context("https")?.parse()?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut hello = Vec::new();
    ClientConnection::new(Arc::new(config), "vault.localhost".try_into()?)?.write_tls(&mut hello)?;
    let mut visitor = Connection::open(https).await?;
    visitor.send(&hello).await?;
    drop(visitor);
    let line = line_of(&file, "TLS").await?;
    ensure!(line["host"] == "vault.localhost" && line["visitor"] == "127.0.0.1", "{line}");
    ensure!(line["bytes_in"].as_u64().is_some_and(|received| received > 100), "{line}");
    ensure!(line["status"].is_number(), "{line}");
    Ok(())
}

#[tokio::test]
async fn every_request_has_its_line_once_its_answer_is_over() -> Result<()> {
    let mut lab = Lab::empty(Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e")))?;
    let (file, origin) = (lab.path("access.log"), Origin::start().await?);
    let flags = ["--access-log", file.to_str().context("a path in UTF-8")?];
    lab.start_relay_with(&["127.0.0.1:0"; 3], &flags).await?;
    let code = lab.ready["setup_code"].as_str().context("a setup code")?.to_owned();
    let server = lab.server();
    lab.own(&server, &code).await?;
    let (_node, _) = lab.node(&origin.address.port().to_string(), "web").await?;
    ensure!(lab.get("web", "/1k").await?.0.status == 200);
    ensure!(lab.get("nobody", "/?token=secret").await?.0.status == 404);
    // Chunks to their end, and chunks whose visitor leaves before it.
    let events = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("web"));
    let (all, _) = lab.get("web", "/sse/1/2").await?;
    ensure!(all.status == 200, "{}", all.text);
    let mut leaver = Connection::open(lab.http).await?;
    leaver.send(events("/sse/10/1000000").as_bytes()).await?;
    ensure!(leaver.head().await?.status == 200);
    drop(leaver);

    let host = lab.host("web");
    let read = || -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&file)?;
        ensure!(!text.contains("token=secret"), "{text}");
        whole_lines(&text).map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let found = async {
        loop {
            let lines = read()?;
            let of =
                |status: u64| lines.iter().find(|line| line["status"] == status && line["path"] != "/api");
            if let (Some(_), Some(page)) = (lines.iter().find(|line| line["host"] == host.as_str()), of(404))
            {
                return anyhow::Ok((lines.clone(), page.clone()));
            }
            tokio::task::yield_now().await;
        }
    };
    let (lines, page) = tokio::time::timeout(Duration::from_secs(20), found).await.context("no lines")??;
    let line = lines.iter().find(|line| line["host"] == host.as_str()).context("the visitor's line")?;
    ensure!(line["path"] == "/1k" && line["status"] == 200 && line["bytes"] == 1024, "{line}");
    ensure!(line["visitor"] == "127.0.0.1" && line["method"] == "GET", "{line}");
    ensure!(page["error"] == "NOT_FOUND" && page["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{page}");
    let cut = async |path: &str| {
        let found = async {
            loop {
                if let Some(line) = read()?.into_iter().find(|line| line["path"] == path) {
                    return anyhow::Ok(line["cut"].clone());
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found)
            .await
            .with_context(|| format!("no line of {path}"))?
    };
    ensure!(cut("/1k").await? == false && cut("/sse/1/2").await? == false);
    ensure!(cut("/sse/10/1000000").await? == true);
    let sign_in =
        lines.iter().find(|line| line["path"].as_str().is_some_and(|path| path.starts_with("/api/")));
    ensure!(sign_in.is_some(), "calls of the API are requests too");
    Ok(())
}
