//! The main job with no relay set up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::program::User;

/// What a visitor of this machine gets at a URL.
pub(crate) fn visit(url: &str) -> (u16, String) {
    let authority = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let port: u16 = authority.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

fn site(user: &User) -> String {
    let folder = user.path("site");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("index.html"), "the index").unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn a_folder_has_a_url_that_stands_alone_on_stdout() {
    let user = User::new();
    let folder = site(&user);
    let started = Instant::now();
    let mut share = user.start(&["share", &folder]);
    let url = share.line();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(url.starts_with("http://") && url.contains(".localhost:"), "{url}");
    let (status, answer) = visit(&url);
    assert_eq!(status, 200);
    assert!(answer.ends_with("the index"), "{answer}");

    let ended = share.signal("INT");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines[0], "No relay is set up: running one here, for visitors on this machine.");
    assert!(lines[1].starts_with("Inspect  http://127.0.0.1:") && lines[1].ends_with('/'), "{ended:?}");
    assert!(lines[2].starts_with("Sharing /") && lines[2].ends_with("/site. Ctrl-C ends it."), "{ended:?}");
    assert_eq!(lines.len(), 3, "{ended:?}");
}

#[test]
fn without_a_page_people_can_still_have_a_line_for_each_request() {
    let user = User::new();
    let mut share = user.start(&["share", &site(&user), "--no-inspect", "--requests"]);
    visit(&share.line());
    let none = user.run(&["requests"]);
    assert_eq!(none.code, Some(1), "{none:?}");
    assert!(none.stderr.contains("keeps no requests") && none.stderr.contains("--inspect"), "{none:?}");
    let ended = share.signal("INT");
    assert!(ended.stderr.contains("GET / 200 "), "{ended:?}");
    assert!(!ended.stderr.contains("Inspect"), "{ended:?}");
}

#[test]
fn the_same_target_keeps_its_name_and_another_has_another() {
    let user = User::new();
    let folder = site(&user);
    let name = |target: &str| {
        let mut share = user.start(&["share", target, "--json"]);
        let name = share.event("ready")["name"].as_str().unwrap().to_owned();
        share.signal("TERM").succeeded();
        name
    };
    let first = name(&folder);
    assert_eq!(name(&folder), first);
    assert_ne!(name("."), first);
    std::fs::remove_file(user.path("config/names.secret")).unwrap();
    assert_ne!(name(&folder), first, "another user would have another name");
}

#[test]
fn scripts_get_json_and_nothing_else() {
    let user = User::new();
    let folder = site(&user);
    let mut share = user.start(&["share", &folder, "--name", "demo", "--json"]);
    let ready = share.event("ready");
    assert_eq!((ready["name"].as_str(), ready["kind"].as_str()), (Some("demo"), Some("http")));
    assert_eq!(ready["target"], std::fs::canonicalize(&folder).unwrap().to_str().unwrap());
    assert!(ready["url"].as_str().unwrap().starts_with("http://demo.localhost:"), "{ready}");
    assert!(
        ready["tunnel_id"].is_string() && ready["relay"].is_string() && ready["expires_at"].is_u64(),
        "{ready}"
    );
    assert_eq!((ready["path"].as_str(), ready["embedded"].as_bool()), (Some("relayed"), Some(true)));

    let status = user.run(&["status", "--json"]).succeeded().json();
    assert_eq!(status["tunnels"][0]["url"], ready["url"], "{status}");
    assert_eq!(
        (&status["tunnels"][0]["online"], &status["relay"]["connected"]),
        (&true.into(), &true.into())
    );
    assert!(user.run(&["status"]).succeeded().stdout.contains("http://demo.localhost:"));

    let ended = share.signal("TERM").succeeded();
    assert_eq!(ended.stderr, "");
    assert_eq!(ended.json(), serde_json::json!({"event": "closed", "code": null, "reason": "stopped"}));
    let status = user.run(&["status", "--json"]).succeeded().json();
    assert_eq!(status["tunnels"].as_array().map(Vec::len), Some(0), "nothing is left behind");
}

#[test]
fn two_shares_at_a_time_do_not_meet() {
    let user = User::new();
    let folder = site(&user);
    let (mut one, mut two) = (user.start(&["share", &folder]), user.start(&["share", "."]));
    let (one_url, two_url) = (one.line(), two.line());
    assert_ne!(one_url, two_url);
    assert_eq!((visit(&one_url).0, visit(&two_url).0), (200, 200));
    let status = user.run(&["status", "--json"]).succeeded().json();
    assert_eq!(status["tunnels"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_share_ends_at_its_time() {
    let user = User::new();
    let mut share = user.start(&["share", "--expires", "5s", "--json"]);
    share.event("ready");
    let closed = share.event("closed");
    assert!(closed["reason"].as_str().unwrap().contains("--expires"), "{closed}");
    share.ended().succeeded();
}

#[test]
fn a_server_that_is_down_is_shared_with_a_warning() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let user = User::new();
    let mut share = user.start(&["http", &port.to_string(), "--name", "down"]);
    let url = share.line();
    assert_eq!(visit(&url).0, 502);
    let ended = share.signal("INT").succeeded();
    assert!(
        ended.stderr.contains(&format!("warning: nothing answers at http://localhost:{port} yet")),
        "{ended:?}"
    );
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_share() {
    let user = User::new();
    let folder = site(&user);
    let script = "\"$0\" share \"$1\" --name piped | head -n 1";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_mytunnel"), &folder]);
    shell.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    shell.env("HOME", user.path("")).env("MYTUNNEL_CONFIG_DIR", user.path("config"));
    let mut child =
        shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut url = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut url)
        .unwrap();
    assert_eq!(visit(url.trim()).0, 200);
    let status = user.run(&["status", "--json"]).succeeded().json();
    let pid = status["tunnels"][0]["pid"].to_string();
    assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_request_under_way_ends_well_when_the_share_is_stopped() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = origin.local_addr().unwrap().port();
    let (finish, stopped) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        // The first connection may be the look whether anything listens: it sends nothing.
        for stream in origin.incoming() {
            let mut stream = stream.unwrap();
            if stream.read(&mut [0; 4096]).unwrap() == 0 {
                continue;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").unwrap();
            stopped.recv().unwrap();
            stream.write_all(b"-last").unwrap();
            return;
        }
    });
    let user = User::new();
    let mut share = user.start(&["http", &port.to_string()]);
    let url = share.line();
    let authority = url.strip_prefix("http://").unwrap().to_owned();
    let at: u16 = authority.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut visitor = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], at))).unwrap();
    write!(visitor, "GET / HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"first") {
        let mut piece = [0; 1024];
        let length = visitor.read(&mut piece).unwrap();
        assert_ne!(length, 0, "cut short: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..length]);
    }
    share.send("INT");
    // `mytunnel status` no longer finds it: the signal has arrived.
    while user.run(&["status"]).stdout.contains("http://") {}
    finish.send(()).unwrap();
    visitor.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(b"first-last"), "{}", String::from_utf8_lossy(&answer));
    share.ended().succeeded();
    server.join().unwrap();
}

#[test]
fn what_cannot_be_shared_is_told_before_anything_is_started() {
    let user = User::new();
    let missing = user.run(&["share", "./no-such-folder", "--json"]).failed("NOT_FOUND", 1);
    assert!(missing["message"].as_str().unwrap().contains("no-such-folder"), "{missing}");
    user.run(&["share", "0", "--json"]).failed("BAD_REQUEST", 2);
    user.run(&["share", "ftp://host", "--json"]).failed("BAD_REQUEST", 2);
    let name = user.run(&["share", "--name", "My_App", "--json"]).failed("NAME_INVALID", 2);
    assert_eq!(name["help"], "Did you mean `my-app`?");
    user.run(&["share", "--name", "www", "--json"]).failed("NAME_INVALID", 2);
    user.run(&["share", "--host-header", "a b", "--json"]).failed("BAD_REQUEST", 2);
    user.run(&["share", "--server", "https://not-signed-in.example", "--json"]).failed("INVALID_KEY", 3);
}

#[test]
fn a_project_without_a_relay_that_has_it_is_refused() {
    let user = User::new();
    let event = user.run(&["share", "--project", "preview", "--json"]).failed("INVALID_KEY", 3);
    assert!(event["message"].as_str().unwrap().contains("preview"), "{event}");
    assert!(event["help"].as_str().unwrap().contains("mytunnel login"), "{event}");
    let exported = user.run_with(&["http", "3000", "--json"], &[("MYTUNNEL_PROJECT", "proj_x")]);
    exported.failed("INVALID_KEY", 3);
}

#[test]
fn a_configuration_that_cannot_be_kept_does_not_stop_a_share() {
    let user = User::new();
    let mut share = user.start_with(&["share", "--json"], &[("MYTUNNEL_CONFIG_DIR", "/proc/mytunnel")]);
    let url = share.event("ready")["url"].as_str().unwrap().to_owned();
    assert_eq!(visit(&url).0, 200);
    let ended = share.signal("TERM").succeeded();
    assert!(ended.stderr.contains("the name will be another one next time"), "{ended:?}");
}

#[test]
fn a_file_where_the_configuration_belongs_is_named() {
    let user = User::new();
    std::fs::write(user.path("config"), "").unwrap();
    let event = user.run(&["share", "--json"]).failed("INTERNAL", 1);
    assert!(event["message"].as_str().unwrap().contains("config"), "{event}");
}
