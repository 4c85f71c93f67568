//! What a share's owner sees of its requests.

use anyhow::{Context, Result, ensure};
use mytunnel_tests::lab::Lab;
use mytunnel_tests::origin::Origin;
use mytunnel_tests::process::Running;
use mytunnel_tests::wire::Connection;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::lab;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_is_one_line_without_secrets() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let port = origin.address.port().to_string();
    let mut node = lab.spawn(&["share", &port, "--name", "lines", "--requests", "--json"])?;
    node.event("ready").await?;
    lab.get("lines", "/head?password=hunter2&x=1").await?;
    lab.get("lines", "/bytes/70000").await?;

    let seen = [node.event("request").await?, node.event("request").await?];
    let keys = ["method", "path", "status", "bytes_in"].map(|key| seen[0][key].clone());
    assert_eq!(keys, [json!("GET"), json!("/head?password=***&x=1"), json!(200), json!(0)]);
    assert!(seen[0]["ms"].as_f64().context("a number")? > 0.0);
    assert_eq!((&seen[1]["path"], &seen[1]["bytes_out"]), (&json!("/bytes/70000"), &json!(70_000)));
    Ok(())
}

/// A share with its page, and the page's address.
async fn inspected(lab: &Lab, target: &str, name: &str) -> Result<(Running, String)> {
    let mut node = lab.spawn(&["share", target, "--name", name, "--inspect", "127.0.0.1:0", "--json"])?;
    let ready = node.event("ready").await?;
    assert_eq!(ready["name"], name);
    let run = lab.path("config").join("run").join(format!("{}.sock", node.id().context("it runs")?));
    let mut state = String::new();
    UnixStream::connect(run).await?.read_to_string(&mut state).await?;
    let state: Value = serde_json::from_str(&state)?;
    Ok((node, state["inspect"].as_str().context("a page")?.to_owned()))
}

/// One request to the page, as any program may send it.
async fn ask(page: &str, head: &str, path: &str, more: &str, body: &str) -> Result<(u16, Value)> {
    let (address, secret) =
        page.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("a URL")?;
    let mut line = Connection::open(address.parse()?).await?;
    let length = body.len();
    let more = if more.contains("host:") { more.to_owned() } else { format!("host: {address}\r\n{more}") };
    let request = format!("{head} /{secret}{path} HTTP/1.1\r\n{more}content-length: {length}\r\n\r\n{body}");
    let (head, content) = line.exchange(request.as_bytes()).await?;
    Ok((head.status, serde_json::from_slice(&content).unwrap_or_default()))
}

const JSON: &str = "content-type: application/json\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_seen_replayed_edited_and_written_as_curl() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, page) = inspected(&lab, &origin.address.port().to_string(), "seen").await?;
    let mut visitor = Connection::open(lab.http).await?;
    let request = format!(
        "POST /upload?token=t0ken HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer s3cret\r\ncontent-length: 4\r\n\r\nbody",
        lab.host("seen")
    );
    visitor.exchange(request.as_bytes()).await?;

    let listed = lab.run(&["requests", "--json"]).await?.success()?;
    let first = listed.json()?;
    assert_eq!((&first["path"], &first["bytes_in"]), (&json!("/upload?token=***"), &json!(4)));
    let id = first["id"].to_string();
    let shown = lab.run(&["requests", "show", &id]).await?.success()?.stdout;
    assert!(shown.contains("Bearer ***") && shown.contains("body") && !shown.contains("s3cret"), "{shown}");
    let shown = lab.run(&["requests", "show", &id, "--secrets"]).await?.success()?.stdout;
    assert!(shown.contains("Bearer s3cret") && shown.contains("token=t0ken"), "{shown}");

    let again = lab.run(&["requests", "replay", &id, "--json"]).await?.success()?.json()?;
    assert_eq!((&again["replay_of"], &again["status"]), (&first["id"], &first["status"]));
    let edit =
        r#"{"path":"/head?token=***","method":"GET","headers":[["Authorization","Bearer ***"]],"text":""}"#;
    let (status, edited) = ask(&page, "POST", &format!("api/requests/{id}/replay"), JSON, edit).await?;
    assert_eq!(status, 200, "{edited}");
    let (_, sent) = ask(&page, "GET", &format!("api/requests/{}?secrets=show", edited["id"]), "", "").await?;
    assert_eq!(sent["path"], "/head?token=t0ken");
    assert_eq!(sent["request"]["headers"][0], json!(["authorization", "Bearer s3cret"]));

    let command = lab.run(&["requests", "curl", &id]).await?.success()?.stdout;
    let done =
        Command::new("sh").args(["-c", &format!("{command} --silent --fail-with-body")]).output().await?;
    assert_eq!(String::from_utf8_lossy(&done.stdout), "4", "{command}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_follows_requests_each_told_once_when_it_is_over() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, _) = inspected(&lab, &origin.address.port().to_string(), "live").await?;
    lab.get("live", "/head?before").await?;
    let mut terminal = lab.spawn(&["requests", "--follow", "--json"])?;
    ensure!(terminal.event("request").await?["path"] == "/head?before", "what was there already comes first");

    // One that is under way is told when it is over, and what came and went meanwhile before it.
    let mut slow = Connection::open(lab.http).await?;
    let request = format!("GET /sse/1000/1000 HTTP/1.1\r\nhost: {}\r\n\r\n", lab.host("live"));
    slow.send(request.as_bytes()).await?;
    slow.head().await?;
    let mut told = Vec::new();
    for number in 0..3 {
        lab.get("live", &format!("/head?{number}")).await?;
        told.push(terminal.event("request").await?);
    }
    drop(slow);
    told.push(terminal.event("request").await?);
    lab.get("live", "/head?last").await?;
    told.push(terminal.event("request").await?);
    let paths: Vec<_> = told.iter().map(|one| one["path"].as_str().unwrap_or_default()).collect();
    ensure!(paths == ["/head?0", "/head?1", "/head?2", "/sse/1000/1000", "/head?last"], "{paths:?}");
    ensure!(told.iter().all(|one| one["ms"].is_number()), "{told:?}");

    let mut searched = lab.spawn(&["requests", "--follow", "--search", "needle", "--json"])?;
    lab.get("live", "/head?hay").await?;
    lab.get("live", "/head?needle").await?;
    ensure!(searched.event("request").await?["path"] == "/head?needle");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_answers_its_own_person_only() -> Result<()> {
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, page) = inspected(&lab, &origin.address.port().to_string(), "guarded").await?;
    let (status, _) = ask(&page, "GET", "api/requests", "", "").await?;
    assert_eq!(status, 200);
    let port = page.split(['/', ':']).nth(4).context("a port")?;
    let rebound = format!("host: evil.example:{port}\r\n");
    assert_eq!(ask(&page, "GET", "api/requests", &rebound, "").await?.0, 421);
    let foreign = format!("origin: https://evil.example\r\n{JSON}");
    assert_eq!(ask(&page, "POST", "api/clear", &foreign, "").await?.0, 403);
    assert_eq!(ask(&page, "POST", "api/clear", "content-type: text/plain\r\n", "").await?.0, 403);
    let guessed = format!("http://127.0.0.1:{port}/{}/", "0".repeat(32));
    assert_eq!(ask(&guessed, "GET", "api/requests", "", "").await?.0, 404);

    let open = lab.spawn(&["share", "3000", "--inspect", "0.0.0.0:4040"])?.ended().await?;
    assert_eq!(open.code, Some(2), "{}", open.stderr);
    assert!(open.stderr.contains("open to others"), "{}", open.stderr);
    let none = lab.run(&["requests", "--name", "other"]).await?;
    assert!(none.stderr.contains("no share `other`"), "{}", none.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_download_is_counted_and_only_its_beginning_kept() -> Result<()> {
    const LONG: u64 = 30_000_000;
    let (lab, origin) = (lab().await?, Origin::start().await?);
    let (_node, page) = inspected(&lab, &origin.address.port().to_string(), "long").await?;
    let (_, body) = lab.get("long", &format!("/bytes/{LONG}")).await?;
    assert_eq!(body.len() as u64, LONG);
    lab.get("long", "/1k").await?;
    let done = loop {
        let (_, list) = ask(&page, "GET", "api/requests?after=1&wait=1", "", "").await?;
        let requests = list["requests"].as_array().context("a list")?.clone();
        if requests.len() == 2 && requests.iter().all(|request| !request["ms"].is_null()) {
            break requests;
        }
    };
    assert_eq!((&done[1]["bytes_out"], &done[1]["error"]), (&json!(LONG), &Value::Null));
    assert_eq!((&done[0]["path"], &done[0]["bytes_out"]), (&json!("/1k"), &json!(1024)));
    let (_, long) = ask(&page, "GET", "api/requests/1", "", "").await?;
    let body = &long["response"]["body"];
    assert_eq!((&body["whole"], body["text"].as_str().context("text")?.len()), (&json!(false), 1 << 20));
    Ok(())
}
