//! Sessions that are kept outlive the process that holds them, whenever and however that ends; others leave nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::pair::{Agent, LOOPBACK, texts};
use crate::program::Running;

/// A machine that stalls is no reason to fail.
const PATIENCE: Duration = Duration::from_secs(120);

fn daemon(agent: &Agent) -> Running {
    let mut daemon = agent.user().start_with(&["pair", "daemon", "--json", "--linger", "600"], &[LOOPBACK]);
    assert!(daemon.line().contains("ready"));
    daemon
}

fn kill(daemon: Running) {
    assert_eq!(daemon.signal("KILL").code, None);
}

/// What the others have said, until there is as much, in however many answers.
fn hear(agent: &Agent, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    let mut heard = Vec::new();
    while heard.len() < count {
        assert!(begun.elapsed() < PATIENCE, "{count} were said, and {heard:?} heard");
        let answer = agent.pair(&["listen", "--wait", "20"]).succeeded().json();
        heard.extend(answer["messages"].as_array().unwrap().iter().cloned());
    }
    assert_eq!(heard.len(), count, "{heard:?}");
    heard
}

/// Everything in the record, in its order.
fn log(agent: &Agent) -> Vec<(u64, String)> {
    let ended = agent.pair(&["log"]).succeeded();
    let lines = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let entry =
        |message: &Value| (message["seq"].as_u64().unwrap(), message["text"].as_str().unwrap().to_owned());
    lines
        .flat_map(|line| line["messages"].as_array().unwrap().iter().map(entry).collect::<Vec<_>>())
        .collect()
}

fn files(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).into_iter().flatten().map(|file| file.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn pair_dir(agent: &Agent) -> std::path::PathBuf {
    agent.user().path("config/pair")
}

/// Whether any file of the user has this text in it.
fn is_written(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).into_iter().flatten().any(|file| {
        let path = file.unwrap().path();
        if path.is_dir() {
            return is_written(&path, text);
        }
        let holds = |bytes: Vec<u8>| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        // A socket has nothing to read.
        std::fs::read(path).is_ok_and(holds)
    })
}

#[test]
fn a_conversation_goes_on_though_either_daemon_is_killed_in_the_middle_of_it() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (mut hosts, mut guests) = (daemon(&host), daemon(&guest));
    let (opened, invites) = host.open(&["--keep", "--goal", "fix the build", "--name", "ada"]);
    let join = [("MYTUNNEL_PAIR_SECRET", invites[0].as_str())];
    let joined = guest.pair_with(&["join", "--keep", "--name", "bob"], &join).succeeded().json();
    assert_eq!(
        (&opened["kept"], &joined["kept"], &joined["host_keeps"]),
        (&true.into(), &true.into(), &true.into())
    );
    host.say("one");
    guest.say("two");
    assert_eq!(texts(&hear(&guest, 1)), ["one"]);

    // The host's is killed; what the guest says meanwhile waits.
    kill(hosts);
    guest.say("three, to nobody");
    hosts = daemon(&host);
    assert_eq!(texts(&hear(&host, 2)), ["two", "three, to nobody"]);
    host.say("four");
    assert_eq!(texts(&hear(&guest, 1)), ["four"]);

    // The guest's is; what it had said to nobody is on its own disk alone.
    kill(hosts);
    guest.say("five, to nobody");
    kill(guests);
    hosts = daemon(&host);
    host.say("six, to nobody");
    guests = daemon(&guest);
    assert_eq!(texts(&hear(&guest, 1)), ["six, to nobody"]);
    assert_eq!(texts(&hear(&host, 1)), ["five, to nobody"]);
    let status = guest.status();
    assert_eq!((&status["goal"], &status["self"]["name"]), (&"fix the build".into(), &"bob".into()));

    let told = log(&host);
    let words: Vec<_> = told.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(words.len(), 6, "{words:?}");
    assert_eq!(&words[..4], ["one", "two", "three, to nobody", "four"]);
    assert_eq!(log(&guest), told);

    // Nobody else comes in by the invite, also not behind a restart.
    let late = Agent::new();
    late.join(&invites[0]).failed("PAIR_USED", 8);
    host.pair(&["close", "--forget"]).succeeded();
    guest.pair(&["close", "--forget"]).succeeded();
    for (agent, daemon) in [(&host, hosts), (&guest, guests)] {
        drop(daemon.signal("TERM"));
        assert!(files(&pair_dir(agent)).is_empty(), "{:?}", files(&pair_dir(agent)));
    }
}

#[test]
fn a_session_that_was_kept_has_its_record_behind_its_end_and_a_restart_until_it_is_forgotten() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (opened, invites) = host.open(&["--keep"]);
    let session = opened["session"].as_str().unwrap();
    guest.join(&invites[0]).succeeded();
    host.say("for the record");
    guest.say("and this");
    hear(&host, 1);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&pair_dir(&host)), 0o700);
    assert_eq!(mode(&pair_dir(&host).join("kept.db")), 0o600);
    host.pair(&["close"]).succeeded();
    host.has_ended();

    let record = host.pair(&["export", "--session", session]).succeeded().json();
    let file = host.user().path("record.json");
    std::fs::write(&file, record.to_string()).unwrap();
    let checked = guest.pair(&["verify-log", file.to_str().unwrap()]).succeeded().json();
    assert_eq!((&checked["verified"], checked["entries"].as_u64() >= Some(4)), (&true.into(), true));
    assert_eq!(host.pair(&["status"]).succeeded().json()["records"][0], session);
    host.has_ended();

    host.pair(&["close", "--forget", "--session", session]).succeeded();
    host.has_ended();
    assert!(files(&pair_dir(&host)).is_empty());
    host.pair(&["export", "--session", session]).failed("PAIR_NO_SESSION", 1);
}

#[test]
fn a_session_that_nobody_keeps_leaves_nothing_on_disk_while_it_is_there_and_behind_it() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (hosts, guests) = (daemon(&host), daemon(&guest));
    let (_, invites) = host.open(&["--goal", "a goal that stays here", "--memory"]);
    let joined = guest.join(&invites[0]).succeeded().json();
    assert_eq!((&joined["kept"], &joined["host_keeps"]), (&false.into(), &false.into()));
    host.say("a word that stays here");
    hear(&guest, 1);
    for agent in [&host, &guest] {
        assert_eq!(files(&pair_dir(agent)), ["daemon.sock"]);
        for text in ["a goal that stays here", "a word that stays here"] {
            assert!(!is_written(&agent.user().path(""), text), "{text}");
        }
    }
    kill(hosts);
    kill(guests);
    // A socket that nobody listens at is all that who is killed leaves.
    for agent in [&host, &guest] {
        assert_eq!(files(&pair_dir(agent)), ["daemon.sock"]);
        agent.pair(&["listen"]).failed("PAIR_NO_SESSION", 1);
    }
}

#[test]
fn a_daemon_that_is_told_to_stop_takes_no_session_with_it_that_is_kept() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (hosts, guests) = (daemon(&host), daemon(&guest));
    let (opened, invites) = host.open(&["--keep"]);
    // Whose guest keeps nothing.
    guest.join(&invites[0]).succeeded();
    hosts.signal("TERM").succeeded();
    assert_eq!(files(&pair_dir(&host)), ["kept.db"]);
    guest.say("while you were away");
    // Asking is enough to start it again, where it listened before.
    host.user().run(&["pair", "status", "--json"]).succeeded();
    assert_eq!(texts(&hear(&host, 1)), ["while you were away"]);
    let (other, _) = host.open(&[]);
    assert_eq!(other["addresses"], opened["addresses"]);
    host.pair(&["close", "--session", other["session"].as_str().unwrap()]).succeeded();
    host.pair(&["close"]).succeeded();
    drop(guests);
}

#[test]
fn an_invite_of_a_session_that_is_kept_is_used_once_whenever_the_daemon_is_killed() {
    let (host, one, two) = (Agent::new(), Agent::new(), Agent::new());
    let hosts = daemon(&host);
    let (_, invites) = host.open(&["--keep", "--invites", "2"]);
    one.join(&invites[0]).succeeded();
    kill(hosts);
    let hosts = daemon(&host);
    two.join(&invites[0]).failed("PAIR_USED", 8);
    // On a machine that can say that it was not started anew in between an open one is good, else taken back.
    if Path::new("/proc/sys/kernel/random/boot_id").exists() {
        two.join(&invites[1]).succeeded();
    } else {
        two.join(&invites[1]).failed("PAIR_BURNED", 8);
    }
    host.pair(&["close"]).succeeded();
    drop(hosts);
}

#[test]
fn a_disk_without_room_costs_nothing_that_was_confirmed_and_confirms_nothing_that_it_costs() {
    let (host, guest) = (Agent::new(), Agent::new());
    let guests = daemon(&guest);
    let mut command = host.user().command(&[]);
    let program = command.get_program().to_owned();
    let environment: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command = std::process::Command::new("bash");
    // Files of 256 KiB at most, and an error instead of a signal beyond.
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 256; exec \"$0\" pair daemon --json --linger 600"])
        .arg(program);
    command.env_clear().envs(environment).env(LOOPBACK.0, LOOPBACK.1);
    let mut hosts = Running::of(&mut command);
    assert!(hosts.line().contains("ready"));
    let (_, invites) = host.open(&["--keep"]);
    guest.join(&invites[0]).succeeded();
    let (mut confirmed, text) = (Vec::new(), "x".repeat(20_000));
    let trouble = loop {
        let said = format!("{} {text}", confirmed.len());
        let ended = host.pair(&["say", &said]);
        if ended.code != Some(0) {
            break ended.failed("PAIR_STORE", 1);
        }
        confirmed.push(said);
        assert!(confirmed.len() < 100, "there is room without end");
    };
    assert!(trouble["message"].as_str().unwrap().contains("kept.db"), "{trouble}");
    assert!(confirmed.len() > 2);
    // It is not gone, and says so again.
    host.pair(&["say", &text]).failed("PAIR_STORE", 1);
    kill(hosts);
    let hosts = daemon(&host);
    host.say("there is room");
    confirmed.push("there is room".to_owned());
    let heard: Vec<_> = hear(&guest, confirmed.len());
    assert_eq!(texts(&heard), confirmed);
    assert_eq!(log(&host).into_iter().map(|(_, text)| text).collect::<Vec<_>>(), confirmed);
    host.pair(&["close"]).succeeded();
    drop((hosts, guests));
}

#[test]
fn a_file_that_is_damaged_or_newer_is_told_of_and_left_alone() {
    let host = Agent::new();
    let (_, _) = host.open(&["--keep"]);
    host.pair(&["close"]).succeeded();
    host.has_ended();
    let file = pair_dir(&host).join("kept.db");
    let good = std::fs::read(&file).unwrap();
    let mut newer = good.clone();
    // The version of what is in a file of SQLite is at byte 60.
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    for (bad, says) in [(vec![b'x'; 5000], "damaged"), (newer, "newer")] {
        std::fs::write(&file, &bad).unwrap();
        for args in [["status"].as_slice(), &["open"]] {
            let trouble = host.pair(args).failed("INTERNAL", 1);
            let message = trouble["message"].as_str().unwrap();
            assert!(message.contains(says) && message.contains("kept.db"), "{trouble}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), bad);
    }
    std::fs::write(&file, &good).unwrap();
    assert_eq!(host.pair(&["status"]).succeeded().json()["records"].as_array().unwrap().len(), 1);
}
