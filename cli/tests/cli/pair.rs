//! Agents in one room: two users of one machine, each with a daemon of his own, over the loopback.

use std::io::Write;
use std::process::Stdio;
use std::thread;

use mytunnel_pairing::{InviteSecret, Link};
use serde_json::Value;

use crate::program::{Ended, User};

pub(crate) const LOOPBACK: (&str, &str) = ("MYTUNNEL_PAIR_LISTEN", "127.0.0.1:0");

/// A user of `mytunnel pair`.
pub(crate) struct Agent(pub(crate) User);

impl Agent {
    pub(crate) fn new() -> Self {
        Self(User::new())
    }

    pub(crate) fn user(&self) -> &User {
        &self.0
    }

    pub(crate) fn pair(&self, args: &[&str]) -> Ended {
        self.pair_with(args, &[])
    }

    pub(crate) fn pair_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ended {
        let args = [&["pair"], args, &["--json"]].concat();
        self.0.run_with(&args, &[&[LOOPBACK], env].concat())
    }

    pub(crate) fn open(&self, args: &[&str]) -> (Value, Vec<String>) {
        let opened = self.pair(&[&["open"], args].concat()).succeeded().json();
        let invites = opened["invites"].as_array().unwrap().iter();
        (opened.clone(), invites.map(|invite| invite["text"].as_str().unwrap().to_owned()).collect())
    }

    pub(crate) fn join(&self, invite: &str) -> Ended {
        self.pair_with(&["join"], &[("MYTUNNEL_PAIR_SECRET", invite)])
    }

    pub(crate) fn join_as(&self, name: &str, invite: &str) -> Ended {
        self.pair_with(&["join", "--name", name], &[("MYTUNNEL_PAIR_SECRET", invite)])
    }

    pub(crate) fn say(&self, text: &str) -> Value {
        self.pair(&["say", text]).succeeded().json()
    }

    /// Messages until there are as many, and no more than that.
    pub(crate) fn hear(&self, count: usize) -> Vec<Value> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let answer = self.pair(&["listen", "--wait", "20"]).succeeded().json();
            assert_eq!(answer["reason"], "message", "{answer} after {heard:?}");
            heard.extend(answer["messages"].as_array().unwrap().iter().cloned());
        }
        assert_eq!(heard.len(), count, "{heard:?}");
        heard
    }

    pub(crate) fn status(&self) -> Value {
        self.pair(&["status"]).succeeded().json()["sessions"][0].clone()
    }

    /// The person of this machine types words of another.
    pub(crate) fn verify(&self, words: &str) -> Ended {
        self.0.run_at_terminal(&["pair", "verify", "--json"], words)
    }

    /// What this machine shows to its person.
    pub(crate) fn words(&self) -> String {
        let shown = self.verify("").stdout;
        let (_, words) = shown.split_once("to the other person: ").unwrap_or_else(|| panic!("{shown}"));
        words.split_whitespace().next().unwrap().to_owned()
    }

    /// Waits for the end of the daemon, which locks its directory for as long as it lives.
    pub(crate) fn has_ended(&self) {
        std::fs::File::open(self.0.path("config/pair")).unwrap().lock().unwrap();
        assert!(self.is_gone());
    }

    /// What is left of the daemon in the file system.
    fn is_gone(&self) -> bool {
        !self.0.path("config/pair/daemon.sock").exists()
    }
}

pub(crate) fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["text"].as_str().unwrap()).collect()
}

#[test]
fn two_agents_open_join_say_and_listen() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (opened, invites) = host.open(&["--goal", "fix the build", "--name", "ada"]);
    assert_eq!(opened["state"], "waiting_for_guest");
    assert_eq!(opened["invites"][0]["expires_in_s"], 600);
    let joined = guest.pair_with(&["join", "--name", "bob"], &[("MYTUNNEL_PAIR_SECRET", &invites[0])]);
    let joined = joined.succeeded().json();
    assert_eq!(joined["session"], opened["session"]);
    assert_eq!(
        (joined["goal"].as_str(), joined["self"]["name"].as_str()),
        (Some("fix the build"), Some("bob"))
    );

    let said = host.say("hello");
    assert_eq!(said["delivered"][0], "bob", "{said}");
    let heard = guest.hear(1);
    assert_eq!((heard[0]["text"].as_str(), heard[0]["from"]["name"].as_str()), (Some("hello"), Some("ada")));
    assert_eq!(heard[0]["untrusted"], true);
    let said = guest.say("hello yourself");
    assert!(said["seq"].is_u64(), "{said}");
    assert_eq!(texts(&host.hear(1)), ["hello yourself"]);
    let status = guest.status();
    assert_eq!(
        (status["goal"].as_str(), status["state"].as_str()),
        (Some("fix the build"), Some("connected"))
    );
    assert_eq!((&status["can_verify"], &status["verification"]), (&true.into(), &"pending".into()));
}

#[test]
fn an_invite_works_once_and_a_damaged_one_is_told_from_a_wrong_one() {
    let (host, guest, late) = (Agent::new(), Agent::new(), Agent::new());
    let (_, invites) = host.open(&["--invites", "2"]);
    let mut wrong = invites[1].clone();
    wrong.truncate(60);
    late.join(&wrong).failed("PAIR_LINK_DAMAGED", 2);
    let mut wrong = Link::parse(&invites[0]).unwrap();
    wrong.secret = InviteSecret::from_bytes([7; 32]);
    late.join(&wrong.to_text()).failed("PAIR_REFUSED", 8);
    guest.join(&invites[0]).succeeded();
    late.join(&invites[0]).failed("PAIR_USED", 8);
    guest.pair(&["close"]).succeeded();
    late.join(&invites[0]).failed("PAIR_USED", 8);
    late.join(&invites[1]).succeeded();
    host.pair(&["close"]).succeeded();
    guest.join(&invites[0]).failed("PAIR_CLOSED", 1);
}

#[test]
fn an_invite_on_the_command_line_is_refused_and_one_that_is_piped_in_is_taken() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&[]);
    let refused = guest.pair(&["join", &invites[0]]);
    assert!(!refused.stdout.contains(&invites[0]) && !refused.stderr.contains(&invites[0]));
    refused.failed("BAD_REQUEST", 2);
    let mut command = guest.0.command(&["pair", "join", "--json"]);
    let mut child =
        command.env(LOOPBACK.0, LOOPBACK.1).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{}\n", invites[0]).as_bytes()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(host.status()["members"].as_array().unwrap().len(), 1);
}

#[test]
fn a_spoken_code_joins_with_no_link_and_three_wrong_guesses_spoil_it() {
    let (host, guest) = (Agent::new(), Agent::new());
    let join = |opened: &Value, code: &str| {
        let address = opened["addresses"][0].as_str().unwrap();
        guest.pair_with(&["join", "--addr", address], &[("MYTUNNEL_PAIR_SECRET", code)])
    };
    let (opened, codes) = host.open(&["--code", "--goal", "by word"]);
    let wrong = |code: &str| format!("{}-acid-acorn-acre", code.split('-').next().unwrap());
    join(&opened, &wrong(&codes[0])).failed("PAIR_SECRET", 8);
    join(&opened, &wrong(&codes[0])).failed("PAIR_SECRET", 8);
    let spoken = codes[0].to_uppercase().replace('-', " ");
    assert_eq!(join(&opened, &spoken).succeeded().json()["goal"], "by word");
    join(&opened, &codes[0]).failed("PAIR_SECRET", 8);
    host.pair(&["close"]).succeeded();

    let (opened, codes) = host.open(&["--code"]);
    for _ in 0..3 {
        join(&opened, &wrong(&codes[0])).failed("PAIR_SECRET", 8);
    }
    join(&opened, &codes[0]).failed("PAIR_SECRET", 8);
    let session = opened["session"].as_str().unwrap();
    let status = host.pair(&["status", "--session", session]).succeeded().json();
    assert_eq!(status["sessions"][0]["invites"][0]["state"], "burned", "{status}");
}

#[test]
fn what_keeps_guests_away_is_told_with_a_remedy() {
    let agent = Agent::new();
    let state = |checks: &Value, name: &str| {
        let of = |check: &&Value| check["name"] == name;
        checks.as_array().unwrap().iter().find(of).unwrap()["state"].as_str().unwrap().to_owned()
    };
    let told = agent.pair(&["doctor"]).succeeded().json();
    for name in ["process", "ports"] {
        assert_eq!(state(&told["checks"], name), "ok", "{told}");
    }
    for name in ["addresses", "multicast", "firewall"] {
        assert!(["ok", "warning"].contains(&state(&told["checks"], name).as_str()), "{told}");
    }
    assert_eq!(
        (state(&told["checks"], "relay"), state(&told["checks"], "clock")),
        ("skipped".into(), "skipped".into())
    );
    // Of this network, since it is for examples (RFC 5737), no machine has an address.
    let elsewhere = agent.pair_with(&["doctor"], &[("MYTUNNEL_PAIR_LISTEN", "192.0.2.1:4900")]);
    assert_ne!(elsewhere.code, Some(0), "{elsewhere:?}");
    assert!(elsewhere.stdout.contains("192.0.2.1 cannot be listened on"), "{elsewhere:?}");
    // A port that another program has is none of the process, though the rest of it listens.
    let (other, held) = (Agent::new(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let at = held.local_addr().unwrap().to_string();
    let told = other.pair_with(&["doctor"], &[("MYTUNNEL_PAIR_LISTEN", &at)]).succeeded().json();
    assert_eq!(state(&told["checks"], "ports"), "warning", "{told}");
}

#[test]
fn nothing_is_told_before_both_persons_have_compared_the_words() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&["--goal", "secret plan", "--verify", "required"]);
    let joined = guest.join(&invites[0]).succeeded().json();
    assert!(!joined.to_string().contains("secret plan"), "{joined}");
    host.pair(&["say", "x"]).failed("PAIR_UNVERIFIED", 4);
    guest.pair(&["say", "x"]).failed("PAIR_UNVERIFIED", 4);

    let (hosts, guests) = (host.words(), guest.words());
    assert_ne!(hosts, guests);
    for status in [host.status(), guest.status()] {
        assert!(!status.to_string().contains(&hosts) && !status.to_string().contains(&guests), "{status}");
    }
    // Nobody is at a terminal, and then not the other machine's.
    host.pair(&["verify"]).failed("BAD_REQUEST", 2);
    host.verify(&hosts).failed("PAIR_SAS_MISMATCH", 8);
    host.verify(&guests.replace('-', " ")).succeeded();
    host.pair(&["say", "x"]).failed("PAIR_UNVERIFIED", 4);
    guest.verify(&hosts).succeeded();
    let followed = guest.0.start_with(&["pair", "listen", "--follow", "--json"], &[LOOPBACK]);
    let said = loop {
        // The host learns of it by a message of its own.
        let ended = host.pair(&["say", "at last"]);
        if ended.code == Some(0) {
            break ended.json();
        }
    };
    assert_eq!(said["delivered"].as_array().unwrap().len(), 1);
    let mut followed = followed;
    let heard: Value = serde_json::from_str(&followed.line()).unwrap();
    assert_eq!(heard["messages"][0]["text"], "at last");
    assert_eq!(heard["messages"][0]["from"]["verified"], true);
    assert_eq!(guest.status()["goal"], "secret plan");
}

#[test]
fn a_pending_listen_learns_at_once_that_the_session_is_closed() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&[]);
    guest.join(&invites[0]).succeeded();
    let mut listening = guest.0.start_with(&["pair", "listen", "--wait", "25", "--json"], &[LOOPBACK]);
    host.pair(&["close"]).succeeded();
    let heard: Value = serde_json::from_str(&listening.line()).unwrap();
    assert_eq!(heard["reason"], "closed");
    assert_eq!(heard["closed"], "closed by the host");
    host.pair(&["say", "x"]).failed("PAIR_CLOSED", 1);
}

#[test]
fn what_was_said_before_the_end_waits_until_it_is_read_and_so_does_the_end() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&[]);
    guest.join(&invites[0]).succeeded();
    host.say("the summary");
    host.pair(&["close"]).succeeded();
    // Twice as long as a daemon without anything to do stays.
    host.has_ended();
    host.open(&[]);
    host.pair(&["close"]).succeeded();
    host.has_ended();
    assert_eq!(texts(&guest.hear(1)), ["the summary"]);
    let heard = guest.pair(&["listen"]).succeeded().json();
    assert_eq!((&heard["reason"], &heard["closed"]), (&"closed".into(), &"closed by the host".into()));
    guest.has_ended();
}

#[test]
fn what_did_not_arrive_is_given_again_and_each_reader_has_a_place() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&[]);
    guest.join(&invites[0]).succeeded();
    let mut deaf = guest.0.command(&["pair", "listen", "--wait", "20", "--json"]);
    let mut deaf = deaf.stdout(Stdio::piped()).spawn().unwrap();
    drop(deaf.stdout.take());
    host.say("lost?");
    deaf.wait().unwrap();
    assert_eq!(guest.status()["unread"], 1);
    assert_eq!(texts(&guest.hear(1)), ["lost?"]);
    assert_eq!(guest.status()["unread"], 0);
    let other = guest.pair(&["listen", "--reader", "other"]).succeeded().json();
    assert_eq!(other["messages"][0]["text"], "lost?");
}

#[test]
fn who_names_no_session_never_speaks_to_others_than_a_moment_ago() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (opened, invites) = host.open(&[]);
    guest.join(&invites[0]).succeeded();
    let (own, _) = guest.open(&[]);
    guest.pair(&["say", "to whom?"]).failed("BAD_REQUEST", 2);
    host.pair(&["close"]).succeeded();
    let session = opened["session"].as_str().unwrap();
    let heard = guest.pair(&["listen", "--session", session, "--since", "0"]).succeeded().json();
    assert_eq!(heard["closed"], "closed by the host");
    guest.pair(&["say", "to whom?"]).failed("BAD_REQUEST", 2);
    guest.pair(&["listen", "--session", session]).succeeded();
    assert_eq!(guest.say("to my own")["session"], own["session"]);
}

#[test]
fn two_hundred_from_both_sides_at_once_arrive_in_one_order() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&[]);
    guest.join(&invites[0]).succeeded();
    thread::scope(|scope| {
        for agent in [&host, &guest] {
            scope.spawn(move || {
                for count in 0..100 {
                    agent.say(&format!("{count}"));
                }
            });
        }
    });
    let log = |agent: &Agent| -> Vec<(u64, String)> {
        let ended = agent.pair(&["log"]).succeeded();
        let lines = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let entry = |message: &Value| {
            (message["seq"].as_u64().unwrap(), message["text"].as_str().unwrap().to_owned())
        };
        lines
            .flat_map(|line| line["messages"].as_array().unwrap().iter().map(entry).collect::<Vec<_>>())
            .collect()
    };
    // What the guest has heard so far may be a message behind the host.
    let told = log(&host);
    assert_eq!(told.len(), 200);
    guest.hear(100);
    assert_eq!(log(&guest), told);
}

#[test]
fn a_guest_may_demand_that_words_are_compared_though_the_host_does_not() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&["--goal", "fix the build", "--verify", "off"]);
    let joined = guest.pair_with(&["join", "--verify", "required"], &[("MYTUNNEL_PAIR_SECRET", &invites[0])]);
    let joined = joined.succeeded().json();
    assert_eq!((&joined["state"], &joined["verify"]), (&"unverified".into(), &"required".into()));
    assert_eq!((&joined["goal"], &joined["verification"]), (&"".into(), &"pending".into()));
    guest.pair(&["say", "too early"]).failed("PAIR_UNVERIFIED", 4);
}

#[test]
fn a_record_that_was_exported_holds_until_it_is_touched() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&[]);
    guest.join(&invites[0]).succeeded();
    guest.say("one");
    host.say("two");
    let record = host.pair(&["export"]).succeeded().json();
    let check = |record: &Value| {
        let file = host.0.path("record.json");
        std::fs::write(&file, record.to_string()).unwrap();
        host.pair(&["verify-log", file.to_str().unwrap()])
    };
    assert_eq!(check(&record).succeeded().json()["verified"], true);
    let mut blanked = record.clone();
    blanked["entries"][2]["envelope"] = Value::Null;
    let trouble = check(&blanked).failed("PAIR_FORK", 1);
    assert!(trouble["message"].as_str().unwrap().contains("entry 3"), "{trouble}");
    let mut cut = record.clone();
    cut["entries"].as_array_mut().unwrap().pop();
    let last = cut["last"].as_u64().unwrap();
    cut["last"] = (last - 1).into();
    let trouble = check(&cut).failed("PAIR_FORK", 1);
    assert!(trouble["message"].as_str().unwrap().contains(&format!("entry {last}")), "{trouble}");
    let mut dropped = record.clone();
    dropped["entries"].as_array_mut().unwrap().remove(2);
    let trouble = check(&dropped).failed("PAIR_FORK", 1);
    assert!(trouble["message"].as_str().unwrap().contains("entry 3"), "{trouble}");
    let mut swapped = record.clone();
    swapped["entries"].as_array_mut().unwrap().swap(2, 3);
    check(&swapped).failed("PAIR_FORK", 1);
    let mut cut = record.clone();
    cut["entries"].as_array_mut().unwrap().pop();
    check(&cut).failed("PAIR_FORK", 1);
}

#[test]
fn the_daemon_ends_by_itself_and_leaves_nothing() {
    let host = Agent::new();
    host.open(&[]);
    assert!(!host.is_gone());
    host.pair(&["close"]).succeeded();
    host.has_ended();
}

#[test]
fn a_daemon_that_is_started_keeps_nothing_of_the_environment_but_where_it_listens() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&[]);
    guest.join(&invites[0]).succeeded();
    let (text, path) = guest.0.daemon().unwrap();
    let mut names: Vec<_> =
        text.split_terminator('\0').filter_map(|one| Some(one.split_once('=')?.0)).collect();
    names.retain(|name| *name != "MYTUNNEL_LOG" && *name != "TMPDIR");
    names.sort_unstable();
    assert_eq!(names, ["MYTUNNEL_CONFIG_DIR", "MYTUNNEL_PAIR_LISTEN"]);
    assert_eq!(std::fs::read_link(path.join("cwd")).unwrap(), std::path::Path::new("/"));
}

#[test]
fn a_folder_that_others_may_use_holds_no_socket() {
    use std::os::unix::fs::PermissionsExt;

    let host = Agent::new();
    let dir = host.0.path("config/pair");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    let trouble = host.pair(&["open"]).failed("INTERNAL", 1);
    assert!(trouble["message"].as_str().unwrap().contains("chmod 700"), "{trouble}");
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    host.open(&[]);
}

#[test]
fn a_daemon_that_is_told_to_stop_says_goodbye_and_leaves_nothing() {
    let (host, guest) = (Agent::new(), Agent::new());
    let mut daemon = host.0.start_with(&["pair", "daemon", "--json", "--linger", "600"], &[LOOPBACK]);
    assert!(daemon.line().contains("ready"));
    let (_, invites) = host.open(&[]);
    guest.join(&invites[0]).succeeded();
    let mut listening = guest.0.start_with(&["pair", "listen", "--wait", "25", "--json"], &[LOOPBACK]);
    daemon.signal("TERM").succeeded();
    assert!(host.is_gone());
    let heard: Value = serde_json::from_str(&listening.line()).unwrap();
    assert_eq!(heard["closed"], "the host's program was stopped");
}
