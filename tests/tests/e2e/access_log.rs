//! What an operator finds in the access log.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use serde_json::Value;

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

    let host = lab.host("web");
    let read = || -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&file)?;
        ensure!(!text.contains("token=secret"), "{text}");
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
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
    let sign_in =
        lines.iter().find(|line| line["path"].as_str().is_some_and(|path| path.starts_with("/api/")));
    ensure!(sign_in.is_some(), "calls of the API are requests too");
    Ok(())
}
