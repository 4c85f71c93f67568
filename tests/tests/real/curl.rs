//! curl against a folder, a Python server and uploads, over HTTP and over HTTPS with the local authority.

use anyhow::{Context, Result};
use mytunnel_tests::origin::Origin;
use mytunnel_tests::ports;
use mytunnel_tests::process::PATIENCE;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::{lab, listening, output};

fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "60", "--noproxy", "*"]);
    command
}

#[tokio::test]
async fn curl_reads_what_python_serves() -> Result<()> {
    let lab = lab().await?;
    let folder = lab.path("site");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("hello.txt"), "hello from python")?;
    let port = ports::free()?;
    let _python = Command::new("python3")
        .args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1"])
        .current_dir(&folder)
        .kill_on_drop(true)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .context("python3 is not installed")?;
    listening(port).await?;
    let (_node, ready) = lab.node(&port.to_string(), "python").await?;
    let url = format!("{}/hello.txt", ready["url"].as_str().context("url")?);
    for _ in 0..20 {
        // Python speaks HTTP/1.0 and hangs up after each answer.
        assert_eq!(output(curl().arg(&url)).await?, "hello from python");
    }
    Ok(())
}

#[tokio::test]
async fn curl_uploads_with_and_without_a_length() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, ready) = lab.node(&origin.address.port().to_string(), "up").await?;
    let file = lab.path("body");
    std::fs::write(&file, vec![1; 3_000_000])?;
    let url = format!("{}/upload", ready["url"].as_str().context("url")?);
    let data = format!("@{}", file.display());
    assert_eq!(output(curl().args(["--data-binary", &data, &url])).await?, "3000000");
    let chunked = ["--header", "Transfer-Encoding: chunked", "--data-binary", &data, &url];
    assert_eq!(output(curl().args(chunked)).await?, "3000000");
    let expect = ["--header", "Expect: 100-continue", "--data-binary", &data, &url];
    assert_eq!(output(curl().args(expect)).await?, "3000000");
    Ok(())
}

#[tokio::test]
async fn curl_waits_for_a_slow_server() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, ready) = lab.node(&origin.address.port().to_string(), "slow").await?;
    let url = ready["url"].as_str().context("url")?.to_owned();
    let times = ["--output", "/dev/null", "--write-out", "%{time_starttransfer} %{size_download}"];
    let late = output(curl().args(times).arg(format!("{url}/slow/3000"))).await?;
    let (seconds, size) = late.split_once(' ').context("two figures")?;
    assert_eq!(size, "1024");
    assert!((3.0..5.0).contains(&seconds.parse::<f64>()?), "{late}");
    Ok(())
}

/// The first connection on which somebody asks for something: the node looks first whether anything is there.
async fn request(server: &TcpListener) -> Result<BufReader<TcpStream>> {
    loop {
        let mut asked = BufReader::new(server.accept().await?.0);
        let (mut head, mut last) = (String::new(), 1);
        while last > 0 && !head.ends_with("\r\n\r\n") {
            last = asked.read_line(&mut head).await?;
        }
        if last > 0 {
            return Ok(asked);
        }
    }
}

#[tokio::test]
async fn curl_gets_each_byte_when_it_comes() -> Result<()> {
    let (lab, server) = (lab().await?, TcpListener::bind("127.0.0.1:0").await?);
    let (_node, ready) = lab.node(&server.local_addr()?.port().to_string(), "trickle").await?;
    let mut trickling = curl();
    trickling.args(["--no-buffer", ready["url"].as_str().context("url")?]);
    let mut trickling = trickling.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut shown = trickling.stdout.take().context("piped")?;
    let mut asked =
        tokio::time::timeout(PATIENCE, request(&server)).await.context("curl asks for nothing")??;
    asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await?;
    // Whatever is held back anywhere on the way is waited for here in vain: the next byte is sent when this one is shown.
    for byte in b'0'..=b'9' {
        asked.write_u8(byte).await?;
        assert_eq!(shown.read_u8().await?, byte);
    }
    assert!(trickling.wait().await?.success());
    Ok(())
}

#[tokio::test]
async fn curl_trusts_the_local_authority() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = lab.node(&origin.address.port().to_string(), "tls").await?;
    let [_, https, _] = lab.listen_addresses()?;
    let port = https.rsplit(':').next().context("a port")?;
    let authority = lab.path("data").join("local-ca-localhost.pem");
    let url = format!("https://tls.localhost:{port}/1k");
    let cacert = authority.to_str().context("a path in UTF-8")?;
    assert_eq!(output(curl().args(["--cacert", cacert, &url])).await?.len(), 1024);
    assert!(output(curl().arg(&url)).await.is_err(), "nobody else's authority vouches for it");
    let version = ["--output", "/dev/null", "--write-out", "%{http_version}", "--cacert", cacert, &url];
    assert_eq!(output(curl().args(version)).await?, "2");
    assert_eq!(output(curl().arg("--http1.1").args(version)).await?, "1.1");
    // Thirty downloads at once on one connection.
    let (many, each) = (format!("{url}#[1-30]"), "%{http_version} %{num_connects}\n");
    let parallel =
        ["--parallel", "--parallel-max", "30", "--cacert", cacert, "--output", "/dev/null", "--write-out"];
    let lines = output(curl().args(parallel).args([each, &many])).await?;
    assert_eq!(lines.lines().filter(|line| line.starts_with("2 ")).count(), 30, "{lines}");
    assert_eq!(lines.lines().filter(|line| line.ends_with(" 1")).count(), 1, "{lines}");
    Ok(())
}

#[tokio::test]
async fn curl_speaks_http_2_in_clear_text_to_a_server_that_does_not() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, ready) = lab.node(&origin.address.port().to_string(), "two").await?;
    let file = lab.path("body");
    std::fs::write(&file, vec![1; 3_000_000])?;
    let url = ready["url"].as_str().context("url")?;
    let data = format!("@{}", file.display());
    let two = "--http2-prior-knowledge";
    let upload = [two, "--data-binary", &data, &format!("{url}/upload")];
    assert_eq!(output(curl().args(upload)).await?, "3000000");
    Ok(())
}

#[tokio::test]
async fn curl_gives_the_password_that_a_tunnel_asks_for() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let target = origin.address.port().to_string();
    let arguments = ["share", &target, "--name", "shop", "--basic", "ann", "--json"];
    let mut node = lab.spawn_with(&arguments, &[("MYTUNNEL_TUNNEL_PASSWORD", "correct: h\u{f6}rse")])?;
    let ready = node.event("ready").await?;
    let url = format!("{}/head", ready["url"].as_str().context("url")?);
    let status = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    let mut asked = Command::new("curl");
    asked.args(["--silent", "--noproxy", "*"]).args(status).arg(&url);
    assert_eq!(output(&mut asked).await?, "401");
    // `--anyauth` takes what the challenge offers.
    let seen = output(curl().args(["--anyauth", "--user", "ann:correct: h\u{f6}rse", &url])).await?;
    assert!(seen.starts_with("GET /head") && !seen.to_ascii_lowercase().contains("authorization"), "{seen}");
    assert!(output(curl().args(["--user", "ann:wrong", &url])).await.is_err());
    Ok(())
}
