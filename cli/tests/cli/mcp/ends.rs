//! How servers end, and what they leave.

use std::fs;
use std::time::{Duration, Instant};

use super::*;

/// How long the process that holds sessions may stay, which lingers for a while.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an agent that waits for its server to end takes for a hang.
const SOON: Duration = Duration::from_secs(10);

/// What is left of sessions and of the process that held them, once that has ended.
fn left(user: &User) -> Vec<String> {
    if let Some(process) = user.daemon().and_then(|(_, path)| Some(path.file_name()?.to_str()?.to_owned())) {
        let within = PATIENCE.as_secs().to_string();
        let wait = ["--foreground", &within, "tail", "--pid", &process, "-f", "/dev/null"];
        assert!(Command::new("timeout").args(wait).status().unwrap().success(), "{process} goes on");
    }
    let names = fs::read_dir(user.path("config/pair")).unwrap();
    names.map(|entry| entry.unwrap().path().display().to_string()).collect()
}

#[test]
fn an_agent_that_goes_when_its_session_is_over_leaves_nothing() {
    let mut agent = Agent::new(&[]);
    agent.call("pair_open", &json!({ "goal": "x" }));
    assert!(agent.user.daemon().is_some());
    agent.call("pair_close", &json!({}));
    agent.stop();
    assert_eq!(left(&agent.user), Vec::<String>::new());
}

#[test]
fn a_server_that_is_told_to_stop_while_it_listens_ends_at_once_and_its_session_lives() {
    let (mut host, mut guest) = (Agent::new(&[]), Agent::new(&[]));
    let opened = host.call("pair_open", &json!({ "goal": "x" }));
    guest.call("pair_join", &json!({ "secret": opened["invites"][0]["text"] }));
    guest.server().begin_to_listen();
    let Some(Server { mut child, input, .. }) = guest.server.take() else { unreachable!() };
    let (begun, process) = (Instant::now(), child.id().to_string());
    assert!(Command::new("kill").args(["-s", "TERM", &process]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    drop(input);

    guest.start(&[]);
    host.call("pair_say", &json!({ "text": "still there?" }));
    assert_eq!(guest.call("pair_listen", &json!({}))["messages"][0]["text"], "still there?");
    host.call("pair_close", &json!({}));
    let ended = guest.call("pair_listen", &json!({}));
    assert_eq!(ended["reason"], "closed", "{ended}");
    for agent in [&mut host, &mut guest] {
        agent.stop();
        assert_eq!(left(&agent.user), Vec::<String>::new());
    }
}
