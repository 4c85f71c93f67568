//! A link that leaked to somebody who puts herself between the two that it was for, and somebody else where the host was.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, atomic::Ordering};

use mytunnel_pairing::Link;

use crate::pair::{Agent, LOOPBACK};
use crate::program::Ended;
use crate::wiretap::{Path, contains, through};

/// What a person is shown in one session, and what becomes of words that are typed there.
fn verify(agent: &Agent, session: &str, words: &str) -> Ended {
    agent.user().run_at_terminal(&["pair", "verify", "--session", session, "--json"], words)
}

#[track_caller]
fn nothing_flows(agent: &Agent, session: &str, secret: &str) {
    agent.pair(&["say", "in confidence", "--session", session]).failed("PAIR_UNVERIFIED", 4);
    let listened = agent.pair(&["listen", "--since", "0", "--wait", "1", "--session", session]).succeeded();
    assert_eq!(listened.json()["messages"].as_array().unwrap().len(), 0, "{listened:?}");
    let status = agent.pair(&["status", "--session", session]).succeeded();
    assert!(!status.stdout.contains(secret), "{status:?}");
}

#[test]
fn between_the_two_of_a_leaked_link_the_words_differ_and_nothing_flows() {
    let (host, mallory, victim) = (Agent::new(), Agent::new(), Agent::new());
    let (opened, leaked) = host.open(&["--goal", "the-hosts-plan", "--name", "ada", "--verify", "required"]);
    let joined = mallory.join_as("bob", &leaked[0]).succeeded();
    assert!(!joined.stdout.contains("the-hosts-plan"), "{joined:?}");
    let (own, exchanged) =
        mallory.open(&["--goal", "mallorys-plan", "--name", "ada", "--verify", "required"]);
    let joined = victim.join_as("bob", &exchanged[0]).succeeded();
    assert!(!joined.stdout.contains("mallorys-plan"), "{joined:?}");

    let [toward_host, toward_victim] = [&opened, &own].map(|opened| opened["session"].as_str().unwrap());
    let (hosts, victims) = (host.words(), victim.words());
    assert_ne!(hosts, victims);
    host.verify(&victims).failed("PAIR_SAS_MISMATCH", 8);
    victim.verify(&hosts).failed("PAIR_SAS_MISMATCH", 8);
    // She hears what both read out, and says yes at her own ends.
    verify(&mallory, toward_host, &hosts).succeeded();
    verify(&mallory, toward_victim, &victims).succeeded();
    for (agent, session, secret) in [
        (&host, toward_host, "in confidence"),
        (&mallory, toward_host, "the-hosts-plan"),
        (&mallory, toward_victim, "in confidence"),
        (&victim, toward_victim, "mallorys-plan"),
    ] {
        nothing_flows(agent, session, secret);
    }
    // Whom the link was for finds out that somebody else has used it.
    victim.join(&leaked[0]).failed("PAIR_USED", 8);
    // The host's person turns her away, and the invite opens no more.
    host.pair(&["deny", "bob"]).succeeded();
    let told = mallory.pair(&["listen", "--wait", "20", "--session", toward_host]).succeeded().json();
    assert_eq!(
        (&told["reason"], told["messages"].as_array().unwrap().len()),
        (&"closed".into(), 0),
        "{told}"
    );
    Agent::new().join(&leaked[0]).failed("PAIR_BURNED", 8);
}

#[test]
fn who_answers_in_the_hosts_place_is_told_nothing_and_lets_nobody_in() {
    let (host, guest, other) = (Agent::new(), Agent::new(), Agent::new());
    let mut daemon = host.user().start_with(&["pair", "daemon", "--json", "--linger", "600"], &[LOOPBACK]);
    assert!(daemon.line().contains("ready"));
    let (_, invites) = host.open(&["--goal", "the-hosts-plan"]);
    let path = Arc::new(Path::default());
    let invite = through(&invites[0], &path);
    assert_eq!(daemon.signal("KILL").code, None);

    let at = socket(&invites[0]);
    drop(TcpListener::bind(at).unwrap());
    let false_host = [("MYTUNNEL_PAIR_LISTEN", at.to_string())];
    let false_host = false_host.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut daemon = other.user().start_with(&["pair", "daemon", "--json", "--linger", "600"], &false_host);
    assert!(daemon.line().contains("ready"));
    let (own, _) = other.open(&["--goal", "anything", "--verify", "off"]);
    TcpStream::connect(at).unwrap();

    guest.join(&invite).failed("PAIR_UNREACHABLE", 6);
    // It was asked, and saw nothing of what the link proves.
    assert!(path.connections.load(Ordering::SeqCst) > 0);
    let seen = path.seen.lock().unwrap();
    assert!(contains(&seen, "/noise"), "{}", seen.len());
    let session = own["session"].as_str().unwrap();
    let status = other.pair(&["status", "--session", session]).succeeded().json();
    assert_eq!(status["sessions"][0]["members"].as_array().unwrap().len(), 0, "{status}");
    assert_eq!(guest.pair(&["status"]).succeeded().json()["sessions"].as_array().unwrap().len(), 0);
}

/// Where a link's host listens by TCP.
fn socket(invite: &str) -> SocketAddr {
    let link = Link::parse(invite).unwrap();
    let tcp = link.addresses.iter().map(ToString::to_string).find(|address| address.contains("/tcp/"));
    format!("127.0.0.1:{}", tcp.unwrap().rsplit('/').next().unwrap()).parse().unwrap()
}
