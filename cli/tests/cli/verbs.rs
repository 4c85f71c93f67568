//! Every verb of `mytunnel pair`, for a script: one object on standard output, and nothing else.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::files::Files;
use crate::pair::{Agent, LOOPBACK};
use crate::program::Ended;

/// Runs verbs, and knows which it has run.
#[derive(Default)]
struct Script {
    done: BTreeSet<String>,
}

impl Script {
    /// The one object that a verb prints.
    fn run(&mut self, agent: &Agent, args: &[&str]) -> Value {
        let ended = agent.run_there(args);
        self.took(args[0], ended)
    }

    fn took(&mut self, verb: &str, ended: Ended) -> Value {
        let ended = ended.succeeded();
        assert_eq!(ended.stdout.lines().count(), 1, "{verb}: {ended:?}");
        let object = ended.json();
        assert!(object.as_object().is_some_and(|fields| !fields.is_empty()), "{verb}: {object}");
        self.done.insert(verb.to_owned());
        object
    }
}

/// The verbs that `mytunnel pair --help` lists.
fn verbs(agent: &Agent) -> BTreeSet<String> {
    let help = agent.user().run(&["pair", "--help"]).succeeded().stdout;
    let (_, commands) = help.split_once("Commands:").unwrap();
    let (commands, _) = commands.split_once("Options:").unwrap();
    let names = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_verb_gives_a_script_one_object_and_nothing_else() {
    let (host, guest, mut script) = (Agent::new(), Agent::new(), Script::default());
    let opened = script.run(&host, &["open", "--goal", "fix it", "--invites", "2", "--name", "ada"]);
    let secret = opened["invites"][0]["text"].as_str().unwrap();
    let joined = guest.pair_with(&["join", "--name", "bob"], &[("MYTUNNEL_PAIR_SECRET", secret)]);
    assert_eq!(script.took("join", joined)["session"], opened["session"]);
    assert_eq!(script.run(&host, &["peers"])["sessions"][0]["peers"][0]["name"], "bob");
    assert_eq!(script.run(&host, &["invite"])["invites"].as_array().map(Vec::len), Some(1));
    assert_eq!(script.run(&host, &["revoke"])["revoked"], 2);

    let said = script.run(&guest, &["say", "hello"]);
    assert_eq!(script.run(&host, &["listen", "--wait", "20"])["messages"][0]["seq"], said["seq"]);
    host.run_there(&["approve", "999"]).failed("NOT_FOUND", 1);
    host.run_there(&["approve", &said["seq"].to_string()]).failed("NOT_FOUND", 1);
    for verb in ["approve", "deny"] {
        let proposed = script.run(
            &guest,
            &["say", "may I?", "--kind", "proposal", "--data", r#"{"action":"x","risk":"none"}"#],
        );
        host.hear(1);
        guest.run_there(&[verb, &proposed["seq"].to_string()]).failed("BAD_REQUEST", 2);
        let decided = script.run(&host, &[verb, &proposed["seq"].to_string()]);
        assert!(decided["seq"].is_number(), "{decided}");
    }

    guest.write("notes.md", b"found");
    let shared = script.run(&guest, &["share", "notes.md"]);
    let offer = shared["offer"].to_string();
    host.hear(1);
    assert_eq!(script.run(&host, &["offers"])["offers"].as_array().map(Vec::len), Some(1));
    let received = script.run(&host, &["receive", &offer]);
    assert_eq!(std::fs::read_to_string(received["path"].as_str().unwrap()).unwrap(), "found");

    assert_eq!(script.run(&host, &["status"])["sessions"].as_array().map(Vec::len), Some(1));
    let log = script.run(&host, &["log"]);
    assert_eq!(log["messages"].as_array().map(Vec::len), Some(6), "{log}");
    let record = host.pair(&["export"]);
    host.write("record.json", record.stdout.as_bytes());
    script.took("export", record);
    assert!(script.run(&host, &["verify-log", "record.json"])["entries"].is_number());
    assert_eq!(script.run(&host, &["lock"])["locked"], true);
    // Its exit says whether all is well, which depends on the network.
    let doctor = host.pair(&["doctor"]);
    assert_eq!(doctor.stdout.lines().count(), 1, "{doctor:?}");
    assert!(doctor.json()["checks"].is_array(), "{doctor:?}");
    script.done.insert("doctor".to_owned());
    script.run(&host, &["install-skill"]);
    assert_eq!(script.run(&host, &["kick", "bob"])["state"], "removed");
    assert_eq!(script.run(&host, &["close"])["state"], "closed");

    // What was typed is printed by the terminal, so that this one's object is the last line.
    let (host, guest) = (Agent::new(), Agent::new());
    let (_, invites) = host.open(&["--verify", "required"]);
    guest.join(&invites[0]).succeeded();
    host.verify(&guest.words()).succeeded().json();
    script.done.insert("verify".to_owned());
    assert_eq!(script.done, verbs(&host), "as the help lists them");
}

#[test]
fn every_verb_without_a_session_says_so_to_a_script_and_to_a_person() {
    let nobody = Agent::new();
    for args in [
        &["invite"][..],
        &["revoke"],
        &["lock"],
        &["deny", "bob"],
        &["approve", "3"],
        &["kick", "bob"],
        &["say", "x"],
        &["listen"],
        &["offers"],
        &["receive", "1"],
        &["log"],
        &["export"],
        &["close"],
    ] {
        let ended = nobody.pair(args);
        assert_eq!(ended.stdout.lines().count(), 1, "{args:?}: {ended:?}");
        ended.failed("PAIR_NO_SESSION", 1);
        let told = nobody.user().run_with(&[&["pair"], args].concat(), &[LOOPBACK]);
        assert!(
            told.code == Some(1) && told.stdout.is_empty() && told.stderr.contains("PAIR_NO_SESSION"),
            "{told:?}"
        );
    }
}
