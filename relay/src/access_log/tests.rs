use tokio::task::JoinSet;

use super::*;

fn request() -> Request<()> {
    Request::get("/a/b?token=secret")
        .header("host", "web.tun.example")
        .header("user-agent", "a \"quoted\" agent\\")
        .header("referer", "https://x.example/page?key=secret#part")
        .body(())
        .unwrap()
}

/// Writes what `act` does, and says what stands in the file then.
async fn written(format: AccessFormat, act: impl FnOnce(&AccessLog)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let (log, scribe) = AccessLog::open(&AccessLogConfig { path: path.clone(), format }).unwrap();
    act(&log);
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    scribe.run(cancelled).await;
    std::fs::read_to_string(path).unwrap()
}

fn answered(log: &AccessLog) {
    let entry = log.begin(&request(), || false).unwrap();
    entry.set_visitor("192.0.2.7".parse().unwrap());
    let held = Arc::clone(&entry);
    entry.answered(StatusCode::OK, &HeaderMap::new());
    drop(entry);
    held.count(1234);
}

#[tokio::test]
async fn a_line_is_an_object_and_says_no_secret() {
    let text = written(AccessFormat::Json, answered).await;
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["visitor"], "192.0.2.7");
    assert_eq!((&line["host"], &line["path"]), (&"web.tun.example".into(), &"/a/b".into()));
    assert_eq!((line["status"].as_u64(), line["bytes"].as_u64()), (Some(200), Some(1234)));
    assert_eq!((&line["method"], &line["protocol"]), (&"GET".into(), &"HTTP/1.1".into()));
    assert_eq!(line["referer"], "https://x.example/page");
    assert!(line["at"].as_str().unwrap().ends_with('Z') && line["ms"].is_number(), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_line_is_what_other_programs_read() {
    let text = written(AccessFormat::Combined, answered).await;
    let (front, rest) = text.split_once(" - - [").unwrap();
    assert_eq!(front, "web.tun.example 192.0.2.7");
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!((time.len(), &time[time.len() - 6..]), (26, " +0000"), "{time}");
    assert_eq!(
        rest,
        "\"GET /a/b HTTP/1.1\" 200 1234 \"https://x.example/page\" \"a \\\"quoted\\\" agent\\\\\"\n"
    );
}

#[tokio::test]
async fn who_leaves_before_the_answer_and_what_failed_are_told() {
    let text = written(AccessFormat::Json, |log| {
        drop(log.begin(&request(), || false));
        let entry = log.begin(&request(), || false).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(ERROR_HEADER, HeaderValue::from_static("NOT_FOUND"));
        entry.answered(StatusCode::NOT_FOUND, &headers);
        entry.cut();
    })
    .await;
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["status"].as_u64(), &lines[0]["error"]), (Some(499), &serde_json::Value::Null));
    assert_eq!((lines[1]["status"].as_u64(), &lines[1]["error"]), (Some(404), &"NOT_FOUND".into()));
    assert_eq!([&lines[0]["cut"], &lines[1]["cut"]], [false, true]);
}

#[tokio::test]
async fn a_stranger_can_write_neither_lines_nor_control_characters() {
    assert_eq!(escaped("a\"b\\c\n\u{1b}[31m"), "a\\\"b\\\\c\\x0a\\x1b[31m");
    let text = written(AccessFormat::Combined, |log| {
        let mut request = request();
        let odd = HeaderValue::from_bytes(b"x\xff y\t\"z").unwrap();
        request.headers_mut().insert("host", odd.clone());
        request.headers_mut().insert("user-agent", odd);
        drop(log.begin(&request, || false));
    })
    .await;
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("x\u{fffd}_y\\x09\\\"z - - - ["), "{text}");
}

#[tokio::test]
async fn what_does_not_fit_is_lost_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let config = AccessLogConfig { path: path.clone(), format: AccessFormat::Json };
    let (log, scribe) = AccessLog::open(&config).unwrap();
    for _ in 0..QUEUE + 7 {
        drop(log.begin(&request(), || false));
    }
    assert_eq!(scribe.lines.lost.load(Relaxed), 7);
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    scribe.run(cancelled).await;
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), QUEUE);
    assert!(AccessLog::default().begin(&request(), || false).is_none(), "without a log nothing is noted");
    let nowhere = AccessLogConfig { path: dir.path().join("no/such/folder"), format: AccessFormat::Json };
    assert!(AccessLog::open(&nowhere).is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_was_moved_away_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let config = AccessLogConfig { path: path.clone(), format: AccessFormat::Json };
    let (log, scribe) = AccessLog::open(&config).unwrap();
    let cancelled = CancellationToken::new();
    // Before it is sent: without anybody who listens it would end this process.
    let _heard = hangup();
    let mut task = JoinSet::new();
    task.spawn(scribe.run(cancelled.clone()));
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
    drop(log.begin(&request(), || false));
    while lines(&path) == 0 {
        tokio::task::yield_now().await;
    }
    std::fs::rename(&path, &moved).unwrap();
    let own = std::process::id().to_string();
    assert!(tokio::process::Command::new("kill").args(["-HUP", &own]).status().await.unwrap().success());
    while lines(&path) == 0 {
        drop(log.begin(&request(), || false));
        tokio::task::yield_now().await;
    }
    cancelled.cancel();
    task.join_all().await;
    assert!(lines(&moved) >= 1);
}

fn carried(log: &AccessLog) {
    let from = "::ffff:192.0.2.7".parse().unwrap();
    let session = log.session(Carried::Tcp, from, || "db:20123".to_owned()).unwrap();
    session.count_in(20);
    session.count_out(1000);
    session.count_out(234);
    session.ended(200, None);
    drop(session);
    let denied = log.session(Carried::Tls, from, || "vault.tun.example".to_owned()).unwrap();
    denied.ended(403, Some(&crate::line::Turned::Denied));
    drop(denied);
    drop(log.session(Carried::Udp, from, || "names:20000".to_owned()));
}

#[tokio::test]
async fn who_is_not_read_has_a_line_too_once_they_have_left() {
    let text = written(AccessFormat::Json, carried).await;
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [good, denied, cut] = &lines[..] else { panic!("{text}") };
    assert_eq!((&good["visitor"], &good["host"]), (&"192.0.2.7".into(), &"db:20123".into()));
    assert_eq!((&good["protocol"], &good["status"]), (&"TCP".into(), &200.into()));
    assert_eq!((&good["bytes"], &good["bytes_in"]), (&1234.into(), &20.into()));
    assert!(good["ms"].is_number() && good["at"].as_str().unwrap().ends_with('Z'), "{good}");
    assert_eq!((&denied["protocol"], &denied["status"]), (&"TLS".into(), &403.into()));
    assert_eq!(denied["error"], "the tunnel's gates do not let the visitor in");
    assert_eq!((&cut["protocol"], &cut["status"]), (&"UDP".into(), &499.into()));
}

#[tokio::test]
async fn the_line_of_who_is_not_read_is_what_readers_of_nginx_expect() {
    let text = written(AccessFormat::Combined, carried).await;
    let line = text.lines().next().unwrap();
    let (front, rest) = line.split_once(" [").unwrap();
    assert_eq!(front, "db:20123 192.0.2.7");
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!((time.len(), &time[time.len() - 6..]), (26, " +0000"), "{time}");
    let (counts, seconds) = rest.rsplit_once(' ').unwrap();
    assert_eq!(counts, "TCP 200 1234 20");
    assert!(seconds.parse::<f64>().is_ok() && seconds.split('.').nth(1).is_some_and(|part| part.len() == 3));
}
