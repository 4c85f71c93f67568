//! What a visitor sees of a share: pages, folders, error pages.

use anyhow::{Context, Result};
use mytunnel_tests::origin::Origin;
use mytunnel_tests::ports;
use mytunnel_tests::process::Running;
use mytunnel_tests::wire::Connection;

use crate::lab;

#[tokio::test]
async fn a_visitor_reaches_what_the_node_shares() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, ready) = lab.node(&origin.address.port().to_string(), "preview").await?;
    assert_eq!(ready["name"], "preview");
    assert_eq!(ready["kind"], "http");
    assert_eq!(ready["url"], format!("http://{}", lab.host("preview")));
    let (head, body) = lab.get("preview", "/1k").await?;
    assert_eq!((head.status, body.len()), (200, 1024));
    Ok(())
}

#[tokio::test]
async fn the_origin_is_told_who_asked_and_never_by_the_visitor_himself() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = lab.node(&origin.address.port().to_string(), "preview").await?;
    let mut visitor = Connection::open(lab.http).await?;
    let request = format!(
        "GET /head HTTP/1.1\r\nhost: {}\r\nx-forwarded-for: 6.6.6.6\r\nx-forwarded-user: root\r\nx_forwarded_for: 6.6.6.6\r\nconnection: close, x-secret\r\nx-secret: 1\r\n\r\n",
        lab.host("preview")
    );
    let (head, body) = visitor.exchange(request.as_bytes()).await?;
    let seen = String::from_utf8(body)?.to_ascii_lowercase();
    assert_eq!(head.status, 200);
    assert!(seen.contains("x-forwarded-for: 127.0.0.1\r\n"), "{seen}");
    assert!(seen.contains("x-forwarded-proto: http\r\n"), "{seen}");
    assert!(!seen.contains("6.6.6.6") && !seen.contains("root") && !seen.contains("x-secret"), "{seen}");
    Ok(())
}

#[tokio::test]
async fn a_folder_is_served_with_types_and_ranges_and_nothing_outside_it() -> Result<()> {
    let lab = lab().await?;
    let folder = lab.path("site");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("index.html"), "<h1>hello</h1>")?;
    std::fs::write(folder.join("notes.txt"), "0123456789")?;
    std::fs::write(folder.join(".env"), "SECRET=1")?;
    let (_node, _) = lab.node(folder.to_str().context("a path in UTF-8")?, "site").await?;

    let (head, body) = lab.get("site", "/").await?;
    assert_eq!((head.status, body.as_slice()), (200, b"<h1>hello</h1>".as_slice()));
    assert!(head.field("content-type").is_some_and(|value| value.starts_with("text/html")), "{}", head.text);

    let mut visitor = Connection::open(lab.http).await?;
    let range = format!("GET /notes.txt HTTP/1.1\r\nhost: {}\r\nrange: bytes=2-4\r\n\r\n", lab.host("site"));
    let (head, body) = visitor.exchange(range.as_bytes()).await?;
    assert_eq!((head.status, body.as_slice()), (206, b"234".as_slice()));

    for outside in ["/.env", "/../config/x", "/%2e%2e/%2e%2e/etc/passwd", "/..%2fconfig"] {
        let (head, _) = lab.get("site", outside).await?;
        assert!(matches!(head.status, 400 | 404), "{outside}: {}", head.text);
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_name_is_a_404_that_says_so() -> Result<()> {
    let lab = lab().await?;
    let (head, body) = lab.get("nobody", "/").await?;
    assert_eq!(head.status, 404);
    assert_eq!(head.field("x-mytunnel-error"), Some("NOT_FOUND"), "{}", head.text);
    assert!(String::from_utf8(body)?.contains("NOT_FOUND"));
    Ok(())
}

#[tokio::test]
async fn a_target_that_is_down_is_a_502_and_the_tunnel_stays() -> Result<()> {
    let lab = lab().await?;
    let port = ports::free()?;
    let (_node, _) = lab.node(&port.to_string(), "preview").await?;
    let (head, _) = lab.get("preview", "/1k").await?;
    assert_eq!(head.status, 502);
    assert_eq!(head.field("x-mytunnel-error"), Some("TARGET_UNREACHABLE"), "{}", head.text);

    let _origin = Origin::start_at(&format!("127.0.0.1:{port}")).await?;
    assert_eq!(lab.get("preview", "/1k").await?.0.status, 200);
    Ok(())
}

#[tokio::test]
async fn share_alone_makes_its_own_relay() -> Result<()> {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("index.html"), "mine")?;
    let environment =
        [("MYTUNNEL_CONFIG_DIR", directory.path().join("config")), ("HOME", directory.path().into())];
    let environment = environment.each_ref().map(|(key, value)| (*key, value.as_os_str()));
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_mytunnel-e2e"));
    let mut share = Running::start(program, ["share", ".", "--json"], &environment, directory.path())?;
    let ready = share.event("ready").await?;
    let url = ready["url"].as_str().context("a URL")?;
    let authority = url.strip_prefix("http://").context("plain HTTP on this machine")?.trim_end_matches('/');
    let (name, port) = authority.split_once(".localhost:").context("NAME.localhost:PORT")?;
    assert!(!name.is_empty());
    let mut visitor = Connection::open(format!("127.0.0.1:{port}").parse()?).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    let (head, body) = visitor.exchange(request.as_bytes()).await?;
    assert_eq!((head.status, body.as_slice()), (200, b"mine".as_slice()));
    let ended = share.terminate().await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    Ok(())
}
