//! A real browser: a shared folder's page, and a Vite dev server whose edits arrive over its WebSocket.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use mytunnel_tests::ports;
use mytunnel_tests::process::Running;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::{lab, listening, output};

/// npm packages of these tests, installed once per build directory.
pub(crate) async fn packages() -> Result<&'static Path> {
    static PACKAGES: OnceCell<PathBuf> = OnceCell::const_new();
    let install = || async {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("package.json"), r#"{"private":true,"type":"module"}"#)?;
        let packages = [
            "vite@7.3.8",
            "playwright-core@1.65.1",
            "oidc-provider@9.13.3",
            "@modelcontextprotocol/sdk@1.32.2",
            "@modelcontextprotocol/inspector@2.12.0",
        ];
        // A registry that does not answer is asked again.
        let patience = ["--fetch-retries", "5", "--fetch-timeout", "60000"];
        let install = ["install", "--silent", "--no-audit", "--no-fund"];
        output(Command::new("npm").args(install).args(patience).args(packages).current_dir(&folder)).await?;
        anyhow::Ok(folder)
    };
    Ok(PACKAGES.get_or_try_init(install).await?)
}

/// Runs a script with `page` open in Chromium; what it prints is returned line by line.
async fn browse(script: &str, arguments: &[&str]) -> Result<Running> {
    let folder = packages().await?;
    let program = format!(
        "import {{ chromium }} from 'playwright-core';
         const browser = await chromium.launch({{ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
           args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
             '--disable-background-networking', '--disable-component-update', '--disable-sync'] }});
         const page = await browser.newPage();
         const [url, ...rest] = process.argv.slice(2);
         try {{ {script} }} finally {{ await browser.close(); }}"
    );
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let file = folder.join(format!("script-{}.mjs", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&file, program)?;
    let mut all = vec![file.to_str().context("a path in UTF-8")?];
    all.extend(arguments);
    Running::start(Path::new("node"), all, &[], folder)
}

#[tokio::test]
async fn a_browser_opens_a_shared_folder() -> Result<()> {
    let lab = lab().await?;
    let folder = lab.path("site");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("<b>odd & name.txt"), "text")?;
    let (_node, ready) = lab.node(folder.to_str().context("a path in UTF-8")?, "listing").await?;
    let script = "await page.goto(url); console.log(JSON.stringify(await page.innerText('body')));
                  await page.click('text=odd & name.txt'); await page.waitForURL(/name\\.txt$/); console.log(JSON.stringify(await page.innerText('body')));";
    let mut browser = browse(script, &[ready["url"].as_str().context("url")?]).await?;
    let listing = browser.line().await?;
    assert!(listing.contains("<b>odd & name.txt"), "{listing}");
    assert_eq!(browser.line().await?, "\"text\"");
    Ok(())
}

#[tokio::test]
async fn an_edit_reaches_the_browser_through_vite() -> Result<()> {
    let lab = lab().await?;
    let app = lab.path("app");
    std::fs::create_dir(&app)?;
    std::os::unix::fs::symlink(packages().await?.join("node_modules"), app.join("node_modules"))?;
    std::fs::write(
        app.join("index.html"),
        r#"<div id="app"></div><script type="module" src="/main.js"></script>"#,
    )?;
    let main = |text: &str| {
        format!(
            "export const text = '{text}';
             export const show = (value) => {{ document.querySelector('#app').textContent = value; }};
             window.loads = (window.loads ?? 0); show(text);
             if (import.meta.hot) import.meta.hot.accept((next) => next.show(next.text));"
        )
    };
    std::fs::write(app.join("main.js"), main("before"))?;
    std::fs::write(app.join("package.json"), r#"{"private":true,"type":"module"}"#)?;
    let port = ports::free()?;
    let _vite = Command::new("node")
        .args([
            "node_modules/vite/bin/vite.js",
            "--port",
            &port.to_string(),
            "--strictPort",
            "--host",
            "127.0.0.1",
        ])
        .current_dir(&app)
        .kill_on_drop(true)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .context("node is not installed")?;
    listening(port).await?;
    let (_node, ready) = lab.node(&port.to_string(), "vite").await?;
    // An edit that comes before Vite's connection is up is for nobody.
    let script = "const up = page.waitForEvent('console', (message) => message.text().includes('[vite] connected.'));
                  await page.goto(url); await page.waitForFunction(() => document.querySelector('#app').textContent === 'before'); await up;
                  await page.evaluate(() => { window.marked = true; }); console.log('loaded');
                  await page.waitForFunction(() => document.querySelector('#app').textContent === 'after');
                  console.log(await page.evaluate(() => window.marked === true));";
    let mut browser = browse(script, &[ready["url"].as_str().context("url")?]).await?;
    assert_eq!(browser.line().await?, "loaded");
    std::fs::write(app.join("main.js"), main("after"))?;
    assert_eq!(browser.line().await?, "true", "the edit came without a reload");
    Ok(())
}

/// A server that does not answer before the browser has asked for what its early hints name.
const HINTING: &str = "
    import http from 'node:http';
    let told; const asked = new Promise((resolve) => { told = resolve; });
    const server = http.createServer(async (request, response) => {
      if (request.url === '/a.css') { told(); response.setHeader('content-type', 'text/css'); return response.end('p { color: red }'); }
      if (request.url !== '/') { response.statusCode = 404; return response.end(); }
      response.writeEarlyHints({ link: '</a.css>; rel=preload; as=style' });
      await asked;
      response.setHeader('content-type', 'text/html');
      response.end('<link rel=stylesheet href=/a.css><p>whole</p>');
    });
    server.listen(0, '127.0.0.1', () => console.log(server.address().port));";

#[tokio::test]
async fn a_browser_takes_early_hints_while_the_server_is_at_work() -> Result<()> {
    let lab = lab().await?;
    let file = lab.path("hinting.mjs");
    std::fs::write(&file, HINTING)?;
    let file = file.to_str().context("a path in UTF-8")?;
    let mut server = Running::start(Path::new("node"), vec![file], &[], packages().await?)?;
    let (_node, _) = lab.node(&server.line().await?, "hints").await?;
    let https = lab.ready["https"].as_str().and_then(|at| at.trim_end_matches('/').rsplit(':').next());
    let url = format!("https://hints.localhost:{}/", https.context("a port for HTTPS")?);
    let script = "const visitor = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
                  await visitor.goto(url); console.log(await visitor.innerText('p'));
                  console.log(await visitor.evaluate(() => getComputedStyle(document.querySelector('p')).color));";
    let mut browser = browse(script, &[&url]).await?;
    assert_eq!(browser.line().await?, "whole");
    assert_eq!(browser.line().await?, "rgb(255, 0, 0)");
    Ok(())
}
