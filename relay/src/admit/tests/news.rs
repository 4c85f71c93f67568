//! What the coordinator's news do to those who are in.

use super::*;
use crate::testing::{device_claims, project, serial};

const UNTIL: u64 = NOW + 90_000;

fn name(text: &str) -> TunnelName {
    text.parse().unwrap()
}

/// A child whose serial has two bytes, so that there can be many.
fn one_of_many(number: u16, parent: u8) -> Credential {
    let [high, low] = number.to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..3].copy_from_slice(&[1, high, low]);
    let claims = Claims {
        serial: mytunnel_keys::id::Serial::from_bytes(bytes),
        parent: Some(serial(parent)),
        hosts: vec!["*".parse().unwrap()],
        ..child_claims(1, NOW)
    };
    issued(1, claims)
}

#[test]
fn a_cascade_cuts_all_routes_then_tells_all_nodes_then_counts_as_applied() {
    let mut desk = Desk::open();
    let mut revoked = Vec::new();
    for number in 0..1000 {
        let node = desk.enter(&one_of_many(number, if number % 4 == 0 { 101 } else { 100 }));
        desk.serve(node, &format!("n{number}"), 1);
        if number % 4 != 0 {
            revoked.push(node);
        }
    }

    let mut commands = desk.delta(&[Change::RevokeTree { serial: serial(100), until: UNTIL }]);
    let mut left = farewells(&commands);
    left.sort();
    assert_eq!(left, revoked);
    assert_eq!(unrouted(&commands).len(), 750);
    let retired = commands.iter().filter(|command| matches!(command, Command::Retire { .. })).count();
    assert_eq!(retired, 750, "nobody waits for those");
    assert_eq!(code_of(&commands), Some(Code::KeyRevoked));
    assert_eq!(desk.admission.status().tunnels, 250);

    assert_eq!(commands.pop(), Some(Command::Report(Report::Applied { epoch: 1, closed: 750 })));
    let last_cut = commands.iter().rposition(|command| matches!(command, Command::Unroute { .. }));
    let first_word = commands.iter().position(|command| matches!(command, Command::Farewell { .. }));
    assert!(last_cut < first_word);
    let dismissed = commands.iter().filter(|command| matches!(command, Command::Dismiss { .. })).count();
    assert_eq!(dismissed, 750);
}

#[test]
fn the_revoked_are_told_of_each_tunnel_and_of_the_end() {
    let mut desk = Desk::open();
    let node = desk.enter(&issued(1, device_claims(1, NOW)));
    desk.serve(node, "a1", 1);
    desk.serve(node, "b1", 1);
    let commands = desk.delta(&[Change::Revoke { serial: serial(1), until: UNTIL }]);
    let messages = commands.iter().find_map(|command| match command {
        Command::Farewell { messages, .. } => Some(messages),
        _ => None,
    });
    let kinds: Vec<_> = messages
        .unwrap()
        .iter()
        .map(|message| match message {
            ToNode::Closed { code: Code::KeyRevoked, .. } => "closed",
            ToNode::Goodbye { code: Code::KeyRevoked, .. } => "goodbye",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["closed", "closed", "goodbye"]);
}

#[test]
fn a_deleted_project_ends_its_keys_and_what_devices_serve_in_it() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
    let of_b = Claims { project: Some(project("b")), ..child_claims(2, NOW) };
    let other = desk.enter(&issued(2, of_b));
    desk.serve(other, "pr-1", 1);
    let device = desk.enter(&issued(3, device_claims(3, NOW)));
    desk.serve(device, "c1", 1);

    let commands = desk.delta(&[Change::RevokeProject { project: project("a"), until: UNTIL }]);
    assert_eq!(farewells(&commands), [node]);
    let mut names = unrouted(&commands);
    names.sort_unstable();
    assert_eq!(names, ["c1", "web"]);
    assert_eq!(reports(&commands).last(), Some(&&Report::Applied { epoch: 1, closed: 2 }));
    assert_eq!(desk.admission.status().nodes, 2);
}

#[test]
fn everything_issued_before_a_time_ends_at_once_and_stays_out() {
    let mut desk = Desk::open();
    let old = desk.enter(&child(1));
    desk.serve(old, "web", 1);
    let young = desk.enter(&issued(2, Claims { issued_at: NOW, not_before: NOW, ..child_claims(2, NOW) }));
    desk.serve(young, "pr-1", 1);
    let at = child_claims(1, NOW).issued_at;
    let commands = desk.delta(&[Change::RevokeBefore { at, until: UNTIL }]);
    assert_eq!(farewells(&commands), [], "what was issued in that second stands");
    let commands = desk.delta(&[Change::RevokeBefore { at: NOW + 1, until: UNTIL }]);
    let mut ended = farewells(&commands);
    ended.sort_unstable();
    assert_eq!(ended, [old, young]);
}

#[test]
fn who_lost_the_race_for_a_name_is_closed() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
    let commands = desk.delta(&[Change::Name { name: name("web"), project: project("a"), kind: None }]);
    assert_eq!(code_of(&commands), None);

    let commands = desk.delta(&[Change::Name { name: name("web"), project: project("b"), kind: None }]);
    assert_eq!(code_of(&commands), Some(Code::NameTaken));
    assert_eq!(unrouted(&commands), ["web"]);
    assert_eq!(farewells(&commands), []);
    desk.serve(node, "pr-1", 1);
}

#[test]
fn a_deleted_tunnel_is_closed_and_its_name_forgotten() {
    let mut desk = Desk::open();
    desk.delta(&[Change::Name { name: name("web"), project: project("a"), kind: None }]);
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
    let commands = desk.delta(&[Change::NameFreed { name: name("web") }]);
    assert_eq!(code_of(&commands), Some(Code::NotFound));
    assert!(commands.contains(&Command::Forget { name: name("web") }));
    assert_eq!(unrouted(&commands), ["web"]);
}

#[test]
fn a_snapshot_replaces_what_was_known_and_is_answered_with_all_that_is_live() {
    let mut desk = Desk::open();
    desk.delta(&[
        Change::Name { name: name("web"), project: project("a"), kind: None },
        Change::Name { name: name("gone"), project: project("b"), kind: None },
        Change::Revoke { serial: serial(9), until: UNTIL },
    ]);
    let (web, preview) = (desk.enter(&child(1)), desk.enter(&child(2)));
    desk.serve(web, "web", 1);
    desk.serve(preview, "pr-1", 1);

    let commands = desk.snapshot(&[
        Change::Name { name: name("web"), project: project("a"), kind: None },
        Change::Revoke { serial: serial(2), until: UNTIL },
    ]);
    assert_eq!(farewells(&commands), [preview]);
    assert!(commands.contains(&Command::Forget { name: name("gone") }));
    assert!(!commands.contains(&Command::Forget { name: name("web") }));
    let ups = reports(&commands).iter().filter(|report| matches!(report, Report::TunnelUp { .. })).count();
    assert_eq!(ups, 1);
    assert_eq!(reports(&commands).last(), Some(&&Report::Applied { epoch: 1, closed: 1 }));

    desk.enter(&child(9));
    let connection = desk.connect(&child(2));
    assert_eq!(code_of(&desk.hello(connection, &child(2).certificate)), Some(Code::KeyRevoked));
}

#[test]
fn domains_lead_where_the_last_news_say_and_a_snapshot_takes_the_others_away() {
    let mut desk = Desk::open();
    let domain = |text: &str| text.parse::<DomainName>().unwrap();
    let lead = |text: &str, to: &str| Change::Domain { domain: domain(text), name: name(to) };
    let commands = desk.delta(&[lead("a.example", "web"), lead("b.example", "web")]);
    assert!(commands.contains(&Command::Lead { domain: domain("a.example"), name: name("web") }));
    let commands = desk.delta(&[Change::DomainGone { domain: domain("a.example") }]);
    assert!(commands.contains(&Command::LeadNowhere { domain: domain("a.example") }));
    let commands = desk.snapshot(&[lead("c.example", "web")]);
    let gone = |text: &str| commands.contains(&Command::LeadNowhere { domain: domain(text) });
    assert!(gone("b.example") && !gone("a.example") && !gone("c.example"), "{commands:?}");
    assert!(matches!(commands.last(), Some(Command::Report(Report::Applied { .. }))), "only then it counts");
}

#[test]
fn all_names_are_known_with_the_first_snapshot() {
    let mut desk = Desk::unheard();
    assert_eq!(desk.wait(60), []);
    let kind = Some(TunnelKind::Tls);
    let commands = desk.snapshot(&[Change::Name { name: name("web"), project: project("a"), kind }]);
    let at = |wanted: Command| commands.iter().position(|command| *command == wanted);
    assert!(
        at(Command::Known { name: name("web"), project: project("a"), kind }) < at(Command::Whole),
        "{commands:?}"
    );
    assert!(!desk.snapshot(&[]).contains(&Command::Whole));
}

#[test]
fn a_relay_that_ran_before_waits_for_names_that_only_their_nodes_know() {
    let mut desk = Desk::settling(5);
    assert_eq!(desk.wait(60), []);
    assert!(!desk.snapshot(&[]).contains(&Command::Whole));
    assert_eq!(desk.admission.poll_timeout(), Some(desk.now().instant + Duration::from_secs(5)));
    assert_eq!(desk.wait(4), []);
    assert!(!desk.snapshot(&[]).contains(&Command::Whole), "a later snapshot changes nothing");
    assert_eq!(desk.wait(1), [Command::Whole]);
    assert_eq!(desk.wait(5), []);
}

#[test]
fn after_too_long_a_silence_everything_ends_and_comes_back_with_news() {
    let mut desk = Desk::open();
    let patient = Claims { max_staleness: 3600, ..device_claims(2, NOW) };
    let (node, device) = (desk.enter(&child(1)), desk.enter(&issued(2, patient)));
    desk.serve(node, "web", 1);
    desk.serve(device, "b1", 1);

    assert_eq!(desk.wait(899), []);
    assert_eq!(desk.admission.poll_timeout(), Some(desk.start + Duration::from_secs(900)));
    let commands = desk.wait(1);
    assert_eq!(farewells(&commands), [node]);
    assert_eq!(code_of(&commands), Some(Code::RelayStale));
    assert_eq!(unrouted(&commands), ["web"]);
    assert_eq!(desk.admission.poll_timeout(), Some(desk.start + Duration::from_secs(3600)));
    assert_eq!(farewells(&desk.wait(2700)), [device]);

    desk.heartbeat();
    let late = Claims { not_after: NOW + 7200, ..child_claims(3, NOW) };
    let back = desk.enter(&issued(3, late));
    desk.serve(back, "web", 1);
}

#[test]
fn every_word_of_the_coordinator_counts_against_the_silence() {
    let mut desk = Desk::open();
    let node = desk.enter(&issued(1, device_claims(1, NOW)));
    desk.serve(node, "web", 1);
    for round in 0..12 {
        assert_eq!(farewells(&desk.wait(890)), [], "round {round}");
        if round % 2 == 0 {
            desk.heartbeat()
        } else {
            desk.delta(&[])
        };
    }
}

#[test]
fn revocations_are_forgotten_when_they_can_concern_nobody() {
    let mut desk = Desk::open();
    desk.delta(&[Change::Revoke { serial: serial(1), until: NOW + 100 }]);
    desk.wait(100);
    desk.delta(&[]);
    let late =
        Claims { not_before: NOW + 100, issued_at: NOW + 100, not_after: NOW + 3700, ..child_claims(1, NOW) };
    desk.enter(&issued(1, late));
}
