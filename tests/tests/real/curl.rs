//! curl against a folder, a Python server and uploads, over HTTP and over HTTPS with the local authority.

use anyhow::{Context, Result};
use mytunnel_tests::origin::Origin;
use tokio::process::Command;

use crate::{free_port, lab, listening, output};

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
    let port = free_port()?;
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
    Ok(())
}
