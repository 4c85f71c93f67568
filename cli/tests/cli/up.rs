//! Several tunnels from a file.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::program::{Running, User};
use crate::share::visit;

/// A user with a folder for each name, whose index says it, and a file of tunnels.
fn user(folders: &[&str], file: &str) -> User {
    let user = User::new();
    for folder in folders {
        std::fs::create_dir_all(user.path(folder)).unwrap();
        std::fs::write(user.path(folder).join("index.html"), format!("this is {folder}")).unwrap();
    }
    write(&user, file);
    user
}

fn write(user: &User, file: &str) {
    // As editors do: whoever looks sees the old one or the new one.
    std::fs::write(user.path("new"), file).unwrap();
    std::fs::rename(user.path("new"), user.path("mytunnel.toml")).unwrap();
}

/// URLs of so many tunnels by their names.
fn ready(up: &mut Running, count: usize) -> std::collections::BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (0..count)
        .map(|_| {
            let ready = up.event("ready");
            (text(&ready["name"]), text(&ready["url"]))
        })
        .collect()
}

const TWO: &str = "[[tunnel]]\nname = 'one'\ntarget = 'one'\n\n[[tunnel]]\nname = 'two'\ntarget = 'two'\n";

#[test]
fn urls_stand_alone_on_stdout_and_a_table_on_stderr() {
    let user = user(&["one", "two"], TWO);
    let mut up = user.start(&["up"]);
    let urls = [up.line(), up.line()];
    for name in ["one", "two"] {
        let url = urls.iter().find(|url| url.starts_with(&format!("http://{name}.localhost:"))).unwrap();
        let (status, answer) = visit(url);
        assert!(status == 200 && answer.ends_with(&format!("this is {name}")), "{answer}");
    }
    let status = user.run(&["status", "--json"]).succeeded().json();
    assert_eq!(status["tunnels"].as_array().map(Vec::len), Some(2), "{status}");
    let ended = up.signal("INT").succeeded();
    assert_eq!(ended.stdout, "");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines[0], "No relay is set up: running one here, for visitors on this machine.");
    assert!(
        lines[1].starts_with("NAME") && lines[1].contains("URL") && lines[1].ends_with("TARGET"),
        "{ended:?}"
    );
    assert!(
        lines[2].starts_with("one") && lines[2].contains("http://one.") && lines[2].ends_with("/one"),
        "{ended:?}"
    );
    assert!(lines[4].starts_with("Following /") && lines.len() == 5, "{ended:?}");
}

#[test]
fn a_change_of_the_file_touches_only_those_it_speaks_of() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = format!("[[tunnel]]\nname = 'held'\ntarget = {}\n", server.local_addr().unwrap().port());
    let user = user(&["one", "two", "three"], &format!("{held}{TWO}"));
    let mut up = user.start(&["up", "--json"]);
    let urls = ready(&mut up, 3);

    // A visitor in the middle of an answer.
    let authority = urls["held"].strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
    let port = authority.rsplit_once(':').unwrap().1;
    let mut visitor = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    write!(visitor, "GET / HTTP/1.1\r\nhost: {authority}\r\n\r\n").unwrap();
    let mut origin = loop {
        // Whoever only looked whether anything listens has said nothing.
        let (mut stream, _) = server.accept().unwrap();
        if stream.read(&mut [0; 1024]).unwrap() > 0 {
            break stream;
        }
    };
    origin.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"first") {
        let mut some = [0; 512];
        let count = visitor.read(&mut some).unwrap();
        assert!(count > 0, "{seen:?}");
        seen.extend_from_slice(&some[..count]);
    }

    // One is gone, one leads elsewhere, one is new.
    write(
        &user,
        &format!(
            "{held}[[tunnel]]\nname = 'two'\ntarget = 'three'\n[[tunnel]]\nname = 'new'\ntarget = 'one'\n"
        ),
    );
    let reloaded = up.event("reloaded");
    assert_eq!(
        reloaded,
        json!({"event": "reloaded", "started": ["new"], "restarted": ["two"], "gates": [], "ended": ["one"], "needs_restart": []})
    );
    let after = ready(&mut up, 2);
    assert_eq!(after["two"], urls["two"], "it keeps its name");
    assert!(visit(&after["two"]).1.ends_with("this is three"));
    assert!(visit(&after["new"]).1.ends_with("this is one"));
    assert_eq!(visit(&urls["one"]).0, 503, "its node gave it back");

    origin.write_all(b"after").unwrap();
    let mut rest = [0; 5];
    visitor.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"after", "who was not touched goes on");
    drop((visitor, origin));
    up.signal("TERM").succeeded();
}

#[test]
fn a_broken_file_changes_nothing_and_is_named() {
    let user = user(&["one", "two"], TWO);
    let mut up = user.start(&["up", "--json"]);
    let urls = ready(&mut up, 2);
    for (file, message, help) in [
        ("[[tunnel]]\ntagret = 'one'\n", "mytunnel.toml:2: unknown key `tagret`", "Did you mean `target`?"),
        ("", "there is no tunnel", "[[tunnel]]"),
        ("[[tunnel]]\ntarget = 'nowhere'\n", "tunnel `nowhere`: ", "Check the path"),
        (&format!("{TWO}{TWO}"), "two tunnels are `one`; two tunnels are `two`", "--check"),
    ] {
        write(&user, file);
        up.send("HUP");
        let failed = up.event("reload_failed");
        assert!(failed["message"].as_str().unwrap().contains(message), "{failed}");
        assert!(failed["help"].as_str().unwrap().contains(help), "{failed}");
    }
    assert_eq!((visit(&urls["one"]).0, visit(&urls["two"]).0), (200, 200));
    write(&user, TWO);
    up.send("HUP");
    assert_eq!(up.event("reloaded")["started"], json!([]));
    up.signal("TERM").succeeded();
}

#[test]
fn gates_come_and_go_without_a_new_connection() {
    let user = user(&["one"], "[[tunnel]]\nname = 'one'\ntarget = 'one'\n");
    let mut up = user.start(&["up", "--json"]);
    let url = ready(&mut up, 1).remove("one").unwrap();
    assert_eq!(visit(&url).0, 200);

    std::fs::write(user.path("password"), "correct horse battery staple\n").unwrap();
    let gated = "[[tunnel]]\nname = 'one'\ntarget = 'one'\nbasic = { user = 'ann', password = { file = 'password' } }\n";
    write(&user, gated);
    assert_eq!(up.event("reloaded")["gates"], json!(["one"]));
    assert_eq!(up.event("gates")["name"], "one");
    assert_eq!(visit(&url).0, 401);

    write(&user, &gated.replace("basic = ", "#"));
    assert_eq!(up.event("reloaded")["gates"], json!(["one"]));
    up.event("gates");
    assert_eq!(visit(&url).0, 200);

    write(&user, "[[tunnel]]\nname = 'one'\ntarget = 'one'\npin = true\n");
    up.event("reloaded");
    assert_eq!(up.event("gates")["pin"].as_str().map(str::len), Some(6));
    assert_ne!(visit(&url).0, 200);
    up.signal("TERM").succeeded();
}

#[test]
fn a_file_is_checked_whole_without_being_shared() {
    let user = user(
        &["one"],
        "[[tunnel]]\nname = 'one'\ntarget = 'one'\npin = true\n[[tunnel]]\nkind = 'tcp'\ntarget = 5432\n",
    );
    let checked = user.run(&["up", "--check", "--json"]).succeeded().json();
    assert_eq!(
        (&checked["ok"], &checked["tunnels"][0]["gates"]),
        (&json!(true), &json!(["pin"])),
        "{checked}"
    );
    assert_eq!(checked["tunnels"][1]["target"], "localhost:5432", "{checked}");
    let text = user.run(&["up", "--check"]).succeeded();
    assert!(text.stdout.contains("tcp 5432") && text.stderr.ends_with("is right.\n"), "{text:?}");

    write(&user, "[[tunnel]]\ntarget = 'nowhere'\n[[tunnel]]\nkind = 'udp'\ntarget = 53\npin = true\n");
    let wrong = user.run(&["up", "--check", "--json"]);
    let report: Value = serde_json::from_str(wrong.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(2), "{report}");
    wrong.failed("BAD_REQUEST", 2);
    let text = user.run(&["up", "--check"]);
    assert!(text.stderr.contains("`pin` means nothing for kind = \"udp\""), "{text:?}");

    let missing = user.run(&["up", "-f", "elsewhere.toml", "--json"]).failed("BAD_REQUEST", 2);
    assert!(missing["help"].as_str().unwrap().contains("mytunnel up -f FILE"), "{missing}");
}

#[test]
fn paths_are_beside_the_file_wherever_it_is_started() {
    let user = user(&["app", "app/site"], "");
    std::fs::write(user.path("app/tunnels.toml"), "[[tunnel]]\nname = 'app'\ntarget = 'site'\n").unwrap();
    let mut up = user.start_with(&["up", "-f", "app/tunnels.toml"], &[("MYTUNNEL_CONFIG_DIR", "config")]);
    assert!(visit(&up.line()).1.ends_with("this is app/site"));
    up.signal("TERM").succeeded();
    assert!(user.path("config").is_dir() && !user.path("app/config").exists());
}
