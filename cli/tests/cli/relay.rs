//! A relay as its operator starts it, and what keeps it from starting.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use serde_json::Value;

use crate::program::{Running, User};

pub(crate) const ANY: &str = "127.0.0.1:0";

/// What is typed for a relay at free ports.
pub(crate) fn line(data: &Path) -> [&str; 10] {
    ["relay", "--json", "--data", data.to_str().unwrap(), "--http", ANY, "--https", ANY, "--p2p", ANY]
}

/// Starts a relay with a data directory of this name at free ports.
pub(crate) fn start(user: &User, data: &str) -> (Running, Value) {
    let mut relay = user.start(&line(&user.path(data)));
    let ready = relay.event("ready");
    (relay, ready)
}

#[test]
fn ready_has_the_bound_addresses_and_the_setup_code() {
    let user = User::new();
    let (relay, ready) = start(&user, "data");
    assert_eq!((ready["domain"].as_str(), ready["console"].as_str()), (Some("localhost"), Some("localhost")));
    for listener in ["http", "https"] {
        let address: std::net::SocketAddr = ready[listener].as_str().unwrap().parse().unwrap();
        assert_ne!(address.port(), 0, "{ready}");
    }
    let p2p: Vec<&str> = ready["p2p"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        p2p.iter().any(|addr| addr.contains("/udp/")) && p2p.iter().any(|addr| addr.contains("/tcp/")),
        "{p2p:?}"
    );
    assert!(p2p.iter().all(|addr| addr.contains("/p2p/12D3Koo")), "{p2p:?}");
    assert!(ready["setup_code"].as_str().unwrap().len() >= 16, "{ready}");
    let status = user.run(&["status", "--json"]).succeeded().json();
    assert_eq!(status["servers"][0]["http"], ready["http"], "{status}");
    relay.signal("TERM").succeeded();
}

#[test]
fn people_get_the_line_that_makes_them_owner() {
    let user = User::new();
    let data = user.path("data");
    let mut relay =
        user.start(&["relay", "--data", data.to_str().unwrap(), "--http", ANY, "--https", ANY, "--p2p", ANY]);
    let url = relay.line();
    let ended = relay.signal("INT").succeeded();
    assert!(ended.stderr.contains(&format!("  mytunnel login {url} --code ")), "{ended:?}");
    assert!(ended.stderr.contains("http://NAME.localhost:"), "{ended:?}");
}

#[test]
fn a_relay_keeps_its_identity_and_forgets_the_code_once_there_is_an_owner() {
    let user = User::new();
    let (relay, first) = start(&user, "data");
    sign_in(&user, &first);
    relay.signal("TERM").succeeded();
    let (_relay, second) = start(&user, "data");
    assert!(second["setup_code"].is_null(), "{second}");
    let peer = |ready: &Value| ready["p2p"][0].as_str().unwrap().rsplit_once('/').unwrap().1.to_owned();
    assert_eq!(peer(&first), peer(&second));
}

/// Makes this user the owner.
pub(crate) fn sign_in(user: &User, ready: &Value) -> Value {
    let (server, code) = (ready["url"].as_str().unwrap(), ready["setup_code"].as_str().unwrap());
    let line = ["login", server, "--email", "owner@example.com", "--code", code, "--json"];
    user.run_with(&line, &[("MYTUNNEL_PASSWORD", "correct horse battery")]).succeeded().json()
}

#[test]
fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
    let user = User::new();
    let (tcp, udp) = (TcpListener::bind(ANY).unwrap(), UdpSocket::bind(ANY).unwrap());
    let (tcp, udp) = (
        tcp.local_addr().map(|a| (a.to_string(), tcp)).unwrap(),
        udp.local_addr().map(|a| (a.to_string(), udp)).unwrap(),
    );
    let data = user.path("data");
    let base = ["relay", "--json", "--data", data.to_str().unwrap()];
    let with = |more: &[&str]| user.run(&[&base[..], more].concat());

    let http = with(&["--http", &tcp.0, "--https", ANY, "--p2p", ANY]).failed("INTERNAL", 1);
    assert!(http["message"].as_str().unwrap().contains(&tcp.0), "{http}");
    assert!(http["help"].as_str().unwrap().contains("--http"), "{http}");
    let p2p = with(&["--http", ANY, "--https", ANY, "--p2p", &udp.0]).failed("INTERNAL", 1);
    assert!(p2p["help"].as_str().unwrap().contains("--p2p"), "{p2p}");
    let nowhere = with(&["--http", "192.0.2.1:8080", "--https", ANY, "--p2p", ANY]).failed("INTERNAL", 1);
    assert!(nowhere["help"].as_str().unwrap().contains("0.0.0.0"), "{nowhere}");
    with(&["--http", "8080"]).failed("BAD_REQUEST", 2);
    // What failed to start has left the data usable.
    start(&user, "data");
}

#[test]
fn a_second_relay_on_the_same_data_is_refused() {
    let user = User::new();
    let (_relay, _) = start(&user, "data");
    let event = user.run(&line(&user.path("data"))).failed("INTERNAL", 1);
    assert!(event["message"].as_str().unwrap().contains("in use"), "{event}");
}

#[test]
fn a_damaged_database_is_named_and_left_alone() {
    let user = User::new();
    let (relay, _) = start(&user, "data");
    relay.signal("TERM").succeeded();
    let database = user.path("data/coordinator.db");
    let mut bytes = std::fs::read(&database).unwrap();
    bytes[..100].fill(0xff);
    std::fs::write(&database, &bytes).unwrap();
    // What the log of the database still holds would mend it.
    for log in ["data/coordinator.db-wal", "data/coordinator.db-shm"] {
        let _ = std::fs::remove_file(user.path(log));
    }
    let event = user.run(&line(&user.path("data"))).failed("INTERNAL", 1);
    assert!(event["message"].as_str().unwrap().contains("coordinator.db"), "{event}");
    assert!(event["help"].as_str().unwrap().contains("backup"), "{event}");
    assert_eq!(std::fs::read(&database).unwrap(), bytes);
}

#[test]
fn a_data_directory_that_cannot_be_is_named() {
    let user = User::new();
    std::fs::write(user.path("file"), "").unwrap();
    let data = user.path("file/data");
    let event = user.run(&["relay", "--json", "--data", data.to_str().unwrap()]).failed("INTERNAL", 1);
    assert!(event["message"].as_str().unwrap().contains("file/data"), "{event}");
}

#[test]
fn check_says_what_the_settings_come_to() {
    let user = User::new();
    let file = user.path("relay.toml");
    let settings = "domain = 't.example'\nhttp = '0.0.0.0:0'\nhttps = '127.0.0.1:0'\np2p = '127.0.0.1:0'\n";
    std::fs::write(&file, settings).unwrap();
    let file = file.to_str().unwrap();
    let checked = user.run(&["relay", "--config", file, "--check", "--json"]).succeeded().json();
    assert_eq!(
        (checked["ok"].as_bool(), checked["http"].as_str()),
        (Some(true), Some("0.0.0.0:0")),
        "{checked}"
    );
    assert_eq!(checked["https"], "127.0.0.1:0");
    assert!(user.run(&["relay", "--config", file, "--check"]).succeeded().stdout.contains("t.example"));
    assert_eq!(checked["dns"], Value::Null);
    assert!(!user.path(".local").exists(), "nothing is made");

    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dns = taken.local_addr().unwrap().to_string();
    let asked =
        ["relay", "--config", file, "--check", "--json", "--acme", "me@example.com", "--acme-dns", &dns];
    let refused = user.run(&asked).failed("INTERNAL", 1);
    assert!(refused["message"].as_str().unwrap().contains(&dns), "{refused}");
    assert!(refused["help"].as_str().unwrap().contains("--acme-dns"), "{refused}");
    drop(taken);
    assert_eq!(user.run(&asked).succeeded().json()["dns"], dns);

    std::fs::write(file, "domian = 't.example'\n").unwrap();
    let wrong = user.run(&["relay", "--config", file, "--check", "--json"]).failed("BAD_REQUEST", 2);
    assert_eq!(wrong["help"], "Did you mean `domain`?");
}

fn check(user: &User, data: &Path) -> (Value, Value) {
    let ended = user.run(&[&line(data)[..], &["--check"]].concat());
    let first = serde_json::from_str(ended.stdout.lines().next().unwrap()).unwrap();
    (first, ended.failed("INTERNAL", 1))
}

#[test]
fn check_tells_all_that_is_wrong_at_once() {
    let user = User::new();
    let (relay, ready) = start(&user, "data");
    let (http, https) = (ready["http"].as_str().unwrap(), ready["https"].as_str().unwrap());
    let p2p: Vec<&str> = ready["p2p"][0].as_str().unwrap().split('/').collect();
    let p2p = format!("{}:{}", p2p[2], p2p[4]);
    let data = user.path("data");
    let run = ["relay", "--check", "--data", data.to_str().unwrap()];
    let ports = ["--http", http, "--https", https, "--p2p", &p2p];
    let ended = user.run(&[&run[..], &ports, &["--json"]].concat());
    let found: Value = serde_json::from_str(ended.stdout.lines().next().unwrap()).unwrap();
    assert!(ended.failed("INTERNAL", 1)["message"].as_str().unwrap().starts_with("4 things"), "{found}");
    let problems = found["problems"].as_array().unwrap();
    for (problem, (said, remedy)) in problems.iter().zip([
        ("in use by another process", "--data"),
        (http, "--http"),
        (https, "--https"),
        (&p2p, "--p2p"),
    ]) {
        assert!(problem["message"].as_str().unwrap().contains(said), "{said}: {problem}");
        assert!(problem["help"].as_str().unwrap().contains(remedy), "{problem}");
    }
    assert_eq!((problems.len(), found["ok"].as_bool()), (4, Some(false)), "{found}");
    let told = user.run(&[&run[..], &ports].concat());
    assert_eq!(told.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 5, "{told:?}");
    relay.signal("TERM").succeeded();
    let whole = user.run(&[&run[..], &ports].concat()).succeeded();
    assert!(whole.stderr.contains("can be used"), "{whole:?}");
}

#[test]
fn check_finds_a_data_directory_that_cannot_be_used() {
    let user = User::new();
    let (relay, _) = start(&user, "data");
    relay.signal("TERM").succeeded();
    std::fs::write(user.path("data/coordinator.db"), [0xff; 4096]).unwrap();
    let (found, event) = check(&user, &user.path("data"));
    assert!(event["message"].as_str().unwrap().contains("coordinator.db"), "{event}");
    assert_eq!(found["problems"].as_array().map(Vec::len), Some(1), "{found}");
    std::fs::remove_file(user.path("data/coordinator.db")).unwrap();
    let (_, event) = check(&user, &user.path("data"));
    assert!(event["help"].as_str().unwrap().contains("backup"), "keys without their database: {event}");

    std::fs::write(user.path("file"), "").unwrap();
    let (_, event) = check(&user, &user.path("file/data"));
    assert!(event["message"].as_str().unwrap().contains("file/data"), "{event}");

    let new = user.path("new");
    let mut elsewhere = line(&new);
    elsewhere[7] = "192.0.2.1:0";
    let event = user.run(&[&elsewhere[..], &["--check"]].concat()).failed("INTERNAL", 1);
    assert!(event["help"].as_str().unwrap().contains("0.0.0.0"), "{event}");
    assert!(!new.exists(), "nothing is made");
    let joining = [&line(&new)[..], &["--check", "--coordinator", "https://c.example"]].concat();
    user.run(&joining).failed("BAD_REQUEST", 2);
}

#[test]
fn a_relay_joins_a_coordinator_elsewhere_once_with_a_token() {
    let user = User::new();
    let database = format!("sqlite:{}", user.path("authority/coordinator.db").display());
    let mut coordinator = user.start(&["coordinator", "--json", "--database", &database, "--http", ANY]);
    let ready = coordinator.event("ready");
    let server = ready["url"].as_str().unwrap();
    sign_in(&user, &ready);
    let token = user.run(&["keys", "join-token"]).succeeded().stdout;
    std::fs::write(user.path("join"), &token).unwrap();
    let (data, join) = (user.path("member"), user.path("join"));
    let base = [&line(&data)[..], &["--coordinator", server]].concat();
    user.run(&base).failed("BAD_REQUEST", 2);

    let mut relay = user.start(&[&base[..], &["--join-file", join.to_str().unwrap()]].concat());
    relay.event("ready");
    relay.signal("TERM").succeeded();
    // The token is used up for others, and is not needed again.
    let other = user.path("other");
    let late = [&line(&other)[..], &["--coordinator", server, "--join-file", join.to_str().unwrap()]];
    let event = user.run(&late.concat()).failed("INVALID_KEY", 3);
    assert!(event["help"].as_str().unwrap().contains("mytunnel keys join-token"), "{event}");
    let mut relay = user.start(&base);
    relay.event("ready");
    let folder = user.path("");
    let mut share = user.start(&["share", folder.to_str().unwrap(), "--json"]);
    let url = share.event("ready")["url"].as_str().unwrap().to_owned();
    assert_eq!(crate::share::visit(&url).0, 200);

    // With the coordinator gone, a node still starts with what is known of it.
    coordinator.signal("TERM").succeeded();
    share.signal("TERM").succeeded();
    let mut share = user.start(&["share", folder.to_str().unwrap(), "--json"]);
    let url = share.event("ready")["url"].as_str().unwrap().to_owned();
    assert_eq!(crate::share::visit(&url).0, 200);
    let warned = share.signal("TERM").succeeded().stderr;
    assert!(warned.contains("using what was known of it before"), "{warned}");
}
