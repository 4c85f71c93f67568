//! Who comes into a room, who does not, and what is told to whoever does not.

use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::pair::{Agent, LOOPBACK, texts};
use crate::program::Ended;

/// In which it is known that somebody has left.
const LEAVING: Duration = Duration::from_secs(30);

/// Refused by this code, and nothing else was told.
#[track_caller]
fn refused(ended: &Ended, code: &str) {
    assert_eq!((ended.json()["code"].as_str(), ended.code == Some(0)), (Some(code), false), "{ended:?}");
    assert!(!ended.stdout.contains("fix the build"), "{ended:?}");
}

/// All that somebody has heard, with what waits.
fn heard(agent: &Agent) -> Vec<Value> {
    let answer = agent.pair(&["listen", "--since", "0", "--wait", "0"]).succeeded().json();
    answer["messages"].as_array().unwrap().clone()
}

/// Joins among many at once, which may take a busy machine longer than one command waits.
fn join_among_many(agent: &Agent, invite: &str) -> Ended {
    let begun = Instant::now();
    loop {
        let ended = agent.join(invite);
        let is_late = ended.code != Some(0) && ended.json()["code"] == "PAIR_UNREACHABLE";
        if !is_late || begun.elapsed() > LEAVING {
            return ended;
        }
    }
}

#[test]
fn a_full_room_refuses_the_seventeenth_whose_invite_is_good_once_somebody_leaves() {
    let (host, late) = (Agent::new(), Agent::new());
    let guests: Vec<Agent> = (0..15).map(|_| Agent::new()).collect();
    let (_, invites) = host.open(&["--invites", "15", "--goal", "fix the build"]);
    let joined: Vec<Value> = thread::scope(|scope| {
        let each = guests.iter().zip(&invites);
        let joining: Vec<_> = each
            .map(|(guest, invite)| scope.spawn(move || join_among_many(guest, invite).succeeded().json()))
            .collect();
        joining.into_iter().map(|joining| joining.join().unwrap()).collect()
    });
    let more = host.pair(&["invite"]).succeeded().json();
    let more = more["invites"][0]["text"].as_str().unwrap();
    refused(&late.join(more), "PAIR_FULL");
    guests[0].pair(&["close"]).succeeded();
    // Each look waits for something to be said, and for a second at most.
    let (begun, left) = (Instant::now(), joined[0]["self"]["name"].clone());
    let is_there = || {
        let status = host.status();
        let members = status["members"].as_array().unwrap();
        members.iter().any(|one| one["name"] == left && one["online"] == true)
    };
    while is_there() {
        assert!(begun.elapsed() < LEAVING, "{left} is still there");
        host.pair(&["listen", "--wait", "1"]).succeeded();
    }
    let joined = late.join(more).succeeded().json();
    assert_eq!((&joined["goal"], joined["members"].as_array().unwrap().len()), (&"fix the build".into(), 15));
    refused(&guests[0].join(more), "PAIR_USED");
}

#[test]
fn twenty_who_race_one_invite_are_one_guest_and_nineteen_late_ones() {
    let host = Agent::new();
    let racers: Vec<Agent> = (0..20).map(|_| Agent::new()).collect();
    // Their daemons are up before the race.
    for racer in &racers {
        racer.pair(&["status"]);
    }
    let (_, invites) = host.open(&["--goal", "fix the build"]);
    let ended: Vec<Ended> = thread::scope(|scope| {
        let racing: Vec<_> =
            racers.iter().map(|racer| scope.spawn(|| join_among_many(racer, &invites[0]))).collect();
        racing.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = ended.iter().partition(|ended| ended.code == Some(0));
    assert_eq!((won.len(), lost.len()), (1, 19), "{ended:?}");
    lost.into_iter().for_each(|ended| refused(ended, "PAIR_USED"));
    assert_eq!(host.status()["members"].as_array().unwrap().len(), 1);
}

#[test]
fn who_was_put_out_hears_nothing_more_and_comes_in_by_no_invite() {
    let (host, guest, other) = (Agent::new(), Agent::new(), Agent::new());
    let (_, invites) = host.open(&["--invites", "3", "--goal", "fix the build"]);
    guest.join_as("mallory", &invites[0]).succeeded();
    other.join_as("bob", &invites[1]).succeeded();
    host.say("to all");
    assert_eq!(texts(&guest.hear(1)), ["to all"]);
    host.pair(&["kick", "mallory"]).succeeded();
    let said = host.say("among ourselves");
    assert_eq!(said["delivered"].as_array().unwrap().len(), 1, "{said}");
    assert_eq!(texts(&other.hear(2)), ["to all", "among ourselves"]);
    let answer = guest.pair(&["listen", "--wait", "20"]).succeeded().json();
    assert_eq!(
        (&answer["reason"], answer["messages"].as_array().unwrap().len()),
        (&"closed".into(), 0),
        "{answer}"
    );
    assert_eq!(texts(&heard(&guest)), ["to all"]);
    refused(&guest.join(&invites[2]), "PAIR_DENIED");
    // Which has cost nothing.
    Agent::new().join(&invites[2]).succeeded();
}

#[test]
fn who_left_by_itself_comes_in_again_with_another_invite() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (opened, invites) = host.open(&["--invites", "2"]);
    guest.join(&invites[0]).succeeded();
    host.say("before");
    guest.pair(&["close"]).succeeded();
    refused(&guest.join(&invites[0]), "PAIR_USED");
    assert_eq!(guest.join(&invites[1]).succeeded().json()["session"], opened["session"]);
    host.say("again");
    assert_eq!(texts(&guest.hear(1)), ["again"]);
    guest.say("here");
    assert_eq!(texts(&host.hear(1)), ["here"]);
}

#[test]
fn a_locked_room_says_so_to_who_has_an_invite_and_takes_nobody() {
    let (host, guest, late) = (Agent::new(), Agent::new(), Agent::new());
    let (_, invites) = host.open(&["--invites", "2", "--goal", "fix the build"]);
    guest.join(&invites[0]).succeeded();
    host.pair(&["lock"]).succeeded();
    refused(&late.join(&invites[1]), "PAIR_LOCKED");
    refused(&host.pair(&["invite"]), "PAIR_LOCKED");
    assert_eq!(host.status()["members"].as_array().unwrap().len(), 1);
}

#[test]
fn what_acts_on_a_terminal_is_taken_out_of_what_is_shown() {
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&["--goal", "a\u{1b}]0;b\u{7}c\u{202e}d"]);
    guest.join(&invites[0]).succeeded();
    let text = "\u{1b}[2J\u{1b}]52;c;aGk=\u{7}red\u{202e}\u{200b}\u{9b}31m\u{8}\u{2066}end";
    host.say(text);
    let shown = guest.user().run_with(&["pair", "listen", "--wait", "20"], &[LOOPBACK]).succeeded();
    assert!(shown.stdout.contains("red") && shown.stdout.contains("end"), "{shown:?}");
    let status = guest.user().run_with(&["pair", "status"], &[LOOPBACK]).succeeded();
    let log = guest.user().run_with(&["pair", "log"], &[LOOPBACK]).succeeded();
    for shown in [shown, status, log] {
        let acts = |letter: char| {
            letter.is_control() && letter != '\n' || "\u{202e}\u{200b}\u{2066}".contains(letter)
        };
        assert!(!shown.stdout.contains(acts) && !shown.stderr.contains(acts), "{shown:?}");
    }
    let message = &heard(&guest)[0];
    assert_eq!((&message["stripped"], &message["untrusted"]), (&8.into(), &true.into()), "{message}");
}

#[test]
fn the_socket_and_its_folder_are_their_owners_alone() {
    let host = Agent::new();
    host.open(&[]);
    let mode = |path: &str| std::fs::metadata(host.user().path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("config/pair"), mode("config/pair/daemon.sock")), (0o700, 0o600));
}
