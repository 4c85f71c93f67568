//! What goes wrong before a relay is even asked: each case has its code, its status and its remedy.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use crate::program::User;

const PASSWORD: (&str, &str) = ("MYTUNNEL_PASSWORD", "correct horse battery");

/// An address at which nothing listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_restore_asks_what_becomes_of_keys_and_names_both_ways() {
    let user = User::new();
    let line = ["coordinator", "restore", "none.backup", "--database", "sqlite:none.db", "--json"];
    let error = user.run(&line).failed("BAD_REQUEST", 2);
    let help = error["help"].as_str().unwrap();
    assert!(help.contains("--revoke-keys ends") && help.contains("--keep-keys lets"), "{help}");
}

#[test]
fn a_server_that_does_not_answer_is_unreachable() {
    let address = nobody();
    let login = ["login", &address, "--email", "a@b.example", "--json"];
    let event = User::new().run_with(&login, &[PASSWORD]).failed("COORDINATOR_UNREACHABLE", 6);
    assert!(event["message"].as_str().unwrap().contains(&address), "{event}");
}

/// A server that answers one request with this.
fn answering(answer: String) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The whole request fits into one read: its body is a hundred bytes.
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(answer.as_bytes()).unwrap();
    });
    (address, server)
}

#[test]
fn a_server_that_is_none_of_ours_is_told_apart() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    let (address, server) = answering(answer.to_owned());
    let login = ["login", &address, "--email", "a@b.example", "--json"];
    let event = User::new().run_with(&login, &[PASSWORD]).failed("COORDINATOR_UNREACHABLE", 6);
    assert!(event["message"].as_str().unwrap().contains("not a mytunnel coordinator"), "{event}");
    server.join().unwrap();
}

#[test]
fn a_clock_that_is_off_is_named_where_it_may_be_the_cause() {
    let body = r#"{"error":{"code":"key_expired","message":"the proof is too old","help":"-"}}"#;
    let answer = format!(
        "HTTP/1.1 401 Unauthorized\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (address, server) = answering(answer);
    let login = ["login", &address, "--email", "a@b.example", "--json"];
    let event = User::new().run_with(&login, &[PASSWORD]).failed("KEY_EXPIRED", 3);
    assert!(event["message"].as_str().unwrap().contains("clock is"), "{event}");
    assert!(event["help"].as_str().unwrap().contains("Set the clock"), "{event}");
    server.join().unwrap();
}

#[test]
fn login_without_a_terminal_says_what_to_set() {
    let address = nobody();
    let user = User::new();
    let no_email = user.run(&["login", &address, "--json"]).failed("BAD_REQUEST", 2);
    assert!(no_email["help"].as_str().unwrap().contains("--email"), "{no_email}");
    user.run(&["login", "--json"]).failed("BAD_REQUEST", 2);
}

#[test]
fn whoever_is_not_signed_in_is_told_how() {
    let user = User::new();
    for command in [&["projects", "list"][..], &["keys", "list"], &["keys", "create"], &["audit"]] {
        let mut line = command.to_vec();
        line.push("--json");
        let event = user.run(&line).failed("INVALID_KEY", 3);
        assert!(event["help"].as_str().unwrap().contains("mytunnel login"), "{event}");
    }
}

#[test]
fn minting_without_a_master_key_names_the_variable() {
    let user = User::new();
    let event = user.run(&["eval", "mint", "--json"]).failed("BAD_REQUEST", 2);
    assert!(event["message"].as_str().unwrap().contains("MTK_MASTER"), "{event}");
    let cut = user
        .run_with(&["eval", "mint", "--json"], &[("MTK_MASTER", "mtk_master_cut")])
        .failed("INVALID_KEY", 3);
    assert!(cut["help"].as_str().unwrap().contains("mytunnel projects create"), "{cut}");
    let ttl = user.run(&["eval", "mint", "--ttl", "25h", "--json"]).failed("BAD_REQUEST", 2);
    assert!(ttl["message"].as_str().unwrap().contains("between 1m and 24h"), "{ttl}");
}

#[test]
fn wrong_usage_names_what_is_missing_and_what_there_is() {
    let user = User::new();
    for (line, said) in [
        (&["projects", "create"][..], "<NAME>"),
        (&["eval", "mint", "--project", "web"], "proj_"),
        (&["eval", "mint", "--scope", "foo"], "http, tcp, udp, private, pair, tls"),
        (&["audit", "--limit", "0"], "1 or more"),
        (&["audit", "--limit", "x"], "1 or more"),
    ] {
        let event = user.run(&[line, &["--json"]].concat()).failed("BAD_REQUEST", 2);
        assert!(event["message"].as_str().unwrap().contains(said), "{event}");
    }
}

#[test]
fn a_human_gets_one_line_of_error_and_one_of_help() {
    let ended = User::new().run(&["keys", "list"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""));
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{ended:?}");
    assert!(lines[0].starts_with("error: ") && lines[0].ends_with(" [INVALID_KEY]"), "{ended:?}");
    assert!(lines[1].starts_with("help: "), "{ended:?}");
}

#[test]
fn a_damaged_sign_in_is_named_with_its_file() {
    let user = User::new();
    std::fs::create_dir_all(user.path("config/logins")).unwrap();
    std::fs::write(user.path("config/logins/current"), "http://localhost:1").unwrap();
    std::fs::write(user.path("config/logins/http_localhost_1.json"), "{").unwrap();
    let event = user.run(&["projects", "list", "--json"]).failed("INTERNAL", 1);
    assert!(event["message"].as_str().unwrap().contains("http_localhost_1.json"), "{event}");
}

#[test]
fn an_unknown_key_in_the_settings_is_an_error_with_a_suggestion() {
    let user = User::new();
    std::fs::create_dir_all(user.path("config")).unwrap();
    std::fs::write(user.path("config/mytunnel.toml"), "sever = 'https://r.example'\n").unwrap();
    let event = user.run(&["projects", "list", "--json"]).failed("BAD_REQUEST", 2);
    assert!(event["message"].as_str().unwrap().ends_with("mytunnel.toml:1: unknown key `sever`"), "{event}");
    assert_eq!(event["help"], "Did you mean `server`?");
}

#[test]
fn nothing_running_is_a_status_too() {
    let user = User::new();
    let status = user.run(&["status", "--json"]).succeeded().json();
    assert_eq!(status["tunnels"].as_array().map(Vec::len), Some(0));
    assert_eq!(status["relay"]["connected"], false);
    assert_eq!(user.run(&["status"]).succeeded().stdout, "Nothing is shared from here.\n");
}

#[test]
fn a_password_in_the_address_of_a_database_is_not_repeated() {
    for wrong in ["postgres://anna:hunter2@db.example/x?sslmode=prefer", "mysql://anna:hunter2@db.example/x"]
    {
        let event = User::new().run(&["coordinator", "--database", wrong, "--json"]).failed("BAD_REQUEST", 2);
        assert!(!event.to_string().contains("hunter2"), "{event}");
        let event = User::new()
            .run_with(&["coordinator", "--json"], &[("MYTUNNEL_DATABASE", wrong)])
            .failed("BAD_REQUEST", 2);
        assert!(
            event.to_string().contains("MYTUNNEL_DATABASE") && !event.to_string().contains("hunter2"),
            "{event}"
        );
    }
}
