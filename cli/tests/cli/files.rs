//! Files between agents: offered, received, refused, and gone on with.

mod large;
mod road;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

use self::road::Road;
use crate::pair::{Agent, LOOPBACK};
use crate::program::Ended;

const PIECE: usize = 256 * 1024;

/// What an agent does with the files of its project.
pub(crate) trait Files {
    fn project(&self) -> PathBuf;
    fn run_there(&self, args: &[&str]) -> Ended;
    fn inbox(&self) -> PathBuf;
    fn write(&self, name: &str, content: &[u8]) -> String;
    fn share(&self, path: &str) -> Value;
    fn receive(&self, offer: &Value) -> Value;
}

impl Files for Agent {
    fn project(&self) -> PathBuf {
        let project = self.0.path("project");
        fs::create_dir_all(&project).unwrap();
        project
    }

    fn run_there(&self, args: &[&str]) -> Ended {
        let mut command = self.0.command(&[&["pair"], args, &["--json"]].concat());
        let output = command.env(LOOPBACK.0, LOOPBACK.1).current_dir(self.project()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn inbox(&self) -> PathBuf {
        self.0.path(".local/share/mytunnel/inbox")
    }

    fn write(&self, name: &str, content: &[u8]) -> String {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn share(&self, path: &str) -> Value {
        let shared = self.run_there(&["share", path]).succeeded().json();
        assert!(shared["offer"].is_u64(), "{shared}");
        shared
    }

    fn receive(&self, offer: &Value) -> Value {
        self.run_there(&["receive", &offer.to_string()]).succeeded().json()
    }
}

/// Two in one session.
fn pair() -> (Agent, Agent) {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&["--name", "ada"]);
    guest.join_as("bob", &invites[0]).succeeded();
    (host, guest)
}

/// Bytes that no two pieces share.
fn content(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..size.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(size).collect()
}

fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Waits until this is so; a limit far above what it takes.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
    }
}

fn has_offer(agent: &Agent, offer: &Value) -> bool {
    let offers = agent.run_there(&["offers"]).succeeded().json();
    offers["offers"].as_array().unwrap().iter().any(|one| one["offer"] == *offer)
}

#[test]
fn a_file_that_is_shared_is_offered_and_received_as_it_is_both_ways() {
    let (host, guest) = pair();
    for (from, to, name, size) in
        [(&host, &guest, "ada", 5 * PIECE + 123), (&guest, &host, "bob", 10), (&host, &guest, "ada", 0)]
    {
        let bytes = content(size);
        from.write("out/build log.txt", &bytes);
        let shared = from.share("out/build log.txt");
        assert_eq!((&shared["size"], &shared["media"]), (&size.into(), &"text/plain".into()));
        assert_eq!(shared["sha256"], sha256(&bytes));
        until("it is offered", || has_offer(to, &shared["offer"]));
        let offers = to.run_there(&["offers"]).succeeded().json();
        let offer = offers["offers"].as_array().unwrap().last().unwrap();
        assert_eq!((&offer["state"], &offer["untrusted"]), (&"offered".into(), &true.into()));
        assert_eq!(
            (offer["from"]["name"].as_str(), offer["name"].as_str()),
            (Some(name), Some("build log.txt"))
        );
        let received = to.receive(&shared["offer"]);
        assert_eq!((&received["state"], &received["sha256"]), (&"received".into(), &shared["sha256"]));
        let path = PathBuf::from(received["path"].as_str().unwrap());
        let session = shared["session"].as_str().unwrap();
        assert_eq!(path, to.inbox().join(session).join(format!("{}-build log.txt", shared["offer"])));
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Once more is the same, and nothing is left on the way.
        assert_eq!(to.receive(&shared["offer"])["path"], received["path"]);
        assert_eq!(fs::read_dir(to.inbox().join(".parts")).unwrap().count(), 0);
    }
    // The offer is heard like everything that is said.
    let heard = guest.pair(&["listen", "--since", "0"]).succeeded().json();
    let said = &heard["messages"].as_array().unwrap()[0];
    assert_eq!((&said["kind"], &said["data"]["file"]["name"]), (&"offer".into(), &"build log.txt".into()));
}

#[test]
fn everybody_in_a_room_can_receive_what_a_guest_offers_and_what_is_for_one_only_that_one() {
    let [host, bob, cy] = [(); 3].map(|()| Agent::new());
    let (_, invites) = host.open(&["--name", "ada", "--invites", "2"]);
    bob.join_as("bob", &invites[0]).succeeded();
    cy.join_as("cy", &invites[1]).succeeded();
    let bytes = content(3 * PIECE + 1);
    bob.write("notes.bin", &bytes);
    let shared = bob.share("notes.bin");
    for agent in [&cy, &host] {
        until("it is offered", || has_offer(agent, &shared["offer"]));
        let received = agent.receive(&shared["offer"]);
        assert_eq!(received["sha256"], sha256(&bytes));
        assert_eq!(fs::read(received["path"].as_str().unwrap()).unwrap(), bytes);
    }
    host.write("private.txt", b"for bob");
    let private = host.run_there(&["share", "private.txt", "--to", "bob"]).succeeded().json();
    until("it is offered", || has_offer(&bob, &private["offer"]));
    assert_eq!(bob.receive(&private["offer"])["state"], "received");
    assert!(!has_offer(&cy, &private["offer"]));
    cy.run_there(&["receive", &private["offer"].to_string()]).failed("NOT_FOUND", 1);
    bob.run_there(&["receive", &shared["offer"].to_string()]).failed("BAD_REQUEST", 2);
    // Who has left offers nothing any more.
    bob.pair(&["close"]).succeeded();
    until("bob has left", || host.status()["members"].as_array().unwrap().len() == 1);
    fs::remove_dir_all(cy.inbox()).unwrap();
    cy.run_there(&["receive", &shared["offer"].to_string()]).failed("PAIR_PEER_OFFLINE", 6);
}

#[test]
fn keys_and_what_lies_elsewhere_stay_here_unless_a_person_says_otherwise() {
    let (host, guest) = pair();
    host.write(".env", b"TOKEN=1");
    host.write("server.key", b"x");
    host.write("sub/.ssh/config", b"x");
    let outside = host.0.path("outside.txt");
    fs::write(&outside, "not work").unwrap();
    symlink(&outside, host.project().join("link.txt")).unwrap();
    symlink(".env", host.project().join("settings.txt")).unwrap();
    symlink("..", host.project().join("up")).unwrap();
    let outside = outside.to_str().unwrap();
    let denied = [
        ".env",
        "server.key",
        "sub/.ssh/config",
        "link.txt",
        "settings.txt",
        "up/outside.txt",
        "../outside.txt",
        outside,
    ];
    for path in denied {
        host.run_there(&["share", path]).failed("PAIR_PATH_DENIED", 4);
    }
    host.write("notes.md", b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz");
    host.run_there(&["share", "notes.md"]).failed("PAIR_NEEDS_APPROVAL", 4);
    host.run_there(&["share", "absent.txt"]).failed("NOT_FOUND", 1);
    host.write("large.bin", &content(2048));
    host.run_there(&["share", "--max-size", "2047", "large.bin"]).failed("PAIR_TOO_LARGE", 1);
    // In all of a home nobody works.
    host.pair(&["share", "outside.txt"]).failed("PAIR_PATH_DENIED", 4);
    host.run_there(&["share", "--anyway", outside]).failed("PAIR_NEEDS_APPROVAL", 4);
    assert_eq!(host.status()["offers"], Value::Array(Vec::new()));
    let shared =
        host.0.run_at_terminal(&["pair", "share", "--anyway", "--json", outside], "").succeeded().json();
    until("it is offered", || has_offer(&guest, &shared["offer"]));
    let offer = shared["offer"].to_string();
    guest.run_there(&["receive", "--max-size", "7", &offer]).failed("PAIR_TOO_LARGE", 1);
    guest.run_there(&["receive", "--into", "elsewhere", &offer]).failed("PAIR_NEEDS_APPROVAL", 4);
    assert_eq!(guest.receive(&shared["offer"])["size"], 8);
    let into = ["pair", "receive", "--into", "elsewhere", "--json", &offer];
    fs::remove_dir_all(guest.inbox()).unwrap();
    guest.0.run_at_terminal(&into, "").succeeded();
    assert!(guest.0.path("elsewhere").is_dir());
    let said = guest.run_there(&["say", "x", "--kind", "offer", "--data", r#"{"file":{"name":"x"}}"#]);
    assert_eq!(said.failed("BAD_REQUEST", 2)["event"], "error");
}

#[test]
fn a_file_that_was_shared_by_mistake_is_withdrawn() {
    let (host, guest) = pair();
    for (from, to) in [(&host, &guest), (&guest, &host)] {
        from.write("wrong.txt", b"not this one");
        let shared = from.share("wrong.txt");
        let offer = shared["offer"].to_string();
        until("it is offered", || has_offer(to, &shared["offer"]));
        to.run_there(&["share", "--withdraw", &offer]).failed("NOT_FOUND", 1);
        let withdrawn = from.run_there(&["share", "--withdraw", &offer]).succeeded().json();
        assert_eq!((&withdrawn["offer"], &withdrawn["state"]), (&shared["offer"], &"gone".into()));
        to.run_there(&["receive", &offer]).failed("NOT_FOUND", 1);
        from.run_there(&["share", "--withdraw", &offer]).succeeded();
    }
    host.run_there(&["share"]).failed("BAD_REQUEST", 2);
    host.run_there(&["share", "--withdraw", "1", "wrong.txt"]).failed("BAD_REQUEST", 2);
}

#[test]
fn what_is_in_the_inbox_stays_and_links_there_lead_nowhere() {
    let (host, guest) = pair();
    host.write("a.txt", b"theirs");
    let shared = host.share("a.txt");
    until("it is offered", || has_offer(&guest, &shared["offer"]));
    let folder = guest.inbox().join(shared["session"].as_str().unwrap());
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(guest.inbox(), fs::Permissions::from_mode(0o700)).unwrap();
    let place = folder.join(format!("{}-a.txt", shared["offer"]));
    let offer = shared["offer"].to_string();
    fs::write(&place, "mine").unwrap();
    guest.run_there(&["receive", &offer]).failed("PAIR_EXISTS", 1);
    assert_eq!(fs::read(&place).unwrap(), b"mine");
    let mine = guest.0.path("mine.txt");
    fs::remove_file(&place).unwrap();
    symlink(&mine, &place).unwrap();
    guest.run_there(&["receive", &offer]).failed("PAIR_EXISTS", 1);
    assert!(!mine.exists());
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(guest.0.path("elsewhere")).unwrap();
    symlink(guest.0.path("elsewhere"), &folder).unwrap();
    guest.run_there(&["receive", &offer]).failed("INTERNAL", 1);
    assert_eq!(fs::read_dir(guest.0.path("elsewhere")).unwrap().count(), 0);
    fs::remove_file(&folder).unwrap();
    assert_eq!(guest.receive(&shared["offer"])["state"], "received");
}

#[test]
fn a_file_that_was_changed_since_is_not_received_under_its_name() {
    let (host, guest) = pair();
    host.write("a.bin", &content(3 * PIECE));
    let shared = host.share("a.bin");
    until("it is offered", || has_offer(&guest, &shared["offer"]));
    let mut file = fs::OpenOptions::new().write(true).open(host.project().join("a.bin")).unwrap();
    file.write_all(b"something else").unwrap();
    let offer = shared["offer"].to_string();
    let trouble = guest.run_there(&["receive", &offer]).failed("PAIR_HASH", 1);
    assert!(trouble["help"].as_str().unwrap().contains("share it again"), "{trouble}");
    let names: Vec<_> = walk(&guest.inbox()).into_iter().filter(|path| !is_part(path)).collect();
    assert!(names.is_empty(), "{names:?}");
    let again = host.share("a.bin");
    until("it is offered", || has_offer(&guest, &again["offer"]));
    assert_eq!(guest.receive(&again["offer"])["sha256"], again["sha256"]);
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let of =
        |entry: &fs::DirEntry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] };
    entries.iter().flat_map(of).collect()
}

fn is_part(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with(".parts"))
}

#[test]
fn a_file_whose_connection_is_lost_half_way_goes_on_where_it_was() {
    let (host, guest, road) = (Agent::new(), Agent::new(), Arc::new(Road::default()));
    let (_, invites) = host.open(&[]);
    guest.join(&road.through(&invites[0])).succeeded();
    let bytes = content(40 * PIECE);
    host.write("long.bin", &bytes);
    let shared = host.share("long.bin");
    until("it is offered", || has_offer(&guest, &shared["offer"]));
    let offer = shared["offer"].to_string();
    road.grant(20 * PIECE as u64);
    let receiving = guest.0.start_with(&["pair", "receive", &offer, "--json"], &[LOOPBACK]);
    until("half of it has come", || {
        let offers = guest.run_there(&["offers"]).succeeded().json();
        offers["offers"][0]["received"].as_u64() > Some(10 * PIECE as u64)
    });
    road.stop_after(0, true);
    road.grant(u64::MAX);
    receiving.ended().failed("PAIR_PEER_OFFLINE", 6);
    let offers = guest.run_there(&["offers"]).succeeded().json();
    assert_eq!(offers["offers"][0]["state"], "failed", "{offers}");
    road.open();
    until("the session is back", || guest.status()["state"] == "connected");
    let before = road.passed();
    let received = guest.receive(&shared["offer"]);
    assert_eq!((&received["state"], &received["sha256"]), (&"received".into(), &sha256(&bytes).into()));
    assert_eq!(fs::read(received["path"].as_str().unwrap()).unwrap(), bytes);
    let second = road.passed() - before;
    assert!(second < 30 * PIECE as u64, "{second} bytes for what was missing");
}

#[test]
fn a_file_whose_receiver_is_killed_half_way_goes_on_in_another_session() {
    let (host, guest, road) = (Agent::new(), Agent::new(), Arc::new(Road::default()));
    let mut daemon = guest.0.start_with(&["pair", "daemon", "--json", "--linger", "600"], &[LOOPBACK]);
    assert!(daemon.line().contains("ready"));
    let (_, invites) = host.open(&["--invites", "2"]);
    guest.join(&road.through(&invites[0])).succeeded();
    let bytes = content(40 * PIECE);
    host.write("long.bin", &bytes);
    let shared = host.share("long.bin");
    until("it is offered", || has_offer(&guest, &shared["offer"]));
    road.stop_after(20 * PIECE as u64, false);
    let offer = shared["offer"].to_string();
    let receiving = guest.0.start_with(&["pair", "receive", &offer, "--json"], &[LOOPBACK]);
    let far = 10 * PIECE as u64;
    until("half of it has come", || {
        let offers = guest.run_there(&["offers"]).succeeded().json();
        offers["offers"][0]["received"].as_u64().is_some_and(|received| received > far)
    });
    daemon.signal("KILL");
    receiving.ended();
    road.open();
    guest.join(&road.through(&invites[1])).succeeded();
    let again = host.share("long.bin");
    until("it is offered", || has_offer(&guest, &again["offer"]));
    let before = road.passed();
    let received = guest.receive(&again["offer"]);
    assert_eq!(received["sha256"], sha256(&bytes));
    assert_eq!(fs::read(received["path"].as_str().unwrap()).unwrap(), bytes);
    let second = road.passed() - before;
    assert!(second < 32 * PIECE as u64, "{second} bytes for what was missing");
    let names: BTreeSet<_> = walk(&guest.inbox()).into_iter().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn in_a_session_that_is_kept_a_file_goes_on_after_a_restart_and_offers_of_the_program_before_are_gone() {
    let (host, guest, road) = (Agent::new(), Agent::new(), Arc::new(Road::default()));
    let daemon = |agent: &Agent| {
        let mut daemon = agent.0.start_with(&["pair", "daemon", "--json", "--linger", "600"], &[LOOPBACK]);
        assert!(daemon.line().contains("ready"));
        daemon
    };
    let (hosts, guests) = (daemon(&host), daemon(&guest));
    let (_, invites) = host.open(&["--keep"]);
    let invite = road.through(&invites[0]);
    guest.pair_with(&["join", "--keep"], &[("MYTUNNEL_PAIR_SECRET", &invite)]).succeeded();
    let bytes = content(20 * PIECE);
    host.write("long.bin", &bytes);
    let shared = host.share("long.bin");
    until("it is offered", || has_offer(&guest, &shared["offer"]));
    road.stop_after(10 * PIECE as u64, false);
    let offer = shared["offer"].to_string();
    let receiving = guest.0.start_with(&["pair", "receive", &offer, "--json"], &[LOOPBACK]);
    until("some of it has come", || {
        let offers = guest.run_there(&["offers"]).succeeded().json();
        offers["offers"][0]["received"].as_u64().is_some_and(|received| received > 4 * PIECE as u64)
    });
    guests.signal("KILL");
    receiving.ended();
    road.open();
    let guests = daemon(&guest);
    until("the session is back", || guest.status()["state"] == "connected");
    let before = road.passed();
    let received = guest.receive(&shared["offer"]);
    assert_eq!(received["sha256"], sha256(&bytes));
    let second = road.passed() - before;
    assert!(second < 17 * PIECE as u64, "{second} bytes for what was missing");

    hosts.signal("KILL");
    let hosts = daemon(&host);
    assert_eq!(host.status()["offers"][0]["state"], "gone");
    fs::remove_dir_all(guest.inbox()).unwrap();
    let mut trouble = Value::Null;
    until("the host is back", || {
        trouble = guest.run_there(&["receive", &offer]).json();
        trouble["code"] != "PAIR_PEER_OFFLINE"
    });
    assert_eq!(trouble["code"], "NOT_FOUND", "{trouble}");
    assert!(trouble["help"].as_str().unwrap().contains("share it again"), "{trouble}");
    let again = host.share("long.bin");
    until("it is offered", || has_offer(&guest, &again["offer"]));
    assert_eq!(guest.receive(&again["offer"])["sha256"], sha256(&bytes));
    drop((hosts, guests));
}

#[test]
fn a_file_that_is_stopped_or_whose_session_is_closed_has_no_name_yet_and_goes_on_when_it_is_wanted() {
    let (host, guest, road) = (Agent::new(), Agent::new(), Arc::new(Road::default()));
    let (_, invites) = host.open(&[]);
    guest.join(&road.through(&invites[0])).succeeded();
    let bytes = content(30 * PIECE);
    host.write("long.bin", &bytes);
    let shared = host.share("long.bin");
    until("it is offered", || has_offer(&guest, &shared["offer"]));
    let offer = shared["offer"].to_string();
    guest.run_there(&["receive", "--stop", &offer]).failed("NOT_FOUND", 1);
    let receive_some = |offer: &str, pieces: usize| {
        road.grant((pieces * PIECE) as u64);
        let receiving = guest.0.start_with(&["pair", "receive", offer, "--json"], &[LOOPBACK]);
        until("some of it has come", || {
            let offers = guest.run_there(&["offers"]).succeeded().json();
            offers["offers"].as_array().unwrap().last().unwrap()["received"].as_u64() > Some(PIECE as u64)
        });
        receiving
    };
    let receiving = receive_some(&offer, 6);
    let stopped = guest.run_there(&["receive", "--stop", &offer]).succeeded().json();
    assert_eq!(stopped["state"], "stopped");
    receiving.ended().failed("PAIR_CLOSED", 1);
    let receiving = receive_some(&offer, 6);
    guest.pair(&["close"]).succeeded();
    receiving.ended().failed("PAIR_CLOSED", 1);
    assert!(walk(&guest.inbox()).iter().all(|path| is_part(path)));

    road.grant(u64::MAX);
    host.pair(&["close"]).succeeded();
    let (_, invites) = host.open(&[]);
    guest.join(&road.through(&invites[0])).succeeded();
    let again = host.share("long.bin");
    until("it is offered", || has_offer(&guest, &again["offer"]));
    let before = road.passed();
    assert_eq!(guest.receive(&again["offer"])["sha256"], sha256(&bytes));
    let rest = road.passed() - before;
    assert!(rest < 29 * PIECE as u64, "{rest} bytes for what was missing");
}

#[test]
fn what_is_said_does_not_wait_behind_a_file() {
    let (host, guest, road) = (Agent::new(), Agent::new(), Arc::new(Road::default()));
    let (_, invites) = host.open(&[]);
    guest.join(&road.through(&invites[0])).succeeded();
    host.write("long.bin", &content(300 * PIECE));
    let shared = host.share("long.bin");
    until("it is offered", || has_offer(&guest, &shared["offer"]));
    guest.hear(1);
    let begun = road.passed();
    road.grant(4 * PIECE as u64);
    let offer = shared["offer"].to_string();
    let receiving = guest.0.start_with(&["pair", "receive", &offer, "--json"], &[LOOPBACK]);
    until("the road is full", || road.passed() - begun > 3 * PIECE as u64);
    // It waits for its place among what is on its way, and for no more.
    let heard = thread::scope(|threads| {
        let (tell, told) = sync_channel(1);
        let guest = &guest;
        threads.spawn(|| host.say("meanwhile"));
        threads.spawn(move || tell.send(guest.hear(1)).unwrap());
        loop {
            match told.recv_timeout(Duration::from_millis(20)) {
                Ok(heard) => break heard,
                Err(RecvTimeoutError::Timeout) => road.grant(PIECE as u64 / 2),
                Err(RecvTimeoutError::Disconnected) => panic!("nothing was heard"),
            }
        }
    });
    let behind = road.passed() - begun;
    assert!(behind < 150 * PIECE as u64, "it waited behind {behind} bytes");
    assert_eq!(heard[0]["text"], "meanwhile");
    road.grant(u64::MAX);
    receiving.ended().succeeded();
}
