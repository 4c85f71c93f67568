//! A relay that reads its file of settings again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::program::User;
use crate::relay::ANY;

/// The status of the answer to a request whose head is somewhat longer than so many bytes.
fn status(http: &str, head: usize) -> String {
    let mut stream = TcpStream::connect(http).unwrap();
    let filler = "x".repeat(head);
    let request =
        format!("GET / HTTP/1.1\r\nhost: none.localhost\r\nx-filler: {filler}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_running_relay_takes_a_new_file_and_no_broken_one() {
    let user = User::new();
    let file = user.path("relay.toml");
    let (path, data) = (file.to_str().unwrap(), user.path("data"));
    let write = |limits: &str| {
        let data = data.display();
        let start = format!("data = '{data}'\nhttp = '{ANY}'\nhttps = '{ANY}'\np2p = '{ANY}'\n");
        std::fs::write(path, start + limits).unwrap();
    };
    write("[limits]\nhead_bytes = 8192\n");
    let mut relay = user.start(&["relay", "--json", "--config", path]);
    let ready = relay.event("ready");
    let http = ready["http"].as_str().unwrap();
    assert_eq!((status(http, 6000), status(http, 12_000)), ("404".to_owned(), "431".to_owned()));

    write("domain = 'localhost'\n[limits]\nhead_bytes = 32768\nnodes = 9\n[prices]\ngib = 7\n");
    relay.send("HUP");
    let event = relay.event("reloaded");
    assert_eq!(event["applied"], serde_json::json!(["limits", "prices"]), "{event}");
    assert_eq!(event["needs_restart"], serde_json::json!(["domain", "limits.nodes"]), "{event}");
    // The relay takes what it was sent before the next connection, or soon after: both are a connection's terms.
    while status(http, 12_000) != "404" {}

    write("[limits]\nhead_bytes = 4096\nhead_fieldz = 5\n");
    relay.send("HUP");
    let event = relay.event("reload_failed");
    assert!(
        event["message"].as_str().unwrap().contains("relay.toml:7: unknown key `head_fieldz`"),
        "{event}"
    );
    assert_eq!(event["help"], "Did you mean `head_fields`?", "{event}");
    assert_eq!(status(http, 12_000), "404", "everything is as it was");
    relay.signal("TERM").succeeded();
}
